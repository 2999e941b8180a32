"""Where the files of an in-memory repository's worktrees live: in memory too, or in real folders.

Everything that git itself keeps (objects, refs, indexes, records) is in memory either way. With a
`RealDisk` programs and commands find the files of a worktree under its path, as with any other
backend; a `MemoryDisk` touches nothing outside the process and is what property-based tests want.
"""

from __future__ import annotations

import os
import posixpath
import shutil
import stat
from collections.abc import Iterator, MutableMapping
from typing import Protocol

from attrs import define, field

from arboretum.backends.trees.snapshot import File, FileContent
from arboretum.errors import InvalidValueError
from arboretum.values import FileMode


class Disk(Protocol):
    """A file system, as far as worktrees need one. Paths are absolute; links are never followed."""

    def is_folder(self, path: str) -> bool:
        """Whether a folder (and no link to one) is there."""

    def is_file(self, path: str) -> bool:
        """Whether a file or a link is there."""

    def names(self, folder: str) -> list[str]:
        """What is in a folder, sorted by bytes; nothing when it is none."""

    def read(self, path: str) -> File | None:
        """The file or link; None when there is none."""

    def write(self, path: str, file: File) -> None:
        """Put a file there, with the folders above it; replaces a file or link."""

    def remove(self, path: str) -> None:
        """Remove a file, a link, or a folder with all below; nothing when there is none."""

    def remove_empty_folder(self, path: str) -> bool:
        """Remove a folder that has nothing in it; whether it did."""

    def make_folder(self, path: str) -> None:
        """Make a folder and those above it."""

    def move(self, old: str, new: str) -> None:
        """Move a file or folder; the folders above `new` are made."""

    def real_path(self, path: str) -> str:
        """The path without links and ``..``."""


Node = File | dict[str, "Node"]


@define(eq=False)
class MemoryDisk:
    """A file system in memory: folders are dictionaries."""

    _root: dict[str, Node] = field(factory=dict, init=False, repr=False)
    _forbidden: set[str] = field(factory=set, init=False)

    def forbid(self, path: str) -> None:
        """Let every change at or below `path` fail with PermissionError from now on."""
        self._forbidden.add(posixpath.normpath(path))

    def permit(self, path: str) -> None:
        """Take `forbid` back."""
        self._forbidden.discard(posixpath.normpath(path))

    def is_folder(self, path: str) -> bool:
        """See `Disk`."""
        return isinstance(self._node(path), dict)

    def is_file(self, path: str) -> bool:
        """See `Disk`."""
        return isinstance(self._node(path), File)

    def names(self, folder: str) -> list[str]:
        """See `Disk`."""
        node = self._node(folder)
        return sorted(node, key=os.fsencode) if isinstance(node, dict) else []

    def read(self, path: str) -> File | None:
        """See `Disk`."""
        node = self._node(path)
        return node if isinstance(node, File) else None

    def write(self, path: str, file: File) -> None:
        """See `Disk`."""
        folder, name = self._place(path)
        if isinstance(folder.get(name), dict):
            raise IsADirectoryError(path)
        folder[name] = file

    def remove(self, path: str) -> None:
        """See `Disk`."""
        if self._node(path) is not None:
            folder, name = self._place(path)
            del folder[name]

    def remove_empty_folder(self, path: str) -> bool:
        """See `Disk`."""
        if self._node(path) == {}:
            self.remove(path)
            return True
        return False

    def make_folder(self, path: str) -> None:
        """See `Disk`."""
        if not self.is_folder(path):
            folder, name = self._place(path)
            folder[name] = {}

    def move(self, old: str, new: str) -> None:
        """See `Disk`."""
        node = self._node(old)
        if node is None:
            raise FileNotFoundError(old)
        self.remove(old)
        folder, name = self._place(new)
        folder[name] = node

    def real_path(self, path: str) -> str:
        """See `Disk`."""
        return posixpath.normpath(path)

    def _node(self, path: str) -> Node | None:
        node: Node | None = self._root
        for part in _parts(path):
            node = node.get(part) if isinstance(node, dict) else None
        return node

    def _place(self, path: str) -> tuple[dict[str, Node], str]:
        """The folder that holds (or is to hold) `path`, made with those above it, and the name in it."""
        self._check(path)
        *above, name = _parts(path)
        folder = self._root
        for part in above:
            child = folder.setdefault(part, {})
            if isinstance(child, File):
                raise NotADirectoryError(path)
            folder = child
        return folder, name

    def _check(self, path: str) -> None:
        path = posixpath.normpath(path)
        if any(path == p or path.startswith(f"{p}/") for p in self._forbidden):
            raise PermissionError(13, "Permission denied", path)


def _parts(path: str) -> list[str]:
    return [part for part in posixpath.normpath(path).split("/") if part and part != "."]


@define(eq=False)
class RealDisk:
    """The machine's own file system."""

    def is_folder(self, path: str) -> bool:
        """See `Disk`."""
        return os.path.isdir(path) and not os.path.islink(path)

    def is_file(self, path: str) -> bool:
        """See `Disk`."""
        return os.path.lexists(path) and not self.is_folder(path)

    def names(self, folder: str) -> list[str]:
        """See `Disk`."""
        return sorted(os.listdir(folder), key=os.fsencode) if self.is_folder(folder) else []

    def read(self, path: str) -> File | None:
        """See `Disk`."""
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if stat.S_ISLNK(status.st_mode):
            return File(os.readlink(os.fsencode(path)), FileMode.SYMLINK)
        if not stat.S_ISREG(status.st_mode):
            return None
        with open(path, "rb") as file:
            return File(file.read(), FileMode.EXECUTABLE if status.st_mode & stat.S_IXUSR else FileMode.FILE)

    def write(self, path: str, file: File) -> None:
        """See `Disk`."""
        if self.is_file(path):
            os.unlink(path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if file.mode is FileMode.SYMLINK:
            os.symlink(file.data, os.fsencode(path))
            return
        with open(path, "wb") as handle:
            handle.write(file.data)
        if file.mode is FileMode.EXECUTABLE:
            mode = os.stat(path).st_mode
            os.chmod(path, mode | (mode & 0o444) >> 2)

    def remove(self, path: str) -> None:
        """See `Disk`."""
        if self.is_folder(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def remove_empty_folder(self, path: str) -> bool:
        """See `Disk`."""
        try:
            os.rmdir(path)
        except OSError:
            return False
        return True

    def make_folder(self, path: str) -> None:
        """See `Disk`."""
        os.makedirs(path, exist_ok=True)

    def move(self, old: str, new: str) -> None:
        """See `Disk`."""
        os.makedirs(os.path.dirname(new), exist_ok=True)
        shutil.move(old, new)

    def real_path(self, path: str) -> str:
        """See `Disk`."""
        if "\x00" in path:
            raise InvalidValueError(f"{path!r} is not a path: it has a NUL")
        return os.path.realpath(path)


@define(eq=False)
class WorktreeFiles(MutableMapping[str, bytes]):
    """The files of one worktree by path: read, write and delete them as entries of a dictionary.

    Text, bytes and `File` (for executables and links) may be assigned; bytes are read.

    Args:
        disk: Where they live.
        root: The worktree.
    """

    disk: Disk
    root: str

    def __getitem__(self, path: str) -> bytes:
        file = self.disk.read(f"{self.root}/{path}")
        if file is None:
            raise KeyError(path)
        return file.data

    def __setitem__(self, path: str, content: FileContent) -> None:
        self.disk.write(f"{self.root}/{path}", File.of(content))

    def __delitem__(self, path: str) -> None:
        self[path]
        self.disk.remove(f"{self.root}/{path}")

    def __iter__(self) -> Iterator[str]:
        yield from _files_below(self.disk, self.root, "")

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def file(self, path: str) -> File:
        """The file with its mode. Raises KeyError."""
        file = self.disk.read(f"{self.root}/{path}")
        if file is None:
            raise KeyError(path)
        return file


def _files_below(disk: Disk, root: str, prefix: str) -> Iterator[str]:
    for name in disk.names(f"{root}/{prefix}"):
        path = f"{prefix}{name}"
        if path == ".git":
            continue
        if disk.is_folder(f"{root}/{path}"):
            yield from _files_below(disk, root, f"{path}/")
        else:
            yield path
