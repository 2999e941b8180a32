"""What git itself says of a repository: the oracle that the adapters are held against."""

from __future__ import annotations

import os
from typing import Final

from arboretum.backends.base import GitBackend
from arboretum.bootstrap import backend_factory
from arboretum.testing.builders import RepositoryBuilder

#: The adapters over real git repositories, by name.
ADAPTERS: Final = ("cli", "gitpython", "pygit2")


def opened(name: str, path: str) -> GitBackend:
    """The repository at `path`, opened by the adapter `name`."""
    return backend_factory(name).open(path)


def fingerprint(real: RepositoryBuilder) -> dict[str, object]:
    """All that git can tell of a repository and its worktrees; equal before and after when nothing changed."""
    found: dict[str, object] = {
        "refs": real.git("for-each-ref", "--format=%(refname) %(objectname) %(symref)"),
        "stashes": real.git("stash", "list", "--format=%H %gs"),
        "worktrees": real.git("worktree", "list", "--porcelain"),
        "config": real.git("config", "--local", "--list"),
    }
    for line in str(found["worktrees"]).splitlines():
        path = line.removeprefix("worktree ")
        if path == line or not os.path.isdir(path) or path == real.git_dir:
            continue
        found[path] = (
            real.git("status", "--porcelain=v2", "--branch", "-z", "-uall", "--ignored", cwd=path),
            real.git("ls-files", "-s", "-z", cwd=path),
            files_below(path),
        )
    return found


def files_below(root: str) -> dict[str, object]:
    """The content of every file below a folder, its ``.git`` apart."""
    found: dict[str, object] = {}
    for folder, names, files in os.walk(root):
        if ".git" in names:
            names.remove(".git")
        for name in files:
            path = os.path.join(folder, name)
            if name == ".git":
                continue
            if os.path.islink(path):
                found[os.path.relpath(path, root)] = os.readlink(path)
            else:
                with open(path, "rb") as file:
                    found[os.path.relpath(path, root)] = (file.read(), os.access(path, os.X_OK))
    return found


def status_of(real: RepositoryBuilder, worktree: str | None = None, *options: str) -> set[tuple[str, str]]:
    """The status of git as (XY, path), untracked files one by one, without renames."""
    text = real.git("status", "--porcelain=v1", "-z", "-uall", "--no-renames", *options, cwd=worktree)
    return {(item[:2], item[3:]) for item in text.split("\0") if item}
