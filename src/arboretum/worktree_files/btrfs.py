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
from typing import Final

_SUBVOL_CREATE: Final = 0x5000940E
_SNAP_DESTROY: Final = 0x5000940F
_SNAP_CREATE_V2: Final = 0x50009417
#: The inode number of the root of every subvolume.
_ROOT_INODE: Final = 256
#: fd, name (the form of most calls): 4096 bytes.
_ARGUMENTS: Final = struct.Struct("=q4088s")
#: fd, transaction, flags, unused, name: 4096 bytes.
_ARGUMENTS_2: Final = struct.Struct("=qQQ32s4040s")


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
