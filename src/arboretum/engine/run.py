"""The engine's front door: run a plan against a repository."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from arboretum.engine.model import Plan
from arboretum.engine.result import RunResult
from arboretum.events import Observer

if TYPE_CHECKING:
    from arboretum.repository import Repository


def run_plan(
    repository: Repository,
    plan: Plan,
    *,
    executor: object = None,
    jobs: int | None = None,
    observers: Iterable[Observer] = (),
    stop_on_supported: bool = False,
    cache: bool = True,
    refresh: bool = False,
    resume: str | None = None,
) -> RunResult:
    """Carry out `plan`: the control, every hypothesis, the verdicts. Blocks; Ctrl-C and SIGTERM end it cleanly.

    Args:
        repository: Where the revisions of the plan are looked up; it is never changed.
        plan: What to find out.
        executor: Who runs the trials; None for this machine, with a pool of worktrees. It is closed only if made here.
        jobs: How many trials at once at most; None for the executor's own number.
        observers: Told of every event of the run.
        stop_on_supported: End the run as soon as one hypothesis is supported; what still runs is stopped.
        cache: Take known results from the store and keep new ones there.
        refresh: Run everything, and let the new results replace the stored ones.
        resume: The id of an interrupted run to go on with; its finished trials are not repeated.

    Returns:
        The result; its `status` is ``interrupted`` when a signal ended the run.

    Raises:
        InputFileError, UsageError: The plan cannot be meant; nothing was made.
        EngineError: The run could not be carried out.
    """
    raise NotImplementedError
