"""The Luigi task that builds a stage's artifact and records the outcome in the journal."""

from __future__ import annotations

import logging
import traceback
from pathlib import Path

from pipeline.engine.build import build
from pipeline.engine.journal import Journal
from pipeline.engine.stage import Stage
from pipeline.stages.support.orphans import end_with_run
from pipeline.store import disk_errors

log = logging.getLogger(__name__)


class RefusedBefore(RuntimeError):
    """Error of a task that refused its input earlier in the same run, and is therefore not tried again."""


class RunnableStage(Stage):
    """A stage whose `run` builds its artifact."""

    def run(self) -> None:
        end_with_run()
        journal = Journal(Path(self.journal))
        for event in journal.events():
            if (event["stage"], event["task"], event.get("kind")) == (self.stage, self.label, "refused"):
                raise RefusedBefore(event["error"])
        try:
            artifact, facts = build(self)
        except Exception as error:
            trace = "".join(traceback.format_exception(error))
            try:
                kind, line = _told(error, Path(self.store))
                key = "" if (place := self.artifact()) is None else place.key
                journal.record("failed", self.stage, self.label, kind=kind, error=line, trace=trace, key=key)
            except OSError:  # the journal may be on the disk that caused the error
                log.error("%s %s: %s", self.stage, self.label, _line(error))
            raise
        journal.record("executed" if facts else "reused", self.stage, self.label, key=artifact.key, **facts)


def _told(error: Exception, store: Path) -> tuple[str, str]:
    """Return the kind and the message of an error, with a note if the disk is full.

    HDF5 may lose data on a full disk without an error, so that a later, unrelated error reveals it.
    """
    full = None if disk_errors.message_of(error) else disk_errors.full_disk(store)
    return (_kind(error), _line(error)) if full is None else ("refused", f"{full} (noticed by: {_line(error)})")


def _line(error: Exception) -> str:
    text = disk_errors.message_of(error) or " ".join(str(error).split()) or "no message"
    return text if _kind(error) != "unexpected" else f"{type(error).__name__}: {text}"


def _kind(error: Exception) -> str:
    """Return the kind of an error: "refused", "transient" or "unexpected".

    "refused" is a disk error or an error class of this project, whose message is meant for users; "transient" is an
    error of this project that says that trying again may help; "unexpected" is any other error.
    """
    if disk_errors.message_of(error):
        return "refused"
    ours = type(error).__module__.partition(".")[0] in ("data", "extractors", "models", "pipeline")
    if not ours:
        return "unexpected"
    return "transient" if getattr(error, "transient", False) else "refused"
