"""The engine's front door: run a plan against a repository."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

from attrs import evolve

from arboretum.engine.cache_key import shared_fields
from arboretum.engine.dispatcher import Dispatcher
from arboretum.engine.executor import Executor
from arboretum.engine.model import CONTROL, Outcome, Plan, Verdict
from arboretum.engine.plan_file import validate
from arboretum.engine.result import RunResult, RunStatus
from arboretum.engine.search import HypothesisSearch
from arboretum.engine.session import Session
from arboretum.engine.variants import make_variants
from arboretum.engine.verdict import recommend
from arboretum.events import Observer

if TYPE_CHECKING:
    from arboretum.repository import Repository


def run_plan(
    repository: Repository,
    plan: Plan,
    *,
    executor: Executor | None = None,
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
        cache: Take known results from the store and let later runs take this one's.
        refresh: Run everything, and let the new results replace the stored ones.
        resume: The id of an interrupted run to go on with; its finished trials are not repeated.

    Returns:
        The result; its `status` is ``interrupted`` when a signal ended the run.

    Raises:
        InputFileError, UsageError: The plan cannot be meant; nothing was made.
        EngineError: The run could not be carried out.
    """
    return asyncio.run(
        run_plan_async(
            repository,
            plan,
            executor=executor,
            jobs=jobs,
            observers=observers,
            stop_on_supported=stop_on_supported,
            cache=cache,
            refresh=refresh,
            resume=resume,
        )
    )


async def run_plan_async(
    repository: Repository,
    plan: Plan,
    *,
    executor: Executor | None = None,
    jobs: int | None = None,
    observers: Iterable[Observer] = (),
    stop_on_supported: bool = False,
    cache: bool = True,
    refresh: bool = False,
    resume: str | None = None,
) -> RunResult:
    """`run_plan` for callers that have an event loop. Cancelling it stops every trial first."""
    plan = evolve(plan, stop_on_supported=plan.stop_on_supported or stop_on_supported)
    validate(plan, repository)
    variants = {variant.id: variant for variant in make_variants(plan, repository)}
    search = HypothesisSearch(plan)
    async with Session.open(repository, executor=executor, jobs=jobs, observers=observers, resume=resume) as session:
        dispatcher = Dispatcher(
            run=session.run,
            plan=plan,
            strategy=search,
            variants=variants,
            executor=session.executor,
            observers=session.observers,
            capacity=jobs,
            store=session.store,
            key_fields=shared_fields(plan, repository.runner, folder=repository.path),
            reuse=cache and not refresh,
            keep=cache,
        )
        started, clock = time.time(), time.monotonic()
        status = await session.carry_out(
            dispatcher,
            title=plan.title,
            base=variants[CONTROL].commit,
            command=plan.command,
            subjects=[h.id for h in search.order],
            trials=plan.repeats * len(variants),
        )
    ranking = search.ranking()
    return RunResult(
        run=session.run,
        plan=plan,
        base=variants[CONTROL].commit,
        control=search.control,
        judgements=ranking,
        recommendation=_recommendation(search, status),
        status=status,
        started=started,
        duration=time.monotonic() - clock,
        notes=tuple(session.notes),
    )


def _recommendation(search: HypothesisSearch, status: RunStatus) -> str:
    ranking = search.ranking()
    if status is RunStatus.INTERRUPTED:
        return "The run was interrupted; go on with --resume: finished trials are not repeated."
    problems = {t.outcome for t in search.control if not t.outcome.is_evidence} - {Outcome.CANCELLED}
    if problems and not any(j.verdict is Verdict.SUPPORTED for j in ranking):
        names = ", ".join(sorted(problem.value for problem in problems))
        return f"Nothing can be supported while the control itself is no evidence ({names}): mend the command first."
    return recommend(ranking)
