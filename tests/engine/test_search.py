"""The order of trying: what the search keeps in queues is what a plain look at everything would give."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from arboretum.engine.model import CONTROL, Outcome
from arboretum.engine.search import HypothesisSearch, OncePerSubject, TrialKey
from arboretum.engine.verdict import is_decided, judge
from tests.engine.trials import F, P, plan, trial


def plainly_wanted(search: HypothesisSearch, running: list[TrialKey], limit: int) -> list[TrialKey]:
    """What `HypothesisSearch.wanted` promises, by looking at every subject and every attempt."""
    settings = search.plan
    if search.is_over:
        return []
    subjects = [
        subject
        for subject in (CONTROL, *(h.id for h in search.order))
        if len(search.trials[subject]) < settings.repeats
        and not is_decided(search.trials[subject].values(), confidence=settings.confidence)
    ]
    attempts = range(1, settings.repeats + 1)
    keys = [(subject, attempt) for attempt in attempts for subject in subjects]
    if settings.stop_on_supported:
        keys = [(subject, attempt) for subject in subjects for attempt in attempts]
    going_on = [key for key in running if key[0] in subjects][:limit]
    others = [key for key in keys if key[1] not in search.trials[key[0]] and key not in going_on]
    return [*going_on, *others[: limit - len(going_on)]]


@given(
    count=st.integers(1, 5), repeats=st.integers(1, 4), stop=st.booleans(), limit=st.integers(1, 6), data=st.data()
)  # fmt: skip
def test_the_queues_name_what_a_look_at_everything_names(
    count: int, repeats: int, stop: bool, limit: int, data: st.DataObject
) -> None:
    """Whatever the trials say, in whichever order they end, the next ones are the first untried of the open ones."""
    search = HypothesisSearch(plan(*(f"h{n}" for n in range(count)), repeats=repeats, stop_on_supported=stop))
    running: list[TrialKey] = []
    for _ in range(3 * (count + 1) * repeats):
        wanted = list(search.wanted(running, limit))
        assert wanted == plainly_wanted(search, running, limit)
        if not wanted:
            return
        ended = data.draw(st.sampled_from(wanted))
        running = [key for key in wanted if key != ended]
        outcome = data.draw(st.sampled_from([P, P, F, Outcome.TIMEOUT]))
        search.record(trial(outcome, ended[1], hypothesis=ended[0]))
        for hypothesis in search.plan.hypotheses:
            told = judge(hypothesis, search.trials_of(hypothesis.id), search.control)
            assert search.judge(hypothesis) == told, "a remembered judgement is not out of date"


@given(trees=st.lists(st.sampled_from("abcd"), min_size=1, max_size=12), limit=st.integers(1, 5), data=st.data())
def test_of_equal_trees_one_is_tried(trees: list[str], limit: int, data: st.DataObject) -> None:
    """Each tree is tried once, by the first that has it, in the order given; a cancelled trial is wanted again."""
    search = OncePerSubject({f"{n:040x}": tree for n, tree in enumerate(trees)})
    firsts = [f"{trees.index(tree):040x}" for tree in dict.fromkeys(trees)]
    while wanted := search.wanted((), limit):
        assert [subject for subject, _ in wanted] == firsts[:limit]
        ended, _ = data.draw(st.sampled_from(list(wanted)))
        cancelled = data.draw(st.booleans())
        search.record(trial(Outcome.CANCELLED if cancelled else P, hypothesis=ended))
        if not cancelled:
            firsts.remove(ended)
    assert not firsts
    assert search.results.keys() == set(trees)
