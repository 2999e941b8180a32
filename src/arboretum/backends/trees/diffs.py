"""Making unified patches in git's format, that of git-diff(1) with ``--binary --full-index``. Pure."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

from arboretum.backends.trees.lines import Change, changes, is_binary, split_lines
from arboretum.backends.trees.quoting import quote_path
from arboretum.backends.trees.snapshot import Entry, Snapshot, path_key
from arboretum.values import FileMode, Oid

CONTEXT = 3


class Blobs(Protocol):
    """What a patch needs of a store of objects."""

    @property
    def sha256(self) -> bool:
        """Whether ids are SHA-256."""

    def blob(self, oid: Oid) -> bytes:
        """The content of a blob."""


#: Gives the hunks of two contents, as unified text.
TextDiff = Callable[[bytes, bytes], bytes]


def text_hunks(old: bytes, new: bytes) -> bytes:
    """The hunks that make the text `new` of `old`."""
    return b"".join(_hunks(split_lines(old), split_lines(new)))


def make_patch(store: Blobs, old: Snapshot, new: Snapshot, *, hunks: TextDiff = text_hunks) -> bytes:
    """The patch that makes `new` of `old`.

    Args:
        store: Where contents come from.
        old: The tree before.
        new: The tree after.
        hunks: What compares texts; a library's own comparison is quicker than ours.
    """
    parts = []
    for path in sorted(old.keys() | new.keys(), key=path_key):
        before, after = old.get(path), new.get(path)
        if before == after:
            continue
        if before and after and _kind(before[0]) != _kind(after[0]):
            parts.append(_file_patch(store, path, before, None, hunks))
            before = None
        parts.append(_file_patch(store, path, before, after, hunks))
    return b"".join(parts)


def _kind(mode: FileMode) -> int:
    return mode & 0o170000


def _file_patch(store: Blobs, path: str, before: Entry | None, after: Entry | None, hunks: TextDiff) -> bytes:
    null = "0" * (64 if store.sha256 else 40)
    one, two = before[1] if before else null, after[1] if after else null
    a, b = quote_path("a/" + path), quote_path("b/" + path)
    lines = [b"diff --git %s %s\n" % (a, b)]
    suffix = b""
    if before is None and after:
        lines.append(b"new file mode %o\n" % after[0])
    elif after is None and before:
        lines.append(b"deleted file mode %o\n" % before[0])
    elif before and after and before[0] != after[0]:
        lines.append(b"old mode %o\nnew mode %o\n" % (before[0], after[0]))
    elif before:
        suffix = b" %o" % before[0]
    if one != two:
        lines.append(b"index %s..%s%s\n" % (one.encode(), two.encode(), suffix))
        old_data, new_data = _content(store, before), _content(store, after)
        names = (a if before else b"/dev/null", b if after else b"/dev/null")
        lines.append(_body(old_data, new_data, names, hunks))
    return b"".join(lines)


def _content(store: Blobs, entry: Entry | None) -> bytes:
    if entry is None:
        return b""
    if entry[0] is FileMode.SUBMODULE:
        return b"Subproject commit %s\n" % entry[1].encode()
    return store.blob(entry[1])


def _body(old: bytes, new: bytes, names: tuple[bytes, bytes], hunks: TextDiff) -> bytes:
    if is_binary(old) or is_binary(new):
        return b"GIT binary patch\n%s\n%s\n" % (_literal(new), _literal(old))
    text = hunks(old, new)
    tab = [b"\t" if b" " in name and not name.startswith(b'"') else b"" for name in names]
    return b"--- %s%s\n+++ %s%s\n" % (names[0], tab[0], names[1], tab[1]) + text if text else b""


def _literal(data: bytes) -> bytes:
    packed = zlib.compress(data)
    lines = [b"literal %d\n" % len(data)]
    for at in range(0, len(packed), 52):
        piece = packed[at : at + 52]
        size = len(piece)
        mark = bytes([ord("A") + size - 1 if size <= 26 else ord("a") + size - 27])
        lines.append(mark + base64.b85encode(piece, pad=True) + b"\n")
    return b"".join(lines)


def _hunks(old: list[bytes], new: list[bytes]) -> Iterator[bytes]:
    pending: list[Change] = []
    for change in changes(old, new):
        if pending and change.start - pending[-1].stop > 2 * CONTEXT:
            yield _hunk(old, new, pending)
            pending = []
        pending.append(change)
    if pending:
        yield _hunk(old, new, pending)


def _hunk(old: list[bytes], new: list[bytes], group: list[Change]) -> bytes:
    start = max(0, group[0].start - CONTEXT)
    stop = min(len(old), group[-1].stop + CONTEXT)
    lines, at = [], start
    for change in group:
        lines += [b" " + line for line in old[at : change.start]]
        lines += [b"-" + line for line in old[change.start : change.stop]]
        lines += [b"+" + line for line in new[change.new_start : change.new_stop]]
        at = change.stop
    lines += [b" " + line for line in old[at:stop]]
    new_start = group[0].new_start - (group[0].start - start)
    new_count = sum(1 for line in lines if line[:1] != b"-")
    head = b"@@ -%s +%s @@\n" % (_range(start, stop - start), _range(new_start, new_count))
    return head + b"".join(
        line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n" for line in lines
    )  # fmt: skip


def _range(start: int, count: int) -> bytes:
    return b"%d" % (start + 1) if count == 1 else b"%d,%d" % (start + 1 if count else start, count)
