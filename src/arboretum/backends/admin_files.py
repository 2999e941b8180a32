"""Worktree admin files, written by ourselves.

An admin folder is made aside and renamed into place, so that nobody, git included, ever sees a half-made one: that is
the race that breaks concurrent ``git worktree add``. One lock of the common git directory is held around each change
of the set of worktrees; the kernel lets go of it when its holder dies. Nothing here runs git, so a library that has no
worktree operations of its own can use it, too. Reading is in `arboretum.backends.admin_records`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import define, frozen

from arboretum.backends.admin_records import (
    AdminRecord,
    AdminRecords,
    parse_head,
    read_link,
    sanitised_name,
    without_own_keys,
)
from arboretum.backends.atomic_files import (
    age,
    make_folders,
    permissions,
    read_text,
    remove_tree,
    rename_new,
    write_new,
    write_text,
)
from arboretum.errors import (
    BranchCheckedOutError,
    DirtyWorktreeError,
    GitOperationError,
    GitPermissionError,
    InvalidValueError,
    PathOccupiedError,
    RefExistsError,
    RefNotFoundError,
    WorktreeLockedError,
    WorktreeNotFoundError,
)
from arboretum.values import Oid, WorktreeInfo, WorktreeSpec

#: Seconds for which an admin folder without its link is taken for one that git is making right now.
_HALF_MADE: Final = 60.0
#: Seconds that pass between hiding an admin folder and taking it away: a git that has just looked at it reads on.
_READERS_GRACE: Final = 0.008
#: Seconds between two looks at the lock while another process holds it; an add holds it for half a millisecond.
_POLL: Final = 0.002
#: After so many taken numbers a name is made unique by chance: looking further would take longer with every worktree.
_NUMBERS: Final = 16


@frozen
class _Hidden:
    """An admin folder that nobody finds any more, and what it is: its name may be used again."""

    folder: str
    inode: int


@define(eq=False)
class AdminFiles(AdminRecords):
    """The worktree records of one repository.

    Args:
        common_dir: The git directory that all worktrees share.
        main_path: The main worktree; None for a bare repository.
        read_ref: Looks up the commit of a branch.
        relative: Whether links are written as relative paths (``extensions.relativeWorktrees``).
        origin: The git directory of the worktree whose sparse patterns a new one inherits; None for the main one.
        committer: Who stands in the reflog of a new worktree (``Name <email> seconds offset``); None for nobody.
    """

    relative: bool = False
    origin: str | None = None
    committer: Callable[[], str | None] = lambda: None

    @property
    def _own(self) -> str:
        return os.path.join(self.common_dir, "arboretum")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the one lock around changes of the set of worktrees, against all threads and processes.

        Raises:
            GitPermissionError: The common git directory cannot be written.
        """
        from filelock import FileLock

        try:
            if not os.path.isdir(self._own):
                os.makedirs(self._own, exist_ok=True)
            lock = FileLock(os.path.join(self._own, "worktrees.lock"), thread_local=False)
            lock.acquire(poll_interval=_POLL)
        except OSError as error:
            raise GitPermissionError(
                f"cannot lock {self._own}: {error.strerror}", hint="the git directory must be writable"
            ) from error
        try:
            yield
        finally:
            lock.release()

    # Making ----------------------------------------------------------------------------------

    def add(self, spec: WorktreeSpec) -> AdminRecord:
        """Make the folder of a worktree with its link and its admin folder; no files and no index yet.

        A detached add takes the same time however many worktrees there are: it looks only at the records that have
        the name of its folder. (So it does not see the record of a missing worktree that was moved to its path.)

        Raises:
            PathOccupiedError: There is something at the path, or a record of a missing worktree claims it.
            BranchCheckedOutError: A worktree is on the branch.
            RefNotFoundError: There is no such branch.
            RefExistsError: The orphan branch exists.
            WorktreeLockedError: A locked record claims the path.
            GitPermissionError: The path or the git directory cannot be written.
        """
        path = os.path.join(os.path.realpath(os.path.dirname(spec.path)), os.path.basename(spec.path))
        with self.lock(), permissions(path):
            self._clear_claim(path, force=spec.force)
            commit = self._start(spec)
            made = make_folders(path)
            try:
                return self._place(path, spec, commit)
            except BaseException:
                for record in self._named_as(path):
                    if record.path == path:
                        self._drop(record)
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(path, ".git"))
                for folder in made:
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
                raise

    def _start(self, spec: WorktreeSpec) -> Oid | None:
        """The commit that the worktree is to stand at; the branch is looked at under the lock."""
        branch = spec.branch or spec.orphan
        if branch is None:
            return spec.detach
        commit = self.read_ref(branch)
        if spec.branch is not None and commit is None:
            raise RefNotFoundError(f"there is no branch {branch.short!r}", operation="add_worktree")
        if spec.orphan is not None and commit is not None:
            raise RefExistsError(f"there is a branch {branch.short!r} already", operation="add_worktree")
        if not spec.force and (user := self.user_of(branch)) is not None:
            raise BranchCheckedOutError(
                f"branch {branch.short!r} is already checked out at {user}",
                operation="add_worktree",
                hint="use that worktree, another branch, or a detached one",
            )
        return commit

    def _place(self, path: str, spec: WorktreeSpec, commit: Oid | None) -> AdminRecord:
        link = os.path.join(path, ".git")
        branch = spec.branch or spec.orphan
        head = f"ref: {branch}\n" if branch is not None else f"{spec.detach}\n"
        with self._aside() as aside:
            os.makedirs(os.path.join(aside, "logs"))
            files = {"HEAD": head, "commondir": "../..\n"}
            if spec.lock is not None:
                files["locked"] = _line(spec.lock)
            if commit is not None:
                who = self.committer()
                if who is not None:
                    files["logs/HEAD"] = f"{'0' * len(commit)} {commit} {who}\n"
                if spec.checkout:
                    files["ORIG_HEAD"] = f"{commit}\n"
            for name, text in files.items():
                write_new(os.path.join(aside, name), text)
            self._inherit_sparse(aside)
            name = self._claim_name(os.path.basename(path), aside, link)
        return AdminRecord(name, os.path.join(self.base, name), link, parse_head(head), spec.lock)

    def _claim_name(self, wish: str, aside: str, link: str) -> str:
        """Rename the folder `aside` to the first free name; the worktree's own link is there a moment before."""
        for name in _names(sanitised_name(wish)):
            folder = os.path.join(self.base, name)
            if os.path.lexists(folder):
                continue
            write_text(link, f"gitdir: {self._shown(folder, os.path.dirname(link))}\n")
            write_text(os.path.join(aside, "gitdir"), f"{self._shown(link, folder)}\n")
            try:
                self._rename_into_place(aside, folder)
            except OSError as error:
                if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                    raise
            else:
                return name
        raise AssertionError("names do not end")

    def _rename_into_place(self, aside: str, folder: str) -> None:
        """Rename a whole admin folder to its name; git removes the folder of all of them whenever it is empty."""
        for last in (False,) * 20 + (True,):
            os.makedirs(self.base, exist_ok=True)
            try:
                return rename_new(aside, folder)
            except FileNotFoundError:
                if last:
                    raise
        return None

    @contextlib.contextmanager
    def _aside(self) -> Iterator[str]:
        """A folder of our own beside the admin folders; removed unless it was renamed away."""
        folder = os.path.join(self._own, "tmp", secrets.token_hex(8))
        os.makedirs(folder)
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _inherit_sparse(self, aside: str) -> None:
        """Take over sparse patterns and the per-worktree configuration, as git does."""
        origin = self.origin or self.common_dir
        patterns = read_text(os.path.join(origin, "info/sparse-checkout"))
        if patterns is not None:
            os.makedirs(os.path.join(aside, "info"), exist_ok=True)
            write_new(os.path.join(aside, "info/sparse-checkout"), patterns)
        config = read_text(os.path.join(origin, "config.worktree"))
        if config is not None:
            write_new(os.path.join(aside, "config.worktree"), without_own_keys(config))

    def _clear_claim(self, path: str, *, force: bool) -> None:
        """Refuse a path that is taken; with `force` forget the record of a missing worktree there."""
        if os.path.lexists(path) and not (os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)):
            raise PathOccupiedError(
                f"{path} exists and is not an empty folder", operation="add_worktree", hint="choose another path"
            )
        for record in self._named_as(path):
            if record.path != path:
                continue
            if record.locked is not None:
                raise WorktreeLockedError(
                    f"{path} belongs to a locked worktree that is missing" + _because(record.locked),
                    operation="add_worktree",
                )
            if not os.path.lexists(path) and not force:
                raise PathOccupiedError(
                    f"{path} is registered as a worktree but is missing",
                    operation="add_worktree",
                    hint="prune the record first, or add it with force",
                )
            if not os.path.lexists(os.path.join(path, ".git")):
                self._drop(record)

    def _named_as(self, path: str) -> Iterator[AdminRecord]:
        """The records that have the name of a folder, or that name with a number."""
        for name in itertools.islice(_names(sanitised_name(os.path.basename(path))), _NUMBERS):
            record = self.record(name) if os.path.lexists(f"{self.base}/{name}") else None
            if record is not None:
                yield record

    def _drop(self, record: AdminRecord) -> None:
        """Forget a record; the lock is held."""
        hidden = self._hide(record)
        time.sleep(_READERS_GRACE)
        doomed = self._rename_aside(hidden)
        if doomed is not None:
            remove_tree(doomed)

    # Changing --------------------------------------------------------------------------------

    def unlocked(self, path: str, operation: str) -> AdminRecord:
        """The record of the worktree at `path`, when it is not locked and the folder is still that worktree.

        Raises:
            WorktreeNotFoundError: There is no such record, or the folder is something else by now.
            WorktreeLockedError: It is locked.
        """
        record = self._linked(path, operation)
        if record.locked is not None:
            raise WorktreeLockedError(
                f"the worktree {path} is locked" + _because(record.locked),
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

    def _linked(self, path: str, operation: str) -> AdminRecord:
        """The record of a worktree that is not the main one."""
        if "\0" in path:
            raise InvalidValueError(f"{path!r} is not a path: it has a NUL")
        if self.main_path is not None and os.path.realpath(path) == os.path.realpath(self.main_path):
            raise GitOperationError(f"{path} is the main worktree", operation=operation)
        return self.find(path)

    def _refuse_guests(self, path: str, operation: str) -> None:
        """Refuse to take a folder away in which another worktree, or the repository itself, lives."""
        inside = os.path.realpath(path) + "/"
        places = [self.common_dir, *([self.main_path] if self.main_path is not None else [])]
        places += [record.path for record in self.records() if record.path is not None]
        for place in places:
            if os.path.realpath(place).startswith(inside) and os.path.lexists(place):
                raise DirtyWorktreeError(
                    f"{place} lies inside {path}", operation=operation, hint="move or remove that one first"
                )

    def remove(self, path: str) -> None:
        """Remove a worktree's folder and record, whatever it holds: renamed away first, deleted behind.

        Raises:
            WorktreeNotFoundError: It is not (or no longer) a worktree of this repository.
            WorktreeLockedError: It is locked.
            DirtyWorktreeError: Another worktree lies inside it.
        """
        with self.lock(), permissions(path):
            record = self.unlocked(path, "remove_worktree")
            doomed = None
            if record.path is not None and os.path.lexists(record.path):
                self._refuse_guests(record.path, "remove_worktree")
                parent, name = os.path.split(record.path)
                doomed = os.path.join(parent, f".{name[:100]}.removed-{secrets.token_hex(4)}")
                os.rename(record.path, doomed)
            try:
                hidden = self._hide(record)
            except OSError:
                if doomed is not None and record.path is not None:
                    os.rename(doomed, record.path)
                raise
        self._take_away([hidden])
        if doomed is not None:
            remove_tree(doomed)

    def discard(self, record: AdminRecord) -> None:
        """Take back what `add` made, after a failure to fill it."""
        with self.lock():
            hidden = self._hide(record)
        self._take_away([hidden])
        if record.path is not None:
            remove_tree(record.path)

    def _hide(self, record: AdminRecord) -> _Hidden:
        """Let nobody find an admin folder any more: git skips one without a link, and so do we."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(record.folder, "gitdir"))
        with contextlib.suppress(FileNotFoundError):
            return _Hidden(record.folder, os.stat(record.folder).st_ino)
        return _Hidden(record.folder, -1)

    def _take_away(self, hidden: Sequence[_Hidden]) -> None:
        """Delete hidden admin folders, once those that were just reading them are through."""
        time.sleep(_READERS_GRACE)
        with self.lock():
            doomed = [self._rename_aside(one) for one in hidden]
        for folder in doomed:
            if folder is not None:
                remove_tree(folder)

    def _rename_aside(self, hidden: _Hidden) -> str | None:
        """Rename a hidden admin folder away; None when somebody pruned it (and may have used its name again)."""
        doomed = os.path.join(self._own, "tmp", secrets.token_hex(8))
        os.makedirs(os.path.dirname(doomed), exist_ok=True)
        try:
            if os.stat(hidden.folder).st_ino != hidden.inode or os.path.lexists(f"{hidden.folder}/gitdir"):
                return None
            os.rename(hidden.folder, doomed)
        except FileNotFoundError:
            return None
        return doomed

    def move(self, path: str, new_path: str) -> AdminRecord:
        """Move a worktree's folder and mend its record.

        Raises:
            WorktreeLockedError: It is locked.
            PathOccupiedError: There is something at `new_path`.
            WorktreeNotFoundError: It is not a worktree of this repository.
            DirtyWorktreeError: Another worktree lies inside it.
        """
        target = os.path.join(os.path.realpath(os.path.dirname(new_path)), os.path.basename(new_path))
        with self.lock(), permissions(new_path):
            record = self.unlocked(path, "move_worktree")
            if record.path is None or not os.path.isdir(record.path):
                raise WorktreeNotFoundError(f"{path} is missing", operation="move_worktree")
            if os.path.isdir(os.path.join(record.folder, "modules")):
                raise GitOperationError(
                    f"{path} has initialised submodules; such a worktree cannot be moved", operation="move_worktree"
                )
            if os.path.lexists(target):
                raise PathOccupiedError(f"{new_path} exists", operation="move_worktree", hint="choose another path")
            self._refuse_guests(record.path, "move_worktree")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            with self._kept(record):
                shutil.move(record.path, target)
                self._connect(record.folder, os.path.join(target, ".git"))
            moved = self.record(record.name)
        assert moved is not None
        return moved

    @contextlib.contextmanager
    def _kept(self, record: AdminRecord) -> Iterator[None]:
        """Lock a record while it leads nowhere, so that nobody's ``git worktree prune`` takes it for a lost one."""
        lock = os.path.join(record.folder, "locked")
        write_new(lock, "being moved\n")
        time.sleep(_READERS_GRACE)
        try:
            yield
        finally:
            os.unlink(lock)

    def _shown(self, path: str, start: str) -> str:
        """How a link in the folder `start` names `path`."""
        return os.path.relpath(path, start) if self.relative else path

    def _connect(self, folder: str, link: str) -> None:
        """Let an admin folder lead to a worktree that was moved, and (where the way there is relative) back."""
        write_text(os.path.join(folder, "gitdir"), f"{self._shown(link, folder)}\n")
        if self.relative:
            write_text(link, f"gitdir: {self._shown(folder, os.path.dirname(link))}\n")

    def lock_worktree(self, path: str, reason: str) -> None:
        """Lock a worktree. Raises WorktreeLockedError when it is locked already."""
        with self.lock(), permissions(path):
            record = self._linked(path, "lock_worktree")
            if record.locked is not None:
                raise WorktreeLockedError(
                    f"the worktree {path} is locked already" + _because(record.locked), operation="lock_worktree"
                )
            write_text(os.path.join(record.folder, "locked"), _line(reason))

    def unlock_worktree(self, path: str) -> None:
        """Unlock a worktree. Raises GitOperationError when it is not locked."""
        with self.lock(), permissions(path):
            record = self._linked(path, "unlock_worktree")
            if record.locked is None:
                raise GitOperationError(f"the worktree {path} is not locked", operation="unlock_worktree")
            os.unlink(os.path.join(record.folder, "locked"))

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
                    hidden.append(self._hide(record))
        if hidden:
            self._take_away(hidden)
        return tuple(sorted(pruned, key=lambda info: os.fsencode(info.path)))

    def repair(self, paths: Sequence[str]) -> None:
        """Mend the links in both directions; `paths` are worktrees that were moved by hand.

        Raises:
            WorktreeNotFoundError: One of `paths` is no worktree of this repository.
        """
        base = os.path.realpath(self.base)
        with self.lock(), permissions(self.base):
            for path in paths:
                link = os.path.join(os.path.realpath(path), ".git")
                target = read_link(link)
                if target is None or os.path.dirname(os.path.realpath(target)) != base:
                    raise WorktreeNotFoundError(
                        f"{path} is not a worktree of {self.common_dir}", operation="repair_worktrees"
                    )
                if os.path.isdir(target):
                    self._connect(target, link)
            for record in self.records():
                if record.path is not None and os.path.isdir(record.path) and not record.is_still():
                    self._mend(record)

    def _mend(self, record: AdminRecord) -> None:
        """Point a worktree's missing or dangling link at its record; a link that leads elsewhere is not ours."""
        assert record.link is not None
        target = read_link(record.link)
        if target is None and os.path.lexists(record.link) and not os.path.isfile(record.link):
            return
        if target is None or not os.path.isdir(target):
            write_text(record.link, f"gitdir: {self._shown(record.folder, os.path.dirname(record.link))}\n")


def _names(stem: str) -> Iterator[str]:
    """The names that a record may have, in the order in which git tries them."""
    yield stem
    for number in range(1, _NUMBERS):
        yield f"{stem}{number}"
    while True:
        yield f"{stem}-{secrets.token_hex(4)}"


def _line(text: str) -> str:
    """A text as git writes it to a file of its own: with an end of line, unless it is empty."""
    return text if not text or text.endswith("\n") else f"{text}\n"


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


__all__ = ["AdminFiles", "AdminRecord", "parse_head", "read_link", "remove_tree"]
