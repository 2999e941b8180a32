"""The index of a slot's last proof, held against the slot's files and folders.

A file has not been changed since its state was recorded if its time of change is the same: nobody can set that time,
and a change of rights moves it, too. `git checkout --force` looks at the state of each file and writes anew what does
not agree with the index, but most builds of git compare whole seconds. So only files that were recorded in the second
in which the slot was handed out can have been changed unseen: these are compared here, to the nanosecond.
"""

from __future__ import annotations

import hashlib
import os
import stat
import struct
import time
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import define, field, frozen

from arboretum.engine.survey import is_odd_file, is_odd_folder
from arboretum.worktree_files.copying import TICK
from arboretum.worktree_files.index_format import STAT_BYTES, Index, IndexFormatError, Shape, walk

_WORDS: Final = struct.Struct(">10I")
_TIME: Final = struct.Struct(">2I")
_COUNT: Final = slice(8, 12)  # of entries, in the header of an index
_WORD: Final = 0xFFFFFFFF
_SECOND: Final = 1_000_000_000
_FILE, _LINK = 0o10, 0o12


@frozen(eq=False)
class YoungFiles:
    """The files in which a git that compares whole seconds may miss a change: all that is needed to begin a move.

    Args:
        checksum: The last bytes of the index that records them.
        written: When it was written, in nanoseconds since the epoch.
        entries: Stat data and path of each.
    """

    checksum: str
    written: int
    entries: list[tuple[bytes, bytes]]

    def is_index_unchanged(self, admin: str, *, sha256: bool) -> bool:
        """Whether the index of the worktree with this folder is the one that records them, byte for byte."""
        try:
            with open(os.path.join(admin, "index"), "rb") as file:
                data, written = file.read(), os.fstat(file.fileno()).st_mtime_ns
        except OSError:
            return False
        size = 32 if sha256 else 20
        found = (hashlib.sha256 if sha256 else hashlib.sha1)(data[:-size], usedforsecurity=False).digest()
        return written == self.written and found == data[-size:] and found.hex() == self.checksum

    def are_unchanged(self, root: str) -> bool:
        """Whether they are what was recorded, to the nanosecond."""
        base = os.fsencode(root)
        return all(_is_same(base, words, name) for words, name in self.entries)


@define(eq=False)
class Layout:
    """The folders of a worktree, and what has to be in each.

    Args:
        names: The paths of all files.
        folders: The names in each folder, by its path.
        shape: How an index with these files looks; None while that is not known.
    """

    names: list[bytes]
    folders: Mapping[bytes, set[bytes]]
    shape: Shape | None = None

    @classmethod
    def of(cls, names: list[bytes]) -> Layout:
        """The layout of a worktree with these files."""
        found: dict[bytes, set[bytes]] = {b"": {b".git"}}
        for folder, name in _split(names):
            if (inside := found.get(folder)) is None:
                inside = found[folder] = set()
                for above, below in _split(_with_parents(folder)):
                    found.setdefault(above, set()).add(below)
            inside.add(name)
        return cls(names, found)


@define(eq=False)
class Folders:
    """The folders of one worktree, and what was in each when it was looked into.

    A folder has the same names in it as long as its time of change is the same: nobody can set that time, and each new,
    removed or renamed entry and each change of its rights moves it. What was changed in the same tick of the clock as
    that in which it was looked into is looked into again.

    Args:
        root: The worktree.
    """

    root: str
    _seen: dict[bytes, tuple[tuple[int, int, int], set[bytes]]] = field(factory=dict, init=False, repr=False)

    def are_exactly(self, layout: Layout) -> bool:
        """Whether the folders are those of `layout`, hold nothing else, and have their usual rights."""
        base, stamps = os.fsencode(self.root), {}
        try:
            for folder in layout.folders:
                found = os.lstat(os.path.join(base, folder))
                if not stat.S_ISDIR(found.st_mode) or is_odd_folder(found.st_mode):
                    return False
                stamps[folder] = (found.st_ctime_ns, found.st_ino, found.st_dev)
            # The clock of the worktree's file system has come so far, which may be another one than ours.
            now = min(max(changed for changed, _, _ in stamps.values()), time.time_ns())
            seen = {}
            for folder, names in layout.folders.items():
                stamp = stamps[folder]
                if self._seen.get(folder) != (stamp, names) and names != set(os.listdir(os.path.join(base, folder))):
                    return False
                if stamp[0] < now - TICK:
                    seen[folder] = (stamp, names)
        except OSError:
            return False
        self._seen = seen
        return True


@frozen(eq=False)
class ProvenIndex:
    """An index in which every entry is a plain file or a link that has to be there.

    Args:
        index: What is in it.
        written: When it was written, in nanoseconds since the epoch.
        checksum: Its last bytes, which are right.
    """

    index: Index
    written: int
    checksum: str

    @classmethod
    def read(cls, admin: str, *, sha256: bool, like: Shape | None = None) -> ProvenIndex | None:
        """The index of the worktree with this folder; None where there is none, or one that tells git to look away.

        That is: hidden, unmerged, intended or sparse entries, submodules, an index in parts, no right checksum.
        """
        try:
            with open(os.path.join(admin, "index"), "rb") as file:
                data, written = file.read(), os.fstat(file.fileno()).st_mtime_ns
            index = Index.parse(data, sha256=sha256, like=like)
        except (OSError, IndexFormatError):
            return None
        if len(index.places) != int.from_bytes(data[_COUNT], "big"):
            return None
        known = like is not None and index.places is like.places  # then its modes have been looked at
        if not known and not {data[at + 26] >> 4 for at in index.places} <= {_FILE, _LINK}:
            return None
        return cls(index, written, data[-32 if sha256 else -20 :].hex())

    @property
    def names(self) -> list[bytes]:
        """The path of each file."""
        return self.index.names

    def are_files_unchanged(self, root: str) -> bool:
        """Whether all files below `root` are what was recorded, which no git need confirm."""
        base, data, places = os.fsencode(root), self.index.data, self.index.places
        # What was written together with the index may have been changed in the same tick of the kernel's clock.
        settled = _TIME.pack(*divmod(self.written - TICK, _SECOND))
        if any(data[at : at + 8] >= settled for at in places):
            return False
        both = zip(places, self.names, strict=True)
        return all(_is_same(base, data[at : at + STAT_BYTES], name) for at, name in both)

    def young_files(self) -> YoungFiles:
        """The files that were recorded in the newest second."""
        data, places = self.index.data, self.index.places
        seconds = [data[at : at + 4] for at in places]
        # Usually the two are one; a clock that was set back, or that of another file system, parts them.
        young = min(max(seconds, default=b""), (self.written // _SECOND & _WORD).to_bytes(4, "big"))
        all_of_them = zip(seconds, places, self.names, strict=True)
        entries = [(data[at : at + STAT_BYTES], name) for second, at, name in all_of_them if second >= young]
        return YoungFiles(self.checksum, self.written, entries)


def recorded_changes(admin: str, root: str, *, sha256: bool) -> dict[str, int]:
    """When each tracked file was last changed, as the index has it, in nanoseconds since the epoch.

    Args:
        admin: The worktree's folder in the common git directory.
        root: The worktree; the paths are below it.
        sha256: Whether object ids have 64 digits.

    Returns:
        Nothing where the index cannot be read; files of which it knows whole seconds only are left out.
    """
    try:
        with open(os.path.join(admin, "index"), "rb") as file:
            data = file.read()
        found = {name: _TIME.unpack_from(data, at) for at, _end, name, _flags, _more in walk(data, sha256=sha256)}
    except (OSError, IndexFormatError):
        return {}
    return {os.path.join(root, os.fsdecode(n)): time[0] * _SECOND + time[1] for n, time in found.items() if time[1]}


def _split(paths: Iterable[bytes]) -> Iterable[tuple[bytes, bytes]]:
    return ((folder, name) for folder, _, name in (path.rpartition(b"/") for path in paths))


def _with_parents(folder: bytes) -> Iterable[bytes]:
    while folder:
        yield folder
        folder = folder.rpartition(b"/")[0]


def _is_same(root: bytes, words: bytes, name: bytes) -> bool:
    """Whether a file is what was recorded, to the nanosecond; not, where the file system knows whole seconds only."""
    seconds, nanos, mseconds, mnanos, _dev, inode, mode, _uid, _gid, size = _WORDS.unpack(words)
    try:
        found = os.lstat(b"%b/%b" % (root, name))
    except OSError:
        return False
    return (
        nanos != 0
        and found.st_ctime_ns == seconds * _SECOND + nanos
        and found.st_mtime_ns == mseconds * _SECOND + mnanos
        and found.st_ino & _WORD == inode
        and found.st_size & _WORD == size
        and found.st_mode >> 12 == mode >> 12
        and not is_odd_file(found.st_mode)
    )
