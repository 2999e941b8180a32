"""Worktree records: listing a thousand, names alone, adding one beside many, one looked up; each as a curve, too."""

from __future__ import annotations

import functools
import itertools
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from attrs import evolve

from arboretum import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.benchmarks.measure import Row, compare, growth, interleave

BACKENDS: Final = ("cli", "pygit2")
SIZES: Final = (1, 10, 100, 1000, 3000)
LISTED: Final = 1000
_ADDS: Final = 9
#: The exponents of growth that were to be kept: what looks at all worktrees, and what need not.
_LINEAR: Final = 1.1
_FLAT: Final = 0.2

Curve = dict[str, dict[int, float]]


def run(scale: float) -> list[Row]:
    """Up to 3,000 worktrees without files: every third on a branch, every tenth locked, every fiftieth missing."""
    sizes = SIZES if scale >= 1 else (1, 10, 100)
    listed = min(LISTED, sizes[-1])
    rounds = max(1, round(9 * scale))
    curves: Curve = {}
    rows: list[Row] = []
    folder = tempfile.mkdtemp(prefix="arboretum-bench-")
    try:
        builder = RepositoryBuilder.init(f"{folder}/repository")
        builder.commits([CommitSpec({"file": "1\n"})])
        made = 0
        for size in sizes:
            _grow(builder, folder, made, size)
            made = size
            ways = _ways(builder, folder)
            times = interleave(ways, rounds=rounds if size <= listed else max(1, rounds // 2))
            for name, seconds in times.items():
                curves.setdefault(name, {})[size] = statistics.median(seconds)
            if size == listed:
                rows += _judged(times, listed)
        rows += _flat(builder, folder, made, rounds)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return [*rows, *_curves(curves)]


def _grow(builder: RepositoryBuilder, folder: str, first: int, last: int) -> None:
    """Make the worktrees from number `first` to `last`, as they would come about in a long life."""
    commit = builder.git("rev-parse", "HEAD")
    branches = "".join(f"create refs/heads/b{n} {commit}\n" for n in range(first, last) if n % 3 == 0)
    builder.git("update-ref", "--stdin", stdin=branches.encode())
    with Repository.open(builder.path) as repository:
        for n in range(first, last):
            on: Mapping[str, str] = {"detach": "HEAD"} if n % 3 else {"branch": f"b{n}"}
            tree = repository.worktrees.add(
                f"{folder}/trees/t{n}", checkout=False, lock="on a disk" if n % 10 == 5 else None, **on
            )  # type: ignore[arg-type]  # both are text
            if n % 50 == 7:
                shutil.rmtree(tree.path)


def _ways(builder: RepositoryBuilder, folder: str) -> dict[str, Callable[[], object]]:
    """Everything that is timed beside the worktrees that there are; each adds as many as it removes."""
    path, git = builder.path, _git(builder)
    main = builder.git("rev-parse", "HEAD")

    def drop(n: int) -> None:
        shutil.rmtree(f"{builder.git_dir}/worktrees/g{n}")

    def drop_branch(n: int) -> None:
        drop(n)
        os.unlink(f"{builder.git_dir}/refs/heads/new{n}")

    def add(n: int, *where: str) -> None:
        git("worktree", "add", "-q", "--no-checkout", *where, f"{folder}/new/g{n}", main)

    ways: dict[str, Callable[[], object]] = {
        "git list": lambda: git("worktree", "list", "--porcelain", "-z"),
        "git add": lambda: _timed(lambda n: add(n, "--detach"), drop, folder, adds=3),
        "git add on a branch": lambda: _timed(lambda n: add(n, "-b", f"new{n}"), drop_branch, folder, adds=3),
    }
    for backend in BACKENDS:
        ways |= _ours(backend, Repository.open(path, backend=backend), folder)
    return ways


def _ours(backend: str, repository: Repository, folder: str) -> dict[str, Callable[[], object]]:
    trees = repository.worktrees
    one = f"{folder}/trees/t0"

    def drop(n: int) -> None:
        shutil.rmtree(f"{repository.common_dir}/worktrees/a{n}")

    def drop_branch(n: int) -> None:
        drop(n)
        os.unlink(f"{repository.common_dir}/refs/heads/new{n}")

    return {
        f"{backend} list": trees.infos,
        f"{backend} names": repository.backend.worktree_names,
        f"{backend} count": lambda: len(trees),
        f"{backend} one": lambda: trees.info(one),
        f"{backend} add": lambda: _timed(
            lambda n: trees.add(f"{folder}/new/a{n}", detach="HEAD", checkout=False), drop, folder
        ),
        f"{backend} add on a branch": lambda: _timed(
            lambda n: trees.add(f"{folder}/new/a{n}", new_branch=f"new{n}", checkout=False), drop_branch, folder
        ),
    }


def _git(builder: RepositoryBuilder) -> Callable[..., object]:
    environment = dict(builder.environment)

    def git(*arguments: str) -> object:
        return subprocess.run(["git", *arguments], cwd=builder.path, env=environment, check=True, capture_output=True)

    return git


def _timed(add: Callable[[int], object], drop: Callable[[int], object], folder: str, *, adds: int = _ADDS) -> float:
    """The median seconds of one add; what was added goes again unseen, so that the number of worktrees stays."""
    seconds = []
    for n in range(adds):
        begin = time.perf_counter()
        add(n)
        seconds.append(time.perf_counter() - begin)
        drop(n)
        shutil.rmtree(f"{folder}/new", ignore_errors=True)
    return statistics.median(seconds)


def _judged(times: Mapping[str, list[float]], listed: int) -> Iterable[Row]:
    for backend in BACKENDS:
        yield compare(
            "worktrees", f"list {listed:,} with head, branch, lock, prunable ({backend})", times,
            ours=f"{backend} list", baseline="git list", target=0.5,
        )  # fmt: skip
        for what in ("names", "count"):
            yield compare(
                "worktrees", f"{what} of {listed:,} ({backend})", times,
                ours=f"{backend} {what}", baseline="git list", target=0.05,
            )  # fmt: skip


def _flat(builder: RepositoryBuilder, folder: str, many: int, rounds: int) -> Iterable[Row]:
    """How much dearer the last add is than the first one, in the same folders of the same disk.

    ext4 without a journal steps over all inodes of a block group that were deleted in the last minutes, so what it
    takes to make a file depends on the group. Hence all records but one go out of the way and come back, in turns.
    """
    base, few, aside = (f"{builder.git_dir}/{name}" for name in ("worktrees", "worktrees-few", "worktrees-aside"))
    os.mkdir(few)
    shutil.copytree(f"{base}/t0", f"{few}/t0")

    def beside_one(way: Callable[[], object]) -> object:
        os.rename(base, aside)
        os.rename(few, base)
        try:
            return way()
        finally:
            os.rename(base, few)
            os.rename(aside, base)

    adds: dict[str, Callable[[], object]] = {}
    for backend, on in itertools.product(BACKENDS, ("", " on a branch")):
        way = _ours(backend, Repository.open(builder.path, backend=backend), folder)[f"{backend} add{on}"]
        adds[f"{backend}{on}, many"] = way
        adds[f"{backend}{on}, one"] = functools.partial(beside_one, way)
    times = interleave(adds, rounds=rounds)
    for backend, on in itertools.product(BACKENDS, ("", " on a branch")):
        row = compare(
            "worktrees", f"metadata step of an add{on}, beside {many:,} worktrees ({backend})", times,
            ours=f"{backend}{on}, many", baseline=f"{backend}{on}, one", target=1.2,
        )  # fmt: skip
        yield evolve(row, baseline="beside 1")


def _curves(curves: Curve) -> Iterable[Row]:
    against = {"list": "git list", "names": "git list", "one": "git list", "add": "git add",
               "add on a branch": "git add on a branch"}  # fmt: skip
    for backend in BACKENDS:
        for what, baseline in against.items():
            yield growth(
                "worktrees", f"{what} ({backend})", curves[f"{backend} {what}"], unit="worktrees",
                theirs=curves[baseline], baseline=baseline, target=_FLAT if what in {"one", "add"} else _LINEAR,
            )  # fmt: skip
