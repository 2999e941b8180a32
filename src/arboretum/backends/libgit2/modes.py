"""Ids and kinds of entry: as libgit2 has them, and as values."""

from __future__ import annotations

from typing import Final

import pygit2

from arboretum.values import FileMode, Oid

_MODES: Final = {int(mode): mode for mode in FileMode}


def mode_of(number: int) -> FileMode:
    """The kind of entry that a mode stands for; odd old modes are plain files, as git reads them."""
    return _MODES.get(int(number), FileMode.FILE)


def oid_of(native: pygit2.Oid) -> Oid:
    """The id as a value."""
    return Oid.known(native)
