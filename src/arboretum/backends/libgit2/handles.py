"""Handles of libgit2: one per thread and process and worktree, never shared.

A `pygit2.Repository` that two threads use at once aborts the process, or corrupts the index. So each
thread opens its own, keyed by the process as well: after a fork the child does not touch what the
parent opened. Handles of a thread go when the thread ends.
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from typing import Final

import pygit2
from attrs import define, field, frozen
from pygit2.enums import RepositoryOpenFlag

from arboretum.backends.libgit2.configuration import follow_environment
from arboretum.backends.libgit2.faults import translate
from arboretum.backends.ref_files import RefFiles
from arboretum.errors import GitOperationError, RepositoryNotFoundError, WorktreeNotFoundError

#: How many worktrees' handles a thread keeps open; a handle costs a descriptor and some memory.
_KEPT: Final = 16


@frozen
class Layout:
    """Where a repository lies.

    Args:
        git_dir: The git directory of the worktree at hand.
        common_dir: The git directory that all worktrees share.
        worktree: The worktree; None where there are no files.
    """

    git_dir: str
    common_dir: str
    worktree: str | None

    @property
    def is_linked(self) -> bool:
        """Whether the worktree at hand is a linked one."""
        return self.git_dir != self.common_dir


def open_repository(path: str) -> tuple[pygit2.Repository, Layout]:
    """Open exactly `path`, a worktree or git directory, with the environment's configuration; and where it lies.

    Raises:
        RepositoryNotFoundError, UnsafeRepositoryError, UnsupportedOperationError: See the port.
    """
    follow_environment()
    try:
        repository = pygit2.Repository(path, RepositoryOpenFlag.NO_SEARCH)
        # libgit2 has followed the links in `path`: where there were none it is a real path.
        real = path if repository.path == f"{path}/.git/" else os.path.realpath(path)
        # A worktree that was moved by hand: libgit2 would work at the place in its record, which may be
        # somebody else's by now. Git works where the files are, and so do we.
        worktree = _real(repository.workdir, real)
        if worktree != real and os.path.isfile(os.path.join(real, ".git")):
            repository.workdir = worktree = real
        return repository, _layout(_real(repository.path, real) or real, worktree)
    except (pygit2.GitError, OSError, ValueError, KeyError) as error:
        raise translate(error, "open", subject=path) from error


def _real(path: str | None, known: str) -> str | None:
    """The real path of a folder, which is often `known`, a real path, or a folder in that: then one look will do."""
    if path is None:
        return None
    path = path.rstrip("/") or "/"
    if path == known or (os.path.dirname(path) == known and not os.path.islink(path)):
        return path
    return os.path.realpath(path)


def _layout(git_dir: str, worktree: str | None) -> Layout:
    common, link = git_dir, os.path.join(git_dir, "commondir")
    if os.path.lexists(link):
        with open(link, "rb") as file:
            common = os.path.realpath(os.path.join(git_dir, os.fsdecode(file.read().rstrip(b"\n"))))
    return Layout(git_dir, common, worktree)


_Stamp = tuple[int, int, int] | None


@frozen
class _Handle:
    """A handle, and what the files looked like that say whether it is still true.

    libgit2 decides when it opens a repository which files of configuration there are; a repository that
    was changed since (extensions.worktreeConfig, a sparse checkout) is opened anew.
    """

    repository: pygit2.Repository
    watched: tuple[tuple[str, _Stamp], ...]

    @classmethod
    def of(cls, repository: pygit2.Repository, layout: Layout) -> _Handle:
        """The handle as it is now."""
        watched = [os.path.join(layout.common_dir, "config")]
        if layout.is_linked and repository.workdir is not None:
            # Written once: another file means another worktree at the same place, or under the same name.
            watched += [os.path.join(repository.workdir, ".git"), os.path.join(repository.path, "commondir")]
        return cls(repository, tuple((path, _stamp(path)) for path in watched))

    def is_current(self) -> bool:
        """Whether its worktree is still there, with the configuration that it was opened with.

        Each file is in one of the folders that must still be there; where one is missing, nothing is certain.
        """
        for path, stamp in self.watched:
            try:
                found = os.stat(path)
            except OSError:
                return False
            if (found.st_ino, found.st_mtime_ns, found.st_size) != stamp:
                return False
        return True


def _stamp(path: str) -> _Stamp:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


class _ThreadState(threading.local):
    """What one thread holds; made anew in each thread that looks at it."""

    def __init__(self) -> None:
        self.owner = (0, 0)
        self.open: OrderedDict[str, _Handle] = OrderedDict()


@define(eq=False)
class Handles:
    """The handles of one backend.

    Args:
        path: The worktree or git directory that was opened.
        layout: Where it lies.
    """

    path: str
    layout: Layout
    #: Libgit2 keeps refs in files only; to list them is quicker from there, and opens no object for each.
    refs: RefFiles = field(init=False, repr=False)
    asides: dict[str, str] = field(factory=dict, init=False, repr=False)
    _generation: int = field(default=0, init=False)
    _state: _ThreadState = field(factory=_ThreadState, init=False, repr=False)

    @refs.default
    def _refs_of_layout(self) -> RefFiles:
        return RefFiles(self.layout.common_dir)

    @classmethod
    def open(cls, path: str) -> Handles:
        """Open exactly `path`."""
        repository, layout = open_repository(path)
        handles = cls(path, layout)
        handles._mine()[handles.path] = _Handle.of(repository, layout)
        return handles

    def main(self) -> pygit2.Repository:
        """The handle of the worktree or git directory that was opened, for this thread."""
        return self._get(self.path)

    def at(self, worktree: str | None) -> pygit2.Repository:
        """The handle of `worktree` (None: what was opened), for this thread.

        Raises:
            WorktreeNotFoundError: It is not a worktree of this repository.
        """
        if worktree is None or worktree in (self.path, self.layout.worktree):
            return self._get(self.path)
        return self._get(worktree)

    def unchecked(self, worktree: str) -> pygit2.Repository | None:
        """The handle of the main worktree, when it is `worktree` and this thread has one: to read HEAD with.

        That libgit2 reads from its file each time, by the path that the worktree still has; where there is none any
        more it fails, and `at` says why. So the look at the configuration, a quarter of the whole, can be spared.
        """
        layout = self.layout
        if worktree != layout.worktree or layout.git_dir != layout.common_dir:
            return None
        found = self._mine().get(self.path)
        return found.repository if found is not None else None

    def close(self) -> None:
        """Let go of this thread's handles; those of other threads go when they next look or end."""
        self._generation += 1
        self._mine()

    def _get(self, path: str) -> pygit2.Repository:
        mine = self._mine()
        found = mine.get(path)
        if found is not None and found.is_current():
            if len(mine) > 1:
                mine.move_to_end(path)
            return found.repository
        opened = mine[path] = self._open_member(path)
        while len(mine) > _KEPT:
            mine.popitem(last=False)
        return opened.repository

    def _open_member(self, path: str) -> _Handle:
        if path in self.asides:  # its own link does not lead to its record, but that leads to it
            return _Handle.of(*open_repository(self.asides[path]))
        try:
            repository, layout = open_repository(path)
        except RepositoryNotFoundError as error:
            if path == self.path:
                raise
            raise WorktreeNotFoundError(f"{path} is not a worktree of this repository", operation="open") from error
        if layout.common_dir != self.layout.common_dir or (path != self.path and layout.worktree is None):
            raise WorktreeNotFoundError(
                f"{path} is not a worktree of this repository: it belongs to {layout.common_dir}", operation="open"
            )
        return _Handle.of(repository, layout)

    def _mine(self) -> OrderedDict[str, _Handle]:
        owner = (os.getpid(), self._generation)
        if self._state.owner != owner:
            self._state.owner = owner
            self._state.open = OrderedDict()
        return self._state.open


def files_of(repository: pygit2.Repository) -> str:
    """The folder of the worktree of `repository`. Raises GitOperationError for a bare one."""
    if repository.workdir is None:
        raise GitOperationError("a bare repository has no files to work on")
    return repository.workdir.rstrip("/")
