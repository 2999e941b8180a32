"""`WorktreeOrchestrator`: several worktrees at once, made from the pool and given back to it."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from attrs import define, field

from arboretum.engine.model import check_identifier
from arboretum.engine.pool import Lease, WorktreePool
from arboretum.engine.slots import Want
from arboretum.errors import DirtyWorktreeError, InvalidValueError, PoolError
from arboretum.values import Oid, RefName
from arboretum.worktree import Worktree

if TYPE_CHECKING:
    from arboretum.repository import Repository

_MAX_WORKTREES: Final = 1000
_MAX_THREADS: Final = 8


@define(eq=False)
class WorktreeOrchestrator:
    """Makes worktrees for a set of revisions, and takes them back. A context manager: its end takes all back.

    The worktrees are slots of the repository's pool, so making them again is quick. They stand at their commits on no
    branch and are this process's own until they are taken back.

    Args:
        repository: Whose worktrees they are.
        pool: Where they come from; None for the repository's own.
    """

    repository: Repository
    _pool: WorktreePool | None = field(default=None, alias="pool")
    _leases: dict[str, Lease] = field(factory=dict, init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.cleanup_worktrees(force=True)

    @property
    def worktrees(self) -> dict[str, Worktree]:
        """The worktrees there are now, by name."""
        return {name: Worktree(self.repository, lease.path) for name, lease in self._leases.items()}

    def create_worktrees(self, revisions: Mapping[str, str] | Iterable[str]) -> dict[str, Worktree]:
        """Make one worktree for each revision, at the same time; all or none.

        Args:
            revisions: The revision for each name; or only names of revisions, which then name the worktrees, too.

        Returns:
            The new worktrees by name, clean and without ignored files.

        Raises:
            InvalidValueError: A name is taken, or cannot be a name.
            RevisionNotFoundError: A revision names no commit; nothing was made.
            PoolError: A worktree could not be made; those that could have been given back.
        """
        named = dict(revisions) if isinstance(revisions, Mapping) else {name: name for name in revisions}
        for name in named:
            check_identifier(name, what="name of a worktree")
            if name in self._leases:
                raise InvalidValueError(f"there is a worktree {name!r} already")
        commits = {name: self.repository.resolve(revision) for name, revision in named.items()}
        if self._pool is None:
            self._pool = WorktreePool.open(self.repository, size=_MAX_WORKTREES)
        made: dict[str, Lease] = {}
        try:
            with ThreadPoolExecutor(min(_MAX_THREADS, len(commits) or 1), thread_name_prefix="worktree") as threads:
                futures = {name: threads.submit(self._acquire, commit) for name, commit in commits.items()}
                for name, future in futures.items():
                    if future.exception() is None:
                        made[name] = future.result()
                for future in futures.values():
                    future.result()
        except BaseException:
            for lease in made.values():
                self._pool.release(lease)
            raise
        self._leases |= made
        return {name: Worktree(self.repository, lease.path) for name, lease in made.items()}

    def _acquire(self, commit: Oid) -> Lease:
        assert self._pool is not None
        lease = self._pool.try_acquire(Want(commit=commit), fresh=True)
        if lease is None:
            raise PoolError(f"all {self._pool.size} worktrees of the pool are in use")
        return lease

    def cleanup_worktrees(self, *, force: bool = False) -> dict[str, RefName]:
        """Take the worktrees back.

        Args:
            force: Also those with uncommitted changes, untracked files or commits that no branch has.

        Returns:
            By name: the refs under which what `force` discards is kept (``git stash apply REF``, ``git log REF``).

        Raises:
            DirtyWorktreeError: Some hold such work and `force` was not given; they stay, the others are taken back.
        """
        kept: dict[str, RefName] = {}
        dirty = []
        for name, lease in tuple(self._leases.items()):
            tree = Worktree(self.repository, lease.path)
            if not force and self._holds_work(tree, lease):
                dirty.append(name)
                continue
            if force and (ref := self._salvage(tree, lease)) is not None:
                kept[name] = ref
            del self._leases[name]
            assert self._pool is not None
            self._pool.release(lease)
        if dirty:
            raise DirtyWorktreeError(
                f"{len(dirty)} worktree(s) hold work that no branch has: {', '.join(dirty)}",
                operation="cleanup_worktrees",
                hint="commit it on a branch, or use force: it is then kept under refs/arboretum/salvage/",
            )
        return kept

    def _holds_work(self, tree: Worktree, lease: Lease) -> bool:
        return self._has_lone_commits(tree, lease) or not tree.is_clean()

    def _has_lone_commits(self, tree: Worktree, lease: Lease) -> bool:
        head = tree.head
        return head.is_detached and head.oid not in {None, lease.slot.commit} and not self._is_on_a_ref(head.oid)

    def _is_on_a_ref(self, oid: Oid | None) -> bool:
        return any(ref.oid == oid for ref in self.repository.refs())

    def _salvage(self, tree: Worktree, lease: Lease) -> RefName | None:
        ref = tree.salvage()
        if ref is None and self._has_lone_commits(tree, lease):
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            ref = RefName(f"refs/arboretum/salvage/{stamp}-{secrets.token_hex(4)}")
            self.repository.update_ref(ref, tree.head.oid, None, message="salvaged commits of a detached worktree")
        return ref
