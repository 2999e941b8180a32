"""Scopes: matching agrees with pathspec, and meeting is decided exactly."""

from __future__ import annotations

import itertools

import pathspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum.errors import InvalidValueError
from arboretum.orchestration.globs import parse_pattern
from arboretum.orchestration.scopes import Scope, exact

#: Every path of at most three parts over a small alphabet of names: what brute force tries.
NAMES = ("a", "b", "ab", "a.b", "ba", "aab", "bb")
PATHS = ["/".join(parts) for n in (1, 2, 3) for parts in itertools.product(NAMES, repeat=n)]

parts = st.sampled_from(
    ["a", "b", "ab", "*", "?", "a*", "*b", "*.b", "[ab]", "[!a]", "[a-b]b", "?b", "**", "a?b", "*a*"]
)
bodies = st.builds(
    lambda lead, names, tail: lead + "/".join(names) + tail,
    st.sampled_from(["", "", "/"]),
    st.lists(parts, min_size=1, max_size=3),
    st.sampled_from(["", "", "/"]),
)


def _is_pattern(text: str) -> bool:
    try:
        parse_pattern(text)
    except InvalidValueError:
        return False
    return True


patterns = bodies.filter(_is_pattern)
scopes = st.builds(
    lambda first, rest: Scope((first, *rest)),
    patterns,
    st.lists(st.builds(lambda bang, body: bang + body, st.sampled_from(["", "!"]), patterns), max_size=2),
)


@given(patterns)
@settings(max_examples=300, deadline=None)
def test_a_pattern_matches_what_pathspec_matches(text: str) -> None:
    """The automaton of a pattern accepts exactly the paths that pathspec matches."""
    automaton = parse_pattern(text).automaton
    spec = pathspec.PathSpec.from_lines("gitignore", [text])
    for path in PATHS:
        assert automaton.accepts(path) == spec.match_file(path), path


@given(scopes, scopes)
@settings(max_examples=300, deadline=None)
def test_meeting_agrees_with_brute_force(one: Scope, two: Scope) -> None:
    """Scopes with a common path are found to meet, and the path that is named is in both by pathspec's own word."""
    found = one.meeting(two)
    common = [path for path in PATHS if path in one and path in two]
    if common:
        assert found is not None
    if found is not None:
        assert found in one
        assert found in two
        # It is a shortest one; brute force knows only some names, so it can never find a shorter one.
        assert all(len(found) <= len(path) for path in common)


@given(scopes, scopes)
@settings(max_examples=100, deadline=None)
def test_meeting_is_symmetric(one: Scope, two: Scope) -> None:
    """Whether two scopes meet does not depend on which is asked."""
    assert one.meets(two) == two.meets(one)


@pytest.mark.parametrize(
    ("one", "two", "meets"),
    [
        (["src/**"], ["docs/**"], False),
        (["src/**"], ["src/a.py"], True),
        (["*.py"], ["*.md"], True),  # a folder a.py with b.md in it: possible, so they meet
        (["*.py", "!*.py/"], ["*.md", "!*.md/"], False),
        (["src/*.py"], ["docs/*.py"], False),
        (["*.py"], ["docs/**"], True),  # docs/conf.py
        (["src/*.py"], ["src/core/*.py"], False),
        (["src/*"], ["src/core/x"], False),
        (["src/**", "!src/gen/**"], ["src/gen/"], False),
        (["src/**", "!src/gen/**", "src/gen/keep.py"], ["src/gen/*.py"], True),
        (["a/**/z"], ["a/z"], True),
        (["/a"], ["b/a"], False),
        (["/a[0-9].txt"], ["/a[a-z].txt"], False),
        (["/a[0-9].txt"], ["/a[5-z].txt"], True),
        (["/x?"], ["/xyz"], False),
        ([r"/\*.md"], ["/a.md"], False),
        (["/data"], ["/data.csv"], False),
        (["/data"], ["data/x"], True),
        (["data"], ["/data.csv"], True),  # data.csv/data
        (["[é]x"], ["[à-ö]x"], True),
    ],
)
def test_examples_of_meeting(one: list[str], two: list[str], meets: bool) -> None:
    """Globs meet by what they can match, not by what exists."""
    assert Scope(tuple(one)).meets(Scope(tuple(two))) is meets


def test_a_meeting_that_needs_a_character_nobody_named() -> None:
    """Two wildcards meet at a name that neither pattern spells."""
    path = Scope(("?[!a]",)).meeting(Scope(("[!x]?",)))
    assert path is not None
    assert len(path) == 2


def test_long_wildcards_do_not_explode() -> None:
    """Patterns whose deterministic automata are exponential are decided by the product of their states."""
    one, two = "/*a" + "?" * 40, "/*b" + "?" * 40
    assert not Scope((one,)).meets(Scope((two,)))  # their 41st characters from the end differ
    assert Scope((one,)).meets(Scope((two + "?",)))
    assert not Scope((one,)).meets(Scope(("/" + "c" * 30,)))


@given(st.text(st.sampled_from("ab*?[]!# \\."), min_size=1, max_size=6).filter(lambda t: t.strip(". ")))
@settings(max_examples=200, deadline=None)
def test_the_exact_scope_of_a_file_holds_it_and_no_sibling(name: str) -> None:
    """A scope made of a file name takes its special characters literally."""
    scope = Scope.of_paths([f"d/{name}"])
    assert f"d/{name}" in scope
    assert f"d/{name}x" not in scope
    assert f"d/x{name}" not in scope
    assert exact("plain") == "plain"


@pytest.mark.parametrize("text", ["", "  ", "# note", "a//b", "../x", "./a", "a/../b", "[z-a]", "x\\", "a\nb", "!"])
def test_what_is_no_pattern_is_refused(text: str) -> None:
    """A text that can match nothing, or means nothing, is refused."""
    with pytest.raises(InvalidValueError):
        Scope((text,))


def test_a_scope_that_starts_by_taking_away_is_refused() -> None:
    """A negation needs something before it."""
    with pytest.raises(InvalidValueError, match="takes away"):
        Scope(("!a", "b"))
