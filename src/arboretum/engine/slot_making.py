"""Making slots: a worktree without files first, then files from a warm sibling, else from a checkout.

A slot whose every file was proven as it was copied, at the commit of the copied index, is proven by that. Any other
goes through the same reset and the same proof as a used one. If that fails it is made once more, by a checkout.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import TYPE_CHECKING

from attrs import define, evolve, field

from arboretum.engine import admin_state
from arboretum.engine.leases import LEASE_VARIABLE, new_lease_id
from arboretum.engine.reset import Proof, SlotNotCleanError, SlotReset
from arboretum.engine.slot_files import Ownership, SlotFiles, read_link
from arboretum.engine.slots import Slot, SlotState
from arboretum.engine.steps import Step
from arboretum.engine.templates import Templates
from arboretum.errors import GitOperationError, PoolError, words_of
from arboretum.values import Oid, WorktreeSpec
from arboretum.worktree_files import btrfs
from arboretum.worktree_files.choice import Ability
from arboretum.worktree_files.copying import settle
from arboretum.worktree_files.model import Sibling, Target

if TYPE_CHECKING:
    from arboretum.repository import Repository

_log = logging.getLogger(__name__)

#: Told of each state of a slot's record while it is made; it has been written already.
Keep = Callable[[Slot], None]


@define(eq=False, slots=False)
class SlotMaking:
    """Makes the worktrees of slots.

    Args:
        repository: Whose worktrees they are.
        files: Where they are.
        reset: Brings a slot to a commit and proves it.
        keeps_template: Whether a template is worth its space.
    """

    repository: Repository
    _files: SlotFiles
    _reset: SlotReset
    _step: Step
    keeps_template: bool = True
    _first: threading.Lock = field(factory=threading.Lock, init=False, repr=False)
    _last: int | None = field(default=None, init=False)  # the slot that was found to be copied last

    @cached_property
    def ability(self) -> Ability:
        """What the file system of the pool can do."""
        return Ability.probe(self._files.trash)

    @cached_property
    def templates(self) -> Templates | None:
        """The template that new slots are snapshots of; None where there are no snapshots."""
        return Templates(self._files, self._step) if self.keeps_template and self.ability.snapshots else None

    def __call__(self, slot: Slot, commit: Oid, keep: Keep) -> Proof:
        """Make the worktree of a slot anew; what was there and is ours goes into the trash.

        Args:
            slot: The slot, whose lock the caller holds.
            commit: Where it is to stand.
            keep: Told of the record whenever it has changed.

        Returns:
            The proof that it is there; it is in the slot's record already.

        Raises:
            PoolError: It cannot be made.
            SlotNotCleanError: It was made, and is not as the commit says.
        """
        with self._warm_sibling(slot, commit) as sibling:
            if sibling is not None:
                with contextlib.suppress(SlotNotCleanError, OSError):
                    return self._made(slot, commit, keep, sibling)
                _log.warning("slot %s was not right as a copy of %s: it is checked out", slot.name, sibling.path)
            return self._made(slot, commit, keep, None)

    def _made(self, slot: Slot, commit: Oid, keep: Keep, sibling: Sibling | None) -> Proof:
        slot, whole = self._add(slot, commit, keep, sibling), False
        if sibling is not None and admin_state.read_sparse(slot.admin) == sibling.sparse:
            slot, whole = self._fill(slot, sibling)
        if whole and slot.commit == commit == admin_state.head_of(slot.admin):
            proof = self._proven_as_copied(slot)
        else:
            proof = self._reset(slot, commit, untouched=True)
        if not slot.index:
            proof = evolve(proof, slot=self._settled(proof.slot))
        self._keep(proof.slot, keep)
        if self.templates is not None and not (sibling and sibling.state and sibling.commit == commit):
            self.templates.make(proof.slot, sha256=self.repository.backend.sha256)
        self._files.empty_trash()
        return proof

    def _add(self, slot: Slot, commit: Oid, keep: Keep, sibling: Sibling | None) -> Slot:
        """The worktree, without files and without an index."""
        try:
            self._files.discard(slot.path)
            self._files.discard(self._files.aside(slot.path))
            slot = evolve(
                slot,
                admin="",
                token=new_lease_id(),
                commit=None,
                setup="",
                wipe=False,
                index="",
                written=0,
                sparse={},
                bytes=0,
            )
            self._keep(slot, keep)
            self._step("slot.add")
            if self.ability.snapshots and not (sibling and sibling.state):
                btrfs.make_subvolume(slot.path)
            self.repository.backend.add_worktree(
                WorktreeSpec(path=slot.path, detach=commit, checkout=False, force=True)
            )
            admin = read_link(slot.path)
            if admin is None:
                raise PoolError(f"{slot.path} is no worktree after it was made")
            slot = evolve(slot, admin=admin, sparse=admin_state.read_sparse(admin))
            self._files.mark_as_ours(slot)
            self._keep(slot, keep)
        except (GitOperationError, OSError) as error:
            raise PoolError(
                f"cannot make the worktree of slot {slot.name} in {slot.path}: {words_of(error)}",
                hint=getattr(error, "hint", "") or "check the space and the permissions there",
            ) from error
        return slot

    def _keep(self, slot: Slot, keep: Keep) -> None:
        self._files.write(slot)
        keep(slot)

    def _settled(self, slot: Slot) -> Slot:
        """Let git trust the files that it has just written, here and in every copy of the slot."""
        sha256 = self.repository.backend.sha256
        self._step("slot.settle")
        with contextlib.suppress(OSError):
            settle(slot.path, slot.admin, sha256=sha256)
        index = admin_state.read_index(slot.admin, trusted=None, sha256=sha256)
        return evolve(slot, index=index.checksum, written=index.written)

    # --- files from a sibling ---------------------------------------------------------------------------------

    def _proven_as_copied(self, slot: Slot) -> Proof:
        """The proof of a slot that was empty, and got every file of a clean index, each seen to be the one in there.

        Nothing else can be in it, and git would find what the index says: it says what was found when they were made.
        """
        index = admin_state.read_index(slot.admin, trusted=None, sha256=self.repository.backend.sha256)
        return Proof(slot=evolve(slot, index=index.checksum, files=index.files), ignored=())

    def _fill(self, slot: Slot, sibling: Sibling) -> tuple[Slot, bool]:
        """Give the slot files by the first way that works, and whether all are there and proven; else as it is."""
        sha256 = self.repository.backend.sha256
        target = Target(path=slot.path, admin=slot.admin, sha256=sha256, environment={LEASE_VARIABLE: slot.lease})
        for source in self.ability.sources():
            self._step(f"slot.{source.name}")
            if (filled := source.fill(sibling, target)) is not None:
                _log.debug("slot %s has its files by %s of %s: %s", slot.name, source.name, sibling.path, filled)
                index = admin_state.index_checksum(slot.admin, sha256=sha256) or ""
                return evolve(slot, commit=sibling.commit, index=index), not filled.left
        return slot, False

    @contextlib.contextmanager
    def _warm_sibling(self, slot: Slot, commit: Oid) -> Iterator[Sibling | None]:
        """The slot that is copied. While there is none the first one is made alone, for the others to be its copies."""
        found = self._find_sibling(slot, commit)
        if found is None:
            with self._first:
                if (found := self._find_sibling(slot, commit)) is None:
                    yield None
                    return
        yield found

    def _find_sibling(self, slot: Slot, commit: Oid) -> Sibling | None:
        """The template; else a slot whose index is the one of its last proof, at this commit if there is one.

        Such a slot may be in somebody's hands, and changed since: that is found out file by file (`file_copy`).
        """
        if self.templates is not None and (template := self.templates.find()) is not None:
            return template
        if self._last is not None:  # not to look at all slots for each new one
            last = self._files.read(self._last)
            if last.commit == commit and (sibling := self._as_sibling(last, slot)) is not None:
                return sibling
        for other in sorted(self._files.read_all(), key=lambda s: (s.commit != commit, -s.used)):
            if (sibling := self._as_sibling(other, slot)) is not None:
                self._last = other.number
                return sibling
        return None

    def _as_sibling(self, other: Slot, slot: Slot) -> Sibling | None:
        if not other.index or other.commit is None or other.state is SlotState.RETIRED or other.number == slot.number:
            return None
        if self._files.ownership(other) is not Ownership.OURS:
            return None
        return _sibling(other, sha256=self.repository.backend.sha256)


def _sibling(slot: Slot, *, sha256: bool) -> Sibling | None:
    assert slot.commit is not None
    try:
        with open(os.path.join(slot.admin, "index"), "rb") as file:
            data, settled = file.read(), os.fstat(file.fileno()).st_mtime_ns
    except OSError:
        return None
    if data[-32 if sha256 else -20 :].hex() != slot.index:
        return None
    return Sibling(path=slot.path, index=data, settled=settled, commit=slot.commit, sparse=slot.sparse)
