"""What happens in a run, as events; each is one line of the journal and of ``--events``."""

from __future__ import annotations

from attrs import frozen

from arboretum.engine.model import Judgement, Trial
from arboretum.events import Event
from arboretum.values import Oid


@frozen(kw_only=True)
class RunEvent(Event):
    """Something that happened in the run with the id `run`.

    A run's start and its end are its `bounds`: the journal forces them to the disk at once.
    """

    type = "run-event"
    bounds = False
    run: str


@frozen(kw_only=True)
class RunStarted(RunEvent):
    """A run began, or goes on.

    `trials` is how many trials are planned at most; `hypotheses` their ids in the order of trying; `cache` and
    `refresh` are what was asked of the cache, so that a resumed run keeps to it.
    """

    type = "run-started"
    bounds = True
    title: str
    base: Oid
    command: str
    hypotheses: tuple[str, ...]
    trials: int
    jobs: int
    cache: bool = True
    refresh: bool = False


@frozen(kw_only=True)
class TrialStarted(RunEvent):
    """A trial's command is about to run in a slot."""

    type = "trial-started"
    hypothesis: str
    attempt: int
    slot: str
    path: str


@frozen(kw_only=True)
class TrialOutput(RunEvent):
    """A line of a trial's output. Shown live; not kept in the journal."""

    type = "trial-output"
    hypothesis: str
    attempt: int
    stream: str
    line: str


@frozen(kw_only=True)
class TrialFinished(RunEvent):
    """A trial is over."""

    type = "trial-finished"
    trial: Trial


@frozen(kw_only=True)
class VerdictReached(RunEvent):
    """A hypothesis has been judged."""

    type = "verdict"
    judgement: Judgement


@frozen(kw_only=True)
class RunStopping(RunEvent):
    """A signal asked the run to end: what runs is being stopped. Shown live; not kept in the journal."""

    type = "run-stopping"


@frozen(kw_only=True)
class RunFinished(RunEvent):
    """The run ended: ``done``, ``interrupted`` or ``failed``."""

    type = "run-finished"
    bounds = True
    status: str
    duration: float


@frozen(kw_only=True)
class SlotChanged(RunEvent):
    """A slot of the pool went from one state to another."""

    type = "slot"
    slot: str
    state: str
    previous: str
    lease: str = ""
