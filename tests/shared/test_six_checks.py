"""The six checks of the original shared infrastructure, against a real repository."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path

import pytest

import arboretum.shared
from arboretum.shared import (
    CommandRunner,
    LogSection,
    ProgressLogger,
    WorktreeContext,
    count_worktrees,
    create_worktree,
    get_current_branch,
    git_utils,
    list_worktrees,
    logging_utils,
    remove_worktree,
    reset_worktree,
    run_command,
    setup_logging,
    subprocess_utils,
)

Git = Callable[..., str]


def test_imports() -> None:
    """Everything of the three modules is there, in `arboretum.shared` too, and has the agreed parameters."""
    for module, names in {
        git_utils: "WorktreeContext GitOperationError",
        subprocess_utils: "CommandResult run_command_async",
        logging_utils: "get_logger log_exception configure_third_party_loggers Colors ColoredFormatter MetricsLogger",
    }.items():
        for name in names.split():
            assert getattr(arboretum.shared, name) is getattr(module, name)
    for function, parameters in {
        "get_current_branch": "repo_path",
        "create_worktree": "repo_path worktree_path branch",
        "remove_worktree": "repo_path worktree_path force",
        "reset_worktree": "worktree_path",
        "list_worktrees": "repo_path",
        "count_worktrees": "repo_path",
        "stash_worktree": "worktree_path",
        "stash_pop_worktree": "worktree_path stash_id",
        "create_branch": "repo_path branch_name from_ref",
        "delete_branch": "repo_path branch_name force",
        "WorktreeContext": "repo target_path branch cleanup",
        "run_command": "cmd cwd timeout check env input_text",
        "run_command_async": "cmd cwd env",
        "run_commands_parallel": "commands max_concurrent",
        "run_script": "script_path args cwd timeout check",
        "run_shell_script": "script_content cwd timeout shell",
        "CommandRunner": "default_cwd default_timeout default_env check",
        "setup_logging": "level log_format log_file use_colors include_timestamp",
        "get_logger": "name level",
        "log_exception": "logger exc context",
        "configure_third_party_loggers": "level",
        "ProgressLogger": "task_name total logger log_interval",
        "LogSection": "section_name logger level separator",
        "setup_structured_logging": "format log_file",
    }.items():
        assert function in arboretum.shared.__all__
        found = list(inspect.signature(getattr(arboretum.shared, function)).parameters)
        assert found[: len(parameters.split())] == parameters.split()


def test_git_operations(repo: Path, git: Git, tmp_path: Path) -> None:
    """A worktree is made, listed, dirtied, reset and removed, as git sees it."""
    assert get_current_branch(repo) == git("branch", "--show-current")
    path = create_worktree(repo, tmp_path / "tree", "feature")
    assert {"path", "branch", "commit"} == set(list_worktrees(repo)[1])
    assert count_worktrees(repo) == len(git("worktree", "list").splitlines()) == 2
    (path / "file.txt").write_text("changed")
    reset_worktree(path)
    assert git("status", "--porcelain", cwd=path) == ""
    remove_worktree(repo, path)
    assert len(git("worktree", "list").splitlines()) == 1


def test_subprocess_with_timeout(repo: Path) -> None:
    """A command succeeds, a command fails, and a command that takes too long is stopped and says so."""
    assert run_command("git status --short", cwd=repo).success
    failed = run_command(["git", "rev-parse", "nope"], cwd=repo)
    assert (failed.failed, failed.exit_code) == (True, 128)
    slow = run_command("sleep 60", timeout=0.1)
    assert (slow.exit_code, slow.timed_out, slow.success) == (124, True, False)


def test_logging(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Records reach standard error and the file, with sections and progress."""
    with setup_logging(logging.INFO, log_file=tmp_path / "log", use_colors=False):
        logger = logging.getLogger("arboretum.test.six")
        with LogSection("Section", logger), ProgressLogger("Processing files", 100, logger) as progress:
            progress.update(50, "Processing file_50.txt")
    text = (tmp_path / "log").read_text()
    assert text == capsys.readouterr().err
    assert "Processing files: 50/100 (50%, ETA: 0s) - Processing file_50.txt" in text
    assert "Section: done in" in text


def test_command_runner(repo: Path) -> None:
    """A runner has its defaults, remembers what it ran, and tells what failed."""
    runner = CommandRunner(default_cwd=repo, default_timeout=60, default_env={"GIT_AUTHOR_NAME": "Runner"})
    runner.run(["git", "commit", "--allow-empty", "-m", "by the runner"])
    assert runner.run("git log -1 --format=%an").stdout == "Runner\n"
    runner.run("git no-such-command")
    assert [result.exit_code for result in runner.command_history] == [0, 0, 1]
    assert [result.command for result in runner.get_failed_commands()] == ["git no-such-command"]
    assert runner.get_last_result() == runner.command_history[-1]


def test_worktree_context(repo: Path, git: Git, tmp_path: Path) -> None:
    """A worktree is there inside the block and gone after it, and the repository is as before."""
    before = git("status", "--porcelain=v2", "--branch"), git("for-each-ref")
    with WorktreeContext(repo, tmp_path / "tree") as path:
        assert run_command("git rev-parse HEAD", cwd=path).stdout.strip() == git("rev-parse", "HEAD")
        assert count_worktrees(repo) == 2
    assert not path.exists()
    assert (git("status", "--porcelain=v2", "--branch"), git("for-each-ref")) == before
    assert git("worktree", "list", "--porcelain").count("worktree ") == 1
