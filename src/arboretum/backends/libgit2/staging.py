"""The index through libgit2: always read fresh, and written only over what was read.

libgit2 keeps the index that it read in memory. Writing that copy later would silently drop what
another program staged meanwhile; so each use reads the file again, and a change is made once more
when the file was replaced under it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import pygit2
from pygit2.enums import FileStatus

from arboretum.backends.libgit2.configuration import Settings
from arboretum.backends.libgit2.gate import refuse_filters, refuse_sparse
from arboretum.backends.libgit2.handles import files_of
from arboretum.backends.libgit2.native import is_intended
from arboretum.errors import ConflictError, GitOperationError, RepositoryBusyError
from arboretum.values import parse_tree_path

_T = TypeVar("_T")
_TRIES: Final = 20
UNSTAGED: Final = FileStatus.WT_NEW | FileStatus.WT_MODIFIED | FileStatus.WT_DELETED | FileStatus.WT_TYPECHANGE


def fresh_index(repository: pygit2.Repository) -> pygit2.Index:
    """The index as it is on disk now.

    libgit2 parses it again when the checksum at its end is another one than before (`git_index_read`), which no change
    within one tick of the clock escapes; but of a file that is gone it keeps what it read.
    """
    index: pygit2.Index = repository.index
    index.read(not os.path.exists(_file(repository)))
    return index


def _file(repository: pygit2.Repository) -> str:
    return os.path.join(repository.path, "index")


def _stamp(repository: pygit2.Repository) -> tuple[int, int, int] | None:
    try:
        found = os.stat(_file(repository))
    except FileNotFoundError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


@contextlib.contextmanager
def forgotten_on_failure(repository: pygit2.Repository) -> Iterator[None]:
    """Let libgit2 not keep an index that was changed in memory by something that then failed."""
    try:
        yield
    except BaseException:
        repository.index.read(True)
        raise


def edit_index(repository: pygit2.Repository, edit: Callable[[pygit2.Index], _T], *, make_empty: bool = True) -> _T:
    """Read the index, let `edit` change it, write it; again from the start if somebody else wrote it meanwhile.

    Args:
        repository: The handle of the worktree.
        edit: Changes the index; what it returns is handed on.
        make_empty: Whether an index without entries is written where there was none.

    Raises:
        RepositoryBusyError: Others keep writing it, or hold its lock.
    """
    for _ in range(_TRIES):
        before = _stamp(repository)
        index = fresh_index(repository)
        with forgotten_on_failure(repository):
            result = edit(index)
            if _stamp(repository) == before:
                if make_empty or len(index) or os.path.exists(_file(repository)):
                    index.write()
                return result
        index.read(True)
    raise RepositoryBusyError("the index keeps being changed by another program", hint="try again")


def refuse_conflicts(index: pygit2.Index, operation: str) -> None:
    """Raise ConflictError when paths are unmerged."""
    paths = sorted(conflicts_of(index), key=os.fsencode)
    if paths:
        raise ConflictError(
            f"{operation}: these paths are unmerged: {', '.join(paths)}",
            paths=paths,
            operation=operation,
            hint="resolve the conflicts and stage the result, or reset",
        )


def conflicts_of(index: pygit2.Index) -> dict[str, tuple[bool, bool, bool]]:
    """The unmerged paths, and which of base, ours and theirs there is of each."""
    found: dict[str, tuple[bool, bool, bool]] = {}
    if index.conflicts is None:
        return found
    for sides in index.conflicts:
        path = next(side.path for side in sides if side is not None)
        base, ours, theirs = (side is not None for side in sides)
        known = found.get(path, (False, False, False))
        found[path] = (base or known[0], ours or known[1], theirs or known[2])
    return found


def staged_tree(repository: pygit2.Repository, index: pygit2.Index) -> pygit2.Oid:
    """Store the tree that the index stands for, without entries that are only intended, as git does."""
    if not _may_have_flags(repository):
        return index.write_tree()
    copy = pygit2.Index()
    for entry in index:
        if not is_intended(index, entry.path):
            copy.add(entry)
    return copy.write_tree(repository)


def _may_have_flags(repository: pygit2.Repository) -> bool:
    """Whether the index file has a version (3 or later) that can hold extended flags."""
    try:
        with open(_file(repository), "rb") as file:
            return int.from_bytes(file.read(8)[4:8], "big") >= 3
    except FileNotFoundError:
        return False


def is_ignored(repository: pygit2.Repository, path: str) -> bool:
    """Whether git is told to ignore `path`; a folder is written ``name/``."""
    try:
        return repository.path_is_ignored(path)
    except UnicodeEncodeError:  # pygit2 takes only UTF-8 here; a status knows every name
        flags = repository.status(ignored=True)
        names = [path, *(f"{parent}/" for parent in parents_of(path.rstrip("/")))]
        return any(flags.get(name, 0) & FileStatus.IGNORED for name in names)


def parents_of(path: str) -> Iterator[str]:
    """The folders that `path` lies in, the innermost first."""
    while path := os.path.dirname(path):
        yield path


def blob_of_file(repository: pygit2.Repository, path: str) -> pygit2.Oid:
    """Store the file at `path` as git would store it, line ends converted; of a link, where it leads."""
    full = os.path.join(files_of(repository), path)
    if os.path.islink(full):
        return repository.create_blob(os.fsencode(os.readlink(full)))
    try:
        return repository.create_blob_fromworkdir(path)
    except UnicodeError:  # pygit2 takes only UTF-8 here; the index takes every name
        index = repository.index
        index.add(path)
        found: pygit2.Oid = index[path].id
        index.read(True)  # forget the entry again; nothing was written
        return found


def stage_paths(repository: pygit2.Repository, common_dir: str, paths: Sequence[str]) -> None:
    """Take the files at `paths` into the index as they are, deletions too."""
    settings = Settings.of(repository)
    refuse_sparse(settings, "stage")
    refuse_filters(settings, common_dir, "stage")
    root = files_of(repository)
    for path in paths:
        if path not in {"", "."}:
            parse_tree_path(path.rstrip("/"))

    def edit(index: pygit2.Index) -> None:
        for path in dict.fromkeys(paths):
            _stage(repository, index, root, path.rstrip("/"))

    edit_index(repository, edit, make_empty=False)  # where there is no index, a checkout writes all files


def _stage(repository: pygit2.Repository, index: pygit2.Index, root: str, path: str) -> None:
    whole = path in {"", "."}
    full = os.path.join(root, path)
    if not whole and _is_plain_file(full) and not below_link(root, path):
        if path not in index and is_ignored(repository, path):
            raise GitOperationError(f"{path} is ignored by a .gitignore", hint="stage it with git add --force")
        index.add(path)
        return
    found = list(_changes_below(repository, "" if whole else path))
    for changed, gone in found:
        _take(index, changed, gone=gone)
    if not found and not whole and not _knows(index, path) and not _is_clean_folder(root, path):
        raise GitOperationError(f"{path} matches no file that is there or tracked")


def _take(index: pygit2.Index, path: str, *, gone: bool) -> None:
    if not gone:
        index.add(path)
        return
    if index.conflicts is not None and path in index.conflicts:
        del index.conflicts[path]
    if path in index:
        index.remove(path)


def _changes_below(repository: pygit2.Repository, path: str) -> Iterator[tuple[str, bool]]:
    """The changed paths at or below `path` ("" for all), and whether each is gone; what is gone first."""
    found = []
    for changed, flags in repository.status().items():
        if path and changed != path and not changed.startswith(f"{path}/"):
            continue
        if flags & (UNSTAGED | FileStatus.CONFLICTED):
            name = changed.rstrip("/")
            found.append((name, _is_gone(os.path.join(files_of(repository), name))))
    return iter(sorted(found, key=lambda item: not item[1]))


def _is_gone(path: str) -> bool:
    """Whether there is no file (or repository of its own) at `path`; a plain folder may have taken its place."""
    if os.path.islink(path) or not os.path.isdir(path):
        return not os.path.lexists(path)
    return not os.path.lexists(os.path.join(path, ".git"))


def _knows(index: pygit2.Index, path: str) -> bool:
    if path in index or (index.conflicts is not None and path in index.conflicts):
        return True
    return any(entry.path.startswith(f"{path}/") for entry in index)


def _is_plain_file(path: str) -> bool:
    return os.path.islink(path) or os.path.isfile(path)


def _is_clean_folder(root: str, path: str) -> bool:
    return os.path.isdir(os.path.join(root, path)) and not below_link(root, path)


def below_link(root: str, path: str) -> bool:
    """Whether a folder on the way to `path` is a symbolic link: what lies behind it is not in the worktree."""
    return any(os.path.islink(os.path.join(root, parent)) for parent in parents_of(path))
