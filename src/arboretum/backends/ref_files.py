"""Refs as git's "files" store keeps them: loose files over ``packed-refs``, read without a process.

Only reading: every change goes through git or a library, which take the locks. The order is git's own (the loose
file first, then the packed ones), so a ref that is being packed is never missed. See gitrepository-layout(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final

from attrs import define, field

from arboretum.backends.atomic_files import opened_folder, path_bytes, read_bytes
from arboretum.values import Oid, Ref, RefName

#: Refs that every worktree has its own of; see git-worktree(1), "Refs".
_PER_WORKTREE: Final = ("refs/bisect/", "refs/worktree/", "refs/rewritten/")
#: So many symbolic refs git follows.
SYMBOLIC_DEPTH: Final = 5
_ID: Final = re.compile(rb"(?:[0-9a-f]{40}|[0-9a-f]{64})(?=\s|\Z)")
_Stamp = tuple[int, int, int]


@define(eq=False)
class RefFiles:
    """Reads the refs of one repository. Safe to share between threads.

    Args:
        common_dir: The git directory that all worktrees share.
    """

    common_dir: str
    _kept: tuple[_Stamp, bytes] | None = field(init=False, default=None)

    def is_store(self) -> bool:
        """Whether the refs are kept in files at all (and not in a reftable)."""
        return not os.path.isdir(os.path.join(self.common_dir, "reftable"))

    def find(self, name: str, *, git_dir: str | None = None) -> Oid | None:
        """The object that a ref names, symbolic refs followed; None when there is no such ref.

        Args:
            name: The full name.
            git_dir: The git directory of the worktree whose own refs count; None for the main one.
        """
        for _ in range(SYMBOLIC_DEPTH):
            value = self.read(name, git_dir=git_dir)
            if not isinstance(value, RefName):
                return value
            name = value
        return None

    def read(self, name: str, *, git_dir: str | None = None) -> Oid | RefName | None:
        """What a ref says: an object, another ref, or None when there is no such ref (or it is damaged)."""
        own = not name.startswith("refs/") or name.startswith(_PER_WORKTREE)
        folder = git_dir if own and git_dir is not None else self.common_dir
        text = read_bytes(f"{folder}/{name}")
        if text is not None:
            return _value(text)
        return self._packed_oid(name) if name.startswith("refs/") else None

    def listed(self, prefix: str = "refs/", *, git_dir: str | None = None) -> tuple[Ref, ...]:
        """The same as `all`, sorted by the bytes of their names."""
        return tuple(sorted(self.all(prefix, git_dir=git_dir), key=lambda ref: path_bytes(ref.name)))

    def all(self, prefix: str = "refs/", *, git_dir: str | None = None) -> Iterator[Ref]:
        """The refs whose names begin with `prefix`, in no order, as git-for-each-ref(1) has them.

        Left out are names that git would not take, and refs that name no object: damaged, dangling, or in a ring.

        Args:
            prefix: How their full names begin.
            git_dir: The git directory of the worktree whose own refs count; None for the main one.
        """
        found = dict(self._loose(prefix, git_dir or self.common_dir))  # before the packed ones, as git does
        for name, value in self._packed(prefix):
            found.setdefault(name, value)
        for name, value in found.items():
            target = value if isinstance(value, RefName) else None
            oid = self.find(value, git_dir=git_dir) if isinstance(value, RefName) else value
            if oid is None or oid.is_null:
                continue
            try:
                ref = Ref(RefName(name), oid, target)
            except ValueError:
                continue
            yield ref

    def _loose(self, prefix: str, git_dir: str) -> Iterator[tuple[str, Oid | RefName | None]]:
        """The refs that have a file of their own, None for a damaged one: it hides a packed one."""
        pending = {_folder_of(prefix), *(own for own in _PER_WORKTREE if own.startswith(prefix))}
        while pending:
            folder = pending.pop()
            place = git_dir if folder.startswith(_PER_WORKTREE) else self.common_dir
            with opened_folder(f"{place}/{folder}") as opened:
                for entry in _entries(opened):
                    name = f"{folder}{entry.name}"
                    if not name.startswith(prefix):
                        continue
                    if entry.is_dir():
                        if f"{name}/" not in _PER_WORKTREE:
                            pending.add(f"{name}/")
                    elif (text := read_bytes(entry.name, opened)) is not None:
                        yield name, _value(text)

    def _packed(self, prefix: str) -> Iterator[tuple[str, Oid | RefName | None]]:
        data = self._packed_refs()
        start = os.fsencode(prefix)
        for line in data.split(b"\n") if start in data else ():
            oid, blank, name = line.partition(b" ")
            if blank and name.startswith(start) and oid[:1] not in b"#^":
                yield os.fsdecode(name), _value(oid)

    def _packed_oid(self, name: str) -> Oid | None:
        data = self._packed_refs()
        wanted = b" " + os.fsencode(name) + b"\n"
        at = data.find(wanted)
        # The name may be the tail of a comment line; a ref's line is an id, a blank and the name.
        while at >= 0:
            start = data.rfind(b"\n", 0, at) + 1
            if b" " not in data[start:at] and isinstance(value := _value(data[start:at]), Oid):
                return value
            at = data.find(wanted, at + 1)
        return None

    def _packed_refs(self) -> bytes:
        path = os.path.join(self.common_dir, "packed-refs")
        try:
            found = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return b""
        stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
        known = self._kept
        if known is None or known[0] != stamp:
            known = (stamp, read_bytes(path) or b"")
            self._kept = known
        return known[1]


def _folder_of(prefix: str) -> str:
    """Where to begin to look; whatever is no way down from ``refs/`` begins no name either, so all are looked at."""
    parts = prefix.split("/")[:-1]
    plain = parts[:1] == ["refs"] and all(part and part[0] != "." and "\0" not in part for part in parts)
    return "/".join(parts) + "/" if plain else "refs/"


def _entries(folder: int | None) -> list[os.DirEntry[str]]:
    if folder is None:
        return []
    with os.scandir(folder) as entries:
        return list(entries)


def _value(text: bytes) -> Oid | RefName | None:
    if match := _ID.match(text):  # nearly all are of this form
        return Oid.known(match[0].decode("ascii"))
    line = text.rstrip()
    try:
        if line.startswith(b"ref:"):
            return RefName(os.fsdecode(line[4:].strip()))
        return Oid(line.split(None, 1)[0].decode("ascii")) if line else None
    except ValueError:
        return None
