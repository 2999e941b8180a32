"""How slots grow: made, moved and taken again with more files in them, and made at once with more of them.

Every slot of ours is proven clean; plain git's worktrees are only checked out.
"""

from __future__ import annotations

import contextlib
import itertools
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Final

from arboretum import Repository
from arboretum.engine.pool import Lease, WorktreePool
from arboretum.engine.slots import Want
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid
from tests.benchmarks.curves import LINEAR, Curves, clocked, sizes_of
from tests.benchmarks.measure import Row, Timed, workplace

FILES: Final = (100, 1000, 10_000, 50_000)
SLOTS: Final = (1, 10, 100, 1000)
_CHANGED: Final = 50


def run(scale: float) -> Iterator[Row]:
    """Curves to 50,000 files and to 1,000 slots; the two smallest sizes when short."""
    with workplace() as folder:
        yield from _by_files(folder, sizes_of(scale, FILES))
        yield from _by_slots(folder, sizes_of(scale, SLOTS))


# Files -------------------------------------------------------------------------------------------


def _by_files(folder: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """A slot made, moved and taken again, a worktree removed, beside what plain git does to a worktree."""
    curves = Curves("slots", "files")
    for size in sizes:
        place = folder / f"files{size}"
        builder = RepositoryBuilder.init(place / "project")
        content: dict[str, str] = {f"d{n % 100}/file{n}": f"{n}\n" * 30 for n in range(size)}
        change = {f"d{n % 100}/file{n}": "changed\n" * 30 for n in range(_CHANGED)}
        ends = builder.commits([CommitSpec(content), CommitSpec(dict(change))])
        with Repository.open(builder.path) as repository:
            curves.add(size, dict(_file_ways(repository, builder, place, ends)), large=size > 1000)
        shutil.rmtree(place)
    yield from curves.rows(
        {
            "a slot from nothing": ("git worktree add", LINEAR),
            "a slot beside a warm one": ("git worktree add", LINEAR),
            f"a slot moved by {_CHANGED} changed files": ("git checkout --detach", LINEAR),
            "a slot taken again": ("git status", LINEAR),
            "a worktree removed by force": ("git worktree remove --force", LINEAR),
        },
    )


def _file_ways(
    repository: Repository, builder: RepositoryBuilder, place: Path, ends: Sequence[Oid]
) -> Iterator[tuple[str, Timed]]:
    """Each way puts everything back as it was, unseen by the clock."""
    plain, doomed = str(place / "plain"), str(place / "doomed")
    to_and_fro = itertools.cycle(ends)
    builder.git("worktree", "add", "-q", "--detach", plain)
    moving = WorktreePool.open(repository, size=1, root=str(place / "moving"))

    def fresh(*, warm: bool) -> float:
        pool = WorktreePool.open(repository, size=2, root=str(place / f"pool-{warm}"))
        with contextlib.ExitStack() as stack:
            stack.callback(pool.clean)
            if warm:
                stack.callback(pool.release, _taken(pool, ends[-1]))
            begin = time.perf_counter()
            lease = _taken(pool, ends[-1])
            seconds = time.perf_counter() - begin
            pool.release(lease)
            return seconds

    def moved(ends: Iterator[Oid]) -> float:
        moving.release(_taken(moving, ends.__next__()))
        commit = next(ends)
        begin = time.perf_counter()
        lease = _taken(moving, commit)
        seconds = time.perf_counter() - begin
        moving.release(lease)
        return seconds

    def added() -> float:
        seconds = clocked(lambda: builder.git("worktree", "add", "-q", "--detach", doomed))
        builder.git("worktree", "remove", "--force", doomed)
        return seconds

    def removed(remove: Callable[[], object]) -> float:
        builder.git("worktree", "add", "-q", "--detach", doomed)
        return clocked(remove)

    def git(*arguments: str) -> float:
        return clocked(lambda: subprocess.run(["git", *arguments], cwd=plain, check=True, capture_output=True))

    yield "a slot from nothing", lambda: fresh(warm=False)
    yield "a slot beside a warm one", lambda: fresh(warm=True)
    yield f"a slot moved by {_CHANGED} changed files", lambda: moved(to_and_fro)
    yield "a slot taken again", lambda: moved(itertools.repeat(ends[-1]))
    yield "git worktree add", added
    yield "git checkout --detach", lambda: git("checkout", "-q", "--detach", next(to_and_fro))
    yield "git status", lambda: git("status", "--porcelain")
    yield (
        "a worktree removed by force",
        lambda: removed(lambda: repository.worktrees.get(doomed).remove(force=True)),
    )
    yield (
        "git worktree remove --force",
        lambda: removed(lambda: builder.git("worktree", "remove", "--force", doomed)),
    )


def _taken(pool: WorktreePool, commit: Oid) -> Lease:
    lease = pool.try_acquire(Want(commit=commit))
    assert lease is not None
    return lease


# Slots ---------------------------------------------------------------------------------------------


def _by_slots(folder: Path, sizes: Sequence[int]) -> Iterator[Row]:
    """So many slots of 20 files made at once from nothing; git adds one after another."""
    curves = Curves("slots", "slots")
    builder = RepositoryBuilder.init(folder / "slots" / "project")
    head = builder.commit({f"file{n}": f"{n}\n" for n in range(20)})

    def ours(size: int) -> float:
        pool = WorktreePool.open(repository, size=size, root=str(folder / "slots" / "pool"))
        with contextlib.ExitStack() as stack, ThreadPoolExecutor(min(size, 32)) as threads:
            stack.callback(pool.clean)
            begin = time.perf_counter()
            leases = list(threads.map(lambda _: _taken(pool, head), range(size)))
            seconds = time.perf_counter() - begin
            for lease in leases:
                pool.release(lease)
            return seconds

    def git(size: int) -> float:
        trees = [str(folder / "slots" / f"plain{n}") for n in range(size)]
        seconds = clocked(lambda: [builder.git("worktree", "add", "-q", "--detach", tree) for tree in trees])
        for tree in trees:
            shutil.rmtree(tree)
        builder.git("worktree", "prune")
        return seconds

    one_by_one = "git worktree add, one after another"
    with Repository.open(builder.path) as repository:
        for size in sizes:
            ways: dict[str, Timed] = {"slots made at once": partial(ours, size)}
            if size <= 100:  # more take git a minute, for no more than the same slope
                ways[one_by_one] = partial(git, size)
            curves.add(size, ways, large=size > 100)
    yield from curves.rows({"slots made at once": (one_by_one, LINEAR)})
