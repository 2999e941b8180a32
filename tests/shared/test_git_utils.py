"""Worktrees, branches and stashes by path, against real git."""

from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.shared import (
    GitOperationError,
    WorktreeContext,
    count_worktrees,
    create_branch,
    create_worktree,
    delete_branch,
    get_current_branch,
    list_worktrees,
    remove_worktree,
    reset_worktree,
    stash_pop_worktree,
    stash_worktree,
)

Git = Callable[..., str]


def test_current_branch(repo: Path, git: Git, tmp_path: Path) -> None:
    """The branch is told from the root and from below, on an unborn branch, and as HEAD when detached."""
    (repo / "sub").mkdir()
    assert get_current_branch(repo) == get_current_branch(str(repo / "sub")) == "main"
    git("checkout", "-q", "--detach")
    assert get_current_branch(repo) == "HEAD"
    subprocess.run(["git", "init", "-q", "-b", "trunk", str(tmp_path / "new")], check=True)
    assert get_current_branch(tmp_path / "new") == "trunk"


def test_create_list_count_remove(repo: Path, git: Git, tmp_path: Path) -> None:
    """What is made is what git sees: detached at HEAD, on a branch, at any revision; and removed it is gone."""
    paths = [
        create_worktree(repo, tmp_path / "a b" / "one"),
        create_worktree(repo, str(tmp_path / "two"), "feature"),
        create_worktree(repo, tmp_path / "three", "main~1"),
    ]
    assert paths == [tmp_path / "a b" / "one", tmp_path / "two", tmp_path / "three"]
    assert [git("rev-parse", "HEAD", cwd=path) for path in paths] == [
        git("rev-parse", revision) for revision in ("main", "feature", "main~1")
    ]
    listed = {entry["path"]: entry for entry in list_worktrees(repo)}
    assert set(listed) == {str(repo), *map(str, paths)}
    assert [listed[str(path)]["branch"] for path in (repo, *paths)] == ["main", "", "feature", ""]
    assert all(entry["commit"] == git("rev-parse", "HEAD", cwd=Path(path)) for path, entry in listed.items())
    assert count_worktrees(repo) == count_worktrees(paths[0]) == 4
    for path in paths:
        assert remove_worktree(repo, path) is None
        assert not path.exists()
    assert count_worktrees(repo) == 1
    assert git("worktree", "prune", "--dry-run", "-v") == ""


def test_existing_worktree_is_reused(repo: Path, tmp_path: Path) -> None:
    """A worktree of the repository that is there already is taken as it is, with what is in it."""
    path = create_worktree(repo, tmp_path / "t", "feature")
    (path / "mine").write_text("x")
    assert create_worktree(repo, path, "feature") == create_worktree(repo, path) == path
    assert (path / "mine").exists()
    assert count_worktrees(repo) == 2


def test_existing_worktree_on_another_branch(repo: Path, tmp_path: Path) -> None:
    """A worktree that stands elsewhere is not passed off as the one that was asked for."""
    path = create_worktree(repo, tmp_path / "t", "feature")
    create_branch(repo, "other", "main")
    with pytest.raises(GitOperationError, match="on feature and not on other"):
        create_worktree(repo, path, "other")


def test_anything_else_at_the_path_is_left_alone(repo: Path, tmp_path: Path) -> None:
    """A folder with files, a file, another repository's worktree or the main worktree are errors, and untouched."""
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    (tmp_path / "file").write_text("x")
    other = tmp_path / "other"
    subprocess.run(["git", "clone", "-q", str(repo), str(other)], check=True)
    for path in (tmp_path / "full", tmp_path / "file", other, repo):
        before = sorted(os.walk(path)) if path.is_dir() else path.read_text()
        with pytest.raises(GitOperationError) as caught:
            create_worktree(repo, path)
        assert str(path) in str(caught.value)
        assert (sorted(os.walk(path)) if path.is_dir() else path.read_text()) == before
    assert count_worktrees(repo) == 1


def test_branch_that_is_checked_out(repo: Path, tmp_path: Path) -> None:
    """A branch can be in one worktree only; the second gets an error and nothing is left behind."""
    with pytest.raises(GitOperationError, match="main"):
        create_worktree(repo, tmp_path / "t", "main")
    assert not (tmp_path / "t").exists()
    assert count_worktrees(repo) == 1


@pytest.mark.parametrize("branch", ["nope", "", "-x", "--upload-pack=x", "a..b", "a\nb"])
def test_branch_that_cannot_be(repo: Path, tmp_path: Path, branch: str) -> None:
    """A branch that does not exist, or no name at all, is an error, and nothing is left behind."""
    with pytest.raises(GitOperationError):
        create_worktree(repo, tmp_path / "t", branch)
    assert not (tmp_path / "t").exists()
    assert count_worktrees(repo) == 1


def test_failed_removal_is_a_warning(repo: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What cannot be removed stays, and the log says why: changes, a lock, no worktree at all."""
    dirty = create_worktree(repo, tmp_path / "dirty")
    (dirty / "new").write_text("x")
    locked = create_worktree(repo, tmp_path / "locked")
    Repository.open(repo).worktrees.get(locked).lock("usb")
    for path in (dirty, locked, tmp_path / "nowhere", repo):
        caplog.clear()
        remove_worktree(repo, path)
        (record,) = caplog.records
        assert record.levelno == logging.WARNING
        assert str(path) in record.getMessage()
    assert (dirty / "new").exists()
    assert (repo / "file.txt").exists()
    assert count_worktrees(repo) == 3


def test_forced_removal_keeps_the_changes(repo: Path, git: Git, tmp_path: Path) -> None:
    """What a forced removal discards is kept under a salvage ref."""
    path = create_worktree(repo, tmp_path / "t")
    (path / "file.txt").write_text("precious\n")
    remove_worktree(repo, path, force=True)
    assert not path.exists()
    (ref,) = git("for-each-ref", "--format=%(refname)", "refs/arboretum/salvage/").splitlines()
    assert git("show", f"{ref}:file.txt") == "precious"


def test_reset(repo: Path, git: Git, tmp_path: Path) -> None:
    """A reset worktree is as HEAD has it, ignored files stay, and what was discarded is kept under a salvage ref."""
    path = create_worktree(repo, tmp_path / "t", "feature")
    (path / "file.txt").write_text("changed\n")
    (path / "new").write_text("new\n")
    (path / "build.log").write_text("log\n")
    git("rm", "-q", "--cached", ".gitignore", cwd=path)
    reset_worktree(path)
    assert git("status", "--porcelain", cwd=path) == ""
    assert (path / "file.txt").read_text() == "one\n"
    assert not (path / "new").exists()
    assert (path / "build.log").exists()
    assert git("branch", "--show-current", cwd=path) == "feature"
    (ref,) = git("for-each-ref", "--format=%(refname)", "refs/arboretum/salvage/").splitlines()
    assert git("show", f"{ref}:file.txt") == "changed"
    reset_worktree(path)
    assert len(git("for-each-ref", "refs/arboretum/salvage/").splitlines()) == 1


def test_stash_and_pop(repo: Path, git: Git, tmp_path: Path) -> None:
    """A stash is taken back by its id, whatever other worktrees have stashed since."""
    one, two = create_worktree(repo, tmp_path / "one"), create_worktree(repo, tmp_path / "two")
    assert stash_worktree(one) == ""
    stash_pop_worktree(one, "")
    for path in (one, two):
        (path / "new").write_text(path.name)
        (path / "file.txt").write_text(path.name)
    first, second = stash_worktree(one), stash_worktree(two)
    assert git("status", "--porcelain", cwd=one) == git("status", "--porcelain", cwd=two) == ""
    stash_pop_worktree(one, first)
    stash_pop_worktree(two, second)
    for path in (one, two):
        assert (path / "new").read_text() == (path / "file.txt").read_text() == path.name
    assert git("stash", "list") == ""


def test_stash_that_does_not_apply_stays(repo: Path, git: Git, tmp_path: Path) -> None:
    """A stash that conflicts is still there, and the worktree is as it was."""
    path = create_worktree(repo, tmp_path / "t")
    (path / "file.txt").write_text("stashed\n")
    stash = stash_worktree(path)
    (path / "file.txt").write_text("other\n")
    git("commit", "-qam", "other", cwd=path)
    with pytest.raises(GitOperationError):
        stash_pop_worktree(path, stash)
    assert (path / "file.txt").read_text() == "other\n"
    assert git("stash", "list", "--format=%H") == stash
    for wrong in ("0" * 40, "nonsense", "stash@{0}"):
        with pytest.raises(GitOperationError):
            stash_pop_worktree(path, wrong)


def test_branches(repo: Path, git: Git) -> None:
    """Branches are made where they are asked for, and deleted unless that would lose commits."""
    create_branch(repo, "fix/a", "main~1")
    create_branch(repo, "fix/b")
    assert git("rev-parse", "fix/a") == git("rev-parse", "main~1")
    delete_branch(repo, "fix/a")
    git("checkout", "-q", "fix/b")
    git("commit", "-q", "--allow-empty", "-m", "only here")
    git("checkout", "-q", "main")
    with pytest.raises(GitOperationError):
        delete_branch(repo, "fix/b")
    delete_branch(repo, "fix/b", force=True)
    assert git("branch", "--format=%(refname:short)").split() == ["feature", "main"]


@pytest.mark.parametrize(
    ("name", "start"),
    [("main", "HEAD"), ("", "HEAD"), ("-x", "HEAD"), ("a b", "HEAD"), ("x.lock", "HEAD"), ("ok", "nope"), ("ok", "-x")],
)
def test_branch_that_cannot_be_made(repo: Path, git: Git, name: str, start: str) -> None:
    """A branch that exists, a bad name or an unknown start is an error, and nothing is made."""
    with pytest.raises(GitOperationError):
        create_branch(repo, name, start)
    assert git("branch", "--format=%(refname:short)").split() == ["feature", "main"]


@pytest.mark.parametrize("name", ["main", "nope", "", "-D"])
def test_branch_that_cannot_be_deleted(repo: Path, git: Git, name: str) -> None:
    """The branch one is on, an unknown one and no name at all are errors, and nothing is deleted."""
    with pytest.raises(GitOperationError):
        delete_branch(repo, name)
    assert git("branch", "--format=%(refname:short)").split() == ["feature", "main"]


CALLS: list[Callable[[Path, Path], object]] = [
    lambda path, target: get_current_branch(path),
    create_worktree,
    remove_worktree,
    lambda path, target: reset_worktree(path),
    lambda path, target: list_worktrees(path),
    lambda path, target: count_worktrees(path),
    lambda path, target: stash_worktree(path),
    lambda path, target: stash_pop_worktree(path, "0" * 40),
    lambda path, target: create_branch(path, "x"),
    lambda path, target: delete_branch(path, "x"),
    lambda path, target: WorktreeContext(path, target).__enter__(),
]


@pytest.mark.parametrize("number", range(len(CALLS)))
@pytest.mark.parametrize("kind", ["missing", "file", "not a repository", "NUL", "empty"])
def test_no_repository(tmp_path: Path, number: int, kind: str) -> None:
    """Without a repository every function raises an error that names the path, and makes nothing."""
    place = tmp_path / "place"
    place.mkdir()
    (place / "file").write_text("")
    path: object = {"missing": place / "no", "file": place / "file", "NUL": "a\0b", "empty": ""}.get(kind, place)
    with pytest.raises(GitOperationError) as caught:
        CALLS[number](path, place / "target")  # type: ignore[arg-type]  # texts are paths, too
    assert kind in {"NUL", "empty"} or str(path) in str(caught.value)
    assert os.listdir(place) == ["file"]


def test_empty_worktree_path(repo: Path) -> None:
    """An empty path is an error and not the current folder."""
    with pytest.raises(GitOperationError):
        create_worktree(repo, "")


def test_bare_repository(repo: Path, tmp_path: Path) -> None:
    """In a bare repository worktrees can be made, and what needs files says that there are none."""
    bare = tmp_path / "bare.git"
    subprocess.run(["git", "clone", "-q", "--bare", str(repo), str(bare)], check=True)
    assert get_current_branch(bare) == "main"
    path = create_worktree(bare, tmp_path / "t", "main")
    assert (path / "file.txt").read_text() == "two\n"
    for function in (reset_worktree, stash_worktree):
        with pytest.raises(GitOperationError, match="bare"):
            function(bare)


def test_context_removes_what_it_made(repo: Path, git: Git, tmp_path: Path) -> None:
    """A context's worktree is there inside and gone outside, also after an error; changes are kept."""
    with WorktreeContext(repo, tmp_path / "t", "feature") as path:
        assert git("branch", "--show-current", cwd=path) == "feature"
    assert not path.exists()
    context = WorktreeContext(str(repo), str(tmp_path / "t"))

    def interrupted() -> None:
        with context as path:
            (path / "new").write_text("x")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert not path.exists()
    assert count_worktrees(repo) == 1
    assert git("for-each-ref", "refs/arboretum/salvage/") != ""


def test_context_leaves_what_it_did_not_make(repo: Path, tmp_path: Path) -> None:
    """A worktree that was there before, or with ``cleanup=False``, is there afterwards."""
    create_worktree(repo, tmp_path / "t")
    with WorktreeContext(repo, tmp_path / "t"):
        pass
    with Repository.open(repo) as opened, WorktreeContext(opened, tmp_path / "u", cleanup=False):
        pass
    assert count_worktrees(repo) == 3


def test_context_survives_the_removal_of_its_worktree(repo: Path, git: Git, tmp_path: Path) -> None:
    """A block that removes the worktree itself ends in peace."""
    with WorktreeContext(repo, tmp_path / "t") as path:
        git("worktree", "remove", str(path))
    assert count_worktrees(repo) == 1


@pytest.mark.parametrize("name", [b"caf\xff", b"two\nlines", b"-dash", b"a 'quoted\" name", "gr\u00fcn".encode()])
def test_any_file_name(repo: Path, git: Git, tmp_path: Path, name: bytes) -> None:
    """Worktrees live at paths with any bytes: made, listed, reused, reset, stashed and removed."""
    path = tmp_path / os.fsdecode(name)
    assert create_worktree(repo, path) == create_worktree(repo, path) == path
    assert list_worktrees(repo)[1]["path"] == str(path)
    (path / os.fsdecode(b"new\xfe")).write_text("x")
    stash = stash_worktree(path)
    stash_pop_worktree(path, stash)
    assert (path / os.fsdecode(b"new\xfe")).exists()
    reset_worktree(path)
    assert git("status", "--porcelain", cwd=path) == ""
    remove_worktree(repo, path)
    assert count_worktrees(repo) == 1
