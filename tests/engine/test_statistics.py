"""The statistics: exact, and equal to independent ways to the same number."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from arboretum.engine import statistics
from arboretum.engine.comparison import DURATION, compare
from arboretum.engine.model import Outcome
from arboretum.engine.statistics import (
    credible_interval,
    median,
    probability_mostly,
    rank_sum_p_value,
    smallest_p_value,
)
from tests.engine.trials import F, P, trial

COUNTS = st.integers(0, 40)


@given(COUNTS, COUNTS)
def test_the_posterior_is_the_integral(successes: int, failures: int) -> None:
    """The binomial sum equals the integral of the Beta density above one half, worked out as a polynomial."""

    # Integrate p^s (1-p)^f by the binomial theorem, exactly.
    def integral(low: Fraction) -> Fraction:
        total = Fraction(0)
        for k in range(failures + 1):
            power = successes + k + 1
            total += Fraction((-1) ** k * math.comb(failures, k), power) * (1 - low**power)
        return total

    exact = integral(Fraction(1, 2)) / integral(Fraction(0))
    assert probability_mostly(successes, failures) == pytest.approx(float(exact), rel=1e-12)


@given(COUNTS, COUNTS)
def test_success_and_failure_mirror_each_other(successes: int, failures: int) -> None:
    """The probabilities of "mostly" and "mostly not" add up to one."""
    assert math.isclose(probability_mostly(successes, failures) + probability_mostly(failures, successes), 1)


@given(st.integers(0, 3000), st.integers(0, 3000))
@example(successes=470, failures=529)
@example(successes=529, failures=470)
def test_a_success_never_lowers_the_probability(successes: int, failures: int) -> None:
    """One more success raises the posterior, also where the sum of integers gives way to one of floats."""
    assert probability_mostly(successes + 1, failures) >= probability_mostly(successes, failures) - 1e-12


@given(st.integers(400, 800), st.integers(400, 800))
def test_the_sum_of_floats_equals_the_sum_of_integers(successes: int, failures: int) -> None:
    """Both ways to add up the binomial give the same number."""
    flips = successes + failures + 1
    exact = Fraction(sum(math.comb(flips, k) for k in range(successes + 1)), 1 << flips)
    assert probability_mostly(successes, failures) == pytest.approx(float(exact), rel=1e-10)


@given(COUNTS, COUNTS)
def test_the_interval_holds_its_mass(successes: int, failures: int) -> None:
    """The ends of the interval lie in order within 0 and 1 and around the mean."""
    low, high = credible_interval(successes, failures)
    assert 0 <= low < (successes + 1) / (successes + failures + 2) < high <= 1


def test_known_intervals() -> None:
    """Values from a table: Beta(1, 1) and Beta(11, 1)."""
    assert credible_interval(0, 0) == pytest.approx((0.025, 0.975))
    assert credible_interval(10, 0) == pytest.approx((0.025 ** (1 / 11), 0.975 ** (1 / 11)))
    assert credible_interval(600, 400) == pytest.approx((0.5693, 0.6299), abs=1e-3)


VALUES = st.lists(st.integers(0, 20).map(float), min_size=1, max_size=5)


@given(VALUES, VALUES)
def test_the_rank_sum_test_is_symmetric_and_a_probability(one, two) -> None:
    """Swapping the groups changes nothing, and the p-value lies between the smallest possible one and 1."""
    p = rank_sum_p_value(one, two)
    assert p == pytest.approx(rank_sum_p_value(two, one))
    assert smallest_p_value(len(one), len(two)) / 2 <= p <= 1


@given(VALUES, VALUES, st.sampled_from([lambda x: 2 * x + 1, lambda x: x**3, math.exp]))
def test_the_rank_sum_test_sees_ranks_only(one, two, grow) -> None:
    """A growing function of all values changes nothing."""
    assert rank_sum_p_value(one, two) == rank_sum_p_value([grow(x) for x in one], [grow(x) for x in two])


def test_known_p_values() -> None:
    """Complete separation of 4 and 4 gives 2/70; equal values give 1, by the approximation too."""
    assert rank_sum_p_value([1, 2, 3, 4], [5, 6, 7, 8]) == pytest.approx(2 / 70)
    assert rank_sum_p_value([1, 1, 1], [1, 1]) == 1
    assert rank_sum_p_value([1.0] * 20, [1.0] * 20) == 1


@given(st.lists(st.integers(0, 30).map(float), min_size=8, max_size=8), st.integers(0, 20))
@settings(max_examples=20)
def test_the_approximation_is_near_the_exact_value(one, shift) -> None:
    """Where the one takes over from the other, at 8 against 8 values, they differ by less than 0.03."""
    two = [float(x) + shift for x in range(8)]
    exact = rank_sum_p_value(one, two)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(statistics, "_EXACT_SPLITS", 0)
        assert rank_sum_p_value(one, two) == pytest.approx(exact, abs=0.03)


def test_the_level_is_kept() -> None:
    """Under "no difference" the exact test calls at most five in a hundred splits significant."""
    import itertools

    values = [0.3, 1.0, 1.1, 2.0, 2.5, 3.1, 4.0, 9.0]
    splits = list(itertools.combinations(range(8), 4))
    called = sum(
        rank_sum_p_value([values[i] for i in s], [v for i, v in enumerate(values) if i not in s]) <= 0.05
        for s in splits
    )
    assert called / len(splits) <= 0.05


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_half_lies_on_each_side_of_the_median(values) -> None:
    """At least half of the values are not above the median and at least half not below."""
    middle = median(values)
    assert 2 * sum(v <= middle + 1e-9 for v in values) >= len(values)
    assert 2 * sum(v >= middle - 1e-9 for v in values) >= len(values)


# --- comparisons with the control ---


def timed(outcome: Outcome, *seconds: float, **metrics: float):
    return [trial(outcome, i, duration=s, metrics=metrics) for i, s in enumerate(seconds, 1)]


def test_a_large_ratio_of_single_trials_is_seen_not_proven() -> None:
    """With one trial on each side a factor of three is told, and said to be seen only."""
    (found,) = compare(timed(P, 3.0), timed(F, 1.0))
    assert found.p_value is None
    assert found.notable
    assert found.note == "slower: 3 times the control (3 s against 1 s; seen in 1 and 1 trials, too few to prove it)"


def test_a_small_ratio_of_single_trials_is_not_told() -> None:
    """Without a test to back it a factor of 1.5 could be chance."""
    (found,) = compare(timed(P, 1.5), timed(F, 1.0))
    assert not found.notable


def test_a_proven_ratio_may_be_smaller() -> None:
    """Four trials each that do not overlap prove a factor of 1.6; overlapping ones do not."""
    (found,) = compare(timed(P, 1.6, 1.61, 1.62, 1.59), timed(F, 1.0, 1.01, 0.99, 1.02))
    assert found.notable
    (found,) = compare(timed(P, 1.5, 0.9, 2.9, 0.8), timed(F, 1.0, 1.01, 0.99, 1.02))
    assert not found.notable


def test_milliseconds_are_noise() -> None:
    """Ten times as long is nothing when it is a few hundredths of a second."""
    (found,) = compare(timed(P, 0.05), timed(F, 0.005))
    assert not found.notable


def test_a_proven_but_tiny_difference_is_not_told() -> None:
    """Two percent are not worth a note, however sure."""
    (found,) = compare(timed(P, *[1.02 + i / 1e4 for i in range(8)]), timed(F, *[1.0 + i / 1e4 for i in range(8)]))
    assert found.p_value == pytest.approx(2 / 12870)
    assert not found.notable


def test_reported_numbers_are_compared_too() -> None:
    """A metric that both sides report is compared; one of a single side is not; no evidence does not count."""
    own = [*timed(P, 1.0, latency=30.0, own=1.0), trial(Outcome.TIMEOUT, 9, metrics={"latency": 999.0})]
    found = {c.name: c for c in compare(own, timed(F, 1.0, latency=10.0))}
    assert set(found) == {DURATION, "latency"}
    assert found["latency"].note.startswith("changed: latency is 3 times the control (30 against 10;")
    assert compare([trial(Outcome.TIMEOUT)], timed(F, 1.0)) == ()
