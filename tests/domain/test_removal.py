"""A removal returns when the worktree is out of sight; what follows loses nothing, whatever happens meanwhile."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.backends import set_aside
from arboretum.backends.set_aside import SetAside
from arboretum.errors import DirtyWorktreeError, GitOperationError, WorktreeNotFoundError
from arboretum.salvage import Salvage
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.worktree import Worktree

BACKENDS = ("cli", "gitpython", "pygit2")


@pytest.fixture
def real(tmp_path: Path) -> RepositoryBuilder:
    builder = RepositoryBuilder.init(tmp_path / "real")
    builder.commits([CommitSpec({"a.txt": "1\n", "d/b.txt": "1\n", ".gitignore": "*.o\n"}, "one\n")])
    builder.branch("topic")
    return builder


@pytest.fixture(params=BACKENDS)
def repo(request: pytest.FixtureRequest, real: RepositoryBuilder) -> Iterator[Repository]:
    with Repository.open(real.path, backend=request.param) as repository:
        yield repository


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Holds what goes on behind until the event is set."""
    event, behind = threading.Event(), Salvage.behind

    def wait(self: Salvage, path: str) -> None:
        assert event.wait(60)
        behind(self, path)

    monkeypatch.setattr(Salvage, "behind", wait)
    yield event
    event.set()


def salvaged(real: RepositoryBuilder) -> list[str]:
    return real.git("for-each-ref", "--format=%(refname)", "refs/arboretum/salvage/").split()


def listed(real: RepositoryBuilder) -> list[str]:
    return [
        line[9:] for line in real.git("worktree", "list", "--porcelain").splitlines() if line.startswith("worktree ")
    ]


def leftovers(folder: Path) -> list[str]:
    return [name for name in os.listdir(folder) if ".removed-" in name]


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["cli", "pygit2"])
def test_a_kill_at_every_step_loses_nothing(tmp_path: Path, backend: str) -> None:
    """After a kill -9 at any step, and git's own prune and gc, the next prune leaves the worktree or its work."""
    harness = Path(__file__).with_name("removal_harness.py")
    done = subprocess.run(
        [sys.executable, str(harness), str(tmp_path), backend], capture_output=True, text=True, check=False, timeout=600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["failures"] == {}
    assert result["steps"] > 30


def test_the_place_and_the_branch_are_free_at_once(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path, gate: threading.Event
) -> None:
    """While its files are still there, a worktree's path, branch and record are free, for git and for us."""
    tree = repo.worktrees.add(tmp_path / "w", branch="topic")
    Path(tree.path, "untracked").write_text("u")
    removal = tree.remove(force=True)
    assert not os.path.lexists(tree.path)
    assert listed(real) == [real.path]
    assert len(repo.worktrees) == 1
    real.git("worktree", "add", "-q", tree.path, "topic")
    other = repo.worktrees.get(tree.path)
    assert other.branch == "topic"
    gate.set()
    assert removal.kept is not None
    removal.wait()
    assert real.git("show", f"{removal.kept}^3:untracked") == "u"
    assert other.is_clean()
    assert leftovers(tmp_path) == []
    real.git("fsck", "--strict")


def test_what_happens_to_its_branch_meanwhile_is_no_work_of_it(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path, gate: threading.Event
) -> None:
    """A clean worktree leaves nothing behind though its branch is moved or deleted before its files are looked at."""
    for number, change in enumerate((["branch", "-f", "topic", "main~0"], ["branch", "-D", "topic"])):
        real.commits([CommitSpec({f"more{number}": "x"}, "more\n")])
        tree = repo.worktrees.add(tmp_path / "w", branch="topic")
        removal = tree.remove()
        real.git(*change)
        gate.set()
        assert removal.kept is None
    assert salvaged(real) == []


def test_nothing_is_left_when_the_repository_is_closed_or_the_process_ends(
    real: RepositoryBuilder, tmp_path: Path
) -> None:
    """Space is back, and work is kept, when the block of a repository is left, and when a script just ends."""
    with Repository.open(real.path) as repo:
        tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
        Path(tree.path, "untracked").write_text("u")
        tree.remove(force=True)
    assert os.listdir(tmp_path) == ["real"]
    assert len(salvaged(real)) == 1
    program = (
        "import sys\nfrom arboretum import Repository\nrepo = Repository.open(sys.argv[1])\n"
        "for n in range(5):\n    tree = repo.worktrees.add(sys.argv[2] + str(n), detach='HEAD')\n"
        "    open(tree.path + '/untracked', 'w').close()\n    tree.remove(force=True)\n"
    )
    subprocess.run([sys.executable, "-c", program, real.path, str(tmp_path / "w")], check=True)
    assert os.listdir(tmp_path) == ["real"]
    assert len(salvaged(real)) == 6


def test_work_that_cannot_be_kept_puts_the_worktree_back(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If its work cannot be kept behind, the worktree is there again, on its branch unless that is in use by now."""
    event = threading.Event()

    def fail(_self: Salvage, _path: str) -> None:
        assert event.wait(60)
        raise GitOperationError("no space left for the objects")

    tree = repo.worktrees.add(tmp_path / "w", branch="topic")
    Path(tree.path, "untracked").write_text("u")
    with monkeypatch.context() as patch:
        patch.setattr(Salvage, "behind", fail)
        event.set()
        removal = tree.remove(force=True)
        for ask in (removal.wait, lambda: removal.kept):
            with pytest.raises(GitOperationError, match="no space left"):
                ask()
        assert (tree.branch, [entry.path for entry in tree.status()]) == ("topic", ["untracked"])
        event.clear()
        removal = tree.remove(force=True)
        real.git("worktree", "add", "-q", str(tmp_path / "other"), "topic")
        event.set()
        with pytest.raises(GitOperationError, match="no space left"):
            removal.wait()
    assert (tree.branch, [entry.path for entry in tree.status()]) == (None, ["untracked"])
    assert real.git("status", "--porcelain", cwd=tree.path) == "?? untracked"
    assert leftovers(tmp_path) == []
    real.git("fsck", "--strict")


def test_a_place_that_was_taken_meanwhile_is_left_alone(
    real: RepositoryBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a worktree cannot be put back because its place is taken, it stays aside, and a later prune keeps its work."""
    event = threading.Event()

    def fail(_self: Salvage, _path: str) -> None:
        assert event.wait(60)
        raise GitOperationError("told to")

    with monkeypatch.context() as patch, Repository.open(real.path) as repo:
        patch.setattr(Salvage, "behind", fail)
        tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
        Path(tree.path, "untracked").write_text("u")
        removal = tree.remove(force=True)
        Path(tree.path).write_text("mine")
        event.set()
        with pytest.raises(GitOperationError, match="cannot be put back"):
            removal.wait()
    with Repository.open(real.path) as repo:
        repo.worktrees.prune()
    assert Path(tree.path).read_text() == "mine"
    assert leftovers(tmp_path) == []
    (ref,) = salvaged(real)
    assert real.git("show", f"{ref}^3:untracked") == "u"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_folder_that_only_looks_like_a_leftover_is_never_touched(
    real: RepositoryBuilder, tmp_path: Path, backend: str
) -> None:
    """Neither a folder with such a name, nor one that has taken a leftover's place, nor one in living hands."""
    lookalike = tmp_path / ".w.removed-0123abcd"
    lookalike.mkdir()
    (lookalike / "precious").write_text("mine")
    with Repository.open(real.path, backend=backend) as repo:
        tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
        admin = repo.backend.admin if backend != "pygit2" else repo.backend.admin()  # type: ignore[attr-defined]  # not of the port
        taken = admin.set_aside(tree.path)
        with Repository.open(real.path) as second:
            second.worktrees.prune()
            assert os.path.isdir(taken.folder)  # somebody lives who is at work there
        taken.release()  # as if that had died
        shutil.rmtree(taken.folder)
        os.mkdir(taken.folder)
        Path(taken.folder, "precious").write_text("mine, too")
        repo.worktrees.prune()
    assert (lookalike / "precious").read_text() == "mine"
    assert Path(taken.folder, "precious").read_text() == "mine, too"
    assert listed(real) == [real.path]
    assert not os.path.exists(f"{real.git_dir}/arboretum/removed")


def test_a_full_disk_does_not_keep_a_worktree_from_going(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even a note can be written, a worktree without work goes at once, and one with work is as it was."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def no_objects(*_: object) -> None:
        raise GitOperationError("no space left for the objects")

    for step in ("begin", "adapt"):
        tree = repo.worktrees.add(tmp_path / "w", branch="topic")
        Path(tree.path, "x.o").write_text("ignored")
        with monkeypatch.context() as patch:
            patch.setattr(set_aside, "write_new", full)
            if step == "adapt":
                patch.undo()
                patch.setattr(SetAside, "adapt", full)
            tree.remove().wait()
        assert listed(real) == [real.path]
        assert os.listdir(tmp_path) == ["real"]
    tree = repo.worktrees.add(tmp_path / "w", branch="topic")
    Path(tree.path, "untracked").write_text("u")
    with monkeypatch.context() as patch:
        patch.setattr(set_aside, "write_new", full)
        patch.setattr(Salvage, "behind", no_objects)
        with pytest.raises(GitOperationError, match="no space left"):
            tree.remove(force=True)
    assert [entry.path for entry in tree.status()] == ["untracked"]
    assert tree.branch == "topic"
    assert leftovers(tmp_path) == []


def test_staged_work_and_lone_commits_are_kept_before_anything_goes(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path, gate: threading.Event
) -> None:
    """What git protects only while the worktree is listed has a ref when the removal returns: gc may come at once."""
    tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
    Path(tree.path, "committed").write_text("c")
    tree.stage(["committed"])
    oid = tree.commit("only here")
    removal = tree.remove()
    assert [real.git("rev-parse", ref) for ref in salvaged(real)] == [oid]
    gate.set()
    removal.wait()
    gate.clear()
    tree = repo.worktrees.add(tmp_path / "w", branch="topic")
    Path(tree.path, "staged").write_text("s")
    tree.stage(["staged"])
    Path(tree.path, "staged").write_text("changed since")
    removal = tree.remove(force=True)
    real.git("gc", "-q", "--prune=now")
    (ref,) = (ref for ref in salvaged(real) if real.git("rev-parse", ref) != oid)
    assert real.git("show", f"{ref}^2:staged") == "s"
    assert real.git("show", f"{ref}:staged") == "changed since"
    gate.set()
    assert removal.kept == ref


def test_submodules_are_looked_at_where_they_are(real: RepositoryBuilder, tmp_path: Path) -> None:
    """A worktree with initialised submodules goes by force, and its own work is kept."""
    sub = RepositoryBuilder.init(tmp_path / "sub")
    sub.commits([CommitSpec({"s.txt": "1\n"}, "sub\n")])
    real.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", sub.path, "lib")
    real.git("commit", "-q", "-m", "with a submodule")
    with Repository.open(real.path) as repo:
        tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
        real.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "update", "--init", cwd=tree.path)
        Path(tree.path, "a.txt").write_text("changed\n")
        with pytest.raises(DirtyWorktreeError):
            tree.remove()
        kept = tree.remove(force=True).kept
    assert real.git("show", f"{kept}:a.txt") == "changed"
    assert sorted(os.listdir(tmp_path)) == ["real", "sub"]
    real.git("fsck", "--strict")


def test_closed_folders_and_the_folder_one_stands_in(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Read-only files and folders go, the root too, and so does the folder of the process itself."""
    tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
    (Path(tree.path) / "d" / "x.o").write_text("ignored")
    for name in ("d/x.o", "d", "."):
        os.chmod(f"{tree.path}/{name}", stat.S_IRUSR | stat.S_IXUSR)
    monkeypatch.chdir(tree.path)
    removal = tree.remove(force=True)
    removal.wait()
    monkeypatch.chdir(tmp_path)
    assert os.listdir(tmp_path) == ["real"]
    assert listed(real) == [real.path]


def test_a_mounted_file_system_is_never_emptied(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worktree in which something is mounted, or which is a mount point itself, is left as it was."""
    from arboretum.backends import admin_removal

    tree = repo.worktrees.add(tmp_path / "w", branch="topic")
    monkeypatch.setattr(admin_removal, "mount_points", lambda: ["/", f"{tree.path}/d"])
    with pytest.raises(DirtyWorktreeError, match="is mounted at"):
        tree.remove(force=True)
    monkeypatch.undo()

    def busy(*_: object) -> None:
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY))

    with monkeypatch.context() as patch:
        patch.setattr(admin_removal, "rename_new", busy)
        with pytest.raises(GitOperationError, match="busy"):
            tree.remove(force=True)
    assert tree.is_clean()
    assert tree.branch == "topic"
    assert tree.info.locked is None
    assert real.git("status", "--porcelain", cwd=tree.path) == ""
    tree.remove()


def test_of_many_removals_of_one_worktree_one_succeeds(real: RepositoryBuilder, tmp_path: Path) -> None:
    """Processes that remove the same worktree at once: one does, the others are told that there is none."""
    program = (
        "import sys\nfrom arboretum import Repository\nfrom arboretum.errors import WorktreeNotFoundError\n"
        "from arboretum.worktree import Worktree\nsys.stdin.readline()\n"
        "with Repository.open(sys.argv[1]) as repo:\n"
        "    try:\n        print(Worktree(repo, sys.argv[2]).remove(force=True).kept)\n"
        "    except WorktreeNotFoundError:\n        print('none there')\n"
    )
    real.git("worktree", "add", "-q", "--detach", str(tmp_path / "w"))
    (tmp_path / "w" / "untracked").write_text("u")
    command = [sys.executable, "-c", program, real.path, str(tmp_path / "w")]
    with contextlib.ExitStack() as stack:
        children = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
            for _ in range(4)
        ]
        said = [child.communicate("\n", timeout=60)[0].strip() for child in children]
    (ref,) = salvaged(real)
    assert sorted(said) == sorted([ref, *["none there"] * 3])
    assert os.listdir(tmp_path) == ["real"]


def test_one_that_is_gone_already_is_not_found(repo: Repository, tmp_path: Path) -> None:
    """A second removal of the same worktree is told that there is none, also while the first goes on."""
    tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
    tree.remove()
    with pytest.raises(WorktreeNotFoundError):
        Worktree(repo, tree.path).remove(force=True)
