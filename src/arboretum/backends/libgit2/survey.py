"""The status of a worktree through libgit2, told as git tells it."""

from __future__ import annotations

import os
from typing import Final

import pygit2
from pygit2.enums import FileMode as NativeMode
from pygit2.enums import FileStatus

from arboretum.backends.libgit2.native import is_intended
from arboretum.backends.libgit2.objects import diff_entries
from arboretum.backends.libgit2.staging import conflicts_of, fresh_index
from arboretum.values import ChangeKind, StatusEntry

_STAGED: Final = {
    FileStatus.INDEX_NEW: ChangeKind.ADDED,
    FileStatus.INDEX_MODIFIED: ChangeKind.MODIFIED,
    FileStatus.INDEX_DELETED: ChangeKind.DELETED,
    FileStatus.INDEX_TYPECHANGE: ChangeKind.TYPE_CHANGED,
}
_UNSTAGED: Final = {
    FileStatus.WT_MODIFIED: ChangeKind.MODIFIED,
    FileStatus.WT_DELETED: ChangeKind.DELETED,
    FileStatus.WT_TYPECHANGE: ChangeKind.TYPE_CHANGED,
}
# Which of base, ours and theirs there is of an unmerged path, and the two letters that git gives it (git-status(1)).
_UNMERGED: Final = {
    (True, False, False): "DD",
    (False, True, False): "AU",
    (True, True, False): "UD",
    (False, False, True): "UA",
    (True, False, True): "DU",
    (False, True, True): "AA",
    (True, True, True): "UU",
}


def survey(repository: pygit2.Repository, *, untracked: bool, ignored: bool, renames: bool) -> tuple[StatusEntry, ...]:
    """What differs between HEAD, the index and the files of the worktree, sorted by path."""
    index = fresh_index(repository)
    flags = repository.status(untracked_files="all" if untracked else "no", ignored=ignored)
    conflicts = conflicts_of(index)
    found: dict[str, list[StatusEntry]] = {}
    for path, flag in flags.items():
        if path not in conflicts:
            found[path] = _entries(index, path, flag)
    for path, sides in conflicts.items():
        letters = _UNMERGED[sides]
        found[path] = [StatusEntry(path, ChangeKind(letters[0]), ChangeKind(letters[1]))]
    if renames:
        _pair(repository, index, found)
    entries = [entry for several in found.values() for entry in several]
    # git lists what is tracked first, then what is not; the port sorts by path alone.
    return tuple(sorted(entries, key=lambda entry: os.fsencode(entry.path)))


def _entries(index: pygit2.Index, path: str, flag: int) -> list[StatusEntry]:
    if flag & FileStatus.IGNORED:
        return [StatusEntry(path, ChangeKind.IGNORED, ChangeKind.IGNORED)]
    found = []
    staged = next((kind for bit, kind in _STAGED.items() if flag & bit), ChangeKind.UNMODIFIED)
    unstaged = next((kind for bit, kind in _UNSTAGED.items() if flag & bit), ChangeKind.UNMODIFIED)
    if staged is ChangeKind.ADDED and is_intended(index, path):
        staged = ChangeKind.UNMODIFIED
        unstaged = unstaged if unstaged is ChangeKind.DELETED else ChangeKind.ADDED
    if (staged, unstaged) != (ChangeKind.UNMODIFIED, ChangeKind.UNMODIFIED):
        found.append(StatusEntry(path, staged, unstaged, submodule=_is_submodule(index, path)))
    if flag & FileStatus.WT_NEW:
        found.append(StatusEntry(path, ChangeKind.UNTRACKED, ChangeKind.UNTRACKED))
    return found


def _is_submodule(index: pygit2.Index, path: str) -> bool:
    return path in index and index[path].mode == NativeMode.COMMIT


def _pair(repository: pygit2.Repository, index: pygit2.Index, found: dict[str, list[StatusEntry]]) -> None:
    """Turn a deleted and an added path of the index into a renamed one where they are alike."""
    if repository.head_is_unborn:
        return
    tree = repository.head.peel(pygit2.Tree)
    for entry in diff_entries(repository, tree.diff_to_index(index), renames=True):
        if entry.kind is not ChangeKind.RENAMED or entry.old_path is None or entry.path not in found:
            continue
        new = next(e for e in found[entry.path] if e.index is ChangeKind.ADDED)
        renamed = StatusEntry(entry.path, ChangeKind.RENAMED, new.worktree, entry.old_path, new.submodule)
        found[entry.path] = [renamed, *(e for e in found[entry.path] if e is not new)]
        found[entry.old_path] = [e for e in found[entry.old_path] if e.index is not ChangeKind.DELETED]
