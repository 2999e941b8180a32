"""The engine: `each` over ready worktrees, and `bisect` beside `git bisect run`. The tests only sleep."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

from arboretum import Repository
from arboretum.engine.bisect import run_bisect
from arboretum.engine.each import run_each
from arboretum.engine.model import CommandSpec, Plan
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid
from tests.benchmarks.measure import Row, compare, interleave

SLEEP = 0.5
COMMITS = 24
JOBS = 8


def run(scale: float) -> list[Row]:
    """24 commits with 8 jobs, warm and cached; a history of 1,000 commits bisected with 2 and 4 jobs."""
    with _folder() as folder:
        return [*_each(folder, rounds=max(1, round(7 * scale))), *_bisect(folder, culprits=max(1, round(9 * scale)))]


@contextmanager
def _folder() -> Iterator[Path]:
    before = os.environ.get("ARBORETUM_CACHE_DIR")
    with tempfile.TemporaryDirectory() as name:
        os.environ["ARBORETUM_CACHE_DIR"] = f"{name}/cache"
        try:
            yield Path(name)
        finally:
            if before is None:
                del os.environ["ARBORETUM_CACHE_DIR"]
            else:
                os.environ["ARBORETUM_CACHE_DIR"] = before


# --- each ---


def _each(folder: Path, *, rounds: int) -> list[Row]:
    builder = RepositoryBuilder.init(folder / "each")
    files: dict[str, str] = {f"folder{n % 10}/file{n}": f"{n}\n" * 20 for n in range(300)}
    builder.commits([CommitSpec({**(files if not n else {}), "number": f"{n}\n"}) for n in range(COMMITS + 1)])
    ready = [str(folder / f"ready{n}") for n in range(JOBS)]
    for path in ready:
        builder.git("worktree", "add", "-q", "--detach", path)
    oids = builder.git("rev-list", f"HEAD~{COMMITS}..HEAD").split()
    plan = Plan(command=CommandSpec(("sleep", str(SLEEP))), timeout=60.0)
    told: list[object] = []
    with Repository.open(builder.path) as repository:

        def each(*, refresh: bool) -> None:
            result = run_each(
                repository, f"HEAD~{COMMITS}..HEAD", plan, jobs=JOBS, refresh=refresh, observers=[told.append]
            )
            assert result.exit_code == 0
            assert all(commit.cached != refresh for commit in result.commits)

        each(refresh=True)  # the slots are there, and the results known
        times = interleave(
            {
                "ours": lambda: each(refresh=True),
                "cached": lambda: each(refresh=False),
                "ready worktrees": lambda: _over_ready_worktrees(ready, oids),
                "only sleeping": _sleep_in_waves,
                "a quarter of a second": lambda: 0.25,
            },
            rounds=rounds,
            warmup=1,
        )
    case = f"each: {COMMITS} commits, sleep {SLEEP}, {JOBS} jobs, warm"
    return [
        compare("engine", case, times, ours="ours", baseline="only sleeping", target=1.6 / 1.5,
                note="capture, timeouts, journal, store and events on"),
        compare("engine", case, times, ours="ours", baseline="ready worktrees", target=1.6 / 1.81,
                note="baseline: threads that check out and sleep, nothing else"),
        compare("engine", f"each: {COMMITS} commits again, all known", times, ours="cached",
                baseline="a quarter of a second", target=1.0),
    ]  # fmt: skip


def _sleep_in_waves() -> None:
    for _ in range(COMMITS // JOBS):
        sleepers = [subprocess.Popen(["sleep", str(SLEEP)]) for _ in range(JOBS)]
        for sleeper in sleepers:
            sleeper.wait()


def _over_ready_worktrees(ready: list[str], oids: list[str]) -> None:
    queue: SimpleQueue[str] = SimpleQueue()
    for oid in oids:
        queue.put(oid)

    def work(path: str) -> None:
        while not queue.empty():
            oid = queue.get()
            subprocess.run(["git", "checkout", "-q", "--detach", oid], cwd=path, check=True)
            subprocess.run(["sleep", str(SLEEP)], cwd=path, check=True)

    threads = [threading.Thread(target=work, args=(path,)) for path in ready]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


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
