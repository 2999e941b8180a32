"""The executor protocol: who carries out trials, on this machine or another."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from arboretum.engine.model import Trial, TrialRequest
from arboretum.process.model import OutputLine

#: Called once, when a trial's command is about to run: the name of the slot and its path.
TrialStart = Callable[[str, str], None]


class Executor(Protocol):
    """Carries out trials, each in a slot of its own that it alone changes.

    - A request is safe to repeat: carrying it out twice leaves what carrying it out once does.
    - Two trials never share a slot at the same time, and a trial sees nothing of the one before it but
      ignored files (not even these when `TrialRequest.fresh` is set).
    - What a command does is told by the trial's outcome, never by an exception.
    - `TrialRequest.memory` and `labels` choose the machine. Where there is one machine only they may be ignored;
      what no machine has is refused and never waited for.
    - `on_started` and `on_output` may be called from another thread, and are not called any more once
      `execute` has returned or raised. One that raises is logged and the trial goes on.
    - `arboretum.testing.executor_checks` holds the checks that every executor passes.
    """

    @property
    def capacity(self) -> int:
        """How many trials it can usefully carry out at once; it may change while it is used."""

    async def execute(
        self, request: TrialRequest, *, on_started: TrialStart | None = None, on_output: OutputLine | None = None
    ) -> Trial:
        """Carry out one trial. Any number may be asked for at once; they wait for their turn.

        When the awaiting task is cancelled, everything of the trial is stopped and its slot is given back before
        the cancellation goes on.

        Raises:
            EngineError: The trial could not be carried out (no slot, no disk, a lost worker); it may be tried again.
            ExecutorError: The executor is closed, or cannot carry out any trial at all.
        """

    async def close(self) -> None:
        """Stop what runs and give everything back; closing twice is allowed."""
