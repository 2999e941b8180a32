"""How runs grow: with the worktrees beside them, with the commits of the history that they are about."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from arboretum import Repository
from arboretum.engine.bisect import run_bisect
from arboretum.engine.each import run_each
from arboretum.engine.model import CommandSpec, Hypothesis, Plan
from arboretum.engine.pool import WorktreePool
from arboretum.engine.run import run_plan
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid
from tests.benchmarks.curves import FLAT, LINEAR, Curves, clocked, sizes_of
from tests.benchmarks.measure import Row, Timed, workplace

WORKTREES: Final = (1, 10, 100, 1000)
COMMITS: Final = (100, 1000, 10_000, 100_000)


def run(scale: float) -> Iterator[Row]:
    """Curves to 1,000 worktrees and 100,000 commits; the two smallest sizes when short."""
    with workplace() as folder:
        yield from _by_worktrees(folder, sizes_of(scale, WORKTREES))
        yield from _by_commits(folder, sizes_of(scale, COMMITS))


# Worktrees ---------------------------------------------------------------------------------------


def _by_worktrees(folder: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """A run of eight hypotheses in a repository with so many other worktrees."""
    curves = Curves("runs", "worktrees")
    builder = RepositoryBuilder.init(folder / "beside" / "project")
    builder.commit({"file": "1\n"})
    plan = Plan(
        command=CommandSpec(("true",)), hypotheses=tuple(Hypothesis(id=f"h{n}", env={"N": str(n)}) for n in range(8))
    )

    def warm() -> None:
        run_plan(repository, plan, jobs=8, refresh=True)

    def cold() -> float:
        WorktreePool.open(repository).clean()
        return clocked(warm)

    with Repository.open(builder.path) as repository:
        made = 0
        for size in sizes:
            for n in range(made, size):
                repository.worktrees.add(str(folder / "beside" / f"tree{n}"), detach="HEAD", checkout=False)
            made = size

            curves.add(size, {"a run of 8, slots warm": warm, "a run of 8, slots new": cold})
    yield from curves.rows({"a run of 8, slots warm": ("", FLAT), "a run of 8, slots new": ("", LINEAR)})


# Commits -----------------------------------------------------------------------------------------


def _by_commits(folder: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """A search over the whole history, and the last 24 commits of it again, all known."""
    curves = Curves("runs", "commits")
    for size in sizes:
        place = folder / f"commits{size}"
        builder = RepositoryBuilder.init(place / "project")
        oids = builder.commits([CommitSpec({"number": f"{n}\n"}) for n in range(size)])
        shutil.copytree(builder.path, place / "for-git", symlinks=True)
        with Repository.open(builder.path) as repository:
            curves.add(size, _commit_ways(repository, builder, str(place / "for-git"), oids))
        shutil.rmtree(place)
    against = {"bisect, 2 jobs": ("git bisect run", LINEAR), "each of the last 24, all known": ("", FLAT)}
    yield from curves.rows(against)


def _commit_ways(
    repository: Repository, builder: RepositoryBuilder, for_git: str, oids: Sequence[Oid]
) -> dict[str, Timed]:
    culprit = len(oids) // 3
    script = f"test $(cat number) -lt {culprit}"

    def bisect() -> None:
        plan = Plan(command=CommandSpec((script,), shell=True))
        assert run_bisect(repository, oids[0], oids[-1], plan, jobs=2, refresh=True).first_bad == oids[culprit]

    def each() -> None:
        run_each(repository, "HEAD~24..HEAD", Plan(command=CommandSpec(("true",))), jobs=8)

    def git() -> None:
        for command in (["start", oids[-1], oids[0]], ["run", "sh", "-c", script], ["reset"]):
            subprocess.run(
                ["git", "bisect", *command], cwd=for_git, env=dict(builder.environment), check=True, capture_output=True
            )

    return {"bisect, 2 jobs": bisect, "each of the last 24, all known": each, "git bisect run": git}
