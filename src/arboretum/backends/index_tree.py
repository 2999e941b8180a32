"""The tree that an index file says it stands for, without looking at its entries. See gitformat-index(5)."""

from __future__ import annotations

import re
from typing import Final

from arboretum.values import Oid

#: The root of the cached tree: an empty name, how many entries it has, how many subtrees. -1 entries: it is not known.
_ROOT: Final = re.compile(rb"\0([0-9]+) [0-9]+\n")
_HEADER: Final = 8
#: How many places are tried that only look like the beginning of the extension; a path may have those letters.
_TRIES: Final = 16


def cached_tree(data: bytes, *, sha256: bool) -> Oid | None:
    """The tree of a whole index that is not changed since git worked it out; None when it is not known.

    The extension is looked for from the end, and it is one when the extensions from there on end where the checksum
    begins: to go through the entries takes longer than to ask git.
    """
    size = 32 if sha256 else 20
    end = len(data) - size
    place = end
    for _ in range(_TRIES):
        place = data.rfind(b"TREE", 0, max(place, 0))
        if place < 0:
            break
        if _reaches(data, place, end):
            begin = place + _HEADER
            root = _ROOT.match(data, begin)
            return Oid(data[root.end() : root.end() + size].hex()) if root is not None else None
    return None


def _reaches(data: bytes, place: int, end: int) -> bool:
    """Whether extensions follow on one another from `place` to `end`."""
    while place < end and data[place : place + 4].isalpha():
        place += _HEADER + int.from_bytes(data[place + 4 : place + _HEADER])
    return place == end
