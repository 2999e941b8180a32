"""Which ways a file system offers to give a new worktree its files: found out by doing it, not by its name."""

from __future__ import annotations

import contextlib
import os
import secrets
from typing import Final

from attrs import frozen

from arboretum.worktree_files import btrfs
from arboretum.worktree_files.copying import CloneFiles, CopyFiles
from arboretum.worktree_files.file_copy import FICLONE
from arboretum.worktree_files.model import FileSource
from arboretum.worktree_files.snapshots import SnapshotFiles, discard

_BYTES: Final = 16384


@frozen(kw_only=True)
class Ability:
    """What a file system can do.

    Args:
        clones: Whether two files may share blocks until one of them changes (reflinks).
        snapshots: Whether folders may be subvolumes, of which there are snapshots.
    """

    clones: bool = False
    snapshots: bool = False

    @classmethod
    def probe(cls, folder: str) -> Ability:
        """Try it out in a folder of our own below `folder`, of which nothing is left."""
        place = os.path.join(folder, f"probe-{secrets.token_hex(8)}")
        try:
            os.mkdir(place, 0o700)
        except OSError:
            return cls()
        try:
            return cls(clones=_clones(place), snapshots=_snapshots(place))
        finally:
            discard(place)

    def sources(self) -> tuple[FileSource, ...]:
        """The ways that there are, the best first; a checkout is always the last resort, and none of these."""
        ways: list[FileSource] = [SnapshotFiles()] if self.snapshots else []
        return (*ways, CloneFiles() if self.clones else CopyFiles())

    @property
    def description(self) -> str:
        """The ways in words, the best first."""
        snapshot = ["a snapshot of the pool's template"] if self.snapshots else []
        copy = "copies that share blocks (reflinks)" if self.clones else "copies of a warm worktree's files"
        return ", else ".join([*snapshot, copy, "a checkout"])


def _clones(place: str) -> bool:
    try:
        import fcntl

        with open(os.path.join(place, "one"), "xb") as one, open(os.path.join(place, "two"), "xb") as two:
            one.write(bytes(_BYTES))
            one.flush()
            with open(one.name, "rb") as source:
                fcntl.ioctl(two.fileno(), FICLONE, source.fileno())
            return os.fstat(two.fileno()).st_size == _BYTES
    except (ImportError, OSError):
        return False


def _snapshots(place: str) -> bool:
    one, two = os.path.join(place, "a"), os.path.join(place, "b")
    try:
        if not btrfs.make_subvolume(one):
            return False
        with open(os.path.join(one, "file"), "xb") as file:
            file.write(b"content")
        return btrfs.snapshot(one, two) and btrfs.Subvolume.of(two) is not None
    except OSError:
        return False
    finally:
        for path in (one, two):
            with contextlib.suppress(OSError):
                discard(path)
