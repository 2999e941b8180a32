"""Bring a slot to a commit, whatever the last trial did in it, and prove it.

The order: stale locks and half-done operations go; HEAD is detached; tracked files are restored; untracked ones go
(after that, so that the commit's own ignore rules count); submodules follow. The proof is the reset itself where it
began from the index of the last proof (`proven_index`), with a look at all folders. Elsewhere `status` proves that
nothing differs, and a look at everything that nothing is left which `status` does not see. What that does not mend is
tried once more, with an index that trusts nothing and with closed folders opened. A slot that still does not prove
clean is for the pool to make anew.
"""

from __future__ import annotations

import os
import shutil
from functools import cached_property
from typing import Final

from attrs import define, evolve, field, frozen

from arboretum.backends.base import Capability, GitBackend
from arboretum.bootstrap import backend_factory
from arboretum.engine import admin_state
from arboretum.engine.proven_index import Folders, Layout, ProvenIndex, YoungFiles, recorded_changes
from arboretum.engine.slot_files import open_folders
from arboretum.engine.slots import Slot
from arboretum.engine.steps import Step, no_step
from arboretum.engine.survey import Survey, put_right, survey
from arboretum.errors import GitOperationError, PoolError
from arboretum.values import FileMode, Oid, ResetMode, StatusEntry
from arboretum.worktree_files.index_format import Shape

#: So many files are remembered of a slot; more are only in one that was just made.
_MAX_YOUNG: Final = 2_000
#: Of more files git finds out sooner whether one was changed, its start included.
_FEW_FILES: Final = 1_000


@frozen(kw_only=True)
class Proof:
    """What a reset slot was seen to be.

    Args:
        slot: The slot's record, brought up to date.
        ignored: The ignored paths that are there, folders with a ``/`` at the end.
    """

    slot: Slot
    ignored: tuple[str, ...]


class SlotNotCleanError(PoolError):
    """A reset was carried out and the slot is not as it should be; its worktree has to be made anew."""

    kind = "slot-not-clean"


@define(eq=False, slots=False)
class SlotReset:
    """Resets slots.

    Args:
        backend: What reads and writes the worktrees.
    """

    backend: GitBackend
    _step: Step = no_step
    _young: dict[str, YoungFiles] = field(factory=dict, init=False, repr=False)
    _folders: dict[str, Folders] = field(factory=dict, init=False, repr=False)
    _layout: Layout | None = field(default=None, init=False, repr=False)

    def __call__(self, slot: Slot, commit: Oid, *, remove_ignored: bool = False, untouched: bool = False) -> Proof:
        """Bring `slot` to `commit`.

        Args:
            slot: A slot that the caller holds and in which nothing runs.
            commit: Where it is to stand.
            remove_ignored: Whether ignored files go, too.
            untouched: Whether the slot was made in an empty folder and no trial has been in it: then it can have no
                folders without files and no odd rights, which only a look at everything finds.

        Returns:
            The proof, with the record as it is now.

        Raises:
            SlotNotCleanError: It could not be brought there.
        """
        remove_ignored = remove_ignored or slot.wipe
        problem: Exception | None = None
        for careful in (False, True):
            try:
                look = careful or not untouched
                return self._attempt(slot, commit, remove_ignored=remove_ignored, careful=careful, look=look)
            except (GitOperationError, OSError, _StillDirtyError) as error:
                problem = error
        raise SlotNotCleanError(
            f"slot {slot.name} cannot be brought to {commit.short}: {problem}",
            hint="it is made anew",
        ) from problem

    def _attempt(self, slot: Slot, commit: Oid, *, remove_ignored: bool, careful: bool, look: bool) -> Proof:
        admin_state.tidy(slot.admin, self._step)
        if careful:
            open_folders(slot.path)
        entries, found = self._restore_files(slot, commit, careful=careful, look=look)
        if found.odd_files or found.odd_folders or found.changed:
            self._step("reset.files-again")
            open_folders(slot.path)
            put_right(self._survey(slot, entries))
            self._reset(slot, commit)
            entries = self._status(slot.path)
            found = self._survey(slot, entries)
        if found.empty or any(e.is_untracked or (e.is_ignored and remove_ignored) for e in entries):
            self._step("reset.clean")
            self.backend.clean(slot.path, ignored=remove_ignored)
            entries = self._status(slot.path)
        submodules = [entry.path for entry in entries if not entry.is_ignored and entry.submodule]
        emptied = bool(submodules) and self.reset_submodules(slot.path, commit, submodules)
        if submodules:
            entries = self._status(slot.path)
        self._check(slot, commit, entries, remove_ignored=remove_ignored)
        # Its entries need no look: the reset began from an index that hid nothing (see `_distrust_index`).
        index = admin_state.read_index(slot.admin, trusted=None, sha256=self.backend.sha256)
        proven = evolve(
            slot,
            commit=commit,
            wipe=False,
            setup="" if remove_ignored or emptied else slot.setup,
            index=index.checksum,
            written=index.written,
            files=index.files,
        )
        return Proof(slot=proven, ignored=_ignored(entries))

    def _survey(self, slot: Slot, entries: tuple[StatusEntry, ...]) -> Survey:
        """Look at what `status` does not see."""
        recorded = recorded_changes(slot.admin, slot.path, sha256=self.backend.sha256)
        return survey(slot.path, _ignored(entries), recorded)

    def _restore_files(
        self, slot: Slot, commit: Oid, *, careful: bool, look: bool
    ) -> tuple[tuple[StatusEntry, ...], Survey]:
        """Bring the tracked files to `commit`.

        A slot that stands there with the index of its last proof and without a changed file keeps its files:
        repeats, and trials that differ only in their environment, write nothing (but the index, where git is quicker).

        Returns:
            What the status says afterwards, and what a look finds at which `status` does not see.
        """
        if not careful and look and (index := self._restore_by_index(slot, commit)) is not None:
            if self._is_exact(slot, index):
                return (), Survey()
            entries = self._status(slot.path)  # there is more than the tracked files: ignored or not?
            return entries, survey(slot.path, _ignored(entries))
        if not careful and self._stands_at(slot, commit):
            entries = self._status(slot.path)
            if all(entry.is_untracked or entry.is_ignored for entry in entries):
                return entries, self._survey(slot, entries) if look else Survey()
        self._detach(slot, commit)
        self._distrust_index(slot, careful=careful)
        self._reset(slot, commit)
        entries = self._status(slot.path)
        return entries, self._survey(slot, entries) if look else Survey()

    def _restore_by_index(self, slot: Slot, commit: Oid) -> ProvenIndex | None:
        """Bring the tracked files to `commit` so that they need no second look; None where that cannot be promised.

        See `arboretum.engine.proven_index`: the index has to be that of the last proof, byte for byte.
        """
        if not slot.written or not self._resets_exactly or admin_state.uses_reftable(slot.admin):
            return None
        self._step("reset.prove-files")
        if admin_state.read_sparse(slot.admin) != slot.sparse:
            return None
        if slot.files <= _FEW_FILES and slot.commit == commit == admin_state.head_of(slot.admin):
            index = self._read(slot)
            if index is not None and _is_of(index, slot) and index.are_files_unchanged(slot.path):
                return index
        young = self._young_files(slot)
        if young is None or not young.are_unchanged(slot.path):
            return None
        self._detach(slot, commit)
        self._reset(slot, commit)
        if (index := self._read(slot)) is not None:
            self._remember(slot, index.young_files())
        return index

    def _young_files(self, slot: Slot) -> YoungFiles | None:
        """The files in which git alone may miss a change; None where the index is not that of the last proof."""
        young = self._young.get(slot.admin)
        if young is not None and _is_of(young, slot):
            return young if young.is_index_unchanged(slot.admin, sha256=self.backend.sha256) else None
        index = self._read(slot)
        return index.young_files() if index is not None and _is_of(index, slot) else None

    def _read(self, slot: Slot) -> ProvenIndex | None:
        layout = self._layout
        return ProvenIndex.read(slot.admin, sha256=self.backend.sha256, like=layout.shape if layout else None)

    def _remember(self, slot: Slot, young: YoungFiles) -> None:
        """Save the next move from reading the whole index once more."""
        self._young.pop(slot.admin, None)
        if len(young.entries) <= _MAX_YOUNG:
            self._young[slot.admin] = young

    def _is_exact(self, slot: Slot, index: ProvenIndex) -> bool:
        layout = self._layout
        if layout is None or layout.names != index.names:  # it is the same for most commits, in all slots
            layout = self._layout = Layout.of(index.names)
        elif layout.shape is None:
            layout.shape = Shape.of(index.index)
        folders = self._folders.setdefault(slot.path, Folders(slot.path))
        return folders.are_exactly(layout)

    def _reset(self, slot: Slot, commit: Oid) -> None:
        self._step("reset.files")
        self.backend.reset(slot.path, commit, ResetMode.HARD, exact=self._resets_exactly)

    @cached_property
    def _resets_exactly(self) -> bool:
        return Capability.EXACT_RESET in self.backend.capabilities()

    def _stands_at(self, slot: Slot, commit: Oid) -> bool:
        return (
            bool(slot.index)
            and slot.commit == commit
            and admin_state.head_of(slot.admin) == commit
            and admin_state.index_checksum(slot.admin, sha256=self.backend.sha256) == slot.index
            and admin_state.read_sparse(slot.admin) == slot.sparse
        )

    def _distrust_index(self, slot: Slot, *, careful: bool) -> None:
        """Forget an index in which a trial may have hidden a file, and put sparse patterns back."""
        changed = admin_state.restore_sparse(slot.admin, slot.sparse, self._step)
        index = admin_state.read_index(slot.admin, trusted=slot.index, sha256=self.backend.sha256)
        if careful or changed or index.hides:
            if slot.sparse and slot.index:
                raise SlotNotCleanError(f"the sparse checkout of slot {slot.name} was changed", hint="it is made anew")
            admin_state.forget_index(slot.admin, self._step)

    def _status(self, path: str) -> tuple[StatusEntry, ...]:
        self._step("reset.prove")
        return self.backend.status(path, untracked=True, ignored=True)

    def _check(self, slot: Slot, commit: Oid, entries: tuple[StatusEntry, ...], *, remove_ignored: bool) -> None:
        wrong = [entry.path for entry in entries if remove_ignored or not entry.is_ignored]
        if wrong:
            raise _StillDirtyError(f"{len(wrong)} path(s) differ after the reset, the first is {wrong[0]!r}")
        reftable = admin_state.uses_reftable(slot.admin)
        head = self.backend.head(slot.path).oid if reftable else admin_state.head_of(slot.admin)
        if head != commit:
            raise _StillDirtyError(f"HEAD is {head!r} after the reset")

    def _detach(self, slot: Slot, commit: Oid) -> None:
        if admin_state.uses_reftable(slot.admin):
            self.backend.checkout(slot.path, commit, force=True)
        else:
            admin_state.detach(slot.admin, commit, self._step)

    def reset_submodules(self, path: str, commit: Oid, names: list[str]) -> bool:
        """Bring submodules that a setup or a trial has filled to the recorded commits; empty those that cannot be.

        Returns:
            Whether one had to be emptied.
        """
        wanted = {e.path: e.oid for e in self.backend.read_tree(commit) if e.mode == FileMode.SUBMODULE}
        emptied = False
        for name in names:
            folder = os.path.join(path, name)
            self._step("reset.submodule")
            try:
                self._bring(folder, wanted[name])
            except (GitOperationError, KeyError, OSError):
                emptied = True
                shutil.rmtree(folder, ignore_errors=True)
                if name in wanted:
                    os.makedirs(folder, exist_ok=True)
        return emptied

    def _bring(self, folder: str, commit: Oid) -> None:
        backend = backend_factory(self.backend.name).open(folder)
        try:
            admin_state.tidy_submodule(backend.git_dir, self._step)
            backend.checkout(folder, commit, force=True)
            backend.clean(folder, ignored=False)
            nested = [entry.path for entry in backend.status(folder) if entry.submodule]
            if nested:
                SlotReset(backend, self._step).reset_submodules(folder, commit, nested)
        finally:
            backend.close()


def _ignored(entries: tuple[StatusEntry, ...]) -> tuple[str, ...]:
    return tuple(entry.path for entry in entries if entry.is_ignored)


def _is_of(known: ProvenIndex | YoungFiles, slot: Slot) -> bool:
    """Whether an index is the one of the slot's last proof."""
    return (known.checksum, known.written) == (slot.index, slot.written)


class _StillDirtyError(Exception):
    """One attempt of a reset did not lead to a clean slot."""
