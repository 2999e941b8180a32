"""Slots of a pool, as values: their states, what may follow what, and which one suits a trial best. No I/O.

::

    (none) ──> reserved ──> preparing ──> leased ──> dirty ──> reserved ──> ...
                  │             │           └──> free (never used) ──^
                  └─────────────┴──> dirty (failed, cancelled, or its owner died)

    any ──> retired (damaged, or not ours any more) ──> reserved (when it could be made anew)

A record says what a slot's last owner did with it. Whether that owner still lives is not in the record: the
kernel knows (see `arboretum.engine.leases`).
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from attrs import evolve, field, frozen

from arboretum.errors import PoolError
from arboretum.values import Oid

#: How many paths differ between two commits, at a guess; 0 for the same tree.
Distance = Callable[[Oid, Oid], int]


class SlotState(enum.StrEnum):
    """What a slot is to the pool."""

    FREE = "free"  # clean and proven so, in nobody's hands
    RESERVED = "reserved"  # claimed; nothing of it has been touched yet
    PREPARING = "preparing"  # being made, or being brought to a commit
    LEASED = "leased"  # in the hands of a trial, which may do anything in it
    DIRTY = "dirty"  # given back as the trial left it
    RETIRED = "retired"  # not to be used, and left alone


_NEXT: Final[Mapping[SlotState, frozenset[SlotState]]] = {
    SlotState.FREE: frozenset({SlotState.RESERVED, SlotState.RETIRED}),
    SlotState.RESERVED: frozenset({SlotState.PREPARING, SlotState.DIRTY, SlotState.RETIRED}),
    SlotState.PREPARING: frozenset({SlotState.LEASED, SlotState.DIRTY, SlotState.RETIRED}),
    SlotState.LEASED: frozenset({SlotState.FREE, SlotState.DIRTY, SlotState.RETIRED}),
    SlotState.DIRTY: frozenset({SlotState.RESERVED, SlotState.RETIRED}),
    SlotState.RETIRED: frozenset({SlotState.RESERVED, SlotState.DIRTY}),
}
#: The states in which a slot is in somebody's hands.
HELD: Final = frozenset({SlotState.RESERVED, SlotState.PREPARING, SlotState.LEASED})


@frozen(kw_only=True)
class Slot:
    """What is recorded of one slot.

    Args:
        number: Its number in the pool, from 0.
        path: The folder of its worktree.
        state: What it is to the pool.
        lease: The id of the lease that holds it, or held it last.
        owner: The process that wrote this record; for people, never for decisions.
        run: The run of the lease.
        strays: The lease of an owner who died, as long as processes of it may still run.
        admin: The worktree's folder in the common git directory; empty until it is known.
        token: A random text that is kept in `admin`, too: what makes the worktree ours.
        commit: Where it was last proven to stand.
        setup: The digest of the setup that was done in it; empty for none.
        wipe: Whether ignored files have to go before it is used again.
        sparse: The worktree's own configuration when it was made, by file name; what a reset goes back to.
        index: The checksum of the index at the last proof.
        written: When that index was written, in nanoseconds since the epoch; 0 where that is not known.
        files: How many files its index has.
        bytes: What it takes on the disk, when last measured.
        trials: How many leases it has seen.
        used: When it was last given back, in seconds since the epoch.
        reason: Why it is retired.
    """

    number: int
    path: str
    state: SlotState = SlotState.RESERVED
    lease: str = ""
    owner: int = 0
    run: str = ""
    strays: str = ""
    admin: str = ""
    token: str = ""
    commit: Oid | None = None
    setup: str = ""
    wipe: bool = False
    sparse: Mapping[str, str] = field(factory=dict)
    index: str = ""
    written: int = 0
    files: int = 0
    bytes: int = 0
    trials: int = 0
    used: float = 0.0
    reason: str = ""

    @property
    def name(self) -> str:
        """What events and people call it."""
        return str(self.number)

    def to(self, state: SlotState, **changes: Any) -> Slot:
        """The slot in its next state.

        Raises:
            PoolError: That state cannot follow this one.
        """
        if state not in _NEXT[self.state]:
            raise PoolError(f"slot {self.name} cannot go from {self.state} to {state}")
        return evolve(self, state=state, **changes)


@frozen(kw_only=True)
class Want:
    """What a trial needs of a slot.

    Args:
        commit: Where it is to stand.
        setup: The digest of the setup it needs; empty for none.
    """

    commit: Oid
    setup: str = ""


#: In a worktree of fewer files it hardly matters which slot is the nearest.
MANY_FILES: Final = 2_000


def recovered(slot: Slot) -> Slot:
    """The record of a slot whose owner has died: dirty if it was in somebody's hands, else as it was."""
    return slot.to(SlotState.DIRTY, strays=slot.lease) if slot.state in HELD else slot


def in_order_of_fitness(slots: Iterable[Slot], want: Want, distance: Distance) -> list[Slot]:
    """The slots that may be used, the fittest first; which of them are in somebody's hands has to be tried.

    The order: the setup is done there; it stands at the commit; no crash and no wiping is to be made good; it
    needs the fewest changes; it was given back last (its files are the likeliest to be in memory).
    """
    usable = [slot for slot in slots if slot.state is not SlotState.RETIRED]
    guess = distance if len(usable) > 1 else lambda _one, _two: 1

    def misfit(slot: Slot) -> tuple[object, ...]:
        # A look at what differs starts a git; below so many files that costs more than the better choice saves.
        asks = slot.files >= MANY_FILES and slot.state not in HELD and slot.commit != want.commit
        changes = guess(slot.commit, want.commit) if asks and slot.commit else 0
        return (
            bool(want.setup) and slot.setup != want.setup,
            slot.commit != want.commit,
            slot.state in HELD or slot.wipe or slot.commit is None,
            changes,
            -slot.used,
            slot.number,
        )

    return sorted(usable, key=misfit)


def number_for_new_slot(slots: Sequence[Slot], *, size: int, max_bytes: int | None) -> int | None:
    """The number that a new slot may get; None when the pool may not grow.

    Args:
        slots: All slots there are.
        size: How many there may be; retired ones do not count.
        max_bytes: How many bytes they may take together; the first slot may always be made.
    """
    counted = [slot for slot in slots if slot.state is not SlotState.RETIRED]
    if len(counted) >= size:
        return None
    if max_bytes is not None and counted:
        expected = max(slot.bytes for slot in counted)
        if sum(slot.bytes or expected for slot in counted) + expected > max_bytes:
            return None
    taken = {slot.number for slot in slots}
    return next(number for number in range(len(taken) + 1) if number not in taken)


def is_over_budget(slots: Iterable[Slot], max_bytes: int | None) -> bool:
    """Whether the slots take more than they may together."""
    return max_bytes is not None and sum(slot.bytes for slot in slots) > max_bytes
