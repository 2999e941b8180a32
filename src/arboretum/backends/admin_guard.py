"""The one lock around all changes of the set of worktrees, what may not be changed, and records that go.

A record that goes is hidden first (git skips one without its link) and deleted some milliseconds later, so that a git
that has just looked at it can read on.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import time
from collections.abc import Iterator, Sequence
from typing import Final

from attrs import define, frozen

from arboretum.backends.admin_records import AdminRecord, AdminRecords
from arboretum.backends.atomic_files import age, permissions, remove_tree
from arboretum.errors import (
    DirtyWorktreeError,
    GitOperationError,
    GitPermissionError,
    InvalidValueError,
    WorktreeLockedError,
    WorktreeNotFoundError,
)
from arboretum.values import WorktreeInfo

#: Seconds for which an admin folder without its link is taken for one that git is making right now.
_HALF_MADE: Final = 60.0
#: Seconds that pass between hiding an admin folder and taking it away: a git that has just looked at it reads on.
READERS_GRACE: Final = 0.008
#: Seconds between two looks at the lock while another process holds it; an add holds it for half a millisecond.
_POLL: Final = 0.002


@frozen
class _Hidden:
    """An admin folder that nobody finds any more, and what it is: its name may be used again."""

    folder: str
    inode: int


@define(eq=False)
class AdminGuard(AdminRecords):
    """Guards the worktree records of one repository, and forgets them. Arguments as `AdminRecords`."""

    @property
    def own(self) -> str:
        """The folder of our own in the common git directory."""
        return os.path.join(self.common_dir, "arboretum")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the one lock around changes of the set of worktrees, against all threads and processes.

        Raises:
            GitPermissionError: The common git directory cannot be written.
        """
        from filelock import FileLock

        try:
            if not os.path.isdir(self.own):
                os.makedirs(self.own, exist_ok=True)
            lock = FileLock(os.path.join(self.own, "worktrees.lock"), thread_local=False)
            lock.acquire(poll_interval=_POLL)
        except OSError as error:
            raise GitPermissionError(
                f"cannot lock {self.own}: {error.strerror}", hint="the git directory must be writable"
            ) from error
        try:
            yield
        finally:
            lock.release()

    # What may not be removed or moved --------------------------------------------------------

    def unlocked(self, path: str, operation: str) -> AdminRecord:
        """The record of the worktree at `path`, when it is not locked and the folder is still that worktree.

        Raises:
            WorktreeNotFoundError: There is no such record, or the folder is something else by now.
            WorktreeLockedError: It is locked.
        """
        record = self.linked(path, operation)
        if record.locked is not None:
            raise WorktreeLockedError(
                f"the worktree {path} is locked" + because(record.locked),
                operation=operation,
                hint="unlock it first if it is yours to unlock",
            )
        if record.path is not None and os.path.lexists(record.path) and not record.is_still():
            raise WorktreeNotFoundError(
                f"{path} is no longer the worktree that was registered there; it was left alone",
                operation=operation,
                hint="prune or repair the worktrees",
            )
        return record

    def linked(self, path: str, operation: str) -> AdminRecord:
        """The record of a worktree that is not the main one."""
        if "\0" in path:
            raise InvalidValueError(f"{path!r} is not a path: it has a NUL")
        if self.main_path is not None and os.path.realpath(path) == os.path.realpath(self.main_path):
            raise GitOperationError(
                f"{path} is the main worktree: only linked ones can be removed, moved or locked", operation=operation
            )
        return self.find(path)

    def refuse_guests(self, path: str, operation: str) -> None:
        """Refuse to take a folder away in which another worktree, or the repository itself, lives."""
        inside = os.path.realpath(path) + "/"
        real_folder = functools.cache(os.path.realpath)  # most worktrees lie side by side
        for place in (self.common_dir, *([self.main_path] if self.main_path is not None else []), *self.paths()):
            parent, name = os.path.split(place)
            real = os.path.realpath(place) if os.path.islink(place) else os.path.join(real_folder(parent), name)
            if real.startswith(inside) and os.path.lexists(place):
                raise DirtyWorktreeError(
                    f"{place} lies inside {path}", operation=operation, hint="move or remove that one first"
                )

    # Forgetting ------------------------------------------------------------------------------

    def hide_record(self, record: AdminRecord) -> _Hidden:
        """Let nobody find an admin folder any more: git skips one without a link, and so do we."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(record.folder, "gitdir"))
        with contextlib.suppress(FileNotFoundError):
            return _Hidden(record.folder, os.stat(record.folder).st_ino)
        return _Hidden(record.folder, -1)

    def take_away(self, hidden: Sequence[_Hidden]) -> None:
        """Delete hidden admin folders, once those that were just reading them are through."""
        time.sleep(READERS_GRACE)
        with self.lock():
            doomed = [self._rename_aside(one) for one in hidden]
        for folder in doomed:
            if folder is not None:
                remove_tree(folder)

    def _rename_aside(self, hidden: _Hidden) -> str | None:
        """Rename a hidden admin folder away; None when somebody pruned it (and may have used its name again)."""
        doomed = os.path.join(self.own, "tmp", secrets.token_hex(8))
        os.makedirs(os.path.dirname(doomed), exist_ok=True)
        try:
            if os.stat(hidden.folder).st_ino != hidden.inode or os.path.lexists(f"{hidden.folder}/gitdir"):
                return None
            os.rename(hidden.folder, doomed)
        except FileNotFoundError:
            return None
        return doomed

    def prune(self, *, dry_run: bool = False) -> tuple[WorktreeInfo, ...]:
        """Remove the records of worktrees that are gone; ones that git may be making right now stay."""
        pruned: list[WorktreeInfo] = []
        hidden: list[_Hidden] = []
        with self.lock(), permissions(self.base):
            for record in self.records():
                if record.prunable() is None or (record.link is None and age(record.folder) < _HALF_MADE):
                    continue
                pruned.append(self.info(record))
                if not dry_run:
                    hidden.append(self.hide_record(record))
        if hidden:
            self.take_away(hidden)
        return tuple(sorted(pruned, key=lambda info: os.fsencode(info.path)))

    def drop(self, record: AdminRecord) -> None:
        """Forget a record; the lock is held."""
        hidden = self.hide_record(record)
        time.sleep(READERS_GRACE)
        doomed = self._rename_aside(hidden)
        if doomed is not None:
            remove_tree(doomed)


def because(reason: str) -> str:
    """A reason as it is put behind a sentence."""
    return f" ({reason})" if reason else ""
