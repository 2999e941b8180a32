"""The frame of the benchmarks does its sums right. No time is asserted here."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.benchmarks.__main__ import areas, document, table
from tests.benchmarks.measure import Row, compare, growth, interleave, slope

positive = st.floats(0.001, 1000)


@given(st.lists(st.tuples(positive, positive), min_size=1))
def test_a_ratio_is_the_median_of_the_rounds(pairs: list[tuple[float, float]]) -> None:
    """The ratio lies between the smallest and the largest ratio of a round, whatever the drift between rounds."""
    times = {"ours": [a for a, _ in pairs], "theirs": [b for _, b in pairs]}
    row = compare("x", "case", times, ours="ours", baseline="theirs", target=1.0)
    ratios = [a / b for a, b in pairs]
    assert row.ratio is not None
    assert min(ratios) <= row.ratio <= max(ratios)
    assert row.reached is (row.ratio <= 1.0)
    faster = compare("x", "case", times, ours="ours", baseline="theirs", target=1.0, at_least=True)
    assert faster.ratio is not None
    assert faster.reached is (faster.ratio >= 1.0)


def test_each_way_is_timed_once_a_round() -> None:
    """Warm-up rounds run but do not count, and a way may tell its own seconds."""
    calls = {"a": 0, "b": 0}

    def way(name: str) -> float:
        calls[name] += 1
        return 2.0 if name == "a" else 4.0

    times = interleave({"a": lambda: way("a"), "b": lambda: way("b")}, rounds=3, warmup=2)
    assert calls == {"a": 5, "b": 5}
    assert times == {"a": [2.0] * 3, "b": [4.0] * 3}


def test_a_figure_without_baseline_is_told_and_not_judged() -> None:
    """A row without a ratio is neither reached nor missed, and still stands in the table and the data."""
    row = Row(area="x", case="left out", baseline="jj", note="could not be had")
    assert row.reached is None
    assert table([row]).row_count == 1
    assert document([row], 1.0)["rows"][0]["note"] == "could not be had"  # type: ignore[index]


@given(st.floats(-1, 3), st.floats(1e-6, 10), st.lists(st.integers(1, 10**6), min_size=2, unique=True))
def test_a_slope_is_the_exponent_of_the_growth(exponent: float, constant: float, sizes: list[int]) -> None:
    """Of a time that is a power of the size the slope is that power, whatever sizes were measured."""
    points = {size: constant * size**exponent for size in sizes}
    assert slope(points) == pytest.approx(exponent, abs=1e-3)
    row = growth("x", "case", points, unit="files", theirs={1: 1.0, 10: 10.0}, baseline="git", target=1.1)
    assert row.ratio == pytest.approx(exponent, abs=2e-3)
    assert row.ours == points[max(sizes)]
    assert row.extra["slope"]["git"] == pytest.approx(1.0)  # type: ignore[index]


def test_the_constant_part_does_not_hide_the_growth() -> None:
    """Only the large end counts, where what grows outweighs what does not; one size alone has no slope."""
    assert slope({n: 1.0 if n <= 100 else n / 100 for n in (1, 10, 100, 1000, 10_000)}) == pytest.approx(1.0)
    assert slope({5: 2.0}) == 0.0


@pytest.mark.parametrize("area", areas())
def test_every_area_can_be_run(area: str) -> None:
    """Each benchmark module has a docstring and a function `run` that takes a scale."""
    import importlib
    import inspect

    module = importlib.import_module(f"tests.benchmarks.bench_{area}")
    assert module.__doc__
    assert list(inspect.signature(module.run).parameters) == ["scale"]
