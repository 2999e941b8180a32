"""The files of a tree, and what happened to them."""

from __future__ import annotations

import enum

from attrs import frozen

from arboretum.values.names import Oid


class FileMode(enum.IntEnum):
    """The kinds of entry that a tree can hold."""

    TREE = 0o040000
    FILE = 0o100644
    EXECUTABLE = 0o100755
    SYMLINK = 0o120000
    SUBMODULE = 0o160000


@frozen
class TreeEntry:
    """One path of a tree."""

    path: str
    mode: FileMode
    oid: Oid


class ChangeKind(enum.StrEnum):
    """What happened to a path; the letters are git's."""

    UNMODIFIED = "."
    MODIFIED = "M"
    ADDED = "A"
    DELETED = "D"
    RENAMED = "R"
    COPIED = "C"
    TYPE_CHANGED = "T"
    UNMERGED = "U"
    UNTRACKED = "?"
    IGNORED = "!"


@frozen
class DiffEntry:
    """One path that differs between two trees; `old_path` is set for a rename."""

    path: str
    kind: ChangeKind
    old_path: str | None = None


@frozen
class StatusEntry:
    """One path that differs between HEAD, the index and the files of a worktree.

    Args:
        path: The path.
        index: HEAD against the index (what is staged).
        worktree: The index against the files.
        old_path: Where a renamed path came from.
        submodule: Whether the path is a submodule.
    """

    path: str
    index: ChangeKind
    worktree: ChangeKind
    old_path: str | None = None
    submodule: bool = False

    @property
    def is_conflict(self) -> bool:
        """Whether the path is unmerged."""
        return ChangeKind.UNMERGED in (self.index, self.worktree) or (self.index, self.worktree) in {
            (ChangeKind.ADDED, ChangeKind.ADDED),
            (ChangeKind.DELETED, ChangeKind.DELETED),
        }

    @property
    def is_staged(self) -> bool:
        """Whether the index differs from HEAD at this path."""
        return (
            self.index not in {ChangeKind.UNMODIFIED, ChangeKind.UNTRACKED, ChangeKind.IGNORED} and not self.is_conflict
        )

    @property
    def is_untracked(self) -> bool:
        """Whether git does not know the path (and does not ignore it)."""
        return self.index is ChangeKind.UNTRACKED

    @property
    def is_ignored(self) -> bool:
        """Whether git is told to ignore the path."""
        return self.index is ChangeKind.IGNORED
