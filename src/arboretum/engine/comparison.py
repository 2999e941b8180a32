"""Is a hypothesis slower than the control, or otherwise different in a number that its trials reported?

A difference is told when it is large (the medians differ by a factor) and, where there are enough trials to
show it, not by chance: the exact two-sided permutation test of the rank sum, which assumes nothing of how run
times are distributed (they are skewed, so a t-test would not do). With three trials a side or fewer that test cannot
reach the level at all; then a larger factor is asked for, and the note says that it was seen, not proven.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from attrs import frozen

from arboretum.engine.model import Trial
from arboretum.engine.statistics import median, rank_sum_p_value, smallest_p_value

#: The level of the test.
ALPHA: Final = 0.05
#: The least ratio of medians that is worth a note when the test proves the difference.
PROVEN_RATIO: Final = 1.5
#: The least ratio that is worth a note when there are too few trials to prove it.
SEEN_RATIO: Final = 2.0
#: Differences of durations below so many seconds are never worth a note: starting a process varies as much.
LEAST_SECONDS: Final = 0.1
DURATION: Final = "duration"


@frozen(kw_only=True)
class Comparison:
    """One number, of a hypothesis against the control.

    Args:
        name: The metric; `DURATION` for the seconds that the command took.
        value: The median over the hypothesis' trials.
        control: The median over the control's.
        trials: How many trials of each were compared.
        p_value: By the exact rank-sum test, two-sided; None where so few trials cannot reach `ALPHA`.
    """

    name: str
    value: float
    control: float
    trials: tuple[int, int]
    p_value: float | None

    @property
    def ratio(self) -> float:
        """The value in units of the control's; infinite when that is zero."""
        if self.control == 0:
            return 1.0 if self.value == 0 else float("inf")
        return self.value / self.control

    @property
    def notable(self) -> bool:
        """Whether the difference is large enough and, as far as can be known, no chance."""
        least = SEEN_RATIO if self.p_value is None else PROVEN_RATIO
        if self.p_value is not None and self.p_value > ALPHA:
            return False
        if self.name == DURATION and abs(self.value - self.control) < LEAST_SECONDS:
            return False
        return self.ratio >= least or self.ratio <= 1 / least

    @property
    def note(self) -> str:
        """One line for people, its first word for machines: ``slower: 3.1 times the control (...)``."""
        if self.name == DURATION:
            word = "slower" if self.ratio > 1 else "faster"
            what, unit = "", " s"
        else:
            word, what, unit = "changed", f"{self.name} is ", ""
        numbers = f"{self.value:.3g}{unit} against {self.control:.3g}{unit}"
        return f"{word}: {what}{self.ratio:.2g} times the control ({numbers}; {self._support()})"

    def _support(self) -> str:
        one, two = self.trials
        counts = f"{one} and {two} trials"
        if self.p_value is None:
            return f"seen in {counts}, too few to prove it"
        return f"p = {self.p_value:.2g} by the rank-sum test of {counts}"


def compare(trials: Sequence[Trial], control: Sequence[Trial]) -> tuple[Comparison, ...]:
    """Every number that both sides have, the duration first. Only trials that are evidence count."""
    own = [t for t in trials if t.outcome.is_evidence]
    other = [t for t in control if t.outcome.is_evidence]
    if not own or not other:
        return ()
    found = [_compare(DURATION, [t.duration for t in own], [t.duration for t in other])]
    names = {name for t in own for name in t.metrics} & {name for t in other for name in t.metrics}
    found.extend(_compare(name, _values(name, own), _values(name, other)) for name in sorted(names))
    return tuple(found)


def _values(name: str, trials: Sequence[Trial]) -> list[float]:
    return [t.metrics[name] for t in trials if name in t.metrics]


def _compare(name: str, own: list[float], control: list[float]) -> Comparison:
    provable = smallest_p_value(len(own), len(control)) <= ALPHA
    return Comparison(
        name=name,
        value=median(own),
        control=median(control),
        trials=(len(own), len(control)),
        p_value=rank_sum_p_value(own, control) if provable else None,
    )
