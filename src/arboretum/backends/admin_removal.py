"""Removing worktrees: out of sight at once, their space given back behind.

The folder is renamed and the record goes by a rename as well; what is in it is kept and deleted later, by whoever
calls `AdminRemoval.finish`, or `AdminRemoval.sweep` when that process has died. `arboretum.backends.set_aside` says
what lies where meanwhile.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Final

from attrs import define, field

from arboretum.backends.admin_guard import READERS_GRACE, AdminGuard
from arboretum.backends.admin_records import AdminRecord, parse_head
from arboretum.backends.atomic_files import (
    mount_points,
    permissions,
    read_text,
    remove_tree,
    rename_new,
    write_new,
    write_text,
)
from arboretum.backends.base import Keeper
from arboretum.backends.scratch import sweep_scratch
from arboretum.backends.set_aside import Note, SetAside, hide, restore
from arboretum.errors import DirtyWorktreeError, GitOperationError, GitPermissionError
from arboretum.values import RefName

#: What the lock of a worktree says for the moment in which its record is hidden.
_BEING_REMOVED: Final = "being removed by arboretum\n"
#: An admin folder on its way in or out: nobody works in it who does not hold the lock.
_ASIDE: Final = re.compile(r"[0-9a-f]{16}\Z")

_log = logging.getLogger(__name__)


def _nothing(_path: str) -> None:
    """Do nothing."""


@define(eq=False)
class AdminRemoval(AdminGuard):
    """Removes the worktrees of one repository.

    Args:
        common_dir: As `AdminRecords`; so are the others but the last.
        main_path: See there.
        read_ref: See there.
        asides: The git directories of worktrees that are set aside, by folder: there they can be worked with.
    """

    asides: dict[str, str] = field(factory=dict)

    @property
    def _removed(self) -> str:
        return os.path.join(self.own, "removed")

    # Removing --------------------------------------------------------------------------------

    def remove(self, path: str) -> None:
        """Remove a worktree's folder and record, whatever it holds. Errors as `set_aside` and `finish`."""
        try:
            taken = self.set_aside(path)
        except GitPermissionError as error:
            if not lacks_space(error):
                raise
            self.remove_in_place(path)
        else:
            if taken is not None:
                self.finish(taken)

    def discard(self, path: str, keeper: Keeper) -> Callable[[], None]:
        """See `WorktreeAdmin.discard_worktree`; whether it holds changes is not asked."""
        record = self._removable(path)
        if record.path is None or not os.path.isdir(record.path):
            self.remove(path)
            return lambda: None
        keeper.before(path)
        behind: Callable[[str], None] = keeper.behind
        if os.path.isdir(os.path.join(record.folder, "modules")):
            behind(path)  # the links of submodules lead nowhere once the folder is renamed
            behind = _nothing
        try:
            taken = self.set_aside(path)
        except GitPermissionError as error:
            if not lacks_space(error):
                raise
            behind(path)
            self.remove_in_place(path)
            return lambda: None
        return lambda: self.finish(taken, behind) if taken is not None else None

    def set_aside(self, path: str) -> SetAside | None:
        """Take a worktree out of sight: its folder renamed aside, its record gone; `finish` does the rest.

        Returns:
            The worktree, in this process's hands; None when its folder was missing, and all is done.

        Raises:
            WorktreeNotFoundError: It is not (or no longer) a worktree of this repository.
            WorktreeLockedError: It is locked.
            DirtyWorktreeError: Another worktree, or another file system, lies inside it.
            GitPermissionError: It cannot be changed, or there is no space to write down what is done.
        """
        taken = self._take(path)
        if taken is None:
            return None
        try:
            time.sleep(READERS_GRACE)
            with self.lock(), permissions(path):
                self._take_record(taken)
        except BaseException:
            with self.lock():
                self._put_back(taken)
            raise
        return taken

    def finish(self, taken: SetAside, keep: Callable[[str], None] = _nothing) -> None:
        """Give the space of a worktree back that was set aside.

        Args:
            taken: The worktree.
            keep: Called with its folder before anything in it is lost. If it raises, the worktree is put back.

        Raises:
            GitPermissionError: Something cannot be deleted; a later sweep tries again.
        """
        try:
            if not taken.is_kept:
                try:
                    keep(taken.folder)
                    taken.mark_kept()
                except BaseException:
                    with self.lock():
                        self._put_back(taken)
                    raise
            with permissions(taken.folder):
                taken.delete_files()
                self._strike(taken)
        finally:
            self._let_go(taken)

    def sweep(self, keep: Callable[[str], None]) -> None:
        """Put in order what removals of dead processes have left: carried to their end, or taken back.

        What cannot be put in order stays, and is told in the log.

        Args:
            keep: As for `finish`; some of what is worth keeping may be kept already.
        """
        folder = os.path.join(self.own, "tmp")
        sweep_scratch(folder)
        if not os.path.isdir(self._removed) and not (os.path.isdir(folder) and os.listdir(folder)):
            return  # usually so, and then there is nothing to lock
        begun: list[SetAside] = []
        with self.lock():
            for name in os.listdir(folder) if os.path.isdir(folder) else ():
                if _ASIDE.match(name):
                    remove_tree(os.path.join(folder, name))
            for taken in SetAside.abandoned(self._removed):
                with self._reported(taken):
                    if self._goes_back(taken):
                        self._put_back(taken)
                        continue
                    if taken.is_ours(taken.folder) and not taken.is_kept:
                        self._take_record(taken)
                    begun.append(taken)
        for taken in begun:
            with self._reported(taken):
                if taken.is_ours(taken.folder):
                    self.finish(taken, keep)
                else:
                    taken.delete_files()
                    self._strike(taken)
                    self._let_go(taken)

    def _goes_back(self, taken: SetAside) -> bool:
        """Whether a leftover had not come far enough to be carried on, or was being put back."""
        if taken.is_whole:
            return not taken.is_kept and taken.is_ours(taken.note.path)
        return not (os.path.lexists(taken.folder) and os.path.lexists(taken.note.path))

    def _take(self, path: str) -> SetAside | None:
        """Rename a worktree's folder aside and hide its record."""
        with self.lock(), permissions(path):
            record = self._removable(path)
            if record.path is None or not os.path.lexists(record.path):
                hidden = self.hide_record(record)
            else:
                taken = SetAside.begin(self._removed, Note.of(record, self._stand(record.head)[1]))
                try:
                    write_new(os.path.join(record.folder, "locked"), _BEING_REMOVED)  # or a prune would take it
                    rename_new(record.path, taken.folder)
                    hide(record.folder)
                except BaseException:
                    self._put_back(taken)
                    raise
                return taken
        self.take_away([hidden])
        return None

    def _removable(self, path: str) -> AdminRecord:
        record = self.unlocked(path, "remove_worktree")
        if record.path is not None and os.path.lexists(record.path):
            self.refuse_guests(record.path, "remove_worktree")
            inside = os.path.realpath(record.path) + "/"
            for place in mount_points():
                if place.startswith(inside):
                    raise DirtyWorktreeError(
                        f"a file system is mounted at {place}, inside {path}",
                        operation="remove_worktree",
                        hint="unmount it first",
                    )
        return record

    def _take_record(self, taken: SetAside) -> None:
        """Rename a hidden admin folder away; lock held."""
        folder = os.path.join(self.base, taken.note.record)
        if not taken.is_whole:
            if not taken.is_record(folder):
                raise GitOperationError(f"somebody has taken away the record of {taken.note.path}")
            os.rename(folder, taken.admin)
        taken.adapt()
        self.asides[taken.folder] = taken.admin

    def _put_back(self, taken: SetAside) -> None:
        """Let a worktree be as it was before its removal began, whatever has been done; lock held.

        Its branch may be in use elsewhere by now: then it stands at its commit.
        """
        note, whole = taken.note, taken.is_whole
        try:
            if taken.is_ours(taken.folder):
                if os.path.lexists(note.path):
                    raise GitOperationError(f"{taken.folder} cannot be put back: there is something at {note.path}")
                rename_new(taken.folder, note.path)
            folder = os.path.join(self.base, note.record)
            source = taken.admin if whole else folder
            if whole or taken.is_record(folder):
                restore(source)
                head = parse_head(read_text(os.path.join(source, "HEAD")))
                if isinstance(head, RefName) and note.oid and self.user_of(head, but=note.path) is not None:
                    write_text(os.path.join(source, "HEAD"), f"{note.oid}\n")
                if whole:
                    folder = self._move_back(taken, folder)
                if read_text(os.path.join(folder, "locked")) == _BEING_REMOVED:
                    os.unlink(os.path.join(folder, "locked"))
            remove_tree(self._forget(taken))
        finally:
            self._let_go(taken)

    def _move_back(self, taken: SetAside, folder: str) -> str:
        """Rename an admin folder back among the others; under another name when somebody has used its own."""
        os.makedirs(self.base, exist_ok=True)
        if os.path.lexists(folder):
            folder = f"{folder}-{secrets.token_hex(4)}"
            write_text(os.path.join(taken.note.path, ".git"), f"gitdir: {folder}\n")
        rename_new(taken.admin, folder)
        return folder

    def _strike(self, taken: SetAside) -> None:
        """Delete what is left of a removal."""
        with self.lock():
            doomed = self._forget(taken)
        remove_tree(doomed)

    def _forget(self, taken: SetAside) -> str:
        """Let nobody find the removal any more; lock held. Returns what is to be deleted."""
        doomed = os.path.join(self.own, "tmp", secrets.token_hex(8))
        os.makedirs(os.path.dirname(doomed), exist_ok=True)
        os.rename(taken.place, doomed)
        with contextlib.suppress(OSError):
            os.rmdir(self._removed)  # when it was the last one
        return doomed

    def _let_go(self, taken: SetAside) -> None:
        self.asides.pop(taken.folder, None)
        taken.release()

    @contextlib.contextmanager
    def _reported(self, taken: SetAside) -> Iterator[None]:
        """Go on with the others when one leftover cannot be put in order."""
        try:
            yield
        except (OSError, GitOperationError) as error:
            _log.warning("the removal of %s could not be finished: %s", taken.note.path, error)
            self._let_go(taken)

    def remove_in_place(self, path: str) -> None:
        """Remove a worktree where it stands, without writing anything down: for a disk that has no space for that."""
        with self.lock(), permissions(path):
            record = self._removable(path)
            hidden = self.hide_record(record)
        self.take_away([hidden])
        if record.path is not None:
            with permissions(path):
                remove_tree(record.path)

    def undo(self, record: AdminRecord) -> None:
        """Take back what `add` made, after a failure to fill it."""
        with self.lock():
            hidden = self.hide_record(record)
        self.take_away([hidden])
        if record.path is not None:
            remove_tree(record.path)


def lacks_space(error: BaseException) -> bool:
    """Whether it is for want of space that something could not be written."""
    cause = error.__cause__
    return isinstance(cause, OSError) and cause.errno in {errno.ENOSPC, errno.EDQUOT}
