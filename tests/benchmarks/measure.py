"""How a comparison is made: all ways in one run, interleaved, in a fresh random order each round, medians told.

The machine drifts; a ratio between neighbours of the same round does not. So every figure is the median of the
ratios round by round, and absolute times are shown only to give a feeling for the size.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from attrs import field, frozen


@frozen(kw_only=True)
class Row:
    """One figure.

    Args:
        area: The part of the project: ``create``, ``process``, ...
        case: What was done, in words.
        ours: Seconds that arboretum took (median).
        baseline: The name of what it is held against.
        theirs: Seconds that the baseline took (median); None where it could not be had.
        ratio: Median over the rounds of ours / theirs; None where there is no baseline.
        target: The ratio that was to be reached; None for a figure that is only told.
        at_least: Whether the target is a floor (ours must be so many times faster: ratio is theirs / ours then).
        note: What else a reader should know, e.g. why a baseline was left out.
        extra: Further numbers (memory, counts, curve points).
    """

    area: str
    case: str
    ours: float | None = None
    baseline: str = ""
    theirs: float | None = None
    ratio: float | None = None
    target: float | None = None
    at_least: bool = False
    note: str = ""
    extra: Mapping[str, object] = field(factory=dict)

    @property
    def reached(self) -> bool | None:
        """Whether the target was met; None where nothing was to be met."""
        if self.target is None or self.ratio is None:
            return None
        return self.ratio >= self.target if self.at_least else self.ratio <= self.target


Timed = Callable[[], object]


def interleave(ways: Mapping[str, Timed], *, rounds: int, warmup: int = 1, seed: int = 0) -> dict[str, list[float]]:
    """Time each way once a round, in a new order every round.

    Args:
        ways: What to time, by name. A way may return its own number of seconds (when it has set-up to leave out).
        rounds: How many counted rounds.
        warmup: Rounds before them that do not count.
        seed: For the order.

    Returns:
        The seconds of each way, one a round, in the order of the rounds.
    """
    order = random.Random(seed)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(-warmup, rounds):
        names = list(ways)
        order.shuffle(names)
        for name in names:
            begin = time.perf_counter()
            told = ways[name]()
            seconds = told if isinstance(told, float) else time.perf_counter() - begin
            if number >= 0:
                times[name].append(seconds)
    return times


def compare(
    area: str,
    case: str,
    times: Mapping[str, list[float]],
    *,
    ours: str,
    baseline: str,
    target: float | None = None,
    at_least: bool = False,
    note: str = "",
    **extra: object,
) -> Row:
    """The row that holds `ours` against `baseline`, from the times that `interleave` took.

    With `at_least` the ratio is theirs / ours ("so many times faster"), else ours / theirs.
    """
    pairs = list(zip(times[ours], times[baseline], strict=True))
    ratios = [(their / our if at_least else our / their) for our, their in pairs]
    return Row(
        area=area,
        case=case,
        ours=statistics.median(times[ours]),
        baseline=baseline,
        theirs=statistics.median(times[baseline]),
        ratio=statistics.median(ratios),
        target=target,
        at_least=at_least,
        note=note,
        extra=extra,
    )


def growth(
    area: str,
    case: str,
    points: Mapping[int, float],
    *,
    unit: str,
    theirs: Mapping[int, float] | None = None,
    baseline: str = "",
    target: float | None = None,
    note: str = "",
) -> Row:
    """The row that tells how a time grows with a size: its ratio is the slope of the curve at its large end.

    The slope is the exponent: 0 where the size does not matter, 1 where the time grows in proportion, 2 for its square.
    At the small end the constant part hides it, so it is taken over the last factor of ten or so.

    Args:
        area: As in `Row`.
        case: As in `Row`.
        points: The seconds at each size.
        unit: What is counted, e.g. ``worktrees``.
        theirs: The same of what it is held against.
        baseline: The name of that.
        target: The slope that was to be kept.
        note: As in `Row`.

    Returns:
        The row; ``extra["curve"]`` holds the unit and the points, ``extra["slope"]`` the slopes by name.
    """
    lines = {"arboretum": points, **({baseline: theirs} if theirs else {})}
    slopes = {name: slope(line) for name, line in lines.items()}
    largest = max(points)
    told = f"slope over {unit}, to {largest:,}"
    if theirs:
        told += f"; {baseline}: {slopes[baseline]:.2f}"
    return Row(
        area=area,
        case=case,
        ours=points[largest],
        baseline=baseline,
        theirs=theirs[max(theirs)] if theirs else None,
        ratio=round(slopes["arboretum"], 3),
        target=target,
        note=f"{told}; {note}" if note else told,
        extra={
            "curve": {"unit": unit, "lines": {n: sorted(line.items()) for n, line in lines.items()}},
            "slope": slopes,
        },
    )


def slope(points: Mapping[int, float], *, span: float = 10.0) -> float:
    """The exponent with which a time grows: least squares of the logarithms, over the sizes from largest / `span` on.

    At least the two largest sizes count, however far apart they are; one size alone has no slope (0).
    """
    sizes = sorted(points)
    kept = sizes[-2:] + [size for size in sizes[:-2] if size * span >= sizes[-1]]
    if len(kept) < 2:
        return 0.0
    xs, ys = [math.log(size) for size in kept], [math.log(points[size]) for size in kept]
    return statistics.linear_regression(xs, ys).slope


@contextmanager
def workplace() -> Iterator[Path]:
    """A folder for a while, with the pools of this process in it."""
    with tempfile.TemporaryDirectory(prefix="arboretum-bench-") as name, cache_folder(f"{name}/cache"):
        yield Path(name)


@contextmanager
def cache_folder(path: str) -> Iterator[None]:
    """Let the pools of this process be below `path` for a while, so that nothing of the user's is touched."""
    before = os.environ.get("ARBORETUM_CACHE_DIR")
    os.environ["ARBORETUM_CACHE_DIR"] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ["ARBORETUM_CACHE_DIR"]
        else:
            os.environ["ARBORETUM_CACHE_DIR"] = before
