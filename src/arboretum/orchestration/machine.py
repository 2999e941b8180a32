"""What there is to work with: free cores, memory, disk, and the worktrees that exist already."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Final

import psutil
from attrs import frozen

from arboretum.errors import GitOperationError
from arboretum.orchestration.scheduling import Limits
from arboretum.values import FileMode, Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository

#: Part of the free memory and disk space that is left alone.
_RESERVE: Final = 0.1


@frozen(kw_only=True)
class ExistingWorktree:
    """A worktree that somebody may be working in.

    Args:
        path: Where it is.
        branch: The branch it is on; None when detached.
        changes: The paths in which it differs from the base, committed or not.
        in_use: Whether a process of this machine stands in it right now.
    """

    path: str
    branch: str | None
    changes: tuple[str, ...] = ()
    in_use: bool = False

    def __str__(self) -> str:
        return f"{self.path} ({self.branch or 'detached'})"


def get_existing_worktrees(repository: Repository, base: Oid, *, but: str = "") -> tuple[ExistingWorktree, ...]:
    """The linked worktrees of `repository`, with what is being changed in them.

    Args:
        repository: The repository.
        base: What their work is compared with.
        but: Worktrees below this folder (the pool's own) are left out.
    """
    found = []
    folders = _working_directories()
    for info in repository.worktrees.infos():
        inside = bool(but) and os.path.realpath(info.path).startswith(os.path.realpath(but) + os.sep)
        if info.is_main or info.bare or info.prunable is not None or info.head is None or inside:
            continue
        real = os.path.realpath(info.path)
        found.append(
            ExistingWorktree(
                path=info.path,
                branch=info.branch.short if info.branch is not None else None,
                changes=_changes(repository, info.path, info.head, base),
                in_use=any(folder == real or folder.startswith(real + os.sep) for folder in folders),
            )
        )
    return tuple(found)


def _changes(repository: Repository, path: str, head: Oid, base: Oid) -> tuple[str, ...]:
    changed: set[str] = set()
    with contextlib.suppress(GitOperationError):
        fork = repository.backend.merge_base(base, head)
        if fork is not None and fork != head:
            changed.update(entry.path for entry in repository.backend.diff_trees(fork, head, renames=False))
        changed.update(entry.path for entry in repository.backend.status(path))
    return tuple(sorted(changed))


def _working_directories() -> set[str]:
    folders = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            folders.add(process.cwd())
    return folders


def machine_limits(
    repository: Repository,
    base: Oid,
    *,
    jobs: int | None = None,
    worktrees: tuple[ExistingWorktree, ...] = (),
    folder: str,
) -> Limits:
    """What may be used at once on this machine.

    Args:
        repository: The repository.
        base: The commit whose files a worktree will hold.
        jobs: How many tasks run at once, if the user says so.
        worktrees: Worktrees that exist; one that a process stands in counts as a busy core.
        folder: Where worktrees will be made.
    """
    cores = _cores()
    busy = sum(worktree.in_use for worktree in worktrees)
    reasons = [f"{cores} cores" + (f", {busy} of them for worktrees in use" if busy else "")]
    slots = jobs if jobs is not None else max(1, cores - busy)
    if jobs is not None:
        reasons.append(f"{jobs} jobs asked for")
    size = tree_size(repository, base)
    room = int(shutil.disk_usage(_existing(folder)).free * (1 - _RESERVE) // max(1, size))
    if room < slots:
        slots = max(1, room)
        reasons.append(f"disk space for {room} worktrees of {size / 2**20:.1f} MiB")
    memory = int(psutil.virtual_memory().available * (1 - _RESERVE))
    reasons.append(f"{memory / 2**30:.1f} GiB of free memory")
    return Limits(slots=slots, cpus=float(max(cores, slots)), memory=memory, reasons=tuple(reasons))


def _cores() -> int:
    with contextlib.suppress(AttributeError, OSError):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _existing(folder: str) -> str:
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return folder


def tree_size(repository: Repository, commit: Oid) -> int:
    """About how many bytes the files of `commit` take: by the worktree that is open, else 4 KiB for each file."""
    total, root = 0, repository.backend.worktree_path
    for entry in repository.backend.read_tree(commit):
        if entry.mode != FileMode.SUBMODULE:
            size = 4096
            if root is not None:
                with contextlib.suppress(OSError):
                    size = os.lstat(os.path.join(root, entry.path)).st_size
            total += max(size, 4096)
    return total


def measure_overhead(repository: Repository, base: Oid) -> float:
    """Seconds that it takes to make a worktree at `base`, look at it and remove it: what each task costs extra."""
    begun = time.monotonic()
    with repository.worktrees.temporary(base, detach=True) as tree:
        tree.status()
    return time.monotonic() - begun
