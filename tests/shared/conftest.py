"""A real repository for each test, made by real git."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Git = Callable[..., str]


@pytest.fixture
def repo(tmp_path: Path) -> Path:
    """A repository with two commits and a branch ``feature`` at the first."""
    path = tmp_path / "repo"
    path.mkdir()

    def git(*arguments: str) -> None:
        subprocess.run(["git", "-C", str(path), *arguments], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    (path / "file.txt").write_text("one\n")
    (path / ".gitignore").write_text("*.log\n")
    git("add", ".")
    git("commit", "-qm", "first")
    git("branch", "feature")
    (path / "file.txt").write_text("two\n")
    git("commit", "-qam", "second")
    return path


@pytest.fixture
def git(repo: Path) -> Git:
    """Real git in the repository (or another folder): the oracle."""

    def run(*arguments: str, cwd: Path = repo) -> str:
        done = subprocess.run(["git", "-C", str(cwd), *arguments], check=True, capture_output=True, text=True)
        return done.stdout.strip()

    return run
