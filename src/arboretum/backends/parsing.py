"""Pure parsers of git's machine-readable output. Bytes in, values out; nothing is run."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Final

from arboretum.backends.base import CommitLink
from arboretum.errors import GitOperationError
from arboretum.moments import format_moment
from arboretum.values import ChangeKind, Commit, DiffEntry, FileMode, Oid, Signature, StatusEntry, TreeEntry

#: The format that `parse_log` reads: one record a commit, each ended by a NUL (``-z``).
LOG_FORMAT: Final = "%H%n%T%n%P%n%an <%ae> %ad%n%cn <%ce> %cd%n%B"
#: The format that `parse_link` reads.
LINK_FORMAT: Final = "%H%n%ct%n%P"
# The head of a commit object. Headers that follow (signatures, merge tags) have any number of lines, none empty.
_COMMIT: Final = re.compile(
    r"tree (\S+)\n((?:parent \S+\n)*)(?:author (.*)\n)?(?:committer (.*)\n)?((?:.+\n)*)(?:\n|\Z)"
)
_ENCODING: Final = re.compile(r"^encoding (\S+)$", re.MULTILINE)


def text_of(data: bytes) -> str:
    """A path or name from git: its bytes, surrogate-escaped."""
    return os.fsdecode(data)


def zero_split(data: bytes) -> list[bytes]:
    """The fields of NUL-terminated output."""
    return data.split(b"\0")[:-1] if data.endswith(b"\0") else [field for field in data.split(b"\0") if field]


def parse_commit(oid: Oid, raw: bytes) -> Commit:
    """A commit object as ``cat-file`` gives it.

    Raises:
        GitOperationError: It names no tree.
    """
    text = raw.decode("utf-8", "surrogateescape")
    match = _COMMIT.match(text)
    if match is None:
        raise GitOperationError(f"{oid} is broken: it names no tree", operation="read_commit", hint="run git fsck")
    tree, parents, author, committer, others = match.groups()
    if others and (encoding := _ENCODING.search(others)):
        return parse_commit(oid, _in_utf8(raw, encoding[1]))
    return Commit.told(
        oid,
        Oid.known(tree),
        tuple(map(Oid.known, parents.split()[1::2])),
        text[match.end() :],
        sign=Signature.parse,
        author=author or "",
        committer=committer or "",
    )


def _in_utf8(raw: bytes, encoding: str) -> bytes:
    """The whole commit recoded, as git does before it takes it apart; an unknown encoding is left as it is."""
    with contextlib.suppress(LookupError, ValueError):
        raw = raw.decode(encoding, "surrogateescape").encode("utf-8", "surrogateescape")
    head, gap, body = raw.partition(b"\n\n")
    return b"\n".join(line for line in head.split(b"\n") if not line.startswith(b"encoding ")) + gap + body


def format_identity(signature: Signature) -> str:
    """A signature as it stands in a commit object."""
    return f"{_plain(signature.name)} <{_plain(signature.email)}> {format_moment(signature.when)}"


def _plain(text: str) -> str:
    """Git drops these from names: they would break the line."""
    return "".join(c for c in text if c not in "<>\n\0").strip()


def parse_log(record: bytes) -> Commit:
    """One record of `LOG_FORMAT`."""
    oid, tree, parents, author, committer, message = record.decode("utf-8", "surrogateescape").split("\n", 5)
    known = Oid.known
    return Commit.told(
        known(oid), known(tree), tuple(map(known, parents.split())), message,
        sign=Signature.parse, author=author, committer=committer,
    )  # fmt: skip


def parse_link(record: bytes) -> CommitLink:
    """One record of `LINK_FORMAT`."""
    oid, time, parents = record.decode("ascii").split("\n")
    known = Oid.known
    return CommitLink(known(oid), tuple(map(known, parents.split())), int(time or 0))


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
