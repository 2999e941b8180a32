"""One trial in one slot: includes, setup, patches, edits, the command, and what it says.

Everything that blocks is a plain function, run by the executor in a thread; commands go through the runner, which
leaves no process behind however they end.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar

from attrs import define, field, frozen

from arboretum.backends.base import GitBackend
from arboretum.engine.evidence import read_evidence
from arboretum.engine.includes import copy_includes
from arboretum.engine.leases import LEASE_VARIABLE
from arboretum.engine.model import CommandSpec, Outcome, Trial, TrialRequest
from arboretum.engine.pool import Lease, WorktreePool
from arboretum.errors import PatchFailedError
from arboretum.process.model import CommandRequest, CommandResult, OutputLine
from arboretum.values import parse_tree_path

if TYPE_CHECKING:
    from arboretum.engine.executor import TrialStart

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
#: Runs a blocking function in a thread, to its end even when the caller is cancelled.
InThread = Callable[[Callable[[], _T]], Awaitable[_T]]

_TAIL_LINES: Final = 40
_TAIL_CHARACTERS: Final = 8000
_MAX_REPORT_BYTES: Final = 64 << 20


@frozen(kw_only=True)
class TrialPlace:
    """Where the parts of a trial that are not in the request come from and go to.

    Args:
        include_from: The user's worktree, from which included files are copied; None where there is none.
        output_dir: The folder for the whole output of this trial; None when only its tail is wanted.
        setup_timeout: Seconds for a setup; None for never.
    """

    include_from: str | None = None
    output_dir: str | None = None
    setup_timeout: float | None = None


@define(eq=False)
class TrialInSlot:
    """Carries out one trial in a slot that is leased and stands at the trial's commit.

    Args:
        request: What is asked.
        lease: The slot.
        pool: Where the slot belongs to.
        place: Where files come from and go to.
        setup: The digest of the setup that the trial needs (`setup_digest`).
        in_thread: Runs what blocks.
    """

    request: TrialRequest
    lease: Lease
    pool: WorktreePool
    place: TrialPlace
    setup: str
    in_thread: InThread[Any]
    _started: float = field(factory=time.time)

    async def carry_out(self, *, on_started: TrialStart | None, on_output: OutputLine | None) -> Trial:
        """Carry the trial out and tell its outcome.

        Raises:
            PoolError: Something else than the code under test failed: the disk, or git.
        """
        request = self.request
        if request.include:
            await self.in_thread(self._include)
        if self.setup != self.lease.slot.setup and (failed := await self._set_up(on_output)):
            return failed
        if request.patches:
            try:
                await self.in_thread(self._apply_patches)
            except PatchFailedError as error:
                return self._trial(Outcome.PATCH_FAILED, message=error.message)
        for edit in request.edits:
            result = await self._run(edit, request.timeout, None, on_output)
            if not result.success:
                return self._failed_step(Outcome.PATCH_FAILED, "the edit command", result)
        await self.in_thread(self._clear_traces)
        self._tell_start(on_started)
        result = await self._run(request.command, request.timeout, self.place.output_dir, on_output)
        trial: Trial = await self.in_thread(lambda: self._read(result))
        return trial

    def _tell_start(self, on_started: TrialStart | None) -> None:
        if on_started is not None:
            try:
                on_started(self.lease.slot.name, self.lease.path)
            except Exception:
                _log.exception("the listener for the start of %s failed", self.request.id)

    # --- before the command -----------------------------------------------------------------------------------

    def _include(self) -> None:
        if self.request.include and self.place.include_from is not None:
            copy_includes(self.place.include_from, self.lease.path, self.request.include)

    async def _set_up(self, on_output: OutputLine | None) -> Trial | None:
        if self.request.setup is None:
            return None
        await self.in_thread(lambda: self.pool.note_setup(self.lease, ""))
        result = await self._run(
            self.request.setup, self.place.setup_timeout, None, on_output, env=self.request.setup_env
        )
        if not result.success:
            return self._failed_step(Outcome.SETUP_FAILED, "the setup", result)
        await self.in_thread(self._keep_setup)
        return None

    def _keep_setup(self) -> None:
        """Note the setup as done, if the next reset will leave what it made: ignored files only."""
        entries = self.pool.repository.backend.status(self.lease.path, untracked=True, ignored=False)
        made = [e.path for e in entries if not _is_below(e.path, self.request.include)]
        self.pool.note_setup(self.lease, self.setup if not made else f"not kept: {made[0]}")

    def _apply_patches(self) -> None:
        for patch in self.request.patches:
            self.pool.repository.backend.apply(self.lease.path, patch)

    def _clear_traces(self) -> None:
        """Remove what an earlier trial left and this one's command would be judged by."""
        for report in (self.request.junit, self.request.metrics_file):
            if report is not None:
                remove_path(os.path.join(self.lease.path, parse_tree_path(report)))
        for path in self.lease.ignored:
            if path.endswith("__pycache__/"):
                remove_stale_bytecode(os.path.join(self.lease.path, path))

    # --- commands ---------------------------------------------------------------------------------------------

    async def _run(
        self,
        command: CommandSpec,
        timeout: float | None,
        output_dir: str | None,
        on_output: OutputLine | None,
        *,
        env: Mapping[str, str] | None = None,
    ) -> CommandResult:
        request = CommandRequest(
            argv=command.argv,
            shell=command.shell,
            cwd=self.lease.path,
            env=self._environment(self.request.env if env is None else env),
            timeout=timeout,
            grace=self.request.grace,
            output_dir=output_dir,
        )
        return await self.pool.repository.runner.run_async(request, on_line=on_output)

    def _environment(self, env: Mapping[str, str]) -> Mapping[str, str | None]:
        """The trial's own variables, and those by which it can keep out of other trials' way (ports, names)."""
        return {
            "PWD": self.lease.path,
            **env,
            "ARBORETUM_RUN": self.request.run,
            "ARBORETUM_HYPOTHESIS": self.request.hypothesis,
            "ARBORETUM_ATTEMPT": str(self.request.attempt),
            "ARBORETUM_SLOT": self.lease.slot.name,
            LEASE_VARIABLE: self.lease.id,
        }

    # --- after the command ------------------------------------------------------------------------------------

    def _read(self, result: CommandResult) -> Trial:
        request, path = self.request, self.lease.path
        outputs = {s: p for s, p in result.output_paths.items() if _keep_output(p)}
        if self.place.output_dir is not None and not outputs:
            with contextlib.suppress(OSError):
                os.rmdir(self.place.output_dir)
        reading = read_evidence(
            request,
            result,
            junit=read_report(path, request.junit),
            metrics_file=read_report(path, request.metrics_file),
        )
        return self._trial(
            reading.outcome,
            exit_code=result.exit_code,
            duration=result.duration,
            message=reading.message,
            output_tail=tail_of(result),
            output_paths=outputs,
            metrics=reading.metrics,
            leaked=result.leaked,
        )

    def _failed_step(self, outcome: Outcome, what: str, result: CommandResult) -> Trial:
        why = "timed out" if result.timed_out else result.error_message or f"exit code {result.exit_code}"
        return self._trial(
            outcome,
            message=f"{what} `{result.command}` failed: {why}",
            output_tail=tail_of(result),
            duration=result.duration,
        )

    def _trial(self, outcome: Outcome, **rest: Any) -> Trial:
        return Trial(
            hypothesis=self.request.hypothesis,
            attempt=self.request.attempt,
            outcome=outcome,
            slot=self.lease.slot.name,
            commit=self.request.commit,
            started=self._started,
            **rest,
        )


def setup_digest(request: TrialRequest, backend: GitBackend) -> str:
    """The identity of the setup that a trial needs; empty when it needs none.

    It is made of the command, the variables it sees, the included files' names, and the content of the declared
    inputs in the trial's commit.
    """
    if request.setup is None:
        return ""
    inputs = tuple(parse_tree_path(path) for path in request.setup_inputs)
    entries = backend.read_tree(request.commit) if inputs else ()
    content = [[e.path, e.mode, e.oid] for e in entries if _is_below(e.path, inputs)]
    setup = [request.setup.argv, request.setup.shell, sorted(request.setup_env.items())]
    identity = [setup, request.include, inputs, content]
    return hashlib.sha256(json.dumps(identity).encode()).hexdigest()


def remove_stale_bytecode(folder: str) -> None:
    """Remove compiled Python files that are no younger than their source.

    Python compares the source's time in whole seconds and its size. Two versions of one length that are tested in the
    same slot within a second would otherwise both run the first one's code.
    """
    try:
        compiled = [entry for entry in os.scandir(folder) if entry.name.endswith(".pyc")]
    except OSError:
        return
    parent = os.path.dirname(folder.rstrip("/"))
    for entry in compiled:
        try:
            source = os.stat(os.path.join(parent, entry.name.split(".", 1)[0] + ".py"))
            stale = source.st_mtime_ns >= entry.stat().st_mtime_ns
        except OSError:
            stale = True  # no source, or no way to look at it: what cannot be checked is not trusted
        if stale:
            remove_path(entry.path)


def remove_path(path: str) -> None:
    """Remove a file or folder if it is there."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    elif os.path.lexists(path):
        os.unlink(path)


def read_report(folder: str, path: str | None) -> bytes | None:
    """What the command wrote at `path` in its slot; None for nothing, no plain file, or one beyond all sense."""
    if path is None:
        return None
    place = os.path.join(folder, parse_tree_path(path))
    try:
        if not os.path.isfile(place) or os.path.getsize(place) > _MAX_REPORT_BYTES:
            return None
        with open(place, "rb") as file:
            return file.read()
    except OSError:
        return None


def tail_of(result: CommandResult) -> str:
    """The last lines of the output, for people; those of the error stream come last."""
    lines = [*result.stdout.splitlines(), *result.stderr.splitlines()]
    return "\n".join(lines[-_TAIL_LINES:])[-_TAIL_CHARACTERS:]


def _keep_output(path: str) -> bool:
    """Whether there is anything in the file; an empty one is removed."""
    try:
        if os.path.getsize(path):
            return True
        os.unlink(path)
    except OSError:
        pass
    return False


def _is_below(path: str, places: Sequence[str]) -> bool:
    return any(path == place or path.startswith(f"{place}/") for place in places)
