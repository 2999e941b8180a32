"""What the reports for people show, worked out once: rows, tallies, a timeline and plots. Pure."""

from __future__ import annotations

import datetime as dt
import shlex
import statistics
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from attrs import frozen

from arboretum.engine.model import CONTROL, CommandSpec, Hypothesis, Judgement, Outcome, Trial, Verdict
from arboretum.report.exhibits import printable

if TYPE_CHECKING:
    from arboretum.engine.result import RunResult
    from arboretum.report.exhibits import Exhibits

#: How each verdict is marked where colour alone would not do.
MARKS = {Verdict.SUPPORTED: "✓", Verdict.FALSIFIED: "✗", Verdict.INCONCLUSIVE: "?"}


@frozen(kw_only=True)
class Row:
    """One hypothesis as a reader sees it. `pace` is its median time over the control's; None without both."""

    rank: int
    id: str
    description: str
    expect: str
    verdict: Verdict
    reason: str
    confidence: float
    notes: tuple[str, ...]
    trials: tuple[Trial, ...]
    median: float | None
    pace: float | None
    change: str

    @property
    def mark(self) -> str:
        """A sign for the verdict."""
        return MARKS[self.verdict]


@frozen(kw_only=True)
class Bar:
    """A trial on the timeline: where it starts and how long it is, in percent of the run."""

    trial: str
    hypothesis: str
    outcome: Outcome
    left: float
    width: float
    seconds: float


@frozen(kw_only=True)
class Lane:
    """One slot of the timeline with its trials."""

    slot: str
    bars: tuple[Bar, ...]


@frozen(kw_only=True)
class Series:
    """The values of one metric for the control or a hypothesis; `points` and `middle` in percent of the scale."""

    name: str
    values: tuple[float, ...]
    points: tuple[float, ...]
    median: float
    middle: float


@frozen(kw_only=True)
class Plot:
    """One metric of all who reported it, on one scale from zero to `top`."""

    metric: str
    top: float
    series: tuple[Series, ...]


@frozen(kw_only=True)
class RunView:
    """All that a report for people shows."""

    title: str
    run: str
    base: str
    command: str
    status: str
    started: str
    duration: float
    recommendation: str
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    control: tuple[Trial, ...]
    control_median: float | None
    tally: dict[Verdict, int]
    lanes: tuple[Lane, ...]
    plots: tuple[Plot, ...]


def view_of(result: RunResult, exhibits: Exhibits) -> RunView:
    """Work out what there is to show of `result`."""
    plan = result.plan
    by_id = {hypothesis.id: hypothesis for hypothesis in plan.hypotheses}
    control_median = median_duration(result.control)
    rows = tuple(
        _row(rank, judgement, by_id.get(judgement.hypothesis), control_median, exhibits)
        for rank, judgement in enumerate(result.judgements, start=1)
    )
    return RunView(
        title=printable(plan.title) or "Untitled run",
        run=result.run,
        base=result.base.short,
        command=printable(command_text(plan.command)),
        status=str(result.status),
        started=dt.datetime.fromtimestamp(result.started, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC"),
        duration=result.duration,
        recommendation=printable(result.recommendation),
        notes=tuple(map(printable, result.notes)),
        rows=rows,
        control=result.control,
        control_median=control_median,
        tally={verdict: sum(row.verdict is verdict for row in rows) for verdict in Verdict},
        lanes=timeline([*result.control, *(trial for row in rows for trial in row.trials)]),
        plots=plots_of([(CONTROL, result.control), *((row.id, row.trials) for row in rows)]),
    )


def command_text(command: CommandSpec) -> str:
    """A command as one would type it."""
    return command.argv[0] if command.shell else shlex.join(command.argv)


def median_duration(trials: Iterable[Trial]) -> float | None:
    """The median time of the trials that say something; None if there are none."""
    times = [trial.duration for trial in trials if trial.outcome.is_evidence]
    return statistics.median(times) if times else None


def _row(
    rank: int, judgement: Judgement, hypothesis: Hypothesis | None, control: float | None, exhibits: Exhibits
) -> Row:
    median = median_duration(judgement.trials)
    return Row(
        rank=rank,
        id=judgement.hypothesis,
        description=printable(hypothesis.description) if hypothesis else "",
        expect=str(hypothesis.expect) if hypothesis else "pass",
        verdict=judgement.verdict,
        reason=str(judgement.reason),
        confidence=judgement.confidence,
        notes=tuple(map(printable, judgement.notes)),
        trials=judgement.trials,
        median=median,
        pace=median / control if median is not None and control else None,
        change=exhibits.changes.get(judgement.hypothesis, ""),
    )


def timeline(trials: Sequence[Trial]) -> tuple[Lane, ...]:
    """Who ran where and when. Cached and never started trials took no slot and are left out."""
    ran = [trial for trial in trials if trial.slot and trial.started > 0 and not trial.cached]
    if not ran:
        return ()
    begin = min(trial.started for trial in ran)
    span = max(trial.started + trial.duration for trial in ran) - begin or 1.0
    lanes: dict[str, list[Bar]] = {}
    for trial in sorted(ran, key=lambda trial: trial.started):
        left = 100 * (trial.started - begin) / span
        bar = Bar(
            trial=trial.id,
            hypothesis=trial.hypothesis,
            outcome=trial.outcome,
            left=round(left, 3),
            width=round(min(100 * trial.duration / span, 100 - left), 3),
            seconds=trial.duration,
        )
        lanes.setdefault(trial.slot, []).append(bar)
    return tuple(Lane(slot=slot, bars=tuple(bars)) for slot, bars in sorted(lanes.items()))


def plots_of(groups: Sequence[tuple[str, Sequence[Trial]]]) -> tuple[Plot, ...]:
    """One plot for the time of the command and one for each metric that was reported, by name."""
    reported = sorted({metric for _, trials in groups for trial in trials for metric in trial.metrics})
    times = [(name, [trial.duration for trial in trials if trial.outcome.is_evidence]) for name, trials in groups]
    plots = [_plot("seconds", times)]
    for metric in reported:
        values = [(name, [t.metrics[metric] for t in trials if metric in t.metrics]) for name, trials in groups]
        plots.append(_plot(metric, values))
    return tuple(plot for plot in plots if plot.series)


def _plot(metric: str, groups: Sequence[tuple[str, Sequence[float]]]) -> Plot:
    shown = [(name, values) for name, values in groups if values]
    low = min((value for _, values in shown for value in values), default=0.0)
    top = max((value for _, values in shown for value in values), default=0.0)
    floor = min(0.0, low)
    span = (top - floor) or 1.0

    def place(value: float) -> float:
        return round(100 * (value - floor) / span, 3)

    series = tuple(
        Series(
            name=name,
            values=tuple(values),
            points=tuple(map(place, values)),
            median=statistics.median(values),
            middle=place(statistics.median(values)),
        )
        for name, values in shown
    )
    return Plot(metric=printable(metric), top=top, series=series)
