"""The worktree part of the in-memory backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from attrs import define

from arboretum.backends.base import Keeper
from arboretum.backends.memory import switching
from arboretum.backends.memory.state import WorktreeRecord, exclusive
from arboretum.backends.memory.working import MemoryWorkingTree
from arboretum.errors import (
    DirtyWorktreeError,
    GitOperationError,
    ObjectMissingError,
    PathOccupiedError,
    RefExistsError,
    RefNotFoundError,
    WorktreeLockedError,
    WorktreeNotFoundError,
)
from arboretum.values import Oid, RefName, WorktreeInfo, WorktreeSpec


@define(eq=False)
class MemoryWorktrees(MemoryWorkingTree):
    """`arboretum.backends.base.WorktreeAdmin` in memory."""

    @exclusive
    def list_worktrees(self) -> tuple[WorktreeInfo, ...]:
        """See `WorktreeAdmin`."""
        return tuple(self.state.info(record) for record in self.state.records())

    @exclusive
    def find_worktree(self, path: str | None) -> WorktreeInfo | None:
        """See `WorktreeAdmin`."""
        if path is None:
            return self.state.info(self.state.main)
        for place in (path, self.state.disk.real_path(path)):
            for record in self.state.records():
                if record.path == place:
                    return self.state.info(record)
        return None

    @exclusive
    def worktree_names(self) -> tuple[str, ...]:
        """See `WorktreeAdmin`."""
        return tuple(sorted(self.state.linked))

    @exclusive
    def add_worktree(self, spec: WorktreeSpec) -> WorktreeInfo:
        """See `WorktreeAdmin`."""
        state, path = self.state, self.state.disk.real_path(spec.path)
        if spec.detach is not None:
            self._commit_of(spec.detach)
        self._check_free(path)
        claimed = self._claimed(path, force=spec.force)
        head = self._start(spec)
        if isinstance(head, RefName) and not spec.force:
            self.refuse_in_use(head, None, "add_worktree")
        target = {} if spec.orphan or not spec.checkout else state.store.snapshot(self._commit_of(head))
        if claimed is not None:
            del state.linked[claimed.name]
        record = WorktreeRecord(
            state.new_name(path),
            path,
            head,
            dict(target),
            spec.lock,
            bare_index=not spec.checkout or spec.orphan is not None,
        )
        state.disk.make_folder(path)
        state.disk.write(f"{path}/.git", state.gitfile(record))
        state.linked[record.name] = record
        switching.carry_out(switching.force({}, target), state.store, state.disk, path)
        return state.info(record)

    def _check_free(self, path: str) -> None:
        disk = self.state.disk
        if disk.is_file(path) or disk.names(path):
            raise PathOccupiedError(
                f"cannot make a worktree at {path}: it exists and is not an empty folder", operation="add_worktree",
                hint="name another path, or remove what is there",
            )  # fmt: skip

    def _claimed(self, path: str, *, force: bool) -> WorktreeRecord | None:
        """The record of a missing worktree that has this path, if it may be taken over."""
        record = next((r for r in self.state.linked.values() if r.path == path), None)
        if record is not None and record.locked is not None:
            raise WorktreeLockedError(
                f"{path} is missing, but the record of a locked worktree claims it", operation="add_worktree",
                hint="unlock and prune it first",
            )  # fmt: skip
        if record is not None and not force:
            raise PathOccupiedError(
                f"{path} is missing, but the record of a worktree claims it", operation="add_worktree",
                hint="prune the worktrees, or use force",
            )  # fmt: skip
        return record

    def _start(self, spec: WorktreeSpec) -> RefName | Oid:
        """Where the new worktree is to stand; refuses what is not there."""
        if spec.detach is not None:
            return spec.detach
        branch = spec.branch or spec.orphan
        assert branch is not None  # the spec has exactly one of the three
        if spec.branch is not None and self.state.refs.oid(branch) is None:
            raise RefNotFoundError(f"there is no branch {branch.short}", operation="add_worktree")
        if spec.orphan is not None and self.state.refs.oid(branch) is not None:
            raise RefExistsError(f"there is a branch {branch.short} already", operation="add_worktree")
        return branch

    def _commit_of(self, head: RefName | Oid) -> Oid:
        oid = self.state.refs.oid(head) if isinstance(head, RefName) else head
        if oid is None:
            raise ObjectMissingError(f"{head} names no commit", operation="add_worktree")
        return self.state.store.commit(oid).oid

    @exclusive
    def remove_worktree(self, path: str, *, force: bool = False) -> None:
        """See `WorktreeAdmin`."""
        record = self._removable(path, force=force)
        if not self.state.is_gone(record):
            self.state.disk.remove(record.path)
        del self.state.linked[record.name]

    @exclusive
    def discard_worktree(self, path: str, keeper: Keeper, *, force: bool = False) -> Callable[[], None]:
        """See `WorktreeAdmin`."""
        record = self._removable(path, force=force)
        if not self.state.is_gone(record):
            keeper.before(record.path)
            keeper.behind(record.path)
        self.remove_worktree(path, force=force)
        return lambda: None

    def sweep_discarded(self, keep: Callable[[str], None]) -> None:
        """See `WorktreeAdmin`. Nothing outlives the process."""

    def _removable(self, path: str, *, force: bool) -> WorktreeRecord:
        """The record of a worktree that may be removed."""
        record = self._linked(path, "remove")
        self._refuse_locked(record, "remove")
        if not self.state.is_gone(record):
            if not self.state.is_whole(record):
                raise WorktreeNotFoundError(
                    f"{path} is no longer the worktree {record.name!r}: it is left alone", operation="remove_worktree"
                )
            if not force and self.status(record.path):
                raise DirtyWorktreeError(
                    f"the worktree at {path} has changes or untracked files", operation="remove_worktree",
                    hint="commit or stash them, or use force",
                )  # fmt: skip
        elif self.state.disk.names(record.path):
            raise WorktreeNotFoundError(
                f"{path} is no longer the worktree {record.name!r}: it is left alone", operation="remove_worktree"
            )
        return record

    @exclusive
    def move_worktree(self, path: str, new_path: str) -> WorktreeInfo:
        """See `WorktreeAdmin`."""
        record, target = self._linked(path, "move"), self.state.disk.real_path(new_path)
        self._refuse_locked(record, "move")
        if not self.state.is_whole(record):
            raise WorktreeNotFoundError(f"there is no worktree at {path} any more", operation="move_worktree")
        if self.state.disk.is_file(target) or self.state.disk.names(target):
            raise PathOccupiedError(
                f"cannot move the worktree to {new_path}: it exists and is not an empty folder",
                operation="move_worktree",
            )
        self.state.disk.remove_empty_folder(target)
        self.state.disk.move(record.path, target)
        record.path = target
        return self.state.info(record)

    @exclusive
    def lock_worktree(self, path: str, *, reason: str = "") -> None:
        """See `WorktreeAdmin`."""
        record = self._linked(path, "lock")
        self._refuse_locked(record, "lock")
        record.locked = reason

    @exclusive
    def unlock_worktree(self, path: str) -> None:
        """See `WorktreeAdmin`."""
        record = self._linked(path, "unlock")
        if record.locked is None:
            raise GitOperationError(f"the worktree at {path} is not locked", operation="unlock_worktree")
        record.locked = None

    @exclusive
    def prune_worktrees(self, *, dry_run: bool = False) -> tuple[WorktreeInfo, ...]:
        """See `WorktreeAdmin`."""
        gone = [r for r in self.state.records() if r.locked is None and self.state.is_gone(r)]
        infos = tuple(self.state.info(record) for record in gone)
        for record in gone if not dry_run else ():
            del self.state.linked[record.name]
        return infos

    @exclusive
    def repair_worktrees(self, paths: Sequence[str] = ()) -> None:
        """See `WorktreeAdmin`."""
        state = self.state
        for record in state.linked.values():
            if state.disk.is_folder(record.path):
                state.disk.write(f"{record.path}/.git", state.gitfile(record))
        for path in map(state.disk.real_path, paths):
            link = state.disk.read(f"{path}/.git")
            moved = next((r for r in state.linked.values() if link == state.gitfile(r)), None)
            if moved is None:
                raise WorktreeNotFoundError(f"{path} is no worktree of this repository", operation="repair_worktrees")
            moved.path = path

    def _linked(self, path: str, what: str) -> WorktreeRecord:
        record = self.state.record(path)
        if record is self.state.main:
            raise GitOperationError(
                f"cannot {what} {path}: it is the main worktree and no linked one", operation=f"{what}_worktree"
            )
        return record

    def _refuse_locked(self, record: WorktreeRecord, what: str) -> None:
        if record.locked is not None:
            why = f": {record.locked}" if record.locked else ""
            raise WorktreeLockedError(
                f"cannot {what} the worktree at {record.path}: it is locked{why}", operation=f"{what}_worktree",
                hint="unlock it first",
            )  # fmt: skip
