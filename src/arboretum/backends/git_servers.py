"""Git commands that answer one question after the other: a question costs a tenth of a millisecond, not a process.

A server that dies, or will not answer, is no failure: the caller is told that there is no answer, runs the command by
itself, and so has git's own words for what is wrong.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import subprocess
import threading
import time
import weakref
from collections.abc import Callable
from typing import Final

from attrs import define, field

from arboretum.backends.git_command import GitCommand, git_environment

#: So many questions one process answers: git keeps in memory what it has read.
_MOST_QUESTIONS: Final = 500


@define(eq=False)
class _Server:
    process: subprocess.Popen[bytes]
    begun: float = field(factory=time.monotonic)
    asked: int = 0

    def ask(self, question: bytes, is_whole: Callable[[bytes], bool]) -> bytes | None:
        pipes = self.process.stdin, self.process.stdout
        assert pipes[0] is not None
        assert pipes[1] is not None
        self.asked += 1
        answer = b""
        try:
            pipes[0].write(question)
            pipes[0].flush()
            while not is_whole(answer):
                chunk = os.read(pipes[1].fileno(), 1 << 16)
                if not chunk:
                    return None
                answer += chunk
        except OSError:
            return None
        return answer

    def end(self) -> None:
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
        with contextlib.suppress(OSError):
            self.process.kill()
        self.process.wait()


@define(eq=False, weakref_slot=True)
class GitServers:
    """The processes of one command; a thread has one to itself for a question, so answers never mix.

    Args:
        command: How git is run on the repository.
        arguments: The command, which reads questions from its input.
        life: Seconds after which a process is not asked again. What it has read when it started (the configuration,
            who commits, the time) is at most so old.
    """

    command: GitCommand
    arguments: tuple[str, ...]
    life: float = 60.0
    _idle: list[_Server] = field(factory=list, init=False)
    _inherited: list[_Server] = field(factory=list, init=False)
    _owner: int = field(factory=os.getpid, init=False)
    _guard: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        weakref.finalize(self, _end_all, self._idle, self._owner)

    def ask_lines(self, question: bytes, count: int) -> list[bytes] | None:
        """The `count` lines (without their ends) that the command answers; None when it does not."""
        answer = self._ask(question, lambda data: data.count(b"\n") >= count)
        return answer.splitlines() if answer is not None else None

    def ask_until_echo(self, question: bytes) -> bytes | None:
        """All that the command answers, for one that echoes lines it does not understand; None when it does not."""
        mark = secrets.token_hex(16).encode() + b".\n"  # nobody can have named a file so
        answer = self._ask(question + mark, lambda data: data.endswith(mark))
        return answer.removesuffix(mark) if answer is not None else None

    def close(self) -> None:
        """End the processes that nobody is asking; the next question starts a new one."""
        with self._guard:
            _end_all(self._idle, self._owner)

    def _ask(self, question: bytes, is_whole: Callable[[bytes], bool]) -> bytes | None:
        server = self._take()
        answer = None
        try:
            answer = server.ask(question, is_whole)
        finally:  # half an answer may be left in the pipe: it must never be taken for the next one
            if answer is None:
                server.end()
        if answer is not None:
            with self._guard:
                self._idle.append(server)
        return answer

    def _take(self) -> _Server:
        if self._owner != os.getpid():  # after a fork: the processes belong to the parent, and so may the lock
            self._inherited, self._idle = self._idle, []
            self._owner, self._guard = os.getpid(), threading.Lock()
            weakref.finalize(self, _end_all, self._idle, self._owner)
        while True:
            with self._guard:
                server = self._idle.pop() if self._idle else None
            if server is None:
                return self._start()
            if server.asked < _MOST_QUESTIONS and time.monotonic() - server.begun < self.life:
                return server
            server.end()

    def _start(self) -> _Server:
        argv = self.command.argv(self.arguments, git_dir=self.command.git_dir, worktree=self.command.worktree)
        return _Server(
            self.command.process.start(
                argv,
                cwd=self.command.git_dir,
                env=git_environment(),
                stdin=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        )


def _end_all(servers: list[_Server], owner: int) -> None:
    if owner != os.getpid():  # in a forked process they are the parent's
        return
    while servers:
        servers.pop().end()
