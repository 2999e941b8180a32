"""What the orchestrator costs: many tasks of 10 ms on four slots of a small repository, beside a script of git's own.

The script is what one writes by hand: four workers at a time, a fresh worktree and branch for each task, a commit, a
merge into a branch in a worktree of its own, the worktree removed; adding and merging under a lock, because git's
own commands fail beside each other without one.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import subprocess
import tempfile
import time
from functools import partial

from arboretum.engine.model import CommandSpec
from arboretum.orchestration.orchestrator import Orchestrator
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.scopes import Scope
from arboretum.orchestration.tasks import Task, TaskPlan
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.benchmarks.curves import LINEAR, Curves, sizes_of
from tests.benchmarks.measure import Row, Timed, interleave

SLOTS, SECONDS, TASKS, LIMIT = 4, 0.01, 500, 0.04
SCRIPT = """
set -e
flock "$TOP/lock" git worktree add -q --no-track -b "task/$1" "$TOP/w/$1" main
cd "$TOP/w/$1"
sleep 0.01; echo "$1" > "src/$1.txt"
git add -A
git commit -q -m "task $1"
cd "$TOP/integration"
flock "$TOP/lock" git merge -q --no-ff -m "Merge $1" "task/$1"
flock "$TOP/lock" git worktree remove --force "$TOP/w/$1"
"""


def run(scale: float) -> list[Row]:
    """The overhead per task: wall time less the ideal (tasks times 10 ms over 4 slots), over the number of tasks.

    Args:
        scale: 1 for 500 tasks and 3 rounds.
    """
    count, rounds = max(8, round(TASKS * scale)), max(1, round(3 * min(scale, 1)))
    processor: dict[str, list[float]] = {"ours": [], "nothing": []}

    def ours(name: str) -> float:
        before = sum(os.times()[:4])
        overhead = orchestrated(count, writes=name == "ours")
        processor[name].append((sum(os.times()[:4]) - before) / count)
        return overhead

    times = interleave(
        {
            "ours": lambda: ours("ours"),
            "nothing": lambda: ours("nothing"),
            "script": lambda: scripted(count),
        },
        rounds=rounds,
        warmup=0,
    )
    rows = []
    for name, case in (("ours", "a task changes a file"), ("nothing", "a task changes nothing")):
        median = statistics.median(times[name])
        rows.append(
            Row(
                area="orchestration",
                case=f"overhead per task, {count} of 10 ms on {SLOTS} slots; {case}",
                ours=median,
                baseline="the limit of 40 ms",
                theirs=LIMIT,
                ratio=median / LIMIT,
                target=1.0,
                note=f"{1000 * statistics.median(processor[name]):.0f} ms of processor time a task, git's included",
                extra={"load_average": os.getloadavg()[0]},
            )
        )
    ratios = [ours / script for ours, script in zip(times["ours"], times["script"], strict=True)]
    rows.append(
        Row(
            area="orchestration",
            case=f"overhead per task, {count} of 10 ms on {SLOTS} slots; against a script",
            ours=statistics.median(times["ours"]),
            baseline="xargs -P4, git worktree add, commit, merge",
            theirs=statistics.median(times["script"]),
            ratio=statistics.median(ratios),
            note="the script has no scopes, no verify, no journal",
        )
    )
    curves = Curves("orchestration", "tasks")
    for size in sizes_of(scale, (5, 50, 500, 2000)):
        ways: dict[str, Timed] = {
            "overhead of tasks that change a file": partial(
                _overhead_of, size, writes=True
            ),  # the repository grows, too
            "overhead of tasks that change nothing": partial(_overhead_of, size, writes=False),
        }
        if size <= 500:  # more take the script many minutes: its slope is steep enough to be seen by then
            ways["the script's"] = partial(_scripted_overhead, size)
        curves.add(size, ways, large=True)
    against = {
        "overhead of tasks that change a file": ("the script's", LINEAR),
        "overhead of tasks that change nothing": ("", LINEAR),
    }
    return [*rows, *curves.rows(against)]


def _overhead_of(count: int, *, writes: bool) -> float:
    return count * orchestrated(count, writes=writes)


def _scripted_overhead(count: int) -> float:
    return count * scripted(count)


def _overhead(wall: float, count: int) -> float:
    return (wall - count * SECONDS / SLOTS) / count


def _repository(folder: str) -> RepositoryBuilder:
    builder = RepositoryBuilder.init(os.path.join(folder, "repo"))
    builder.commits([CommitSpec(files={f"src/f{i}.txt": b"text\n" for i in range(100)})])
    return builder


def orchestrated(count: int, *, writes: bool) -> float:
    """Seconds of overhead per task; with `writes` each task changes a file of its own."""
    with tempfile.TemporaryDirectory() as folder:
        saved = dict(os.environ)
        builder = _repository(folder)
        os.environ |= {"ARBORETUM_CACHE_DIR": os.path.join(folder, "cache"), **builder.environment}
        try:
            with Repository.open(builder.path) as repository:
                action = CommandSpec(("sleep 0.01" + ("; echo {id} > src/{id}.txt" if writes else ""),), shell=True)
                tasks = tuple(
                    Task(id=f"t{i}", command=action, scope=Scope((f"/src/t{i}.txt",)), estimate=SECONDS)
                    for i in range(count)
                )
                begun = time.perf_counter()
                orchestrator = Orchestrator.start(repository, TaskPlan(tasks=tasks), Limits(slots=SLOTS))
                board = asyncio.run(orchestrator.run())
                wall = time.perf_counter() - begun
        finally:
            os.environ.clear()
            os.environ |= saved
    if not board.all_good:
        raise AssertionError({name: r.reason for name, r in board.records.items() if not r.state.is_good})
    return _overhead(wall, count)


def scripted(count: int) -> float:
    """Seconds of overhead per task of the script."""
    with tempfile.TemporaryDirectory() as folder:
        builder = _repository(folder)
        builder.git("worktree", "add", "-q", "-b", "integration", f"{folder}/integration", "main")
        names = "".join(f"t{i}\n" for i in range(count))
        begun = time.perf_counter()
        subprocess.run(
            ["xargs", "-P", str(SLOTS), "-I", "{}", "sh", "-c", SCRIPT, "sh", "{}"],
            input=names.encode(), cwd=builder.path, env={**builder.environment, "TOP": folder}, check=True,
        )  # fmt: skip
        wall = time.perf_counter() - begun
        merged = builder.git("rev-list", "--count", "--merges", "integration")
    if int(merged) != count:
        raise AssertionError(f"{merged} of {count} tasks were merged")
    return _overhead(wall, count)
