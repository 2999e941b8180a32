"""Stashes through libgit2: made, applied and kept by commit id.

libgit2's own ``stash pop`` drops an entry whose changes conflict, and a position in the list means
another entry as soon as any worktree pushes. Here conflicts are found before a file is touched, and
entries are found by their commit.
"""

from __future__ import annotations

import os
import re
from collections.abc import Container
from typing import Final

import pygit2
from pygit2.enums import DiffOption, FileStatus

from arboretum.backends.identity import identity
from arboretum.backends.libgit2 import gate
from arboretum.backends.libgit2.configuration import Settings
from arboretum.backends.libgit2.faults import operation
from arboretum.backends.libgit2.handles import files_of
from arboretum.backends.libgit2.merging import merge_trees
from arboretum.backends.libgit2.modes import oid_of
from arboretum.backends.libgit2.native import staged_as
from arboretum.backends.libgit2.objects import diff_entries, pygit2_tree
from arboretum.backends.libgit2.refs import follow, head_of, move_ref, patiently, sign_reflogs
from arboretum.backends.libgit2.staging import (
    UNSTAGED,
    blob_of_file,
    edit_index,
    fresh_index,
    refuse_conflicts,
    staged_tree,
)
from arboretum.backends.libgit2.switching import overwritten, write_changes
from arboretum.backends.libgit2.working_tree import Files
from arboretum.errors import (
    ConflictError,
    IdentityMissingError,
    PatchFailedError,
    RefLockedError,
    StashNotFoundError,
    UnbornHeadError,
)
from arboretum.values import ChangeKind, DiffEntry, FileMode, Oid, Signature, StashEntry

_STASH: Final = "refs/stash"
_LABEL: Final = re.compile(r"(?:WIP on|On) (.+?): ")
_LOCK_TIMEOUT: Final = 5.0


class Stashes(Files):
    """The part of `WorkingTree` that is about stashes."""

    @operation
    def stash_create(self, worktree: str, message: str, *, untracked: bool = False) -> Oid | None:
        repository = self._ready(worktree, "stash_create")
        index = fresh_index(repository)
        refuse_conflicts(index, "stash_create")
        head = head_of(repository)
        if head.oid is None:
            raise UnbornHeadError("stash_create: there is no commit yet that a stash could be based on")
        base = self.read_commit(head.oid)
        label = f"{head.branch.short if head.branch else '(no branch)'}: "
        tip = f"{label}{base.oid[:7]} {base.subject}\n"
        staged = oid_of(staged_tree(repository, index))
        files = self._tree_of_files(repository, staged)
        new = self._tree_of_untracked(repository, files) if untracked else None
        if staged == base.tree and files == staged and new is None:
            return None
        parents = [base.oid, self._stash_commit(repository, staged, [base.oid], f"index on {tip}")]
        if new is not None:
            parents.append(self._stash_commit(repository, new, [], f"untracked files on {tip}"))
        text = f"On {label}{message}" if message else f"WIP on {tip.rstrip()}"
        return self._stash_commit(repository, files, parents, text)

    def _stash_commit(self, repository: pygit2.Repository, tree: Oid, parents: list[Oid], message: str) -> Oid:
        try:
            settings = Settings.of(repository)
            author, committer = (identity(role, os.environ, settings.all) for role in ("author", "committer"))
        except IdentityMissingError:
            author = committer = Signature.now("git stash", "git@stash")  # as git itself names itself then
        return self.write_commit(tree=tree, parents=parents, message=message, author=author, committer=committer)

    @staticmethod
    def _tree_of_files(repository: pygit2.Repository, staged: Oid) -> Oid:
        """Store the tree of what is tracked, as the files are now."""
        tree = pygit2.Index()
        tree.read_tree(pygit2_tree(repository, staged))
        root = files_of(repository)
        for path, flags in repository.status(untracked_files="no").items():
            if not flags & (UNSTAGED | FileStatus.INDEX_DELETED):
                continue
            full = os.path.join(root, path)
            if os.path.lexists(full) and (not os.path.isdir(full) or os.path.islink(full)):
                tree.add(_entry_of_file(repository, root, path))  # also one that only the index has lost
            elif not flags & FileStatus.INDEX_NEW and path in tree and int(tree[path].mode) != FileMode.SUBMODULE:
                tree.remove(path)
        return oid_of(tree.write_tree(repository))

    @staticmethod
    def _tree_of_untracked(repository: pygit2.Repository, files: Oid) -> Oid | None:
        """Store the tree of what is neither ignored nor among the tracked files; None when there is nothing.

        A file that was only taken out of the index is among them: git's own stash keeps it twice, and then does not
        apply what it has kept.
        """
        root, tracked, tree = files_of(repository), pygit2.Index(), pygit2.Index()
        tracked.read_tree(pygit2_tree(repository, files))
        for path, flags in repository.status().items():
            if flags & FileStatus.WT_NEW and not path.endswith("/") and staged_as(tracked, path) is None:
                tree.add(_entry_of_file(repository, root, path))
        return oid_of(tree.write_tree(repository)) if len(tree) else None

    @operation
    def stash_apply(self, worktree: str, stash: Oid, *, index: bool = False) -> None:
        repository = self.handles.at(worktree)
        found = repository.get(stash)
        if not isinstance(found, pygit2.Commit) or len(found.parent_ids) not in {2, 3}:
            raise StashNotFoundError(f"{stash} is not a stash: a stash is a commit with two or three parents")
        self._ready(worktree, "stash_apply", found.tree)
        staged = fresh_index(repository)
        refuse_conflicts(staged, "stash_apply")
        ours = pygit2_tree(repository, str(staged_tree(repository, staged)))
        base, kept = (self._commit(repository, str(parent)).tree for parent in found.parent_ids[:2])
        merged = self._merged(repository, base, ours, found.tree)
        new_index = self._restaged(base, ours, kept) if index else None
        changes = diff_entries(
            repository, ours.diff_to_tree(merged, flags=DiffOption.INCLUDE_TYPECHANGE), renames=False
        )
        lost = overwritten(repository, changes)
        if lost:
            raise ConflictError(f"the stash would overwrite local changes: {', '.join(lost)}", paths=lost)
        new = self._commit(repository, str(found.parent_ids[2])).tree if len(found.parent_ids) == 3 else None
        added = {change.path for change in changes if change.kind is ChangeKind.ADDED}
        written = {change.path for change in changes if change.kind is not ChangeKind.DELETED}
        restored = self._untracked_changes(repository, new, written) if new is not None else ()
        write_changes(repository, merged, changes, stage=lambda path: new_index is None and path in added)
        if new is not None:
            write_changes(repository, new, restored, stage=lambda _path: False)
        if new_index is not None:
            edit_index(repository, lambda fresh: fresh.read_tree(new_index))

    def _restaged(self, base: pygit2.Tree, ours: pygit2.Tree, kept: pygit2.Tree) -> pygit2.Tree:
        """The index with what the stash had staged, applied as a patch, as git's own stash does it.

        As there, nothing is left to apply when nothing was staged, or when the index has come to be the stash's own.
        """
        if kept.id in {base.id, ours.id}:
            return ours
        patch = self.diff_text(oid_of(base.id), oid_of(kept.id))
        try:
            made = self.apply_to_tree(oid_of(ours.id), patch)
        except PatchFailedError as error:
            raise ConflictError(
                "what the stash had staged does not apply to the index", paths=error.paths,
                hint="apply the stash without the index",
            ) from error  # fmt: skip
        return pygit2_tree(self.handles.main(), made)

    @staticmethod
    def _merged(
        repository: pygit2.Repository, base: pygit2.Tree, ours: pygit2.Tree, theirs: pygit2.Tree
    ) -> pygit2.Tree:
        outcome = merge_trees(repository, base, ours, theirs)
        if outcome.tree is None:
            raise ConflictError(
                f"the stash conflicts with what is there: {', '.join(outcome.conflicts)}",
                paths=outcome.conflicts,
                hint="commit what is there, or apply the stash on the commit that it was made on",
            )
        return pygit2_tree(repository, outcome.tree)

    @staticmethod
    def _untracked_changes(
        repository: pygit2.Repository, new: pygit2.Tree, written: Container[str]
    ) -> tuple[DiffEntry, ...]:
        """The untracked files of a stash, when none of them is there already, or among those that it writes besides."""
        changes = diff_entries(repository, new.diff_to_tree(swap=True), renames=False)
        root = files_of(repository)
        there = [c.path for c in changes if c.path in written or os.path.lexists(os.path.join(root, c.path))]
        if there:
            raise ConflictError(f"files of the stash exist already: {', '.join(there)}", paths=there)
        return changes

    @operation
    def stash_list(self) -> tuple[StashEntry, ...]:
        repository = self.handles.main()
        if follow(repository, _STASH)[1] is None:
            return ()
        return tuple(_entry(line.oid_new, line.message) for line in repository.lookup_reference(_STASH).log())

    @operation
    def stash_store(self, stash: Oid, message: str) -> None:
        repository = self.handles.main()
        settings = Settings.of(repository)
        gate.refuse_hooks(settings, self.handles.layout.common_dir, "stash_store", "reference-transaction")
        found = self._commit(repository, stash)
        if len(found.parent_ids) not in {2, 3}:
            raise StashNotFoundError(f"{stash} is not a stash: a stash is a commit with two or three parents")
        sign_reflogs(repository)
        with self.lock():
            self._ensure_log()
            patiently(
                lambda: move_ref(repository, _STASH, stash, follow(repository, _STASH)[1], message), _LOCK_TIMEOUT
            )

    def _log_path(self) -> str:
        return os.path.join(self.handles.layout.common_dir, "logs", "refs", "stash")

    def _ensure_log(self) -> None:
        """Make the reflog of the stash: git and libgit2 keep one there only when the file exists."""
        os.makedirs(os.path.dirname(self._log_path()), exist_ok=True)
        with open(self._log_path(), "ab"):
            pass

    @operation
    def stash_drop(self, stash: Oid) -> None:
        with self.lock():
            patiently(lambda: self._drop(stash), _LOCK_TIMEOUT)

    def _drop(self, stash: Oid) -> None:
        r"""Take the entry out of the reflog, under the lock that git takes for it, and move the ref to the new top.

        Each line of a reflog is ``<old> <new> <who> <when>\t<message>``; the line above a dropped one takes
        over its old id, as ``git reflog delete --rewrite`` has it.
        """
        repository = self.handles.main()
        ref = os.path.join(self.handles.layout.common_dir, _STASH)
        lock = f"{ref}.lock"
        try:
            descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError as error:
            raise RefLockedError(f"{_STASH} is locked: {lock} exists") from error
        try:
            lines = self._read_log()
            at = next((n for n in reversed(range(len(lines))) if lines[n].split(b" ", 2)[1] == stash.encode()), None)
            if at is None:
                raise StashNotFoundError(f"no stash has the id {stash}")
            dropped = lines.pop(at)
            if at < len(lines):
                lines[at] = dropped.split(b" ", 1)[0] + lines[at][len(stash) :]
            self._write_log(lines)
            if lines:
                os.write(descriptor, lines[-1].split(b" ", 2)[1] + b"\n")
                os.rename(lock, ref)
        finally:
            os.close(descriptor)
            if os.path.exists(lock):
                os.unlink(lock)
        if not lines:
            repository.references.delete(_STASH)

    def _read_log(self) -> list[bytes]:
        try:
            with open(self._log_path(), "rb") as file:
                return file.read().splitlines(keepends=True)
        except FileNotFoundError:
            return []

    def _write_log(self, lines: list[bytes]) -> None:
        path = self._log_path()
        with open(f"{path}.lock", "wb") as file:
            file.writelines(lines)
        os.rename(f"{path}.lock", path)


def _entry(oid: pygit2.Oid, message: str) -> StashEntry:
    label = _LABEL.match(message)
    branch = label[1] if label and label[1] != "(no branch)" else None
    return StashEntry(oid_of(oid), message, branch)


def _entry_of_file(repository: pygit2.Repository, root: str, path: str) -> pygit2.IndexEntry:
    full = os.path.join(root, path)
    mode = 0o120000 if os.path.islink(full) else 0o100755 if os.access(full, os.X_OK) else 0o100644
    return pygit2.IndexEntry(path, blob_of_file(repository, path), mode)  # type: ignore[arg-type]  # an int does
