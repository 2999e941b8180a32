"""Bad input gets one clear error, exit code 2, and nothing is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Arboretum, fingerprint

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


def test_no_repository_is_an_environment_error(tmp_path: Path, arboretum: Arboretum) -> None:
    """Outside a repository the exit code is 4 and the error says so."""
    done = arboretum("-C", tmp_path, "run", "--ref", "main", "--", "true")
    assert done.code == 4
    assert "not a git repository" in done.err
