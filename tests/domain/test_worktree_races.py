"""Many processes change the set of worktrees of one repository at once, with and without other people's git."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.errors import ArboretumError, BranchCheckedOutError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
WORKERS = 32
ROUNDS = max(1, round(2 * SCALE))
BACKENDS = ["cli", "pygit2"]
# Fork is the quickest way to 32 processes; nothing of a repository is opened before it.
SPAWN = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    builder = RepositoryBuilder.init(str(tmp_path / "repo"))
    builder.commits([CommitSpec({f"d{n % 7}/f{n}": f"{n}\n" for n in range(60)}, "first\n")])
    return tmp_path / "repo"


def git(path: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(path), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "error" not in done.stderr
    return done.stdout


def _add(job: tuple[str, str, str, str]) -> str:
    backend, root, path, branch = job
    try:
        with Repository.open(root, backend=backend) as repo:
            tree = repo.worktrees.add(path, new_branch=branch)
            return "" if tree.is_clean() else "not clean"
    except ArboretumError as error:
        return repr(error)


@pytest.mark.parametrize("backend", BACKENDS)
def test_all_of_32_parallel_adds_succeed(repository: Path, tmp_path: Path, backend: str) -> None:
    """Of 32 adds by 32 processes at once, every one succeeds, round after round, and git finds nothing odd."""
    with SPAWN.Pool(WORKERS) as pool:
        for number in range(ROUNDS):
            jobs = [
                (backend, str(repository), str(tmp_path / f"w{number}" / f"t{n}"), f"b/{number}-{n}")
                for n in range(WORKERS)
            ]
            assert pool.map(_add, jobs, chunksize=1) == [""] * WORKERS
    total = WORKERS * ROUNDS
    print(f"{backend}: {total} of {total} parallel adds succeeded")
    listed = git(repository, "worktree", "list", "--porcelain", "-z").split("\0\0")
    assert len([record for record in listed if record]) == total + 1
    assert "prunable" not in "".join(listed)
    branches = git(repository, "for-each-ref", "--format=%(refname:short)", "refs/heads/b").split()
    used = {
        line.partition("refs/heads/")[2] for record in listed for line in record.split("\0") if "refs/heads/" in line
    }
    assert set(branches) == used - {"main"}
    git(repository, "fsck", "--strict", "--no-dangling")
    for number in range(ROUNDS):
        assert git(tmp_path / f"w{number}" / "t0", "status", "--porcelain") == ""


def _take(job: tuple[str, str, str]) -> str:
    backend, root, path = job
    try:
        with Repository.open(root, backend=backend) as repo:
            repo.worktrees.add(path, branch="wanted")
    except ArboretumError as error:
        return type(error).__name__
    return "added"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_branch_is_checked_out_once(repository: Path, tmp_path: Path, backend: str) -> None:
    """Of several adds of the same branch at once one succeeds and the others are told that it is checked out."""
    git(repository, "branch", "wanted")
    with SPAWN.Pool(4) as pool:
        outcomes = pool.map(_take, [(backend, str(repository), str(tmp_path / f"x{n}")) for n in range(4)], chunksize=1)
    assert sorted(outcomes) == sorted(["added", *[BranchCheckedOutError.__name__] * 3])
    assert len(git(repository, "worktree", "list").splitlines()) == 2
    assert sum((tmp_path / f"x{n}").exists() for n in range(4)) == 1


_FOREIGN = """
import subprocess, sys
repo, stop = sys.argv[1:]
import os
bad = 0
while not os.path.exists(stop):
    for command in (
        ["log", "--all", "--oneline"], ["worktree", "list"], ["status"], ["for-each-ref"], ["branch", "-v"],
        ["fetch", "-q", ".", "+main:refs/heads/fetched"], ["rev-list", "--all"], ["gc", "--quiet"],
        ["branch", "-q", "-f", "theirs", "main"], ["worktree", "list", "--porcelain", "-z"],
    ):
        done = subprocess.run(["git", "-C", repo, *command], capture_output=True)
        if done.returncode:
            bad += 1
            sys.stderr.write(repr(command) + done.stderr.decode() + "\\n")
sys.exit(bool(bad))
"""


def test_other_peoples_git_never_sees_a_half_made_worktree(repository: Path, tmp_path: Path) -> None:
    """While worktrees come and go, git beside it does not fail once: readers, fetch, new branches and gc."""
    stop = tmp_path / "stop"
    other = subprocess.Popen(
        [sys.executable, "-c", _FOREIGN, str(repository), str(stop)], stderr=subprocess.PIPE, text=True
    )
    with other:
        try:
            with Repository.open(repository) as repo:
                for n in range(round(15 * SCALE)):
                    repo.worktrees.add(tmp_path / f"c{n}", detach="HEAD").remove()
        finally:
            stop.touch()
        assert other.stderr is not None
        said = other.stderr.read()
    assert other.returncode == 0, said


_FOREIGN_WRITER = """
import os, subprocess, sys
repo, stop = sys.argv[1:]
mine = repo + "-theirs"
loop = (
    ["worktree", "add", "-q", "--detach", mine], ["worktree", "lock", mine], ["worktree", "unlock", mine],
    ["worktree", "move", mine, mine + "2"], ["worktree", "repair"], ["worktree", "remove", "--force", mine + "2"],
    ["worktree", "prune"], ["fetch", "-q", ".", "main:copy"], ["branch", "-q", "-D", "copy"],
    ["reflog", "expire", "--all"],
)
turns = seen = 0
while not os.path.exists(stop):
    for command in loop:
        done = subprocess.run(["git", "-C", repo, *command], capture_output=True, text=True)
        if done.returncode and "failed to read" in done.stderr and seen < 2:
            seen += 1  # git looks twice at a record, and one that was removed in between ends it: its own race
            subprocess.run(["git", "-C", repo, *command], capture_output=True)
        elif done.returncode:
            sys.exit(repr(command) + done.stderr)
    turns += 1
print(turns)
"""


@pytest.mark.parametrize("backend", BACKENDS)
def test_we_and_other_peoples_git_change_worktrees_at_once(repository: Path, tmp_path: Path, backend: str) -> None:
    """While another program adds, locks, moves, repairs, removes and prunes worktrees, neither side fails once."""
    stop = tmp_path / "stop"
    other = subprocess.Popen(
        [sys.executable, "-c", _FOREIGN_WRITER, str(repository), str(stop)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with other:
        try:
            with Repository.open(repository, backend=backend) as repo:
                for n in range(round(8 * SCALE)):
                    tree = repo.worktrees.add(tmp_path / f"c{n}", new_branch=f"b{n}")
                    tree.lock("mine")
                    tree.unlock()
                    tree.move(tmp_path / f"c{n} moved")
                    assert tree.is_clean()
                    assert tree.path in {info.path for info in repo.worktrees.infos()}
                    repo.worktrees.prune()
                    tree.remove()
                    repo.branches.delete(f"b{n}")
        finally:
            stop.touch()
        turns, said = other.communicate(timeout=120)
    assert other.returncode == 0, said
    assert int(turns) >= 1
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    git(repository, "fsck", "--strict")


def _come_and_go(job: tuple[str, str, int]) -> str:
    backend, root, number = job
    try:
        with Repository.open(root, backend=backend) as repo:
            for turn in range(4):
                tree = repo.worktrees.add(f"{root}-{number}", new_branch=f"t{number}-{turn}")
                if turn % 2:
                    tree.lock("mine")
                    tree.unlock()
                    tree.move(f"{root}-{number}-moved")
                len(repo.worktrees)
                tree.remove()
                repo.worktrees.prune()
                repo.branches.delete(f"t{number}-{turn}")
    except ArboretumError as error:
        return repr(error)
    return ""


@pytest.mark.parametrize("backend", BACKENDS)
def test_coming_and_going_leaves_nothing(repository: Path, backend: str) -> None:
    """Processes that add, lock, move, list, remove and prune at once do not disturb one another."""
    with SPAWN.Pool(8) as pool:
        assert pool.map(_come_and_go, [(backend, str(repository), n) for n in range(8)], chunksize=1) == [""] * 8
    assert len(git(repository, "worktree", "list").splitlines()) == 1
    assert git(repository, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main"]
    assert list((repository / ".git" / "arboretum" / "tmp").iterdir()) == []
    git(repository, "fsck", "--strict")
