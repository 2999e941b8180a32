"""Which processes descend from a command, wherever they have gone.

A process group holds those that stayed in it. Those that called ``setsid`` or forked twice have left it, so
three marks are used, each of which a process keeps through fork and exec:

- **Adoption.** While a command runs, this process is a *subreaper* (Linux, ``prctl(2)``): the kernel gives it
  every orphan among its descendants. One read of ``/proc/self/task/PID/children`` then shows, for the price of
  a system call, whether anything of an ended command is left, and what is killed can be reaped.
- **A tag in the environment** says whose orphan it is, when several commands run at once. It nests, so that
  the descendants of a killed runner are known to the runner above it.
- **A tag among the resource limits** says the same of a process that has cleared its environment: the soft
  limit of RLIMIT_RTTIME is set to a number of the command's own, about 146,000 years of uninterrupted
  real-time scheduling, which limits nothing.

Where a system has no subreapers (macOS), all processes of the user are searched for the tag in the environment.
All this belongs to the operating system's process, not to an object: hence the one instance `DESCENDANTS`.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import itertools
import os
import resource
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Final

from attrs import define, field, frozen

from arboretum.process.guard import Guard
from arboretum.process.sweep import LIMIT_BASE, LIMIT_COUNTER_BITS, all_pids, carries, has_ended

_PR_SET_CHILD_SUBREAPER: Final = 36
_CHILDREN_READ: Final = 64 * 1024


@frozen
class Tag:
    """The mark of one command: a text for its environment, a number for its limits."""

    text: str
    number: int

    def is_on(self, pid: int) -> bool:
        """Whether the process carries this mark."""
        return carries(pid, f":{self.text}:".encode(), range(self.number, self.number + 1))

    def put_on(self, pid: int, *, late: bool) -> None:
        """Mark a process that has just been started; when that was `late`, the children, too, that it may have made."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError, ValueError):  # gone already, or not allowed
                resource.prlimit(pid, resource.RLIMIT_RTTIME, (self.number, _hard_limit()))
                for child in _children_of_thread(pid) if late else ():
                    self.put_on(child, late=True)


@define(eq=False)
class Descendants:
    """Knows, finds and signals the descendants of the commands that this process runs."""

    #: Whether orphans come to this process; None until it was tried.
    adopts: bool | None = field(default=None, init=False)
    _token: str = field(init=False)
    _counter: Iterator[int] = field(init=False)
    _lock: threading.Lock = field(init=False)
    _running: int = field(default=0, init=False)
    _children: int = field(default=-1, init=False)
    _devnull: int = field(default=-1, init=False)
    _guard: Guard | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._begin()
        os.register_at_fork(after_in_child=self._begin)

    def _begin(self) -> None:
        """Start afresh: at import, and in the child of a fork, which is a process of its own."""
        if self._children >= 0:
            os.close(self._children)
        if self._guard is not None:
            self._guard.abandon()
        self._token = secrets.token_hex(4)
        self._counter = itertools.count(1)
        self._lock = threading.Lock()
        self._running, self._children, self._guard, self.adopts = 0, -1, None, None

    def new_tag(self) -> Tag:
        """A tag that no other command has."""
        number = next(self._counter)
        base = LIMIT_BASE | int(self._token, 16) << LIMIT_COUNTER_BITS
        return Tag(f"{self._token}.{number}", base | number % (1 << LIMIT_COUNTER_BITS))

    def watch(self) -> None:
        """Have a guard from now on, should this process be killed."""
        with self._lock:
            if self._guard is None:
                self._guard = Guard.start(self._token)

    def enter(self) -> None:
        """Say that a command is about to run: orphans are adopted from now on, and the guard watches."""
        if self._guard is None:
            self.watch()
        with self._lock:
            self._running += 1
            if self._running == 1:
                self.adopts = _set_subreaper(True) and self._open_children()

    def leave(self) -> None:
        """Say that a command is over; after the last one orphans go where they went before."""
        with self._lock:
            self._running -= 1
            if self._running == 0:
                _set_subreaper(False)

    def devnull(self) -> int:
        """An empty input, opened once."""
        if self._devnull < 0:
            self._devnull = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return self._devnull

    def orphans(self, tag: Tag, leader: int) -> list[int]:
        """The living orphans of a command; those that have ended are reaped.

        With adoption, every living descendant is one of these or descends from one of these, once
        the leader has ended. Without, all descendants are listed.
        """
        if not self.adopts:
            return [pid for pid in all_pids() if pid != leader and tag.is_on(pid) and not has_ended(pid)]
        with self._lock:  # one at a time: the kernel's list may skip an entry while another one is reaped
            found = self._children_of(self._children)
            own = (leader, self._guard.pid if self._guard else None)
            return [pid for pid in found if pid not in own and tag.is_on(pid) and not _reap(pid)]

    def started_unseen(self, tag: Tag) -> list[int]:
        """Descendants of a command whose start was interrupted before its process id was known."""
        return [pid for pid in all_pids() if tag.is_on(pid) and not _reap(pid)]

    def _open_children(self) -> bool:
        if self._children < 0:
            try:
                self._children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
            except OSError:  # a kernel without CONFIG_PROC_CHILDREN, or no /proc
                return False
        return True

    @staticmethod
    def _children_of(fd: int) -> list[int]:
        """The children of the main thread, to which orphans are given."""
        text = os.pread(fd, _CHILDREN_READ, 0)
        offset = len(text)
        while offset and not offset % 4096 and (more := os.pread(fd, _CHILDREN_READ, offset)):
            text += more
            offset += len(more)
        return [int(pid) for pid in text.split()]


def signal_process(pid: int, *numbers: signal.Signals) -> None:
    """Send signals to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for number in numbers:
            os.kill(pid, number)


def signal_group(leader: int, *numbers: signal.Signals) -> None:
    """Send signals to the group of `leader`, which is alive or not reaped yet, so that its number is still its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for number in numbers:
            os.killpg(leader, number)


def describe(pid: int) -> str:
    """A process for people: ``4711 sleep 100``."""
    import psutil  # late: a fifth of the time that this package takes to import, and rarely needed

    try:
        return f"{pid} {' '.join(psutil.Process(pid).cmdline())}".strip()
    except psutil.Error:
        return str(pid)


def _reap(pid: int) -> bool:
    """Take notice of the end of an adopted process; whether it has ended."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return has_ended(pid)


def _children_of_thread(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", "rb", buffering=0) as file:
        return [int(child) for child in file.read().split()]


@functools.cache
def _hard_limit() -> int:
    return resource.getrlimit(resource.RLIMIT_RTTIME)[1]


def _set_subreaper(on: bool) -> bool:
    if sys.platform != "linux":
        return False
    return bool(_libc().prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) == 0)


@functools.cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


DESCENDANTS: Final = Descendants()
