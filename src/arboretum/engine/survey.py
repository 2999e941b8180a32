"""What git does not look at in a slot: folders without files, and rights that a trial has taken away or given."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Mapping

from attrs import frozen

#: Bits that no file or folder of a checkout has: set-user-id, set-group-id, sticky.
_SPECIAL = stat.S_ISUID | stat.S_ISVTX
_OPEN_FILE = stat.S_IRUSR | stat.S_IWUSR


@frozen
class Survey:
    """What was found.

    Args:
        empty: Whether there is a folder without any entry.
        odd_files: Files that we cannot read and write, or that have special rights; pipes, sockets and devices, which
            git does not see at all.
        odd_folders: Folders that we cannot read, enter and change, or that have special rights.
        changed: Tracked files whose time of change is not the one in the index. Git may compare whole seconds only,
            and would miss a change in that second after which the old time of modification was set again.
    """

    empty: bool = False
    odd_files: tuple[str, ...] = ()
    odd_folders: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def is_odd_file(mode: int) -> bool:
    """Whether we cannot read and write a file of this mode, or it has special rights."""
    return mode & _OPEN_FILE != _OPEN_FILE or bool(mode & _SPECIAL)


def is_odd_folder(mode: int) -> bool:
    """Whether we cannot read, enter and change a folder of this mode, or it has special rights."""
    return mode & stat.S_IRWXU != stat.S_IRWXU or bool(mode & _SPECIAL)


def survey(  # noqa: C901  # one flat pass over all files
    root: str, ignored: Collection[str], recorded: Mapping[str, int] | None = None
) -> Survey:
    """Look at everything below `root` but ``.git`` and ignored paths.

    Args:
        root: The folder of a worktree.
        ignored: Paths below it that are not looked at; those of folders end with ``/``.
        recorded: When each tracked file was last changed by the index, in nanoseconds since the epoch (see
            `recorded_changes`); None where all tracked files are proven, and only folders are looked at.
    """
    skipped = {os.path.join(root, path) for path in ignored}
    empty, odd_files, odd_folders, changed = False, [], [], []
    pending = [root]
    while pending:
        folder = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except PermissionError:
            odd_folders.append(folder)
            continue
        empty = empty or not entries
        for entry in entries:
            is_folder = entry.is_dir(follow_symlinks=False)
            is_special = not (is_folder or entry.is_file(follow_symlinks=False) or entry.is_symlink())
            if recorded is None and not is_folder and not is_special:
                continue
            path = entry.path
            if path in skipped or (is_folder and f"{path}/" in skipped):
                continue
            found = entry.stat(follow_symlinks=False)
            if is_folder:
                if is_odd_folder(found.st_mode):
                    odd_folders.append(path)
                pending.append(path)
            elif is_special:
                odd_files.append(path)
            elif recorded is not None:
                if recorded.get(path, found.st_ctime_ns) != found.st_ctime_ns:
                    changed.append(path)
                if is_odd_file(found.st_mode) and entry.name != ".git" and not entry.is_symlink():
                    odd_files.append(path)
    return Survey(empty, tuple(odd_files), tuple(odd_folders), tuple(changed))


def put_right(found: Survey) -> None:
    """Open the folders, and remove the files so that a reset writes them anew."""
    for path in found.odd_folders:
        with contextlib.suppress(OSError):
            os.chmod(path, stat.S_IMODE(os.lstat(path).st_mode) & ~_SPECIAL | stat.S_IRWXU)
    for path in (*found.odd_files, *found.changed):
        with contextlib.suppress(OSError):
            os.unlink(path)


def size_on_disk(root: str) -> int:
    """How many bytes everything below `root` takes; what cannot be looked at is left out."""
    total, pending = 0, [root]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                total += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return total
