"""What happens to real runs: a full disk, no inode left, a read-only pool, a user who works with git beside it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arboretum.engine.events import TrialFinished
from arboretum.engine.journal import Journal, read_journal
from arboretum.engine.local_executor import LocalExecutor
from arboretum.engine.model import CommandSpec, Outcome, Trial, TrialRequest
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.engine.store import ResultStore
from arboretum.engine.store_records import RunRecord
from arboretum.errors import ArboretumError, PoolError, StoreError
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))


@contextlib.contextmanager
def small_disk(folder: Path, options: str) -> Iterator[bool]:
    """A file system of its own at `folder`; False where none may be mounted."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)], check=False, capture_output=True
    ).returncode == 0  # fmt: skip
    try:
        yield made
    finally:
        if made:
            subprocess.run(["umount", "-l", str(folder)], check=True)


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[bool]:
    """The folder as if on a disk that cannot be written; False where nothing may be mounted."""
    place = str(folder)
    made = subprocess.run(["mount", "--bind", place, place], check=False, capture_output=True).returncode == 0
    try:
        if made:
            subprocess.run(["mount", "-o", "remount,ro,bind", place], check=True)
        yield made
    finally:
        if made:
            subprocess.run(["umount", "-l", place], check=True)


def portrait(builder: RepositoryBuilder) -> dict[str, object]:
    return {
        "refs": builder.git("for-each-ref"),
        "status": builder.git("status", "--porcelain"),
        **{name: Path(builder.git_dir, name).read_bytes() for name in ("HEAD", "index", "config")},
    }


def request(commit: str, script: str = "exit 0", *, attempt: int = 1, **rest) -> TrialRequest:
    return TrialRequest(
        run="run", hypothesis="h", attempt=attempt, commit=commit, command=CommandSpec((script,), True), **rest
    )


def run_one(repository: Repository, asked: TrialRequest, **options) -> Trial:
    async def carry_out() -> Trial:
        pool = WorktreePool.open(repository, size=1, **options)
        executor = LocalExecutor(pool, 1, output_root=os.path.join(repository.state_dir, "runs"))
        try:
            return await executor.execute(asked)
        finally:
            await executor.close()

    return asyncio.run(carry_out())


def big_project(folder: Path) -> RepositoryBuilder:
    noise = random.Random(1)
    builder = RepositoryBuilder.init(folder / "big")
    builder.commit({f"d{n % 7}/file{n}": noise.randbytes(40_000) for n in range(100)})
    return builder


@pytest.mark.parametrize(
    ("small", "large"),
    [("size=2m", "size=64m"), ("size=64m,nr_inodes=60", "nr_inodes=100000")],
    ids=["space", "inodes"],
)
def test_a_full_disk_under_the_pool(tmp_path, monkeypatch, small, large):
    """No space, or no inode, for a slot is a clear error; once there is, the pool works, and nothing was harmed."""
    builder = big_project(tmp_path)
    before = portrait(builder)
    cache = tmp_path / "cache"
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(cache))
    with Repository.open(builder.path) as repository, small_disk(cache, small) as mounted:
        head = repository.resolve("HEAD")
        if mounted:
            with pytest.raises(ArboretumError, match=r"No space|not.*space|unable to (create|write)|cannot") as caught:
                run_one(repository, request(head))
            assert isinstance(caught.value, PoolError)
            assert portrait(builder) == before
            subprocess.run(["mount", "-o", f"remount,{large}", str(cache)], check=True)
        else:  # the same errors, by hand: see also test_an_error_at_any_step
            with pytest.raises(PoolError, match="No space"):
                run_one(repository, request(head), step=Failing("slot.write.preparing", errno.ENOSPC))
        assert run_one(repository, request(head, "test $(ls d*/* | wc -l) -eq 100")).outcome is Outcome.PASSED
        pool = WorktreePool.open(repository, size=1)
        assert pool.check() == ()
        pool.clean()
    assert portrait(builder) == before
    builder.git("fsck", "--no-dangling")


def test_a_full_disk_under_the_store_and_the_journal(tmp_path):
    """When the repository's own disk is full, store and journal say so, and keep all that they had taken."""
    with small_disk(tmp_path / "disk", "size=3m") as mounted:
        folder = tmp_path / "disk"
        runs = str(folder / "runs")
        with (
            ResultStore.open(folder / "results.sqlite3") as store,
            Journal.open(str(folder / "runs"), "run") as journal,
        ):
            store.begin_run(RunRecord(id="run"))
            if not mounted:
                pytest.xfail("no file system may be mounted here; test_journal and test_an_error_at_any_step stand in")
            ballast = folder / "ballast"
            with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                while True:
                    file.write(os.urandom(65536))
            kept_by_store, kept_by_journal, failures = [], [], []
            for attempt in range(1, 40):
                trial = Trial(hypothesis="h", attempt=attempt, outcome=Outcome.PASSED, output_tail="x" * 3000)
                try:
                    journal(TrialFinished(run="run", trial=trial))
                    kept_by_journal.append(trial)
                except StoreError as error:
                    failures.append(("No space", str(error)))
                try:
                    store.record_trial("run", trial)
                    kept_by_store.append(trial)
                except StoreError as error:
                    failures.append(("--no-cache", error.hint))
            assert failures
            assert all(words in text for words, text in failures)
            ballast.unlink()
            last = Trial(hypothesis="last", attempt=1, outcome=Outcome.PASSED)
            journal(TrialFinished(run="run", trial=last))
            store.record_trial("run", last)
            contents = read_journal(runs, "run")
            assert contents.damaged == 0
            assert list(contents.trials.values()) == [*kept_by_journal, last]
            assert list(store.trials("run")) == [*kept_by_store, last]
            assert store.check() == ()


@pytest.mark.parametrize("where", ["/proc/arboretum", "a file"])
def test_a_pool_that_cannot_be_written(ground, tmp_path, monkeypatch, where):
    """A cache folder that cannot be made is one clear error that names it and says how to choose another."""
    file = tmp_path / "file"
    file.write_text("not a folder")
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(file) if where == "a file" else where)
    before = portrait(ground.builder)
    with pytest.raises(PoolError) as caught:
        LocalExecutor.open(ground.repository)
    assert "ARBORETUM_CACHE_DIR" in caught.value.hint
    assert portrait(ground.builder) == before
    assert len(ground.repository.worktrees) == 1


def test_a_pool_that_became_read_only(ground, tmp_path, monkeypatch):
    """A pool on a disk that was mounted read-only is a clear error; mounted writable again it works."""
    cache = tmp_path / "cache"
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(cache))
    with small_disk(cache, "size=16m") as mounted:
        assert run_one(ground.repository, request(ground.one)).outcome is Outcome.PASSED
        if mounted:
            subprocess.run(["mount", "-o", "remount,ro", str(cache)], check=True)
            with pytest.raises(PoolError, match=r"Read-only|cannot"):
                run_one(ground.repository, request(ground.two))
            subprocess.run(["mount", "-o", "remount,rw", str(cache)], check=True)
        else:
            with pytest.raises(PoolError, match="Read-only"):
                run_one(ground.repository, request(ground.two), step=Failing("slot.write.reserved", errno.EROFS))
        assert run_one(ground.repository, request(ground.two)).outcome is Outcome.PASSED
        pool = ground.pool(size=1)
        assert pool.check() == ()
        pool.clean()


class Failing:
    """A failpoint that raises an OSError the n-th time a step is taken, and counts all steps."""

    def __init__(self, name: str, code: int, nth: int = 1) -> None:
        self.name, self.code, self.nth, self.seen = name, code, nth, []

    def __call__(self, name: str) -> None:
        self.seen.append(name)
        if name == self.name and self.seen.count(name) == self.nth:
            raise OSError(self.code, os.strerror(self.code))


STEPS = [
    "pool.folders", "pool.lock", "lease.lock", "slot.write.reserved", "slot.write.preparing", "slot.discard",
    "slot.add", "slot.token", "reset.forget-index", "reset.files", "reset.clean", "reset.prove", "reset.tidy",
    "reset.detach",
    "slot.write.leased", "include.copy", "slot.write.dirty", "lease.unlock", "slot.rename",
]  # fmt: skip


@pytest.mark.parametrize("name", STEPS)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EACCES], ids=["ENOSPC", "EACCES"])
def test_an_error_at_any_step(ground, name, code):
    """An error of the system at any step is an error of ours or is mended; after it the pool works and is well."""
    (Path(ground.builder.path) / ".env").write_text("x")
    asked = request(
        ground.one, "touch new; git checkout -q --orphan gone; touch $(git rev-parse --git-dir)/index.lock",
        include=(".env",),
    )  # fmt: skip
    run_one(ground.repository, asked)
    failing = Failing(name, code)
    with contextlib.suppress(ArboretumError):
        run_one(ground.repository, asked, step=failing)
    if name not in {"slot.add", "slot.token", "slot.discard", "reset.forget-index", "include.copy", "slot.rename"}:
        assert name in failing.seen
    assert (
        run_one(ground.repository, request(ground.two, "git status --porcelain | grep . && exit 1; exit 0")).outcome
        is Outcome.PASSED
    )
    assert ground.pool(size=1).check() == ()
    ground.builder.git("fsck", "--strict", "--no-dangling")


@pytest.mark.slow
def test_a_user_who_works_beside_it(tmp_path):
    """Trials and a user's gc, prune, checkout, commit and fetch in a loop do not harm each other."""
    builder = RepositoryBuilder.init(tmp_path / "project")
    commits = builder.commits([CommitSpec({f"f{n}": f"{n}\n", "same": f"{n}\n"}) for n in range(30)])
    builder.branch("side", commits[10])
    builder.git("remote", "add", "origin", builder.path)
    loops = {
        "gc": [["gc", "-q", "--prune=now"], ["worktree", "prune"]],
        "prune": [["worktree", "prune", "--expire", "now"], ["worktree", "list"], ["log", "--all", "--oneline"]],
        "checkout": [["checkout", "-q", "side"], ["checkout", "-q", "main"], ["status"]],
        "fetch": [["fetch", "-q", "--all"], ["branch", "-a"], ["rev-list", "--all"], ["for-each-ref"]],
    }
    stop, failures, counts = threading.Event(), [], dict.fromkeys(loops, 0)

    def work(name: str) -> None:
        while not stop.is_set():
            for arguments in loops[name]:
                done = subprocess.run(
                    ["git", *arguments], cwd=builder.path, env=dict(builder.environment), check=False,
                    capture_output=True, text=True,
                )  # fmt: skip
                if done.returncode:
                    failures.append((arguments, done.stderr))
                counts[name] += 1

    threads = [threading.Thread(target=work, args=(name,)) for name in loops]
    for thread in threads:
        thread.start()
    try:
        trials = asyncio.run(_many_trials(builder, commits, 24 if SCALE <= 1 else 300))
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {(trial.outcome, trial.message) for trial in trials} == {(Outcome.PASSED, "")}
    assert failures == []
    assert all(counts.values())
    builder.git("checkout", "-q", "main")
    assert builder.git("rev-parse", "main") == commits[-1]
    assert builder.git("rev-parse", "side") == commits[10]
    assert builder.git("status", "--porcelain") == ""
    builder.git("fsck", "--strict", "--no-dangling")


async def _many_trials(builder: RepositoryBuilder, commits, count: int) -> list[Trial]:
    with Repository.open(builder.path) as repository:
        executor = LocalExecutor.open(repository, jobs=3)
        try:
            return await asyncio.gather(
                *(
                    executor.execute(
                        request(
                            commits[n % len(commits)],
                            f"test $(cat same) = {n % len(commits)} && git log -1 > log",
                            attempt=n + 1,  # each trial keeps its output in a folder of its own name
                        )
                    )
                    for n in range(count)
                )
            )
        finally:
            assert executor.pool.check() == ()
            executor.pool.clean()
            await executor.close()


def test_what_is_not_ours_is_left_alone(ground, tmp_path):
    """A slot's folder that somebody replaced, or locked, is neither used nor changed nor removed."""
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one))
    path = Path(lease.path)
    pool.release(lease)
    os.rename(path, tmp_path / "elsewhere")
    ground.builder.git("clone", "-q", ground.builder.path, str(path))
    (path / "precious").write_text("mine")
    lease = pool.try_acquire(Want(commit=ground.one))
    assert lease.path != str(path)
    pool.release(lease)
    ground.builder.git("worktree", "lock", "--reason", "hands off", lease.path)
    (Path(lease.path) / "precious").write_text("mine, too")
    third = pool.try_acquire(Want(commit=ground.one))
    assert third.path not in {str(path), lease.path}
    pool.release(third)
    pool.sweep()
    pool.clean()
    assert (path / "precious").read_text() == "mine"
    assert (Path(lease.path) / "precious").read_text() == "mine, too"
    assert "locked hands off" in ground.builder.git("worktree", "list", "--porcelain")
    assert not os.path.exists(third.path)
    ground.builder.git("worktree", "unlock", lease.path)
    pool.sweep()
    again = pool.try_acquire(Want(commit=ground.one))
    assert again.path == lease.path


def test_the_users_own_worktrees_are_left_alone(ground, tmp_path):
    """Sweeping and cleaning the pool touches no worktree of the user's: not a missing, a locked or a changed one."""
    for name in ("missing", "locked", "changed"):
        ground.builder.git("worktree", "add", "-q", "--detach", str(tmp_path / name))
    ground.builder.git("worktree", "lock", str(tmp_path / "locked"))
    (tmp_path / "changed" / "a.txt").write_text("mine")
    os.rename(tmp_path / "missing", tmp_path / "moved")
    before = ground.builder.git("worktree", "list", "--porcelain")
    pool = ground.pool(size=2)
    pool.release(pool.try_acquire(Want(commit=ground.one)))
    pool.sweep()
    pool.clean()
    assert ground.builder.git("worktree", "list", "--porcelain") == before
    assert (tmp_path / "changed" / "a.txt").read_text() == "mine"
