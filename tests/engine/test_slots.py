"""The pool's decisions, without any I/O: states and what may follow, the order of choice, growth."""

from __future__ import annotations

import itertools

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from arboretum.engine.slots import (
    HELD,
    MANY_FILES,
    Slot,
    SlotState,
    Want,
    in_order_of_fitness,
    is_over_budget,
    number_for_new_slot,
    recovered,
)
from arboretum.errors import PoolError
from arboretum.values import Oid

OIDS = [Oid(digit * 40) for digit in "abc"]
states = st.sampled_from(SlotState)


@st.composite
def slot_lists(draw: st.DrawFn) -> list[Slot]:
    numbers = draw(st.lists(st.integers(0, 12), unique=True, max_size=8))
    return [
        Slot(
            number=number,
            path=f"/slots/{number}",
            state=draw(states),
            commit=draw(st.none() | st.sampled_from(OIDS)),
            setup=draw(st.sampled_from(["", "s1", "s2"])),
            wipe=draw(st.booleans()),
            used=draw(st.floats(0, 100)),
            bytes=draw(st.integers(0, 100)),
        )
        for number in sorted(numbers)
    ]


wants = st.builds(Want, commit=st.sampled_from(OIDS), setup=st.sampled_from(["", "s1"]))


def distance(one: Oid, two: Oid) -> int:
    return abs(ord(one[0]) - ord(two[0]))


@given(states, states)
def test_a_held_slot_is_never_taken_by_another(state, following):
    """No state in which a slot is in somebody's hands can be followed by `reserved`: it has to be given back first."""
    slot = Slot(number=0, path="/x", state=state, lease="mine")
    try:
        after = slot.to(following)
    except PoolError:
        return
    assert after.state is following
    assert not (state in HELD and following is SlotState.RESERVED)


@given(states)
def test_a_dead_owners_slot_is_dirty_and_its_processes_are_looked_for(state):
    """Recovery makes a held slot dirty and remembers the dead lease; it changes no other slot; twice is once."""
    slot = Slot(number=0, path="/x", state=state, lease="dead")
    after = recovered(slot)
    assert after == (evolve(slot, state=SlotState.DIRTY, strays="dead") if state in HELD else slot)
    assert recovered(after) == after


@given(slot_lists(), wants)
def test_the_order_of_choice_holds_every_usable_slot_once(slots, want):
    """Every slot that is not retired is offered exactly once, and no retired one is."""
    order = in_order_of_fitness(slots, want, distance)
    assert sorted(slot.number for slot in order) == [s.number for s in slots if s.state is not SlotState.RETIRED]


@given(slot_lists(), wants)
def test_a_slot_that_needs_less_work_comes_first(slots, want):
    """No slot comes before one that has the setup it lacks, or that (setups equal) stands where it should."""
    order = in_order_of_fitness(slots, want, distance)

    def lacks_setup(slot: Slot) -> bool:
        return bool(want.setup) and slot.setup != want.setup

    for first, second in itertools.pairwise(order):
        assert (lacks_setup(first), first.commit != want.commit) <= (lacks_setup(second), second.commit != want.commit)


@given(slot_lists(), wants)
def test_of_slots_alike_the_nearest_comes_first(slots, want):
    """Among slots that are whole and stand elsewhere, those with fewer changes to be made come first."""
    alike = [
        evolve(slot, state=SlotState.DIRTY, setup=want.setup, wipe=False, files=MANY_FILES)
        for slot in slots
        if slot.commit not in {None, want.commit}
    ]
    changes = [distance(slot.commit, want.commit) for slot in in_order_of_fitness(alike, want, distance)]
    assert changes == sorted(changes)


@given(slot_lists(), st.integers(1, 10), st.none() | st.integers(0, 500))
def test_growth_keeps_within_number_and_budget(slots, size, budget):
    """A new slot gets a number that is not taken, and is only made within the limits; the first one always may be."""
    number = number_for_new_slot(slots, size=size, max_bytes=budget)
    counted = [slot for slot in slots if slot.state is not SlotState.RETIRED]
    if not counted:
        assert number is not None
    if number is None:
        expected = max((slot.bytes for slot in counted), default=0)
        total = sum(slot.bytes or expected for slot in counted)
        assert len(counted) >= size or (budget is not None and total + expected > budget)
    else:
        assert len(counted) < size
        assert number not in {slot.number for slot in slots}
    assert is_over_budget(slots, budget) == (budget is not None and sum(slot.bytes for slot in slots) > budget)


def test_what_may_follow_is_what_the_picture_shows():
    """The transitions are exactly these."""
    allowed = set()
    for state in SlotState:
        for following in SlotState:
            try:
                Slot(number=0, path="/x", state=state).to(following)
            except PoolError:
                continue
            allowed.add(f"{state}>{following}")
    assert allowed == {
        "free>reserved", "free>retired", "reserved>preparing", "reserved>dirty", "reserved>retired",
        "preparing>leased", "preparing>dirty", "preparing>retired", "leased>dirty", "leased>free", "leased>retired",
        "dirty>reserved", "dirty>retired", "retired>reserved", "retired>dirty",
    }  # fmt: skip
    with pytest.raises(PoolError, match="slot 0 cannot go from dirty to leased"):
        Slot(number=0, path="/x", state=SlotState.DIRTY).to(SlotState.LEASED)


class PoolModel(RuleBasedStateMachine):
    """Several owners that take, lose, give back and die, on the pure functions; the kernel's locks are a set."""

    def __init__(self) -> None:
        super().__init__()
        self.slots: dict[int, Slot] = {}
        self.locked: dict[int, str] = {}  # which live owner holds the kernel's lock of a slot
        self.leases = 0

    @rule(want=wants, size=st.integers(1, 4))
    def take(self, want, size):
        order = in_order_of_fitness(self.slots.values(), want, distance)
        chosen = next((recovered(slot) for slot in order if slot.number not in self.locked), None)
        if chosen is None:
            number = number_for_new_slot(list(self.slots.values()), size=size, max_bytes=None)
            if number is None:
                assert len(self.locked) >= size
                return
            assert number not in self.locked
            chosen = Slot(number=number, path=f"/{number}", state=SlotState.FREE)
        self.leases += 1
        lease = f"lease-{self.leases}"
        assert chosen.number not in self.locked, "a slot was leased twice"
        self.locked[chosen.number] = lease
        self.slots[chosen.number] = chosen.to(SlotState.RESERVED, lease=lease)

    @precondition(lambda self: self.locked)
    @rule(data=st.data())
    def go_on(self, data):
        number = data.draw(st.sampled_from(sorted(self.locked)))
        slot = self.slots[number]
        following = {SlotState.RESERVED: SlotState.PREPARING, SlotState.PREPARING: SlotState.LEASED}.get(slot.state)
        if following is not None:
            self.slots[number] = slot.to(following, strays="")

    @precondition(lambda self: self.locked)
    @rule(data=st.data())
    def give_back(self, data):
        number = data.draw(st.sampled_from(sorted(self.locked)))
        self.slots[number] = self.slots[number].to(SlotState.DIRTY)
        del self.locked[number]

    @precondition(lambda self: self.locked)
    @rule(data=st.data())
    def die(self, data):
        del self.locked[data.draw(st.sampled_from(sorted(self.locked)))]

    @invariant()
    def every_lock_has_a_record_of_its_holder(self):
        for number, lease in self.locked.items():
            assert self.slots[number].state in HELD
            assert self.slots[number].lease == lease


TestPoolModel = PoolModel.TestCase
