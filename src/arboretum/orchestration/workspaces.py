"""Worktrees for tasks: slots of the engine's pool while a task runs, worktrees of their own for what is kept.

Everything here blocks; the orchestrator calls it in threads.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

from attrs import define

from arboretum.backends.base import ANY
from arboretum.engine import admin_state
from arboretum.engine.pool import Lease, WorktreePool
from arboretum.engine.slot_files import cache_folder, pool_folder, read_link
from arboretum.engine.slots import Want
from arboretum.engine.steps import no_step
from arboretum.errors import GitOperationError, RefChangedError, RefExistsError, RefNotFoundError
from arboretum.orchestration.board import branch_of
from arboretum.values import Oid, RefName, WorktreeSpec
from arboretum.worktree import Worktree

if TYPE_CHECKING:
    from arboretum.repository import Repository

_log = logging.getLogger(__name__)


@define(eq=False)
class Workspaces:
    """The worktrees of one run.

    Args:
        repository: Whose worktrees they are.
        run: The id of the run.
        pool: Where slots come from.
        kept: The folder below which worktrees of tasks that did not make it are kept.
    """

    repository: Repository
    run: str
    pool: WorktreePool
    kept: str

    @classmethod
    def open(cls, repository: Repository, run: str, *, slots: int) -> Workspaces:
        """The worktrees of the run `run`: `slots` for tasks, and one more for the combined tree.

        Raises:
            PoolError: The pool cannot be made.
        """
        name = os.path.basename(pool_folder(repository.common_dir))
        kept = os.path.join(cache_folder(), "tasks", name, run)
        return cls(repository, run, WorktreePool.open(repository, size=slots + 1), kept)

    def acquire(self, commit: Oid) -> Lease | None:
        """A slot at `commit`, clean and without ignored files; None while all are in somebody's hands."""
        return self.pool.try_acquire(Want(commit=commit), run=self.run, fresh=True)

    def attach(self, lease: Lease, task: str, commit: Oid) -> None:
        """Put the slot on the task's own branch, which is made (or moved back) to `commit`."""
        branch = RefName.branch(branch_of(self.run, task))
        backend = self.repository.backend
        try:
            backend.update_ref(branch, commit, None)
        except RefExistsError:
            # An earlier attempt has made it. The branch carries the id of this run, and the journal's lock says
            # that nobody else carries that run out.
            self._let_go(branch)
            backend.update_ref(branch, commit, ANY)
        admin = read_link(lease.path)
        if admin is None or admin_state.uses_reftable(admin):
            backend.checkout(lease.path, branch)
        else:
            admin_state.attach(admin, branch, no_step)  # a tenth of the time, and nothing but HEAD is to change

    def release(self, lease: Lease) -> None:
        """Take the slot off its branch and give it back to the pool."""
        with contextlib.suppress(OSError, GitOperationError):
            self._detach(lease.path)
        self.pool.release(lease)

    def keep(self, lease: Lease, task: str) -> str:
        """Move the worktree as it is out of the pool, to stay.

        Returns:
            Its path; empty when there is nothing to keep, because the task has removed or broken its worktree.
        """
        path = self.kept_path(task)
        self.clear(task)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        try:
            self.repository.backend.move_worktree(lease.path, path)
        except (GitOperationError, OSError) as error:
            _log.warning("the worktree of task %s cannot be kept: %s", task, error)
            return ""
        self.pool.release(lease)
        return path

    def restore(self, task: str) -> str:
        """A worktree on the task's branch, to stay. Returns its path; one that is there already is left as it is."""
        path = self.kept_path(task)
        branch = RefName.branch(branch_of(self.run, task))
        if not os.path.isdir(path):
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self._let_go(branch)
            self.repository.backend.add_worktree(WorktreeSpec(path=path, branch=branch, force=True))
        return path

    def clear(self, task: str) -> None:
        """Remove what an attempt that was killed has left where the task's worktree is kept; changes are salvaged."""
        path = self.kept_path(task)
        if os.path.isdir(path) and path in self.repository.worktrees:
            Worktree(self.repository, path).remove(force=True)

    def drop(self, task: str, commit: Oid | None) -> None:
        """Remove the branch of a task whose work `commit` is merged (or nothing), and what an earlier run has kept."""
        if os.path.isdir(self.kept_path(task)):
            self.clear(task)
        branch = RefName.branch(branch_of(self.run, task))
        with contextlib.suppress(RefNotFoundError, RefChangedError):
            self.repository.backend.update_ref(branch, None, commit or ANY)

    def kept_path(self, task: str) -> str:
        """Where the worktree of a task is kept."""
        return os.path.join(self.kept, task)

    def _let_go(self, branch: RefName) -> None:
        """Detach the slot in which an attempt that was killed had the branch."""
        for info in self.repository.backend.list_worktrees():
            if info.branch == branch and os.path.realpath(info.path).startswith(os.path.realpath(self.pool.root)):
                self._detach(info.path)

    def _detach(self, path: str) -> None:
        head = self.repository.backend.head(path)
        if head.branch is None or head.oid is None:
            return
        admin = read_link(path)
        if admin is None or admin_state.uses_reftable(admin):
            self.repository.backend.checkout(path, head.oid, force=True)
        else:
            admin_state.detach(admin, head.oid, no_step)
