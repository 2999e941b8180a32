"""Snapshots of a warm sibling: a subvolume of btrfs that shares everything with it until one of the two changes."""

from __future__ import annotations

import contextlib
import os
from typing import ClassVar, Final

from attrs import define

from arboretum.backends.atomic_files import exchange, remove_tree
from arboretum.worktree_files import btrfs
from arboretum.worktree_files.copying import write_index
from arboretum.worktree_files.index_format import Index, IndexFormatError
from arboretum.worktree_files.model import Filled, Sibling, Target

#: Extensions of an index that must not go with it; where such a text is only part of a path nothing is lost but time.
_OWN: Final = (b"UNTR", b"FSMN", b"link", b"sdir")


@define(eq=False)
class SnapshotFiles:
    """Takes a snapshot of the sibling's subvolume.

    It brings everything along that lies in the sibling, also what is untracked or ignored: the worktree must be
    recorded as one to be wiped before it is made, and be wiped before it is used.
    """

    name: ClassVar[str] = "snapshot"
    exact: ClassVar[bool] = False

    def fill(self, sibling: Sibling, target: Target) -> Filled | None:
        """See `FileSource`."""
        try:
            index = _index_for_a_copy(sibling.index, sha256=target.sha256)
        except IndexFormatError:
            return None
        aside = f"{target.path}.new"
        if not btrfs.is_subvolume(sibling.path) or not btrfs.snapshot(sibling.path, aside):
            return None
        try:
            link = os.path.join(aside, ".git")
            with open(os.path.join(target.path, ".git"), "rb") as file:
                own = file.read()
            os.unlink(link)
            with open(link, "xb") as file:
                file.write(own)
            # The files are as they were, so the index is right; its time says which of them git has to look into.
            write_index(target.admin, index, modified=sibling.settled)
            exchanged = exchange(aside, target.path)
        except BaseException:
            discard(aside)
            raise
        discard(aside)
        return Filled(files=0) if exchanged else None


def discard(path: str) -> None:
    """Delete a folder, as a subvolume where that is possible."""
    if not btrfs.delete_subvolume(path):
        with contextlib.suppress(OSError):
            remove_tree(path)


def _index_for_a_copy(data: bytes, *, sha256: bool) -> bytes:
    if not any(kind in data for kind in _OWN):
        return data
    index = Index.parse(data, sha256=sha256)
    return index.with_stat_data([words for words, _oid, _name in index.entries()])
