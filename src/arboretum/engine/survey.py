"""What git does not look at in a slot: folders without files, and rights that a trial has taken away or given."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection

from attrs import frozen

#: Bits that no file or folder of a checkout has: set-user-id, set-group-id, sticky.
_SPECIAL = stat.S_ISUID | stat.S_ISVTX
_OPEN_FILE = stat.S_IRUSR | stat.S_IWUSR
#: What is looked at in a mode, and what it is for a plain file with nothing odd about it.
_LOOKED_AT = 0o170000 | _SPECIAL | _OPEN_FILE
_PLAIN = stat.S_IFREG | _OPEN_FILE
_NEVER = (0, 0)


@frozen
class Survey:
    """What was found.

    Args:
        empty: Whether there is a folder without any entry.
        odd_files: Files that we cannot read and write, or that have special rights.
        odd_folders: Folders that we cannot read, enter and change, or that have special rights.
        changed: Files that were changed, in whatever way, after the index was written, and that the reset has not
            written since. Git may compare whole seconds only, and would miss a change in the second of the file's own
            time of change after which the old time of modification was set again.
    """

    empty: bool = False
    odd_files: tuple[str, ...] = ()
    odd_folders: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()


def survey(  # noqa: C901  # one flat pass over all files, before each trial
    root: str, ignored: Collection[str], between: tuple[int, int] = _NEVER
) -> Survey:
    """Look at everything below `root` but ``.git`` and ignored paths.

    Args:
        root: The folder of a worktree.
        ignored: Paths below it that are not looked at; those of folders end with ``/``.
        between: When the index was last proven and when the reset began, in nanoseconds since the epoch.
    """
    skipped = {os.path.join(root, path) for path in ignored}
    empty, odd_files, odd_folders, changed = False, [], [], []
    pending = [(root, between)]
    while pending:
        folder, (since, until) = pending.pop()
        try:
            entries = list(os.scandir(folder))
        except PermissionError:
            odd_folders.append(folder)
            continue
        empty = empty or not entries
        if folder is not root and any(entry.name == ".git" for entry in entries):
            since, until = _NEVER  # a submodule: its files have an index of their own
        for entry in entries:
            found = entry.stat(follow_symlinks=False)
            mode = found.st_mode
            if mode & _LOOKED_AT == _PLAIN and not since < found.st_ctime_ns < until:
                continue  # nearly all are; this is done for each file before each trial
            path = entry.path
            if path in skipped or stat.S_ISLNK(mode):
                continue
            if stat.S_ISDIR(mode):
                if f"{path}/" in skipped:
                    continue
                if mode & stat.S_IRWXU != stat.S_IRWXU or mode & _SPECIAL:
                    odd_folders.append(path)
                pending.append((path, (since, until)))
                continue
            if since < found.st_ctime_ns < until:
                changed.append(path)
            if (mode & _OPEN_FILE != _OPEN_FILE or mode & _SPECIAL) and entry.name != ".git":
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
