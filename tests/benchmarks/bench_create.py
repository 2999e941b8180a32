"""Making worktrees: many at once, one beside a warm sibling by file system and way, and removing them.

Every worktree of ours is a slot of a pool that was proven clean; git's are only checked out.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from attrs import define, field

from arboretum import Repository
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.testing.builders import RepositoryBuilder
from arboretum.worktree_files.choice import Ability
from tests.benchmarks.measure import Row, compare, interleave
from tests.worktree_files.images import mounted

#: It mounts its file systems itself.
OWN_DISKS = True

#: What one worktree beside a warm sibling may take, as a share of `git worktree add`: by file system and way.
BESIDE = {
    ("ext4", "copy"): 0.35,
    ("xfs", "reflink"): 0.45,
    ("btrfs", "reflink"): 0.45,
    ("btrfs", "snapshot"): 0.05,
}


def run(scale: float) -> list[Row]:
    """The whole comparison: 8 and 32 at once, one beside a sibling on each file system, removal; 5,000 files each."""
    rounds, files = max(1, round(3 * scale)), 5000 if scale >= 1 else 300
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        for kind in ("ext4", "xfs", "btrfs"):
            with mounted(Path(name) / kind, kind, mebibytes=6000) as problem:
                ways = [way for system, way in BESIDE if system == kind]
                if problem and kind != "ext4":  # there the ordinary disk stands in
                    rows += [Row(area="create", case=f"one beside a sibling, {way}", note=f"left out: {problem}")
                             for way in ways]  # fmt: skip
                    continue
                place = _Place(Path(name) / kind, files)
                rows += [place.beside(kind, way, rounds + 2) for way in ways]
                if kind == "ext4":
                    rows += [place.at_once(count, rounds, warm=warm) for count in (8, 32) for warm in (False, True)]
                    rows += place.removed(rounds + 2)
                    if scale >= 1:
                        big = _Place(Path(name) / kind / "big", 50_000)
                        rows.append(big.beside(kind, "copy", 2, target=0.65))
    return rows


@define(eq=False)
class _Place:
    """A repository and the folder of its pool, on one file system."""

    folder: Path
    files: int
    builder: RepositoryBuilder = field(init=False)

    def __attrs_post_init__(self) -> None:
        noise = random.Random(1)
        words = [bytes(noise.choices(b"abcdefghijklmnopqrstuvwxyz  ()=\n", k=40)) for _ in range(3000)]
        self.builder = RepositoryBuilder.init(self.folder / "project")
        self.builder.commit(
            {
                f"d{n % 50}/e{n % 7}/file{n}.txt": b"".join(noise.choices(words, k=int(noise.lognormvariate(4.2, 1.2))))
                for n in range(self.files)
            }
        )
        self.builder.git("gc", "-q")

    @contextlib.contextmanager
    def _pool(self, size: int, ability: Ability | None = None) -> Iterator[WorktreePool]:
        with Repository.open(self.builder.path) as repository:
            pool = WorktreePool.open(repository, size=size, root=str(self.folder / "pool"))
            if ability is not None:
                pool._making.__dict__["ability"] = ability
            yield pool
            pool.clean()

    def beside(self, kind: str, way: str, rounds: int, *, target: float | None = None) -> Row:
        """One slot while another one is there and in use, beside one `git worktree add`."""
        ability = Ability(clones=way != "copy", snapshots=way == "snapshot")
        with self._pool(2, ability) as pool:
            head = pool.repository.resolve("HEAD")
            first = pool.try_acquire(Want(commit=head))
            assert first is not None

            def ours() -> float:
                self._rest()
                begin = time.perf_counter()
                lease = pool.try_acquire(Want(commit=head))
                seconds = time.perf_counter() - begin
                assert lease is not None
                self._check(lease.path)
                self.builder.git(
                    "worktree", "remove", "--force", lease.path
                )  # as git's own, so both find the same disk
                pool.release(lease)
                return seconds

            times = interleave({"ours": ours, "git": lambda: self._git_adds(1)}, rounds=rounds)
            pool.release(first)
        case = f"one of {self.files:,} files beside a warm sibling on {kind}: {way}"
        note = "with proof; baseline: `git worktree add --detach`"
        target = target or BESIDE[kind, way]
        return compare("create", case, times, ours="ours", baseline="git", target=target, note=note)

    def _rest(self) -> None:
        """Write what others have left to write: a snapshot would have to do it, and it is no part of its work."""
        subprocess.run(["sync", "-f", str(self.folder)], check=True)

    def at_once(self, count: int, rounds: int, *, warm: bool) -> Row:
        """Many slots at once beside as many `git worktree add` one after another."""

        def ours() -> float:
            with self._pool(count + 1) as pool:
                head = pool.repository.resolve("HEAD")
                first = pool.try_acquire(Want(commit=head)) if warm else None
                begin = time.perf_counter()
                with ThreadPoolExecutor(count) as threads:
                    leases = list(threads.map(lambda _: pool.try_acquire(Want(commit=head)), range(count)))
                seconds = time.perf_counter() - begin
                for lease in leases:
                    assert lease is not None
                    self._check(lease.path)
                    pool.release(lease)
                if first is not None:
                    pool.release(first)
            return seconds

        times = interleave({"ours": ours, "git": lambda: self._git_adds(count)}, rounds=rounds, warmup=0)
        case = f"{count} of {self.files:,} files at once, {'with a warm sibling' if warm else 'from nothing'}"
        note = "all succeed, proven clean; baseline: one after another"
        return compare("create", case, times, ours="ours", baseline="git", target=0.30 if warm else 0.50, note=note)

    def removed(self, rounds: int) -> list[Row]:
        """`Worktree.remove(force=True)` beside `git worktree remove --force`: until it returns, until space is back."""
        tree = str(self.folder / "doomed")
        with Repository.open(self.builder.path) as repository:
            back: list[float] = []

            def add() -> float:
                self.builder.git("worktree", "add", "-q", "--detach", tree)
                return time.perf_counter()

            def ours() -> float:
                begin = add()
                removal = repository.worktrees.get(tree).remove(force=True)
                seconds = time.perf_counter() - begin
                removal.wait()
                back.append(time.perf_counter() - begin)
                return seconds

            def git() -> float:
                begin = add()
                self.builder.git("worktree", "remove", "--force", tree)
                return time.perf_counter() - begin

            times = interleave({"ours": ours, "git": git}, rounds=rounds)
        times["back"] = back[-rounds:]
        case = f"one of {self.files:,} files removed by force"
        return [
            compare("create", f"{case}: returns", times, ours="ours", baseline="git", target=0.2,
                    note="its commits and what is staged are kept; files are looked through and deleted behind"),
            compare("create", f"{case}: space is back", times, ours="back", baseline="git",
                    note="git keeps nothing; the worktree is new, so a status reads all files again"),
        ]  # fmt: skip

    def _git_adds(self, count: int) -> float:
        trees = [str(self.folder / f"plain-{number}") for number in range(count)]
        self._rest()
        begin = time.perf_counter()
        for tree in trees:
            self.builder.git("worktree", "add", "-q", "--detach", tree)
        seconds = time.perf_counter() - begin
        for tree in trees:
            self.builder.git("worktree", "remove", "--force", tree)
        return seconds

    def _check(self, tree: str) -> None:
        """No entry of the index differs from its file's stat data, and nothing else is there."""
        for command in (["diff-files", "--name-only"], ["ls-files", "--others"]):
            done = subprocess.run(["git", *command], cwd=tree, check=True, capture_output=True)
            assert done.stdout == b"", (command, done.stdout[:200], os.listdir(tree))
