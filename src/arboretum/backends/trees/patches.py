"""Applying unified patches in git's format, in memory. Pure.

It follows git-apply(1): a hunk must match with all its context, but may have moved; a hunk that
begins (or ends) without context is bound to the beginning (or end) of the file.
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib
from collections.abc import Callable, Iterator

from attrs import define, field, frozen

from arboretum.backends.trees.lines import split_lines
from arboretum.backends.trees.quoting import unquote_path
from arboretum.backends.trees.snapshot import File
from arboretum.errors import InvalidValueError, PatchFailedError
from arboretum.values import FileMode, parse_tree_path

_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_INDEX = re.compile(rb"index ([0-9a-f]+)\.\.([0-9a-f]+)(?: (\d+))?")

#: Gives the file at a path before the patch, or None.
ReadFile = Callable[[str], File | None]


@frozen
class Hunk:
    """One change in place: what was there, what is to be there, and where."""

    header: str
    new_start: int
    old: tuple[bytes, ...]
    new: tuple[bytes, ...]
    at_start: bool
    at_end: bool


@define
class FilePatch:
    """What a patch does to one file."""

    old: str | None = None
    new: str | None = None
    old_mode: FileMode | None = None
    new_mode: FileMode | None = None
    is_new: bool = False
    is_deleted: bool = False
    is_copy: bool = False
    is_rename: bool = False
    old_id: str = ""
    hunks: list[Hunk] = field(factory=list)
    binary: tuple[bytes, bytes] | None = None

    @property
    def path(self) -> str:
        """The path to talk about."""
        return self.new or self.old or ""


def apply_patch(patch: bytes, read: ReadFile) -> dict[str, File | None]:
    """What `patch` makes of the files that it names.

    Args:
        patch: A patch as git diff or diff -u write it.
        read: Gives the present file at a path, or None.

    Returns:
        The new file by path; None for those that go.

    Raises:
        PatchFailedError: It is malformed, or does not apply; the message names the file and the hunk.
    """
    result: dict[str, File | None] = {}

    def current(path: str) -> File | None:
        return result[path] if path in result else read(path)

    files = list(_Parser(patch.split(b"\n")).files())
    if not files:
        raise PatchFailedError("there is no patch in the input: it names no file", operation="apply")
    for file in files:
        result.update(_apply_file(file, current))
    return result


def _apply_file(patch: FilePatch, read: ReadFile) -> dict[str, File | None]:
    before = None if patch.is_new or patch.old is None else read(patch.old)
    if not patch.is_new and before is None:
        raise _failed(patch, f"there is no file {patch.old!r}")
    moved = patch.is_rename or patch.is_copy
    if (patch.is_new or (moved and patch.new != patch.old)) and read(patch.path) is not None:
        raise _failed(patch, "it exists already")
    if before and patch.old_mode and _kind(before.mode) != _kind(patch.old_mode):
        raise _failed(patch, f"it has mode {before.mode:o} where the patch has {patch.old_mode:o}")
    data = before.data if before else b""
    data = _apply_hunks(patch, data) if patch.binary is None else _apply_binary(patch, data)
    result: dict[str, File | None] = {}
    if patch.old is not None and not patch.is_copy and (patch.is_deleted or patch.new != patch.old):
        result[patch.old] = None
    if patch.is_deleted:
        if data:
            raise _failed(patch, "it would be removed, but has more in it than the patch says")
        return result
    mode = patch.new_mode or (before.mode if before else FileMode.FILE)
    result[patch.path] = File(data, mode)
    return result


def _kind(mode: FileMode) -> int:
    return mode & 0o170000


def _failed(patch: FilePatch, why: str, hunk: Hunk | None = None) -> PatchFailedError:
    place = f"hunk {patch.hunks.index(hunk) + 1} ({hunk.header}) of " if hunk else ""
    return PatchFailedError(
        f"the patch does not apply: {place}{patch.path!r}: {why}",
        paths=(patch.path,),
        operation="apply",
        hint="make the patch anew against the tree that it is applied to",
    )


def _apply_hunks(patch: FilePatch, data: bytes) -> bytes:
    lines = split_lines(data)
    done = [False] * len(lines)  # lines that a hunk has made: no later one may match them
    for hunk in patch.hunks:
        at = _find(hunk, lines, done)
        if at is None:
            raise _failed(patch, "its lines are not there", hunk)
        lines[at : at + len(hunk.old)] = hunk.new
        done[at : at + len(hunk.old)] = [True] * len(hunk.new)
    return b"".join(lines)


def _find(hunk: Hunk, lines: list[bytes], done: list[bool]) -> int | None:
    """Where a hunk's old lines are: at its place or as near to it as can be."""
    size = len(hunk.old)

    def fits(at: int) -> bool:
        if at < 0 or at + size > len(lines) or (hunk.at_start and at) or (hunk.at_end and at + size != len(lines)):
            return False
        return tuple(lines[at : at + size]) == hunk.old and not any(done[at : at + size])

    start = 0 if hunk.at_start else len(lines) - size if hunk.at_end else max(0, hunk.new_start - 1)
    start = min(max(start, 0), len(lines))
    for distance in range(len(lines) + 1):
        for at in (start - distance, start + distance):
            if fits(at):
                return at
    return None


def _apply_binary(patch: FilePatch, data: bytes) -> bytes:
    method, packed = patch.binary or (b"", b"")
    if len(patch.old_id) not in {40, 64}:
        raise _failed(patch, "a binary patch needs full object ids")
    hasher = hashlib.sha256 if len(patch.old_id) == 64 else hashlib.sha1
    if patch.old_id.strip("0") and hasher(b"blob %d\0" % len(data) + data).hexdigest() != patch.old_id:
        raise _failed(patch, "it is not the binary file that the patch was made from")
    try:
        content = zlib.decompress(packed)
        return content if method == b"literal" else apply_delta(data, content)
    except (zlib.error, IndexError, ValueError) as error:
        raise _failed(patch, "the binary patch is damaged") from error


def apply_delta(base: bytes, delta: bytes) -> bytes:
    """What a delta makes of `base` (the delta format of gitformat-pack(5)).

    Raises:
        ValueError: The delta is not one of this base.
        IndexError: The delta is cut short.
    """
    base_size, at = _varint(delta, 0)
    size, at = _varint(delta, at)
    if base_size != len(base):
        raise ValueError("the delta is of another base")
    result = b""
    while at < len(delta):
        code = delta[at]
        at += 1
        if not code & 0x80:
            result += delta[at : at + code]
            at += code
            continue
        numbers = []
        for bits in ((0, 1, 2, 3), (4, 5, 6)):
            number = 0
            for shift, bit in enumerate(bits):
                if code >> bit & 1:
                    number |= delta[at] << 8 * shift
                    at += 1
            numbers.append(number)
        offset, count = numbers[0], numbers[1] or 0x10000
        result += base[offset : offset + count]
    if len(result) != size:
        raise ValueError("the delta gives another size than it says")
    return result


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return value, at


class _Parser:
    """Reads a patch line by line."""

    def __init__(self, lines: list[bytes]) -> None:
        self._lines, self._at = lines, 0

    def files(self) -> Iterator[FilePatch]:
        """The files of the patch; text around them is passed over."""
        while self._at < len(self._lines):
            line = self._lines[self._at]
            if line.startswith(b"diff --git "):
                self._at += 1
                yield self._checked(self._git_file(line[11:]))
            elif line.startswith(b"--- ") and self._peek(1).startswith(b"+++ "):
                patch = FilePatch()
                self._names(patch)
                self._hunks(patch)
                yield self._checked(patch)
            elif _HUNK.match(line):
                raise self._broken("a hunk without a file")
            else:
                self._at += 1

    def _peek(self, ahead: int = 0) -> bytes:
        return self._lines[self._at + ahead] if self._at + ahead < len(self._lines) else b""

    def _broken(self, why: str) -> PatchFailedError:
        return PatchFailedError(f"the patch is malformed at line {self._at + 1}: {why}", operation="apply")

    def _checked(self, patch: FilePatch) -> FilePatch:
        for path in (patch.old, patch.new):
            if path is not None:
                try:
                    parse_tree_path(path)
                except InvalidValueError as error:
                    raise PatchFailedError(
                        f"the patch names {path!r}, which is no path inside a tree", paths=(path,), operation="apply"
                    ) from error
        if not patch.path:
            raise self._broken("no file is named")
        return patch

    def _git_file(self, names: bytes) -> FilePatch:
        patch = FilePatch()
        patch.old = patch.new = _same_name(names)
        while self._at < len(self._lines) and self._extended(patch, self._peek()):
            self._at += 1
        if self._peek().startswith(b"GIT binary patch"):
            self._at += 1
            self._binary(patch)
        elif self._peek().startswith(b"--- "):
            self._names(patch)
            self._hunks(patch)
        if patch.is_new:
            patch.old = None
        if patch.is_deleted:
            patch.new = None
        return patch

    def _extended(self, patch: FilePatch, line: bytes) -> bool:
        """Take in one extended header line; whether it was one."""
        for prefix in (b"rename ", b"copy "):
            for way in (b"from ", b"to "):
                if line.startswith(prefix + way):
                    patch.is_rename, patch.is_copy = prefix == b"rename ", prefix == b"copy "
                    path = unquote_path(line[len(prefix + way) :])
                    patch.old, patch.new = (path, patch.new) if way == b"from " else (patch.old, path)
                    return True
        if line.startswith((b"similarity index ", b"dissimilarity index ")):
            return True
        if match := _INDEX.match(line):
            patch.old_id = match[1].decode()
            patch.old_mode = patch.old_mode or (self._mode(match[3]) if match[3] else None)
            return True
        for prefix in (b"old mode ", b"new mode ", b"deleted file mode ", b"new file mode "):
            if line.startswith(prefix):
                mode = self._mode(line[len(prefix) :])
                patch.is_new |= prefix == b"new file mode "
                patch.is_deleted |= prefix == b"deleted file mode "
                if prefix in {b"old mode ", b"deleted file mode "}:
                    patch.old_mode = mode
                else:
                    patch.new_mode = mode
                return True
        return False

    def _mode(self, text: bytes) -> FileMode:
        try:
            return FileMode(int(text.strip(), 8))
        except ValueError as error:
            raise self._broken(f"{text.decode('ascii', 'replace')} is no file mode") from error

    def _names(self, patch: FilePatch) -> None:
        old, new = (_header_name(self._peek(ahead)[4:]) for ahead in (0, 1))
        if not self._peek(1).startswith(b"+++ "):
            raise self._broken("--- without +++")
        self._at += 2
        if not patch.is_rename and not patch.is_copy:
            patch.old, patch.new = old, new
            patch.is_new, patch.is_deleted = patch.is_new or old is None, patch.is_deleted or new is None
            if old is not None and new is not None:
                patch.old = patch.new

    def _hunks(self, patch: FilePatch) -> None:
        while match := _HUNK.match(self._peek()):
            patch.hunks.append(self._hunk(match))
        if not patch.hunks:
            raise self._broken("a file without hunks")

    def _hunk(self, match: re.Match[bytes]) -> Hunk:
        old_start, new_start = int(match[1]), int(match[3])
        wanted = [int(match[2] or 1), int(match[4] or 1)]
        sides: tuple[list[bytes], list[bytes]] = ([], [])
        trailing = 0
        self._at += 1
        while len(sides[0]) < wanted[0] or len(sides[1]) < wanted[1]:
            mark, text = self._peek()[:1] or b" ", self._peek()[1:] + b"\n"
            if mark not in b" +-" or self._at >= len(self._lines):
                raise self._broken("the hunk is shorter than it says")
            self._at += 1
            trailing = trailing + 1 if mark == b" " else 0
            touched = [side for side, absent in zip(sides, (b"+", b"-"), strict=True) if mark != absent]
            if self._peek().startswith(b"\\"):
                text = text[:-1]
                self._at += 1
            for side in touched:
                side.append(text)
        if [len(sides[0]), len(sides[1])] != wanted:
            raise self._broken("the hunk has other lines than it says")
        header = match[0].decode()
        return Hunk(header, new_start, tuple(sides[0]), tuple(sides[1]), old_start <= 1, not trailing)

    def _binary(self, patch: FilePatch) -> None:
        method, _, _ = self._peek().partition(b" ")
        if method not in {b"literal", b"delta"}:
            raise self._broken("a binary patch is literal or delta")
        self._at += 1
        packed = b""
        while self._peek():
            mark, text = self._peek()[0], self._peek()[1:]
            size = mark - ord("A") + 1 if mark <= ord("Z") else mark - ord("a") + 27
            try:
                packed += base64.b85decode(text)[:size]
            except ValueError as error:
                raise self._broken("the binary patch is damaged") from error
            self._at += 1
        patch.binary = (method, packed)


def _header_name(text: bytes) -> str | None:
    """The path of a ``---`` or ``+++`` line, without its first component; None for /dev/null."""
    name = unquote_path(text.rstrip(b"\t") if text.startswith(b'"') else text.split(b"\t")[0])
    return None if name == "/dev/null" else name.partition("/")[2]


def _same_name(names: bytes) -> str:
    """The path of a ``diff --git`` line, if both sides have the same one; else empty (other lines tell)."""
    if names.startswith(b'"'):
        closing = re.match(rb'"(?:[^"\\]|\\.)*"', names)
        return unquote_path(closing[0]).partition("/")[2] if closing else ""
    half = len(names) // 2
    one, two = names[:half], names[half + 1 :]
    same = one.partition(b"/")[2] == two.partition(b"/")[2]
    return unquote_path(one.partition(b"/")[2]) if same else ""


__all__ = ["FilePatch", "Hunk", "ReadFile", "apply_delta", "apply_patch"]
