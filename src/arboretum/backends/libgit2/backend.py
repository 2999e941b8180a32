"""The backend over libgit2 (pygit2): no git executable is needed for anything that it does."""

from __future__ import annotations

import os
from typing import ClassVar, Self

import pygit2

from arboretum.backends.admin_files import read_link
from arboretum.backends.base import Capability
from arboretum.backends.libgit2 import gate
from arboretum.backends.libgit2.configuration import follow_environment
from arboretum.backends.libgit2.faults import translated
from arboretum.backends.libgit2.handles import Handles
from arboretum.backends.libgit2.network import Network, clone_into
from arboretum.backends.libgit2.refs import Refs
from arboretum.backends.libgit2.stash import Stashes
from arboretum.errors import PathOccupiedError, RepositoryNotFoundError
from arboretum.values import RefName


class Pygit2Backend(Stashes, Refs, Network):
    """One repository, opened by libgit2.

    May be used from several threads and after a fork: each thread of each process has handles of its
    own. libgit2 lets no other thread of Python run while it works on a status, a reset or a comparison.
    """

    name: ClassVar[str] = "pygit2"

    @classmethod
    def open(cls, path: str) -> Self:
        """Open exactly `path`; see the port."""
        if not os.path.lexists(path):
            raise RepositoryNotFoundError(f"there is no git repository at {path}: the path does not exist")
        return cls(Handles.open(os.path.abspath(path)))

    @classmethod
    def discover(cls, path: str) -> Self:
        """Open the repository that `path` lies in; see the port."""
        follow_environment()
        with translated("discover", subject=path, otherwise=RepositoryNotFoundError):
            found = pygit2.discover_repository(
                os.path.abspath(path), False, os.environ.get("GIT_CEILING_DIRECTORIES", "")
            )
        if found is None:
            raise RepositoryNotFoundError(
                f"{path} lies in no git repository", hint="name a folder of one, or make one: git init"
            )
        return cls(Handles.open(_worktree_around(os.path.abspath(path), found) or found.rstrip("/")))

    @classmethod
    def init(cls, path: str, *, bare: bool = False, initial_branch: str = "main") -> Self:
        """Make an empty repository; see the port."""
        branch = RefName.branch(initial_branch)
        if os.path.lexists(os.path.join(path, ".git")) or os.path.lexists(os.path.join(path, "HEAD")):
            raise PathOccupiedError(f"there is a git repository at {path} already", operation="init")
        follow_environment()
        with translated("init", subject=path):
            pygit2.init_repository(path, bare, initial_head=branch.short)
        return cls.open(path)

    @classmethod
    def clone(cls, url: str, path: str, *, bare: bool = False) -> Self:
        """Clone; see the port."""
        clone_into(url, path, bare=bare)
        return cls.open(path)

    @property
    def git_dir(self) -> str:
        """See the port."""
        return self.handles.layout.git_dir

    @property
    def common_dir(self) -> str:
        """See the port."""
        return self.handles.layout.common_dir

    @property
    def worktree_path(self) -> str | None:
        """See the port."""
        return self.handles.layout.worktree

    @property
    def sha256(self) -> bool:
        """See the port: libgit2 opens no such repository."""
        return False

    def capabilities(self) -> frozenset[Capability]:
        """See the port."""
        return gate.CAPABILITIES

    def close(self) -> None:
        """See the port."""
        self.handles.close()


def _worktree_around(path: str, git_dir: str) -> str | None:
    """The folder around `path` whose ``.git`` is (or names) `git_dir`: a worktree, also one that was moved by hand."""
    while not os.path.lexists(os.path.join(path, ".git")):
        path, child = os.path.dirname(path), path
        if path == child:
            return None
    dot_git = os.path.join(path, ".git")
    target = dot_git if os.path.isdir(dot_git) else read_link(dot_git)
    return path if target and os.path.realpath(target) == os.path.realpath(git_dir) else None
