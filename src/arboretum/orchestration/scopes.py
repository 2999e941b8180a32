"""Scopes: which paths a task may change, as gitignore-style patterns; and whether two scopes can meet."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from typing import Self

import pathspec
from attrs import field, frozen

from arboretum.errors import InvalidValueError
from arboretum.orchestration.globs import Pattern, meeting_path, parse_pattern


def _patterns(texts: Iterable[str]) -> tuple[Pattern, ...]:
    return tuple(parse_pattern(text) for text in texts)


@frozen(slots=False)
class Scope:
    """A set of paths: those whose last matching pattern is not negated.

    Args:
        patterns: The patterns, in order. ``!`` takes away what earlier ones gave. As `pathspec` reads gitignore:
            ``src/`` and ``src/**`` are all below it, ``src/*`` only what lies directly in it, ``*.md`` at any depth.

    Raises:
        InvalidValueError: A text is no pattern, or the first one takes away from nothing.
    """

    patterns: tuple[Pattern, ...] = field(converter=_patterns)

    @patterns.validator
    def _check(self, _attribute: object, value: tuple[Pattern, ...]) -> None:
        if value and value[0].negated:
            raise InvalidValueError(f"{value[0].text!r} takes away from nothing", hint="put a pattern without ! first")

    def __str__(self) -> str:
        return ", ".join(self.texts)

    @property
    def texts(self) -> tuple[str, ...]:
        """The patterns as written."""
        return tuple(pattern.text for pattern in self.patterns)

    @functools.cached_property
    def _spec(self) -> pathspec.PathSpec:  # type: ignore[type-arg]  # generic in its pattern from 1.0.1 on only
        return pathspec.PathSpec.from_lines("gitignore", self.texts)

    def __contains__(self, path: object) -> bool:
        return isinstance(path, str) and self._spec.match_file(path)

    def of(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Those of `paths` that are in the scope."""
        return tuple(path for path in paths if path in self)

    def outside(self, paths: Iterable[str]) -> tuple[str, ...]:
        """Those of `paths` that are not in the scope."""
        return tuple(path for path in paths if path not in self)

    def meeting(self, other: Scope) -> str | None:
        """A shortest path that both scopes hold; None when there cannot be one. Exact, whatever files exist.

        A path is in a scope when one of its patterns matches and no later negated one does.
        """
        return min(self._meetings(other), key=lambda path: (len(path), path), default=None)

    def meets(self, other: Scope) -> bool:
        """Whether some path is in both."""
        return next(self._meetings(other), None) is not None

    def _meetings(self, other: Scope) -> Iterator[str]:
        for i, one in enumerate(self.patterns):
            for j, two in enumerate(other.patterns):
                if not one.negated and not two.negated:
                    path = meeting_path(one, two, (*self._negated_after(i), *other._negated_after(j)))
                    if path is not None:
                        yield path

    def _negated_after(self, position: int) -> tuple[Pattern, ...]:
        return tuple(pattern for pattern in self.patterns[position + 1 :] if pattern.negated)

    def widened(self, texts: Iterable[str]) -> Self:
        """The scope with further patterns."""
        return type(self)((*self.texts, *texts))

    @classmethod
    def of_paths(cls, paths: Iterable[str]) -> Self:
        """The scope of exactly these files (and what would lie below them)."""
        return cls(tuple("/" + exact(path) for path in paths))


def exact(path: str) -> str:
    """The pattern text that matches the file name `path` literally."""
    text = "".join(f"\\{char}" if char in "\\*?[" else char for char in path)
    return text[:-1] + "\\ " if text.endswith(" ") else text
