"""`run` never changes the user's repository, wherever and however the user stands in it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import PYTEST, Arboretum, fingerprint


def git(path: Path, *arguments: str) -> str:
    return subprocess.run(["git", "-C", str(path), *arguments], capture_output=True, text=True, check=True).stdout


def uncommitted(project: Path) -> tuple[Path, Path, Path | None]:
    (project / "README").write_text("staged\n")
    git(project, "add", "README")
    (project / "README").write_text("unstaged\n")
    (project / "answer.py").write_text("ANSWER = 7\n")
    git(project, "stash")
    (project / "README").write_text("changed again\n")
    (project / "new.txt").write_text("untracked\n")
    return project, project / ".git", project


def detached(project: Path) -> tuple[Path, Path, Path | None]:
    git(project, "checkout", "--quiet", "--detach", "main~1")
    return project, project / ".git", project


def unborn(project: Path) -> tuple[Path, Path, Path | None]:
    git(project, "checkout", "--quiet", "--orphan", "fresh")
    return project, project / ".git", project


def linked(project: Path) -> tuple[Path, Path, Path | None]:
    git(project, "worktree", "add", "--quiet", str(project.parent / "linked"), "fix/wrong")
    (project.parent / "linked" / "README").write_text("mine\n")
    return project.parent / "linked", project / ".git", project


def subfolder(project: Path) -> tuple[Path, Path, Path | None]:
    (project / "deep" / "er").mkdir(parents=True)
    return project / "deep" / "er", project / ".git", project


def bare(project: Path) -> tuple[Path, Path, Path | None]:
    target = project.parent / "bare.git"
    git(project, "clone", "--quiet", "--bare", str(project), str(target))
    return target, target, None


@pytest.mark.parametrize("situation", [uncommitted, detached, unborn, linked, subfolder, bare])
def test_run_leaves_the_users_repository_byte_for_byte(
    project: Path, arboretum: Arboretum, situation: Callable[[Path], tuple[Path, Path, Path | None]]
) -> None:
    """HEAD, index, files, branches, stashes and configuration are byte-equal before and after, and the run is right."""
    cwd, git_dir, worktree = situation(project)
    before = fingerprint(git_dir, worktree)
    own = cwd if cwd not in {worktree, git_dir} else None
    others = fingerprint(git_dir, own)
    done = arboretum(
        "run", "--base", "main", "--ref", "fix/right", "--ref", "fix/wrong", "--format", "json", "--", *PYTEST, cwd=cwd
    )
    assert done.code == 0, done.err
    assert {h["id"]: h["verdict"] for h in done.json["hypotheses"]} == {
        "fix-right": "supported",
        "fix-wrong": "falsified",
    }
    assert fingerprint(git_dir, worktree) == before
    assert fingerprint(git_dir, own) == others


UGLY = ["with space", "new\nline", "quo'te\"s", "-dash", b"caf\xe9".decode("utf-8", "surrogateescape")]


@pytest.mark.parametrize("name", UGLY, ids=["space", "newline", "quotes", "dash", "latin-1"])
def test_ugly_paths_are_paths(tmp_path: Path, project: Path, arboretum: Arboretum, name: str) -> None:
    """A repository and a worktree at an ugly path are run on, listed and removed like any other."""
    home = tmp_path / name
    os.rename(project, home)
    (home / name).write_text("a file with the same name\n")
    git(home, "add", "--", f"./{name}")
    git(home, "commit", "--quiet", "-m", "an ugly name")
    done = arboretum("run", "--ref", "fix/right", "--format", "json", "--", *PYTEST, cwd=home)
    assert done.code == 0, done.err
    assert done.json["hypotheses"][0]["verdict"] == "supported"
    made = arboretum("worktree", "add", f"../wt {name}", "-b", "other", cwd=home)
    assert made.code == 0, made.err
    assert len(arboretum("worktree", "list", "--format", "json", cwd=home).json["worktrees"]) >= 2
    assert (tmp_path / f"wt {name}" / name).exists()
    gone = arboretum("worktree", "remove", f"../wt {name}", cwd=home)
    assert gone.code == 0, gone.err
    assert not (tmp_path / f"wt {name}").exists()


def test_submodules_locked_and_prunable_worktrees_are_left_alone(
    tmp_path: Path, project: Path, arboretum: Arboretum
) -> None:
    """They are listed rightly, a run takes place beside them, and afterwards they are as they were."""
    git(tmp_path, "clone", "--quiet", str(project), str(tmp_path / "part"))
    git(project, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", str(tmp_path / "part"), "part")
    git(project, "commit", "--quiet", "-m", "add a part")
    git(project, "worktree", "add", "--quiet", "--lock", "--reason", "on a disk", str(tmp_path / "locked"), "fix/wrong")
    git(project, "worktree", "add", "--quiet", "--detach", str(tmp_path / "gone"))
    subprocess.run(["rm", "-rf", str(tmp_path / "gone")], check=True)
    before = fingerprint(project / ".git", project)
    done = arboretum("run", "--ref", "fix/right", "--format", "json", "--", *PYTEST, "test_answer.py", cwd=project)
    assert done.code == 0, done.err
    assert fingerprint(project / ".git", project) == before
    listed = {
        Path(w["path"]).name: w
        for w in arboretum("worktree", "list", "--format", "json", cwd=project).json["worktrees"]
    }
    assert listed["locked"]["locked"] == "on a disk"
    assert listed["gone"]["prunable"] == "gitdir file points to non-existent location"
    refused = arboretum("worktree", "remove", tmp_path / "locked", "--force", cwd=project)
    assert refused.code == 1
    assert "on a disk" in refused.err
    assert (tmp_path / "locked" / "answer.py").exists()
