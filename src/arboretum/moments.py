"""Moments as git writes them: whole seconds since the epoch, and the offset from UTC. Pure."""

from __future__ import annotations

import datetime as dt
import functools
from typing import Final

_FIRST_SECOND: Final = -62_135_510_400  # the second day of the year 1, and the last one of the year 9999:
_LAST_SECOND: Final = 253_402_214_400  # a day is left for offsets


def moment(seconds: int, offset: int) -> dt.datetime:
    """A moment that knows its offset; years and offsets that Python cannot carry are brought in range.

    Args:
        seconds: Seconds since the epoch.
        offset: Minutes east of UTC.
    """
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        seconds = max(_FIRST_SECOND, min(_LAST_SECOND, seconds))
    return dt.datetime.fromtimestamp(seconds, _zone(offset))


@functools.lru_cache(maxsize=256)
def _zone(minutes: int) -> dt.timezone:
    return dt.timezone(dt.timedelta(minutes=max(-1439, min(1439, minutes))))


@functools.lru_cache(maxsize=256)
def parse_offset(text: str) -> int:
    """The minutes of an offset: ``-0530`` gives -330."""
    hours, minutes = divmod(int(text[1:]), 100)
    return (-1 if text[0] == "-" else 1) * (hours * 60 + minutes)


def format_moment(when: dt.datetime) -> str:
    """A moment as it stands in a commit: ``1700000000 +0130``."""
    offset = int((when.utcoffset() or dt.timedelta()).total_seconds()) // 60
    hours, minutes = divmod(abs(offset), 60)
    return f"{int(when.timestamp())} {'-' if offset < 0 else '+'}{hours:02}{minutes:02}"
