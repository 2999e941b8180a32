"""What a trial costs: bare trials over warm slots, known results, and how both grow with the number of hypotheses."""

from __future__ import annotations

import shutil
import time
import tracemalloc
from pathlib import Path

from arboretum import Repository
from arboretum.engine.each import run_each
from arboretum.engine.model import CommandSpec, Hypothesis, Plan
from arboretum.engine.run import run_plan
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.benchmarks.each_ways import JjRun, all_passed, gnu_parallel
from tests.benchmarks.measure import Row, Timed, compare, growth, interleave, workplace

SLOTS = 8
JOBS = 24
#: So much a bare trial and a known result may take, in seconds.
BARE_TARGET, KNOWN_TARGET = 0.010, 2.0 / 10_000


def run(scale: float) -> list[Row]:
    """1,000 hypotheses of `true`; 10,000 known ones; the curves to there; 24 jobs in a repository of 5,000 files."""
    rounds = max(1, round(5 * scale))
    full = scale >= 1
    with workplace() as folder:
        return [
            *_hypotheses(folder, sizes=(1, 10, 100, 1000, 10_000) if full else (1, 10, 100)),
            *_many_files(folder, rounds, files=5000 if full else 200),
        ]


def _repository(path: Path) -> Path:
    builder = RepositoryBuilder.init(path)
    files: dict[str, str] = {f"folder{n % 10}/file{n}": f"{n}\n" for n in range(300)}
    builder.commits([CommitSpec(files if not n else {"number": f"{n}\n"}) for n in range(10)])
    return builder.path


def _plan(count: int) -> Plan:
    hypotheses = tuple(Hypothesis(id=f"h{n}", env={"NUMBER": str(n)}) for n in range(count))
    return Plan(command=CommandSpec(("true",)), hypotheses=hypotheses)


def _seconds(repository: Repository, count: int, *, refresh: bool) -> float:
    plan = _plan(count)
    start = time.perf_counter()
    result = run_plan(repository, plan, jobs=SLOTS, refresh=refresh)
    seconds = time.perf_counter() - start
    assert all(trial.cached != refresh for judgement in result.judgements for trial in judgement.trials)
    return seconds


def _memory(repository: Repository, count: int) -> int:
    """The most bytes that a run of `count` known hypotheses holds at once, its plan and its result included."""
    tracemalloc.start()
    try:
        _seconds(repository, count, refresh=False)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _hypotheses(folder: Path, sizes: tuple[int, ...]) -> list[Row]:
    """Each number of hypotheses tried, then (what the last trying left is known) looked up."""
    with Repository.open(_repository(folder / "hypotheses")) as repository:
        _seconds(repository, SLOTS, refresh=True)  # the slots are there
        tried = {
            count: min(_seconds(repository, count, refresh=True) for _ in range(2 if count <= 1000 else 1))
            for count in sizes
        }
        known = {count: min(_seconds(repository, count, refresh=False) for _ in range(3)) for count in sizes}
        held = {count: _memory(repository, count) for count in sizes}
    middle, largest = max(size for size in sizes if size <= 1000), max(sizes)
    allowed = max(KNOWN_TARGET * largest, 0.05)
    return [
        Row(area="trials", case=f"{middle:,} hypotheses of `true` over {SLOTS} warm slots, each", baseline="10 ms",
            ours=tried[middle] / middle, theirs=BARE_TARGET, ratio=tried[middle] / middle / BARE_TARGET, target=1.0,
            note="reset, proof, capture, journal, store and events on"),
        growth("trials", "hypotheses of `true`", tried, unit="hypotheses", target=1.1),
        Row(area="trials", case=f"{largest:,} hypotheses again, all known", baseline=f"{allowed:g} s",
            ours=known[largest], theirs=allowed, ratio=known[largest] / allowed, target=1.0,
            note=f"at most {held[largest] / 2**20:.0f} MiB held, {held[largest] / largest / 1000:.1f} KB for each",
            extra={"bytes_held": held}),
        growth("trials", "hypotheses, all known", known, unit="hypotheses", target=1.1),
    ]  # fmt: skip


def _many_files(folder: Path, rounds: int, *, files: int) -> list[Row]:
    builder = RepositoryBuilder.init(folder / "many")
    content: dict[str, str] = {f"folder{n % 100}/file{n}": f"{n}\n" * 30 for n in range(files)}
    changes = [{f"folder{n % 100}/file{n}": f"{m}\n" * 30 for n in range(7 * m, 7 * m + 7)} for m in range(JOBS)]
    first, *oids = builder.commits([CommitSpec(content), *(CommitSpec(dict(change)) for change in changes)])
    ready = [str(folder / f"ready{number}") for number in range(SLOTS)]
    for path in ready:
        builder.git("worktree", "add", "-q", "--detach", path)
    plan = Plan(command=CommandSpec(("true",)), timeout=60.0)
    with Repository.open(builder.path) as repository:

        def ours() -> None:
            all_passed(run_each(repository, f"{first}..HEAD", plan, jobs=SLOTS, refresh=True))

        parallel, jj = "GNU parallel over plain git in ready worktrees", "`jj run`"
        ways: dict[str, Timed] = {"ours": ours, "0.65 s": lambda: 0.65}
        if shutil.which("parallel"):
            ways[parallel] = lambda: gnu_parallel(ready, oids, "true", clean=True)
        run = JjRun.beside(builder.path, str(folder / "jj"), builder.environment)
        if run is not None:
            ways[jj] = lambda: run.run(first, oids[-1], SLOTS, ("true",))
        times = interleave(ways, rounds=rounds, warmup=1)
    case = f"{JOBS} jobs of `true` over {SLOTS} warm slots of {files:,} files, each at a commit of its own"
    return [
        compare("trials", case, times, ours="ours", baseline=name, target=None if name == jj else 1.0,
                note="ours proves each slot clean, captures, keeps a journal and a store")
        for name in ("0.65 s", parallel, jj) if name in times
    ]  # fmt: skip
