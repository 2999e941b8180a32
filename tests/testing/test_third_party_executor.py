"""An executor of a third party, made of public parts only, passes the checks; one that cheats is found out."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from arboretum.engine.executor import TrialStart
from arboretum.engine.model import CommandSpec, Outcome, Trial, TrialRequest, outcome_of
from arboretum.errors import EngineError, ExecutorError
from arboretum.process import SubprocessRunner
from arboretum.process.model import CommandRequest, CommandResult, OutputLine
from arboretum.repository import Repository
from arboretum.testing.executor_checks import (
    EXECUTOR_CHECKS,
    ExecutorCheck,
    check_cancel,
    check_stands_at_the_commit,
    run_executor_check,
)


class CloneExecutor:
    """The plainest executor that there can be: a clone for each trial."""

    def __init__(self, repository: Repository, folder: Path, capacity: int = 2) -> None:
        self.capacity = capacity
        self._repository, self._folder = repository, folder
        self._free = [f"clone{n}" for n in range(capacity)]
        self._turns = asyncio.Semaphore(capacity)
        self._running: set[asyncio.Task[object]] = set()
        self._runner = SubprocessRunner()
        self._closed = False

    async def execute(
        self, request: TrialRequest, *, on_started: TrialStart | None = None, on_output: OutputLine | None = None
    ) -> Trial:
        if self._closed:
            raise ExecutorError("closed")
        task = asyncio.current_task()
        assert task is not None
        self._running.add(task)
        try:
            async with self._turns:
                slot = self._free.pop()
                try:
                    return await self._in(slot, request, on_started, on_output)
                finally:
                    self._free.append(slot)
        finally:
            self._running.discard(task)

    async def _in(
        self, slot: str, request: TrialRequest, on_started: TrialStart | None, on_output: OutputLine | None
    ) -> Trial:
        path = self._folder / slot
        self._clone(path, request)

        async def run(command: CommandSpec, stdin: bytes | None = None) -> CommandResult:
            return await self._runner.run_async(
                CommandRequest(
                    argv=command.argv, shell=command.shell, cwd=path, timeout=request.timeout, grace=request.grace,
                    stdin=stdin,
                    env={"ARBORETUM_RUN": request.run, "ARBORETUM_HYPOTHESIS": request.hypothesis,
                         "ARBORETUM_ATTEMPT": str(request.attempt), "ARBORETUM_SLOT": slot} | dict(request.env),
                ),
                on_line=on_output,
            )  # fmt: skip

        def trial(outcome: Outcome, result: CommandResult, message: str = "", code: int | None = None) -> Trial:
            text = "\n".join([*result.stdout.splitlines(), *result.stderr.splitlines()])
            return Trial(hypothesis=request.hypothesis, attempt=request.attempt, outcome=outcome, exit_code=code,
                         slot=slot, commit=request.commit, message=message, output_tail=text)  # fmt: skip

        steps = [(request.setup, None, Outcome.SETUP_FAILED)] if request.setup else []
        steps += [(CommandSpec(("git", "apply")), patch, Outcome.PATCH_FAILED) for patch in request.patches]
        steps += [(edit, None, Outcome.PATCH_FAILED) for edit in request.edits]
        for command, stdin, outcome in steps:
            result = await run(command, stdin)
            if not result.success:
                return trial(outcome, result, f"exit code {result.exit_code}")
        if on_started is not None:
            with contextlib.suppress(Exception):
                on_started(slot, str(path))
        result = await run(request.command)
        return trial(outcome_of(result), result, code=result.exit_code)

    def _clone(self, path: Path, request: TrialRequest) -> None:
        shutil.rmtree(path, ignore_errors=True)
        source = os.fspath(self._repository.path)
        for words in (["clone", "-q", "--no-checkout", source, str(path)],
                      ["-C", str(path), "checkout", "-q", "--detach", request.commit]):  # fmt: skip
            if subprocess.run(["git", *words], capture_output=True, check=False).returncode:
                raise EngineError(f"git {words[0]} failed")
        for include in request.include:
            target = path / include
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if os.path.isdir(f"{source}/{include}") else shutil.copy2
            copy(f"{source}/{include}", target)

    async def close(self) -> None:
        self._closed = True
        running = self._running - {asyncio.current_task()}
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_a_third_partys_executor_passes(check: ExecutorCheck, tmp_path: Path) -> None:
    """Each rule of the protocol can be met with public parts alone."""
    run_executor_check(check, lambda repository: CloneExecutor(repository, tmp_path / "clones"), tmp_path)


class WrongCommit(CloneExecutor):
    """Always stands at HEAD."""

    def _clone(self, path: Path, request: TrialRequest) -> None:
        shutil.rmtree(path, ignore_errors=True)
        subprocess.run(["git", "clone", "-q", os.fspath(self._repository.path), str(path)], check=True)


class Careless(CloneExecutor):
    """Leaves a cancelled trial running."""

    async def execute(
        self, request: TrialRequest, *, on_started: TrialStart | None = None, on_output: OutputLine | None = None
    ) -> Trial:
        work = asyncio.ensure_future(super().execute(request, on_started=on_started, on_output=on_output))
        return await asyncio.shield(work)


@pytest.mark.parametrize(("cheat", "check"), [(WrongCommit, check_stands_at_the_commit), (Careless, check_cancel)])
def test_one_that_cheats_is_found_out(cheat: type[CloneExecutor], check: ExecutorCheck, tmp_path: Path) -> None:
    """An executor that breaks a rule fails the check of that rule."""
    with pytest.raises((AssertionError, TimeoutError)):
        run_executor_check(check, lambda repository: cheat(repository, tmp_path / "clones", 8), tmp_path)
