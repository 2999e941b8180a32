"""Three-way merges of trees in which no path was touched by both sides: these need no git process and no rename.

A merge with rename detection comes to the same where the two sides have touched different paths, the paths that
a rename takes away and gives included. Everything else is refused here and left to git. Pure, but for `read` and
`write`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from arboretum.values import Oid

#: What a tree holds, by name: the mode as git writes it (``100644``), and the object.
Entries = Mapping[bytes, tuple[bytes, Oid]]
_TREE: Final = b"40000"
_NOTHING: Final[Entries] = {}


def merge_disjoint(
    base: Oid, ours: Oid, theirs: Oid, *, read: Callable[[Oid], Entries], write: Callable[[Entries], Oid]
) -> Oid | None:
    """The tree that has the changes of both sides.

    Args:
        base: The tree that both come from.
        ours: One side.
        theirs: The other.
        read: Gives what a tree holds.
        write: Stores a tree that is not empty.

    Returns:
        The tree; None where both have touched the same path, so that somebody has to look closer.
    """
    if ours == base:
        return theirs
    if theirs == base:
        return ours
    try:
        return _merged(read(base), read(ours), read(theirs), read, write)
    except _BothError:
        return None


def parse_tree(data: bytes, *, sha256: bool = False) -> Entries:
    """What a tree object holds (gitformat, "tree"): ``mode SP name NUL id`` for each entry."""
    return dict(_entries(data, 32 if sha256 else 20))


def _entries(data: bytes, digest: int) -> Iterator[tuple[bytes, tuple[bytes, Oid]]]:
    at = 0
    while at < len(data):
        end = data.index(0, at)
        mode, _, name = data[at:end].partition(b" ")
        at = end + 1 + digest
        yield name, (mode, Oid(data[end + 1 : at].hex()))


def _merged(
    base: Entries,
    ours: Entries,
    theirs: Entries,
    read: Callable[[Oid], Entries],
    write: Callable[[Entries], Oid],
) -> Oid | None:
    """The merged tree; None for an empty one."""
    merged: dict[bytes, tuple[bytes, Oid]] = {}
    for name in ours.keys() | theirs.keys():
        before, one, two = base.get(name), ours.get(name), theirs.get(name)
        if two == before:
            entry = one
        elif one == before:
            entry = two
        else:
            entry = _both(before, one, two, read, write)
        if entry is not None:
            merged[name] = entry
    if base.keys() - ours.keys() - theirs.keys():
        raise _BothError  # both took it away, perhaps to different places
    return write(merged) if merged else None


def _both(
    before: tuple[bytes, Oid] | None,
    one: tuple[bytes, Oid] | None,
    two: tuple[bytes, Oid] | None,
    read: Callable[[Oid], Entries],
    write: Callable[[Entries], Oid],
) -> tuple[bytes, Oid] | None:
    if one is None or two is None or one[0] != _TREE or two[0] != _TREE:
        raise _BothError
    if before is not None and before[0] != _TREE:
        raise _BothError
    found = _merged(read(before[1]) if before is not None else _NOTHING, read(one[1]), read(two[1]), read, write)
    return (_TREE, found) if found is not None else None


class _BothError(Exception):
    """Both sides have touched a path."""
