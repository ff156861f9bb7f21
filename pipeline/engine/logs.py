"""Configuration of the log messages that commands and tasks print to standard error."""

from __future__ import annotations

import logging
import sys

from pipeline.store import disk_errors


def configure_logging() -> None:
    """Print messages of level INFO and above as plain text, in the parent or a task process; silence Luigi's own."""
    disk_errors.suppress_repeated_disk_errors()
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(message)s")
    logging.getLogger("luigi-interface").setLevel(logging.CRITICAL + 1)
    logging.getLogger("luigi").setLevel(logging.CRITICAL + 1)
