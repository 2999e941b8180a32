"""Bad input gets one clear error, exit code 2, and nothing is made."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import Arboretum, fingerprint
from tests.engine.test_hazards import read_only, small_disk

GOOD = 'version = 1\nbase = "main"\ncommand = "true"\n'
BAD_FILES = {
    "bad-toml": ("version = \n", ":1", ""),
    "unknown-key": (GOOD + "[[hypothesis]]\nid = 'a'\nreff = 'x'\n", ":6", "ref"),
    "unknown-top-key": (GOOD + 'timout = "5m"\n', ":4", "timeout"),
    "duplicate-id": (GOOD + "[[hypothesis]]\nid = 'a'\n[[hypothesis]]\nid = 'a'\n", ":7", "a"),
    "unknown-ref": (GOOD + "[[hypothesis]]\nid = 'a'\nref = 'no/such'\n", ":6", "no/such"),
    "two-sources": (GOOD + "[[hypothesis]]\nid = 'a'\nref = 'fix/right'\nedit = 'true'\n", ":", "edit"),
    "negative-timeout": (GOOD + "timeout = -5\n", ":4", "timeout"),
    "probability": (GOOD + "[[hypothesis]]\nid = 'a'\nref = 'main'\nprobability = 1.5\n", ":7", "probability"),
    "option-as-ref": (GOOD + "[[hypothesis]]\nid = 'a'\nref = '--upload-pack=x'\n", ":6", "--upload-pack=x"),
    "id-with-path": (GOOD + "[[hypothesis]]\nid = '../x'\n", ":5", "../x"),
    "no-command": ("version = 1\n", "", "command"),
    "unbalanced": ('version = 1\ncommand = "echo \'a"\n', ":2", "command"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_told_with_file_line_and_key(
    project: Path, tmp_path: Path, arboretum: Arboretum, name: str
) -> None:
    """The error names file, line and key (or the text that is wrong); no pool, no state folder, no change."""
    text, line, word = BAD_FILES[name]
    path = tmp_path / "bad.toml"
    path.write_text(text)
    before = fingerprint(project / ".git", project)
    done = arboretum("-C", project, "run", path)
    assert done.code == 2, done.err
    assert f"{path}{line}" in done.err
    assert word in done.err
    assert done.err.count("error:") == 1
    assert done.out == ""
    assert fingerprint(project / ".git", project) == before
    assert not (project / ".git" / "arboretum" / "runs").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "no-such-file.toml"],
        ["run"],
        ["run", "--ref", "--upload-pack=x", "--", "true"],
        ["run", "--ref", "no-such-branch", "--", "true"],
        ["run", "--ref", "main"],
        ["run", "--ref", "main", "--timeout", "-3", "--", "true"],
        ["run", "--ref", "main", "--report", "pdf:x", "--", "true"],
        ["run", "--ref", "main", "--executor", "moon", "--", "true"],
        ["run", "--resume"],
        ["rum"],
        ["each", "nowhere..main", "--", "true"],
        ["bisect", "main", "main", "--", "true"],
        ["show", "no-such-run"],
        ["worktree", "add", "x", "--new-branch", "bad..name"],
        ["worktree", "add", "x", "--detach", "--not-a-revision"],
        ["--backend", "nosuch", "worktree", "list"],
    ],
    ids=" ".join,
)
def test_bad_arguments_are_told_in_one_line(
    project: Path, tmp_path: Path, arboretum: Arboretum, arguments: list[str]
) -> None:
    """Bad arguments end with exit code 2, one error, and nothing made."""
    before = fingerprint(project / ".git", project)
    done = arboretum(*arguments, cwd=project)
    assert done.code == 2, (done.code, done.err)
    assert done.err.count("error:") == 1
    assert fingerprint(project / ".git", project) == before
    assert not (project / "x").exists()
    assert not (tmp_path / "cache").exists()


def test_a_full_disk_leaves_nothing_and_loses_no_result(project: Path, tmp_path: Path, arboretum: Arboretum) -> None:
    """A worktree or a report that does not fit leaves nothing behind; the verdicts are shown all the same."""
    small = tmp_path / "small"
    with small_disk(small, "size=8k") as mounted:
        if not mounted:
            pytest.skip("nothing may be mounted here")
        with contextlib.suppress(OSError):
            (small / "fill").write_bytes(b"x" * 20_000)
        words = ("worktree", "add", small / "tree", "--detach", "main")
        added = arboretum("-C", project, *words)
        assert (added.code, "No space left" in added.err) == (4, True), added.err
        report = arboretum(
            "-C", project, "run", "--ref", "fix/right", "--report", f"html:{small / 'r.html'}", "--", "true"
        )
        assert (report.code, "No space left" in report.err, "r.html" in report.err) == (4, True, True), report.err
        assert "control-agrees" in report.out
        assert os.listdir(small) == ["fill"]
        (small / "fill").write_bytes(b"x" * 4096)  # room for the link and not for the files
        added = arboretum("-C", project, *words)
        assert added.code in {0, 4}
        assert added.code == 0 or (os.listdir(small) == ["fill"] and "free space" in added.err)


@pytest.mark.parametrize("words", [("remove", "."), ("move", ".", "../elsewhere"), ("lock", "../nowhere")], ids=str)
def test_a_refusal_says_what_can_be_done(project: Path, arboretum: Arboretum, words: tuple[str, ...]) -> None:
    """What cannot be done with the main worktree, and a path that is none, are told with what there is."""
    done = arboretum("worktree", *words, cwd=project)
    assert done.code == 1
    assert "only linked ones" in done.err or ("git worktree list" in done.err and ".." not in done.err)


def test_files_are_named_from_where_one_is(project: Path, tmp_path: Path, arboretum: Arboretum) -> None:
    """With -C a plan and a task file are looked for in the current folder, by every command."""
    (tmp_path / "plan.toml").write_text(GOOD + "[[hypothesis]]\nid = 'a'\nref = 'main'\n")
    (tmp_path / "tasks.toml").write_text("command = 'true'\n[[task]]\nid = 'a'\nscope = ['/a']\n")
    for words in (("run", "plan.toml"), ("orchestrate", "tasks.toml")):
        done = arboretum("-C", project, *words, "--dry-run", cwd=tmp_path)
        assert done.code == 0, done.err
    done = arboretum("-C", project, "split", "tasks.toml", "--no-measure", "--output", "plan.json", cwd=tmp_path)
    assert done.code == 0, done.err
    assert (tmp_path / "plan.json").exists()


def test_a_shallow_clone_is_told_as_that(project: Path, tmp_path: Path, arboretum: Arboretum) -> None:
    """A commit that a shallow clone does not have is told with how to get it; `doctor` says it, too."""
    clone = tmp_path / "shallow"
    subprocess.run(["git", "clone", "-q", "--depth", "1", f"file://{project}", str(clone)], check=True)
    done = arboretum("run", "--ref", "HEAD~1", "--", "true", cwd=clone)
    assert (done.code, "--unshallow" in done.err, "hypothesis 'HEAD-1'" in done.err) == (2, True, True), done.err
    assert "shallow clone" in arboretum("doctor", cwd=clone).out


def test_a_repository_without_runs(project: Path, arboretum: Arboretum) -> None:
    """Where nothing was run yet `history` and `show` say so, and nothing is made."""
    listed, shown = arboretum("history", cwd=project), arboretum("show", cwd=project)
    assert (listed.code, shown.code, listed.out) == (0, 2, "")
    assert "no run yet" in listed.err
    assert "arboretum run" in shown.err
    assert not (project / ".git" / "arboretum" / "results.sqlite3").exists()


def test_the_doctor_sees_what_cannot_be_written(project: Path, arboretum: Arboretum) -> None:
    """A git directory that cannot be written is a problem, for nothing can be run there."""
    with read_only(project) as mounted:
        if not mounted:
            pytest.skip("nothing may be mounted here")
        done = arboretum("doctor", cwd=project)
        assert arboretum("history", cwd=project).code == 0
        ran = arboretum("run", "--ref", "fix/right", "--", "true", cwd=project)
    assert (done.code, "cannot be written" in done.out) == (4, True), done
    assert (ran.code, ran.out.count("hint:")) == (4, 1), ran
    assert "Read-only file system" in ran.out
    assert "arboretum doctor" in ran.out
    assert "See it again" not in ran.err


def test_no_repository_is_an_environment_error(tmp_path: Path, arboretum: Arboretum) -> None:
    """Outside a repository the exit code is 4 and the error says so."""
    done = arboretum("-C", tmp_path, "run", "--ref", "main", "--", "true")
    assert done.code == 4
    assert "not a git repository" in done.err
