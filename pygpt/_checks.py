"""Checks of the numbers that a configuration holds."""

from __future__ import annotations

import sys

from pygpt._json import shown
from pygpt.errors import ConfigError


def check_positive(name: str, value: object) -> None:
    """ConfigError, which names it, unless the value is a finite number above 0."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value <= sys.float_info.max:
        raise ConfigError(f"{name} must be a positive number, not {shown(value)}")


def check_at_least(name: str, value: object, least: float) -> None:
    """ConfigError, which names it, unless the value is a finite number of at least `least`."""
    check_positive(name, value)
    if value < least:  # type: ignore[operator]
        raise ConfigError(f"{name} must be at least {least}, not {value!r}")
