"""Few work at a time, and whoever waits for the same is served together, whatever happens to the one at work."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum.worktree_files.turns import Turns


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 3), st.integers(1, 5), st.lists(st.sampled_from("ab"), min_size=1, max_size=20))
def test_each_item_is_done_once_with_those_of_its_key(places, most, keys):
    """Everybody gets the result of its own item, no group mixes keys or is too large, and no more work than may."""
    turns: Turns[tuple[str, int], tuple[str, int]] = Turns(places, most)
    mutex, groups, working, peak = threading.Lock(), [], [0], [0]

    def work(items: Sequence[tuple[str, int]]) -> Sequence[tuple[str, int]]:
        with mutex:
            groups.append(list(items))
            working[0] += 1
            peak[0] = max(peak[0], working[0])
        time.sleep(0.001)
        with mutex:
            working[0] -= 1
        return list(items)

    with ThreadPoolExecutor(len(keys)) as threads:
        items = [(key, number) for number, key in enumerate(keys)]
        assert list(threads.map(lambda item: turns.serve(item[0], item, work), items)) == items
    assert sorted(item for group in groups for item in group) == sorted(items)
    assert all(len({key for key, _ in group}) == 1 and len(group) <= most for group in groups)
    assert peak[0] <= places


def test_who_waited_for_one_that_failed_gets_nothing_and_others_go_on():
    """The error goes to the one at work, those with it get None, and the place is free again."""
    turns: Turns[int, int] = Turns(1, 8)
    begun, go_on, waiting = threading.Event(), threading.Event(), 4

    def fail(items: Sequence[int]) -> Sequence[int]:
        raise OSError(28, "No space left on device")

    def hold(items: Sequence[int]) -> Sequence[int]:
        begun.set()
        go_on.wait()
        return items

    with ThreadPoolExecutor(6) as threads:
        first = threads.submit(turns.serve, "x", 0, hold)
        begun.wait()
        others = [threads.submit(turns.serve, "y", number, fail) for number in range(waiting)]
        while len(turns._waiting) < waiting:
            time.sleep(0.001)
        go_on.set()
        assert first.result() == 0
        outcomes = [other.exception() or other.result() for other in others]
    assert sum(isinstance(outcome, OSError) for outcome in outcomes) == 1
    assert outcomes.count(None) == waiting - 1
    assert turns.serve("z", 7, lambda items: [n + 1 for n in items]) == 8


def test_who_gives_up_waiting_is_not_served():
    """An exception while one waits takes the request back."""
    turns: Turns[int, int] = Turns(0, 1)
    turns._changed.wait = lambda *_: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign]  # as Ctrl-C
    with pytest.raises(KeyboardInterrupt):
        turns.serve("x", 1, lambda items: items)
    assert turns._waiting == []
