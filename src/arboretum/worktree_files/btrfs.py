"""Subvolumes of btrfs: made, snapshotted and deleted at once, whatever is in them.

Nothing here needs a program or the rights of root: the system calls say what they can do. The numbers are those of
Linux's ``uapi/linux/btrfs.h``.
"""

from __future__ import annotations

import os
import stat
import struct
import sys
from collections.abc import Callable
from typing import Final, Self

from attrs import frozen

_SYNC: Final = 0x9408
_SUBVOL_CREATE: Final = 0x5000940E
_SNAP_DESTROY: Final = 0x5000940F
_SNAP_CREATE_V2: Final = 0x50009417
_GET_SUBVOL_INFO: Final = 0x81F8943C
_SUBVOL_SETFLAGS: Final = 0x4008941A
#: The inode number of the root of every subvolume.
_ROOT_INODE: Final = 256
#: fd, name (the form of most calls): 4096 bytes.
_ARGUMENTS: Final = struct.Struct("=q4088s")
#: fd, transaction, flags, unused, name: 4096 bytes.
_ARGUMENTS_2: Final = struct.Struct("=qQQ32s4040s")
#: id, name, parent's id, its folder, generation, flags, uuid, parent's uuid, received uuid, change; the rest is left.
_INFO: Final = struct.Struct("=Q256sQQQQ16s16s16sQ")
_INFO_BYTES: Final = 504


@frozen
class Subvolume:
    """What tells one state of a subvolume from any other.

    Args:
        uuid: Its own name, random; nothing else ever has it.
        parent: The one of what it is a snapshot of.
        changed: The transaction in which something in it was last changed: content, rights, names, times. It never
            goes back, and a snapshot of it, its flags, and where it lies do not count. A change that is not written
            yet may not be in it, but everything that a snapshot has is, once that was taken: snapshots write first.
    """

    uuid: str
    parent: str
    changed: int

    @classmethod
    def of(cls, path: str) -> Self | None:
        """The state of the subvolume at `path`; None where there is none, or the kernel does not tell (before 4.18)."""
        buffer = bytearray(_INFO_BYTES)
        if not is_subvolume(path) or not _ask(_GET_SUBVOL_INFO, path, buffer):
            return None
        *_, uuid, parent, _received, changed = _INFO.unpack_from(buffer)
        return cls(uuid.hex(), parent.hex(), changed)


def close_transaction(path: str) -> bool:
    """Write everything that has been done, so that what is changed from now on is of a later transaction."""
    return _ask(_SYNC, path)


def make_subvolume(path: str) -> bool:
    """Make an empty subvolume at `path`; False where the file system has none, or there is something."""
    return _call(_SUBVOL_CREATE, path, lambda name: _ARGUMENTS.pack(0, name))


def is_subvolume(path: str) -> bool:
    """Whether a folder may be the root of a subvolume."""
    try:
        found = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_ino == _ROOT_INODE


def snapshot(source: str, path: str) -> bool:
    """Make a snapshot of the subvolume `source` at `path`, in one step; False where that cannot be done."""
    try:
        descriptor = os.open(source, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return _call(_SNAP_CREATE_V2, path, lambda name: _ARGUMENTS_2.pack(descriptor, 0, 0, b"", name))
    finally:
        os.close(descriptor)


def delete_subvolume(path: str) -> bool:
    """Delete the subvolume at `path`; False where it is none, or this user may only empty and remove it as a folder."""
    return is_subvolume(path) and _call(_SNAP_DESTROY, path, lambda name: _ARGUMENTS.pack(0, name))


def allow_changes(path: str) -> bool:
    """Let a subvolume that somebody has made read-only be changed, moved and deleted again."""
    return is_subvolume(path) and _ask(_SUBVOL_SETFLAGS, path, bytearray(8))


def _ask(number: int, path: str, buffer: bytearray | None = None) -> bool:
    """Make one of the calls that are asked of a folder itself."""
    if sys.platform != "linux":
        return False
    import fcntl

    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.ioctl(descriptor, number, buffer if buffer is not None else 0)
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return True


def _call(number: int, path: str, arguments: Callable[[bytes], bytes]) -> bool:
    """Make one of the calls that are asked of the folder in which something has, or gets, a name."""
    if sys.platform != "linux":
        return False
    import fcntl

    parent, name = os.path.split(os.fsencode(path))
    descriptor = -1
    try:
        descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, number, bytearray(arguments(name)))  # longer than what fits into immutable ones
    except OSError:
        return False
    finally:
        if descriptor >= 0:
            os.close(descriptor)
    return True
