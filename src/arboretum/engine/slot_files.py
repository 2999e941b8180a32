"""Where a pool keeps its slots and what it records of them.

::

    <pool>/repository      the common git directory that it belongs to, for people
    <pool>/state/pool.lock held while a slot is chosen
    <pool>/state/N.lock    held by the owner of slot N
    <pool>/state/N.json    the record of slot N: JSON Lines, of which the last whole one counts
    <pool>/slots/NAME-N/   the worktree of slot N
    <pool>/trash/          worktrees that are being deleted
"""

from __future__ import annotations

import contextlib
import enum
import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Mapping
from typing import Any, Final

import platformdirs
import psutil
from attrs import asdict, define, field

from arboretum.engine.leases import new_lease_id
from arboretum.engine.records import encode
from arboretum.engine.slots import Slot, SlotState
from arboretum.engine.steps import Step, no_step
from arboretum.errors import PoolError
from arboretum.values import Oid
from arboretum.worktree_files.btrfs import delete_subvolume

#: Names another place for what would be in the user's cache folder.
CACHE_VARIABLE: Final = "ARBORETUM_CACHE_DIR"
_TAIL_BYTES: Final = 4096
_MAX_RECORD_BYTES: Final = 65536
_OWNER_FILE: Final = "arboretum-slot"
#: Added to the path of a slot for the snapshot that is about to take its place.
ASIDE: Final = ".new"


def cache_folder() -> str:
    """The folder for everything that can be made again: ``ARBORETUM_CACHE_DIR``, or the user's cache folder."""
    return os.environ.get(CACHE_VARIABLE) or str(platformdirs.user_cache_path("arboretum"))


def pool_folder(common_dir: str) -> str:
    """The folder of the pool of the repository with this common git directory; links in its path do not matter."""
    real = os.path.realpath(common_dir)
    digest = hashlib.sha256(os.fsencode(real)).hexdigest()[:12]
    return os.path.join(cache_folder(), "pools", f"{repository_name(real)}-{digest}")


def repository_name(common_dir: str) -> str:
    """A name for people, safe as part of a file name: ``toolz`` for ``/src/toolz/.git`` and ``/src/toolz.git``."""
    folder, name = os.path.split(common_dir.rstrip("/"))
    text = os.path.basename(folder) if name == ".git" else name.removesuffix(".git")
    return re.sub(r"[^A-Za-z0-9_-]+", "-", text).strip("-")[:40] or "repository"


class Ownership(enum.Enum):
    """Whose a slot's folder is."""

    OURS = "ours"  # the worktree that we made, whole
    MISSING = "missing"  # there is nothing
    BROKEN = "broken"  # we made it, but its record in the repository, or half of it, is gone
    LOCKED = "locked"  # ours, and somebody ran `git worktree lock` on it
    FOREIGN = "foreign"  # something that we did not make


@define(eq=False)
class SlotFiles:
    """The folder of a pool.

    Args:
        root: The folder.
        common_dir: The common git directory of the repository.
    """

    root: str
    common_dir: str
    _step: Step = no_step
    _name: str = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._name = repository_name(os.path.realpath(self.common_dir))

    def make(self) -> None:
        """Make the folder where it is missing.

        Raises:
            PoolError: It cannot be made or written.
        """
        try:
            self._step("pool.folders")
            for name in ("state", "slots", "trash"):
                os.makedirs(os.path.join(self.root, name), exist_ok=True)
            marker = os.path.join(self.root, "repository")
            if not os.path.exists(marker):
                self.replace(marker, os.fsencode(self.common_dir) + b"\n")
        except OSError as error:
            raise PoolError(
                f"cannot make the pool of worktrees in {self.root}: {error}",
                hint=f"set {CACHE_VARIABLE} to a folder that can be written and has space",
            ) from error

    @property
    def pool_lock(self) -> str:
        """The lock that is held while a slot is chosen."""
        return os.path.join(self.root, "state", "pool.lock")

    def slot_lock(self, number: int) -> str:
        """The lock that the owner of a slot holds."""
        return os.path.join(self.root, "state", f"{number}.lock")

    def slot_path(self, number: int) -> str:
        """Where the worktree of a slot is."""
        return os.path.join(self.root, "slots", f"{self._name}-{number}")

    @property
    def trash(self) -> str:
        """Where what is being deleted is."""
        return os.path.join(self.root, "trash")

    @property
    def template_lock(self) -> str:
        """The lock of who makes or removes the template."""
        return os.path.join(self.root, "state", "template.lock")

    @property
    def template_record(self) -> str:
        """What is known of the template."""
        return os.path.join(self.root, "state", "template.json")

    def aside(self, path: str) -> str:
        """Where a snapshot is made that is to take the place of the worktree at `path`."""
        return path + ASIDE

    # --- records ----------------------------------------------------------------------------------------------

    def read_all(self, known: Mapping[int, Slot] | None = None) -> list[Slot]:
        """The records of all slots, by number. A damaged one counts as a slot whose owner died while making it.

        Args:
            known: Records that need not be read, because the caller is who writes them.
        """
        folder, known = os.path.join(self.root, "state"), known or {}
        numbers = [int(n[:-5]) for n in os.listdir(folder) if n.endswith(".json") and n[:-5].isdigit()]
        return [known.get(number) or self.read(number) for number in sorted(numbers)]

    def read(self, number: int) -> Slot:
        """The record of one slot; the same rule for a damaged one."""
        try:
            with open(self._record(number), "rb") as file:
                size = os.fstat(file.fileno()).st_size
                for length in (_TAIL_BYTES, size):
                    file.seek(max(0, size - length))
                    if (slot := _last_slot(file.read())) is not None:
                        return slot
        except OSError:
            pass
        return Slot(number=number, path=self.slot_path(number), wipe=True)

    def write(self, slot: Slot) -> None:
        """Keep the record; a reader sees the old one or this one, never a part. Only who holds the slot's lock writes.

        It is appended, because to replace a file costs milliseconds on a file system that then flushes its data (ext4).

        Raises:
            PoolError: It cannot be written; the old one still counts.
        """
        line = b"\n" + encode(asdict(slot)).encode("ascii") + b"\n"
        path = self._record(slot.number)
        try:
            self._step(f"slot.write.{slot.state}")
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
            try:
                size = os.fstat(descriptor).st_size
                if size > _MAX_RECORD_BYTES:
                    self.replace(path, line)
                else:
                    _append(descriptor, line, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise PoolError(
                f"cannot write the record of slot {slot.name}: {error}",
                hint=f"make space in {self.root}, or set {CACHE_VARIABLE} to another folder",
            ) from error

    def forget(self, number: int) -> None:
        """Remove the record of a slot that is gone."""
        self._step("slot.forget")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._record(number))

    def _record(self, number: int) -> str:
        return os.path.join(self.root, "state", f"{number}.json")

    def replace(self, path: str, data: bytes) -> None:
        """Put `data` at `path`, whole."""
        temporary = f"{path}.{os.getpid()}-{new_lease_id()[:8]}.tmp"
        try:
            with open(temporary, "wb") as file:
                file.write(data)
            self._step("slot.rename")
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise

    # --- worktrees --------------------------------------------------------------------------------------------

    def mark_as_ours(self, slot: Slot) -> None:
        """Write the slot's token into the worktree's folder in the common git directory."""
        self._step("slot.token")
        with open(os.path.join(slot.admin, _OWNER_FILE), "w", encoding="ascii") as file:
            file.write(slot.token)

    def ownership(self, slot: Slot) -> Ownership:
        """Whose the folder of `slot` is, by what is on the disk now."""
        link = read_link(slot.path)
        if link is None:
            if not os.path.lexists(slot.path):
                return Ownership.MISSING
            made_by_us = not slot.token or not slot.admin  # its owner died while making it
            return Ownership.BROKEN if made_by_us and _is_plain_folder(slot.path) else Ownership.FOREIGN
        if not slot.admin:
            inside = os.path.dirname(os.path.realpath(link)) == self.admin_root
            return Ownership.BROKEN if inside else Ownership.FOREIGN
        if link != slot.admin and os.path.realpath(link) != os.path.realpath(slot.admin):
            return Ownership.FOREIGN
        if os.path.exists(os.path.join(slot.admin, "locked")):
            return Ownership.LOCKED
        token = _read_text(os.path.join(slot.admin, _OWNER_FILE))
        return Ownership.OURS if token == slot.token else Ownership.BROKEN

    @property
    def admin_root(self) -> str:
        """Where git keeps what it knows of linked worktrees."""
        return os.path.join(os.path.realpath(self.common_dir), "worktrees")

    def discard(self, path: str) -> str | None:
        """Move the folder at `path` out of the way, at once whatever its size; `empty_trash` deletes it.

        Returns:
            Where it is now; None when there was nothing.
        """
        self._step("slot.discard")
        target = os.path.join(self.trash, new_lease_id())
        try:
            os.rename(path, target)
        except FileNotFoundError:
            return None
        return target

    def empty_trash(self) -> tuple[str, ...]:
        """Delete what was discarded, by this process or by one that died.

        Returns:
            What could not be deleted.
        """
        left = []
        for name in os.listdir(self.trash):
            path = os.path.join(self.trash, name)
            self._step("trash.delete")
            delete_subvolume(path)
            shutil.rmtree(path, ignore_errors=True)
            if os.path.lexists(path):
                open_folders(path)
                shutil.rmtree(path, ignore_errors=True)
            if os.path.lexists(path):
                left.append(path)
        return tuple(left)

    # --- order ------------------------------------------------------------------------------------------------

    def admin_folders(self) -> list[str]:
        """The folders, in the common git directory, of worktrees that lie in this pool."""
        return [admin for admin, _path in self._registered()]

    def registered_paths(self) -> list[str]:
        """The paths of the worktrees in this pool that the repository knows."""
        return [path for _admin, path in self._registered()]

    def _registered(self) -> list[tuple[str, str]]:
        found, slots = [], os.path.join(self.root, "slots")
        with contextlib.suppress(OSError):
            for name in os.listdir(self.admin_root):
                # git shortens no name, and adds digits where one is taken: ours start with the repository's name
                if name.startswith(f"{self._name}-"):
                    link = _read_text(os.path.join(self.admin_root, name, "gitdir")) or ""
                    path = os.path.dirname(link.rstrip("\n"))
                    if os.path.dirname(path) == slots:
                        found.append((os.path.join(self.admin_root, name), path))
        return found

    def leftovers(self) -> list[str]:
        """What processes that died in the middle have left here: half-written files, folders not yet deleted."""
        state = os.path.join(self.root, "state")
        half = [os.path.join(state, name) for name in os.listdir(state) if _dead_writer(name)]
        half += [path for _number, path in self.asides()]
        return half + [os.path.join(self.trash, name) for name in os.listdir(self.trash)]

    def asides(self) -> list[tuple[int, str]]:
        """Snapshots that have not taken a slot's place, with the number of the slot."""
        slots, form = os.path.join(self.root, "slots"), re.compile(rf"{re.escape(self._name)}-(\d+){re.escape(ASIDE)}")
        matches = [form.fullmatch(name) for name in os.listdir(slots)]
        return [(int(match[1]), os.path.join(slots, match[0])) for match in matches if match]

    def remove_temporary_files(self) -> None:
        """Remove the half-written records of processes that died."""
        folder = os.path.join(self.root, "state")
        for name in os.listdir(folder):
            if _dead_writer(name):
                self._step("slot.remove-temporary")
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(os.path.join(folder, name))


def _dead_writer(name: str) -> bool:
    """Whether `name` is that of a half-written file whose writer is gone; if its number was given anew, not yet."""
    match = re.search(r"\.(\d+)-[0-9a-f]{8}\.tmp$", name)
    return match is not None and int(match[1]) != os.getpid() and not psutil.pid_exists(int(match[1]))


def read_link(worktree: str) -> str | None:
    """The folder that the ``.git`` file of a linked worktree names (absolute); None when there is no such file."""
    text = _read_text(os.path.join(worktree, ".git")) if not os.path.islink(worktree) else None
    if text is None or not text.startswith("gitdir: "):
        return None
    return os.path.normpath(os.path.join(worktree, text.removeprefix("gitdir: ").rstrip("\n")))


def open_folders(root: str) -> None:
    """Give us back the right to read, enter and change every folder below `root` that a trial has closed."""
    pending = [root]
    while pending:
        folder = pending.pop()
        with contextlib.suppress(OSError):
            mode = stat.S_IMODE(os.lstat(folder).st_mode)
            if mode & stat.S_IRWXU != stat.S_IRWXU:
                os.chmod(folder, mode | stat.S_IRWXU)
            with os.scandir(folder) as entries:
                pending += [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]


def _is_plain_folder(path: str) -> bool:
    return stat.S_ISDIR(os.lstat(path).st_mode)


def _read_text(path: str) -> str | None:
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, "rb") as file:
            return os.fsdecode(file.read(65536))
    except OSError:
        return None


def _append(descriptor: int, line: bytes, size: int) -> None:
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        os.ftruncate(descriptor, size)
        raise


def _last_slot(data: bytes) -> Slot | None:
    """The record of the last line that is whole."""
    for line in reversed(data.split(b"\n")):
        if line:
            try:
                return _slot_of(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError):
                continue
    return None


def _slot_of(record: dict[str, Any]) -> Slot:
    state, commit = SlotState(record.pop("state")), record.pop("commit")
    return Slot(state=state, commit=Oid(commit) if commit else None, **record)  # another field is a TypeError
