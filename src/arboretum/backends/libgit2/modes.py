"""The kinds of entry, as numbers of libgit2 and as values."""

from __future__ import annotations

from typing import Final

from arboretum.values import FileMode

_MODES: Final = {int(mode): mode for mode in FileMode}


def mode_of(number: int) -> FileMode:
    """The kind of entry that a mode stands for; odd old modes are plain files, as git reads them."""
    return _MODES.get(int(number), FileMode.FILE)
