"""Bisection: the answer of `git bisect run` on any history, by as many trials at once as one likes."""

from __future__ import annotations

import math
import os
import random
import re
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest
from attrs import frozen
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum import Repository
from arboretum.backends.base import CommitLink
from arboretum.engine.bisect import run_bisect
from arboretum.engine.bisect_line import cut_points
from arboretum.engine.bisect_search import BisectSearch
from arboretum.engine.bisection import Answer, Bisection, Finding
from arboretum.engine.history import History, Region, reach_counts
from arboretum.engine.model import CommandSpec, Outcome, Plan
from arboretum.errors import UsageError
from arboretum.testing.builders import EPOCH, CommitSpec, RepositoryBuilder
from arboretum.values import LogQuery, Oid
from tests.engine.trials import ScriptedExecutor, oid, trial

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
OUTCOMES = {Finding.GOOD: Outcome.PASSED, Finding.BAD: Outcome.FAILED, Finding.SKIP: Outcome.SKIPPED}
EXIT_CODES = {Finding.GOOD: 0, Finding.BAD: 1, Finding.SKIP: 125}


@frozen
class Case:
    """A history with a truth: commits 1..n, the tip bad, one old commit good."""

    parents: dict[int, tuple[int, ...]]
    dates: dict[int, int]
    good: int
    truth: dict[int, Finding]

    @property
    def tip(self) -> int:
        return len(self.parents)

    def reach(self, commit: int) -> set[int]:
        seen, stack = set(), [commit]
        while stack:
            current = stack.pop()
            if current not in seen:
                seen.add(current)
                stack.extend(self.parents[current])
        return seen

    def specs(self) -> list[CommitSpec]:
        return [
            CommitSpec(
                {"number": str(n)}, f"commit {n}", parents=[f":{p}" for p in self.parents[n]], when=self.dates[n]
            )
            for n in sorted(self.parents)
        ]

    def start(self) -> Bisection:
        return Bisection.of(self.history(), oid(self.tip))

    def history(self) -> History:
        inside = self.reach(self.tip) - self.reach(self.good)
        links = [CommitLink(oid(n), tuple(map(oid, self.parents[n])), self.dates[n]) for n in inside]
        return History.of(links)


@st.composite
def cases(draw: st.DrawFn, *, max_commits: int = 30, linear: bool = False) -> Case:
    """A random history with merges and equal dates, one or more culprits, and skips."""
    count = draw(st.integers(2, max_commits))
    parents: dict[int, tuple[int, ...]] = {1: ()}
    dates, now = {1: EPOCH}, EPOCH
    for n in range(2, count + 1):
        back = [1] if linear else draw(st.lists(st.sampled_from([1, 1, 2, 3, 5, 8]), min_size=1, max_size=3))
        parents[n] = tuple(dict.fromkeys(max(1, n - b) for b in back))
        now += draw(st.sampled_from([0, 60]))
        dates[n] = now
    case = Case(parents, dates, 1, {})
    # The good end is mostly an ancestor of the bad one, and sometimes on another branch.
    older = sorted(case.reach(count) - {count}) if draw(st.integers(0, 3)) else list(range(1, count))
    good = draw(st.sampled_from(older[: max(1, len(older) // 2)]))
    inside = sorted(case.reach(count) - case.reach(good))
    culprits = draw(st.lists(st.sampled_from(inside), min_size=1, max_size=2))
    skips = draw(st.sets(st.sampled_from(inside), max_size=draw(st.sampled_from([0, 0, 2, count]))))
    truth = {n: Finding.BAD if case.reach(n) & set(culprits) else Finding.GOOD for n in parents}
    truth |= dict.fromkeys(skips, Finding.SKIP) | {count: Finding.BAD}
    return Case(parents, dates, good, truth)


def git_says(builder: RepositoryBuilder, *arguments: str) -> str:
    """The output of git, whatever its exit code: bisect ends with many, and they differ between versions."""
    ran = subprocess.run(
        ["git", *arguments], cwd=builder.path, env=dict(builder.environment), capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    return ran.stdout + ran.stderr


def git_answer(case: Case, builder: RepositoryBuilder, oids: dict[int, Oid]) -> tuple[set[int], list[int]]:
    """What `git bisect run` says: the first bad commit, or those that it is among; and what it tested."""
    script = (
        "case $(cat number) in " + " ".join(f"{n}) exit {EXIT_CODES[f]};;" for n, f in case.truth.items()) + " esac"
    )
    Path(builder.git_dir, "run.sh").write_text(script)
    builder.git("bisect", "start", oids[case.tip], oids[case.good])
    ran = git_says(builder, "bisect", "run", "sh", f"{builder.git_dir}/run.sh")
    numbers = {found: n for n, found in oids.items()}
    first = re.findall(r"^([0-9a-f]{40}) is the first bad commit", ran, re.MULTILINE)
    log = builder.git("bisect", "log")
    possible = re.findall(r"^# possible first bad commit: \[([0-9a-f]{40})", log, re.MULTILINE)
    assert first or possible, ran
    tested = re.findall(r"^git bisect (?:good|bad|skip) ([0-9a-f]{40})", log, re.MULTILINE)
    return {numbers[Oid(found)] for found in first or possible}, [numbers[Oid(found)] for found in tested]


def one_by_one(start: Bisection, truth: Mapping[Oid, Finding]) -> tuple[Answer, list[Oid]]:
    """The answer of the plain bisection, and what it tested."""
    known, tested = start, []
    while not isinstance(chosen := known.next(), Answer):
        tested.append(chosen)
        known = known.learn(chosen, truth[chosen])
    return chosen, tested


def in_parallel(case: Case, capacity: int, luck: random.Random) -> tuple[BisectSearch, int]:
    """Play the search with results that come in any order; also how many trials were needed."""
    search, running, trials = BisectSearch(case.start()), set(), 0
    while True:
        wanted = set(search.wanted(running, capacity))
        assert len(wanted) <= capacity
        running &= wanted
        for key in wanted - running:
            assert Oid(key[0]) not in search.findings, "a commit is tested once"
            running.add(key)
            trials += 1
        if not running:
            return search, trials
        for key in luck.sample(sorted(running), luck.randint(1, len(running))):
            running.discard(key)
            search.record(trial(OUTCOMES[case.truth[int(key[0], 16)]], hypothesis=key[0]))


@pytest.mark.slow
@given(case=cases(), capacity=st.integers(1, 6), seed=st.integers(0, 1000))
@settings(
    max_examples=max(1, min(500, math.ceil(25 * SCALE))), deadline=None, suppress_health_check=list(HealthCheck)
)  # fmt: skip
def test_the_answer_is_that_of_git_bisect_run(tmp_path_factory, case: Case, capacity: int, seed: int) -> None:
    """On any history, with merges, several culprits and skips, the candidates are those that git names."""
    builder = RepositoryBuilder.init(tmp_path_factory.mktemp("bisect") / "repo")
    oids = dict(enumerate(builder.commits(case.specs()), 1))
    numbers = {found: n for n, found in oids.items()}
    with Repository.open(builder.path) as repository:
        result = run_bisect(
            repository,
            oids[case.good],
            oids[case.tip],
            Plan(command=CommandSpec(("true",))),
            executor=ScriptedExecutor(
                lambda request: OUTCOMES[case.truth[numbers[request.commit]]],
                capacity=capacity,
                delay=lambda request: random.Random(seed + numbers[request.commit]).choice([0, 0, 0.002]),
            ),
        )
        query = LogQuery((oids[case.tip],), exclude=(oids[case.good],))
        history = History.of(repository.backend.links(query))
    answer, tested = git_answer(case, builder, oids)
    assert {numbers[found] for found in result.candidates} == answer
    if case.good not in case.reach(case.tip):
        return  # git tests the merge bases as well, at the beginning
    _, path = one_by_one(Bisection.of(history, oids[case.tip]), {oids[n]: finding for n, finding in case.truth.items()})
    # When there is nothing to search, `git bisect run` tests the bad end once.
    assert [numbers[found] for found in path] == (tested if len(history) > 1 else [])
    assert result.first_bad == (result.candidates[0] if len(result.candidates) == 1 else None)
    assert result.exit_code == (0 if result.first_bad else 3)
    replay = Path(builder.git_dir, "replayed")
    replay.write_text(result.log)
    builder.git("bisect", "reset")
    said = git_says(builder, "bisect", "replay", str(replay))
    if result.first_bad:
        assert f"{result.first_bad} is the first bad commit" in said


@given(cases(max_commits=40), st.data())
def test_what_commits_reach_is_counted_exactly(case: Case, data: st.DataObject) -> None:
    """In any part of a history, each commit's count is the number of marked commits that a plain walk comes by."""
    history = case.history()
    region, left = Region.below(history, oid(case.tip)), case.reach(case.tip) - case.reach(case.good)
    for number in data.draw(st.lists(st.integers(1, case.tip), max_size=3)):
        if number in left and number != case.tip:
            region, left = region.without(history.numbers[oid(number)]), left - case.reach(number)
    marked = data.draw(st.sets(st.sampled_from(sorted(left))))
    of = bytearray(len(history))
    for number in marked:
        of[history.numbers[oid(number)]] = 1
    assert {int(history.oids[number], 16) for number in region.members()} == left
    counts = reach_counts(region, of)
    assert {int(history.oids[n], 16): c for n, c in counts.items()} == {n: len(case.reach(n) & marked) for n in left}


@given(cases(max_commits=40), st.integers(1, 9), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_any_number_of_trials_at_once_finds_what_one_at_a_time_finds(case: Case, capacity: int, luck) -> None:
    """The answer depends neither on how many trials run at once nor on the order in which they end."""
    search, _ = in_parallel(case, capacity, luck)
    assert search.answer is not None
    answer, _ = one_by_one(case.start(), {oid(n): finding for n, finding in case.truth.items()})
    assert set(search.answer.candidates) == set(answer.candidates)


@given(cases(max_commits=60, linear=True), st.integers(1, 5), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_on_a_line_no_trial_is_wasted_twice(case: Case, capacity: int, luck) -> None:
    """On a plain line the number of trials stays within the rounds that k + 1 parts need, but for skips."""
    search, trials = in_parallel(case, capacity, luck)
    skips = sum(f is Finding.SKIP for f in case.truth.values())
    count = len(case.history())
    assert trials <= capacity * (math.ceil(math.log2(count)) + 1) + skips
    assert search.answer is not None


def rounds(count: int, cuts: int, first_bad: int) -> int:
    low, high, needed = 0, count, 0
    while high - low > 1:
        places = [low + place for place in cut_points(high - low, cuts)]
        high, low = (
            min([p + 1 for p in places if first_bad <= p] + [high]),
            max([p + 1 for p in places if first_bad > p] + [low]),
        )
        needed += 1
    return needed


@given(st.integers(1, 400), st.integers(1, 9))
def test_cuts_are_as_good_as_can_be(count: int, cuts: int) -> None:
    """No round more than k + 1 equal parts need at worst, and the least possible number on average."""
    needed = [rounds(count, cuts, place) for place in range(count)]
    worst = next(d for d in range(20) if (cuts + 1) ** d >= count)
    assert max(needed) == worst
    # A tree with k + 1 branches has (k + 1)^(worst - 1) nodes above its last level; each that is split gains k leaves.
    above = (cuts + 1) ** max(0, worst - 1)
    split = math.ceil((count - above) / cuts) if worst else 0
    assert abs(needed.count(worst) - (count - above + split if worst else count)) <= cuts + 1


@given(st.integers(2, 500), st.integers(1, 9))
def test_cuts_lie_inside_and_ascend(count: int, cuts: int) -> None:
    """Cuts are different positions before the last commit, which is known to be bad."""
    places = cut_points(count, cuts)
    assert 1 <= len(places) <= cuts
    assert places == sorted(set(places))
    assert 0 <= places[0] <= places[-1] < count - 1


def line(count: int, first_bad: int) -> Case:
    parents = {n: (n - 1,) if n > 1 else () for n in range(1, count + 1)}
    truth = {n: Finding.BAD if n >= first_bad else Finding.GOOD for n in parents}
    return Case(parents, {n: EPOCH + n for n in parents}, 1, truth)


def test_trials_that_no_longer_matter_are_not_wanted() -> None:
    """When the older of two running trials fails, the newer one is moot and the older part is cut anew."""
    search = BisectSearch(line(100, 10).start())
    running = list(search.wanted((), 2))
    older, newer = sorted(int(subject, 16) for subject, _ in running)
    search.record(trial(Outcome.FAILED, hypothesis=str(oid(older))))
    wanted = [int(subject, 16) for subject, _ in search.wanted({(str(oid(newer)), 1)}, 2)]
    assert newer not in wanted
    assert all(n < older for n in wanted)
    assert len(wanted) == 2


def test_running_trials_that_matter_go_on() -> None:
    """A running trial inside the remaining range stays wanted, and the rest of the capacity is put beside it."""
    search = BisectSearch(line(100, 90).start())
    running = list(search.wanted((), 3))
    oldest = min(running, key=lambda key: int(key[0], 16))
    search.record(trial(Outcome.PASSED, hypothesis=oldest[0]))
    still = set(running) - {oldest}
    assert still <= set(search.wanted(still, 3))
    assert len(search.wanted(still, 3)) == 3


def test_ends_that_fork_at_a_bad_commit_are_refused(tmp_path) -> None:
    """When the merge base of the two ends fails, the good end was mended since, and that is said."""
    builder = RepositoryBuilder.init(tmp_path / "repo")
    builder.commits([CommitSpec({"f": str(n)}) for n in range(5)])
    builder.commits([CommitSpec({"g": "x"}, branch="side", parents=["main~2"])])
    base = builder.git("rev-parse", "main~2")
    plan = Plan(command=CommandSpec(("true",)))
    with Repository.open(builder.path) as repository:
        mended = ScriptedExecutor(lambda _request: Outcome.FAILED)
        with pytest.raises(UsageError, match=f"merge base {base[:12]}"):
            run_bisect(repository, "side", "main", plan, executor=mended, cache=False)
        fine = ScriptedExecutor(lambda request: Outcome.PASSED if request.commit == base else Outcome.FAILED)
        found = run_bisect(repository, "side", "main", plan, executor=fine, cache=False)
        assert found.first_bad == repository.resolve("main~1")


@pytest.mark.parametrize("ends", [("main", "main~3"), ("main", "main")])
def test_ends_that_cannot_be_meant_are_refused(tmp_path, ends) -> None:
    """A bad end that is not ahead of the good one is a usage error, and nothing is made."""
    builder = RepositoryBuilder.init(tmp_path / "repo")
    builder.commits([CommitSpec({"f": str(n)}) for n in range(5)])
    builder.commits([CommitSpec({"g": "x"}, branch="side", parents=["main"])])
    with Repository.open(builder.path) as repository, pytest.raises(UsageError):
        run_bisect(repository, *ends, Plan(command=CommandSpec(("true",))))
    assert not Path(builder.git_dir, "arboretum").exists()
