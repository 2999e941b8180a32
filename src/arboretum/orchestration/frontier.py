"""Which tasks can start and which no longer can, kept up to date as states change (pure).

What is asked after every event is answered without a look at all tasks: a change of state costs as much as the task has
dependents, however many tasks there are.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

from attrs import define, field

from arboretum.orchestration.states import TaskState


@define(eq=False)
class Frontier:
    """The states of all tasks, looked up by state and by what they allow; all tasks begin as waiting.

    Args:
        needs: What each task depends on.
    """

    needs: Mapping[str, Sequence[str]] = field(repr=False)
    _states: dict[str, TaskState] = field(init=False, repr=False)
    _in: dict[TaskState, set[str]] = field(init=False, repr=False)
    _dependents: Mapping[str, Sequence[str]] = field(init=False, repr=False)
    _missing: dict[str, int] = field(init=False, repr=False)  # how many of its needs have not ended well (yet)
    _lost: dict[str, int] = field(init=False, repr=False)  # and how many have ended badly
    _free: set[str] = field(init=False)
    _doomed: set[str] = field(factory=set, init=False)

    def __attrs_post_init__(self) -> None:
        dependents: dict[str, list[str]] = defaultdict(list)
        for name, needs in self.needs.items():
            for need in dict.fromkeys(needs):
                dependents[need].append(name)
        self._dependents = dependents
        self._states = dict.fromkeys(self.needs, TaskState.WAITING)
        self._in = defaultdict(set, {TaskState.WAITING: set(self.needs)})
        self._missing = {name: len(set(needs)) for name, needs in self.needs.items()}
        self._lost = dict.fromkeys(self.needs, 0)
        self._free = {name for name, missing in self._missing.items() if not missing}

    def put(self, name: str, state: TaskState) -> list[str]:
        """Take note of the state of a task. Returns the dependents that have become free by it."""
        before = self._states[name]
        if state is before:
            return []
        self._states[name] = state
        self._in[before].discard(name)
        self._in[state].add(name)
        freed = []
        for other in self._dependents.get(name, ()):
            was_free = other in self._free
            self._missing[other] += before.is_good - state.is_good
            self._lost[other] += state.is_lost - before.is_lost
            self._sort_in(other)
            if other in self._free and not was_free:
                freed.append(other)
        self._sort_in(name)
        return freed

    def _sort_in(self, name: str) -> None:
        waiting = self._states[name] is TaskState.WAITING
        (self._free.add if waiting and not self._missing[name] else self._free.discard)(name)
        (self._doomed.add if waiting and self._lost[name] else self._doomed.discard)(name)

    def in_state(self, *states: TaskState) -> AbstractSet[str]:
        """The tasks that are in one of `states`."""
        return set().union(*(self._in[state] for state in states))

    @property
    def free(self) -> AbstractSet[str]:
        """The waiting tasks of which every dependency has ended well."""
        return self._free

    @property
    def doomed(self) -> AbstractSet[str]:
        """The waiting tasks of which a dependency has ended badly."""
        return self._doomed
