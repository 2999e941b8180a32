"""Snapshots of a template: a subvolume of btrfs that shares everything with it until one of the two changes."""

from __future__ import annotations

import contextlib
import os
from typing import ClassVar

from attrs import define

from arboretum.backends.atomic_files import exchange, remove_tree
from arboretum.worktree_files import btrfs
from arboretum.worktree_files.btrfs import Subvolume
from arboretum.worktree_files.copying import write_index
from arboretum.worktree_files.model import Filled, Sibling, Target


@define(eq=False)
class SnapshotFiles:
    """Takes a snapshot of a sibling that is a template: one that is as it was when it was proven.

    Whether it still is, the kernel tells *after* the snapshot was taken, so no change in between escapes.
    """

    name: ClassVar[str] = "snapshot"

    def fill(self, sibling: Sibling, target: Target) -> Filled | None:
        """See `FileSource`."""
        aside = f"{target.path}.new"
        if sibling.state is None or not btrfs.snapshot(sibling.path, aside):
            return None
        try:
            made = Subvolume.of(aside)
            if made is None or made.parent != sibling.state.uuid or Subvolume.of(sibling.path) != sibling.state:
                return None
            with open(os.path.join(target.path, ".git"), "rb") as file:
                own = file.read()
            with open(os.path.join(aside, ".git"), "xb") as file:
                file.write(own)
            # The files are as they were, so the index is right; its time says which of them git has to look into.
            write_index(target.admin, sibling.index, modified=sibling.settled)
            return Filled(files=sibling.files) if exchange(aside, target.path) else None
        finally:
            discard(aside)


def make_template(source: str, path: str) -> Subvolume | None:
    """Make a subvolume at `path` with what is in the worktree `source`, but for its link to the repository.

    Returns:
        The state that it has, until somebody changes it in any way; None when it cannot be made, or has none.
    """
    if not btrfs.is_subvolume(source) or not btrfs.snapshot(source, path):
        return None
    os.unlink(os.path.join(path, ".git"))
    state = Subvolume.of(path)
    # What is done in it from now on has to be of a later transaction than the removal.
    return state if btrfs.close_transaction(path) and Subvolume.of(path) == state else None


def discard(path: str) -> None:
    """Delete a folder, as a subvolume where that is possible."""
    if not btrfs.delete_subvolume(path):
        with contextlib.suppress(OSError):
            remove_tree(path)
