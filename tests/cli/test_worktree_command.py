"""``arboretum worktree``, with git as the oracle."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arboretum.testing.builders import RepositoryBuilder
from tests.cli.conftest import Arboretum


def paths(builder: RepositoryBuilder) -> list[str]:
    lines = builder.git("worktree", "list", "--porcelain").splitlines()
    return [line.removeprefix("worktree ") for line in lines if line.startswith("worktree ")]


@pytest.fixture(params=["cli", "pygit2"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_a_life_of_a_worktree(builder: RepositoryBuilder, arboretum: Arboretum, backend: str) -> None:
    """Add, lock, unlock, move and remove do what git sees and says."""
    tree, moved = f"{builder.path}-tree", f"{builder.path}-moved"

    def do(*words: str, code: int = 0) -> str:
        done = arboretum("--backend", backend, "worktree", *words, cwd=builder.path)
        assert done.code == code, done.err
        return done.err

    do("add", tree, "-b", "review", "--start", "right", "--lock", "mine")
    assert builder.git("rev-parse", "review") == builder.git("rev-parse", "right")
    assert "locked mine" in builder.git("worktree", "list", "--porcelain")
    assert "lock" in do("remove", tree, code=1)
    do("unlock", tree)
    do("move", tree, moved)
    assert paths(builder) == [builder.path, moved]
    do("lock", moved, "--reason", "again")
    do("unlock", moved)
    Path(moved, "answer.txt").write_text("uncommitted\n")
    assert "hint:" in do("remove", moved, code=1)
    assert "git stash apply refs/arboretum/salvage/" in do("remove", moved, "--force")
    assert paths(builder) == [builder.path]
    assert builder.git("for-each-ref", "refs/arboretum/salvage/")
    builder.git("fsck", "--strict")


def test_prune_and_repair(builder: RepositoryBuilder, arboretum: Arboretum) -> None:
    """A worktree that was moved by hand is repaired; one that is gone is pruned, after a dry run that only tells."""
    one, two, new = (f"{builder.path}-{name}" for name in ("one", "two", "new"))
    for tree in (one, two):
        arboretum("worktree", "add", tree, "--detach", "HEAD", cwd=builder.path)
    os.rename(one, new)
    os.rename(two, f"{two}-lost")
    assert arboretum("worktree", "repair", new, cwd=builder.path).code == 0
    assert new in paths(builder)
    told = arboretum("worktree", "prune", "--dry-run", "--format", "json", cwd=builder.path)
    assert [tree["path"] for tree in told.json["worktrees"]] == [two]
    assert two in paths(builder)
    assert arboretum("worktree", "prune", cwd=builder.path).code == 0
    assert paths(builder) == [builder.path, new]


def test_the_keys_of_the_list(builder: RepositoryBuilder, arboretum: Arboretum) -> None:
    """The JSON has the keys of the design, and a detached worktree has no branch."""
    arboretum("worktree", "add", f"{builder.path}-tree", cwd=builder.path)
    done = arboretum("worktree", "list", "--format", "json", cwd=builder.path)
    main, tree = done.json["worktrees"]
    assert {"path", "head", "branch", "detached", "bare", "locked", "prunable"} <= set(main)
    assert (main["branch"], main["detached"]) == ("main", False)
    assert (tree["branch"], tree["detached"], tree["head"]) == (None, True, builder.git("rev-parse", "HEAD"))
    text = arboretum("worktree", "list", cwd=builder.path).out
    assert builder.path in text
    assert "(detached)" in text


def test_a_name_that_is_not_utf8(builder: RepositoryBuilder, arboretum: Arboretum) -> None:
    """A path of any bytes can be given, is made, is listed and can be removed."""
    tree = os.fsdecode(os.fsencode(builder.path) + b"-\xff tree")
    assert arboretum("worktree", "add", tree, "--detach", "HEAD", cwd=builder.path).code == 0
    assert os.path.isdir(tree)
    listed = arboretum("worktree", "list", "--format", "json", cwd=builder.path)
    assert any("\\xff tree" in found["path"] for found in listed.json["worktrees"])
    assert arboretum("worktree", "remove", tree, cwd=builder.path).code == 0
    assert not os.path.exists(tree)


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("add", "../t", "--branch", "nonesuch"), 1),
        (("add", "../t", "--branch", "main"), 1),
        (("add", "../t", "--new-branch", "main"), 1),
        (("add", "../t", "--new-branch", "-x"), 2),
        (("add", "../t", "--new-branch", "a..b"), 2),
        (("add", "../t", "--detach", "nonesuch"), 2),
        (("add", "../t", "--branch", "right", "--detach", "right"), 2),
        (("add", ".", "--branch", "right"), 1),
        (("remove", "../nonesuch"), 1),
        (("remove", "."), 1),
        (("unlock", "../nonesuch"), 1),
    ],
)
def test_what_cannot_be_done_is_refused(
    builder: RepositoryBuilder, arboretum: Arboretum, words: tuple[str, ...], code: int
) -> None:
    """A refusal names the reason, leaves no branch, no folder and no record, and has its exit code."""
    before = builder.git("for-each-ref"), paths(builder), sorted(os.listdir(os.path.dirname(builder.path)))
    done = arboretum("worktree", *words, cwd=builder.path)
    assert (done.code, done.out) == (code, ""), done.err
    assert done.err.startswith("error:")
    assert (builder.git("for-each-ref"), paths(builder), sorted(os.listdir(os.path.dirname(builder.path)))) == before
