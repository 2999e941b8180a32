"""Names that git takes or refuses, places that are odd, and other people's worktrees left alone."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum import Repository
from arboretum.errors import ArboretumError, GitOperationError, InvalidValueError, UnsafeRepositoryError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.testing.strategies import ref_texts
from arboretum.values import RefName

BACKENDS = ("cli", "gitpython", "pygit2")
ODD_NAMES = ["a b", "-x", "new\nline", "q\"uo'te", "\udcff\udcfe", "$(touch PWNED)", "ä"]


@pytest.fixture
def real(tmp_path: Path) -> RepositoryBuilder:
    builder = RepositoryBuilder.init(tmp_path / "real")
    builder.commits([CommitSpec({"a.txt": f"{n}\n", "d/b.txt": "1\n"}, f"number {n}\n") for n in range(3)])
    return builder


@pytest.fixture(params=BACKENDS)
def repo(request: pytest.FixtureRequest, real: RepositoryBuilder) -> Iterator[Repository]:
    with Repository.open(real.path, backend=request.param) as repository:
        yield repository


def _git_takes(*arguments: bytes) -> bool:
    return subprocess.run([b"git", b"check-ref-format", *arguments], check=False, capture_output=True).returncode == 0


@settings(deadline=None, max_examples=150)
@given(ref_texts())
def test_a_ref_name_is_one_exactly_when_git_says_so(text: str) -> None:
    """RefName takes what git check-ref-format takes, and nothing else."""
    try:
        RefName(text)
    except InvalidValueError:
        assert not _git_takes(os.fsencode(text))
    else:
        assert _git_takes(os.fsencode(text))


@settings(deadline=None, max_examples=80)
@given(ref_texts().map(lambda text: text.removeprefix("refs/heads/")) | st.sampled_from(["HEAD", "@", "-", "", "--x"]))
def test_a_branch_name_is_one_exactly_when_git_says_so(text: str) -> None:
    """RefName.branch takes what git check-ref-format --branch takes; shorthands like @{-1} stand for no name here."""
    try:
        RefName.branch(text)
    except InvalidValueError:
        assert not _git_takes(b"--branch", os.fsencode(text)) or text.startswith("@{-") or text == "@"
    else:
        assert _git_takes(b"--branch", os.fsencode(text))


@given(st.sampled_from(["", "lock", "x.lock", "a.lock/b", ".a", "a/.b", "a.", "a..b", "a.b", "a.lockb", "a-_+=b"]))
def test_the_quick_way_to_check_a_name_refuses_what_the_thorough_one_does(tail: str) -> None:
    """Names that look plain are judged by the same rules."""
    text = f"refs/heads/{tail}"
    try:
        RefName(text)
    except InvalidValueError:
        assert not _git_takes(os.fsencode(text))
    else:
        assert _git_takes(os.fsencode(text))


@pytest.mark.parametrize(
    "name", ["a b", "-x", "new\nline", "q\"uo'te", "\udcff\udcfe", "$(touch PWNED)", "ä"], ids=ascii
)
def test_the_whole_life_of_a_worktree_at_an_odd_place(repo: Repository, tmp_path: Path, name: str) -> None:
    """Add, commit, command, lock, move, repair and removal work at any path, and the path is told as it is."""
    tree = repo.worktrees.add(tmp_path / name / name, new_branch="topic")
    assert tree.path == f"{tmp_path}/{name}/{name}"
    Path(tree.path, name).write_text("x")
    tree.stage([name])
    tree.commit("odd")
    assert [entry.path for entry in tree.diff_names("main")] == [name]
    assert tree.run(["test", "-f", f"./{name}"]).success
    tree.lock(name)
    assert tree.info.locked == name
    tree.unlock()
    tree.move(tmp_path / f"{name} moved")
    os.rename(tree.path, tmp_path / name / "by hand")
    repo.worktrees.repair([tmp_path / name / "by hand"])
    repo.worktrees.get(tmp_path / name / "by hand").remove().wait()
    assert len(list(repo.worktrees)) == 1
    assert not list(tmp_path.rglob("PWNED"))


def test_other_peoples_worktrees_are_listed_rightly_and_left_alone(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path
) -> None:
    """Locked, lost, lost and locked ones, and one with a submodule: told as git tells them, untouched by our work."""
    library = RepositoryBuilder.init(tmp_path / "library")
    library.commit({"lib": "x"})
    for name, options in {
        "locked": ["--lock", "--reason", "on a disk"], "lost": [], "lost-locked": ["--lock"], "sub": [],
    }.items():  # fmt: skip
        real.git("worktree", "add", "-q", "--detach", *options, str(tmp_path / name))
    for name in ("lost", "lost-locked"):
        os.rename(tmp_path / name, tmp_path / f"{name}.away")
    sub = str(tmp_path / "sub")
    real.git("-c", "protocol.file.allow=always", "submodule", "--quiet", "add", library.path, "lib", cwd=sub)
    real.git("commit", "-qm", "with a submodule", cwd=sub)
    before = real.git("worktree", "list", "--porcelain")
    told = {Path(info.path).name: (info.locked, bool(info.prunable)) for info in repo.worktrees.infos()}
    assert told == {
        "real": (None, False), "locked": ("on a disk", False), "lost": (None, True), "sub": (None, False),
        "lost-locked": ("added with --lock", False),
    }  # fmt: skip
    with repo.worktrees.temporary() as tree:
        tree.clean(ignored=True)
    assert [info.name for info in repo.worktrees.prune(dry_run=True)] == ["lost"]
    for name in ("locked", "lost-locked"):
        with pytest.raises(GitOperationError):
            repo.worktrees.get(tmp_path / name).remove(force=True)
    with pytest.raises(ArboretumError):  # refused: dirty for git, or by name where submodules are not supported
        repo.worktrees.get(sub).remove()
    assert real.git("worktree", "list", "--porcelain") == before
    assert real.git("submodule", "status", cwd=sub).split()[1] == "lib"


def test_a_repository_of_another_user_is_refused(real: RepositoryBuilder, monkeypatch: pytest.MonkeyPatch) -> None:
    """Git's own check of the owner holds for opening and discovering, before any configuration of theirs counts."""
    real.git("config", "core.fsmonitor", "touch PWNED")
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    for act in (Repository.open, Repository.discover):
        with pytest.raises(UnsafeRepositoryError) as caught:
            act(real.path)
        assert "safe.directory" in str(caught.value)
    assert not list(Path(real.path).rglob("PWNED"))


@pytest.mark.parametrize("merged", [True, False])
@pytest.mark.parametrize("follows", [True, False])
def test_a_branch_is_deleted_exactly_when_git_would(
    repo: Repository, real: RepositoryBuilder, tmp_path: Path, merged: bool, follows: bool
) -> None:  # fmt: skip
    """Merged into its upstream, or into HEAD where it has none: our answer is that of git branch -d."""
    real.commits([CommitSpec({"x": "1"}, "ahead\n", "topic", ["main"])])
    if merged and not follows:
        real.git("merge", "-q", "--ff-only", "topic")
    if follows:
        repo.branches.create("base", "topic" if merged else "main")
        repo.branches.set_upstream("topic", "base")
        assert real.git("rev-parse", "--abbrev-ref", "topic@{upstream}") == "base" == repo.branches.upstream("topic")
    copy = RepositoryBuilder(str(tmp_path / "copy"), environment=real.environment)
    subprocess.run(["cp", "-a", real.path, copy.path], check=True)
    try:
        copy.git("branch", "-d", "topic")
        git_deleted = True
    except AssertionError:
        git_deleted = False
    try:
        repo.branches.delete("topic")
    except GitOperationError as error:
        assert error.kind == "branch-not-merged"  # noqa: PT017  (both outcomes are allowed)
        assert not git_deleted
    else:
        assert git_deleted
    assert ("topic" in repo.branches) is not git_deleted
    assert not git_deleted or "branch.topic" not in real.git("config", "--list")


def test_a_renamed_branch_takes_its_worktrees_along(repo: Repository, real: RepositoryBuilder, tmp_path: Path) -> None:
    """Reflog, upstream and the HEADs of worktrees follow a rename; git finds nothing odd."""
    tree = repo.worktrees.add(tmp_path / "w", new_branch="old")
    repo.branches.set_upstream("old", "main")
    repo.branches.rename("old", "new/name")
    assert (tree.branch, repo.branches.upstream("new/name")) == ("new/name", "main")
    assert "old" not in repo.branches
    assert real.git("reflog", "exists", "refs/heads/new/name") == ""
    real.git("fsck", "--strict")


def test_a_pop_is_not_lost_to_somebody_who_clears_the_list(repo: Repository, real: RepositoryBuilder) -> None:
    """What was put away is kept under a ref of its own until it is applied, whatever others do to refs/stash."""
    tree = repo.worktrees.main
    Path(tree.path, "a.txt").write_text("work\n")
    Path(tree.path, "new").write_text("new\n")
    entry = tree.stash.push("mine", include_untracked=True)
    assert entry is not None
    assert tree.is_clean()
    real.git("stash", "clear")
    real.git("gc", "-q", "--prune=now")
    tree.stash.pop(entry)
    assert Path(tree.path, "a.txt").read_text() == "work\n"
    assert Path(tree.path, "new").read_text() == "new\n"
    assert real.git("for-each-ref", "refs/arboretum", "refs/stash") == ""
