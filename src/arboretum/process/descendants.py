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
import enum
import functools
import itertools
import os
import resource
import secrets
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Final, NamedTuple

from attrs import define, field, frozen

from arboretum.process.environment import TAG_VARIABLE
from arboretum.process.guard import Guard
from arboretum.process.sweep import (
    LIMIT_BASE,
    LIMIT_COUNTER_BITS,
    all_pids,
    carries,
    environment,
    has_arguments,
    has_ended,
    rt_limit,
)

_PR_SET_CHILD_SUBREAPER: Final = 36
_CHILDREN_READ: Final = 64 * 1024
_CHILDREN_FULL: Final = 4000  # bytes; the kernel gives no more than a page at a time, and no number in half


class Kinship(enum.Enum):
    """What a process is to a command."""

    OURS = enum.auto()
    ANOTHERS = enum.auto()  # another command's, or dead before it could be known
    STRANGER = enum.auto()  # no command's, and it will never be
    UNDECIDED = enum.auto()  # cannot be said yet: look again


class Orphans(NamedTuple):
    """The living orphans of a command, and whether there may be more that cannot be told yet."""

    pids: list[int]
    undecided: bool


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

    def kinship(self, pid: int, leader: int) -> Kinship:
        """What a process is to the command whose leader, not yet reaped, is `leader`."""
        limit, needle = rt_limit(pid), f":{self.text}:".encode()
        if limit == self.number:
            return Kinship.OURS
        if limit >> LIMIT_COUNTER_BITS == self.number >> LIMIT_COUNTER_BITS:
            return Kinship.ANOTHERS
        if _session(pid) == leader:
            self.put_on(pid)  # it shall be known when it has left the session, or ended, too
            return Kinship.OURS
        found = environment(pid)
        if not found and not has_ended(pid):
            # A program that is just being executed has neither environment nor arguments yet.
            if not has_arguments(pid):
                return Kinship.UNDECIDED
            found = environment(pid)
        if needle in found:
            if limit < LIMIT_BASE:
                self.put_on(pid)
            return Kinship.OURS
        return Kinship.ANOTHERS if TAG_VARIABLE in found or has_ended(pid) else Kinship.STRANGER


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
        self._strangers = set()

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
            with self._lock:
                self.adopts = _set_subreaper() and self._open_children()

    def devnull(self) -> int:
        """An empty input, opened once."""
        if self._devnull < 0:
            self._devnull = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        return self._devnull

    def orphans(self, tag: Tag, leader: int) -> Orphans:
        """The living orphans of a command; those that have ended are reaped.

        With adoption, every living descendant is one of these or descends from one of these, once
        the leader has ended. Without, all descendants are listed.
        """
        if not self.adopts:
            # Nothing is undecided here: kernel threads, too, have neither environment nor arguments.
            others = (pid for pid in all_pids() if pid not in (leader, os.getpid()))
            found = [pid for pid in others if tag.kinship(pid, leader) is Kinship.OURS and not has_ended(pid)]
            return Orphans(found, undecided=False)
        with self._lock:  # one at a time: the kernel's list may skip an entry while another one is reaped
            children = self._children_of(self._children)
            self._strangers.intersection_update(children)
            known = self._strangers | {leader, self._guard.pid if self._guard else None}
            kin = {pid: tag.kinship(pid, leader) for pid in children if pid not in known}
            # Children that somebody else in this process has started are not to be asked again.
            self._strangers.update(pid for pid, kinship in kin.items() if kinship is Kinship.STRANGER)
            alive = [pid for pid, kinship in kin.items() if kinship is Kinship.OURS and not _reap(pid)]
            return Orphans(alive, Kinship.UNDECIDED in kin.values())

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

    def _open_children(self) -> bool | None:
        if self._children < 0:
            try:
                self._children = os.open(f"/proc/self/task/{os.getpid()}/children", os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:  # a kernel without CONFIG_PROC_CHILDREN, or no /proc
                return False
            except OSError:  # no descriptor is free just now: the next command may try again
                return None
        return True

    @staticmethod
    def _children_of(fd: int) -> list[int]:
        """The children of the main thread, to which orphans are given."""
        text = chunk = os.pread(fd, _CHILDREN_READ, 0)
        while len(chunk) > _CHILDREN_FULL:
            chunk = os.pread(fd, _CHILDREN_READ, len(text))
            text += chunk
        return [int(pid) for pid in text.split()]


def signal_process(pid: int, *numbers: signal.Signals) -> None:
    """Send signals to a process that may be gone already."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        for number in numbers:
            os.kill(pid, number)


def signal_group(leader: int, *numbers: signal.Signals) -> None:
    """Send signals to the group of `leader`, which is alive or not reaped yet, so that its number is still its own."""
    assert leader > 0, "the group 0 is this process's own"
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
