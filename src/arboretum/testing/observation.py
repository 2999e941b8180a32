"""Everything that can be seen of a repository through the port, as one value to compare."""

from __future__ import annotations

from typing import Any

from arboretum.backends.base import GitBackend
from arboretum.backends.memory import Disk, WorktreeFiles
from arboretum.backends.trees.snapshot import File


def observe(backend: GitBackend, disk: Disk, *, ignored: bool = True) -> dict[str, Any]:
    """What a repository shows.

    Args:
        backend: The backend that has it open.
        disk: Where the files of its worktrees are.
        ignored: Whether the status names ignored files too.

    Returns:
        Worktrees with locks and prunable ones, refs and stashes; of each worktree that is there HEAD, status
        and files with modes and links.
    """
    seen: dict[str, Any] = {
        "worktrees": backend.list_worktrees(),
        "refs": backend.list_refs(),
        "stashes": tuple((s.oid, s.message) for s in backend.stash_list()),
    }
    for info in seen["worktrees"]:
        if info.bare or not disk.is_folder(info.path):
            continue
        link = disk.read(f"{info.path}/.git")
        if not info.is_main and (link is None or not link.data.endswith(f"/{info.name}\n".encode())):
            continue  # lost, or another one took its place
        seen[f"head {info.path}"] = backend.head(info.path)
        seen[f"status {info.path}"] = backend.status(info.path, ignored=ignored)
        seen[f"files {info.path}"] = files_in(disk, info.path)
    return seen


def files_in(disk: Disk, worktree: str) -> dict[str, File]:
    """The files of a worktree with their modes, without git's own."""
    files = WorktreeFiles(disk, worktree)
    return {path: files.file(path) for path in files if "/.git/" not in f"/{path}" and not path.endswith("/.git")}
