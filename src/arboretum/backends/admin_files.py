"""Worktree admin files (``$GIT_COMMON_DIR/worktrees/<name>/``), read and written by ourselves.

The format is that of gitrepository-layout(5). An admin folder is made aside and renamed into place, so that nobody,
git included, ever sees a half-made one: that is the race that breaks concurrent ``git worktree add``. One lock of the
common git directory is held around each change of the set of worktrees; the kernel lets go of it when its holder dies.
Nothing here runs git, so a library that has no worktree operations of its own can use it, too.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from attrs import define, field, frozen

from arboretum.errors import (
    BranchCheckedOutError,
    GitOperationError,
    GitPermissionError,
    InvalidValueError,
    PathOccupiedError,
    WorktreeLockedError,
    WorktreeNotFoundError,
)
from arboretum.values import Oid, RefName, WorktreeInfo, WorktreeSpec

#: Where a branch that is being rebased or bisected is named, below the git directory of its worktree.
_BRANCH_IN_PROGRESS: Final = ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
#: Seconds for which an admin folder without its link is taken for one that git is making right now.
_HALF_MADE: Final = 60.0
_RENAME_NOREPLACE: Final = 1
_AT_FDCWD: Final = -100
RefReader = Callable[[RefName], Oid | None]


@frozen
class AdminRecord:
    """One admin folder.

    Args:
        name: The name of the folder.
        folder: Its absolute path.
        link: The worktree's ``.git`` file as the record has it; None when that cannot be read.
        head: The content of HEAD: a branch or an id.
        locked: The reason it is locked; None when it is not.
    """

    name: str
    folder: str
    link: str | None
    head: RefName | Oid | None
    locked: str | None

    @property
    def path(self) -> str | None:
        """The worktree's folder."""
        return os.path.dirname(self.link) if self.link is not None else None

    def prunable(self) -> str | None:
        """Why git would prune the record; None when it would not."""
        if self.locked is not None:
            return None
        if self.link is None:
            return "gitdir file does not exist"
        return None if os.path.lexists(self.link) else "gitdir file points to non-existent location"


@define(eq=False)
class AdminFiles:
    """The worktree records of one repository.

    Args:
        common_dir: The git directory that all worktrees share.
        main_path: The main worktree; None for a bare repository.
        read_ref: Looks up the commit of a branch.
        relative: Whether links are written as relative paths (``extensions.relativeWorktrees``).
    """

    common_dir: str
    main_path: str | None
    read_ref: RefReader
    relative: bool = False
    _own: str = field(init=False)
    _lock: object = field(init=False, default=None)

    def __attrs_post_init__(self) -> None:
        self._own = os.path.join(self.common_dir, "arboretum")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the one lock around changes of the set of worktrees, against all threads and processes.

        Raises:
            GitPermissionError: The common git directory cannot be written.
        """
        from filelock import FileLock

        try:
            os.makedirs(self._own, exist_ok=True)
            lock = FileLock(os.path.join(self._own, "worktrees.lock"), thread_local=False)
            lock.acquire()
        except OSError as error:
            raise GitPermissionError(
                f"cannot lock {self._own}: {error.strerror}", hint="the git directory must be writable"
            ) from error
        try:
            yield
        finally:
            lock.release()

    # Reading ---------------------------------------------------------------------------------

    def records(self) -> list[AdminRecord]:
        """All admin folders, in no order; ones that are being made by git right now are left out."""
        base = os.path.join(self.common_dir, "worktrees")
        try:
            names = os.listdir(base)
        except (FileNotFoundError, NotADirectoryError):
            return []
        records = (self._record(name, os.path.join(base, name)) for name in names)
        return [record for record in records if record is not None]

    def _record(self, name: str, folder: str) -> AdminRecord | None:
        head = _read(os.path.join(folder, "HEAD"))
        link = _read(os.path.join(folder, "gitdir"))
        if head is None and link is None and not os.path.isdir(folder):
            return None
        locked = _read(os.path.join(folder, "locked"))
        return AdminRecord(
            name=name,
            folder=folder,
            link=os.path.normpath(os.path.join(folder, link.rstrip("\n"))) if link and link.strip() else None,
            head=parse_head(head),
            locked=locked.strip() if locked is not None else None,
        )

    def infos(self) -> tuple[WorktreeInfo, ...]:
        """What there is to know of all worktrees: the main one first, then the linked ones sorted by path."""
        linked = (
            self._info(record.path, record.head, name=record.name, locked=record.locked, prunable=record.prunable())
            for record in self.records()
            if record.path is not None
        )
        head = parse_head(_read(os.path.join(self.common_dir, "HEAD")))
        if self.main_path is None:
            main = WorktreeInfo(self.common_dir, None, None, is_main=True, bare=True)
        else:
            main = self._info(self.main_path, head, is_main=True)
        return (main, *sorted(linked, key=lambda info: os.fsencode(info.path)))

    def _info(
        self,
        path: str,
        head: RefName | Oid | None,
        *,
        is_main: bool = False,
        name: str = "",
        locked: str | None = None,
        prunable: str | None = None,
    ) -> WorktreeInfo:
        branch = head if isinstance(head, RefName) else None
        oid = self.read_ref(head) if isinstance(head, RefName) else head
        if oid is not None and oid.is_null:
            oid = None
        return WorktreeInfo(path, oid, branch, is_main=is_main, name=name, locked=locked, prunable=prunable)

    def find(self, path: str) -> AdminRecord:
        """The record of the worktree at `path`.

        Raises:
            WorktreeNotFoundError: There is none.
        """
        wanted = {os.path.normpath(path), os.path.realpath(path)}
        for record in self.records():
            if record.path is not None and (record.path in wanted or os.path.realpath(record.path) in wanted):
                return record
        raise WorktreeNotFoundError(f"{path} is not a linked worktree of {self.common_dir}")

    def user_of(self, branch: RefName, *, but: str | None = None) -> str | None:
        """The worktree that is on `branch` (also in the middle of a rebase or bisect of it), other than `but`."""
        places: list[tuple[str | None, str, RefName | Oid | None]] = [
            (record.path, record.folder, record.head) for record in self.records()
        ]
        if self.main_path is not None:
            places.append((self.main_path, self.common_dir, parse_head(_read(os.path.join(self.common_dir, "HEAD")))))
        for path, git_dir, head in places:
            if path is not None and path != but and (head == branch or branch in _in_progress(git_dir)):
                return path
        return None

    # Making ----------------------------------------------------------------------------------

    def add(self, spec: WorktreeSpec) -> AdminRecord:
        """Make the folder of a worktree with its link and its admin folder; no files and no index yet.

        Raises:
            PathOccupiedError: There is something at the path, or a record of a missing worktree claims it.
            BranchCheckedOutError: A worktree is on the branch.
            WorktreeLockedError: A locked record claims the path.
            GitPermissionError: The path or the git directory cannot be written.
        """
        path = os.path.join(os.path.realpath(os.path.dirname(spec.path)), os.path.basename(spec.path))
        branch = spec.branch or spec.orphan
        head = f"ref: {branch}\n" if branch is not None else f"{spec.detach}\n"
        with self.lock(), _permissions(path):
            self._clear_claim(path, force=spec.force)
            if branch is not None and not spec.force and (user := self.user_of(branch)) is not None:
                raise BranchCheckedOutError(
                    f"branch {branch.short!r} is already checked out at {user}",
                    operation="add_worktree",
                    hint="use that worktree, another branch, or a detached one",
                )
            made = _make_folder(path)
            try:
                return self._place(path, head, spec)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(path, ".git"))
                for folder in made:
                    with contextlib.suppress(OSError):
                        os.rmdir(folder)
                raise

    def _place(self, path: str, head: str, spec: WorktreeSpec) -> AdminRecord:
        link = os.path.join(path, ".git")
        with self._aside() as aside:
            os.makedirs(os.path.join(aside, "logs"))
            files = {"HEAD": head, "commondir": "../..\n"}
            if spec.lock is not None:
                files["locked"] = spec.lock
            if spec.detach is not None:
                files["ORIG_HEAD"] = head
            for name, text in files.items():
                _write(os.path.join(aside, name), text)
            self._inherit_sparse(aside)
            name = self._claim_name(os.path.basename(path), aside, link)
        folder = os.path.join(self.common_dir, "worktrees", name)
        return AdminRecord(name, folder, link, parse_head(head), spec.lock)

    def _claim_name(self, wish: str, aside: str, link: str) -> str:
        """Rename the folder `aside` to the first free name; the worktree's own link is there a moment before."""
        base = os.path.join(self.common_dir, "worktrees")
        os.makedirs(base, exist_ok=True)
        name = stem = sanitised_name(wish)
        number = 0
        while True:
            folder = os.path.join(base, name)
            if not os.path.lexists(folder):
                _write(link, f"gitdir: {self._shown(folder, os.path.dirname(link))}\n")
                _write(os.path.join(aside, "gitdir"), f"{self._shown(link, folder)}\n")
                try:
                    _rename_new(aside, folder)
                except OSError as error:
                    if error.errno not in {errno.EEXIST, errno.ENOTEMPTY}:
                        raise
                else:
                    return name
            number += 1
            name = f"{stem}{number}"

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
        """Take over sparse patterns and the per-worktree configuration of the main worktree, as git does."""
        for name in ("info/sparse-checkout", "config.worktree"):
            source = os.path.join(self.common_dir, name)
            if os.path.isfile(source):
                os.makedirs(os.path.dirname(os.path.join(aside, name)), exist_ok=True)
                shutil.copyfile(source, os.path.join(aside, name))
        _drop_place(os.path.join(aside, "config.worktree"))

    def _clear_claim(self, path: str, *, force: bool) -> None:
        """Refuse a path that is taken; with `force` forget the record of a missing worktree there."""
        for record in self.records():
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
                self._forget(record)
        if os.path.lexists(path) and not (os.path.isdir(path) and not os.path.islink(path) and not os.listdir(path)):
            raise PathOccupiedError(
                f"{path} exists and is not an empty folder", operation="add_worktree", hint="choose another path"
            )

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
        if record.path is not None and os.path.lexists(record.path) and not self._is_still(record):
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

    def _is_still(self, record: AdminRecord) -> bool:
        """Whether the folder's own link leads back to the record."""
        target = read_link(record.link) if record.link is not None else None
        return target is not None and os.path.realpath(target) == os.path.realpath(record.folder)

    def remove(self, path: str) -> None:
        """Remove a worktree's folder and record, whatever it holds: renamed away first, deleted behind.

        Raises:
            WorktreeNotFoundError: It is not (or no longer) a worktree of this repository.
            WorktreeLockedError: It is locked.
        """
        with self.lock(), _permissions(path):
            record = self.unlocked(path, "remove_worktree")
            doomed = None
            if record.path is not None and os.path.lexists(record.path):
                parent, name = os.path.split(record.path)
                doomed = os.path.join(parent, f".{name[:100]}.removed-{secrets.token_hex(4)}")
                os.rename(record.path, doomed)
            self._forget(record)
        if doomed is not None:
            remove_tree(doomed)

    def discard(self, record: AdminRecord) -> None:
        """Take back what `add` made, after a failure to fill it."""
        with self.lock():
            self._forget(record)
        if record.path is not None:
            remove_tree(record.path)

    def _forget(self, record: AdminRecord) -> None:
        doomed = os.path.join(self._own, "tmp", secrets.token_hex(8))
        os.makedirs(os.path.dirname(doomed), exist_ok=True)
        os.rename(record.folder, doomed)
        remove_tree(doomed)

    def move(self, path: str, new_path: str) -> AdminRecord:
        """Move a worktree's folder and mend its record.

        Raises:
            WorktreeLockedError: It is locked.
            PathOccupiedError: There is something at `new_path`.
            WorktreeNotFoundError: It is not a worktree of this repository.
        """
        target = os.path.join(os.path.realpath(os.path.dirname(new_path)), os.path.basename(new_path))
        with self.lock(), _permissions(new_path):
            record = self.unlocked(path, "move_worktree")
            if record.path is None or not os.path.isdir(record.path):
                raise WorktreeNotFoundError(f"{path} is missing", operation="move_worktree")
            if os.path.isdir(os.path.join(record.folder, "modules")):
                raise GitOperationError(
                    f"{path} has initialised submodules; such a worktree cannot be moved", operation="move_worktree"
                )
            if os.path.lexists(target):
                raise PathOccupiedError(f"{new_path} exists", operation="move_worktree", hint="choose another path")
            os.makedirs(os.path.dirname(target), exist_ok=True)
            shutil.move(record.path, target)
            self._connect(record.folder, os.path.join(target, ".git"))
            moved = self._record(record.name, record.folder)
        assert moved is not None
        return moved

    def _shown(self, path: str, start: str) -> str:
        """How a link in the folder `start` names `path`."""
        return os.path.relpath(path, start) if self.relative else path

    def _connect(self, folder: str, link: str) -> None:
        """Let an admin folder lead to a worktree that was moved, and (where the way there is relative) back."""
        _write(os.path.join(folder, "gitdir"), f"{self._shown(link, folder)}\n")
        if self.relative:
            _write(link, f"gitdir: {self._shown(folder, os.path.dirname(link))}\n")

    def lock_worktree(self, path: str, reason: str) -> None:
        """Lock a worktree. Raises WorktreeLockedError when it is locked already."""
        with self.lock(), _permissions(path):
            record = self._linked(path, "lock_worktree")
            if record.locked is not None:
                raise WorktreeLockedError(
                    f"the worktree {path} is locked already" + _because(record.locked), operation="lock_worktree"
                )
            _write(os.path.join(record.folder, "locked"), reason)

    def unlock_worktree(self, path: str) -> None:
        """Unlock a worktree. Raises GitOperationError when it is not locked."""
        with self.lock(), _permissions(path):
            record = self._linked(path, "unlock_worktree")
            if record.locked is None:
                raise GitOperationError(f"the worktree {path} is not locked", operation="unlock_worktree")
            os.unlink(os.path.join(record.folder, "locked"))

    def prune(self, *, dry_run: bool = False) -> tuple[WorktreeInfo, ...]:
        """Remove the records of worktrees that are gone; ones that git may be making right now stay."""
        pruned: list[WorktreeInfo] = []
        with self.lock():
            for record in self.records():
                reason = record.prunable()
                if reason is None or (record.link is None and _age(record.folder) < _HALF_MADE):
                    continue
                pruned.append(self._info(record.path or record.folder, record.head, name=record.name, prunable=reason))
                if not dry_run:
                    self._forget(record)
        return tuple(sorted(pruned, key=lambda info: os.fsencode(info.path)))

    def repair(self, paths: Sequence[str]) -> None:
        """Mend the links in both directions; `paths` are worktrees that were moved by hand.

        Raises:
            WorktreeNotFoundError: One of `paths` is no worktree of this repository.
        """
        base = os.path.realpath(os.path.join(self.common_dir, "worktrees"))
        with self.lock():
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
                if record.path is not None and os.path.isdir(record.path) and not self._is_still(record):
                    self._mend(record)

    def _mend(self, record: AdminRecord) -> None:
        """Point a worktree's missing or dangling link at its record; a link that leads elsewhere is not ours."""
        assert record.link is not None
        target = read_link(record.link)
        if target is None and os.path.lexists(record.link) and not os.path.isfile(record.link):
            return
        if target is None or not os.path.isdir(target):
            _write(record.link, f"gitdir: {self._shown(record.folder, os.path.dirname(record.link))}\n")


# Small parts ---------------------------------------------------------------------------------


def parse_head(text: str | None) -> RefName | Oid | None:
    """What a HEAD file says: the branch (or other ref), the commit, or None when it cannot be read."""
    if text is None:
        return None
    text = text.strip()
    try:
        return RefName(text[4:].strip()) if text.startswith("ref:") else Oid(text)
    except ValueError:
        return None


def read_link(path: str) -> str | None:
    """The git directory that the ``.git`` file at `path` leads to (absolute); None when it is no such file."""
    text = _read(path)
    if text is None or not text.startswith("gitdir: "):
        return None
    return os.path.normpath(os.path.join(os.path.dirname(path), text[8:].rstrip("\n")))


def sanitised_name(text: str) -> str:
    """A name for an admin folder, made of the basename of a path as git does: fit to be part of a ref name."""
    name = re.sub(r"[\x00-\x20\x7f~^:?*\[\\\udc80-\udcff]+|\.\.+|@\{", "-", text)
    name = re.sub(r"(?:\.lock)+\Z", "", name.strip(".").lstrip("-")).strip(".")
    return name or "worktree"


def remove_tree(path: str) -> None:
    """Delete a folder and all below it, read-only folders too."""

    def make_writable(function: Callable[[str], object], failed: str, _info: object) -> None:
        parent = os.path.dirname(failed)
        for folder in (parent, failed):
            with contextlib.suppress(OSError):
                if not os.path.islink(folder):
                    os.chmod(folder, stat.S_IMODE(os.lstat(folder).st_mode) | stat.S_IRWXU)
        if os.path.isdir(failed) and not os.path.islink(failed):
            shutil.rmtree(failed, ignore_errors=True)
        else:
            function(failed)

    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    elif sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=make_writable)
    else:
        shutil.rmtree(path, onerror=make_writable)


def _in_progress(git_dir: str) -> set[str]:
    """The branches that a rebase or bisect of the worktree with this git directory will come back to."""
    texts = (_read(os.path.join(git_dir, name)) for name in _BRANCH_IN_PROGRESS)
    names = [text.strip() for text in texts if text]
    return {name if name.startswith("refs/") else f"refs/heads/{name}" for name in names}


def _drop_place(path: str) -> None:
    """Take out of a copied configuration what says where the main worktree's files are: core.bare and core.worktree."""
    text = _read(path)
    if text is None:
        return
    kept, section = [], ""
    for line in text.splitlines(keepends=True):
        if line.lstrip().startswith("["):
            section = line.strip().lower()
        if section == "[core]" and re.match(r"\s*(?:bare|worktree)\s*(?:=|$)", line, re.IGNORECASE):
            continue
        kept.append(line)
    _write(path, "".join(kept))


def _make_folder(path: str) -> list[str]:
    """Make a folder and its parents; what was made, innermost first."""
    made: list[str] = []
    missing = path
    while not os.path.lexists(missing):
        made.append(missing)
        missing = os.path.dirname(missing)
    os.makedirs(path, exist_ok=True)
    return made


def _read(path: str) -> str | None:
    # os.open and os.read take two thirds of the time of open(): listing thousands of worktrees is these calls.
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError as error:
        raise GitPermissionError(f"cannot read {path}: {error.strerror}") from error
    try:
        return os.fsdecode(os.read(descriptor, 65536))
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)


def _write(path: str, text: str) -> None:
    """Put `text` at `path` in one step: a reader sees the old content or the new one."""
    aside = f"{path}.{secrets.token_hex(4)}"
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        os.write(descriptor, os.fsencode(text))
    finally:
        os.close(descriptor)
    os.replace(aside, path)


def _rename_new(source: str, target: str) -> None:
    """Rename a folder to a name that nothing has: rename(2) alone would silently replace an empty folder."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if hasattr(libc, "renameat2"):
            done = libc.renameat2(
                _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_RENAME_NOREPLACE)
            )
            number = ctypes.get_errno()
            if done == 0:
                return
            if number not in {errno.EINVAL, errno.ENOSYS}:
                raise OSError(number, os.strerror(number), target)
    os.rename(source, target)


def _age(path: str) -> float:
    try:
        return time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""


@contextlib.contextmanager
def _permissions(path: str) -> Iterator[None]:
    """Tell the operating system's refusal as an error of ours, its cause kept."""
    try:
        yield
    except OSError as error:
        raise GitPermissionError(
            f"cannot change {error.filename or path}: {error.strerror}", hint="check the permissions and the free space"
        ) from error
