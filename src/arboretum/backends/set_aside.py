"""A worktree on its way out, as it lies on the disk: its folder renamed, its record in a folder of ours.

::

    arboretum/removed/<id>/lock     locked (flock) by the process at work; free when that is dead
    arboretum/removed/<id>/note     what is removed, and how it was; written before anything is touched
    arboretum/removed/<id>/kept     the note's name when all work is kept: from then on the files may be deleted
    arboretum/removed/<id>/admin/   the admin folder, once git's readers are through with it

So whoever comes after a process that was killed finds what it has left, and knows how far it had come. Nothing is
written into the worktree's folder, and it is only touched when it is the one of the note: same device and inode, and
its ``.git`` says what it said. Going back takes renames only, which a full disk allows.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
from collections.abc import Iterator
from typing import Final, Self

from attrs import asdict, define, field, frozen

from arboretum.backends.admin_records import AdminRecord
from arboretum.backends.atomic_files import read_text, remove_tree, write_new
from arboretum.errors import GitOperationError
from arboretum.values import Oid

#: The files of a record that are different while it is set aside; what they were has this ending.
_CHANGED: Final = ("HEAD", "commondir", "gitdir")
_WAS: Final = ".was"
_NEW: Final = ".new"
#: From an admin folder that was set aside to the common git directory.
_COMMON: Final = "../../../..\n"
#: How often a folder is emptied in which somebody is writing.
_TRIES: Final = 5


@frozen
class Note:
    """What is removed, and how it was.

    Args:
        path: The folder of the worktree.
        aside: Where it is put, beside.
        folder_id: Device and inode of the folder.
        record: The name of the admin folder.
        record_id: Device and inode of the admin folder.
        link: The text of the worktree's ``.git`` file.
        oid: The commit it stands at; None for a branch without commits.
    """

    path: str
    aside: str
    folder_id: tuple[int, ...]
    record: str
    record_id: tuple[int, ...]
    link: str
    oid: str | None

    @classmethod
    def of(cls, record: AdminRecord, oid: Oid | None) -> Self:
        """The note of a worktree whose folder is there."""
        assert record.path is not None
        parent, name = os.path.split(record.path)
        return cls(
            path=record.path,
            aside=os.path.join(parent, f".{name[:100]}.removed-{secrets.token_hex(4)}"),
            folder_id=_identity(record.path),
            record=record.name,
            record_id=_identity(record.folder),
            link=read_text(os.path.join(record.path, ".git")) or "",
            oid=oid,
        )

    @classmethod
    def read(cls, place: str) -> Self | None:
        """The note in this folder; None when it was not written to its end."""
        try:
            values = json.loads(read_text(f"{place}/note") or read_text(f"{place}/kept") or "")
            values |= {key: tuple(values[key]) for key in ("folder_id", "record_id")}
            return cls(**values)
        except (ValueError, KeyError, TypeError):
            return None


@define(eq=False)
class SetAside:
    """One worktree on its way out, in this process's hands.

    Args:
        place: The folder ``removed/<id>``.
        note: What it is.
    """

    place: str
    note: Note
    _lock: int
    _locked: bool = field(default=True, init=False)

    @classmethod
    def begin(cls, root: str, note: Note) -> Self:
        """Write down that a worktree is being removed; the lock around changes of the set of worktrees is held."""
        place = os.path.join(root, secrets.token_hex(8))
        os.makedirs(place)
        try:
            lock = os.open(os.path.join(place, "lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                write_new(os.path.join(place, "note"), json.dumps(asdict(note)))
            except BaseException:
                os.close(lock)
                raise
        except BaseException:
            remove_tree(place)
            raise
        return cls(place, note, lock)

    @classmethod
    def abandoned(cls, root: str) -> Iterator[Self]:
        """Those whose process is dead, now in our hands; the lock around changes of the set of worktrees is held."""
        try:
            names = sorted(os.listdir(root))
        except FileNotFoundError:
            return
        for name in names:
            place = os.path.join(root, name)
            try:
                lock = os.open(os.path.join(place, "lock"), os.O_RDWR | os.O_CLOEXEC)
            except OSError:
                with contextlib.suppress(OSError):
                    os.rmdir(place)  # killed before there was a lock
                continue
            if not _try_lock(lock):
                os.close(lock)
                continue
            note = Note.read(place)
            if note is not None:
                yield cls(place, note, lock)
                continue
            if not os.path.lexists(os.path.join(place, "admin")):
                remove_tree(place)  # killed before the note was written: nothing had been touched
            os.close(lock)

    @property
    def folder(self) -> str:
        """Where the worktree's folder is until it is deleted."""
        return self.note.aside

    @property
    def admin(self) -> str:
        """Where its admin folder is, once it has been taken away."""
        return os.path.join(self.place, "admin")

    @property
    def is_whole(self) -> bool:
        """Whether the record was taken away, too: from then on the removal is carried to its end."""
        return os.path.isdir(self.admin)

    @property
    def is_kept(self) -> bool:
        """Whether all work in it is kept."""
        return os.path.lexists(os.path.join(self.place, "kept"))

    def mark_kept(self) -> None:
        """Write down that all work in it is kept."""
        os.rename(os.path.join(self.place, "note"), os.path.join(self.place, "kept"))

    def is_ours(self, folder: str) -> bool:
        """Whether a folder is that of the worktree, and none that only has its name."""
        return _is(folder, self.note.folder_id) and read_text(os.path.join(folder, ".git")) == self.note.link

    def is_record(self, folder: str) -> bool:
        """Whether an admin folder is that of the worktree: its name may be used again."""
        return _is(folder, self.note.record_id)

    def adapt(self) -> None:
        """Let the record, which was taken away, be right where it is, for those who are told of it.

        HEAD names the commit: the branch is free from now on, so it may move or go.
        """
        texts = {"commondir": _COMMON, "gitdir": f"{self.folder}/.git\n"}
        if self.note.oid is not None:
            texts["HEAD"] = f"{self.note.oid}\n"
        for name, text in texts.items():
            new = os.path.join(self.admin, name + _NEW)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(new)
            write_new(new, text)
        for name in texts:
            path = os.path.join(self.admin, name)
            if not os.path.lexists(path + _WAS):
                os.rename(path, path + _WAS)
            os.replace(path + _NEW, path)

    def delete_files(self) -> None:
        """Delete the folder; its link goes last, so that it can be told from others to the end.

        Raises:
            OSError: Something in it cannot be deleted.
        """
        if self.is_ours(self.folder):
            self._empty()
            os.unlink(os.path.join(self.folder, ".git"))
            os.rmdir(self.folder)
        elif _is(self.folder, self.note.folder_id):
            with contextlib.suppress(OSError):
                os.rmdir(self.folder)  # killed in the moment between the two last steps

    def _empty(self) -> None:
        os.chmod(self.folder, stat.S_IMODE(os.lstat(self.folder).st_mode) | stat.S_IRWXU)
        for _ in range(_TRIES):
            names = [name for name in os.listdir(self.folder) if name != ".git"]
            if not names:
                return
            for name in names:
                remove_tree(os.path.join(self.folder, name))
        raise GitOperationError(f"{self.folder} does not become empty: somebody is writing in it")

    def release(self) -> None:
        """Let go of it, also twice. What is not done yet is for the next sweep."""
        if self._locked:
            self._locked = False
            os.close(self._lock)


def hide(admin: str) -> None:
    """Let nobody find an admin folder any more: git skips one without its link, and so do we."""
    path = os.path.join(admin, "gitdir")
    os.rename(path, path + _WAS)


def restore(admin: str) -> None:
    """Let the files of a record be what they were."""
    for name in _CHANGED:
        path = os.path.join(admin, name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path + _NEW)
        with contextlib.suppress(FileNotFoundError):
            os.replace(path + _WAS, path)


def _identity(path: str) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_dev, found.st_ino


def _is(path: str, identity: tuple[int, ...]) -> bool:
    try:
        return _identity(path) == identity
    except OSError:
        return False


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
