"""Durations: what people write, in seconds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.durations import format_duration, parse_duration
from arboretum.errors import InvalidValueError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (300, 300),
        (0.5, 0.5),
        ("300", 300),
        ("90s", 90),
        ("5m", 300),
        ("1h30m", 5400),
        ("1h 30m", 5400),
        ("500ms", 0.5),
        ("1.5h", 5400),
        ("2d", 172800),
        (" 5M ", 300),
    ],
)
def test_what_people_write(text: object, seconds: float) -> None:
    """Numbers are seconds; texts have units."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", [-1, "-1", "-5m", "", "m", "5 minutes", "1e999", "nan", "inf", float("inf"), True, None, [], "5m-3s"]
)
def test_what_is_no_duration_is_refused(text: object) -> None:
    """Negative, infinite, undefined and meaningless durations are refused with a hint."""
    with pytest.raises(InvalidValueError) as caught:
        parse_duration(text)
    assert "90s" in caught.value.hint


@given(st.integers(0, 400), st.integers(0, 59), st.integers(0, 59))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: int) -> None:
    """A text is the sum of its parts."""
    assert parse_duration(f"{hours}h{minutes}m{seconds}s") == hours * 3600 + minutes * 60 + seconds


@given(st.floats(0, 1e7))
def test_shown_durations_can_be_read_back(seconds: float) -> None:
    """What is shown is a duration near the one that was meant."""
    shown = parse_duration(format_duration(seconds))
    assert abs(shown - seconds) <= max(0.051, seconds * 0.02)
