"""No descendant of a command survives it, wherever it has gone."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from arboretum.process import CommandRequest, FailureKind, SubprocessRunner
from tests.process.conftest import living, wait_until

#: How a process can leave its parent's group, as shell texts around a body that sleeps.
ESCAPES = {
    "child": "{sleep} &",
    "setsid": "setsid {sleep} &",
    "setsid without pipes": "setsid {sleep} >/dev/null 2>&1 </dev/null &",
    "double fork": "(setsid sh -c '{sleep} & {sleep} &' &);",
    "cleared environment": "env -i /usr/bin/setsid {sleep} >/dev/null 2>&1 &",
    "deep": "setsid sh -c 'setsid sh -c \"setsid {sleep} & wait\" & wait' &",
}
IGNORES_TERM = "trap '' TERM; "


@pytest.fixture
def tail(mark: str) -> str:
    """Seconds for ``sleep`` that no other test uses: the mark of its processes."""
    return f"60.{int(mark[5:17], 16)}"


@pytest.mark.parametrize("escape", ESCAPES)
@pytest.mark.parametrize("end", ["returns", "times out", "ignores TERM"])
def test_no_descendant_survives(runner: SubprocessRunner, tail: str, escape: str, end: str) -> None:
    """Whatever way a descendant leaves its group, it is gone when the command's result is there."""
    script = ESCAPES[escape].format(sleep=f"sleep {tail}")
    if end == "ignores TERM":
        script = f"trap '' TERM; {script}"
    script += " sleep 0.1;" if end == "returns" else " sleep 61;"
    request = CommandRequest(argv=[script], shell=True, timeout=None if end == "returns" else 0.3, grace=0.2)
    result = runner.run(request)
    assert living(tail) == []
    assert result.survivors == ()
    assert result.timed_out == (end != "returns")
    assert result.exit_code == (0 if end == "returns" else 124)
    assert result.leaked == (end == "returns")


def test_orphans_are_attributed(runner: SubprocessRunner, tail: str) -> None:
    """A command's end does not touch the daemons of another command that still runs."""
    started = threading.Event()
    slow = CommandRequest(argv=[f"env -i /usr/bin/setsid sleep {tail} & sleep 0.1; echo up; sleep 60"], shell=True)
    command = runner.start(slow, on_line=lambda *_: started.set())
    try:
        assert started.wait(10)
        for _ in range(20):
            assert runner.run(CommandRequest(argv=["setsid sleep 59 & true"], shell=True, leak_timeout=0)).success
        assert len(living(f"sleep\0{tail}")) == 1
    finally:
        command.stop()
        result = command.wait(10)
    assert living(tail) == []
    assert result.failure_kind is FailureKind.CANCELLED


def test_cancel_reaps_before_it_returns(runner: SubprocessRunner, tail: str) -> None:
    """A cancelled await of a command ends its tree before the cancellation is seen."""

    async def main() -> None:
        request = CommandRequest(argv=[f"{IGNORES_TERM} setsid sleep {tail} & sleep {tail}"], shell=True, grace=0.1)
        task = asyncio.create_task(runner.run_async(request))
        while not living(tail):
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert living(tail) == []

    asyncio.run(main())


def test_second_cancel_cuts_the_grace_period(runner: SubprocessRunner, tail: str) -> None:
    """Who cancels twice does not wait for the grace period."""

    async def main() -> None:
        request = CommandRequest(argv=[f"{IGNORES_TERM} sleep {tail}; sleep {tail}"], shell=True, grace=1000)
        task = asyncio.create_task(runner.run_async(request))
        while not living(tail):
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            async with asyncio.timeout(30):
                await task
        assert living(tail) == []

    asyncio.run(main())


RUNNER_PROGRAM = textwrap.dedent("""
    import sys
    from arboretum.process import CommandRequest, SubprocessRunner
    SubprocessRunner().run(CommandRequest(argv=[sys.argv[1]], shell=True, grace=float(sys.argv[2])))
""")


def start_runner(script: str, grace: float = 5.0) -> subprocess.Popen[bytes]:
    """Another Python process that runs `script` through the runner."""
    return subprocess.Popen([sys.executable, "-c", RUNNER_PROGRAM, script, str(grace)], start_new_session=True)


@pytest.mark.parametrize("escape", ESCAPES)
def test_killed_runner_leaves_nothing(tail: str, escape: str) -> None:
    """A runner that is killed with -9 leaves no descendant of its commands, escaped ones included."""
    script = IGNORES_TERM + ESCAPES[escape].format(sleep=f"sleep {tail}") + f" sleep {tail}"
    with start_runner(script) as process:
        assert wait_until(lambda: len(living(f"sleep\0{tail}")) >= 2)
        os.kill(process.pid, signal.SIGKILL)
    assert wait_until(lambda: not living(tail))


@pytest.mark.parametrize("presses", [1, 2])
def test_keyboard_interrupt(tail: str, presses: int) -> None:
    """Ctrl-C ends the tree before the exception is seen; the second one cuts the grace period."""
    script = f"{IGNORES_TERM if presses == 2 else ''} setsid sleep {tail} & sleep {tail}"
    with start_runner(script, grace=1000) as process:
        assert wait_until(lambda: len(living(f"sleep\0{tail}")) >= 2)
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
        assert process.wait(20) == -signal.SIGINT
    assert living(tail) == []
