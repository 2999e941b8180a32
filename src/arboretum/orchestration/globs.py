"""Gitignore-style patterns as automata, so that one can say exactly whether two of them can meet.

A pattern is translated to a small non-deterministic automaton over characters, with the meaning that
`pathspec` gives it (gitignore as documented: ``**`` spans folders, a pattern without an inner slash applies at
any depth, a pattern that names a folder holds for all below it). Whether two patterns have a path in common
is the emptiness of the product of their automata, searched breadth-first, so the path found is a shortest one
(Hopcroft, Ullman: Introduction to Automata Theory, section 4.2). Characters that no pattern can tell apart
are one symbol: code space is cut at the characters that the patterns name.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from attrs import define, field, frozen

from arboretum.errors import InvalidValueError

Matcher = Callable[[str], bool]

_META: Final = re.compile(r"[\\*?\[]")
_BRACKET: Final = re.compile(r"\[([!^]?)(\]?[^\]]*)\]")


def _any(_char: str) -> bool:
    return True


def _in_name(char: str) -> bool:
    return char != "/"


@functools.cache
def _literal(char: str) -> Matcher:
    return lambda other: other == char


@define(eq=False)
class Automaton:
    """A non-deterministic automaton; states are numbers, the first is 0 and the last one added accepts.

    Args:
        moves: For each state what it reads and where it goes.
        jumps: For each state where it goes without reading.
        named: The characters that the automaton names.
    """

    moves: list[list[tuple[Matcher, int]]] = field(factory=lambda: [[]])
    jumps: list[list[int]] = field(factory=lambda: [[]])
    named: set[str] = field(factory=lambda: {"/"})

    @property
    def final(self) -> int:
        """The accepting state."""
        return len(self.moves) - 1

    def _state(self) -> int:
        self.moves.append([])
        self.jumps.append([])
        return self.final

    def read(self, matcher: Matcher) -> Automaton:
        """Go on by one character that `matcher` takes."""
        here = self.final
        self.moves[here].append((matcher, self._state()))
        return self

    def literal(self, char: str) -> Automaton:
        """Go on by exactly `char`."""
        self.named.add(char)
        return self.read(_literal(char))

    def loop(self, matcher: Matcher) -> Automaton:
        """Stay for any number of characters that `matcher` takes."""
        here = self.final
        after = self._state()
        self.jumps[here].append(after)
        self.moves[after].append((matcher, after))
        return self

    def optional(self, build: Callable[[], Automaton]) -> None:
        """Go on by what `build` adds, or by nothing."""
        here = self.final
        build()
        inner, end = self.final, self._state()
        self.jumps[inner].append(end)
        self.jumps[here].append(end)

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        """The states that are reached from `states` without reading."""
        found, pending = set(states), list(states)
        while pending:
            for state in self.jumps[pending.pop()]:
                if state not in found:
                    found.add(state)
                    pending.append(state)
        return frozenset(found)

    @functools.cached_property
    def start(self) -> frozenset[int]:
        """The states before the first character."""
        return self.closure((0,))

    def step(self, states: frozenset[int], char: str) -> frozenset[int]:
        """The states after `char`."""
        return self.closure([target for s in states for matcher, target in self.moves[s] if matcher(char)])

    def accepts(self, text: str) -> bool:
        """Whether the whole of `text` is in the language."""
        states = self.start
        for char in text:
            states = self.step(states, char)
        return self.final in states


@frozen
class Pattern:
    """One line of a scope.

    Args:
        text: The pattern as written.
        negated: Whether it takes paths away (``!``).
        automaton: What it matches.
        prefix: Text that every matching path starts with.
    """

    text: str
    negated: bool
    automaton: Automaton = field(repr=False, eq=False)
    prefix: str = field(repr=False, eq=False)


@functools.lru_cache(maxsize=4096)
def parse_pattern(text: str) -> Pattern:
    """Parse one gitignore-style pattern.

    Raises:
        InvalidValueError: It is empty, a comment, has a line break, or a bracket that cannot be meant.
    """
    line = text if text.endswith("\\ ") else text.rstrip()
    if not line or line.startswith("#") or any(c in line for c in "\n\r\x00"):
        raise InvalidValueError(
            f"{text!r} is not a pattern", hint=r"patterns look like those of .gitignore: src/**, *.md; escape # as \#"
        )
    negated = line.startswith("!")
    body = line[1:] if negated else line
    segments = _segments(text, body)
    automaton = _automaton(text, segments)
    anchored = segments is not None and segments[0] != "**"
    return Pattern(text, negated, automaton, _literal_prefix(segments or []) if anchored else "")


def _segments(text: str, body: str) -> list[str] | None:
    """The parts between slashes, normalised as pathspec does; None for a pattern that is ``**`` in the end."""
    parts = body.split("/")
    if any(part in {".", ".."} for part in parts):
        raise InvalidValueError(f"{text!r} can match nothing: paths have no '.' and '..' parts")
    if any(not part for part in parts[1:-1]) or body == "":
        raise InvalidValueError(f"{text!r} can match nothing: it has an empty part")
    if body == "/":
        return None
    if not parts[0]:
        del parts[0]
    elif len(parts) == 1 or (len(parts) == 2 and not parts[1]):
        parts = parts if parts[0] == "**" else ["**", *parts]
    if not parts[-1]:
        parts[-1] = "**"
        if all(part == "**" for part in parts):  # "**/": all that is in a folder
            parts = ["**", "*", "**"]
    collapsed = [part for i, part in enumerate(parts) if not (i and part == parts[i - 1] == "**")]
    return None if collapsed in (["**"], ["**", "*"]) else collapsed


def _automaton(text: str, segments: list[str] | None) -> Automaton:
    made = Automaton()
    if segments is None:
        made.loop(_any)
        return made
    slash = False
    for position, segment in enumerate(segments):
        is_last = position == len(segments) - 1
        if segment == "**" and position == 0:
            made.optional(lambda: made.read(_any).loop(_any).literal("/"))
        elif segment == "**" and not is_last:
            made.optional(lambda: made.literal("/").read(_any).loop(_any))
        elif segment == "**":
            made.literal("/").loop(_any)
        else:
            if slash:
                made.literal("/")
            _add_name(made, text, segment)
            if is_last and segment != "*":  # a pattern that names a folder holds for all below it
                made.optional(lambda: made.literal("/").loop(_any))
        slash = slash or position > 0 or segment != "**"
    return made


def _add_name(made: Automaton, text: str, segment: str) -> None:
    if segment == "*":
        made.read(_in_name).loop(_in_name)
        return
    position = 0
    while position < len(segment):
        char = segment[position]
        bracket = _BRACKET.match(segment, position) if char == "[" else None
        if char == "\\":
            if position + 1 == len(segment):
                raise InvalidValueError(f"{text!r} ends with a backslash that escapes nothing")
            made.literal(segment[position + 1])
            position += 2
            continue
        if bracket:
            made.named.update(bracket.group(2))
            made.read(_bracket(text, bracket))
            position = bracket.end()
            continue
        if char == "*":
            made.loop(_in_name)
        elif char == "?":
            made.read(_in_name)
        else:
            made.literal(char)
        position += 1


def _bracket(text: str, bracket: re.Match[str]) -> Matcher:
    body = bracket.group(2).replace("\\", "\\\\")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            compiled = re.compile(f"[{'^' if bracket.group(1) else ''}{body}]")
    except (re.error, FutureWarning) as error:
        raise InvalidValueError(f"{text!r}: the bracket {bracket.group()} cannot be meant: {error}") from error
    return lambda char: compiled.match(char) is not None


def _literal_prefix(segments: list[str]) -> str:
    prefix = ""
    for position, segment in enumerate(segments):
        meta = _META.search(segment)
        if meta:
            return prefix + ("/" if position else "") + segment[: meta.start()]
        prefix += ("/" if position else "") + segment
    return prefix


# --- meeting ---

# A path never has an empty part, a part "." or "..", or a slash at its ends: where inside a part one stands.
_START, _DOT, _DOTS, _NAME = range(4)
#: Where the search stands: in a part of the path, in each of the two patterns, in those that take away.
_State = tuple[int, int, int, tuple[frozenset[int], ...]]


def _part(state: int, char: str) -> int | None:
    if char == "/":
        return _START if state == _NAME else None
    if char == "." and state in {_START, _DOT}:
        return state + 1
    return _NAME


def symbols(named: Iterable[str]) -> tuple[str, ...]:
    """One character for each class of characters that patterns naming only `named` cannot tell apart."""
    points = sorted({0x20, 0x7F, 0xA1} | {p for c in named for p in (ord(c), ord(c) + 1)} | {ord("/"), ord("/") + 1})
    found = []
    for low, high in zip(points, [*points[1:], 0x3000], strict=True):
        inside = [c for c in "axn0" if low <= ord(c) < high]
        if low < high and not 0xD800 <= low <= 0xDFFF and low > 0x1F and low != 0x7F:
            found.append(inside[0] if inside else chr(low))
    return tuple(found)


def meeting_path(one: Pattern, two: Pattern, without: tuple[Pattern, ...] = ()) -> str | None:
    """A shortest path that `one` and `two` match and none of `without` does; None when there is none.

    The search is over pairs of states, so its cost is the product of the lengths of the two patterns; only the
    patterns of `without` are made deterministic as it goes.
    """
    if not one.prefix.startswith(two.prefix) and not two.prefix.startswith(one.prefix):
        return None
    return _search(one, two, without)


@functools.lru_cache(maxsize=65536)
def _search(one: Pattern, two: Pattern, without: tuple[Pattern, ...]) -> str | None:
    left, right, banned = one.automaton, two.automaton, [p.automaton for p in without]
    alphabet = symbols(left.named | right.named | {c for b in banned for c in b.named})
    queue: deque[tuple[_State, str]] = deque()
    seen: set[_State] = set()

    def reach(states: Iterator[_State], path: str) -> None:
        for state in states:
            if state not in seen:
                seen.add(state)
                queue.append((state, path))

    reach(((_START, p, q, tuple(b.start for b in banned)) for p in left.start for q in right.start), "")
    while queue:
        (part, p, q, away), path = queue.popleft()
        in_both = part == _NAME and p == left.final and q == right.final
        if in_both and not any(b.final in states for b, states in zip(banned, away, strict=True)):
            return path
        for char in alphabet:
            after = _part(part, char)
            if after is None:
                continue
            lefts = left.step(frozenset((p,)), char)
            rights = right.step(frozenset((q,)), char) if lefts else frozenset()
            if rights:
                gone = tuple(b.step(states, char) for b, states in zip(banned, away, strict=True))
                reach(((after, x, y, gone) for x in lefts for y in rights), path + char)
    return None
