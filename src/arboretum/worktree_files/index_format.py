"""The index of a worktree, as bytes: its entries, and a copy of it whose stat data is that of other files.

The form is that of gitformat-index(5), versions 2, 3 and 4. What is not known here is refused, never guessed.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import frozen

_HEADER: Final = struct.Struct(">4sII")
_EXTENSION: Final = struct.Struct(">4sI")
#: How many bytes of an entry are stat data: ctime and mtime (seconds, nanoseconds), dev, ino, mode, uid, gid, size.
STAT_BYTES: Final = 40
_MODE: Final = slice(24, 28)  # of an entry
_ASSUME_VALID: Final = 0x8000
_EXTENDED: Final = 0x4000
_STAGE: Final = 0x3000
_NAME_LENGTH: Final = 0x0FFF
_SKIP_WORKTREE: Final = 0x4000  # in the second word of flags
_INTENT_TO_ADD: Final = 0x2000


class IndexFormatError(ValueError):
    """The index is damaged, or has something that is not known here."""


def walk(data: bytes, *, sha256: bool) -> Iterator[tuple[int, int, bytes, int, int]]:
    """The entries of an index, in order: where each starts and ends, path, flags, further flags (or 0).

    Tuples, not objects: there may be a hundred thousand.

    Raises:
        IndexFormatError: It is damaged or of a version that is not known.
    """
    digest = 32 if sha256 else 20
    try:
        magic, version, count = _HEADER.unpack_from(data)
        if magic != b"DIRC" or not 2 <= version <= 4:
            raise IndexFormatError(f"index version {version} is not known")
        place, fixed, last = _HEADER.size, STAT_BYTES + digest, b""
        for _ in range(count):
            at = place + fixed
            flags, more, name = data[at] << 8 | data[at + 1], 0, at + 2
            if flags & _EXTENDED:
                more, name = data[name] << 8 | data[name + 1], name + 2
            if version == 4:
                cut, name = _varint(data, name)
                end = data.index(0, name)
                last = last[: len(last) - cut] + data[name:end]
                after, path = end + 1, last
            else:
                length = flags & _NAME_LENGTH
                end = name + length if length < _NAME_LENGTH else data.index(0, name)
                after, path = place + ((end - place + 8) & ~7), data[name:end]
            if after > len(data) - digest:
                raise IndexFormatError("the index is cut off")
            yield place, after, path, flags, more
            place = after
    except (struct.error, IndexError, ValueError) as error:
        if isinstance(error, IndexFormatError):
            raise
        raise IndexFormatError(f"the index cannot be read: {error}") from error


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """A number in the form that git uses for offsets in packs, and where it ends."""
    byte = data[place]
    value = byte & 0x7F
    while byte & 0x80:
        place += 1
        byte = data[place]
        value = ((value + 1) << 7) | (byte & 0x7F)
    return value, place + 1


def hides(flags: int, more: int) -> bool:
    """Whether git is told by an entry to look away from its file (assume-unchanged, skip-worktree)."""
    return bool(flags & _ASSUME_VALID or more & _SKIP_WORKTREE)


@frozen
class Index:
    """An index whose worktree can be copied: no conflict, nothing that is only intended, nothing assumed.

    Args:
        data: Its bytes.
        places: The offset of each entry that has a file.
        names: Their paths.
        end: Where the entries end.
        sha256: Whether object ids have 64 digits.
    """

    data: bytes
    places: list[int]
    names: list[bytes]
    end: int
    sha256: bool

    @classmethod
    def parse(cls, data: bytes, *, sha256: bool, like: Shape | None = None) -> Index:
        """Read an index.

        Args:
            data: Its bytes.
            sha256: Whether object ids have 64 digits.
            like: What it probably looks like, which is quicker to find out than to read each entry.

        Raises:
            IndexFormatError: It is damaged, its checksum is wrong or missing, or it has something in it for which
                its files cannot simply be copied.
        """
        digest = 32 if sha256 else 20
        if len(data) < _HEADER.size + digest or _checksum(data[:-digest], sha256=sha256) != data[-digest:]:
            raise IndexFormatError("the index has no right checksum")
        if like is not None and like.sha256 == sha256 and like.is_of(data):
            places, names, end = like.places, like.names, like.end
        else:
            places, names, end = _clean_entries(data, sha256=sha256)
        for kind, _start, _stop in _extensions(data, end, digest):
            if not kind[:1].isupper():
                raise IndexFormatError(f"the extension {kind!r} changes what the entries mean")
        return cls(data, places, names, end, sha256)

    def entries(self) -> list[tuple[bytes, bytes, bytes]]:
        """Stat data, object id and path of each entry that has a file."""
        data, after = self.data, STAT_BYTES + (32 if self.sha256 else 20)
        return [
            (data[place : place + STAT_BYTES], data[place + STAT_BYTES : place + after], name)
            for place, name in zip(self.places, self.names, strict=True)
        ]

    def with_stat_data(self, stats: Sequence[bytes]) -> bytes:
        """The same index over other files.

        Of the extensions only the cached trees stay; the others are of the worktree that it was read in, or of offsets.

        Args:
            stats: The stat data for each of `entries`; the mode stays what it is.
        """
        made = bytearray(self.data[: self.end])
        for place, stat in zip(self.places, stats, strict=True):
            made[place : place + 24] = stat[:24]
            made[place + 28 : place + STAT_BYTES] = stat[28:]
        digest = 32 if self.sha256 else 20
        for kind, start, stop in _extensions(self.data, self.end, digest):
            if kind == b"TREE":
                made += self.data[start:stop]
        return bytes(made) + _checksum(made, sha256=self.sha256)


@frozen(eq=False)
class Shape:
    """What is the same in all indexes that differ in nothing but stat data and object ids: paths, modes and flags.

    Args:
        places: As in `Index`.
        names: As in `Index`.
        end: As in `Index`.
        sha256: As in `Index`.
        fixed: A number with all bits set of the bytes that are the same, of which the first is the lowest.
        bits: These bits of the index.
    """

    places: list[int]
    names: list[bytes]
    end: int
    sha256: bool
    fixed: int
    bits: int

    @classmethod
    def of(cls, index: Index) -> Shape:
        """The shape of an index all of whose entries have a file."""
        fixed = bytearray(b"\xff") * index.end
        after = STAT_BYTES + (32 if index.sha256 else 20)
        times, owner = bytes(_MODE.start), bytes(after - _MODE.stop)
        for place in index.places:
            fixed[place : place + _MODE.start] = times
            fixed[place + _MODE.stop : place + after] = owner
        mask = int.from_bytes(fixed, "little")
        bits = int.from_bytes(index.data[: index.end], "little") & mask
        return cls(index.places, index.names, index.end, index.sha256, mask, bits)

    def is_of(self, data: bytes) -> bool:
        """Whether the entries in `data` are of this shape."""
        return len(data) > self.end and int.from_bytes(data[: self.end], "little") & self.fixed == self.bits


def _clean_entries(data: bytes, *, sha256: bool) -> tuple[list[int], list[bytes], int]:
    """Where each entry that has a file begins, the path of each, and where all entries end."""
    places, names, end = [], [], _HEADER.size
    for place, after, name, flags, more in walk(data, sha256=sha256):
        end = after
        if flags & (_STAGE | _ASSUME_VALID) or more & _INTENT_TO_ADD:
            raise IndexFormatError(f"the entry {name!r} has a state that is not that of a clean worktree")
        if not more & _SKIP_WORKTREE:
            places.append(place)
            names.append(name)
    return places, names, end


def _extensions(data: bytes, place: int, digest: int) -> Iterator[tuple[bytes, int, int]]:
    stop = len(data) - digest
    while place < stop:
        if place + _EXTENSION.size > stop:
            raise IndexFormatError("an extension of the index is cut off")
        kind, size = _EXTENSION.unpack_from(data, place)
        end = place + _EXTENSION.size + size
        if end > stop:
            raise IndexFormatError("an extension of the index is cut off")
        yield kind, place, end
        place = end


def _checksum(data: bytes | bytearray, *, sha256: bool) -> bytes:
    return (hashlib.sha256 if sha256 else hashlib.sha1)(data, usedforsecurity=False).digest()
