"""The default runner: real processes, from any thread or from asyncio."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import contextvars
import functools
import os
from collections.abc import Callable
from typing import Final

from attrs import define, field

from arboretum.events import CommandFinished, Observers
from arboretum.process.descendants import DESCENDANTS
from arboretum.process.model import CommandRequest, CommandResult, OutputLine
from arboretum.process.supervision import Supervisor
from arboretum.process.threads import THREADS

_EXIT_TIMEOUT: Final = 5.0  # seconds to wait for each command that still runs when the interpreter ends


@define(eq=False)
class RunningCommand:
    """A command that runs in a thread of its own; `SubprocessRunner.start` makes one.

    Its tree is ended when the interpreter ends, also when nobody waits for it.
    """

    request: CommandRequest
    _supervisor: Supervisor
    _future: concurrent.futures.Future[CommandResult] = field(factory=concurrent.futures.Future, init=False)

    @property
    def pid(self) -> int | None:
        """The process id of the command; None when it could not be started."""
        self._supervisor.wait_until_started()
        return self._supervisor.pid or None

    @property
    def future(self) -> concurrent.futures.Future[CommandResult]:
        """The result, or the error of a defect in the runner. It cannot be cancelled; `stop` the command instead."""
        return self._future

    def wait(self, timeout: float | None = None) -> CommandResult:
        """Wait for the result.

        Args:
            timeout: Seconds to wait; the command goes on when they are over.

        Raises:
            TimeoutError: The command has not ended yet.
        """
        return self._future.result(timeout)

    def poll(self) -> int | None:
        """The exit code; None while the command runs."""
        return self._future.result().exit_code if self._future.done() else None

    @property
    def returncode(self) -> int | None:
        """The exit code; None while the command runs."""
        return self.poll()

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for the end, as `wait` does, and return the output and the error output."""
        result = self.wait(timeout)
        return result.stdout, result.stderr

    def terminate(self) -> None:
        """The same as `stop`, by the name that it has in `subprocess`."""
        self.stop()

    def kill(self) -> None:
        """End the whole tree at once."""
        self.stop()
        self.stop()

    def stop(self) -> None:
        """End the whole tree: SIGTERM, the grace period, SIGKILL; a second call cuts the grace period."""
        self._supervisor.stop()


@define(eq=False)
class SubprocessRunner:
    """Runs commands as processes of this machine. Safe to share between threads and event loops.

    Args:
        observers: Are told of every command that ended (`arboretum.events.CommandFinished`).
    """

    observers: Observers = field(factory=Observers, kw_only=True)

    def run(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """Run `request` in the calling thread and wait for it."""
        return self._told(Supervisor(request, on_line).execute())

    async def run_async(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> CommandResult:
        """Run `request` in a thread of its own, in which `on_line` is called, too.

        When the awaiting task is cancelled, the command's tree is ended before this returns: with
        its grace period, and without one when the task is cancelled a second time.
        """
        command = self.start(request, on_line=on_line)
        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def tell(_: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop was closed in between: nobody waits any more
                loop.call_soon_threadsafe(ended.set)

        command.future.add_done_callback(tell)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            while not command.future.done():
                command.stop()
                with contextlib.suppress(asyncio.CancelledError):
                    await ended.wait()
            raise
        return command.future.result()

    def start(self, request: CommandRequest, *, on_line: OutputLine | None = None) -> RunningCommand:
        """Run `request` in a thread of its own and return at once."""
        supervisor = Supervisor(request, on_line)
        supervisor.make_stoppable()
        command = RunningCommand(request, supervisor)
        DESCENDANTS.watch()
        _end_commands_at_exit()
        _live.add(command)
        # The context goes along, so that log records made by listeners and observers carry the caller's ids.
        THREADS.submit(functools.partial(contextvars.copy_context().run, self._work, command, supervisor))
        return command

    def _work(self, command: RunningCommand, supervisor: Supervisor) -> None:
        future = command.future
        future.set_running_or_notify_cancel()
        result: CommandResult | None = None
        try:
            result = self._told(supervisor.execute())
        except BaseException as error:
            future.set_exception(error)
        finally:
            _live.discard(command)
        if result is not None:
            future.set_result(result)

    def _told(self, result: CommandResult) -> CommandResult:
        if not self.observers:
            return result
        self.observers(
            CommandFinished(
                command=result.command,
                cwd=result.cwd,
                exit_code=result.exit_code,
                duration=result.duration,
                timed_out=result.timed_out,
            )
        )
        return result


#: The commands that run in threads, of all runners: they end with the interpreter, which knows no runner.
_live: Final[set[RunningCommand]] = set()
os.register_at_fork(after_in_child=_live.clear)


@functools.cache
def _end_commands_at_exit() -> Callable[[], None]:
    return atexit.register(_end_commands)


def _end_commands() -> None:
    running = tuple(_live)
    for command in running:
        command.stop()
        command.stop()
    concurrent.futures.wait([command.future for command in running], _EXIT_TIMEOUT)
