"""The object model: each backend against the best way of its library and beside its peers; growth by files, commits."""

from __future__ import annotations

import contextlib
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from attrs import evolve

from arboretum import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.benchmarks.measure import Row, compare, growth, interleave
from tests.benchmarks.object_ways import BACKENDS, CASES, Case, Place, Way, run_git
from tests.benchmarks.peers import Peers, environment

PEERS: Final = ("dulwich", "scmrepo")
LIBRARIES: Final = {"cli": "git", "gitpython": "Repo.git", "pygit2": "bare pygit2"}
FILES: Final = (100, 1000, 5000, 20_000, 50_000)
COMMITS: Final = (100, 1000, 10_000, 100_000)


def run(scale: float) -> list[Row]:
    """A repository of 10,000 commits, 5,000 files and 100 branches; curves to 50,000 files and 100,000 commits."""
    with tempfile.TemporaryDirectory(prefix="arboretum-bench-") as folder:
        python, missing = environment(PEERS)
        place = _build(f"{folder}/repository", commits=round(10_000 * min(1, scale)), files=round(5000 * min(1, scale)))
        with Peers(python, folder) as peers:
            rows = [row for case in CASES for row in _compared(case, place, peers, max(2, round(9 * scale)))]
        left_out = [
            Row(area="objects", case=f"beside {name}", baseline=name, note=f"left out: {why}")
            for name, why in missing.items()
        ]
        return [*rows, *left_out, *_grown(folder, scale)]


def _build(path: str, *, commits: int, files: int) -> Place:
    """A history in which each commit changes a file or two; the branches ``old`` and ``side`` part 50 commits back."""
    builder = RepositoryBuilder.init(path)
    first: dict[str, str] = {f"folder{n % 100}/file{n}": f"{n}\n" * 30 for n in range(files)}
    changes = [{f"folder{n % files % 100}/file{n % files}": f"{n}\n{n % files}\n" * 15} for n in range(1, commits)]
    oids = builder.commits(
        [CommitSpec(first, "the first\n"), *(CommitSpec(c, f"change\n\nwhy {n}\n") for n, c in enumerate(changes))]
    )
    builder.commits(
        [
            CommitSpec(
                {"folder1/side": "side\n", "folder1/file1": None, "folder1/moved1": "1\n" * 30},
                branch="side",
                parents=[oids[-51]],
            )
        ]
    )
    for n in range(97):
        builder.branch(f"topic/{n}", oids[-1 - n * commits // 100])
    for name, oid in (("old", oids[-51]), ("new", oids[-1])):
        builder.branch(name, oid)
    return Place(path, oids[-51], oids[-1])


def _compared(case: Case, place: Place, peers: Peers, rounds: int) -> Iterator[Row]:
    """One case: ours on each backend, the best way of each library, GitPython's objects and the peers, interleaved."""
    with contextlib.ExitStack() as stack:
        where = _copies(place, stack) if case.alone else (lambda: place)
        ways: dict[str, Way] = {}
        for backend in BACKENDS:
            own = where()
            repository = stack.enter_context(Repository.open(own.path, backend=backend))
            ways[backend] = _repeated(case.ours(repository, own), case.calls)
            ways[LIBRARIES[backend]] = _repeated(case.best[backend](where()), case.calls)
        if case.objects is not None:
            ways["GitPython's objects"] = _repeated(case.objects(where()), case.calls)
        for name in PEERS:
            way = peers.way(f"{name} {case.name}", where().path, old=place.old, new=place.new, calls=case.calls)
            if way is not None:
                ways[name] = way
        times = interleave(ways, rounds=rounds)
    for backend in BACKENDS:
        yield compare(
            "objects", f"{case.name} ({backend})", times, ours=backend, baseline=LIBRARIES[backend], target=1.1
        )
        for peer in ("GitPython's objects", *PEERS):
            if peer in times and backend == "pygit2":
                target = 1.0 if peer == "scmrepo" else None
                yield compare("objects", f"{case.name} ({backend})", times, ours=backend, baseline=peer, target=target)
    if case.single:
        yield compare(
            "objects", f"{case.name}: times faster than a process (pygit2)", times, ours="pygit2", baseline="git",
            target=20, at_least=True,
        )  # fmt: skip


def _copies(place: Place, stack: contextlib.ExitStack) -> Callable[[], Place]:
    """Copies of a repository, so that no way finds what another one has written (an index without its cache, say)."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="arboretum-bench-"))
    numbers = iter(range(100))

    def copy() -> Place:
        made = evolve(place, path=f"{folder}/copy{next(numbers)}")
        subprocess.run(["cp", "-a", place.path, made.path], check=True)
        run_git(made, "status")  # the index learns the new files
        return made

    return copy


def _repeated(way: Way, calls: int) -> Callable[[], float]:
    def timed() -> float:
        begin = time.perf_counter()
        for _ in range(calls):
            way()
        return (time.perf_counter() - begin) / calls

    return timed


# Growth ------------------------------------------------------------------------------------------


def _grown(folder: str, scale: float) -> Iterable[Row]:
    """How status and listing grow with the files, and walk, first commits and open with the commits."""
    sizes = {"files": FILES, "commits": COMMITS} if scale >= 1 else {"files": FILES[:2], "commits": COMMITS[:2]}
    points: dict[tuple[str, str, str], dict[int, float]] = {}
    for unit, counts in sizes.items():
        for count in counts:
            path = f"{folder}/{unit}{count}"
            place = _build(path, commits=60, files=count) if unit == "files" else _build(path, commits=count, files=51)
            for key, seconds in _points(place, unit).items():
                points.setdefault((unit, *key), {})[count] = seconds
            shutil.rmtree(path)
    for (unit, what, name), line in points.items():
        if name in BACKENDS:
            library = LIBRARIES[name]
            yield growth(
                "objects", f"{what} ({name})", line, unit=unit, theirs=points.get((unit, what, library)),
                baseline=library, target=_FLAT if what in {"open", "first commits"} else _LINEAR,
            )  # fmt: skip


_FLAT: Final = 0.2
_LINEAR: Final = 1.1
_BACKENDS_GROWN: Final = ("cli", "pygit2")


def _points(place: Place, unit: str) -> dict[tuple[str, str], float]:
    by_name = {case.name: case for case in CASES}
    ways: dict[tuple[str, str], Way] = {}
    with contextlib.ExitStack() as stack:
        for backend in _BACKENDS_GROWN:
            repository = stack.enter_context(Repository.open(place.path, backend=backend))
            for name in ("status", "diff of names") if unit == "files" else ("walk", "open", "branches"):
                ways[name, backend] = by_name[name].ours(repository, place)
                ways[name, LIBRARIES[backend]] = by_name[name].best[backend](place)
            if unit == "files":
                ways["files of a tree", backend] = _listing(repository, place)
                ways["files of a tree", "git"] = lambda: run_git(place, "ls-tree", "-r", "-z", place.new)
            else:
                ways["first commits", backend] = _first(repository)
        named = {f"{what}\0{name}": way for (what, name), way in ways.items()}
        times = interleave(named, rounds=3)
    return {_key(name): statistics.median(seconds) for name, seconds in times.items()}


def _key(name: str) -> tuple[str, str]:
    what, _, who = name.partition("\0")
    return what, who


def _listing(repository: Repository, place: Place) -> Way:
    return lambda: repository.backend.read_tree(place.new)


def _first(repository: Repository) -> Way:
    return lambda: list(repository.log(limit=10))
