"""Worktrees: what git records of them, how one is to be made, and how far a reset goes."""

from __future__ import annotations

import enum

from attrs import frozen

from arboretum.errors import InvalidValueError
from arboretum.values.names import Oid, RefName


@frozen
class WorktreeInfo:
    """What git records of one worktree.

    Args:
        path: Its absolute path.
        head: The commit it stands at; None when unborn or bare.
        branch: The branch it is on; None when detached or bare.
        is_main: Whether it is the repository's main worktree (or the bare repository itself).
        bare: Whether it has no files at all.
        locked: Why it is locked; empty for "no reason given"; None when it is not locked.
        prunable: Why `prune` would remove its record; None when it would not.
        name: The name of its folder under ``worktrees/`` in the common git directory; empty for the main one.
    """

    path: str
    head: Oid | None
    branch: RefName | None
    is_main: bool = False
    bare: bool = False
    locked: str | None = None
    prunable: str | None = None
    name: str = ""

    @property
    def detached(self) -> bool:
        """Whether it stands at a commit and on no branch."""
        return self.branch is None and not self.bare


@frozen
class WorktreeSpec:
    """How a worktree is to be made.

    Exactly one of `branch`, `detach` and `orphan` says where it stands; the branch exists already
    (the domain layer makes it first, by compare-and-set).

    Args:
        path: Where to make it (absolute).
        branch: The existing branch to check out.
        detach: The commit to stand at, on no branch.
        orphan: The branch without commits to stand on.
        checkout: Whether to write the files; without it the index is empty and HEAD is set.
        lock: The reason to lock it with from its first moment; None leaves it unlocked.
        force: Take the path or branch although a record of another (missing or same-branch) worktree claims it.
    """

    path: str
    branch: RefName | None = None
    detach: Oid | None = None
    orphan: RefName | None = None
    checkout: bool = True
    lock: str | None = None
    force: bool = False

    def __attrs_post_init__(self) -> None:
        if sum(x is not None for x in (self.branch, self.detach, self.orphan)) != 1:
            raise InvalidValueError("a worktree stands on a branch, at a commit or on an orphan branch: exactly one")
        if not self.path.startswith("/") or "\x00" in self.path:
            raise InvalidValueError(f"{self.path!r} is not an absolute path")


class ResetMode(enum.StrEnum):
    """How far `reset` goes: HEAD only, the index too, or the files too."""

    SOFT = "soft"
    MIXED = "mixed"
    HARD = "hard"
