"""Threads, processes, forks, descriptors and a missing git: what surrounds the adapters."""

from __future__ import annotations

import gc
import multiprocessing
import os
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from arboretum.backends.git_command import GitMissingError
from arboretum.bootstrap import backend_factory
from arboretum.errors import BranchCheckedOutError
from arboretum.values import LogQuery, Oid, RefName, ResetMode, Revision, WorktreeSpec
from tests.backends.oracle import ADAPTERS, fingerprint, opened

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


def head(real) -> Oid:
    return Oid(real.git("rev-parse", "HEAD"))


EVERYTHING = """
    import datetime as dt, os, sys
    from pathlib import Path
    from arboretum.backends.base import ANY
    from arboretum.backends.libgit2 import Pygit2Backend
    from arboretum.values import *

    assert os.environ["PATH"] == sys.argv[2]
    root = sys.argv[1]
    path = f"{root}/repo"
    backend = Pygit2Backend.init(path)
    write = lambda name, text, at=path: Path(at, name).write_text(text)
    write("a", "1\\n2\\n3\\n")
    backend.stage(path, ["a"])
    one = backend.commit(path, "one")
    write("b", "b\\n")
    backend.stage(path, ["."])
    two = backend.commit(path, "two")
    assert backend.resolve(Revision("HEAD~1")) == one
    assert [c.oid for c in backend.log(LogQuery((two,)))] == [two, one]
    assert backend.merge_base(one, two) == one
    assert backend.diff_trees(one, two)[0].path == "b"
    patch = backend.diff_text(one, two)
    assert backend.apply_to_tree(one, patch) == backend.read_commit(two).tree
    assert backend.merge_trees(one, two).is_clean
    assert backend.read_blob(backend.read_tree(two)[0].oid) == b"1\\n2\\n3\\n"
    topic = RefName.branch("topic")
    backend.update_ref(topic, one, None)
    backend.rename_branch(topic, RefName.branch("t"))
    backend.set_config("test.key", "v")
    assert backend.get_config("test.key") == ("v",)
    linked = backend.add_worktree(WorktreeSpec(f"{root}/wt", branch=RefName.branch("t"), lock="kept"))
    backend.unlock_worktree(linked.path)
    linked = backend.move_worktree(linked.path, f"{root}/moved")
    backend.cherry_pick(linked.path, two)
    write("a", "changed\\n", linked.path)
    write("new", "n\\n", linked.path)
    stash = backend.stash_create(linked.path, "wip", untracked=True)
    backend.stash_store(stash, "On t: wip")
    backend.reset(linked.path, one, ResetMode.HARD)
    assert backend.clean(linked.path) == ("new",)
    backend.stash_apply(linked.path, stash)
    backend.stash_drop(stash)
    assert {e.path for e in backend.status(linked.path)} == {"a", "new"}
    backend.reset(linked.path, one, ResetMode.HARD)
    backend.apply(linked.path, patch, index=True)
    backend.commit(linked.path, "applied")
    backend.checkout(linked.path, one)
    backend.repair_worktrees()
    backend.clean(linked.path)
    backend.remove_worktree(linked.path)
    clone = Pygit2Backend.clone(path, f"{root}/clone")
    clone.fetch("origin", prune=True)
    assert Pygit2Backend.discover(f"{root}/clone/.git").list_refs("refs/remotes/")
    assert backend.prune_worktrees() == ()
    backend.update_ref(RefName.branch("t"), None, ANY)
    print("done")
"""


def test_pygit2_needs_no_git_on_the_path(tmp_path):
    """Every operation of the pygit2 backend works where PATH has no program at all."""
    nothing = tmp_path / "nothing"
    nothing.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(EVERYTHING), str(tmp_path), str(nothing)],
        env={**os.environ, "PATH": str(nothing)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.stdout, done.stderr) == ("done\n", "")
    git = ["git", "-C", str(tmp_path / "repo")]
    assert (
        subprocess.run([*git, "fsck", "--strict"], capture_output=True, text=True, check=True).stdout.count("error")
        == 0
    )
    assert subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout == ""


@pytest.mark.parametrize("name", ["cli", "gitpython"])
def test_a_missing_git_is_told_as_that(name, tmp_path):
    """Without git on PATH the backends that run it say so, and which one does not need it."""
    code = f"""
        from arboretum.backends.git_command import GitMissingError
        from arboretum.bootstrap import backend_factory
        try:
            backend_factory({name!r}).init({str(tmp_path / "repo")!r})
        except GitMissingError as error:
            print(error.hint)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PATH": str(tmp_path)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "pygit2" in done.stdout, done.stderr
    assert issubclass(GitMissingError, Exception)


def test_one_backend_serves_many_threads(adapter, real, tmp_path):
    """One backend may be used from many threads at once, reads on one repository and work in a worktree for each.

    A shared pygit2 handle aborts the process, a shared GitPython Repo hangs, and GitPython's ``index.add``
    changes the directory of the whole process.
    """
    backend = opened(adapter, real.path)
    commit, folder = head(real), os.getcwd()
    places = [backend.add_worktree(WorktreeSpec(str(tmp_path / f"w{n}"), detach=commit)).path for n in range(6)]
    rounds = max(2, int(5 * SCALE))
    start = threading.Barrier(len(places))

    def work(place: str) -> set[Oid]:
        start.wait()
        made = set()
        for number in range(rounds):
            Path(place, "own.txt").write_text(f"{place} {number}\n")
            assert [e.path for e in backend.status(place)] == ["own.txt"]
            backend.stage(place, ["own.txt"])
            made.add(backend.commit(place, f"{place} {number}"))
            assert len(list(backend.log(LogQuery((commit,))))) == 2
            assert backend.read_commit(commit).oid == commit
            assert len(backend.list_worktrees()) == len(places) + 1
            backend.reset(place, commit, ResetMode.HARD)
            assert os.getcwd() == folder
        return made

    with ThreadPoolExecutor(len(places)) as pool:
        made = set().union(*pool.map(work, places))
    assert len(made) == rounds * len(places)
    backend.close()
    assert real.git("fsck", "--strict", "--no-dangling") == ""


def _read_in_child(backend, commit: Oid, queue) -> None:
    wrong = sum(backend.read_commit(commit).oid != commit for _ in range(50))
    queue.put(wrong + (backend.resolve(Revision("HEAD")) != commit))


def test_a_fork_shares_nothing(adapter, real):
    """Parent and child both go on reading after a fork: GitPython's shared pipes gave wrong commits in silence."""
    backend = opened(adapter, real.path)
    first, second = Oid(real.git("rev-parse", "HEAD~1")), head(real)
    assert backend.read_commit(first).oid == first
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=_read_in_child, args=(backend, second, queue))
    child.start()
    assert all(backend.read_commit(first).oid == first for _ in range(50))
    child.join()
    assert queue.get() == 0
    assert backend.read_commit(second).oid == second  # the child's end took nothing away from us
    backend.close()


def test_a_thousand_times_open_and_close_leak_nothing(adapter, real):
    """Descriptors and child processes are given back, however often a repository is opened, used and closed."""
    cycles = int(1000 * SCALE)
    me = psutil.Process()

    def cycle() -> None:
        backend = opened(adapter, real.path)
        backend.read_commit(backend.resolve(Revision("HEAD")))
        backend.close()
        backend.close()

    for _ in range(3):
        cycle()
    gc.collect()
    before = (me.num_fds(), len(me.children()), threading.active_count())
    for _ in range(cycles):
        cycle()
    gc.collect()
    assert (me.num_fds(), len(me.children()), threading.active_count()) == before


def test_a_backend_that_is_forgotten_leaks_nothing(adapter, real):
    """The same holds for one that is not closed but only let go, and for the handles of threads that ended."""
    me = psutil.Process()
    opened(adapter, real.path).resolve(Revision("HEAD"))
    gc.collect()
    before = (me.num_fds(), len(me.children()))
    for _ in range(5):
        backend = opened(adapter, real.path)
        threads = [threading.Thread(target=backend.read_commit, args=(head(real),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        backend.resolve(Revision("HEAD"))
    del backend, threads, thread
    gc.collect()
    assert (me.num_fds(), len(me.children())) == before


def _add(name: str, path: str, place: str, branch: str, gate, queue) -> None:
    backend = backend_factory(name).open(path)
    gate.wait()
    try:
        backend.add_worktree(WorktreeSpec(place, branch=RefName(branch)))
        queue.put("added")
    except BranchCheckedOutError:
        queue.put("refused")
    except BaseException as error:
        queue.put(repr(error))


def at_once(name: str, path: str, jobs: list[tuple[str, str]]) -> list[str]:
    """Add worktrees (path, branch) in a process each, all started at the same moment; what each of them said."""
    context = multiprocessing.get_context("fork")  # quick, and what a server does that forks its workers
    gate, queue = context.Barrier(len(jobs)), context.SimpleQueue()
    children = [context.Process(target=_add, args=(name, path, *job, gate, queue)) for job in jobs]
    for child in children:
        child.start()
    said = [queue.get() for _ in children]
    for child in children:
        child.join()
    return said


def test_worktrees_are_added_by_many_processes_at_once(adapter, real, tmp_path):
    """Worktrees added by many processes at once are all made: one in six fails with plain git, and with libgit2."""
    count = max(8, int(16 * SCALE))
    for number in range(count):
        real.branch(f"b{number}")
    jobs = [(str(tmp_path / f"same{number}" / "wt"), f"refs/heads/b{number}") for number in range(count)]
    assert at_once(adapter, real.path, jobs) == ["added"] * count
    assert real.git("worktree", "list").count("\n") == count
    for path, branch in jobs:
        assert real.git("status", "--porcelain", "--branch", cwd=path) == f"## {branch.removeprefix('refs/heads/')}"


def test_of_two_adds_of_one_branch_at_once_one_succeeds(adapter, real, tmp_path):
    """Two processes that add the same branch at once: one gets it, the other is told that it is checked out."""
    for number in range(max(2, int(4 * SCALE))):
        real.branch(f"only{number}")
        jobs = [(str(tmp_path / f"{side}{number}"), f"refs/heads/only{number}") for side in "ab"]
        assert sorted(at_once(adapter, real.path, jobs)) == ["added", "refused"]
        assert sum(os.path.exists(path) for path, _ in jobs) == 1


def test_settings_are_written_by_many_threads_at_once(adapter, real):
    """Configuration written by sixteen at once is all there: half of it fails with git, which does not wait."""
    backend = opened(adapter, real.path)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda n: backend.set_config(f"test.key{n}", str(n)), range(16)))
    assert [backend.get_config(f"test.key{n}") for n in range(16)] == [(str(n),) for n in range(16)]


def test_git_variables_of_the_caller_do_not_leak(adapter, real, tmp_path, monkeypatch):
    """GIT_DIR and its kin, as they are set in a hook, bind no backend to another repository."""
    other = tmp_path / "other"
    subprocess.run(["git", "init", "-q", str(other)], check=True)
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git/other-index"))
    monkeypatch.setenv("GIT_OBJECT_DIRECTORY", str(other / ".git/objects"))
    before = fingerprint(real)
    backend = opened(adapter, real.path)
    assert backend.git_dir == real.git_dir
    Path(real.path, "new").write_text("n")
    backend.stage(real.path, ["new"])
    made = backend.commit(real.path, "here")
    assert real.git("rev-parse", "HEAD") == made
    assert fingerprint(real) != before
    assert not (other / ".git/other-index").exists()
