"""Bisection with a flaky test."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum import Repository
from arboretum.engine.bayesian_search import BayesianSearch, Beliefs
from arboretum.engine.bisect import run_bisect
from arboretum.engine.history import Region
from arboretum.engine.model import CommandSpec, Outcome, Plan
from arboretum.errors import UsageError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.engine.test_bisect import Case, cases, line
from tests.engine.trials import F, P, ScriptedExecutor, oid, trial


def play(
    case: Case, culprit: int, fails: tuple[float, float], capacity: int, seed: int, **more
) -> tuple[BayesianSearch, int]:
    """Search with a test that fails with the two rates, where the culprit is reached and where not."""
    luck = random.Random(seed)
    search = BayesianSearch(case.history(), oid(case.tip), more.pop("confidence", 0.95), **more)
    running: list[tuple[str, int]] = []
    draws = 0
    while wanted := search.wanted(running, capacity):
        assert set(running) <= set(wanted)
        assert len(set(wanted)) == len(wanted) <= capacity
        running = list(wanted)
        subject, attempt = running.pop(luck.randrange(len(running)))
        draws += 1
        failed = luck.random() < fails[0 if culprit in case.reach(int(subject, 16)) else 1]
        search.record(trial(F if failed else P, attempt, hypothesis=subject))
    return search, draws


@pytest.mark.parametrize(("bad", "good", "capacity"), [(1.0, 0.0, 1), (0.9, 0.02, 1), (0.7, 0.05, 3), (0.4, 0.0, 2)])
def test_it_is_right_as_often_as_it_says(bad: float, good: float, capacity: int) -> None:
    """At a confidence of 0.95 at least 9 of 10 searches over 40 fixed seeds end at the culprit."""
    right = 0
    for seed in range(40):
        culprit = random.Random(seed).randrange(2, 34)
        search, _ = play(line(33, culprit), culprit, (bad, good), capacity, seed)
        right += search.answer is not None and search.answer.candidates == (oid(culprit),)
    assert right >= 36


def test_a_sure_test_needs_few_trials() -> None:
    """When the test never lies the search needs about as many trials as halving, and a few to be sure."""
    draws = [play(line(257, culprit), culprit, (1.0, 0.0), 1, 0)[1] for culprit in (2, 60, 128, 200, 257)]
    assert max(draws) <= 2 * math.log2(256) + 6


@given(cases(max_commits=20), st.integers(1, 4), st.integers(0, 99))
@settings(max_examples=40, deadline=None)
def test_the_posterior_is_a_distribution(case: Case, capacity: int, seed: int) -> None:
    """On any history the posterior sums to one, the answer is never empty, and the search ends."""
    culprit = random.Random(seed).choice(sorted(case.reach(case.tip) - case.reach(case.good)))
    search, draws = play(case, culprit, (0.8, 0.1), capacity, seed, max_trials=60)
    assert math.isclose(sum(search.posterior.values()), 1)
    assert search.answer is not None
    assert search.answer.candidates
    assert draws <= 60
    assert 0 < search.reached <= 1 + 1e-9


def test_what_cannot_be_tested_leaves_a_group() -> None:
    """When nothing between two commits can be tested, both are named."""
    search = BayesianSearch(line(3, 3).history(), oid(3), 0.95)
    while wanted := search.wanted((), 1):
        subject, attempt = wanted[0]
        ending = Outcome.SKIPPED if subject == str(oid(2)) else F
        search.record(trial(ending, attempt, hypothesis=subject))
    assert search.answer is not None
    assert set(search.answer.candidates) == {oid(2), oid(3)}


def test_a_failure_far_back_moves_the_odds_back() -> None:
    """A failing draw makes the commits that are reached likelier, a passing one the others."""
    beliefs = Beliefs(Region.below(line(9, 5).history(), oid(9)))
    beliefs.observe(oid(5), failed=True)
    assert sum(beliefs.posterior[:4]) > 0.8
    for _ in range(3):
        beliefs.observe(oid(3), failed=False)
    assert max(range(8), key=lambda n: beliefs.posterior[n]) in {2, 3}


def test_a_flaky_test_is_bisected_on_a_repository(tmp_path) -> None:
    """`confidence` repeats trials, ends at the culprit, and the log is one that git can read and not follow."""
    builder = RepositoryBuilder.init(tmp_path / "repo")
    oids = builder.commits([CommitSpec({"n": str(n)}) for n in range(20)])
    luck = random.Random(3)
    executor = ScriptedExecutor(
        lambda request: F if oids.index(request.commit) >= 11 and luck.random() < 0.6 else P, capacity=2
    )
    with Repository.open(builder.path) as repository:
        result = run_bisect(
            repository, oids[0], "main", Plan(command=CommandSpec(("true",))), executor=executor, confidence=0.99
        )
        with pytest.raises(UsageError):
            run_bisect(repository, oids[0], "main", Plan(command=CommandSpec(("true",))), confidence=1.5)
    assert result.first_bad == oids[11]
    assert 0.99 <= result.confidence <= 1
    assert any(trial.attempt > 1 for trial in result.trials)
    assert f"# first bad commit: [{oids[11]}]" in result.log
    assert result.log.count("git bisect") == 1
