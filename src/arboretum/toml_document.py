"""A TOML file that remembers on which line each of its keys stands, so that errors can say so.

`tomllib` gives values and no positions. Here it is its own scanner: the shortest run of lines that it accepts
alone, starting where the last one ended, is exactly one statement, because a line break inside a statement
can only be inside a multi-line text or an array, and such a beginning is never a document of its own.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from attrs import define, field

from arboretum.errors import ArboretumError, InputFileError, InvalidValueError

#: A key of the document: names of tables and keys, and positions in arrays (from 0).
KeyPath = tuple[str | int, ...]
#: Takes what TOML gave and returns what the model holds, or raises an error of ours.
Parser = Callable[[Any], Any]

_PLACE = re.compile(r" \(at (?:line (\d+), column \d+|end of document)\)\Z")
#: What the last line of a statement of several lines must have.
_CLOSERS = ("]", '"""', "'''")


def show_key(path: KeyPath) -> str:
    """The key as people write it: ``hypothesis[2].timeout``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@define
class TomlDocument:
    """The parsed file and the line of each key.

    Args:
        path: The file, for messages.
        data: Its content.
        lines: The line (from 1) of each table, array element and key.
    """

    path: str
    data: dict[str, Any]
    lines: dict[str, int] = field(factory=dict)

    @classmethod
    def read(cls, path: str | os.PathLike[str], *, kind: str = "file") -> TomlDocument:
        """Read the file at `path`.

        Args:
            path: The file.
            kind: What it is called in messages (``plan file``).

        Raises:
            InputFileError: It is not there, cannot be read, is not UTF-8 or is not TOML.
        """
        try:
            with open(path, "rb") as file:
                raw = file.read()
        except FileNotFoundError as error:
            raise InputFileError(f"there is no such {kind}", path=path, hint="check the path") from error
        except OSError as error:
            hint = "name a file that you may read"
            raise InputFileError(f"the {kind} cannot be read: {error.strerror}", path=path, hint=hint) from error
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            line = raw.count(b"\n", 0, error.start) + 1
            raise InputFileError(f"the {kind} is not UTF-8", path=path, line=line, hint="save it as UTF-8") from error
        return cls.parse(text, path=path)

    @classmethod
    def parse(cls, text: str, *, path: str | os.PathLike[str]) -> TomlDocument:
        """Parse `text` as the content of the file `path`.

        Raises:
            InputFileError: It is not TOML.
        """
        text = text.removeprefix("\N{BOM}").replace("\r\n", "\n")
        try:
            data = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            place = _PLACE.search(str(error))
            line = int(place.group(1)) if place and place.group(1) else text.count("\n") + 1
            what = _PLACE.sub("", str(error))
            raise InputFileError(f"not valid TOML: {what}", path=path, line=line, hint="see https://toml.io") from error
        except RecursionError as error:
            raise InputFileError("not valid TOML: nested too deeply", path=path) from error
        return cls(os.fspath(path), data, _key_lines(text))

    def line_of(self, path: KeyPath) -> int | None:
        """The line of a key, or of the nearest table around it that has one."""
        for end in range(len(path), 0, -1):
            line = self.lines.get(show_key(path[:end]))
            if line is not None:
                return line
        return None

    def error(self, message: str, path: KeyPath, *, hint: str = "") -> InputFileError:
        """The error for the key `path`, with its file and line (1 for a key of the document that is missing)."""
        return InputFileError(message, path=self.path, line=self.line_of(path) or 1, key=show_key(path), hint=hint)

    def refuse(self, problem: ArboretumError, path: KeyPath) -> InputFileError:
        """The error for the key `path` that says what `problem` says."""
        return self.error(problem.message, path, hint=problem.hint)

    def check_keys(self, table: object, path: KeyPath, known: Iterable[str]) -> dict[str, Any]:
        """The table at `path` itself, if it is one and has none but the `known` keys.

        Raises:
            InputFileError: It is no table, or has an unknown key; a likely spelling is suggested.
        """
        if not isinstance(table, dict):
            raise self.error("a table is wanted here", path)
        names = sorted(known)
        for key in table:
            if key not in names:
                near = difflib.get_close_matches(key, names, n=1, cutoff=0.6)
                hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
                raise self.error("unknown key", (*path, key), hint=hint)
        return table

    def check_version(self, kind: str) -> None:
        """Refuse a document of another version of the format than 1, which is the one known.

        Args:
            kind: What the format is of (``plan``).
        """
        version = self.data.get("version", 1)
        if isinstance(version, bool) or version != 1:
            hint = "this arboretum reads version 1"
            raise self.error(f"version {version!r} of the {kind} format is not known", ("version",), hint=hint)

    def check_ids(self, kind: str, ids: Iterable[str]) -> None:
        """Refuse two tables ``[[kind]]`` with one id; ids become file names, and some file systems fold their case."""
        seen: dict[str, int] = {}
        for index, name in enumerate(ids):
            first = seen.setdefault(name.casefold(), index)
            if first != index:
                raise self.error(
                    f"the id {name!r} is taken: the {kind} on line {self.line_of((kind, first, 'id'))} has it",
                    (kind, index, "id"),
                    hint="ids differ in more than upper and lower case",
                )

    def values_of(self, path: KeyPath, table: Mapping[str, Any], parsers: Mapping[str, Parser]) -> dict[str, Any]:
        """The values of those keys of the table at `path` that have a parser.

        Raises:
            InputFileError: A parser refuses its value.
        """
        values: dict[str, Any] = {}
        for key, value in table.items():
            if key in parsers:
                try:
                    values[key] = parsers[key](value)
                except ArboretumError as error:
                    raise self.refuse(error, (*path, key)) from error
        return values


def check_text(value: object) -> str:
    """The text itself.

    Raises:
        InvalidValueError: It is no text, or has a NUL.
    """
    if not isinstance(value, str):
        raise InvalidValueError(f"a text is wanted, not {value!r}", hint="put it in quotes")
    if "\x00" in value:
        raise InvalidValueError("a text cannot have a NUL")
    return value


def whole_number(low: int, high: int) -> Parser:
    """What takes whole numbers from `low` to `high` and refuses the rest with InvalidValueError."""

    def parse(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise InvalidValueError(f"a whole number from {low} to {high} is wanted, not {value!r}")
        return value

    return parse


def parse_variables(value: object) -> Mapping[str, str]:
    """A table of environment variables.

    Raises:
        InvalidValueError: It is none, or a name or value cannot be one.
    """
    if not isinstance(value, dict):
        raise InvalidValueError(f"a table of variables is wanted, not {value!r}", hint='env = {NAME = "value"}')
    for name, text in value.items():
        if not name or "=" in name or "\x00" in name:
            raise InvalidValueError(f"{name!r} cannot be the name of a variable")
        if not isinstance(text, str):
            raise InvalidValueError(f"the variable {name} needs a text, not {text!r}", hint="put it in quotes")
        check_text(text)
    return dict(value)


def _statements(text: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
    """Each statement of a valid document: its first line (from 1), its text and what it says alone."""
    start, chunk = 1, ""
    for number, line in enumerate(text.split("\n"), 1):
        chunk = f"{chunk}\n{line}" if chunk else line
        if number > start and not any(closer in line for closer in _CLOSERS):
            continue
        try:
            said = tomllib.loads(chunk)
        except tomllib.TOMLDecodeError:
            continue
        if said:
            yield start, chunk.strip(), said
        start, chunk = number + 1, ""


def _key_lines(text: str) -> dict[str, int]:
    lines: dict[str, int] = {}
    lengths: dict[str, int] = {}
    table: KeyPath = ()
    for line, statement, said in _statements(text):
        if statement.startswith("["):
            is_array = statement.startswith("[[")
            table = _resolve(_only_path(said), lengths)
            if is_array:
                name = show_key(table)
                lengths[name] = lengths.get(name, 0) + 1
                table = (*table, lengths[name] - 1)
            for end in range(1, len(table) + 1):
                lines.setdefault(show_key(table[:end]), line)
        else:
            for path in _paths(said, table):
                lines.setdefault(show_key(path), line)
    return lines


def _only_path(said: dict[str, Any]) -> tuple[str, ...]:
    path: tuple[str, ...] = ()
    inner: Any = said
    while isinstance(inner, dict) and inner:
        key, inner = next(iter(inner.items()))
        path = (*path, key)
    return path


def _resolve(names: tuple[str, ...], lengths: dict[str, int]) -> KeyPath:
    # [a.b] below [[a]] means the last element of a.
    path: KeyPath = ()
    for position, name in enumerate(names):
        path = (*path, name)
        count = lengths.get(show_key(path))
        if count and position < len(names) - 1:
            path = (*path, count - 1)
    return path


def _paths(value: Any, path: KeyPath) -> Iterator[KeyPath]:
    if path:
        yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from _paths(inner, (*path, index))
