"""Writing the files of a worktree: checkout, reset, merge results, cleaning up."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Container, Iterable, Sequence

import pygit2
from attrs import define, field
from pygit2.enums import DeltaStatus
from pygit2.enums import FileMode as NativeMode

from arboretum.backends.libgit2.handles import files_of
from arboretum.backends.libgit2.native import changed_files, paths_of, staged_as, write_files, write_tree_over
from arboretum.backends.libgit2.staging import edit_index, forgotten_on_failure, fresh_index, is_ignored, parents_of
from arboretum.errors import GitOperationError
from arboretum.values import ChangeKind, DiffEntry, FileMode


def write_all(repository: pygit2.Repository, tree: pygit2.Tree) -> None:
    """Bring all files of the worktree, and the index, to `tree`, whatever was there; untracked files elsewhere stay."""
    _unlink_all(repository, tree)
    with forgotten_on_failure(repository):
        write_tree_over(repository, tree)


def write_paths(repository: pygit2.Repository, tree: pygit2.Tree, paths: Sequence[str]) -> None:
    """Write the files that `tree` has at `paths`, whatever was there; the index is left alone."""
    root = files_of(repository)
    for place in sorted({place for path in paths for place in (path, *parents_of(path))}, key=len):
        if os.path.islink(os.path.join(root, place)):
            os.unlink(os.path.join(root, place))  # the outer ones first: libgit2 would write through them
    write_files(repository, tree, paths)


def _unlink_all(repository: pygit2.Repository, tree: pygit2.Tree) -> None:
    """Remove symbolic links where `tree` has files or folders: libgit2 would write through them, wherever they lead."""

    def sweep(folder: str, tree: pygit2.Tree) -> None:
        try:
            links = [entry.name for entry in os.scandir(folder) if entry.is_symlink()]
        except (FileNotFoundError, NotADirectoryError):
            return
        wanted = {entry.raw_name: entry.filemode for entry in tree} if links else {}
        for name in links:
            if wanted.get(os.fsencode(name), NativeMode.LINK) != NativeMode.LINK:
                os.unlink(os.path.join(folder, name))
        for entry in tree:
            if isinstance(entry, pygit2.Tree):
                sweep(os.path.join(folder, os.fsdecode(entry.raw_name or b"")), entry)

    sweep(files_of(repository), tree)


def overwritten(repository: pygit2.Repository, changes: Iterable[DiffEntry]) -> list[str]:
    """The paths at which the worktree holds something that is in no commit and that `changes` would take away.

    Only what lies at the changed paths, below them or on the way to them can be: the rest is not looked at.
    """
    kinds = {path: change.kind for change in changes for path in (change.path, change.old_path) if path is not None}
    if not kinds:
        return []
    root, index = files_of(repository), fresh_index(repository)
    folders = {parent for path in kinds for parent in parents_of(path)}
    in_the_way = {folder for folder in folders if _is_in_the_way(os.path.join(root, folder))}
    lost = {path for path, kind in kinds.items() if _is_taken(index, root, path, kind, kinds)}
    lost.update(path for path in in_the_way if path in index and path not in kinds)  # staged, and in no commit yet
    for delta in changed_files(repository, index, kinds.keys() | in_the_way).deltas:
        if delta.status == DeltaStatus.DELETED:
            continue  # a file that is gone is no loss
        path = os.fsdecode(delta.new_file.raw_path).rstrip("/")
        if path in kinds or path in in_the_way or any(parent in kinds for parent in parents_of(path)):
            lost.add(path)
    return sorted(lost, key=os.fsencode)


def _is_taken(index: pygit2.Index, root: str, path: str, kind: ChangeKind, changed: Container[str]) -> bool:
    """Whether a folder has taken the place of a tracked file, or has files where a new one is to be written."""
    full = os.path.join(root, path)
    if os.path.islink(full) or not os.path.isdir(full):
        return False
    if kind is not ChangeKind.ADDED:
        staged = staged_as(index, path)
        return staged is None or staged[1] != FileMode.SUBMODULE
    below = (os.path.join(folder, name) for folder, _, names in os.walk(full) for name in names)
    return any(os.path.relpath(file, root) not in changed for file in below)


def _is_in_the_way(folder: str) -> bool:
    """Whether there is a file, a link or a repository of its own where a folder of the worktree should be."""
    try:
        found = os.lstat(folder)
    except OSError:
        return False
    return not stat.S_ISDIR(found.st_mode) or os.path.lexists(f"{folder}/.git")


def write_changes(
    repository: pygit2.Repository, tree: pygit2.Tree, changes: tuple[DiffEntry, ...], *, stage: Callable[[str], bool]
) -> None:
    """Bring the files at `changes` to what they are in `tree`; nothing must be lost by it (see `overwritten`).

    Args:
        repository: The handle of the worktree.
        tree: What the files shall be.
        changes: The paths that differ.
        stage: Which of the paths the index follows, too.
    """
    root = files_of(repository)
    gone = [change.path for change in changes if change.kind is ChangeKind.DELETED]
    kept = [change.path for change in changes if change.kind is not ChangeKind.DELETED]
    for path in gone:
        remove_file(root, path)
    for path in kept:
        _remove_empty(os.path.join(root, path))
    if kept:
        write_paths(repository, tree, kept)
    staged = [change for change in changes if stage(change.path)]
    if not staged:
        return

    def edit(index: pygit2.Index) -> None:
        for change in sorted(staged, key=lambda change: change.kind is not ChangeKind.DELETED):
            if change.kind is not ChangeKind.DELETED:
                index.add(change.path)
            elif change.path in index:
                index.remove(change.path)

    edit_index(repository, edit)


def remove_file(root: str, path: str) -> None:
    """Remove a file and the folders that it leaves empty, up to `root`."""
    try:
        os.unlink(os.path.join(root, path))
    except FileNotFoundError:
        pass  # its folder may be empty all the same
    except NotADirectoryError:
        return
    for parent in parents_of(path):
        try:
            os.rmdir(os.path.join(root, parent))
        except OSError:
            return


def _remove_empty(folder: str) -> None:
    """Remove a folder in which there are only folders, if it is one."""
    if os.path.islink(folder):
        return
    for inner, _, _ in os.walk(folder, topdown=False):
        try:
            os.rmdir(inner)
        except OSError:
            return


@define
class _Sweep:
    """One clean-up of a worktree; `removed` grows as it goes."""

    repository: pygit2.Repository
    root: str
    tracked: set[str]
    folders: set[str]
    ignored: bool
    spared: Callable[[str], bool]
    removed: list[str] = field(factory=list)

    def folder(self, folder: str) -> bool:
        """Clean below `folder`; whether nothing is left in it."""
        empty = True
        for entry in sorted(os.scandir(os.path.join(self.root, folder)), key=lambda e: os.fsencode(e.name)):
            path = f"{folder}/{entry.name}" if folder else entry.name
            if path == ".git" or path in self.tracked:
                empty = False
            elif not entry.is_dir(follow_symlinks=False):
                empty &= self._file(path)
            elif path in self.folders:
                self.folder(path)
                empty = False
            else:
                empty &= self._untracked_folder(path)
        return empty

    def _file(self, path: str) -> bool:
        if not self.ignored and is_ignored(self.repository, path):
            return False
        os.unlink(os.path.join(self.root, path))
        self.removed.append(path)
        return True

    def _untracked_folder(self, path: str) -> bool:
        full = os.path.join(self.root, path)
        if self.spared(full) or (not self.ignored and is_ignored(self.repository, f"{path}/")):
            return False
        if os.path.lexists(os.path.join(full, ".git")):
            shutil.rmtree(full)  # a repository of its own: -ff says that it goes, too
        else:
            before = len(self.removed)
            if not self.folder(path):
                return False
            del self.removed[before:]
            os.rmdir(full)
        self.removed.append(f"{path}/")
        return True


def clean_files(repository: pygit2.Repository, *, ignored: bool, spared: Callable[[str], bool]) -> tuple[str, ...]:
    """Remove what is not tracked, as ``git clean -ffd`` does (with `ignored`: ``-ffdx``).

    Args:
        repository: The handle of the worktree.
        ignored: Whether ignored files go as well.
        spared: Whether a folder (by its absolute path) must not be touched, whatever it is.

    Returns:
        What was removed, sorted; a folder that went as a whole as ``name/``.
    """
    tracked = paths_of(fresh_index(repository))
    innermost = {path.rpartition("/")[0] for path in tracked}  # thousands of files, a hundred folders
    folders = {folder for path in innermost if path for folder in (path, *parents_of(path))}
    sweep = _Sweep(repository, files_of(repository), tracked, folders, ignored, spared)
    sweep.folder("")
    return tuple(sorted(sweep.removed, key=os.fsencode))


def require_files(repository: pygit2.Repository, operation: str) -> None:
    """Raise for a bare repository."""
    if repository.workdir is None:
        raise GitOperationError(f"{operation}: a bare repository has no files", operation=operation)
