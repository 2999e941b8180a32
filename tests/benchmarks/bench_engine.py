"""The engine: `each` over ready worktrees, and `bisect` beside `git bisect run`. The tests only sleep."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from arboretum import Repository
from arboretum.engine.bisect import run_bisect
from arboretum.engine.each import run_each
from arboretum.engine.model import CommandSpec, Plan
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid
from tests.benchmarks.each_ways import GitTest, JjRun, all_passed, gnu_parallel, over_ready_worktrees
from tests.benchmarks.measure import Row, Timed, cache_folder, compare, interleave

SLEEP = 0.5
COMMITS = 24
JOBS = 8


def run(scale: float) -> Iterator[Row]:
    """24 commits with 8 jobs, warm and cached; a history of 1,000 commits bisected with 2 and 4 jobs."""
    with tempfile.TemporaryDirectory() as name, cache_folder(f"{name}/cache"):
        folder = Path(name)
        yield from _each(folder, rounds=max(1, round(7 * scale)))
        yield from _bisect(folder, culprits=max(1, round(9 * scale)))


# --- each ---


def _each(folder: Path, *, rounds: int) -> Iterator[Row]:
    builder = RepositoryBuilder.init(folder / "each")
    files: dict[str, str] = {f"folder{n % 10}/file{n}": f"{n}\n" * 20 for n in range(300)}
    oids = builder.commits([CommitSpec({**(files if not n else {}), "number": f"{n}\n"}) for n in range(COMMITS + 1)])
    ready = [str(folder / f"ready{n}") for n in range(JOBS)]
    for path in [*ready, str(folder / "git-test")]:
        builder.git("worktree", "add", "-q", "--detach", path)
    plan = Plan(command=CommandSpec(("sleep", str(SLEEP))), timeout=60.0)
    told: list[object] = []
    with Repository.open(builder.path) as repository:

        def each(*, refresh: bool) -> None:
            result = run_each(
                repository, f"HEAD~{COMMITS}..HEAD", plan, jobs=JOBS, refresh=refresh, observers=[told.append]
            )
            all_passed(result)
            assert all(commit.cached != refresh for commit in result.commits)

        each(refresh=True)  # the slots are there, and the results known
        yield from _beside_parallel_ways(folder, builder, ready, oids, each, rounds)
        yield from _beside_git_test(folder, builder, oids[1:], each, rounds)


_EACH = f"each: {COMMITS} commits, sleep {SLEEP}, {JOBS} jobs, warm"


def _beside_parallel_ways(
    folder: Path,
    builder: RepositoryBuilder,
    ready: list[str],
    oids: Sequence[Oid],
    each: Callable[..., None],
    rounds: int,
) -> Iterator[Row]:
    """Beside bare threads, GNU parallel and `jj run` with as many jobs, and nothing but the sleeps."""
    sleep = ("sleep", str(SLEEP))
    ways: dict[str, Timed] = {
        "ours": lambda: each(refresh=True),
        "threads": lambda: over_ready_worktrees(ready, oids[1:], sleep),
        "only sleeping": _sleep_in_waves,
    }
    if shutil.which("parallel"):
        ways["GNU parallel"] = lambda: gnu_parallel(ready, oids[1:], f"sleep {SLEEP}")
    jj = JjRun.beside(builder.path, str(folder / "jj"), builder.environment)
    if jj is not None:
        ways["jj run"] = lambda: jj.run(oids[0], oids[-1], JOBS, sleep)
    times = interleave(ways, rounds=rounds)
    yield compare("engine", _EACH, times, ours="ours", baseline="only sleeping", target=1.6 / 1.5,
                  note="capture, timeouts, journal, store and events on")  # fmt: skip
    for name, note in (
        ("threads", "baseline: threads that check out and sleep, nothing else"),
        ("GNU parallel", "baseline: the same, by GNU parallel"),
        ("jj run", "baseline: with as many jobs, its working copies warm"),
    ):
        if name in times:
            yield compare("engine", _EACH, times, ours="ours", baseline=name, note=note,
                          target=1.6 / 1.81 if name == "GNU parallel" else None)  # fmt: skip


def _beside_git_test(
    folder: Path, builder: RepositoryBuilder, oids: Sequence[Oid], each: Callable[..., None], rounds: int
) -> Iterator[Row]:
    """Beside git-test's algorithm, which runs one commit after another, and again when all is known."""
    git_test = GitTest(str(folder / "git-test"), builder.environment)

    def cold() -> None:
        git_test.forget()
        assert git_test.run(oids, f"sleep {SLEEP}") == len(oids)

    def known() -> None:
        assert git_test.run(oids, f"sleep {SLEEP}") == 0

    name = "git-test's algorithm: one worktree, one after another"
    times = interleave({"ours": lambda: each(refresh=True), name: cold}, rounds=max(1, rounds // 3), warmup=0)
    yield compare("engine", _EACH, times, ours="ours", baseline=name)
    name = "git-test's algorithm: notes on trees"
    limit = "a quarter of a second"
    times = interleave({"ours": lambda: each(refresh=False), name: known, limit: lambda: 0.25}, rounds=rounds)
    case = f"each: {COMMITS} commits again, all known"
    for baseline in (name, limit):
        yield compare("engine", case, times, ours="ours", baseline=baseline, target=1.0)


def _sleep_in_waves() -> None:
    for _ in range(COMMITS // JOBS):
        sleepers = [subprocess.Popen(["sleep", str(SLEEP)]) for _ in range(JOBS)]
        for sleeper in sleepers:
            sleeper.wait()


# --- bisect ---


def _bisect(folder: Path, *, culprits: int) -> list[Row]:
    builder = RepositoryBuilder.init(folder / "bisect")
    files: dict[str, str] = {f"folder{n % 10}/file{n}": f"{n}\n" * 20 for n in range(300)}
    oids = builder.commits([CommitSpec({**(files if not n else {}), "number": f"{n}\n"}) for n in range(1001)])
    shutil.copytree(builder.path, folder / "for-git", symlinks=True)
    # Spread evenly, none of them at a place that halving finds sooner than others.
    places = [round(1000 * (2 * n + 1) / (2 * culprits)) for n in range(culprits)]
    times: dict[str, list[float]] = {"git bisect run": [], "2 jobs": [], "4 jobs": []}
    with Repository.open(builder.path) as repository:

        def ours(place: int, jobs: int) -> None:
            plan = Plan(command=CommandSpec((_script(place),), shell=True), timeout=60.0)
            result = run_bisect(repository, oids[0], oids[-1], plan, jobs=jobs, refresh=True)
            assert result.first_bad == oids[place]

        ours(1, 4)  # the slots are there
        for place in places:
            taken = interleave(
                {
                    "git bisect run": lambda place=place: _git_bisect(folder / "for-git", builder, oids, place),
                    "2 jobs": lambda place=place: ours(place, 2),
                    "4 jobs": lambda place=place: ours(place, 4),
                },
                rounds=1,
                warmup=0,
                seed=place,
            )  # fmt: skip
            for name, seconds in taken.items():
                times[name] += seconds
    case = f"bisect: 1,000 commits, sleep {SLEEP}"
    rows = []
    gits = sum(times["git bisect run"])
    for jobs, target, waits in ((2, 0.62, 6.41), (4, 0.4, 4.47)):  # the mean number of rounds that is needed
        mean, floor = sum(times[f"{jobs} jobs"]) / gits, culprits * waits * SLEEP / gits
        rows.append(
            compare("engine", f"{case}, {jobs} jobs", times, ours=f"{jobs} jobs", baseline="git bisect run",
                    target=target, seconds=_rounded(times), mean=mean, floor=floor,
                    note=f"{culprits} culprits, spread evenly; mean {mean:.3f}; if only tests took time {floor:.3f}")
        )  # fmt: skip
    return rows


def _script(place: int) -> str:
    return f"sleep {SLEEP}; test $(cat number) -lt {place}"


def _git_bisect(path: Path, builder: RepositoryBuilder, oids: tuple[Oid, ...], place: int) -> None:
    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", *arguments], cwd=path, env=dict(builder.environment), check=True, capture_output=True, text=True
        )
        return done.stdout

    git("bisect", "start", oids[-1], oids[0])
    assert f"{oids[place]} is the first bad commit" in git("bisect", "run", "sh", "-c", _script(place))
    git("bisect", "reset")


def _rounded(times: dict[str, list[float]]) -> dict[str, list[float]]:
    return {name: [round(seconds, 2) for seconds in taken] for name, taken in times.items()}
