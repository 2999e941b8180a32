"""How runs are named on the command line, and how one that was killed is told of and gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Arboretum, environment, processes_with


def killed(project: Path, tmp_path: Path, *words: str) -> None:
    """Start that command, and kill it with -9 while its trial sleeps."""
    nap = f"77{os.getpid()}"
    child = subprocess.Popen(
        [sys.executable, "-m", "arboretum", *words, "--", "sleep", nap],
        cwd=project, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not any(line.startswith("sleep") for line in processes_with(f"sleep {nap}")):
        assert time.monotonic() < deadline, "no trial was started"
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    while processes_with(f"sleep {nap}"):
        assert time.monotonic() < deadline, "the trial outlived the run"
        time.sleep(0.02)


def test_a_killed_run_is_told_of_until_there_is_a_newer_one(
    project: Path, tmp_path: Path, arboretum: Arboretum
) -> None:
    """`show`, `history` and the next `run` say that the newest run was interrupted and what to type to go on."""
    killed(project, tmp_path, "run", "--ref", "fix/right")
    listed = arboretum("-C", project, "history", "--format", "json")
    name = listed.json["runs"][0]["run"]
    go_on = f"go on with: arboretum run --resume {name}"
    shown = arboretum("-C", project, "show")
    assert shown.code == 130
    assert go_on in shown.err
    assert go_on in arboretum("-C", project, "history").err
    assert go_on in arboretum("-C", project, "run", "--ref", "fix/right", "--", "true").err
    assert "interrupted" not in arboretum("-C", project, "run", "--ref", "fix/right", "--", "true").err
    assert arboretum("-C", project, "run", "--resume", name, "--dry-run").code == 0


def test_a_killed_run_over_commits_is_begun_again(project: Path, tmp_path: Path, arboretum: Arboretum) -> None:
    """`each` has nothing to resume: what it found is in the cache, and that is said."""
    killed(project, tmp_path, "each", "main~1..main")
    for words in (["show"], ["run", "--resume", "last"], ["history"]):
        assert "give the same command again" in arboretum("-C", project, *words).err, words
    done = arboretum("-C", project, "run", "--resume")
    assert done.code == 2
    assert "no interrupted run" in done.err


def test_every_command_takes_the_beginning_of_an_id_and_last(
    project: Path, tmp_path: Path, arboretum: Arboretum
) -> None:
    """A run is named by its id, by the beginning of it, or by `last`, wherever a run is named."""
    assert arboretum("-C", project, "run", "--ref", "fix/right", "--", "true").code == 3
    name = arboretum("-C", project, "show", "--format", "json").json["run"]
    for text in (name, name[:17], "last"):
        assert arboretum("-C", project, "show", text, "--format", "json").json["run"] == name
        assert arboretum("-C", project, "why", text, "control").code == 0
        assert arboretum("-C", project, "run", "--resume", text, "--format", "json").json["run"] == name
    tasks = tmp_path / "tasks.toml"
    tasks.write_text("version = 1\n[[task]]\nid = 'one'\ncommand = {shell = 'echo 1 > b'}\nscope = ['a']\n")
    assert arboretum("-C", project, "orchestrate", str(tasks)).code == 1
    name = arboretum("-C", project, "show", "--format", "json").json["run"]
    assert arboretum("-C", project, "amend-scope", "last", "one", "--format", "json").json["run"] == name
    done = arboretum("-C", project, "orchestrate", "--resume", name[:17], "--format", "json")
    assert (done.code, done.json["run"]) == (0, name)
    assert "orchestrate --resume" in arboretum("-C", project, "run", "--resume", name).err


@pytest.mark.parametrize(
    "words",
    [["show", "1999"], ["why", "1999", "x"], ["run", "--resume", "1999"], ["orchestrate", "--resume", "1999"],
     ["amend-scope", "1999", "x"]],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_name_of_no_run_is_told(project: Path, arboretum: Arboretum, words: list[str]) -> None:
    """One sentence, what to do next, exit code 2, on every command."""
    done = arboretum("-C", project, *words)
    assert done.code == 2
    assert "no runs start with '1999'" in done.err
    assert "arboretum history" in done.err


@pytest.mark.parametrize(
    "words",
    [["run", "--ref", "fix/rihgt", "--", "true"], ["each", "fix/rihgt~1..main", "--", "true"],
     ["worktree", "add", "../new", "--branch", "fix/rihgt"],
     ["run", "--base", "fix/rihgt", "--ref", "main", "--", "true"]],
    ids=lambda words: " ".join(words[:2]),
)  # fmt: skip
def test_a_misspelt_branch_gets_the_one_that_was_meant(project: Path, arboretum: Arboretum, words: list[str]) -> None:
    """A revision that is not there is told with the name that is written alike."""
    done = arboretum("-C", project, *words)
    assert done.code == (1 if words[0] == "worktree" else 2)
    assert "did you mean 'fix/right'?" in done.err
