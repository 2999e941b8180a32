"""Leases: who holds a slot. The kernel's lock on a file says whether the holder lives; nothing is guessed.

A lock (flock) belongs to an open file and goes away with the last process that has it open. Our descriptors
are never inherited by commands, so a lock that is free means that the process which took it is gone, or gave it
back. What that process had started may still run for a moment: its commands carry the lease's id in their
environment, and `end_strays` ends them before the slot is used again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import time
from typing import Final

import psutil
from filelock import FileLock, Timeout

from arboretum.errors import PoolError

#: The variable that carries the id of the lease into everything that runs in a slot; several, with blanks between
#: them, into a process that works for several slots.
LEASE_VARIABLE: Final = "ARBORETUM_LEASE"
_POLL_SECONDS: Final = 0.002
_STRAY_SECONDS: Final = 10.0


def new_lease_id() -> str:
    """A new random id (96 bits)."""
    return secrets.token_hex(12)


def make_lock(path: str) -> FileLock:
    """The kernel lock on `path`, not yet taken; each object is a holder of its own, in threads too."""
    return FileLock(path, thread_local=False)


def try_lock(path: str) -> FileLock | None:
    """The lock on `path`, taken; None when somebody holds it.

    Raises:
        PoolError: The file cannot be made or locked.
    """
    lock = make_lock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return None
    except (OSError, NotImplementedError) as error:
        raise PoolError(
            f"cannot lock {path}: {error}", hint="the folder must be writable, on a disk that has locks"
        ) from error
    return lock


def wait_for_lock(path: str, *, timeout: float) -> FileLock:
    """The lock on `path`, taken; waits for at most `timeout` seconds.

    Raises:
        PoolError: It cannot be taken, or not in time.
    """
    lock = make_lock(path)
    try:
        lock.acquire(timeout=timeout, poll_interval=_POLL_SECONDS)
    except Timeout as error:
        raise PoolError(
            f"{path} has been locked for {timeout:g} seconds", hint="is another arboretum stopped?"
        ) from error
    except (OSError, NotImplementedError) as error:
        raise PoolError(
            f"cannot lock {path}: {error}", hint="the folder must be writable, on a disk that has locks"
        ) from error
    return lock


def _cannot_lock(path: str, error: Exception) -> PoolError:
    return PoolError(f"cannot lock {path}: {error}", hint="the folder must be writable, on a disk that has locks")


def end_strays(lease: str) -> int:
    """End every process that carries the id of a lease whose owner has died.

    Returns:
        How many there were.

    Raises:
        PoolError: One of them cannot be ended.
    """
    deadline = time.monotonic() + _STRAY_SECONDS
    ended: set[int] = set()
    while strays := _carriers(lease):
        if time.monotonic() > deadline:
            raise PoolError(f"processes of a lease whose owner has died cannot be ended: {sorted(strays)}")
        for pid in strays:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        ended |= strays
        time.sleep(_POLL_SECONDS)
    return len(ended)


def _carriers(lease: str) -> set[int]:
    found = set()
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.pid != os.getpid() and lease in process.environ().get(LEASE_VARIABLE, "").split():
                found.add(process.pid)
    return found
