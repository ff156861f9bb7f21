"""The error of configs."""

from __future__ import annotations


class ConfigError(ValueError):
    """Error raised if a config cannot be run; the message names the key, the value found and the values allowed."""
