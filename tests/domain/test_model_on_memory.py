"""The object model, on the in-memory backend: what it derives from the port is derived rightly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.errors import (
    BranchCheckedOutError,
    BranchNotMergedError,
    DirtyWorktreeError,
    PathOccupiedError,
    RefExistsError,
    UsageError,
)
from arboretum.worktree import Worktree


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    with Repository.init(tmp_path / "repo", backend="memory") as repository:
        commit(repository.worktrees.main, "a.txt", "one\n")
        yield repository


def commit(tree: Worktree, name: str, text: str) -> str:
    Path(tree.path, name).write_text(text)
    tree.stage()
    return tree.commit(f"write {name}")


def test_a_new_branch_goes_away_when_its_worktree_cannot_be_made(repo: Repository, tmp_path: Path) -> None:
    """A failed add leaves no branch behind, and the folder that was in the way is as it was."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("precious")
    with pytest.raises(PathOccupiedError):
        repo.worktrees.add(tmp_path / "full", new_branch="fix/x")
    assert [b.name for b in repo.branches] == ["main"]
    assert (tmp_path / "full" / "mine").read_text() == "precious"


def test_bad_input_makes_nothing(repo: Repository, tmp_path: Path) -> None:
    """An add that does not say where it stands, or whose branch exists, makes neither branch nor folder."""
    with pytest.raises(UsageError):
        repo.worktrees.add(tmp_path / "w")
    with pytest.raises(UsageError):
        repo.worktrees.add(tmp_path / "w", new_branch="a", detach="HEAD")
    with pytest.raises(RefExistsError):
        repo.worktrees.add(tmp_path / "w", new_branch="main")
    with pytest.raises(UsageError):
        repo.worktrees.add(tmp_path / "w", new_branch="--upload-pack=x")
    assert not (tmp_path / "w").exists()
    assert [b.name for b in repo.branches] == ["main"]


def test_a_temporary_worktree_is_removed_and_its_work_kept(repo: Repository) -> None:
    """On exit, also by an exception, the folder is gone and uncommitted work is under a salvage ref."""
    with pytest.raises(KeyboardInterrupt), repo.worktrees.temporary("main", detach=True) as tree:  # noqa: PT012  (the work has to come first)
        Path(tree.path, "new.txt").write_text("work")
        raise KeyboardInterrupt
    assert not Path(tree.path).exists()
    assert not Path(tree.path).parent.exists()
    assert len(repo.worktrees) == 1
    (salvage,) = repo.refs("refs/arboretum/salvage/")
    untracked = repo.backend.read_commit(salvage.oid).parents[2]
    (entry,) = repo.backend.read_tree(untracked)
    assert (entry.path, repo.backend.read_blob(entry.oid)) == ("new.txt", b"work")


def test_a_dirty_worktree_is_not_removed_without_force(repo: Repository, tmp_path: Path) -> None:
    """Uncommitted work stops a removal."""
    tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
    (tmp_path / "w" / "new.txt").write_text("work")
    with pytest.raises(DirtyWorktreeError):
        tree.remove()
    assert (tmp_path / "w" / "new.txt").read_text() == "work"
    assert tree.remove(force=True).kept is not None
    assert not (tmp_path / "w").exists()


def test_only_merged_and_unused_branches_are_deleted(repo: Repository, tmp_path: Path) -> None:
    """A branch in use, and one that holds commits of its own, survive a delete."""
    tree = repo.worktrees.add(tmp_path / "w", new_branch="topic")
    commit(tree, "b.txt", "two\n")
    with pytest.raises(BranchCheckedOutError):
        repo.branches.delete("topic", force=True)
    tree.remove()
    with pytest.raises(BranchNotMergedError):
        repo.branches.delete("topic")
    assert repo.ahead_behind("topic", "main") == (1, 0)
    gone = repo.branches.delete("topic", force=True)
    assert "topic" not in repo.branches
    assert repo.branches.create("again", gone.oid).oid == gone.oid


def test_a_stash_takes_exactly_the_changes_and_gives_them_back(repo: Repository) -> None:
    """Push leaves a clean worktree (ignored files stay), pop by id brings the same changes back and forgets it."""
    tree = repo.worktrees.main
    commit(tree, ".gitignore", "*.log\n")
    Path(tree.path, "a.txt").write_text("changed\n")
    Path(tree.path, "new.txt").write_text("new\n")
    Path(tree.path, "x.log").write_text("ignored\n")
    before = tree.status()
    entry = tree.stash.push("wip", include_untracked=True)
    assert entry is not None
    assert tree.is_clean()
    assert Path(tree.path, "x.log").exists()
    assert [e.oid for e in repo.stashes] == [entry.oid]
    tree.stash.pop(entry)
    assert tree.status() == before
    assert list(repo.stashes) == []
    assert repo.refs("refs/arboretum/stash/") == ()
    assert tree.stash.push("nothing to see, twice") is not None
    assert tree.stash.push("nothing") is None


def test_upstream_is_read_as_it_was_set(repo: Repository) -> None:
    """A branch follows what it was told to follow, until it is told to follow nothing."""
    repo.branches.create("topic", upstream="main")
    assert repo.branches.upstream("topic") == "main"
    repo.branches.set_upstream("topic", None)
    assert repo.branches.upstream("topic") is None
