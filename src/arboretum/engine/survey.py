"""What git does not look at in a slot: folders without files, and rights that a trial has taken away or given."""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Collection, Mapping

from attrs import define, field, frozen

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


def survey(root: str, ignored: Collection[str], recorded: Mapping[str, int] | None = None) -> Survey:
    """Look at everything below `root` but ``.git`` and ignored paths.

    Args:
        root: The folder of a worktree.
        ignored: Paths below it that are not looked at; those of folders end with ``/``.
        recorded: When each tracked file was last changed by the index, in nanoseconds since the epoch (see
            `recorded_changes`); None where all tracked files are proven, and only folders are looked at.
    """
    surveyor = _Surveyor(frozenset(os.path.join(root, path) for path in ignored), recorded)
    pending = [root]
    while pending:
        pending += surveyor.look_into(pending.pop())
    return surveyor.found()


@define(eq=False)
class _Surveyor:
    """Takes down what is odd, folder by folder; a method for each kind of entry."""

    _skipped: frozenset[str]
    _recorded: Mapping[str, int] | None
    _empty: bool = False
    _odd_files: list[str] = field(factory=list)
    _odd_folders: list[str] = field(factory=list)
    _changed: list[str] = field(factory=list)

    def look_into(self, folder: str) -> list[str]:
        """Look at the entries of a folder; those that are folders themselves are handed back, to be looked into."""
        try:
            entries = list(os.scandir(folder))
        except PermissionError:
            self._odd_folders.append(folder)
            return []
        self._empty = self._empty or not entries
        deeper = []
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if self._takes_in_folder(entry):
                    deeper.append(entry.path)
            elif entry.is_file(follow_symlinks=False) or entry.is_symlink():
                if self._recorded is not None and entry.path not in self._skipped:
                    self._take_in_file(entry, self._recorded)
            elif entry.path not in self._skipped:
                self._odd_files.append(entry.path)
        return deeper

    def _takes_in_folder(self, entry: os.DirEntry[str]) -> bool:
        path = entry.path
        if path in self._skipped or f"{path}/" in self._skipped:
            return False
        if is_odd_folder(entry.stat(follow_symlinks=False).st_mode):
            self._odd_folders.append(path)
        return True

    def _take_in_file(self, entry: os.DirEntry[str], recorded: Mapping[str, int]) -> None:
        path, found = entry.path, entry.stat(follow_symlinks=False)
        if recorded.get(path, found.st_ctime_ns) != found.st_ctime_ns:
            self._changed.append(path)
        if is_odd_file(found.st_mode) and entry.name != ".git" and not entry.is_symlink():
            self._odd_files.append(path)

    def found(self) -> Survey:
        """What has been taken down."""
        return Survey(self._empty, tuple(self._odd_files), tuple(self._odd_folders), tuple(self._changed))


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
