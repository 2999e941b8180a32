"""Pure parsers of git's machine-readable output. Bytes in, values out; nothing is run."""

from __future__ import annotations

import datetime as dt
import functools
import os
import re
from collections.abc import Iterator
from typing import Final

from arboretum.errors import GitOperationError
from arboretum.values import ChangeKind, Commit, DiffEntry, FileMode, Oid, RefName, Signature, StatusEntry, TreeEntry

#: The format that `parse_log` reads: one record a commit, each ended by a NUL (``-z``).
LOG_FORMAT: Final = "%H%n%T%n%P%n%an%n%ae%n%ad%n%cn%n%ce%n%cd%n%B"
_FIRST_SECOND: Final = -62_135_510_400  # the second day of the year 1, and the last one of the year 9999:
_LAST_SECOND: Final = 253_402_214_400  # a day is left for offsets
_IDENTITY: Final = re.compile(rb"(.*?) ?<(.*)> (-?\d+) ([+-]\d{4})\Z", re.DOTALL)


def text_of(data: bytes) -> str:
    """A path or name from git: its bytes, surrogate-escaped."""
    return os.fsdecode(data)


def zero_split(data: bytes) -> list[bytes]:
    """The fields of NUL-terminated output."""
    return data.split(b"\0")[:-1] if data.endswith(b"\0") else [field for field in data.split(b"\0") if field]


def moment(seconds: int, offset: str) -> dt.datetime:
    """A moment from git's seconds and ``+hhmm``; offsets and years that Python cannot carry are brought in range."""
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        seconds = max(_FIRST_SECOND, min(_LAST_SECOND, seconds))
    return dt.datetime.fromtimestamp(seconds, _zone(offset))


@functools.lru_cache(maxsize=256)
def _zone(offset: str) -> dt.timezone:
    sign = -1 if offset.startswith("-") else 1
    minutes = sign * (int(offset[1:3]) * 60 + int(offset[3:5]))
    return dt.timezone(dt.timedelta(minutes=max(-1439, min(1439, minutes))))


def parse_commit(oid: Oid, raw: bytes) -> Commit:
    """A commit object as ``cat-file`` gives it."""
    head, _, body = raw.partition(b"\n\n")
    fields: dict[bytes, list[bytes]] = {}
    for line in head.split(b"\n"):
        if line.startswith(b" "):  # the rest of a signature or merge tag
            continue
        key, _, value = line.partition(b" ")
        fields.setdefault(key, []).append(value)
    encoding = fields.get(b"encoding", [b"utf-8"])[0].decode("ascii", "replace")
    return Commit(
        oid=oid,
        tree=Oid(fields[b"tree"][0].decode()),
        parents=tuple(Oid(parent.decode()) for parent in fields.get(b"parent", [])),
        author=parse_identity(fields[b"author"][0], encoding),
        committer=parse_identity(fields[b"committer"][0], encoding),
        message=_decode(body, encoding),
    )


def parse_identity(raw: bytes, encoding: str = "utf-8") -> Signature:
    """``Name <email> seconds offset``; a broken one (they exist in old histories) keeps what can be read."""
    match = _IDENTITY.match(raw)
    if match is None:
        return Signature(_decode(raw, encoding), "", moment(0, "+0000"))
    name, email, seconds, offset = match.groups()
    return Signature(_decode(name, encoding), _decode(email, encoding), moment(int(seconds), offset.decode()))


def _decode(raw: bytes, encoding: str) -> str:
    try:
        return raw.decode(encoding, "surrogateescape")
    except (LookupError, UnicodeDecodeError):
        return raw.decode("utf-8", "surrogateescape")


def format_identity(signature: Signature) -> str:
    """A signature as it stands in a commit object."""
    return f"{_plain(signature.name)} <{_plain(signature.email)}> {format_moment(signature.when)}"


def format_moment(when: dt.datetime) -> str:
    """A moment as git writes it: seconds since the epoch and the offset."""
    return f"{int(when.timestamp())} {when.strftime('%z')[:5]}"


def _plain(text: str) -> str:
    """Git drops these from names: they would break the line."""
    return "".join(c for c in text if c not in "<>\n\0").strip()


def parse_log(record: bytes) -> Commit:
    """One record of `LOG_FORMAT`."""
    fields = record.decode("utf-8", "surrogateescape").split("\n", 9)
    oid, tree, parents = fields[:3]
    author = _signature(*fields[3:6])
    # Nearly always the same person at the same moment: then one value does for both.
    committer = author if fields[6:9] == fields[3:6] else _signature(*fields[6:9])
    return Commit(Oid.known(oid), Oid.known(tree), tuple(map(Oid.known, parents.split())), author, committer, fields[9])


def _signature(name: str, email: str, date: str) -> Signature:
    seconds, _, offset = date.partition(" ")
    return Signature(name, email, moment(int(seconds), offset))


def parse_tree(data: bytes) -> tuple[TreeEntry, ...]:
    """The output of ``ls-tree -r -z``."""
    entries = []
    for record in zero_split(data):
        meta, _, path = record.partition(b"\t")
        mode, _kind, oid = meta.split(b" ")
        entries.append(TreeEntry(text_of(path), file_mode(int(mode, 8)), Oid.known(oid.decode())))
    return tuple(entries)


def file_mode(mode: int) -> FileMode:
    """The mode that git would write today (old histories have 100664 and the like)."""
    if mode & 0o170000 == 0o100000:
        return FileMode.EXECUTABLE if mode & 0o100 else FileMode.FILE
    return FileMode(mode)


def parse_raw_diff(data: bytes) -> tuple[DiffEntry, ...]:
    """The output of ``diff-tree -r -z --raw``, sorted by path."""
    fields = iter(zero_split(data))
    entries: list[DiffEntry] = []
    for meta in fields:
        letter = meta.rsplit(b" ", 1)[-1][:1].decode()
        first = text_of(next(fields))
        if letter in {"R", "C"}:
            entries.append(DiffEntry(text_of(next(fields)), ChangeKind(letter), old_path=first))
        else:
            entries.append(DiffEntry(first, ChangeKind(letter)))
    return tuple(sorted(entries, key=lambda entry: os.fsencode(entry.path)))


def parse_status(data: bytes) -> tuple[StatusEntry, ...]:
    """The output of ``status --porcelain=v2 -z``, sorted by path."""
    return tuple(sorted(_status_entries(data), key=lambda entry: os.fsencode(entry.path)))


def _status_entries(data: bytes) -> Iterator[StatusEntry]:
    fields = iter(zero_split(data))
    for record in fields:
        kind = record[:1]
        if kind in {b"?", b"!"}:
            change = ChangeKind(kind.decode())
            yield StatusEntry(text_of(record[2:]), change, change)
        elif kind == b"1":
            _, xy, sub, *_rest, path = record.split(b" ", 8)
            yield _tracked(xy, sub, path)
        elif kind == b"2":
            _, xy, sub, *_rest, path = record.split(b" ", 9)
            yield _tracked(xy, sub, path, old_path=text_of(next(fields)))
        elif kind == b"u":
            _, xy, sub, *_rest, path = record.split(b" ", 10)
            yield _tracked(xy, sub, path)
        elif kind != b"#":
            raise GitOperationError(f"git status wrote a record that is not known: {record!r}", operation="status")


def _tracked(xy: bytes, sub: bytes, path: bytes, *, old_path: str | None = None) -> StatusEntry:
    index, worktree = (ChangeKind(letter) for letter in xy.decode())
    return StatusEntry(text_of(path), index, worktree, old_path=old_path, submodule=sub.startswith(b"S"))


def parse_refs(data: bytes) -> Iterator[tuple[RefName, Oid, RefName | None]]:
    """The output of ``for-each-ref --format=%(refname)%00%(objectname)%00%(symref)``; odd names are left out."""
    for line in data.split(b"\n"):
        if line:
            name, oid, target = line.split(b"\0")
            try:
                yield RefName(text_of(name)), Oid.known(oid.decode()), RefName(text_of(target)) if target else None
            except ValueError:
                continue
