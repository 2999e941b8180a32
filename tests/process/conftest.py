"""What the tests of the process layer share: a runner, and a look at the processes that carry a test's mark."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Callable, Iterator

import pytest

from arboretum.process import SubprocessRunner
from arboretum.process.sweep import all_pids, has_ended


@pytest.fixture
def runner() -> SubprocessRunner:
    """The runner under test."""
    return SubprocessRunner()


def living(mark: str) -> list[int]:
    """The living processes with `mark` on their command line."""
    found = []
    for pid in all_pids():
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as file:
                line = file.read()
        except OSError:
            continue
        if mark.encode() in line and pid != os.getpid() and not has_ended(pid):
            found.append(pid)
    return found


def wait_until(condition: Callable[[], bool], seconds: float = 10.0) -> bool:
    """Whether `condition` came true within the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.005)
    return condition()


@pytest.fixture
def mark() -> Iterator[str]:
    """A text to put on command lines (as a shell's ``$0``); what still carries it at the end is killed."""
    text = f"mark-{uuid.uuid4().hex}"
    yield text
    for pid in living(text):
        os.kill(pid, 9)
