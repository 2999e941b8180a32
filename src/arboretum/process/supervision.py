"""One running command: feeds it, reads it, watches its clock, and ends its whole tree.

One thread per running command, one ``poll(2)`` over its pipes, its pidfd and a wake-up. (``poll``, not
``epoll``: for five descriptors that live a millisecond it needs a sixth of the system calls.) The stages are

- *watch*, until the leader ends, its time is up, or somebody stops it;
- *linger*, when the leader ended by itself: pipes that descendants hold are read for a moment more;
- *terminate*, when it was stopped: SIGTERM (and SIGCONT, for stopped ones) to the group and to orphans, then grace;
- *sweep*: SIGKILL until no descendant is left, while the leader is still a zombie, so that the number of its
  group cannot be anybody else's; and only then
- *reap*.

The pipes are drained in every stage, so that nobody hangs on a full one.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from typing import Final

from attrs import define, field

from arboretum.process.capture import BoundedBuffer, LineFeed, StreamCapture
from arboretum.process.descendants import DESCENDANTS, Tag, describe, signal_group, signal_process
from arboretum.process.environment import child_environment
from arboretum.process.model import (
    EXIT_RUNNER_FAILED,
    CommandRequest,
    CommandResult,
    FailureKind,
    OutputLine,
    StreamName,
)
from arboretum.process.outcome import Outcome, outcome, peak_memory
from arboretum.process.spawn import BACKOFF, Pipes, SpawnFailure, invalid, out_of_resources, start

_log = logging.getLogger(__name__)

_TICK: Final = 0.5  # seconds; the longest sleep, so that suspension is noticed and dead orphans are reaped
_SUSPENDED: Final = 1.0  # seconds that a sleep must overrun by to count as a suspension of this process
_LOOK_AGAIN: Final = 0.005  # seconds between two looks for descendants that are about to end
_PROMPT: Final = 0.0005  # seconds in which a program, once started, has hardly been able to fork
_SETTLED: Final = 0.002  # seconds after which a command that was marked late has its children marked, too
_SWEEP_TIMEOUT: Final = 20.0  # seconds for the kernel to end what was killed; a busy machine takes some
_EXEC: Final = 0.001  # seconds between two looks for one that is just executing a program, which hides its tag
_UNDECIDED: Final = 1.0  # seconds that this may take
_QUIET_LOOKS: Final = 3  # that find nothing, before it is believed: a process that is just executing has no tag
_WITHOUT_PIDFD: Final = 0.02  # seconds between two looks at a leader where the system has no pidfd


@define(eq=False)
class Supervisor:
    """Runs one command, once, in the calling thread.

    Args:
        request: The command.
        on_line: Who is told of each line of output.
    """

    request: CommandRequest
    on_line: OutputLine | None = None
    pid: int = field(default=0, init=False)
    _tag: Tag = field(init=False)
    _cwd: str = field(default="", init=False)
    _command: str = field(default="", init=False)
    _started: float = field(factory=time.monotonic, init=False)
    _paused: float = field(default=0.0, init=False)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _poll: select.poll = field(factory=select.poll, init=False)
    _streams: dict[int, StreamCapture] = field(factory=dict, init=False)
    _captures: list[StreamCapture] = field(factory=list, init=False)
    _stdin: int = field(default=-1, init=False)
    _stdin_left: memoryview = field(default=memoryview(b""), init=False)
    _pidfd: int = field(default=-1, init=False)
    _ready: threading.Event | None = field(default=None, init=False)
    _wake: tuple[int, int] = field(default=(-1, -1), init=False)
    _exited: bool = field(default=False, init=False)
    _status: int | None = field(default=None, init=False)
    _max_rss: int | None = field(default=None, init=False)
    _timed_out: bool = field(default=False, init=False)
    _cancelled: bool = field(default=False, init=False)
    _stops: int = field(default=0, init=False)
    _leaked: bool = field(default=False, init=False)
    _survivors: tuple[str, ...] = field(default=(), init=False)
    _reaping: bool = field(default=False, init=False)
    _marked_late: bool = field(default=False, init=False)
    _looked: float = field(factory=time.monotonic, init=False)
    _wake_lock: threading.Lock = field(factory=threading.Lock, init=False)

    def execute(self) -> CommandResult:
        """Run the command to its end. When this returns or raises, nothing of it runs any more."""
        DESCENDANTS.enter()
        self._tag = DESCENDANTS.new_tag()
        try:
            try:
                failure = self._start()
            finally:
                if self._ready is not None:
                    self._ready.set()
            if failure is None:
                self._supervise()
        except BaseException:
            self._abort()
            raise
        finally:
            self._close()
        return self._result(failure)

    def make_stoppable(self) -> None:
        """Prepare for `stop` and `wait_until_started`; to be called before `execute`."""
        self._ready = threading.Event()

    def wait_until_started(self) -> None:
        """From another thread: wait until the command runs, or cannot be started."""
        if self._ready is not None:
            self._ready.wait()

    def stop(self) -> None:
        """From another thread: end the command with its grace period, and on the second call without."""
        with self._wake_lock:  # so that the pipe is not closed, and its number another's, in between
            self._stops += 1
            if self._wake[1] >= 0:
                with contextlib.suppress(BlockingIOError):  # full, so it wakes anyhow
                    os.write(self._wake[1], (1).to_bytes(8, sys.byteorder))  # what an eventfd takes, and a pipe, too

    # -- starting

    def _start(self) -> SpawnFailure | None:
        for delay in (*BACKOFF, None):
            failure = self._try_to_start()
            if failure is None:
                self._watch()
                self._command = self.request.display()
                return None
            self._discard_pipes()
            if delay is None or not failure.transient:
                return failure
            time.sleep(delay)
        raise AssertionError("the last attempt returns")

    def _try_to_start(self) -> SpawnFailure | None:
        try:
            self._cwd = self._absolute_cwd()
        except FileNotFoundError:
            message = "the current folder has been removed; change to one that exists, or name one"
            return SpawnFailure(EXIT_RUNNER_FAILED, FailureKind.CWD_MISSING, message)
        theirs: list[int] = []
        try:
            env = child_environment(
                self.request, self._tag.text, streaming=self.on_line is not None or self.request.merge_stderr
            )
            pipes = self._open_pipes(theirs)
            before = time.monotonic()
            started = start(self.request, self._cwd, env, pipes)
            if not isinstance(started, SpawnFailure):
                self.pid = started.pid
                self._process = started
                self._tag.put_on(self.pid)
                self._marked_late = time.monotonic() - before > _PROMPT
        except OSError as error:
            return out_of_resources("open pipes", error)
        except (ValueError, TypeError) as error:
            return invalid(str(error))
        finally:
            for fd in theirs:
                os.close(fd)
        return started if isinstance(started, SpawnFailure) else None

    def _absolute_cwd(self) -> str:
        """The folder to run in, by its absolute path, so that a result can say where it ran."""
        cwd = self.request.cwd
        if cwd is not None and (not cwd or cwd.startswith("/")):
            return cwd
        return os.path.join(os.getcwd(), cwd or "").rstrip("/") or "/"

    def _open_pipes(self, theirs: list[int]) -> Pipes:
        if self._ready is not None and self._wake[0] < 0:
            self._open_wake()
        if self.request.stdin is None:
            stdin = DESCENDANTS.devnull()
        else:
            stdin, self._stdin = os.pipe()
            theirs.append(stdin)
        stdout = self._open_stream("stdout", theirs)
        stderr = stdout if self.request.merge_stderr else self._open_stream("stderr", theirs)
        return Pipes(stdin, stdout, stderr)

    def _open_wake(self) -> None:
        if hasattr(os, "eventfd"):
            reading = writing = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        else:
            reading, writing = os.pipe()
            os.set_blocking(reading, False)
            os.set_blocking(writing, False)
        self._poll.register(reading, select.POLLIN)
        self._wake = reading, writing

    def _open_stream(self, name: StreamName, theirs: list[int]) -> int:
        request = self.request
        reading, writing = os.pipe()
        theirs.append(writing)
        capture = StreamCapture(
            name,
            reading,
            BoundedBuffer(request.max_output),
            None if self.on_line is None else LineFeed(name, request.decode_errors, self.on_line),
        )
        self._captures.append(capture)
        if request.output_dir is not None:
            path = os.path.join(request.output_dir, name)
            try:
                capture.keep_in(path)
            except OSError as error:
                if error.errno == errno.EMFILE:
                    raise
                raise ValueError(f"cannot keep the output in {path}: {error.strerror}") from error
        return writing

    def _watch(self) -> None:
        """Register what the poll waits for; done while the program starts, so that it costs no time."""
        for capture in self._captures:
            self._streams[capture.fd] = capture
            self._poll.register(capture.fd, select.POLLIN)
        if self._stdin >= 0:
            os.set_blocking(self._stdin, False)
            self._stdin_left = memoryview(self.request.stdin or b"")
            self._poll.register(self._stdin, select.POLLOUT)
        self._watch_exit()

    def _watch_exit(self) -> None:
        if not hasattr(os, "pidfd_open"):
            return
        try:
            self._pidfd = os.pidfd_open(self.pid)
        except ProcessLookupError:  # SIGCHLD is ignored in this process, so the kernel has reaped it already
            self._exited = True
        except OSError as error:
            _log.debug("no pidfd for %d (%s): looking again and again instead", self.pid, error)
        else:
            self._poll.register(self._pidfd, select.POLLIN)

    # -- the stages

    def _supervise(self) -> None:
        timeout = self.request.timeout
        deadline = None if timeout is None else self._now() + timeout
        self._pump(deadline, lambda: self._exited or self._stops > 0)
        if self._exited:
            self._linger()
        else:
            self._cancelled = self._stops > 0
            self._timed_out = not self._cancelled
            self._terminate(self.request.grace)
            self._sweep()
        self._drain()
        self._reap()

    def _linger(self) -> None:
        """The leader ended by itself: let its descendants finish what they print, then ask them to go."""
        patience = self.request.leak_timeout
        if self._streams:
            self._pump(self._now() + patience, lambda: not self._streams)
        if self._orphans():
            self._leaked = True
            self._terminate(patience)
            self._sweep()

    def _terminate(self, grace: float) -> None:
        """Ask the whole tree to end, and wait until it has, or the grace period is over, or somebody insists."""
        deadline = self._now() + grace
        self._signal_group(signal.SIGTERM, signal.SIGCONT)
        asked: set[int] = set()
        while self._now() < deadline and self._stops < 2:
            if not self._exited:
                self._pump(deadline, lambda: self._exited or self._stops >= 2)
                continue
            orphans = self._orphans()
            if not orphans:
                return
            for pid in orphans:
                if pid not in asked:
                    signal_process(pid, signal.SIGTERM, signal.SIGCONT)
            asked.update(orphans)
            self._pump(min(deadline, self._now() + _LOOK_AGAIN))

    def _sweep(self) -> None:
        """Kill what is left, again and again, because who dies hands its children on to us."""
        deadline = time.monotonic() + _SWEEP_TIMEOUT
        while (orphans := self._orphans()) or not self._exited:
            self._signal_group(signal.SIGKILL)
            for pid in orphans:
                signal_process(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                left = orphans if self._exited else [self.pid, *orphans]
                self._survivors = tuple(describe(pid) for pid in left)
                _log.error("could not end %s of `%s`", ", ".join(self._survivors), self.request.display())
                break
            seen = self._exited
            self._pump(self._now() + _LOOK_AGAIN, lambda: self._exited and not seen)  # noqa: B023 (called at once)

    def _reap(self) -> None:
        if not self._exited:  # it survived SIGKILL: the kernel holds it
            return
        self._reaping = True
        if self._status is None:
            with contextlib.suppress(ChildProcessError):  # somebody else has reaped it: `_status` stays unknown
                _, self._status, usage = os.wait4(self.pid, 0)
                self._max_rss = peak_memory(usage.ru_maxrss)
        if self._process is not None:
            self._process.returncode = 0  # Popen is not to wait for it

    def _abort(self) -> None:
        """An exception (KeyboardInterrupt) came in between: end the tree; a second one cuts the grace period."""
        if self._process is None:
            self._sweep_unseen()
            return
        for grace in (self.request.grace, 0.0, 0.0):
            with contextlib.suppress(KeyboardInterrupt):
                if not self._reaping:  # else the tree is gone, and its number may be somebody else's
                    self._terminate(grace)
                    self._sweep()
                self._reap()
                return

    def _sweep_unseen(self) -> None:
        """The start was interrupted before the process id was known: go by the tag."""
        deadline = time.monotonic() + _SWEEP_TIMEOUT
        quiet = 0
        while quiet < _QUIET_LOOKS and time.monotonic() < deadline:
            left = DESCENDANTS.started_unseen(self._tag)
            for pid in left:
                signal_process(pid, signal.SIGKILL)
            quiet = 0 if left else quiet + 1
            time.sleep(_LOOK_AGAIN)

    # -- reading, writing and waiting

    def _pump(self, deadline: float | None, done: Callable[[], bool] = lambda: False) -> None:
        """Move bytes until `done` or the deadline."""
        longest = _TICK if self._pidfd >= 0 else _WITHOUT_PIDFD
        while not done():
            wait = _SETTLED if self._marked_late else longest
            if deadline is not None:
                wait = min(wait, deadline - self._now())
                if wait <= 0:
                    return
            before = time.monotonic()
            ready = self._poll.poll(wait * 1000)
            now = time.monotonic()
            if now - before > wait + _SUSPENDED:
                # Ctrl-Z, SIGSTOP, a sleeping machine: that time is not the command's.
                self._paused += now - before - wait
            for fd, _ in ready:
                self._serve(fd)
            if self._marked_late and not self._exited and now - before >= wait:
                self._tag.put_on_children(self.pid)
                self._marked_late = False
            if not self._exited and now - self._looked >= longest:
                self._looked = now
                self._look()

    def _look(self) -> None:
        """See to what no descriptor tells of: orphans that have ended, and the leader where there is no pidfd."""
        DESCENDANTS.orphans(self._tag, self.pid)
        if self._pidfd < 0:
            self._exited = self._has_leader_ended()

    def _now(self) -> float:
        """Monotonic seconds, less those in which this process was suspended."""
        return time.monotonic() - self._paused

    def _serve(self, fd: int) -> None:
        if fd == self._pidfd:
            self._exited = True
            self._poll.unregister(fd)
        elif fd == self._stdin:
            self._write_stdin()
        elif fd == self._wake[0]:
            os.read(fd, 64)
        else:
            self._read(self._streams[fd])

    def _read(self, capture: StreamCapture) -> bool:
        fd = capture.fd
        more = capture.read()
        if not capture.is_open:
            self._poll.unregister(fd)
            del self._streams[fd]
        return more

    def _write_stdin(self) -> None:
        try:
            self._stdin_left = self._stdin_left[os.write(self._stdin, self._stdin_left[: 64 * 1024]) :]
        except BlockingIOError:
            return
        except BrokenPipeError:  # the command does not want (all of) it, which is its right
            self._stdin_left = memoryview(b"")
        if not self._stdin_left:
            self._poll.unregister(self._stdin)
            self._close_stdin()

    def _drain(self) -> None:
        """Take what the dead have left in the pipes; whoever else holds them is not waited for."""
        for capture in tuple(self._streams.values()):
            os.set_blocking(capture.fd, False)
            while self._read(capture):
                pass

    def _has_leader_ended(self) -> bool:
        if hasattr(os, "waitid"):
            with contextlib.suppress(ChildProcessError):
                return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
            return True
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        if pid:
            self._status, self._max_rss = status, peak_memory(usage.ru_maxrss)
        return bool(pid)

    # -- the tree

    def _orphans(self) -> list[int]:
        deadline = time.monotonic() + _UNDECIDED
        while True:
            found = DESCENDANTS.orphans(self._tag, self.pid)
            if found.pids or not found.undecided or time.monotonic() > deadline:
                return found.pids
            self._pump(self._now() + _EXEC)

    def _signal_group(self, *numbers: signal.Signals) -> None:
        signal_group(self.pid, *numbers)

    # -- the end

    def _discard_pipes(self) -> None:
        """Close what is open, so that the next attempt to start, or nothing, follows."""
        for capture in self._captures:
            capture.close()
        self._captures.clear()
        self._close_stdin()

    def _close_stdin(self) -> None:
        if self._stdin >= 0:
            os.close(self._stdin)
            self._stdin = -1

    def _close(self) -> None:
        for capture in self._captures:
            capture.close()
        self._close_stdin()
        if self._pidfd >= 0:
            os.close(self._pidfd)
            self._pidfd = -1
        with self._wake_lock:
            for fd in {*self._wake} - {-1}:
                os.close(fd)
            self._wake = (-1, -1)

    def _result(self, failure: SpawnFailure | None) -> CommandResult:
        if failure is not None:
            end = Outcome(failure.exit_code, failure.kind, failure.message)
        else:
            timeout = self.request.timeout if self._timed_out else None
            end = outcome(self._status, timed_out_after=timeout, cancelled=self._cancelled)
        texts = {c.name: c.buffer.text(self.request.decode_errors) for c in self._captures}
        return CommandResult(
            stdout=texts.get("stdout", ("", 0))[0],
            stderr=texts.get("stderr", ("", 0))[0],
            exit_code=end.exit_code,
            duration=time.monotonic() - self._started,
            command=self._command or self.request.display(),
            cwd=self._cwd,
            timed_out=self._timed_out,
            error_message=end.message,
            failure_kind=end.kind,
            signal=end.signal,
            leaked=self._leaked,
            survivors=self._survivors,
            truncated_bytes=sum(left_out for _, left_out in texts.values()),
            output_paths={c.name: c.path for c in self._captures if c.path is not None and failure is None},
            max_rss=self._max_rss,
        )
