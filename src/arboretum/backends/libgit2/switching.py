"""Writing the files of a worktree: checkout, reset, merge results, cleaning up."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Final

import pygit2
from attrs import define, field
from pygit2.enums import CheckoutStrategy, FileStatus
from pygit2.enums import FileMode as NativeMode

from arboretum.backends.libgit2.handles import files_of
from arboretum.backends.libgit2.staging import UNSTAGED, edit_index, is_ignored, parents_of, paths_of
from arboretum.errors import GitOperationError
from arboretum.values import ChangeKind, DiffEntry

#: Write just the named files, whatever is there, and leave the index alone.
OVERWRITE: Final = CheckoutStrategy.FORCE | CheckoutStrategy.DISABLE_PATHSPEC_MATCH | CheckoutStrategy.DONT_UPDATE_INDEX


class _BytesPath:
    """A path that pygit2 takes as the bytes it is: it encodes text strictly, and file names need not be UTF-8."""

    def __init__(self, path: str) -> None:
        self._path = os.fsencode(path)

    def __fspath__(self) -> bytes:
        return self._path


def write_tree_files(
    repository: pygit2.Repository, tree: pygit2.Tree, strategy: CheckoutStrategy, paths: list[str] | None = None
) -> None:
    """Write the files of `tree` (or those at `paths`) to the worktree."""
    # SAFE refuses what is not in a commit, links too; FORCE would write through them.
    if strategy & CheckoutStrategy.FORCE and paths is None:
        unlink_all(repository, tree)
    elif strategy & CheckoutStrategy.FORCE:
        unlink(repository, paths or ())
    names = None if paths is None else [_BytesPath(path) for path in paths]
    repository.checkout_tree(tree, strategy=strategy, paths=names)  # type: ignore[no-untyped-call]


def unlink_all(repository: pygit2.Repository, tree: pygit2.Tree) -> None:
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


def unlink(repository: pygit2.Repository, paths: Iterable[str]) -> None:
    """Remove symbolic links at, and on the way to, files that are about to be written, the outer ones first.

    A link that is in the last commit stays: that one libgit2 replaces, and does not write the file if it is gone.
    """
    root = files_of(repository)
    wanted = set(paths)
    head = None if repository.head_is_unborn else repository.head.peel(pygit2.Tree)
    for place in sorted({place for path in wanted for place in (path, *parents_of(path))}, key=len):
        is_link = os.path.islink(os.path.join(root, place))
        if is_link and not (place in wanted and head is not None and _mode_in(head, place) == NativeMode.LINK):
            os.unlink(os.path.join(root, place))


def _mode_in(tree: pygit2.Tree, path: str) -> NativeMode | None:
    """The kind of entry that a tree has at a path of any bytes; None when it has none."""
    name, _, rest = path.partition("/")
    entry = next((entry for entry in tree if entry.raw_name == os.fsencode(name)), None)
    if entry is None or not rest:
        return None if entry is None else NativeMode(entry.filemode)
    return _mode_in(entry, rest) if isinstance(entry, pygit2.Tree) else None


def links_in_the_way(repository: pygit2.Repository, tree: pygit2.Tree, index: pygit2.Index) -> list[str]:
    """The symbolic links of no commit that are where `tree` has folders."""
    root = files_of(repository)
    return [path for path in _folders_of(tree) if os.path.islink(os.path.join(root, path)) and path not in index]


def _folders_of(tree: pygit2.Tree, prefix: str = "") -> Iterator[str]:
    """All folders of a tree, the outer ones first."""
    for entry in tree:
        if isinstance(entry, pygit2.Tree):
            path = prefix + os.fsdecode(entry.raw_name or b"")
            yield path
            yield from _folders_of(entry, f"{path}/")


def overwritten(repository: pygit2.Repository, changes: tuple[DiffEntry, ...]) -> list[str]:
    """The paths among `changes` at which the worktree holds something that is in no commit."""
    touched = {path for change in changes for path in (change.path, change.old_path) if path is not None}
    folders = {parent for path in touched for parent in parents_of(path)}
    lost = []
    for raw, flags in repository.status().items():
        path = raw.rstrip("/")
        if not flags & UNSTAGED & ~FileStatus.WT_DELETED:
            continue  # a file that is gone is no loss
        blocks = bool(flags & FileStatus.WT_NEW) and (path in folders or any(p in touched for p in parents_of(path)))
        if path in touched or blocks:
            lost.append(path)
    return sorted(lost, key=os.fsencode)


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
    if kept:
        write_tree_files(repository, tree, OVERWRITE, kept)
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
    index = repository.index
    index.read(True)
    tracked = paths_of(index)
    innermost = {path.rpartition("/")[0] for path in tracked}  # thousands of files, a hundred folders
    folders = {folder for path in innermost if path for folder in (path, *parents_of(path))}
    sweep = _Sweep(repository, files_of(repository), tracked, folders, ignored, spared)
    sweep.folder("")
    return tuple(sorted(sweep.removed, key=os.fsencode))


def require_files(repository: pygit2.Repository, operation: str) -> None:
    """Raise for a bare repository."""
    if repository.workdir is None:
        raise GitOperationError(f"{operation}: a bare repository has no files", operation=operation)
