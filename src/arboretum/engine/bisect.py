"""`arboretum bisect`: the first bad commit of a range, by as many trials at once as there are slots."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Unpack

from attrs import frozen

from arboretum.engine.archive import keep_if_possible, keep_result
from arboretum.engine.bayesian_search import BayesianSearch
from arboretum.engine.bisect_search import BisectSearch
from arboretum.engine.bisection import Bisection, Finding
from arboretum.engine.history import History
from arboretum.engine.journal import runs_folder
from arboretum.engine.model import Plan
from arboretum.engine.result import BisectResult
from arboretum.engine.session import RunOptions, Session
from arboretum.engine.variants import CommitVariants
from arboretum.errors import UsageError
from arboretum.values import LogQuery, Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository


def run_bisect(
    repository: Repository,
    good: str | Iterable[str],
    bad: str,
    plan: Plan,
    *,
    first_parent: bool = False,
    confidence: float | None = None,
    **options: Unpack[RunOptions],
) -> BisectResult:
    """Find the first commit on which the plan's command fails.

    The answer is the one of ``git bisect run`` with the same command: a pass is good, a failure is bad, exit code
    125 (and every other trial that is no evidence) means that the commit cannot be tested. The two ends are
    taken at their word.

    Args:
        repository: Where the commits are; it is never changed.
        good: One or more revisions on which the command is known to pass.
        bad: A revision on which it is known to fail.
        plan: The command and how to run it; its hypotheses, its base and its repeats are not looked at.
        first_parent: Follow only the first parent of a merge.
        confidence: For a flaky test: repeat trials until one commit is the first bad one with this probability.
        options: How to carry it out (`RunOptions`).

    Raises:
        UsageError: There is no commit between them (nothing was made), or they fork at a commit that is bad itself.
        EngineError: The run could not be carried out.
    """
    if confidence is not None and not 0.5 < confidence < 1:
        raise UsageError(f"the confidence lies between 0.5 and 1, and {confidence} does not")
    goods = tuple(map(repository.resolve, [good] if isinstance(good, str) else good))
    span = _range(repository, goods, repository.resolve(bad), first_parent=first_parent)
    search = (
        BisectSearch(Bisection.of(span.history, span.bad), span.bases)
        if confidence is None
        else BayesianSearch(span.history, span.bad, confidence)
    )
    return asyncio.run(_run_bisect(repository, span, plan, search, options))


@frozen
class _Range:
    goods: tuple[Oid, ...]
    bad: Oid
    history: History
    bases: tuple[Oid, ...]


def _range(repository: Repository, goods: tuple[Oid, ...], bad: Oid, *, first_parent: bool) -> _Range:
    if not goods:
        raise UsageError("a bisection needs a good revision")
    query = LogQuery(include=(bad,), exclude=goods, first_parent=first_parent)
    history = History.of(repository.backend.links(query), first_parent=first_parent)
    if not history:
        raise UsageError(f"there is nothing between {goods[0].short} and {bad.short}", hint="name the good one first")
    aside = [good for good in goods if good not in history.outside]  # of a parent it is known that `bad` reaches it
    bases = dict.fromkeys(repository.backend.merge_base(good, bad) for good in aside)
    return _Range(goods, bad, history, tuple(base for base in bases if base is not None and base not in goods))


async def _run_bisect(
    repository: Repository, span: _Range, plan: Plan, search: BisectSearch | BayesianSearch, options: RunOptions
) -> BisectResult:
    clock = time.monotonic()
    variants = CommitVariants(plan, span.history.numbers.keys() | span.bases, repository.backend.read_commit)
    async with Session.open(repository, options) as session:
        dispatcher = session.dispatcher(plan, search, variants)
        status = await session.carry_out(
            dispatcher,
            title=f"bisect {span.goods[0].short}..{span.bad.short}",
            base=span.bad,
            command=plan.command,
            subjects=(),
            trials=len(span.history).bit_length(),
        )
    if isinstance(search, BisectSearch) and search.bad_base is not None:
        raise UsageError(
            f"the merge base {search.bad_base.short} of the two ends is bad itself: the good end has been mended since",
            hint="bisect from a commit that was good before, or look for the mending commit by swapping pass and fail",
        )
    candidates = search.answer.candidates if search.answer else tuple(reversed(span.history.oids))
    result = BisectResult(
        run=session.run,
        first_bad=candidates[0] if len(candidates) == 1 else None,
        candidates=candidates,
        confidence=search.reached,
        trials=tuple(dispatcher.trials),
        log=bisect_log(
            span.goods,
            span.bad,
            search.steps,
            candidates,
            lambda oid: repository.backend.read_commit(oid).subject,
            replayable=isinstance(search, BisectSearch),
        ),
        status=status,
        duration=time.monotonic() - clock,
        rounds=dispatcher.rounds,
    )
    keep_if_possible(lambda: keep_result(runs_folder(repository.state_dir), result))
    return result


def bisect_log(
    goods: Iterable[Oid],
    bad: Oid,
    steps: Iterable[tuple[Oid, Finding]],
    candidates: tuple[Oid, ...],
    subject: Callable[[Oid], str],
    *,
    replayable: bool = True,
) -> str:
    """The search as ``git bisect log`` writes it; ``git bisect replay`` reads it.

    Args:
        goods: The revisions that were good to begin with.
        bad: The one that was bad.
        steps: The findings, in the order in which they were used.
        candidates: What the search came to.
        subject: Gives the first line of a commit's message.
        replayable: Whether git could follow; the draws of a flaky test contradict each other and are comments only.
    """
    goods = list(goods)
    lines = [f"# bad: [{bad}] {subject(bad)}", *(f"# good: [{good}] {subject(good)}" for good in goods)]
    lines.append(" ".join(["git bisect start", f"'{bad}'", *(f"'{good}'" for good in goods)]))
    for oid, finding in steps:
        lines.append(f"# {finding.value}: [{oid}] {subject(oid)}")
        if replayable:
            lines.append(f"git bisect {finding.value} {oid}")
    if len(candidates) == 1:
        lines.append(f"# first bad commit: [{candidates[0]}] {subject(candidates[0])}")
    else:
        lines.append("# only skipped commits left to test" if replayable else "# the likeliest first bad commits:")
        lines += [f"# possible first bad commit: [{oid}] {subject(oid)}" for oid in candidates]
    return "\n".join(lines) + "\n"
