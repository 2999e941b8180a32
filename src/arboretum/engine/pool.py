"""The pool: worktrees of a repository that are used again and again, by any number of processes at once.

Choosing a slot is a moment under one lock of the pool; making and resetting it is not under that lock. Who holds
a slot holds a kernel lock on a file, so the slots of a process that died are free at once (`arboretum.engine.leases`).
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Self, cast

from attrs import define, evolve, field, frozen
from filelock import FileLock

from arboretum.engine.events import SlotChanged
from arboretum.engine.leases import end_strays, new_lease_id, try_lock, wait_for_lock
from arboretum.engine.leftovers import remove_asides
from arboretum.engine.reset import Proof, SlotNotCleanError, SlotReset
from arboretum.engine.slot_files import Ownership, SlotFiles, pool_folder
from arboretum.engine.slot_making import SlotMaking
from arboretum.engine.slots import (
    HELD,
    Slot,
    SlotState,
    Want,
    in_order_of_fitness,
    is_over_budget,
    number_for_new_slot,
    recovered,
)
from arboretum.engine.steps import Step, no_step
from arboretum.engine.survey import size_on_disk
from arboretum.engine.templates import Templates
from arboretum.errors import GitOperationError, LeaseLostError, PoolError, WorktreeNotFoundError
from arboretum.events import Observers
from arboretum.values import Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository

_log = logging.getLogger(__name__)

_LOCK_SECONDS: Final = 60.0
_MAX_DISTANCES: Final = 4096
_MEASURE_EVERY: Final = 16  # leases of a slot between two looks at its size, when there is a budget


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

    def unlock(self) -> None:
        """Let go of the kernel's lock; the pool does it when it has written the record."""
        if self._lock is not None:
            self._lock.release()


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
    _making: SlotMaking
    _step: Step
    _distances: dict[tuple[Oid, Oid], int] = field(factory=dict)
    _mutex: threading.Lock = field(factory=threading.Lock, init=False, repr=False)
    _own: dict[int, Lease] = field(factory=dict, init=False, repr=False)  # what is held here, by number

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
        # Without links in it, because git records the real paths of worktrees.
        folder = os.path.realpath(root or pool_folder(repository.common_dir))
        files = SlotFiles(folder, repository.common_dir, step)
        files.make()
        size = size or os.cpu_count() or 1
        reset = SlotReset(repository.backend, step)
        # A pool with a limit, or of one slot, has no use for what only new slots need.
        making = SlotMaking(repository, files, reset, step, keeps_template=max_bytes is None and size > 1)
        pool = cls(repository, size, max_bytes, observers or repository.observers, files, reset, making, step)
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
        while lease := self._choose(want, run):
            try:
                self._prepare(lease, want.commit, fresh=fresh)
            except _UnusableSlotError as error:
                _log.warning("slot %s is left alone: %s", lease.slot.name, error.message)
                self._give_back(lease, SlotState.DIRTY)
            except BaseException as error:
                if isinstance(error, PoolError):  # of a full disk, perhaps: what was half made goes now, not behind
                    self._files.empty_trash()
                self._give_back(lease, SlotState.DIRTY)
                raise
            else:
                return lease
        return None

    def release(self, lease: Lease, *, wipe: bool = False, untouched: bool = False) -> None:
        """Give a slot back as it is; it is reset when it is taken the next time. Giving back twice is allowed.

        Args:
            lease: The lease.
            wipe: Whether even its ignored files must not be seen by anyone else.
            untouched: Whether nothing was done in it.
        """
        if lease.is_held:
            lease.slot = evolve(lease.slot, wipe=wipe or lease.slot.wipe, used=time.time())
            if self._files.ownership(lease.slot) in {Ownership.BROKEN, Ownership.FOREIGN}:
                lease.slot = evolve(lease.slot, admin="")  # the trial did that: it is still ours to make anew
            if self.max_bytes is not None and (not lease.slot.bytes or lease.slot.trials % _MEASURE_EVERY == 0):
                lease.slot = evolve(lease.slot, bytes=size_on_disk(lease.path))
            self._give_back(lease, SlotState.FREE if untouched else SlotState.DIRTY)

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
        with self._locked():
            # What is held here is known without a look at its record or its lock: else each slot would look at all.
            own = {number: lease.slot for number, lease in dict(self._own).items() if lease.is_held}
            slots = self._files.read_all(own)
            others = (slot for slot in slots if slot.number not in own)
            for slot in in_order_of_fitness(others, want, self._distance):
                if lock := self._try_lock(slot.number):
                    over = is_over_budget(slots, self.max_bytes)
                    return self._reserve(recovered(slot), lock, run, wipe=slot.wipe or over)
            number = number_for_new_slot(slots, size=self.size, max_bytes=self.max_bytes)
            if number is None or not (lock := self._try_lock(number)):
                return None  # the last owner of that number may just be letting go of it
            return self._reserve(Slot(number=number, path=self._files.slot_path(number)), lock, run, wipe=False)

    def _try_lock(self, number: int) -> FileLock | None:
        self._step("lease.lock")
        return try_lock(self._files.slot_lock(number))

    def _reserve(self, slot: Slot, lock: FileLock, run: str, *, wipe: bool) -> Lease:
        lease = Lease(new_lease_id(), slot, lock=lock)
        claim = {"lease": lease.id, "run": run, "owner": os.getpid(), "trials": slot.trials + 1, "wipe": wipe}
        try:
            if slot.state is SlotState.RESERVED:  # it is new
                lease.slot = evolve(slot, **cast("dict[str, Any]", claim))
                self._keep(lease.slot, "")
            else:
                self._change(lease, SlotState.RESERVED, **claim)
        except BaseException:
            lease.unlock()
            raise
        self._own[slot.number] = lease
        return lease

    def _give_back(self, lease: Lease, state: SlotState) -> None:
        try:
            if lease.slot.state is not SlotState.RETIRED:
                self._change(lease, state)
            self._step("lease.unlock")
        except (PoolError, OSError) as error:  # whoever takes it next will see a dead owner's slot
            _log.warning("%s", error)
        finally:
            lease.unlock()
            self._own.pop(lease.slot.number, None)

    # --- making a slot ready ----------------------------------------------------------------------------------

    def _prepare(self, lease: Lease, commit: Oid, *, fresh: bool) -> None:
        if lease.slot.strays and (ended := end_strays(lease.slot.strays)):
            _log.warning("ended %d process(es) that a dead owner of slot %s had left", ended, lease.slot.name)
        self._change(lease, SlotState.PREPARING, strays="")
        proof: Proof | None = None
        match self._files.ownership(lease.slot):
            case Ownership.OURS:
                proof = self._try_reset(lease, commit, fresh=fresh)
            case Ownership.LOCKED:
                self._change(lease, SlotState.RETIRED, reason="somebody ran `git worktree lock` on it")
                raise _UnusableSlotError(lease.slot.reason)
            case Ownership.FOREIGN:
                self._change(lease, SlotState.RETIRED, reason="its folder is no longer the worktree that was made")
                raise _UnusableSlotError(lease.slot.reason)
            case _:
                pass
        proof = proof or self._making(lease.slot, commit, lambda slot: setattr(lease, "slot", slot))
        wiped = lease.slot.wipe and self.max_bytes is not None
        lease.slot, lease.ignored = proof.slot, proof.ignored
        if wiped:
            lease.slot = evolve(lease.slot, bytes=size_on_disk(lease.path))
        self._change(lease, SlotState.LEASED)

    def _try_reset(self, lease: Lease, commit: Oid, *, fresh: bool) -> Proof | None:
        try:
            return self._reset(lease.slot, commit, remove_ignored=fresh)
        except SlotNotCleanError as error:
            _log.warning("%s", error)
            return None

    # --- upkeep -----------------------------------------------------------------------------------------------

    def sweep(self) -> Sweep:
        """Put in order what processes that died have left. Slots in living hands are not touched.

        Raises:
            PoolError: The pool cannot be read or written.
        """
        done, forgotten = [], []
        with self._locked():
            self._files.remove_temporary_files()
            for slot in self._files.read_all():
                if not (lock := self._try_lock(slot.number)):
                    continue
                try:
                    if self._files.ownership(slot) is Ownership.MISSING and not slot.strays:
                        self._forget(slot)
                        forgotten.append(slot.number)
                    elif slot.state in HELD:
                        self._settle(recovered(slot), slot.state)
                        done.append(slot.number)
                    elif slot.state is SlotState.RETIRED and self._files.ownership(slot) is Ownership.OURS:
                        self._settle(slot.to(SlotState.DIRTY, reason=""), slot.state)
                finally:
                    lock.release()
            self._discard_asides()
            templates = Templates(self._files, self._step)
            templates.tidy() if self.max_bytes is None else templates.drop()
            self._forget_unknown_records()
            self._trim()
        remove_asides(self.repository, self._step)
        return Sweep(recovered=tuple(done), forgotten=tuple(forgotten), not_deleted=self._files.empty_trash())

    def clean(self) -> tuple[int, ...]:
        """Remove every slot that is in nobody's hands and is ours, with its record in the repository.

        Returns:
            The numbers of the slots that were removed.
        """
        removed = []
        with self._locked():
            for slot in self._files.read_all():
                if not (lock := self._try_lock(slot.number)):
                    continue
                try:
                    if slot.strays or slot.state in HELD:
                        end_strays(slot.strays or slot.lease)
                    if self._files.ownership(slot) not in {Ownership.LOCKED, Ownership.FOREIGN}:
                        self._files.discard(slot.path)
                        self._forget(slot)
                        removed.append(slot.number)
                finally:
                    lock.release()
            Templates(self._files, self._step).drop()
        self._files.empty_trash()
        return tuple(removed)

    def slots(self) -> tuple[Slot, ...]:
        """The records of all slots; those of dead owners as they will be found."""
        found = []
        for slot in self._files.read_all():
            lock = self._try_lock(slot.number)
            if lock is not None:
                lock.release()
            found.append(recovered(slot) if lock is not None else slot)
        return tuple(found)

    def check(self) -> tuple[str, ...]:
        """What is wrong with the pool right now, in sentences; empty when all is well. Changes nothing."""
        left = self._files.leftovers() + Templates(self._files, self._step).leftovers()
        problems = [f"{path} is left over" for path in left]
        slots = self._files.read_all()
        for slot in slots:
            lock = self._try_lock(slot.number)
            if lock is not None:
                lock.release()
                if slot.state in HELD:
                    problems.append(f"slot {slot.name} is {slot.state}, and its owner has died")
                ownership = self._files.ownership(slot)
                if slot.state is not SlotState.RETIRED and ownership is not Ownership.OURS:
                    problems.append(f"the worktree of slot {slot.name} is {ownership.value}")
        known = {slot.admin for slot in slots}
        problems += [f"{admin} is the record of no slot" for admin in self._files.admin_folders() if admin not in known]
        return tuple(problems)

    def _forget(self, slot: Slot) -> None:
        self._step("slot.remove-record")
        with contextlib.suppress(WorktreeNotFoundError):
            self.repository.backend.remove_worktree(slot.path, force=True)
        self._files.forget(slot.number)

    def _trim(self) -> None:
        """Remove slots that are in nobody's hands, the longest unused first, while all together take too much."""
        slots = self._files.read_all()
        for slot in sorted(slots, key=lambda slot: slot.used):
            if len(slots) > 1 and is_over_budget(slots, self.max_bytes) and (lock := self._try_lock(slot.number)):
                try:
                    if slot.state not in HELD and self._files.ownership(slot) is Ownership.OURS:
                        self._files.discard(slot.path)
                        self._forget(slot)
                        slots.remove(slot)
                finally:
                    lock.release()

    def _discard_asides(self) -> None:
        """Remove snapshots whose maker died before they had taken their slot's place."""
        for number, path in self._files.asides():
            if lock := self._try_lock(number):
                self._files.discard(path)
                lock.release()

    def _forget_unknown_records(self) -> None:
        """Remove git's records of worktrees of ours that are gone."""
        known = {slot.path for slot in self._files.read_all()}
        for path in self._files.registered_paths():
            if path not in known and not os.path.lexists(path):
                self._step("slot.remove-record")
                with contextlib.suppress(GitOperationError):
                    self.repository.backend.remove_worktree(path, force=True)

    # --- inside -----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        """Choose and change slots alone; what the system refuses meanwhile becomes an error of ours."""
        try:
            self._step("pool.lock")
            with self._mutex:  # threads queue here, without polling; the kernel's lock is for other processes
                lock = wait_for_lock(self._files.pool_lock, timeout=_LOCK_SECONDS)
                try:
                    yield
                finally:
                    lock.release()
        except OSError as error:
            raise PoolError(
                f"the pool of worktrees in {self.root} cannot be used: {error}",
                hint="check the space and the permissions there",
            ) from error

    def _change(self, lease: Lease, state: SlotState, /, **changes: Any) -> None:
        previous = lease.slot.state
        lease.slot = lease.slot.to(state, **changes)
        self._keep(lease.slot, previous)

    def _keep(self, slot: Slot, previous: str) -> None:
        self._files.write(slot)
        self.observers(SlotChanged(run=slot.run, slot=slot.name, state=slot.state, previous=previous, lease=slot.lease))

    def _settle(self, slot: Slot, previous: str) -> None:
        """Keep what became of a dead owner's slot. On a full disk the next sweep does; a pool can be cleaned there."""
        try:
            self._keep(slot, previous)
        except PoolError as error:
            _log.info("%s", error)

    def _distance(self, one: Oid, two: Oid) -> int:
        """How many paths differ, remembered; only worth asking for where many files may have to be written."""
        if one == two:
            return 0
        if (known := self._distances.get((one, two))) is None:
            if len(self._distances) >= _MAX_DISTANCES:
                self._distances.clear()
            try:
                known = len(self.repository.backend.diff_trees(one, two, renames=False))
            except GitOperationError:
                known = 1 << 30
            self._distances[one, two] = known
        return known


class _UnusableSlotError(PoolError):
    """The slot that was chosen may not be touched; another one has to be taken."""
