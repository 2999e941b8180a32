"""What a machine must have to carry something out, as people write it: sizes of memory, and labels.

On one machine they say nothing: it is what it is. Past one machine they choose the worker.
"""

from __future__ import annotations

import os
import re
from typing import Final

from arboretum.errors import InvalidValueError

_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\Z", re.IGNORECASE)
_UNITS: Final = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
_LABEL: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/-]{0,99}\Z")
#: The label that is none: the resource of that name is the memory.
MEMORY: Final = "MEMORY"


def parse_size(value: object) -> int:
    """Bytes: a number, or a text with a unit (``512M``, ``2 GiB``; K, M, G and T are powers of 1024).

    Raises:
        InvalidValueError: It is neither, or negative.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    match = _SIZE.match(value.strip()) if isinstance(value, str) else None
    if match is None:
        raise InvalidValueError(f"{value!r} is not a size", hint="write bytes, or a text like '512M' or '2G'")
    return int(float(match.group(1)) * _UNITS[match.group(2).upper()])


def parse_label(value: object) -> str:
    """The name of something that some machines have and others have not (``gpu``, ``db:postgres``).

    Raises:
        InvalidValueError: It has other characters than letters, digits, ``.``, ``_``, ``:``, ``/`` and ``-``.
    """
    if not isinstance(value, str) or not _LABEL.match(value) or value.upper() == MEMORY:
        raise InvalidValueError(
            f"{value!r} cannot be a label", hint="use letters, digits, '.', '_', ':', '/' and '-', as in gpu"
        )
    return value


def total_memory() -> int:
    """The memory of this machine in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
