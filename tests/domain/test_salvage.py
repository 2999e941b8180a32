"""Nothing of the user's is lost when a worktree goes: work, commits and other people's worktrees."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.errors import DirtyWorktreeError, GitOperationError, WorktreeLockedError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid

BACKENDS = ("cli", "gitpython", "pygit2")


@pytest.fixture
def real(tmp_path: Path) -> RepositoryBuilder:
    builder = RepositoryBuilder.init(tmp_path / "real")
    builder.commits([CommitSpec({"a.txt": "1\n", "d/b.txt": "1\n", ".gitignore": "*.o\n"}, "one\n")])
    return builder


@pytest.fixture(params=BACKENDS)
def repo(request: pytest.FixtureRequest, real: RepositoryBuilder) -> Iterator[Repository]:
    with Repository.open(real.path, backend=request.param) as repository:
        yield repository


def salvaged(real: RepositoryBuilder) -> list[str]:
    return real.git("for-each-ref", "--format=%(refname)", "refs/arboretum/salvage/").split()


def test_forced_removal_keeps_changes_as_a_stash(repo: Repository, real: RepositoryBuilder, tmp_path: Path) -> None:
    """Staged, unstaged, deleted and untracked work of a forcibly removed worktree comes back by git stash apply."""
    tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
    Path(tree.path, "a.txt").write_text("changed\n")
    Path(tree.path, "staged").write_text("s\n")
    tree.stage(["staged"])
    os.unlink(f"{tree.path}/d/b.txt")
    Path(tree.path, "untracked").write_text("u\n")
    Path(tree.path, "x.o").write_text("ignored\n")
    with pytest.raises(DirtyWorktreeError):
        tree.remove()
    ref = tree.remove(force=True).kept
    assert not Path(tree.path).exists()
    assert salvaged(real) == [ref]
    real.git("stash", "apply", "-q", "--index", str(ref))
    assert real.git("status", "--porcelain", "-uall").split("\n") == [
        " M a.txt", " D d/b.txt", "A  staged", "?? untracked",
    ]  # fmt: skip
    assert Path(real.path, "a.txt").read_text() == "changed\n"


def test_work_without_a_commit_to_stand_on_is_kept(repo: Repository, real: RepositoryBuilder, tmp_path: Path) -> None:
    """The files of an orphan worktree, staged or not, links and modes too, are kept as a commit of their own."""
    tree = repo.worktrees.add(tmp_path / "w", orphan="fresh")
    Path(tree.path, "staged").write_text("s\n")
    tree.stage(["staged"])
    Path(tree.path, "run").write_text("#!/bin/sh\n")
    os.chmod(f"{tree.path}/run", 0o755)
    os.symlink("nowhere", f"{tree.path}/link")
    Path(os.fsdecode(os.fsencode(tree.path) + b"/\xff")).write_text("ugly\n")
    ref = tree.remove(force=True).kept
    assert ref is not None
    listed = real.git("ls-tree", "-r", "-z", ref).split("\0")
    assert [(line[:6], line.partition("\t")[2]) for line in listed if line] == [
        ("120000", "link"), ("100755", "run"), ("100644", "staged"), ("100644", "\udcff"),
    ]  # fmt: skip
    assert real.git("show", f"{ref}:link") == "nowhere"


def test_work_in_the_middle_of_a_conflict_is_kept(repo: Repository, real: RepositoryBuilder, tmp_path: Path) -> None:
    """A worktree with unmerged paths can be removed by force, and its files are kept as they were."""
    real.commits([CommitSpec({"a.txt": "theirs\n"}, "theirs", "side", ["main"])])
    tree = repo.worktrees.add(tmp_path / "w", new_branch="ours", start="main")
    Path(tree.path, "a.txt").write_text("ours\n")
    tree.stage(["a.txt"])
    tree.commit("ours")
    with pytest.raises(AssertionError, match="git merge"):
        real.git("merge", "side", cwd=tree.path)
    assert any(entry.is_conflict for entry in tree.status())
    text = Path(tree.path, "a.txt").read_text()
    assert "<<<<<<<" in text
    ref = tree.remove(force=True).kept
    assert real.git("show", f"{ref}:a.txt") == text.rstrip("\n")
    assert real.git("show", f"{ref}:d/b.txt") == "1"


def test_commits_of_a_detached_head_are_kept(repo: Repository, real: RepositoryBuilder, tmp_path: Path) -> None:
    """A commit that no ref reaches survives the removal of its worktree; one that a tag reaches needs no help."""
    kept: Oid | None = None
    for tagged in (False, True):
        tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
        Path(tree.path, "new").write_text(f"{tagged}\n")
        tree.stage(["new"])
        oid = tree.commit("precious")
        if tagged:
            real.git("tag", "-a", "-m", "x", "v1", oid)
            real.git("tag", "not-a-commit", "HEAD^{tree}")
        ref = tree.remove().kept
        assert (ref is None) is tagged
        kept = kept or oid
    assert [real.git("rev-parse", ref) for ref in salvaged(real)] == [kept]
    clean = repo.worktrees.add(tmp_path / "w", detach="v1")
    assert clean.remove().kept is None


def test_a_removal_that_is_refused_keeps_nothing_and_takes_nothing(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path
) -> None:
    """A locked worktree stays with its work, and no salvage ref is left of the attempt."""
    tree = repo.worktrees.add(tmp_path / "w", detach="HEAD", lock="mine")
    Path(tree.path, "new").write_text("x")
    with pytest.raises(WorktreeLockedError):
        tree.remove(force=True)
    with pytest.raises(GitOperationError):
        repo.worktrees.main.remove(force=True)
    assert Path(tree.path, "new").exists()
    assert salvaged(real) == []


def test_a_temporary_worktree_that_was_locked_stays(repo: Repository, tmp_path: Path) -> None:
    """Who locks a temporary worktree inside the block keeps it; who moves it has it removed where it went."""
    with repo.worktrees.temporary() as tree:
        tree.lock("keep me")
    assert Path(tree.path).is_dir()
    tree.unlock()
    tree.remove()
    with repo.worktrees.temporary(path=tmp_path / "t") as tree:
        tree.move(tmp_path / "elsewhere")
    assert list(tmp_path.glob("t*")) == []
    assert not (tmp_path / "elsewhere").exists()
    assert len(repo.worktrees) == 1


def test_a_path_that_belongs_to_somebody_is_never_cleaned_up(repo: Repository, tmp_path: Path) -> None:
    """A temporary worktree at a path that is taken fails and leaves what is there alone, a worktree too."""
    other = repo.worktrees.add(tmp_path / "w", detach="HEAD")
    Path(other.path, "new").write_text("x")
    with pytest.raises(GitOperationError), repo.worktrees.temporary(path=other.path):
        pytest.fail("the block was entered")
    assert Path(other.path, "new").read_text() == "x"
    assert len(repo.worktrees) == 2


_PROGRAM = """
import sys
from pathlib import Path
from arboretum import Repository
with Repository.open(sys.argv[1], backend=sys.argv[2]) as repo:
    while True:
        with repo.worktrees.temporary("topic") as tree:
            Path(tree.path, "work").write_text("precious")
            print("in", flush=True)
            tree.run(["sleep", sys.argv[3]])
"""


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.09, 0.3])
@pytest.mark.parametrize("backend", ["cli", "pygit2"])
def test_ctrl_c_at_any_moment_leaves_no_worktree(
    real: RepositoryBuilder, tmp_path: Path, backend: str, delay: float
) -> None:
    """Interrupted while worktrees come and go, a script leaves neither worktree nor folder, and loses no work."""
    real.branch("topic")
    env = os.environ | {"TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, real.path, backend, "0.01" if delay else "60"],
        env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == "in\n"
        time.sleep(delay)
        child.send_signal(signal.SIGINT)
        _, said = child.communicate(timeout=60)
    assert "KeyboardInterrupt" in said
    assert len(real.git("worktree", "list").splitlines()) == 1, said
    assert list((tmp_path / "tmp").iterdir()) == []
    for ref in salvaged(real):
        # Ctrl-C may come between the making of the file and the writing: then it was empty.
        assert real.git("show", f"{ref}^3:work") in {"precious", ""}
    assert real.git("branch", "--list", "--format=%(refname:short)").split() == ["main", "topic"]
