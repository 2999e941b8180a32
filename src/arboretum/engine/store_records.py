"""What the store of results takes and tells: keys, runs, why a result was or was not known, how much is kept."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Protocol

from attrs import field, frozen


class ResultKey(Protocol):
    """The identity of a result: named fields, and a digest of them all (`arboretum.engine.cache_key.CacheKey`)."""

    @property
    def fields(self) -> Mapping[str, str]:
        """What the result depends on, by name; ``command`` is one of them."""

    @property
    def digest(self) -> str:
        """The same as one text: equal if and only if the fields are equal."""


@frozen(kw_only=True)
class RunRecord:
    """What the store knows of a run.

    Args:
        id: The id of the run.
        title: The question.
        base: The commit of the control.
        command: The command, as text.
        started: Seconds since the epoch.
        finished: The same; None while it goes on or when it was killed.
        status: ``running``, ``done``, ``interrupted`` or ``failed``.
        plan: What was asked, as JSON.
        result: What came of it, as JSON; empty until it is over.
    """

    id: str
    title: str = ""
    base: str = ""
    command: str = ""
    started: float = field(factory=time.time)
    finished: float | None = None
    status: str = "running"
    plan: str = "{}"
    result: str = ""


@frozen(kw_only=True)
class Why:
    """Why a trial's result was, or was not, taken from the cache.

    Args:
        hit: Whether it was.
        fields: The fields of the trial's key.
        source: The run that the cached result came from; empty for a miss.
        differences: For a miss: of the stored results of that time the nearest one's differing fields, as (now, then);
            empty when none was stored for the command at all.
    """

    hit: bool
    fields: Mapping[str, str]
    source: str = ""
    differences: Mapping[str, tuple[str | None, str | None]] = field(factory=dict)


@frozen(kw_only=True)
class Retention:
    """How much the store keeps. Cached results and the list of runs are small and stay longer than outputs.

    Args:
        runs: Outputs and journals of at most so many runs.
        age: Outputs and journals for at most so many seconds.
        output_bytes: Outputs of at most so many bytes as stored.
        cache_age: Cached results, and runs as such, for at most so many seconds.
    """

    runs: int = 200
    age: float = 30 * 86400.0
    output_bytes: int = 1 << 30
    cache_age: float = 180 * 86400.0
