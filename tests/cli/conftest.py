"""The command as a user starts it: a real process, in a real repository, in an environment of its own."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from attrs import define

from arboretum.testing.builders import CommitSpec, RepositoryBuilder

PYTEST = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
TEST_FILE = "from answer import ANSWER\n\n\ndef test_answer():\n    assert ANSWER == 42\n"


@define
class Finished:
    """A command that is over."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Arboretum = Callable[..., Finished]


@pytest.fixture
def arboretum(tmp_path: Path) -> Arboretum:
    """Run the command; its pools are below the test's own folder."""

    def run(*arguments: str | Path, cwd: Path | None = None, timeout: float = 240, **env: str) -> Finished:
        done = subprocess.run(
            [sys.executable, "-m", "arboretum", *map(str, arguments)],
            cwd=cwd or tmp_path, env=environment(tmp_path) | env, capture_output=True, timeout=timeout, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        out, err = (stream.decode("utf-8", "surrogateescape") for stream in (done.stdout, done.stderr))
        assert "Traceback" not in err, err
        return Finished(done.returncode, out, err)

    return run


def environment(folder: Path) -> dict[str, str]:
    """The environment of the command in tests."""
    return dict(os.environ) | {"ARBORETUM_CACHE_DIR": str(folder / "cache"), "PYTHONDONTWRITEBYTECODE": "1"}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A repository whose test fails on main and passes on fix/right; fix/wrong changes the wrong thing."""
    builder = RepositoryBuilder.init(str(tmp_path / "project"))
    builder.commits(
        [
            CommitSpec({"answer.py": "ANSWER = 41\n", "test_answer.py": TEST_FILE, ".gitignore": "*.pyc\n"}, "start\n"),
            CommitSpec({"README": "about\n"}, "say what it is\n"),
            CommitSpec({"answer.py": "ANSWER = 42\n"}, "mend it\n", branch="fix/right", parents=["main"]),
            CommitSpec({"answer.py": "ANSWER = 40\n"}, "make it worse\n", branch="fix/wrong", parents=["main"]),
        ]
    )
    return tmp_path / "project"


def processes_with(marker: str) -> list[str]:
    """The command lines of all living processes in which `marker` occurs, this one's left out."""
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or [])
        if marker in words and process.info["pid"] != os.getpid() and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


def fingerprint(git_dir: Path, worktree: Path | None) -> dict[str, str]:
    """Everything of the user's in a repository, byte by byte: HEAD, index, refs, stashes, configuration, files."""
    seen: dict[str, str] = {}
    for name in ("HEAD", "index", "config", "packed-refs", "logs/HEAD", "logs/refs/stash", "ORIG_HEAD", "FETCH_HEAD"):
        path = git_dir / name
        seen[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
    for root in (git_dir / "refs", git_dir / "logs"):
        for path in sorted(root.rglob("*")) if root.is_dir() else []:
            if path.is_file() and "arboretum" not in path.parts:
                seen[str(path.relative_to(git_dir))] = path.read_text(errors="replace")
    for path in sorted(worktree.rglob("*")) if worktree else []:
        if path.is_file() and not {".git", "arboretum"} & set(path.relative_to(worktree).parts):
            stat = path.stat()
            seen[f"file {path}"] = f"{hashlib.sha256(path.read_bytes()).hexdigest()} {stat.st_mode} {stat.st_mtime_ns}"
    return seen


@pytest.fixture
def builder(tmp_path: Path) -> RepositoryBuilder:
    """A repository whose base fails a quick check that the branch `right` passes and the branch `wrong` does not."""
    made = RepositoryBuilder.init(tmp_path / "repo")
    made.commits(
        [
            CommitSpec({"answer.txt": "42\n"}, "start"),
            CommitSpec({"answer.txt": "41\n"}, "break it"),
            CommitSpec({"answer.txt": "42\n"}, branch="right", parents=["main"]),
            CommitSpec({"answer.txt": "43\n"}, branch="wrong", parents=["main"]),
        ]
    )
    return made


#: A command that passes where the answer is right.
CHECK = ("grep", "-qx", "42", "answer.txt")
