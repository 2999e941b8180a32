"""Curves of growth: each way timed at each size, interleaved with the others of that size."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from attrs import define, field

from tests.benchmarks.measure import Row, Timed, growth, interleave

#: The slopes that are allowed: where the size should not matter, and where the work is one for each.
FLAT: Final = 0.2
LINEAR: Final = 1.1


def sizes_of(scale: float, whole: Sequence[int]) -> Sequence[int]:
    """All sizes in the full form, the two smallest in the short one."""
    return whole if scale >= 1 else whole[:2]


def clocked(way: Callable[[], object]) -> float:
    """The seconds that it takes."""
    begin = time.perf_counter()
    way()
    return time.perf_counter() - begin


@define
class Curves:
    """The curves over one unit.

    Args:
        area: Of the rows.
        unit: What is counted.
    """

    area: str
    unit: str
    _points: dict[str, dict[int, float]] = field(factory=dict)

    def add(self, size: int, ways: Mapping[str, Timed], *, large: bool = False) -> None:
        """Add the median of each way at this size; `large` ones are done once, without warming up."""
        for name, seconds in interleave(ways, rounds=1 if large else 3, warmup=0 if large else 1).items():
            self._points.setdefault(name, {})[size] = statistics.median(seconds)

    def rows(self, against: Mapping[str, tuple[str, float]]) -> Iterator[Row]:
        """A row for each case, with the way that it is held against (or none) and the slope that is allowed."""
        for case, (baseline, target) in against.items():
            yield growth(
                self.area, case, self._points[case], unit=self.unit, theirs=self._points.get(baseline),
                baseline=baseline, target=target,
            )  # fmt: skip
