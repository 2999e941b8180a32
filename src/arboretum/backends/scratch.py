"""Folders for a moment, in the common git directory, that outlive no process for long.

The maker holds a kernel lock (flock) on the folder itself, on a descriptor that no command inherits. So whoever comes
next can tell what a killed process has left from what is in use, whatever its name or age.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from typing import Final

from arboretum.backends.atomic_files import remove_tree

_PREFIX: Final = "scratch-"


@contextlib.contextmanager
def scratch_folder(parent: str) -> Iterator[str]:
    """A new folder below `parent` (which is made), gone afterwards; what dead processes left there goes first.

    Args:
        parent: An absolute path.

    Yields:
        The path of the folder.

    Raises:
        OSError: It cannot be made.
    """
    os.makedirs(parent, exist_ok=True)
    sweep_scratch(parent)
    folder, lock = _made(parent)
    try:
        yield folder
    finally:
        try:
            remove_tree(folder)
        finally:
            os.close(lock)


def _made(parent: str) -> tuple[str, int]:
    """A new folder with its lock. Who sweeps between the two steps takes it for abandoned: then there is another."""
    while True:
        folder = tempfile.mkdtemp(prefix=_PREFIX, dir=parent)
        try:
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError:
            return folder, lock  # a disk without such locks: nobody else gets one either, and it is left alone
        if os.path.lexists(folder):
            return folder, lock
        os.close(lock)


def sweep_scratch(parent: str) -> None:
    """Remove the folders below `parent` whose makers are dead; what cannot be removed stays for the next time."""
    try:
        names = [name for name in os.listdir(parent) if name.startswith(_PREFIX)]
    except FileNotFoundError:
        return
    for name in names:
        folder = os.path.join(parent, name)
        with contextlib.suppress(OSError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(folder)
            finally:
                os.close(lock)


__all__ = ["scratch_folder", "sweep_scratch"]
