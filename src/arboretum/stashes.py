"""Stashes by commit id.

``refs/stash`` is one list for all worktrees, so a position names another entry as soon as somebody pushes. Here an
entry is its commit id from the first moment, and a ref of our own keeps the commit until it was applied, so that
not even another program's ``git stash clear`` can lose it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from attrs import define

from arboretum.backends.base import ANY
from arboretum.errors import StashNotFoundError
from arboretum.values import Oid, RefName, ResetMode, StashEntry

if TYPE_CHECKING:
    from arboretum.repository import Repository


def keeper(stash: Oid) -> RefName:
    """The ref that keeps the stash commit `stash`."""
    return RefName(f"refs/arboretum/stash/{stash}")


@define(eq=False)
class Stashes:
    """The stashes of a repository, newest first; see `WorktreeStash` for pushing and applying."""

    _repository: Repository

    def __iter__(self) -> Iterator[StashEntry]:
        return iter(self._repository.backend.stash_list())

    def __len__(self) -> int:
        return len(self._repository.backend.stash_list())

    def drop(self, stash: Oid | str) -> None:
        """Forget the stash with this commit id.

        Raises:
            StashNotFoundError: There is none.
        """
        oid, backend = Oid(stash), self._repository.backend
        kept = backend.read_ref(keeper(oid)) is not None
        try:
            backend.stash_drop(oid)
        except StashNotFoundError:
            if not kept:
                raise
        if kept:
            backend.update_ref(keeper(oid), None, ANY)


@define(eq=False)
class WorktreeStash:
    """Pushes the changes of one worktree on the stash and applies stashes to it."""

    _repository: Repository
    _path: str

    def push(self, message: str = "", *, include_untracked: bool = False) -> StashEntry | None:
        """Put the changes of the worktree away and make it clean.

        Args:
            message: What the stash is for; git's own wording when empty.
            include_untracked: Take untracked files, too (ignored ones and nested repositories stay).

        Returns:
            The entry; None if there was nothing to put away.
        """
        backend, head = self._repository.backend, self._repository.backend.head(self._path)
        oid = backend.stash_create(self._path, message, untracked=include_untracked)
        if oid is None or head.oid is None:
            return None
        backend.update_ref(keeper(oid), oid, None)
        commit = backend.read_commit(oid)
        backend.stash_store(oid, commit.subject)
        if len(commit.parents) == 3:
            # Once they are in the index, the reset takes exactly the files away that the stash holds, and no others.
            backend.stage(self._path, [entry.path for entry in backend.read_tree(commit.parents[2])])
        backend.reset(self._path, head.oid, ResetMode.HARD)
        return StashEntry(oid, commit.subject, head.branch.short if head.branch is not None else None)

    def apply(self, stash: StashEntry | Oid | str, *, index: bool = False) -> None:
        """Put the changes of a stash into the files; the stash stays.

        Args:
            stash: The entry or its commit id.
            index: Restore what was staged as staged.

        Raises:
            StashNotFoundError: There is no such stash.
            ConflictError: It does not apply here; nothing was changed.
        """
        oid = stash.oid if isinstance(stash, StashEntry) else Oid(stash)
        self._repository.backend.stash_apply(self._path, oid, index=index)

    def pop(self, stash: StashEntry | Oid | str, *, index: bool = False) -> None:
        """Apply a stash, and forget it once it has been applied. Arguments and errors as `apply`."""
        oid = stash.oid if isinstance(stash, StashEntry) else Oid(stash)
        self.apply(oid, index=index)
        with contextlib.suppress(StashNotFoundError):  # somebody cleared the list: it is applied all the same
            self._repository.stashes.drop(oid)
