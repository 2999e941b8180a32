"""Three-way merges of trees in which no path was touched by both sides: these need no git process and no rename.

A merge with rename detection comes to the same where the two sides have touched different paths, the paths that
a rename takes away and gives included. Everything else is refused here and left to git. Pure, but for `read` and
`write`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final

from arboretum.values import Oid

#: The mode as git writes it (``100644``), and the object's id as it stands in a tree: 20 bytes or 32.
Entry = tuple[bytes, bytes]
#: What a tree holds, by name.
Entries = Mapping[bytes, Entry]
_TREE: Final = b"40000"
_ENTRY: Final = {size: re.compile(rb"([0-7]+) ([^\0]+)\0(.{%d})" % size, re.DOTALL) for size in (20, 32)}
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
    except _LeftToGitError:
        return None


def parse_tree(data: bytes, *, sha256: bool = False) -> Entries:
    """What a tree object holds (gitformat, "tree"): ``mode SP name NUL id`` for each entry."""
    size = 32 if sha256 else 20
    found = {name: (mode, oid) for mode, name, oid in _ENTRY[size].findall(data)}
    if sum(len(mode) + len(name) for name, (mode, _) in found.items()) + len(found) * (size + 2) != len(data):
        raise _LeftToGitError  # no tree as git writes them
    return found


def _merged(
    base: Entries,
    ours: Entries,
    theirs: Entries,
    read: Callable[[Oid], Entries],
    write: Callable[[Entries], Oid],
) -> Oid | None:
    """The merged tree; None for an empty one. Only entries that differ are looked at: a folder may have very many."""
    merged = dict(ours)
    for name in {name for name, _ in base.items() ^ theirs.items()}:
        before, one, two = base.get(name), ours.get(name), theirs.get(name)
        entry = two if one == before else _both(before, one, two, read, write)
        if entry is not None:
            merged[name] = entry
        else:
            del merged[name]
    return write(merged) if merged else None


def _both(
    before: Entry | None,
    one: Entry | None,
    two: Entry | None,
    read: Callable[[Oid], Entries],
    write: Callable[[Entries], Oid],
) -> Entry | None:
    if one is None or two is None or one[0] != _TREE or two[0] != _TREE:
        raise _LeftToGitError
    if before is not None and before[0] != _TREE:
        raise _LeftToGitError
    older = _NOTHING if before is None else read(_oid(before))
    found = _merged(older, read(_oid(one)), read(_oid(two)), read, write)
    return (_TREE, bytes.fromhex(found)) if found is not None else None


def _oid(entry: Entry) -> Oid:
    return Oid.known(entry[1].hex())


class _LeftToGitError(Exception):
    """Both sides have touched a path, or a tree is broken."""
