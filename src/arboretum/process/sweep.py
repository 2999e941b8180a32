"""Finds processes by a command's tag, and ends all that carry a runner's.

The second is what the guard does after its runner was killed. For that the module runs as a script, by
path and with the standard library alone, so that it starts quickly and depends on nothing that may be
changing: ``python -I -S sweep.py TOKEN``. (Without /proc it needs psutil.)
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time

LIMIT_BASE = 1 << 62
LIMIT_COUNTER_BITS = 28
_HAS_PROC = os.path.isdir("/proc/self")
_QUIET_ROUNDS = 2  # rounds in a row that find nothing, before it is over
_LONGEST = 10.0  # seconds


def carries(pid: int, needle: bytes, numbers: range) -> bool:
    """Whether a process carries a tag: `needle` in its environment, or one of `numbers` as its limit."""
    return rt_limit(pid) in numbers or needle in environment(pid)


def all_pids() -> list[int]:
    """The ids of all processes that can be seen."""
    if _HAS_PROC:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]
    import psutil

    return psutil.pids()


def has_ended(pid: int) -> bool:
    """Whether a process is gone or a zombie."""
    if not _HAS_PROC:
        import psutil

        return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b") ")[2][:1] in (b"Z", b"X")
    except OSError:
        return True


def sweep(token: str) -> int:
    """End every process that a command of the runner `token` has left; the number of signals sent."""
    needle = f":{token}.".encode()
    first = LIMIT_BASE | int(token, 16) << LIMIT_COUNTER_BITS
    numbers = range(first, first + (1 << LIMIT_COUNTER_BITS))
    deadline = time.monotonic() + _LONGEST
    sent = quiet = 0
    while quiet < _QUIET_ROUNDS and time.monotonic() < deadline:
        found = [pid for pid in all_pids() if pid != os.getpid() and carries(pid, needle, numbers)]
        found = [pid for pid in found if not has_ended(pid)]
        for pid in found:
            try:
                os.kill(pid, signal.SIGKILL)
                sent += 1
            except OSError:
                continue
        quiet = 0 if found else quiet + 1
        time.sleep(0.01)
    return sent


def rt_limit(pid: int) -> int:
    """The soft limit of real-time scheduling of a process; 0 where it cannot be read."""
    if sys.platform != "linux":
        return 0
    try:
        return resource.prlimit(pid, resource.RLIMIT_RTTIME)[0]
    except (OSError, ValueError):
        return 0


def environment(pid: int) -> bytes:
    """The environment of a process; empty where it cannot be read, also while a program is being executed."""
    if _HAS_PROC:
        try:
            with open(f"/proc/{pid}/environ", "rb") as file:
                return file.read()
        except OSError:
            return b""
    import psutil

    try:
        return "\0".join(psutil.Process(pid).environ().values()).encode("utf-8", "surrogateescape")
    except (psutil.Error, OSError):
        return b""


def has_arguments(pid: int) -> bool:
    """Whether a process has a command line; it has none while a program is being executed."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as file:
            return bool(file.read(1))
    except OSError:
        return not _HAS_PROC


if __name__ == "__main__":
    sweep(sys.argv[1])
