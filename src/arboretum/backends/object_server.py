"""A long-lived ``git cat-file --batch-command``: objects and names in tens of microseconds, not a process each."""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
import weakref
from typing import Final

from attrs import define, field

from arboretum.backends.git_command import GitCommand, git_environment
from arboretum.values import Oid

_MISSING: Final = (b" missing", b" ambiguous")


@define(eq=False, weakref_slot=True)
class _Child:
    """One process, of one thread of one process: answers never mix, and a fork inherits none.

    It ends with its thread, because only that thread's local storage holds on to it.
    """

    process: subprocess.Popen[bytes]
    pid: int


@define(eq=False)
class ObjectServer:
    """Answers what an object is and what a name stands for.

    Args:
        command: How git is run on the repository.
    """

    _command: GitCommand
    _local: threading.local = field(factory=threading.local)
    _all: weakref.WeakSet[_Child] = field(factory=weakref.WeakSet)
    _guard: threading.Lock = field(factory=threading.Lock)

    def _child(self) -> _Child:
        child: _Child | None = getattr(self._local, "child", None)
        if child is not None and child.pid == os.getpid() and child.process.poll() is None:
            return child
        argv = self._command.argv(
            ("cat-file", "--batch-command"), git_dir=self._command.git_dir, worktree=self._command.worktree
        )
        process = self._command.process.start(
            argv,
            cwd=self._command.git_dir,
            env=git_environment(),
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        child = _Child(process, os.getpid())
        weakref.finalize(child, _end, process, child.pid)
        with self._guard:
            self._all.add(child)
        self._local.child = child
        return child

    def _ask(self, request: bytes) -> tuple[bytes, subprocess.Popen[bytes]]:
        """The first line of the answer; one new child is tried when the old one has died."""
        for attempt in (0, 1):
            process = self._child().process
            assert process.stdin is not None
            assert process.stdout is not None
            try:
                process.stdin.write(request + b"\n")
                process.stdin.flush()
                answer = process.stdout.readline()
            except OSError:
                answer = b""
            if answer:
                return answer.rstrip(b"\n"), process
            self._drop(process)
            if attempt:
                break
        return b" missing", process

    def _drop(self, process: subprocess.Popen[bytes]) -> None:
        self._local.child = None
        _end(process, os.getpid())

    def find(self, name: str) -> tuple[Oid, str] | None:
        """The id and type of the object that `name` stands for; None when there is none."""
        answer, _ = self._ask(b"info " + os.fsencode(name))
        if answer.endswith(_MISSING):
            return None
        oid, kind, _size = answer.rsplit(b" ", 2)
        return Oid(oid.decode()), kind.decode()

    def read(self, name: str) -> tuple[str, bytes] | None:
        """The type and content of the object; None when there is none."""
        answer, process = self._ask(b"contents " + os.fsencode(name))
        if answer.endswith(_MISSING):
            return None
        _oid, kind, size = answer.rsplit(b" ", 2)
        assert process.stdout is not None
        try:
            data = process.stdout.read(int(size))
            process.stdout.read(1)
        except BaseException:
            self._drop(process)  # half an answer is left in the pipe: it must never be taken for the next one
            raise
        return kind.decode(), data

    def close(self) -> None:
        """End the children of all threads; the next question starts a new one."""
        with self._guard:
            children = list(self._all)
            self._all.clear()
        for child in children:
            _end(child.process, child.pid)
        self._local.child = None


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if owner != os.getpid():  # after a fork the child belongs to the parent
        return
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    with contextlib.suppress(OSError):
        process.kill()
    process.wait()
