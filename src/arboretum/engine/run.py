"""The engine's front door: run a plan against a repository."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

from attrs import evolve

from arboretum.engine.archive import keep_if_possible, keep_plan, keep_result
from arboretum.engine.journal import runs_folder
from arboretum.engine.model import Judgement, Outcome, Plan, Verdict
from arboretum.engine.plan_file import validate
from arboretum.engine.result import RunResult, RunStatus
from arboretum.engine.search import HypothesisSearch
from arboretum.engine.session import RunOptions, Session
from arboretum.engine.variants import make_variants
from arboretum.engine.verdict import recommend

if TYPE_CHECKING:
    from arboretum.repository import Repository


def run_plan(
    repository: Repository, plan: Plan, *, stop_on_supported: bool = False, **options: Unpack[RunOptions]
) -> RunResult:
    """Carry out `plan`: the control, every hypothesis, the verdicts. Blocks; Ctrl-C and SIGTERM end it cleanly.

    Args:
        repository: Where the revisions of the plan are looked up; it is never changed.
        plan: What to find out.
        stop_on_supported: End the run as soon as one hypothesis is supported; what still runs is stopped.
        options: How to carry it out (`RunOptions`).

    Returns:
        The result; its `status` is ``interrupted`` when a signal ended the run.

    Raises:
        InputFileError, UsageError: The plan cannot be meant; nothing was made.
        EngineError: The run could not be carried out.
    """
    return asyncio.run(run_plan_async(repository, plan, stop_on_supported=stop_on_supported, **options))


async def run_plan_async(
    repository: Repository, plan: Plan, *, stop_on_supported: bool = False, **options: Unpack[RunOptions]
) -> RunResult:
    """`run_plan` for callers that have an event loop. Cancelling it stops every trial first."""
    plan = evolve(plan, stop_on_supported=plan.stop_on_supported or stop_on_supported)
    validate(plan, repository)
    variants = make_variants(plan, repository)
    search = HypothesisSearch(plan)
    started, clock = time.time(), time.monotonic()
    runs_dir = runs_folder(repository.state_dir)
    async with Session.open(repository, options) as session:
        keep_if_possible(lambda: keep_plan(runs_dir, session.run, plan))
        status = await session.carry_out(
            session.dispatcher(plan, search, {variant.id: variant for variant in variants}),
            title=plan.title,
            base=variants[0].commit,
            command=plan.command,
            subjects=[h.id for h in search.order],
            trials=plan.repeats * len(variants),
        )
    ranking = search.ranking()
    result = RunResult(
        run=session.run,
        plan=plan,
        base=variants[0].commit,
        control=search.control,
        judgements=ranking,
        recommendation=_recommendation(search, ranking, status),
        status=status,
        started=started,
        duration=time.monotonic() - clock,
        notes=tuple(session.notes),
    )
    keep_if_possible(lambda: keep_result(runs_dir, result))
    return result


def _recommendation(search: HypothesisSearch, ranking: Sequence[Judgement], status: RunStatus) -> str:
    if status is RunStatus.INTERRUPTED:
        return "The run was interrupted; go on with: arboretum run --resume. Finished trials are not repeated."
    problems = {t.outcome for t in search.control if not t.outcome.is_evidence} - {Outcome.CANCELLED}
    if problems and not any(j.verdict is Verdict.SUPPORTED for j in ranking):
        if problems == {Outcome.ERROR}:
            return "The control could not be carried out, see why; `arboretum doctor` checks what is needed here."
        names = ", ".join(sorted(problem.value for problem in problems))
        return f"Nothing can be supported while the control itself is no evidence ({names}): mend the command first."
    return recommend(ranking)
