"""The few statistics that verdicts and searches rest on: exact, in closed form, without a numerical library.

The formulas are textbook: the posterior of a proportion under a uniform prior (Bayes, Laplace; A. Gelman et al.,
"Bayesian Data Analysis", 3rd ed., 2.4), its tail as a binomial sum (M. Abramowitz, I. Stegun, 26.5.24), and the
exact permutation distribution of a rank sum (F. Wilcoxon 1945; H. Mann, D. Whitney 1947) with mid-ranks for ties.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

#: Above so many ways to split the pooled values, the normal approximation stands in for the exact distribution.
_EXACT_SPLITS = 20_000


def probability_mostly(successes: int, failures: int) -> float:
    """The posterior probability that a success is likelier than not: ``P(p > 1/2)``.

    The prior of p is uniform, so the posterior is Beta(successes + 1, failures + 1), whose tail above 1/2 is the
    binomial sum ``P(Bin(n + 1, 1/2) <= successes)``, n being the number of trials. Nothing known gives 1/2,
    n successes and no failure give ``1 - 2**-(n + 1)``.

    Args:
        successes: How many trials succeeded.
        failures: How many did not.
    """
    flips = successes + failures + 1
    if flips <= 1000:
        return sum(math.comb(flips, k) for k in range(successes + 1)) / (1 << flips)
    # The exact integers would get long. The same sum in floating point, from its largest term down: no approximation,
    # because at the seam a success could then seem to lower the probability.
    if successes > failures:
        return 1 - probability_mostly(failures, successes)
    log_term = math.lgamma(flips + 1) - math.lgamma(successes + 1) - math.lgamma(flips - successes + 1)
    term = total = math.exp(log_term - flips * math.log(2))
    for k in range(successes, 0, -1):
        term *= k / (flips - k + 1)
        total += term
        if term < total * 1e-18:
            break
    return total


def credible_interval(successes: int, failures: int, *, mass: float = 0.95) -> tuple[float, float]:
    """The central interval that holds `mass` of the posterior Beta(successes + 1, failures + 1).

    By bisection of its distribution function; above 500 trials by the normal approximation of the same mean and
    variance, where the two agree to three digits.
    """
    trials = successes + failures
    if trials > 500:
        mean = (successes + 1) / (trials + 2)
        half = NormalDist().inv_cdf((1 + mass) / 2) * math.sqrt(mean * (1 - mean) / (trials + 3))
        return max(0.0, mean - half), min(1.0, mean + half)
    tail = (1 - mass) / 2
    return _beta_quantile(successes, failures, tail), _beta_quantile(successes, failures, 1 - tail)


def _beta_quantile(successes: int, failures: int, probability: float) -> float:
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _beta_cdf(successes, failures, middle) < probability:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _beta_cdf(successes: int, failures: int, x: float) -> float:
    flips = successes + failures + 1
    return math.fsum(math.comb(flips, k) * x**k * (1 - x) ** (flips - k) for k in range(successes + 1, flips + 1))


def median(values: Sequence[float]) -> float:
    """The median; the mean of the middle two for an even number of values."""
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2


def rank_sum_p_value(one: Sequence[float], two: Sequence[float]) -> float:
    """The two-sided p-value that `one` and `two` differ in location, by the permutation distribution of the rank sum.

    It assumes nothing of the distribution of the values: under "no difference" every split of the pooled ranks
    into the two groups is as likely as every other. Exact up to 20,000 splits (8 against 8 values), by the normal
    approximation with a correction for ties above that.

    Args:
        one: Values of the first group, at least one.
        two: Values of the second group, at least one.
    """
    ranks = _mid_ranks([*one, *two])
    size, total = len(one), len(ranks)
    observed = sum(ranks[:size])
    expected = size * (total + 1) / 2
    distance = abs(observed - expected) - 1e-9
    if math.comb(total, size) <= _EXACT_SPLITS:
        sums = [sum(split) for split in itertools.combinations(ranks, size)]
        return sum(abs(s - expected) >= distance for s in sums) / len(sums)
    mean = (total + 1) / 2
    variance = size * (total - size) * sum((r - mean) ** 2 for r in ranks) / (total * (total - 1))
    if variance == 0:
        return 1.0
    return math.erfc(max(0.0, abs(observed - expected) - 0.5) / math.sqrt(2 * variance))


def smallest_p_value(one: int, two: int) -> float:
    """The smallest p-value that groups of these sizes can show at all: ``2 / C(one + two, one)``, at most 1."""
    return min(1.0, 2 / math.comb(one + two, one))


def _mid_ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for position in order[start : end + 1]:
            ranks[position] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def log_beta(a: float, b: float) -> float:
    """The logarithm of the Beta function."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
