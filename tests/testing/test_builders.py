"""The repository builders make what they are asked for, and change nothing of this process."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arboretum.testing.builders import CommitSpec, File, RepositoryBuilder
from arboretum.values import FileMode


def test_a_history_has_the_commits_files_and_modes_asked_for(tmp_path: Path) -> None:
    """A built history holds exactly the files given, with modes, links, ugly and non-UTF-8 names."""
    builder = RepositoryBuilder.init(tmp_path / "repo")
    ugly = 'a "quoted"\nname\\ \udcff'
    oids = builder.commits(
        [
            CommitSpec({"a": "one\n", "run": File(b"#!/bin/sh\n", FileMode.EXECUTABLE)}, "first"),
            CommitSpec({"sub/link": File(b"../a", FileMode.SYMLINK), ugly: b"\x00\xff"}, "second"),
            CommitSpec({"a": None, "b": "two\n"}, "aside", branch="topic", parents=[":1"]),
            CommitSpec({"c": ""}, "merge", parents=[":2", ":3"]),
        ]
    )
    assert builder.git("log", "--format=%s", "-1") == "merge"
    listing = filter(None, builder.git("ls-tree", "-r", "-z", "HEAD").split("\0"))
    assert {f"{line[:6]} {line.partition(chr(9))[2]}" for line in listing} == {
        "100644 a", "100755 run", "120000 sub/link", f"100644 {ugly}", "100644 c",
    }  # fmt: skip
    assert builder.git("rev-parse", "HEAD^1", "HEAD^2").split() == [oids[1], oids[2]]
    assert builder.git("status", "--porcelain") == ""
    assert os.readlink(tmp_path / "repo/sub/link") == "../a"


def test_commits_go_on_where_the_branch_stands(tmp_path: Path) -> None:
    """A commit without parents given stands on the tip of its branch, and the worktree follows."""
    builder = RepositoryBuilder.init(tmp_path / "repo")
    first = builder.commit({"a": "1"})
    second = builder.commit({"a": "2"}, "change a")
    builder.branch("old", "HEAD~1")
    third = builder.commit({"b": "3"}, branch="old")
    assert builder.git("rev-parse", "main~1", "old~1").split() == [first, first]
    assert builder.git("rev-parse", "main", "old").split() == [second, third]
    assert (tmp_path / "repo/a").read_text() == "2"


def test_the_environment_of_this_process_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder sees nothing of the user's git configuration and sets nothing in this process."""
    monkeypatch.setenv("GIT_DIR", "/nowhere")
    before = dict(os.environ)
    builder = RepositoryBuilder.init(tmp_path / "repo", bare=True, object_format="sha256")
    oid = builder.commit({"a": "1"})
    assert len(oid) == 64
    assert dict(os.environ) == before


def test_a_failing_git_says_why(tmp_path: Path) -> None:
    """When git fails, the error names the command and what git said."""
    builder = RepositoryBuilder.init(tmp_path / "repo")
    with pytest.raises(AssertionError, match="rev-parse nothing"):
        builder.git("rev-parse", "nothing")
