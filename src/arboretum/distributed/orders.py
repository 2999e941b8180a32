"""What travels between the client and its workers: orders one way, answers the other, and what a worker must have."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import field, frozen

from arboretum.distributed.changes import WorkDone
from arboretum.engine.model import Trial, TrialRequest
from arboretum.engine.needs import MEMORY
from arboretum.orchestration.sites import Work
from arboretum.values import Oid


@frozen(kw_only=True)
class Order:
    """A trial, or the command of a task, as it travels.

    Args:
        key: The name of this one sending of it, and of the Dask task that it is.
        topic: Where its output lines are told.
        repository: The id of the repository, the same on every host.
        sha256: Whether its ids have 64 digits.
        version: The arboretum that sends it.
        request: The trial or the command.
        includes: The content of included files by path.
        pack: What the mirror lacks; None when it should have everything.
        tips: The commits that the mirror has in whole once it has taken in the pack.
    """

    key: str
    topic: str
    repository: str
    sha256: bool
    version: str
    request: TrialRequest | Work
    includes: Mapping[str, bytes] = field(factory=dict)
    pack: bytes | None = None
    tips: tuple[Oid, ...] = ()


@frozen(kw_only=True)
class Answer:
    """What a worker says: what it has done, or what it lacks, or why it cannot.

    Args:
        host: Which worker.
        version: Its arboretum.
        trial: The trial that is over.
        work: The command that is over, with what it has changed.
        outputs: The whole output of a trial by stream, unless it is large; then it stays on the worker.
        lacks: Whether the commit is missing; then `tips` says what is there.
        tips: Commits that are there.
        place: The mirror: workers with the same place share it.
        error: Why the trial could not be carried out.
        stopped: Whether it was stopped because nobody waits for it any more, or because the worker ends.
    """

    host: str
    version: str
    trial: Trial | None = None
    work: WorkDone | None = None
    outputs: Mapping[str, bytes] = field(factory=dict)
    lacks: bool = False
    tips: tuple[Oid, ...] = ()
    place: str = ""
    error: str = ""
    stopped: bool = False


def size_text(size: float) -> str:
    """Bytes as people read them."""
    return f"{size / (1 << 30):.1f} GiB" if size >= 1 << 30 else f"{size / (1 << 20):.1f} MiB"


@frozen
class Needs:
    """What a worker must have to get an order.

    Args:
        memory: Bytes, of the resource ``MEMORY``; 0 for no matter how many.
        labels: Names of resources that it must have, however much of them.
    """

    memory: int = 0
    labels: tuple[str, ...] = ()

    @property
    def resources(self) -> dict[str, float]:
        """The same as Dask states it: what the worker gives away while it carries the order out."""
        wanted = dict.fromkeys(self.labels, 1.0)
        return wanted | ({MEMORY: float(self.memory)} if self.memory else {})

    def met_by(self, resources: Mapping[str, float]) -> bool:
        """Whether a worker with `resources` can ever get such an order."""
        return all(resources.get(name, 0.0) >= amount for name, amount in self.resources.items())

    def __str__(self) -> str:
        texts = [f"{size_text(self.memory)} of memory"] if self.memory else []
        return " and ".join([*texts, *(f"the label {label!r}" for label in self.labels)]) or "nothing"
