"""New slots are copies of warm ones: as a checkout would have made them, whatever goes on in the others meanwhile."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.repository import Repository
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import Oid
from arboretum.worktree_files.copying import CopyFiles
from arboretum.worktree_files.model import Filled

FILES = 700  # so many that a helper process is worth its start


@pytest.fixture
def project(tmp_path: Path) -> RepositoryBuilder:
    builder = RepositoryBuilder.init(tmp_path / "project")
    builder.commit({**{f"d{n % 20}/f{n}": f"{n}\n" for n in range(FILES)}, ".gitignore": "*.env\n", "link": "x"})
    builder.commit({"d0/f0": "changed\n", "d1/f1": None, "new": "new\n"})
    return builder


@pytest.fixture
def repository(project: RepositoryBuilder) -> Iterator[Repository]:
    with Repository.open(project.path) as opened:
        yield opened


def tracked(builder: RepositoryBuilder, path: str) -> dict[str, bytes]:
    """Everything in the slot, proven by git and by hand to be the commit's."""
    assert builder.git("status", "--porcelain", "--ignored", cwd=path) == ""
    names = [os.path.join(top, name) for top, _folders, names in os.walk(path) for name in names if name != ".git"]
    return {os.path.relpath(name, path): Path(name).read_bytes() for name in names}


def committed(builder: RepositoryBuilder, commit: str) -> dict[str, bytes]:
    names = builder.git("ls-tree", "-r", "--name-only", commit).split("\n")
    blobs = builder.git_bytes("cat-file", "--batch", stdin="".join(f"{commit}:{n}\n" for n in names).encode())
    found = {}
    for name in names:
        header, _, blobs = blobs.partition(b"\n")
        size = int(header.split()[2])
        found[name], blobs = blobs[:size], blobs[size + 1 :]
    return found


def test_a_slot_in_use_is_copied_and_what_its_trial_did_stays_there(project, repository):
    """The files of a leased slot are copied; what its trial has changed, added or been given never travels."""
    steps: list[str] = []
    pool = WorktreePool.open(repository, size=3, step=steps.append)
    head = repository.resolve("HEAD")
    first = pool.try_acquire(Want(commit=head))
    assert not any(step in {"slot.copy", "slot.reflink", "slot.snapshot"} for step in steps)
    tree, leases = Path(first.path), []
    (tree / "d2" / "f2").write_text("changed by the trial\n")
    (tree / "d3" / "f3").unlink()
    for name in ("secret.env", "d4/untracked", "d5/x.env"):
        (tree / name).write_text("secret\n")
    for commit in (head, repository.resolve("HEAD~1")):
        steps.clear()
        lease = pool.try_acquire(Want(commit=commit))
        leases.append(lease)
        assert any(step in {"slot.copy", "slot.reflink", "slot.snapshot"} for step in steps)
        assert tracked(project, lease.path) == committed(project, commit)
        assert lease.ignored == ()
        assert not lease.slot.wipe
    assert (tree / "d2" / "f2").read_text() == "changed by the trial\n"
    assert (tree / "secret.env").exists()


@pytest.mark.parametrize("change", ["nothing", "a file", "the commit", "the umask"])
def test_a_whole_copy_is_its_own_proof_and_any_other_is_looked_at(project, repository, change):
    """Where each file was proven as it was copied no status is asked; where one was left out, or must move, it is."""
    steps: list[str] = []
    pool = WorktreePool.open(repository, size=2, step=steps.append)
    head = repository.resolve("HEAD")
    first = pool.try_acquire(Want(commit=head))
    if change == "a file":
        Path(first.path, "d2", "f2").write_text("changed\n")
    steps.clear()
    commit = repository.resolve("HEAD~1") if change == "the commit" else head
    before = os.umask(0o022)
    try:
        os.umask(0o122 if change == "the umask" else 0o022)
        lease = pool.try_acquire(Want(commit=commit))
    finally:
        os.umask(before)
    assert ("reset.prove" in steps) == (change in {"a file", "the commit"})
    assert tracked(project, lease.path) == committed(project, commit)
    assert (lease.slot.commit, lease.slot.files, lease.ignored) == (commit, first.slot.files, ())
    assert project.git("diff-files", cwd=lease.path) == ""
    assert project.git("write-tree", cwd=lease.path) == project.git("rev-parse", f"{commit}^{{tree}}")
    pool.release(lease)
    assert pool.try_acquire(Want(commit=head)).path == lease.path  # its record holds: it is the same index


def test_slots_at_once_wait_for_the_first_and_are_its_copies(project, repository):
    """Of many slots that are made at once one is checked out, the others are copies; each is right."""
    steps: list[str] = []
    pool = WorktreePool.open(repository, size=8, step=steps.append)
    head = repository.resolve("HEAD")
    with ThreadPoolExecutor(8) as threads:
        leases = list(threads.map(lambda _: pool.try_acquire(Want(commit=head)), range(8)))
    assert len({lease.path for lease in leases}) == 8
    wanted = committed(project, head)
    assert all(tracked(project, lease.path) == wanted for lease in leases)
    assert sum(step in {"slot.copy", "slot.reflink", "slot.snapshot"} for step in steps) == 7
    project.git("fsck", "--strict", "--no-dangling")


@pytest.mark.parametrize("what", ["wrong", "fails"])
def test_a_copy_that_is_not_clean_is_checked_out(project, repository, monkeypatch, what):
    """A slot that does not prove clean after it was copied is made anew by a checkout."""

    def fill(self: CopyFiles, sibling: object, target: object) -> Filled | None:
        if what == "fails":
            raise OSError(5, "Input/output error")
        (Path(target.admin) / "index").write_bytes(b"nonsense")  # type: ignore[attr-defined]
        (Path(target.path) / "d0").write_text("in the way")  # type: ignore[attr-defined]
        (Path(target.admin) / "config.worktree").write_text("[core]\n\tsparseCheckout = true\n")  # type: ignore[attr-defined]
        return Filled(files=1, left=1)

    pool = WorktreePool.open(repository, size=2)
    head = repository.resolve("HEAD")
    held = pool.try_acquire(Want(commit=head))
    monkeypatch.setattr(CopyFiles, "fill", fill)
    lease = pool.try_acquire(Want(commit=head))
    assert lease.path != held.path
    assert tracked(project, lease.path) == committed(project, head)


def test_a_sibling_that_is_deleted_or_rewritten_meanwhile_does_no_harm(project, repository):
    """While a slot is being copied its owner may do anything in it, delete it too; the copies are right."""
    pool = WorktreePool.open(repository, size=12)
    head = repository.resolve("HEAD")
    held = pool.try_acquire(Want(commit=head))
    first = Path(held.path)
    stop, leases = threading.Event(), []

    def disturb() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            path = first / f"d{number % 20}" / f"f{number % FILES}"
            if path.parent.is_dir():
                path.write_text(f"{number} x\n")
            if number % 50 == 0:
                project.git("checkout", "-q", "-f", "HEAD", cwd=str(first))

    thread = threading.Thread(target=disturb)
    thread.start()
    try:
        wanted = committed(project, head)
        for _ in range(5):
            leases.append(pool.try_acquire(Want(commit=head)))
            assert tracked(project, leases[-1].path) == wanted
    finally:
        stop.set()
        thread.join()


def crash(project: RepositoryBuilder, wanted: str, head: Oid) -> bool:
    """A life that dies at a step while it makes a second slot; whether it came to that step."""
    pid = os.fork()
    if pid == 0:
        armed = False

        def step(name: str) -> None:
            if armed and name == wanted:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            pool = WorktreePool.open(Repository.open(project.path), size=2, step=step)
            held = [pool.try_acquire(Want(commit=head))]
            armed = True
            held.append(pool.try_acquire(Want(commit=head)))
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def test_a_kill_while_a_slot_is_copied_leaves_nothing(project, repository):
    """After a kill at any step of copying, the next pool is in order, and both slots are made right."""
    steps: list[str] = []
    head = repository.resolve("HEAD")
    pool = WorktreePool.open(repository, size=2, step=steps.append)
    leases = [pool.try_acquire(Want(commit=head))]
    steps.clear()
    leases.append(pool.try_acquire(Want(commit=head)))
    assert any(step in {"slot.copy", "slot.reflink", "slot.snapshot"} for step in steps)
    names = list(dict.fromkeys(steps))
    del pool, leases
    wanted = committed(project, head)
    for name in names:
        WorktreePool.open(repository, size=2).clean()
        assert crash(project, name, head), name
        pool = WorktreePool.open(repository, size=2)
        leases = [pool.try_acquire(Want(commit=head)) for _ in range(2)]
        assert all(tracked(project, lease.path) == wanted for lease in leases)
        for lease in leases:
            pool.release(lease)
        assert pool.check() == (), name
    WorktreePool.open(repository, size=2).clean()
    assert project.git("worktree", "list", "--porcelain").count("worktree ") == 1


@pytest.mark.parametrize("milliseconds", [0, 15, 40, 80])
def test_a_kill_while_slots_are_copied_together_leaves_nothing(project, repository, milliseconds):
    """Whenever the process dies that copies several slots in one turn, the next pool is in order."""
    head = repository.resolve("HEAD")
    pid = os.fork()
    if pid == 0:
        try:
            waiting = threading.Event()

            def step(name: str) -> None:
                if waiting.is_set() and name in {"slot.copy", "slot.reflink"}:
                    threading.Timer(milliseconds / 1000, os.kill, (os.getpid(), signal.SIGKILL)).start()

            pool = WorktreePool.open(Repository.open(project.path), size=9, step=step)
            pool.try_acquire(Want(commit=head))
            waiting.set()
            with ThreadPoolExecutor(8) as threads:
                list(threads.map(lambda _: pool.try_acquire(Want(commit=head)), range(8)))
            os.kill(os.getpid(), signal.SIGKILL)
        finally:
            os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    wanted = committed(project, head)
    pool = WorktreePool.open(repository, size=9)
    with ThreadPoolExecutor(9) as threads:
        leases = list(threads.map(lambda _: pool.try_acquire(Want(commit=head)), range(9)))
    assert all(tracked(project, lease.path) == wanted for lease in leases)
    for lease in leases:
        pool.release(lease)
    pool.sweep()
    assert pool.check() == ()
