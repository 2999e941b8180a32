"""The pool: worktrees of a repository that are used again and again, by any number of processes at once.

Choosing a slot is a moment under one lock of the pool; making and resetting it is not under that lock. Who holds
a slot holds a kernel lock on a file, so the slots of a process that died are free at once (`arboretum.engine.leases`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Self

from attrs import define, evolve, field, frozen
from filelock import FileLock

from arboretum.engine import admin_state
from arboretum.engine.events import SlotChanged
from arboretum.engine.leases import end_strays, new_lease_id, try_lock, wait_for_lock
from arboretum.engine.reset import NotClean, Proof, SlotReset
from arboretum.engine.slot_files import Ownership, SlotFiles, pool_folder, read_link
from arboretum.engine.slots import HELD, Slot, SlotState, Want, in_order_of_fitness, number_for_new_slot, recovered
from arboretum.engine.steps import Step, no_step
from arboretum.errors import GitOperationError, LeaseLostError, PoolError, WorktreeNotFoundError
from arboretum.events import Observers
from arboretum.values import Oid, WorktreeSpec

if TYPE_CHECKING:
    from arboretum.repository import Repository

_log = logging.getLogger(__name__)

_LOCK_SECONDS: Final = 60.0
_MANY_FILES: Final = 2000  # below this a reset costs about the same whatever differs
_MAX_DISTANCES: Final = 4096


@define(eq=False)
class Lease:
    """The right to do anything in one slot, until it is given back or this process ends.

    Args:
        id: Random; it is also what the slot's record and the environment of its commands carry.
        slot: The slot's record.
        ignored: The ignored paths that were in the slot when it was proven clean.
    """

    id: str
    slot: Slot
    ignored: tuple[str, ...] = ()
    _lock: FileLock | None = field(default=None, repr=False)

    @property
    def path(self) -> str:
        """The folder of the slot's worktree."""
        return self.slot.path

    @property
    def is_held(self) -> bool:
        """Whether it has not been given back."""
        return self._lock is not None and self._lock.is_locked


@frozen(kw_only=True)
class Sweep:
    """What a sweep has put in order.

    Args:
        recovered: Slots whose owner had died.
        forgotten: Slots whose worktree was gone.
        not_deleted: Discarded folders that the system would not delete.
    """

    recovered: tuple[int, ...] = ()
    forgotten: tuple[int, ...] = ()
    not_deleted: tuple[str, ...] = ()


@define(eq=False)
class WorktreePool:
    """The slots of a repository.

    Args:
        repository: Whose worktrees the slots are; apart from them it is never changed.
        size: How many slots there may be.
        max_bytes: How much disk space they may take; None for no limit.
        observers: Told of every change of a slot's state.
        root: The folder of the pool.
    """

    repository: Repository
    size: int
    max_bytes: int | None
    observers: Observers
    _files: SlotFiles
    _reset: SlotReset
    _step: Step
    _distances: dict[tuple[Oid, Oid], int] = field(factory=dict)

    @classmethod
    def open(
        cls,
        repository: Repository,
        *,
        size: int | None = None,
        max_bytes: int | None = None,
        root: str | None = None,
        observers: Observers | None = None,
        step: Step = no_step,
    ) -> Self:
        """The pool of `repository`, made where it is missing and swept where an owner has died.

        Args:
            repository: Whose worktrees the slots are.
            size: How many slots there may be; None for one for each processor.
            max_bytes: How much disk space they may take; None for no limit.
            root: The folder of the pool; None for the repository's own in the user's cache folder.
            observers: Told of every change; None for the repository's.
            step: For tests.

        Raises:
            PoolError: The folder cannot be made or written.
        """
        files = SlotFiles(root or pool_folder(repository.common_dir), repository.common_dir, step)
        files.make()
        size = size or os.cpu_count() or 1
        reset = SlotReset(repository.backend, step)
        pool = cls(repository, size, max_bytes, observers or repository.observers, files, reset, step)
        pool.sweep()
        return pool

    @property
    def root(self) -> str:
        """The folder of the pool."""
        return self._files.root

    # --- leases -----------------------------------------------------------------------------------------------

    def try_acquire(self, want: Want, *, run: str = "", fresh: bool = False) -> Lease | None:
        """Take the fittest slot that is in nobody's hands, and bring it to `want.commit`.

        Args:
            want: What the trial needs.
            run: The run it is for.
            fresh: Whether ignored files have to go first.

        Returns:
            The lease; None when all slots are in somebody's hands and no more may be made.

        Raises:
            PoolError: The slot could be neither brought there nor made anew.
        """
        lease = self._choose(want, run)
        if lease is None:
            return None
        try:
            self._prepare(lease, want.commit, fresh=fresh)
        except BaseException:
            self._give_back(lease, SlotState.DIRTY)
            raise
        return lease

    def release(self, lease: Lease, *, wipe: bool = False) -> None:
        """Give a slot back as it is; it is reset when it is taken the next time. Giving back twice is allowed.

        Args:
            lease: The lease.
            wipe: Whether even its ignored files must not be seen by anyone else.
        """
        if lease.is_held:
            lease.slot = evolve(lease.slot, wipe=wipe or lease.slot.wipe, used=time.time())
            self._give_back(lease, SlotState.DIRTY)

    def note_setup(self, lease: Lease, digest: str) -> None:
        """Keep that the setup with this digest is done in the slot; empty: one has begun and may fail half-way.

        Raises:
            LeaseLostError: The lease has been given back.
        """
        if not lease.is_held:
            raise LeaseLostError(f"the lease {lease.id} does not hold slot {lease.slot.name} any more")
        lease.slot = evolve(lease.slot, setup=digest, wipe=not digest)
        self._files.write(lease.slot)

    def _choose(self, want: Want, run: str) -> Lease | None:
        lease_id = new_lease_id()
        with self._locked():
            slots = self._files.read_all()
            for slot in in_order_of_fitness(slots, want, self._distance):
                self._step("lease.lock")
                lock = try_lock(self._files.slot_lock(slot.number))
                if lock is None:
                    continue
                try:
                    return self._reserve(recovered_from(slot), lease_id, run, lock)
                except BaseException:
                    lock.release()
                    raise
            number = number_for_new_slot(slots, size=self.size, max_bytes=self.max_bytes)
            if number is None:
                return None
            self._step("lease.lock")
            lock = try_lock(self._files.slot_lock(number))
            if lock is None:
                return None  # its last owner is just letting go of it
            try:
                slot = Slot(number=number, path=self._files.slot_path(number), lease=lease_id, run=run, owner=os.getpid())
                self._keep(slot, previous="")
            except BaseException:
                lock.release()
                raise
            return Lease(lease_id, slot, lock=lock)
