"""How a task's work is committed: as `git commit` would, whatever the repository or the program has in mind."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arboretum.errors import ConflictError, GitOperationError
from arboretum.orchestration.work import Committer
from arboretum.repository import Repository
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import Oid, RefName

BRANCH = RefName("refs/heads/work")


@pytest.fixture
def tree(builder: RepositoryBuilder, tmp_path: Path) -> Path:
    """A worktree on the branch `work`, at the tip of main."""
    place = tmp_path / "work"
    builder.git("worktree", "add", "-q", "-b", "work", str(place), "main")
    return place


def record(repository: Repository, tree: Path) -> tuple[Oid, tuple[str, ...]]:
    start = Oid(repository.resolve("main"))
    return Committer(repository.backend).record(os.fspath(tree), BRANCH, start, "the work  \n\n\n\nof a task\n")


def test_work_is_committed_on_its_branch(builder: RepositoryBuilder, repository: Repository, tree: Path) -> None:
    """All changes, new files and deletions are in one commit on the start, and the worktree is clean afterwards."""
    (tree / "new").write_text("x\n")
    (tree / "README.md").unlink()
    commit, changed = record(repository, tree)
    assert changed == ("README.md", "new")
    assert builder.git("rev-parse", "work", "work~1").split() == [commit, builder.git("rev-parse", "main")]
    assert builder.git("log", "-1", "--format=%B", "work").strip() == "the work\n\nof a task"
    assert builder.git("log", "-1", "--format=%cn %ce", "work") == "Carl Committer carl@example.org"
    assert builder.git("status", "--porcelain", cwd=str(tree)) == ""
    builder.git("fsck", "--strict")


def test_nothing_but_a_line_end_is_no_work(builder: RepositoryBuilder, repository: Repository, tree: Path) -> None:
    """What a filter mends when it is staged is no change, and makes no commit."""
    builder.git("config", "core.autocrlf", "input")
    text = (tree / "README.md").read_bytes()
    (tree / "README.md").write_bytes(text.replace(b"\n", b"\r\n"))
    assert record(repository, tree) == (builder.git("rev-parse", "main"), ())


def test_hooks_have_their_say(builder: RepositoryBuilder, repository: Repository, tree: Path) -> None:
    """A hook that refuses the commit makes it fail with its words; one that mends the message is heard."""
    hook = Path(builder.git_dir) / "hooks" / "pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'no tabs, please' >&2; exit 1\n")
    hook.chmod(0o755)
    (tree / "new").write_text("x\n")
    with pytest.raises(GitOperationError, match="no tabs, please"):
        record(repository, tree)
    hook.rename(hook.with_name("commit-msg")).write_text('#!/bin/sh\necho "Checked: yes" >> "$1"\n')
    record(repository, tree)
    assert "Checked: yes" in builder.git("log", "-1", "--format=%B", "work")


def test_a_merge_that_the_program_began_stays_a_merge(
    builder: RepositoryBuilder, repository: Repository, tree: Path
) -> None:
    """Unmerged paths are refused; once they are resolved the commit has both parents."""
    builder.git("branch", "other", "main")
    for branch, text in (("other", "theirs\n"), ("work", "ours\n")):
        builder.git("switch", "-q", branch, cwd=str(tree))
        (tree / "README.md").write_text(text)
        builder.git("commit", "-qam", branch, cwd=str(tree))
    with pytest.raises(AssertionError, match="git merge"):
        builder.git("merge", "-q", "other", cwd=str(tree))
    with pytest.raises(ConflictError, match="unmerged"):
        record(repository, tree)
    (tree / "README.md").write_text("both\n")
    builder.git("add", "-A", cwd=str(tree))
    commit, _ = record(repository, tree)
    assert builder.git("rev-parse", f"{commit}^2") == builder.git("rev-parse", "other")


def test_work_on_another_branch_reaches_the_task_s_own(
    builder: RepositoryBuilder, repository: Repository, tree: Path
) -> None:
    """A program that switched to a branch of its own has its commit on ours, too."""
    builder.git("switch", "-q", "-c", "own", cwd=str(tree))
    (tree / "new").write_text("x\n")
    commit, changed = record(repository, tree)
    assert changed == ("new",)
    assert builder.git("rev-parse", "own", "work").split() == [commit, commit]
