"""Which processes descend from a command, wherever they have gone.

A process group holds those that stayed in it. Those that called ``setsid`` or forked twice have left it, so
these marks are used, each of which a process keeps through fork and exec:

- **Adoption.** From its first command on, this process is a *subreaper* (Linux, ``prctl(2)``): the kernel gives it
  every orphan among its descendants. One read of ``/proc/self/task/PID/children`` then shows, for the price of
  a system call, whether anything of an ended command is left, and what is killed can be reaped.
- **A tag in the environment** says whose orphan it is, when several commands run at once. It nests, so that
  the descendants of a killed runner are known to the runner above it.
- **A tag among the resource limits** says the same of a process that has cleared its environment, or ended:
  the soft limit of RLIMIT_RTTIME is set to a number of the command's own, about 146,000 years of uninterrupted
  real-time scheduling, which limits nothing. It is set from outside, a moment after the start (a tenth of a
  millisecond; more when the interpreter is busy), so a process has to leave its session *and* clear its
  environment within that moment to get away.
- **The session**, for those that stayed in it.

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
import time
from collections.abc import Iterator
from typing import Final

from attrs import define, field, frozen

from arboretum.process.environment import TAG_VARIABLE
from arboretum.process.guard import Guard
from arboretum.process.sweep import (
    LIMIT_BASE,
    LIMIT_COUNTER_BITS,
    all_pids,
    carries,
    environment,
    has_ended,
    rt_limit,
)

_PR_SET_CHILD_SUBREAPER: Final = 36
_CHILDREN_READ: Final = 64 * 1024
_LOOKS: Final = 5  # at a process without an environment, before it is believed to have none
_EXEC: Final = 0.0005  # seconds between two of them


@frozen
class Tag:
    """The mark of one command: a text for its environment, a number for its limits."""

    text: str
    number: int

    def put_on(self, pid: int) -> None:
        """Mark a process."""
        if sys.platform == "linux":
            with contextlib.suppress(OSError, ValueError):  # gone already, or not allowed
                resource.prlimit(pid, resource.RLIMIT_RTTIME, (self.number, _hard_limit()))

    def put_on_children(self, pid: int) -> None:
        """Mark the children, and theirs, that a process made before it was marked itself."""
        with contextlib.suppress(OSError, ValueError):
            for child in _children_of_thread(pid):
                self.put_on(child)
                self.put_on_children(child)

    def is_on(self, pid: int, leader: int) -> bool | None:
        """Whether a process descends from the command whose leader, not yet reaped, is `leader`.

        Returns:
            None when it descends from no command at all, and never will.
        """
        limit, needle = rt_limit(pid), f":{self.text}:".encode()
        if limit == self.number or _session(pid) == leader:
            return True
        if limit >= LIMIT_BASE:  # another command's; or that of a runner below this one
            return needle in environment(pid)
        found = environment(pid)
        if needle in found:
            self.put_on(pid)  # it shall be known when it has ended, too
            return True
        return None if found and TAG_VARIABLE not in found else False


@define(eq=False)
class Descendants:
    """Knows, finds and signals the descendants of the commands that this process runs."""

    #: Whether orphans come to this process; None until it was tried.
    adopts: bool | None = field(default=None, init=False)
    _token: str = field(init=False)
    _counter: Iterator[int] = field(init=False)
    _lock: threading.Lock = field(init=False)
    _children: int = field(default=-1, init=False)
    _devnull: int = field(default=-1, init=False)
    _strangers: set[int] = field(factory=set, init=False)
    _unreadable: set[int] = field(factory=set, init=False)
    #: Held while a command is started and marked: the fewer at once, the sooner each gets its mark.
    starting: threading.Lock = field(init=False)
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
        self._children, self._guard, self.adopts = -1, None, None
        self._strangers, self._unreadable = set(), set()
        self.starting = threading.Lock()

    def new_tag(self) -> Tag:
        """A tag that no other command has."""
        number = next(self._counter)
        return Tag(f"{self._token}.{number}", self._first_number() | number % (1 << LIMIT_COUNTER_BITS))

    def watch(self) -> None:
        """Have a guard from now on, should this process be killed."""
        with self._lock:
            if self._guard is None:
                self._guard = Guard.start(self._token)

    def enter(self) -> None:
        """Say that a command is about to run: from the first one on orphans are adopted, and the guard watches.

        Adoption is not ended with the last command: to start it, the kernel walks the whole process tree, which
        would cost each of many short commands a twentieth of its time.
        """
        if self._guard is None:
            self.watch()
        if self.adopts is None:
            self.adopts = _set_subreaper() and self._open_children()

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
            return [
                pid
                for pid in all_pids()
                if pid not in (leader, os.getpid()) and tag.is_on(pid, leader) and not has_ended(pid)
            ]
        with self._lock:  # one at a time: the kernel's list may skip an entry while another one is reaped
            found = self._children_of(self._children)
            self._strangers.intersection_update(found)
            self._unreadable.intersection_update(found)
            return [pid for pid in found if self._is_orphan(pid, tag, leader)]

    def _is_orphan(self, pid: int, tag: Tag, leader: int) -> bool:
        if pid == leader or pid in self._strangers or (self._guard is not None and pid == self._guard.pid):
            return False
        answer = tag.is_on(pid, leader)
        if answer is False and pid not in self._unreadable and not environment(pid) and not has_ended(pid):
            # A program that is just being executed has no environment for a moment; a cleared one stays empty.
            self._unreadable.add(pid)
            for _ in range(_LOOKS):
                time.sleep(_EXEC)
                if environment(pid):
                    answer = tag.is_on(pid, leader)
                    break
        if answer is None:
            self._strangers.add(pid)  # a child that somebody else in this process has started; not to be asked again
        return bool(answer) and not _reap(pid)

    def all(self) -> list[int]:
        """Every living descendant of every command of this process, found by its tag."""
        first = self._first_number()
        needle, numbers = f":{self._token}.".encode(), range(first, first + (1 << LIMIT_COUNTER_BITS))
        return [
            pid for pid in all_pids() if pid != os.getpid() and carries(pid, needle, numbers) and not has_ended(pid)
        ]

    def _first_number(self) -> int:
        return LIMIT_BASE | int(self._token, 16) << LIMIT_COUNTER_BITS

    def started_unseen(self, tag: Tag) -> list[int]:
        """Descendants of a command whose start was interrupted before its process id was known."""
        needle, numbers = f":{tag.text}:".encode(), range(tag.number, tag.number + 1)
        return [pid for pid in all_pids() if carries(pid, needle, numbers) and not _reap(pid)]

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
    """A process for people: ``4711 sleeping: sleep 100``."""
    import psutil  # late: a fifth of the time that this package takes to import, and rarely needed

    try:
        process = psutil.Process(pid)
        return f"{pid} {process.status()}: {' '.join(process.cmdline()) or process.name()}"
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


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except OSError:
        return -1


def _set_subreaper() -> bool:
    if sys.platform != "linux":
        return False
    return bool(ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0)


DESCENDANTS: Final = Descendants()
