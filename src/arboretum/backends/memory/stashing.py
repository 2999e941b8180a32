"""The stash part of the in-memory backend."""

from __future__ import annotations

from attrs import define

from arboretum.backends.memory import merging, switching
from arboretum.backends.memory.disk import WorktreeFiles
from arboretum.backends.memory.state import WorktreeRecord, exclusive
from arboretum.backends.memory.working import MemoryWorkingTree
from arboretum.backends.trees.diffs import make_patch
from arboretum.backends.trees.snapshot import Entry, Snapshot
from arboretum.errors import ConflictError, PatchFailedError, StashNotFoundError, UnbornHeadError
from arboretum.values import FileMode, Oid, RefName, StashEntry

STASH = RefName("refs/stash")


@define(eq=False)
class MemoryStashes(MemoryWorkingTree):
    """The stash methods of `arboretum.backends.base.WorkingTree` in memory."""

    @exclusive
    def stash_create(self, worktree: str, message: str, *, untracked: bool = False) -> Oid | None:
        """See `WorkingTree`."""
        record, store = self.state.live(worktree), self.state.store
        head = self.state.head(record)
        if head.oid is None:
            raise UnbornHeadError("cannot stash before the first commit", operation="stash_create")
        base = store.snapshot(head.oid)
        view = self._view(record)
        work = self._work_snapshot(record, base)
        extra = [p for p in view.survey.untracked if not p.endswith("/") and p not in work] if untracked else []
        if base == record.index == work and not extra:
            return None
        where = head.branch.short if head.branch else "(no branch)"
        subject = f"{where}: {head.oid[:7]} {store.commit(head.oid).subject}"
        who = self._identity("author"), self._identity("committer")

        def put(snapshot: Snapshot, parents: list[Oid], text: str) -> Oid:
            return store.put_commit(
                tree=store.put_snapshot(snapshot), parents=parents, message=text, author=who[0], committer=who[1]
            )

        parents = [head.oid, put(record.index, [head.oid], f"index on {subject}\n")]
        if extra:
            snapshot = {path: self._stored(record, path) for path in extra}
            parents.append(put(snapshot, [], f"untracked files on {subject}\n"))
        return put(work, parents, f"On {where}: {message}" if message else f"WIP on {subject}")

    def _work_snapshot(self, record: WorktreeRecord, base: Snapshot) -> Snapshot:
        """What the tracked files are now; tracked by HEAD or by the index.

        As git's own stash has it, a file that only the index has is kept as it was staged when it is gone.
        """
        tracked = base.keys() | record.index.keys()
        present = self._view(record, tracked).survey.present
        gone = {path: entry for path, entry in record.index.items() if path not in base and path not in present}
        return gone | {
            path: record.index[path] if record.index.get(path, (None,))[0] is FileMode.SUBMODULE
            else self._stored(record, path) for path in tracked if path in present
        }  # fmt: skip

    def _stored(self, record: WorktreeRecord, path: str) -> Entry:
        file = WorktreeFiles(self.state.disk, record.path).file(path)
        return file.mode, self.state.store.put_blob(file.data)

    @exclusive
    def stash_apply(self, worktree: str, stash: Oid, *, index: bool = False) -> None:
        """See `WorkingTree`."""
        record, store = self.state.live(worktree), self.state.store
        base_id, index_id, *extra_id = self._stash_parents(stash)
        base, ours = store.snapshot(base_id), dict(record.index)
        staged = self._staged(base, store.snapshot(index_id), ours) if index else None
        outcome = merging.merge_snapshots(store, base, ours, store.snapshot(stash))
        if outcome.tree is None:
            raise ConflictError(
                f"the stash conflicts in {', '.join(map(repr, outcome.conflicts))}", paths=outcome.conflicts,
                operation="stash_apply", hint="commit or undo your changes to these files first",
            )  # fmt: skip
        view = self._view(record)
        switch = switching.plan(ours, record.index, store.snapshot(outcome.tree), view)
        extra = store.snapshot(extra_id[0]) if extra_id else {}
        blocked = [*switch.blocked, *(path for path in extra if self._occupied(view, path, switch))]
        if blocked:
            raise ConflictError(
                f"the stash would overwrite {', '.join(map(repr, blocked[:5]))}", paths=blocked,
                operation="stash_apply", hint="commit, stash or remove them first",
            )  # fmt: skip
        self._carry_out(record, switch)
        for path, entry in extra.items():
            switching.write_entry(self.state.disk, record.path, path, entry, store)
        new = {path: entry for path, entry in switch.index.items() if path not in ours}
        self.state.set_index(record, ours | new if staged is None else staged)

    def _occupied(self, view: switching.WorkView, path: str, switch: switching.Switch) -> bool:
        if path in switch.removes:
            return False
        return (
            path in switch.writes
            or view.disk.is_file(f"{view.root}/{path}")
            or bool(view.disk.names(f"{view.root}/{path}"))
        )

    def _staged(self, base: Snapshot, stashed: Snapshot, index: Snapshot) -> Snapshot:
        """The index with what the stash had staged, unless it has that already, as git has it. Raises ConflictError."""
        if stashed in (base, index):
            return dict(index)
        try:
            return self.patched(index, make_patch(self.state.store, base, stashed))
        except PatchFailedError as error:
            raise ConflictError(
                "what the stash had staged does not apply to the index", paths=error.paths, operation="stash_apply",
                hint="apply it without the index",
            ) from error  # fmt: skip

    def _stash_parents(self, stash: Oid) -> tuple[Oid, ...]:
        if self.state.store.kind(stash) != "commit" or len(self.state.store.commit(stash).parents) not in {2, 3}:
            raise StashNotFoundError(f"{stash.short} is no stash", operation="stash_apply")
        return self.state.store.commit(stash).parents

    @exclusive
    def stash_list(self) -> tuple[StashEntry, ...]:
        """See `WorkingTree`."""
        log = self.state.refs.logs.get(STASH, [])
        return tuple(_stash_entry(entry.new, entry.message) for entry in reversed(log) if entry.new)

    @exclusive
    def stash_store(self, stash: Oid, message: str) -> None:
        """See `WorkingTree`."""
        self._stash_parents(stash)
        refs = self.state.refs
        old = refs.oid(STASH)
        refs.values[STASH] = stash
        refs.log(STASH, old, stash, message)

    @exclusive
    def stash_drop(self, stash: Oid) -> None:
        """See `WorkingTree`."""
        refs = self.state.refs
        log = refs.logs.get(STASH, [])
        at = next((at for at in range(len(log) - 1, -1, -1) if log[at].new == stash), None)
        if at is None:
            raise StashNotFoundError(f"there is no stash {stash.short}", operation="stash_drop")
        del log[at]
        last = log[-1].new if log else None
        if last is None:
            refs.set(STASH, None, "")
        else:
            refs.values[STASH] = last


def _stash_entry(oid: Oid, message: str) -> StashEntry:
    where, colon, _ = message.partition(": ")
    for prefix in ("WIP on ", "On "):
        if colon and where.startswith(prefix):
            branch = where.removeprefix(prefix)
            return StashEntry(oid, message, None if branch == "(no branch)" else branch)
    return StashEntry(oid, message)
