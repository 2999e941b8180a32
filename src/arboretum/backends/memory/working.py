"""The working-tree part of the in-memory backend: HEAD, index and files of one worktree."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence

from attrs import define

from arboretum.backends.identity import identity, tidy_message
from arboretum.backends.memory import merging, switching
from arboretum.backends.memory.disk import WorktreeFiles
from arboretum.backends.memory.reading import MemoryObjects
from arboretum.backends.memory.state import HEAD, WorktreeRecord, exclusive
from arboretum.backends.memory.survey import Survey
from arboretum.backends.trees.patches import apply_patch
from arboretum.backends.trees.renames import change_kind, find_renames
from arboretum.backends.trees.snapshot import Entry, File, Snapshot, path_key
from arboretum.errors import (
    BranchCheckedOutError,
    ConflictError,
    DirtyWorktreeError,
    GitOperationError,
    NothingToCommitError,
    PatchFailedError,
    RefNotFoundError,
    UnbornHeadError,
    UnsupportedOperationError,
)
from arboretum.values import (
    ChangeKind,
    FileMode,
    Head,
    Oid,
    RefName,
    ResetMode,
    Signature,
    StatusEntry,
    parse_tree_path,
)

ORIG_HEAD = RefName("ORIG_HEAD")


@define(eq=False)
class MemoryWorkingTree(MemoryObjects):
    """`arboretum.backends.base.WorkingTree` in memory (fetch apart)."""

    def files(self, worktree: str) -> WorktreeFiles:
        """The files of a worktree as a mapping: how a script or test reads and writes them on any disk."""
        return WorktreeFiles(self.state.disk, self.state.record(worktree).path)

    @exclusive
    def head(self, worktree: str) -> Head:
        """See `WorkingTree`."""
        return self.state.head(self.state.record(worktree))

    # --- status ---------------------------------------------------------------------------------------------

    @exclusive
    def status(
        self, worktree: str, *, untracked: bool = True, ignored: bool = False, renames: bool = False
    ) -> tuple[StatusEntry, ...]:
        """See `WorkingTree`."""
        record = self.state.live(worktree)
        head, view = self._head_snapshot(record), self._view(record)
        pairs = find_renames(head, record.index, self.state.store.blob) if renames else {}
        gone = set(pairs.values())
        found = []
        for path in head.keys() | record.index.keys():
            index = ChangeKind.RENAMED if path in pairs else change_kind(head.get(path), record.index.get(path))
            if path in gone and path not in record.index:
                continue
            kind = self._work_kind(view, path, record.index.get(path))
            if index is not ChangeKind.UNMODIFIED or kind is not ChangeKind.UNMODIFIED:
                is_module = FileMode.SUBMODULE in {head.get(path, (None,))[0], record.index.get(path, (None,))[0]}
                found.append(StatusEntry(path, index, kind, pairs.get(path), is_module))
        if untracked:
            found += [StatusEntry(p, ChangeKind.UNTRACKED, ChangeKind.UNTRACKED) for p in view.survey.untracked]
        if ignored:
            found += [StatusEntry(p, ChangeKind.IGNORED, ChangeKind.IGNORED) for p in view.survey.ignored]
        return tuple(sorted(found, key=lambda entry: path_key(entry.path)))

    def _work_kind(self, view: switching.WorkView, path: str, entry: Entry | None) -> ChangeKind:
        if entry is None:
            return ChangeKind.UNMODIFIED
        if entry[0] is FileMode.SUBMODULE and path in view.survey.present:
            return ChangeKind.UNMODIFIED
        return change_kind(entry, view.entry(path))

    def _view(self, record: WorktreeRecord, tracked: Iterable[str] | None = None) -> switching.WorkView:
        state = self.state
        exclude = state.disk.read(f"{state.common_dir}/info/exclude")
        known = set(record.index if tracked is None else tracked)
        modules = {path for path, entry in record.index.items() if entry[0] is FileMode.SUBMODULE}
        survey = Survey(state.disk, record.path, known, modules, exclude.data if exclude else b"").run()
        return switching.WorkView(state.store, state.disk, record.path, survey)

    def _head_snapshot(self, record: WorktreeRecord) -> Snapshot:
        return self.state.store.snapshot(self.state.head(record).oid)

    # --- staging and committing -----------------------------------------------------------------------------

    @exclusive
    def stage(self, worktree: str, paths: Sequence[str]) -> None:
        """See `WorkingTree`."""
        record = self.state.live(worktree)
        view, index = self._view(record), dict(record.index)
        for path in dict.fromkeys(paths):
            self._stage_one(view, index, "" if path in {".", ""} else parse_tree_path(path.rstrip("/")))
        if index != record.index:  # with nothing to stage git does not make an index that is not there yet
            self.state.set_index(record, index)

    def _stage_one(self, view: switching.WorkView, index: Snapshot, path: str) -> None:
        below = f"{path}/" if path else ""
        known = [p for p in index if p == path or p.startswith(below)]
        fresh = [p for p in view.survey.untracked if p == path or p.startswith(below)]
        if path and not known and not fresh:
            self._refuse_stage(view, path)
        for name in [*known, *fresh]:
            if name.endswith("/"):
                raise UnsupportedOperationError(
                    f"{name} is a repository of its own; the memory backend has no submodules", operation="stage"
                )
            if index.get(name, (None,))[0] is FileMode.SUBMODULE:
                continue
            file = view.disk.read(f"{view.root}/{name}") if name in view.survey.present or name in fresh else None
            if file is None:
                index.pop(name, None)
                continue
            for other in [o for o in index if o.startswith(f"{name}/") or name.startswith(f"{o}/")]:
                del index[other]  # a file took the place of a folder, or the other way round
            index[name] = (file.mode, self.state.store.put_blob(file.data))

    def _refuse_stage(self, view: switching.WorkView, path: str) -> None:
        if view.disk.is_folder(f"{view.root}/{path}"):
            return
        ignored = [p for p in view.survey.ignored if p == path or (p.endswith("/") and path.startswith(p))]
        if ignored:
            raise GitOperationError(f"{path!r} is ignored", operation="stage", hint="change the ignore rules")
        raise GitOperationError(f"there is no file {path!r} to stage", operation="stage")

    @exclusive
    def staged_tree(self, worktree: str) -> Oid:
        """See `WorkingTree`."""
        return self.state.store.put_snapshot(self.state.live(worktree).index)

    @exclusive
    def commit(
        self,
        worktree: str,
        message: str,
        *,
        author: Signature | None = None,
        committer: Signature | None = None,
        allow_empty: bool = False,
    ) -> Oid:
        """See `WorkingTree`."""
        record, store = self.state.live(worktree), self.state.store
        head = self.state.head(record)
        if not allow_empty and record.index == self._head_snapshot(record):
            raise NothingToCommitError("nothing is staged: the index equals HEAD", operation="commit")
        text = tidy_message(message)
        if not text:
            raise GitOperationError("a commit needs a message", operation="commit")
        self.state.check_birth(record)
        oid = store.put_commit(
            tree=store.put_snapshot(record.index),
            parents=[head.oid] if head.oid else [],
            message=text,
            author=author or self._identity("author"),
            committer=committer or self._identity("committer"),
        )
        self.state.move_head(record, oid, f"commit: {text.partition(chr(10))[0]}")
        return oid

    def _identity(self, role: str) -> Signature:
        return identity("author" if role == "author" else "committer", os.environ, self.state.config_values)

    # --- moving HEAD ----------------------------------------------------------------------------------------

    @exclusive
    def checkout(self, worktree: str, target: RefName | Oid, *, force: bool = False) -> None:
        """See `WorkingTree`."""
        record, state = self.state.live(worktree), self.state
        oid = state.refs.oid(target) if isinstance(target, RefName) else state.store.commit(target).oid
        if oid is None:
            raise RefNotFoundError(f"there is no branch {target}", operation="checkout")
        is_branch = isinstance(target, RefName) and target.is_branch
        if is_branch and record.head != target:
            self.refuse_in_use(RefName(target), record, "checkout")
        if force:
            switch = switching.force(record.index, state.store.snapshot(oid))
        else:
            switch = switching.plan(
                {} if record.bare_index else self._head_snapshot(record),
                record.index,
                state.store.snapshot(oid),
                self._view(record),
            )
            self._refuse_blocked(switch, "checkout")
        self._carry_out(record, switch)
        old = state.head(record)
        came_from = old.branch.short if old.branch else old.oid
        record.head = RefName(target) if is_branch else oid
        to = target.short if isinstance(target, RefName) else target
        record.private.log(HEAD, old.oid, oid, f"checkout: moving from {came_from} to {to}")

    def refuse_in_use(self, branch: RefName, record: WorktreeRecord | None, operation: str) -> None:
        """Refuse a branch that another worktree is on. Raises BranchCheckedOutError."""
        for other in self.state.users_of(branch):
            if other is not record:
                raise BranchCheckedOutError(
                    f"the branch {branch.short} is checked out at {other.path}", operation=operation,
                    hint="use another branch, or detach one of the two worktrees",
                )  # fmt: skip

    def _refuse_blocked(self, switch: switching.Switch, operation: str) -> None:
        if switch.blocked:
            raise DirtyWorktreeError(
                f"{operation} would overwrite local changes in {', '.join(map(repr, switch.blocked[:5]))}",
                operation=operation, hint="commit or stash them first",
            )  # fmt: skip

    def _carry_out(self, record: WorktreeRecord, switch: switching.Switch) -> None:
        switching.carry_out(switch, self.state.store, self.state.disk, record.path)
        self.state.set_index(record, switch.index)

    @exclusive
    def reset(self, worktree: str, target: Oid, mode: ResetMode, *, exact: bool = False) -> None:
        """See `WorkingTree`."""
        if exact:
            raise UnsupportedOperationError("files in memory have no times", operation="reset")
        record, store = self.state.live(worktree), self.state.store
        snapshot = store.snapshot(store.commit(target).oid)
        self.state.check_birth(record)
        if mode is ResetMode.HARD:
            self._carry_out(record, switching.force(record.index, snapshot))
        elif mode is ResetMode.MIXED:
            self.state.set_index(record, dict(snapshot))
        record.private.set(ORIG_HEAD, self.state.head(record).oid, "")
        self.state.move_head(record, target, f"reset: moving to {target}")

    @exclusive
    def clean(self, worktree: str, *, ignored: bool = False) -> tuple[str, ...]:
        """See `WorkingTree`."""
        record = self.state.live(worktree)
        view = self._view(record)
        doomed = set(view.survey.untracked) | (set(view.survey.ignored) if ignored else set())
        kept = set(record.index) | (set() if ignored else set(view.survey.ignored))
        removed = sorted(self._doomed(view, "", doomed, kept), key=path_key)
        for path in removed:
            self.state.disk.remove(f"{record.path}/{path.rstrip('/')}")
        return tuple(removed)

    def _doomed(self, view: switching.WorkView, prefix: str, doomed: set[str], kept: set[str]) -> Iterable[str]:
        """What clean removes below a folder: whole folders where nothing in them is kept."""
        for name in view.disk.names(f"{view.root}/{prefix}"):
            path = prefix + name
            if path == ".git" or path in kept:
                continue
            if not view.disk.is_folder(f"{view.root}/{path}"):
                if path in doomed:
                    yield path
            elif f"{path}/" in doomed or not any(k.startswith(f"{path}/") for k in kept):
                yield f"{path}/"
            elif f"{path}/" not in kept:
                yield from self._doomed(view, f"{path}/", doomed, kept)

    # --- patches and picks ----------------------------------------------------------------------------------

    @exclusive
    def apply(self, worktree: str, patch: bytes, *, index: bool = False) -> None:
        """See `WorkingTree`."""
        record = self.state.live(worktree)
        view, files = self._view(record), WorktreeFiles(self.state.disk, record.path)

        def read(path: str) -> File | None:
            if path in files:
                return files.file(path)
            # With the index git takes a file that is gone for unchanged.
            entry = record.index.get(path) if index else None
            return self.state.store.file(entry) if entry else None

        result = apply_patch(patch, read)
        hidden = [p for p in result if switching.below_link(self.state.disk, record.path, p, result)]
        if hidden:
            raise PatchFailedError(
                f"the patch does not apply: {hidden[0]!r} lies beyond a link or file", paths=hidden, operation="apply"
            )
        changed = dict(record.index)
        if index:
            stale = [p for p in result if view.entry_on_disk(p) not in {None, record.index.get(p)}]
            if stale:
                raise PatchFailedError(
                    f"the patch does not apply: {stale[0]!r} does not match the index", paths=stale, operation="apply"
                )
        for path, file in result.items():
            if file is None:
                switching.remove_file(self.state.disk, record.path, path)
                changed.pop(path, None)
            else:
                entry = (file.mode, self.state.store.put_blob(file.data))
                switching.write_entry(self.state.disk, record.path, path, entry, self.state.store)
                changed[path] = entry
        if index:
            self.state.set_index(record, changed)

    @exclusive
    def cherry_pick(self, worktree: str, commit: Oid) -> Oid:
        """See `WorkingTree`."""
        record, store = self.state.live(worktree), self.state.store
        head, picked = self.state.head(record).oid, store.commit(commit)
        if head is None:
            raise UnbornHeadError("cannot cherry-pick onto a branch without commits", operation="cherry_pick")
        if len(picked.parents) > 1:
            raise GitOperationError(f"cannot cherry-pick {commit.short}: it is a merge", operation="cherry_pick")
        if record.index != store.snapshot(head):
            raise DirtyWorktreeError("cherry_pick would overwrite staged changes", operation="cherry_pick")
        base = store.snapshot(picked.parents[0]) if picked.parents else {}
        outcome = merging.merge_snapshots(store, base, store.snapshot(head), store.snapshot(commit))
        if outcome.tree is None:
            raise ConflictError(
                f"cherry-picking {commit.short} conflicts in {', '.join(map(repr, outcome.conflicts))}",
                paths=outcome.conflicts, operation="cherry_pick",
            )  # fmt: skip
        target = store.snapshot(outcome.tree)
        if target == store.snapshot(head):
            raise NothingToCommitError(f"the changes of {commit.short} are here already", operation="cherry_pick")
        switch = switching.plan(store.snapshot(head), record.index, target, self._view(record))
        self._refuse_blocked(switch, "cherry_pick")
        oid = store.put_commit(
            tree=outcome.tree, parents=[head], message=picked.message, author=picked.author,
            committer=self._identity("committer"),
        )  # fmt: skip
        self._carry_out(record, switch)
        self.state.move_head(record, oid, f"cherry-pick: {picked.subject}")
        return oid
