"""Worktree admin files, written by ourselves.

An admin folder is made aside and renamed into place, so that nobody, git included, ever sees a half-made one: that is
the race that breaks concurrent ``git worktree add``. One lock of the common git directory is held around each change
of the set of worktrees; the kernel lets go of it when its holder dies. Nothing here runs git, so a library that has no
worktree operations of its own can use it, too. Reading is in `arboretum.backends.admin_records`, the lock in
`arboretum.backends.admin_guard`, removing in `arboretum.backends.admin_removal`.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final

from attrs import define

from arboretum.backends.admin_guard import READERS_GRACE, because
from arboretum.backends.admin_records import (
    AdminRecord,
    parse_head,
    read_link,
    sanitised_name,
    without_own_keys,
)
from arboretum.backends.admin_removal import AdminRemoval
from arboretum.backends.atomic_files import (
    exists,
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
    GitOperationError,
    PathOccupiedError,
    RefExistsError,
    RefNotFoundError,
    WorktreeLockedError,
    WorktreeNotFoundError,
)
from arboretum.values import Oid, WorktreeSpec

#: After so many taken numbers a name is made unique by chance: looking further would take longer with every worktree.
_NUMBERS: Final = 16


@define(eq=False)
class AdminFiles(AdminRemoval):
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

    # Making ----------------------------------------------------------------------------------

    def add(self, spec: WorktreeSpec) -> AdminRecord:
        """Make the folder of a worktree with its link and its admin folder; no files and no index yet.

        A detached add takes the same time however many worktrees there are: it looks only at the records that have
        the name of its folder, and at all of them only where a worktree was moved to a folder of another name. (So it
        does not see the record of a missing worktree that git itself had moved to its path.)

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
                        self.drop(record)
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
        folder = os.path.join(self.own, "tmp", secrets.token_hex(8))
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
        for record in self._claimants(path):
            if record.path != path:
                continue
            if record.locked is not None:
                raise WorktreeLockedError(
                    f"{path} belongs to a locked worktree that is missing" + because(record.locked),
                    operation="add_worktree",
                )
            if not os.path.lexists(path) and not force:
                raise PathOccupiedError(
                    f"{path} is registered as a worktree but is missing",
                    operation="add_worktree",
                    hint="prune the record first, or add it with force",
                )
            if not os.path.lexists(os.path.join(path, ".git")):
                self.drop(record)

    def _claimants(self, path: str) -> Iterable[AdminRecord]:
        """The records that may claim a path: those with the name of its folder; all if one has not that of its own."""
        if not exists(self._renamed):
            return self._named_as(path)
        records = tuple(self.records())
        if all(map(_is_named_as_its_folder, records)):
            os.unlink(self._renamed)
        return records

    @property
    def _renamed(self) -> str:
        """A file that is there while a record may have another name than its folder; records keep theirs in a move."""
        return os.path.join(self.own, "renamed-worktrees")

    def _named_as(self, path: str) -> Iterator[AdminRecord]:
        """The records that have the name of a folder, or that name with a number."""
        for name in itertools.islice(_names(sanitised_name(os.path.basename(path))), _NUMBERS):
            record = self.record(name) if os.path.lexists(f"{self.base}/{name}") else None
            if record is not None:
                yield record

    # Changing --------------------------------------------------------------------------------

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
            self.refuse_guests(record.path, "move_worktree")
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
        time.sleep(READERS_GRACE)
        try:
            yield
        finally:
            os.unlink(lock)

    def _shown(self, path: str, start: str) -> str:
        """How a link in the folder `start` names `path`."""
        return os.path.relpath(path, start) if self.relative else path

    def _connect(self, folder: str, link: str) -> None:
        """Let an admin folder lead to a worktree that was moved, and (where the way there is relative) back."""
        write_text(self._renamed, "")
        write_text(os.path.join(folder, "gitdir"), f"{self._shown(link, folder)}\n")
        if self.relative:
            write_text(link, f"gitdir: {self._shown(folder, os.path.dirname(link))}\n")

    def lock_worktree(self, path: str, reason: str) -> None:
        """Lock a worktree. Raises WorktreeLockedError when it is locked already."""
        with self.lock(), permissions(path):
            record = self.linked(path, "lock_worktree")
            if record.locked is not None:
                raise WorktreeLockedError(
                    f"the worktree {path} is locked already" + because(record.locked), operation="lock_worktree"
                )
            write_text(os.path.join(record.folder, "locked"), _line(reason))

    def unlock_worktree(self, path: str) -> None:
        """Unlock a worktree. Raises GitOperationError when it is not locked."""
        with self.lock(), permissions(path):
            record = self.linked(path, "unlock_worktree")
            if record.locked is None:
                raise GitOperationError(f"the worktree {path} is not locked", operation="unlock_worktree")
            os.unlink(os.path.join(record.folder, "locked"))

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


def _is_named_as_its_folder(record: AdminRecord) -> bool:
    names = itertools.islice(_names(sanitised_name(os.path.basename(record.path or record.name))), _NUMBERS)
    return record.name in names


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


__all__ = ["AdminFiles", "AdminRecord", "parse_head", "read_link", "remove_tree"]
