"""The orchestrator of worktrees and the two faces of test execution."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import pytest

from arboretum.engine.executor_faces import AsyncTestExecutor, TestExecutor
from arboretum.engine.model import Outcome
from arboretum.engine.orchestrator import WorktreeOrchestrator
from arboretum.errors import DirtyWorktreeError, InvalidValueError, RevisionNotFoundError


def test_worktrees_stand_at_their_revisions_and_are_taken_back(ground):
    """Each worktree is clean and stands at its revision; at the end of the block none is in anybody's hands."""
    with WorktreeOrchestrator(ground.repository) as orchestrator:
        trees = orchestrator.create_worktrees({"old": ground.one, "new": "main", "same": "main"})
        assert {n: t.head.oid for n, t in trees.items()} == {
            "old": ground.one,
            "new": ground.three,
            "same": ground.three,
        }
        assert all(tree.is_clean() for tree in trees.values())
        assert len({tree.path for tree in trees.values()}) == 3
        assert {n: t.path for n, t in orchestrator.worktrees.items()} == {n: t.path for n, t in trees.items()}
    assert orchestrator.worktrees == {}
    assert {slot.state for slot in ground.pool().slots()} == {"dirty"}


def test_worktrees_are_used_again(ground):
    """A second set of worktrees takes the folders of the first."""
    with WorktreeOrchestrator(ground.repository) as orchestrator:
        first = {tree.path for tree in orchestrator.create_worktrees(["main", "HEAD"]).values()}
        orchestrator.cleanup_worktrees()
        second = {tree.path for tree in orchestrator.create_worktrees(["HEAD", "main"]).values()}
    assert first == second


def test_all_or_none(ground):
    """When one revision or name is wrong, nothing is made."""
    with WorktreeOrchestrator(ground.repository) as orchestrator:
        with pytest.raises(RevisionNotFoundError):
            orchestrator.create_worktrees({"good": "main", "bad": "no-such-branch"})
        with pytest.raises(InvalidValueError):
            orchestrator.create_worktrees({"../x": "main"})
        orchestrator.create_worktrees({"good": "main"})
        with pytest.raises(InvalidValueError, match="already"):
            orchestrator.create_worktrees({"good": "main"})
    assert len(ground.repository.worktrees) == 2


def test_work_is_refused_without_force_and_kept_with_it(ground):
    """Uncommitted changes and commits that no branch has survive: refused without force, salvaged with it."""
    orchestrator = WorktreeOrchestrator(ground.repository)
    trees = orchestrator.create_worktrees({"changed": "main", "committed": "main", "clean": "main"})
    (Path(trees["changed"].path) / "a.txt").write_text("my work\n")
    (Path(trees["changed"].path) / "new.txt").write_text("my new file\n")
    (Path(trees["committed"].path) / "a.txt").write_text("my commit\n")
    trees["committed"].stage(["a.txt"])
    commit = trees["committed"].commit("mine")
    with pytest.raises(DirtyWorktreeError, match="changed, committed"):
        orchestrator.cleanup_worktrees()
    assert set(orchestrator.worktrees) == {"changed", "committed"}
    kept = orchestrator.cleanup_worktrees(force=True)
    assert orchestrator.worktrees == {}
    assert ground.repository.resolve(kept["committed"]) == commit
    assert ground.builder.git("show", f"{kept['changed']}:a.txt") == "my work"
    assert ground.builder.git("show", f"{kept['changed']}^3:new.txt") == "my new file"


def test_one_command_in_many_worktrees(ground):
    """Each worktree's trial tells what the command did there, by name and in order."""
    with WorktreeOrchestrator(ground.repository) as orchestrator:
        trees = orchestrator.create_worktrees({"one": ground.one, "two": ground.two})
        trials = TestExecutor(timeout=30.0).execute_parallel(trees, ["grep", "-q", "one", "a.txt"])
        assert list(trials) == ["one", "two"]
        assert [trial.outcome for trial in trials.values()] == [Outcome.PASSED, Outcome.FAILED]
        assert [trial.commit for trial in trials.values()] == [ground.one, ground.two]
        trial = TestExecutor(env={"WORD": "hello"}).execute_single(trees["one"], "sh -c 'echo $WORD; pwd'", name="x")
        assert (trial.hypothesis, trial.output_tail.split()) == ("x", ["hello", trees["one"].path])
        assert TestExecutor(timeout=0.2).execute_single(trees["one"], "sleep 30").outcome is Outcome.TIMEOUT
        each = {"one": "true", "two": "false"}
        assert [t.outcome for t in TestExecutor().execute_parallel(trees, each).values()] == ["passed", "failed"]
        with pytest.raises(InvalidValueError, match="two"):
            TestExecutor().execute_parallel(trees, {"one": "true"})


def test_no_more_at_once_than_asked_for(ground, tmp_path):
    """With `max_parallel` 1 the commands run one after another."""
    script = "set -e; mkdir {0}; sleep 0.05; rmdir {0}".format(tmp_path / "alone")
    with WorktreeOrchestrator(ground.repository) as orchestrator:
        trees = orchestrator.create_worktrees({"a": "main", "b": "main", "c": "main"})
        trials = TestExecutor(max_parallel=1).execute_parallel(trees, ["sh", "-c", script])
    assert {trial.outcome for trial in trials.values()} == {Outcome.PASSED}
    with pytest.raises(InvalidValueError):
        TestExecutor(max_parallel=0)


def test_cancelled_commands_are_gone(ground, tmp_path):
    """When the awaiting task is cancelled no command goes on."""
    marker = tmp_path / "late"

    async def run(trees) -> None:
        task = asyncio.create_task(
            AsyncTestExecutor(grace=0.1).execute_parallel_async(trees, ["sh", "-c", f"sleep 1; touch {marker}"])
        )
        await asyncio.sleep(0.2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    with WorktreeOrchestrator(ground.repository) as orchestrator:
        asyncio.run(run(orchestrator.create_worktrees({"a": "main", "b": "main"})))
    time.sleep(1.2)
    assert not os.path.exists(marker)
