"""One worktree's HEAD, index and files through libgit2."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pygit2
from pygit2.enums import DiffOption
from pygit2.enums import ResetMode as NativeReset

from arboretum.backends.identity import identity, tidy_message
from arboretum.backends.libgit2 import gate
from arboretum.backends.libgit2.configuration import Settings
from arboretum.backends.libgit2.faults import NATIVE_ERRORS, operation
from arboretum.backends.libgit2.handles import files_of
from arboretum.backends.libgit2.merging import merge_trees
from arboretum.backends.libgit2.modes import mode_of, oid_of
from arboretum.backends.libgit2.native import staged_as
from arboretum.backends.libgit2.objects import diff_entries, pygit2_tree
from arboretum.backends.libgit2.refs import born_head, follow, head_of, move_ref, refuse_collision, sign_reflogs
from arboretum.backends.libgit2.staging import (
    below_link,
    blob_of_file,
    edit_index,
    forgotten_on_failure,
    fresh_index,
    refuse_conflicts,
    stage_paths,
    staged_tree,
)
from arboretum.backends.libgit2.survey import survey
from arboretum.backends.libgit2.switching import (
    clean_files,
    overwritten,
    remove_file,
    require_files,
    write_all,
    write_changes,
    write_paths,
)
from arboretum.backends.libgit2.worktrees import Worktrees
from arboretum.backends.trees.patches import apply_patch
from arboretum.backends.trees.snapshot import File
from arboretum.errors import (
    BranchCheckedOutError,
    ConflictError,
    DirtyWorktreeError,
    GitOperationError,
    NothingToCommitError,
    PatchFailedError,
    RefNotFoundError,
    UnbornHeadError,
)
from arboretum.values import FileMode, Head, Oid, RefName, ResetMode, Signature, StatusEntry


class Files(Worktrees):
    """The part of `WorkingTree` that is about HEAD, index and files; stashes are in `Stashes`."""

    @operation
    def head(self, worktree: str) -> Head:
        try:
            return born_head(self.handles.unchecked(worktree) or self.handles.at(worktree))
        except NATIVE_ERRORS:
            return head_of(self.handles.at(worktree))

    @operation
    def status(
        self, worktree: str, *, untracked: bool = True, ignored: bool = False, renames: bool = False
    ) -> tuple[StatusEntry, ...]:
        repository = self._ready(worktree, "status")
        return survey(repository, untracked=untracked, ignored=ignored, renames=renames)

    @operation
    def stage(self, worktree: str, paths: Sequence[str]) -> None:
        repository = self.handles.at(worktree)
        require_files(repository, "stage")
        stage_paths(repository, self.handles.layout.common_dir, paths)

    def _ready(self, worktree: str, name: str, tree: pygit2.Tree | None = None) -> pygit2.Repository:
        """The handle of `worktree`, when libgit2 can read (and for `tree`: write) its files as git does."""
        repository = self.handles.at(worktree)
        require_files(repository, name)
        settings = Settings.of(repository)
        gate.refuse_sparse(settings, name)
        attributes = gate.tree_attributes(repository, tree) if tree is not None else ()
        gate.refuse_filters(settings, self.handles.layout.common_dir, name, attributes)
        if tree is not None:
            gate.refuse_promised(self.handles.layout.common_dir, name)
        return repository

    @operation
    def staged_tree(self, worktree: str) -> Oid:
        """See `WorkingTree`."""
        repository = self.handles.at(worktree)
        require_files(repository, "staged_tree")
        index = fresh_index(repository)
        refuse_conflicts(index, "staged_tree")
        return oid_of(staged_tree(repository, index))

    @operation
    def commit(
        self,
        worktree: str,
        message: str,
        *,
        author: Signature | None = None,
        committer: Signature | None = None,
        allow_empty: bool = False,
    ) -> Oid:
        repository = self.handles.at(worktree)
        require_files(repository, "commit")
        settings = Settings.of(repository)
        gate.refuse_hooks(settings, self.handles.layout.common_dir, "commit", *gate.COMMIT_HOOKS)
        gate.refuse_signing(settings, "commit")
        index = fresh_index(repository)
        refuse_conflicts(index, "commit")
        head = head_of(repository)
        merged = [oid_of(oid) for oid in repository.listall_mergeheads()]
        tree = oid_of(staged_tree(repository, index))
        if not allow_empty and not merged and tree == self._tree_id(repository, head):
            raise NothingToCommitError(
                f"nothing is staged in {worktree}", hint="stage changes first, or pass allow_empty=True"
            )
        text = tidy_message(message)
        if not text:
            raise GitOperationError("a commit needs a message, and this one is empty")
        by = committer or identity("committer", os.environ, settings.all)
        made = self.write_commit(
            tree=tree,
            parents=[*([head.oid] if head.oid else []), *merged],
            message=text,
            author=author or identity("author", os.environ, settings.all),
            committer=by,
        )
        kind = " (merge)" if merged else "" if head.oid else " (initial)"
        self._advance(repository, head, made, f"commit{kind}: {text.splitlines()[0]}", None if committer else by)
        repository.state_cleanup()
        return made

    def _tree_id(self, repository: pygit2.Repository, head: Head) -> str:
        if head.oid is None:
            return str(pygit2.Index().write_tree(repository))
        return str(self._commit(repository, head.oid).tree_id)

    @staticmethod
    def _advance(
        repository: pygit2.Repository, head: Head, new: Oid, message: str, who: Signature | None = None
    ) -> None:
        """Move HEAD, or the branch that it is on, from where it was seen to `new`; `who` as in `sign_reflogs`."""
        sign_reflogs(repository, who)
        move_ref(repository, head.branch or "HEAD", new, head.oid, message)

    @operation
    def checkout(self, worktree: str, target: RefName | Oid, *, force: bool = False) -> None:
        repository = self.handles.at(worktree)
        gate.refuse_hooks(Settings.of(repository), self.handles.layout.common_dir, "checkout", "post-checkout")
        head = head_of(repository)
        branch, oid = (target, follow(repository, target)[1]) if isinstance(target, RefName) else (None, target)
        if oid is None:
            raise RefNotFoundError(f"there is no branch {RefName(target).short!r}")
        commit = self._commit(repository, oid)
        self._ready(worktree, "checkout", commit.tree)
        if branch is not None and branch != head.branch:
            self._refuse_taken(branch, repository)
        if force:
            write_all(repository, commit.tree)
            # libgit2 leaves entries of the index alone whose files are gone and of which neither commit knows
            edit_index(repository, lambda index: index.read_tree(commit.tree))
        else:
            self._switch(repository, head, commit.tree)
        sign_reflogs(repository)
        before = head.branch.short if head.branch else head.oid
        after = branch.short if branch else oid
        reflog = f"checkout: moving from {before} to {after}"
        if branch is not None:
            repository.create_reference_symbolic("HEAD", branch, True, reflog)
        else:
            self._detach(repository, oid, reflog)
        repository.state_cleanup()

    @staticmethod
    def _detach(repository: pygit2.Repository, oid: str, message: str) -> None:
        repository.create_reference_direct("HEAD", pygit2.Oid(hex=oid), True, message)

    def _switch(self, repository: pygit2.Repository, head: Head, tree: pygit2.Tree) -> None:
        """Go to `tree` with local changes kept, by the table of git-read-tree(1), "Two Tree Merge".

        libgit2's own safe checkout knows no index: it takes a change for done that is only in the files, and refuses
        one that is staged as the target has it.
        """
        index = fresh_index(repository)
        refuse_conflicts(index, "checkout")
        is_first = head.oid is None or not os.path.exists(os.path.join(repository.path, "index"))
        old = pygit2_tree(repository, self._tree_id(repository, Head(None, None) if is_first else head))
        diff = old.diff_to_tree(tree, flags=DiffOption.INCLUDE_TYPECHANGE)
        entries = {entry.path: entry for entry in diff_entries(repository, diff, renames=False)}
        changes, lost, vanished = [], [], []
        for delta in diff.deltas:
            path = delta.new_file.raw_path.decode("utf-8", "surrogateescape")
            before, after = (None if s.mode == 0 else (s.id, int(s.mode)) for s in (delta.old_file, delta.new_file))
            now = staged_as(index, path)
            if now == before:
                changes.append(entries[path])
            elif now != after:
                lost.append(path)
            elif now is None:  # gone from the index before: a file that is there is nobody's, and would be lost
                vanished.append(entries[path])
        _refuse_lost("checkout", [*lost, *overwritten(repository, (*changes, *vanished))])
        write_changes(repository, tree, tuple(changes), stage=lambda _path: True)

    def _refuse_taken(self, branch: RefName, repository: pygit2.Repository) -> None:
        """Raise BranchCheckedOutError when a worktree other than that of `repository` is on `branch`."""
        user = self.admin().user_of(branch, but=os.path.realpath(files_of(repository)))
        if user is not None:
            raise BranchCheckedOutError(
                f"the branch {branch.short} is checked out at {user}",
                hint="use another branch, or detach one of the two worktrees",
            )

    @operation
    def reset(self, worktree: str, target: Oid, mode: ResetMode, *, exact: bool = False) -> None:
        if exact:
            raise gate.refusal("reset", "libgit2 leaves the rights of files whose content is right")
        repository = self.handles.at(worktree)
        require_files(repository, "reset")
        commit = self._commit(repository, target)
        if mode is ResetMode.HARD:
            self._ready(worktree, "reset", commit.tree)
        before = head_of(repository)
        if before.oid is None and before.branch is not None:
            refuse_collision(repository, before.branch)  # libgit2 notices only when it has written the files
        if mode is not ResetMode.SOFT:
            fresh_index(repository)
        if mode is ResetMode.HARD:
            write_all(repository, commit.tree)
        sign_reflogs(repository)
        with forgotten_on_failure(repository):
            repository.reset(commit.id, NativeReset.SOFT if mode is ResetMode.SOFT else NativeReset.MIXED)
        if before.oid is not None:
            repository.create_reference_direct("ORIG_HEAD", pygit2.Oid(hex=before.oid), True, "")
        repository.state_cleanup()

    @operation
    def clean(self, worktree: str, *, ignored: bool = False) -> tuple[str, ...]:
        repository = self.handles.at(worktree)
        require_files(repository, "clean")
        gate.refuse_sparse(Settings.of(repository), "clean")
        return clean_files(repository, ignored=ignored, spared=lambda _path: False)

    @operation
    def apply(self, worktree: str, patch: bytes, *, index: bool = False) -> None:
        repository = self._ready(worktree, "apply")
        root = files_of(repository)
        staged = fresh_index(repository)
        before: dict[str, File] = {}

        def read(path: str) -> File | None:
            found = _present(repository, root, path)
            if found is not None:
                before[path] = found
            return _as_staged(repository, staged, path, found) if index else found

        changes = apply_patch(patch, read)
        for path in [path for path, file in changes.items() if file is None]:
            remove_file(root, path)
        self._write_files(repository, {path: file for path, file in changes.items() if file is not None})
        if not index:
            return

        def edit(fresh: pygit2.Index) -> None:
            for path, file in changes.items():
                if file is not None:
                    fresh.add(path)
                elif path in fresh:
                    fresh.remove(path)

        edit_index(repository, edit)

    @staticmethod
    def _write_files(repository: pygit2.Repository, files: dict[str, File]) -> None:
        """Write contents (as they are stored) to the worktree, converted as its attributes say."""
        if not files:
            return
        scratch = pygit2.Index()
        for path, file in files.items():
            scratch.add(pygit2.IndexEntry(path, repository.create_blob(file.data), int(file.mode)))  # type: ignore[arg-type]  # an int does
        tree = pygit2_tree(repository, str(scratch.write_tree(repository)))
        write_paths(repository, tree, list(files))

    @operation
    def cherry_pick(self, worktree: str, commit: Oid) -> Oid:
        repository = self.handles.at(worktree)
        settings = Settings.of(repository)
        gate.refuse_hooks(settings, self.handles.layout.common_dir, "cherry_pick", *gate.COMMIT_HOOKS)
        gate.refuse_signing(settings, "cherry_pick")
        picked = self._commit(repository, commit)
        self._ready(worktree, "cherry_pick", picked.tree)
        head = head_of(repository)
        if head.oid is None:
            raise UnbornHeadError("cherry_pick: HEAD is on a branch that has no commit yet")
        if len(picked.parent_ids) > 1:
            raise GitOperationError(f"{commit} is a merge: it has no single parent to be picked against")
        index = fresh_index(repository)
        refuse_conflicts(index, "cherry_pick")
        ours = self._commit(repository, head.oid).tree
        if staged_tree(repository, index) != ours.id:
            raise DirtyWorktreeError("cherry_pick: changes are staged", hint="commit or stash them first")
        empty = pygit2.Index().write_tree(repository)
        base = pygit2_tree(repository, str(picked.parent_ids[0] if picked.parent_ids else empty))
        outcome = merge_trees(repository, base, ours, picked.tree)
        if outcome.tree is None:
            raise ConflictError(
                f"{commit} does not apply on {head.oid}: {', '.join(outcome.conflicts)}", paths=outcome.conflicts
            )
        if outcome.tree == str(ours.id):
            raise NothingToCommitError(f"{commit} changes nothing on {head.oid}: it is there already")
        merged = pygit2_tree(repository, outcome.tree)
        changes = diff_entries(
            repository, ours.diff_to_tree(merged, flags=DiffOption.INCLUDE_TYPECHANGE), renames=False
        )
        _refuse_lost("cherry_pick", overwritten(repository, changes))
        value = self.read_commit(commit)
        made = self.write_commit(
            tree=outcome.tree,
            parents=[head.oid],
            message=value.message,
            author=value.author,
            committer=identity("committer", os.environ, settings.all),
        )
        write_changes(repository, merged, changes, stage=lambda _path: True)
        self._advance(repository, head, made, f"cherry-pick: {value.subject}")
        return made


def _refuse_lost(name: str, lost: list[str]) -> None:
    """Raise DirtyWorktreeError when something would be lost."""
    if lost:
        raise DirtyWorktreeError(
            f"{name} would overwrite local changes: {', '.join(lost)}", hint="commit or stash them first"
        )


def _present(repository: pygit2.Repository, root: str, path: str) -> File | None:
    """The file at `path` in the worktree, in the form in which git would store it."""
    full = os.path.join(root, path)
    if below_link(root, path):
        raise PatchFailedError(f"the patch does not apply: {path!r} lies beyond a symbolic link", paths=(path,))
    if os.path.islink(full):
        return File(os.fsencode(os.readlink(full)), FileMode.SYMLINK)
    if not os.path.isfile(full):
        return None
    blob = repository.get(blob_of_file(repository, path))
    assert isinstance(blob, pygit2.Blob)
    return File(blob.data, FileMode.EXECUTABLE if os.access(full, os.X_OK) else FileMode.FILE)


def _as_staged(repository: pygit2.Repository, index: pygit2.Index, path: str, found: File | None) -> File | None:
    """The file at `path`, when the index holds just that; a file that is gone counts as unchanged, as in git.

    Raises:
        PatchFailedError: They differ.
    """
    staged = None
    if path in index:
        entry = index[path]
        staged = File(repository.read(entry.id)[1], mode_of(entry.mode))
    if found is not None and staged != found:
        raise PatchFailedError(
            f"the patch does not apply: {path!r} is not the same in the index and in the worktree", paths=(path,)
        )
    return staged
