"""Durations as people write them (``90s``, ``5m``, ``1h30m``), in seconds."""

from __future__ import annotations

import math
import re

from arboretum.errors import InvalidValueError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_HINT = "write seconds as a number (300), or a text like '90s', '5m', '1h30m'"


def parse_duration(value: object) -> float:
    """The seconds that `value` stands for: a number of seconds, or a text with units (d, h, m, s, ms).

    Raises:
        InvalidValueError: It is negative, infinite, undefined, a boolean, or no duration at all.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise InvalidValueError(f"{value!r} is not a duration", hint=_HINT)
    seconds = _from_text(value) if isinstance(value, str) else float(value)
    if not math.isfinite(seconds):
        raise InvalidValueError(f"{value!r} is not a finite duration", hint=_HINT)
    if seconds < 0:
        raise InvalidValueError(f"a duration cannot be negative: {value!r}", hint=_HINT)
    return seconds


def _from_text(text: str) -> float:
    compact = text.strip().lower().replace(" ", "")
    try:
        return float(compact)
    except ValueError:
        pass
    parts = _PART.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise InvalidValueError(f"{text!r} is not a duration", hint=_HINT)
    return math.fsum(float(number) * _UNITS[unit] for number, unit in parts)


def format_duration(seconds: float) -> str:
    """A duration for people, in at most two units: ``0.4s``, ``12s``, ``5m 3s``, ``2h 10m``."""
    if seconds < 10:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m {rest}s" if rest else f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h {minutes}m" if minutes else f"{hours}h"
