"""The tree that an index says it stands for is the one that git writes, or not known."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum import Repository
from arboretum.backends.index_tree import cached_tree
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

NAMES = ("a", "TREE", "d/TREE", "d/e/f", "x.TREE", "d/g")


@pytest.fixture
def real(tmp_path: Path) -> RepositoryBuilder:
    builder = RepositoryBuilder.init(tmp_path / "real")
    builder.commits([CommitSpec(dict.fromkeys(NAMES, "1\n"), "one\n")])
    return builder


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.sampled_from(
            [*(["add", name] for name in NAMES), ["write-tree"], ["reset", "-q"], ["reset", "-q", "--hard"],
             ["add", "-N", "new"], ["rm", "-q", "-f", "--cached", "a"], ["update-index", "--split-index"],
             ["update-index", "--untracked-cache"], ["update-index", "--index-version", "4"]]
        ),
        max_size=6,
    )
)  # fmt: skip
def test_it_is_what_git_writes(real: RepositoryBuilder, commands: list[list[str]]) -> None:
    """After any changes of the index the tree is None or what ``git write-tree`` says."""
    real.git("reset", "-q", "--hard")
    for number, command in enumerate(commands):
        for name in (*NAMES, "new"):
            Path(real.path, name).write_text(f"{number}\n")
        if command[0] != "rm" or real.git("ls-files", "a"):
            real.git(*command)
        found = cached_tree(Path(real.git_dir, "index").read_bytes(), sha256=False)
        assert found in {None, real.git("write-tree")}


def test_it_is_known_after_a_commit_and_a_new_worktree(real: RepositoryBuilder, tmp_path: Path) -> None:
    """An index that equals HEAD says so: after a commit, a reset and an add of a worktree, git's or ours."""
    with Repository.open(real.path) as repo:
        ours = repo.worktrees.add(tmp_path / "ours", detach="HEAD")
        tree = repo.commit().tree
        real.git("worktree", "add", "-q", "--detach", str(tmp_path / "git"))
        for git_dir in (real.git_dir, f"{real.git_dir}/worktrees/ours", f"{real.git_dir}/worktrees/git"):
            assert cached_tree(Path(git_dir, "index").read_bytes(), sha256=False) == tree
        assert repo.backend.staged_tree(ours.path) == tree
        Path(ours.path, "new").write_text("x")
        ours.stage(["new"])
        assert repo.backend.staged_tree(ours.path) == real.git("write-tree", cwd=ours.path) != tree


@pytest.mark.parametrize("data", [b"", b"DIRC", b"TREE", b"TREE\0\0\0\0" + bytes(20), b"TREE" * 100, bytes(200)])
def test_what_is_no_index_says_nothing(data: bytes) -> None:
    """Anything else is not known."""
    assert cached_tree(data, sha256=False) is None
