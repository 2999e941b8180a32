"""A disk that is full while slots are made: nothing half-made stays, what is there stays whole and can be removed."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.errors import PoolError
from arboretum.testing.builders import RepositoryBuilder

FILES, BYTES = 60, 8192
#: One slot takes so many KiB on a file system of its own.
SLOT = FILES * BYTES // 1024


@contextlib.contextmanager
def small_disk(path: Path, kibibytes: int) -> Iterator[None]:
    """A file system in memory of that size at `path`; the test is left out where none can be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={kibibytes}k", "tmpfs", str(path)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        pytest.skip(f"no file system can be mounted: {error}")
    if done.returncode:
        pytest.skip(f"no file system can be mounted: {done.stderr.strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(path)], check=True)


def resize(path: Path, kibibytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kibibytes}k", str(path)], check=True)


def fill(path: Path) -> None:
    """Leave not one byte free."""
    with contextlib.suppress(OSError), open(path / "filler", "wb", buffering=0) as file:
        while file.write(b"0" * 4096):
            pass


@pytest.fixture
def builder(tmp_path: Path) -> RepositoryBuilder:
    made = RepositoryBuilder.init(tmp_path / "project")
    made.commit({f"d{n % 7}/file{n}": f"{n}".encode() * (BYTES // len(f"{n}")) for n in range(FILES)})
    return made


@pytest.mark.parametrize("share", [1.1, 1.4, 1.7, 1.8])
def test_a_disk_that_fills_while_a_second_slot_is_copied(
    builder: RepositoryBuilder, tmp_path: Path, share: float
) -> None:
    """The second ends in a clear error and leaves no file and no record; the first stays clean; with space it works."""
    disk = tmp_path / "disk"
    with small_disk(disk, round(SLOT * share) + 100), Repository.open(builder.path) as repository:
        pool = WorktreePool.open(repository, size=2, root=str(disk / "pool"))
        want = Want(commit=repository.resolve("HEAD"))
        first = pool.try_acquire(want)
        assert first is not None
        used = _used(disk)
        with pytest.raises(PoolError) as problem:
            pool.try_acquire(want)
        assert "space" in str(problem.value).lower()
        assert problem.value.hint
        assert _git(first.path, "status", "--porcelain", "--ignored") == ""
        assert _git(first.path, "fsck", "--no-dangling") == ""
        assert _worktrees(builder) == [builder.path, first.path]
        assert _used(disk) <= used + 64, "what was copied has to go again"
        resize(disk, 4 * SLOT + 400)
        second = pool.try_acquire(want)
        assert second is not None
        assert _git(second.path, "status", "--porcelain", "--ignored") == ""
        pool.release(first)
        pool.release(second)
        assert pool.check() == ()
        assert len(pool.clean()) == 2
        assert _worktrees(builder) == [builder.path]


HOLDER = """
import sys, time
from arboretum import Repository
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
repository = Repository.open(sys.argv[1])
pool = WorktreePool.open(repository, size=1, root=sys.argv[2])
lease = pool.try_acquire(Want(commit=repository.resolve("HEAD")))
print("held", flush=True)
time.sleep(600)
"""


def test_a_pool_on_a_full_disk_can_be_looked_at_and_cleaned(builder: RepositoryBuilder, tmp_path: Path) -> None:
    """Even what a killed run has left is removed where not one byte is free: that is how one makes space."""
    disk = tmp_path / "disk"
    with small_disk(disk, 2 * SLOT), Repository.open(builder.path) as repository:
        root = str(disk / "pool")
        command = [sys.executable, "-c", HOLDER, builder.path, root]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            fill(disk)
            holder.send_signal(signal.SIGKILL)
        pool = WorktreePool.open(repository, size=1, root=root)
        assert len(pool.slots()) == 1
        assert pool.clean() == (0,)
        assert pool.slots() == ()
        assert _worktrees(builder) == [builder.path]
        (disk / "filler").unlink()
        assert _used(disk) <= 64


def _used(disk: Path) -> int:
    """KiB that are taken."""
    there = os.statvfs(disk)
    return (there.f_blocks - there.f_bfree) * there.f_frsize // 1024


def _git(tree: str, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=tree, capture_output=True, text=True, check=True).stdout


def _worktrees(builder: RepositoryBuilder) -> list[str]:
    lines = builder.git("worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")]
