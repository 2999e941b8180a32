"""What a status of the kernel means, as properties."""

from __future__ import annotations

import signal

from hypothesis import given
from hypothesis import strategies as st

from arboretum.process.model import FailureKind
from arboretum.process.outcome import outcome

exits = st.integers(0, 255).map(lambda code: code << 8)
signals = st.integers(1, signal.SIGRTMAX)


@given(status=exits)
def test_an_exit_code_is_the_commands_own(status: int) -> None:
    """A command that ended by itself has its own exit code and nothing to explain, whatever the code is."""
    end = outcome(status, timed_out_after=None, cancelled=False)
    assert (end.exit_code, end.kind, end.message, end.signal) == (status >> 8, None, None, None)


@given(number=signals, core=st.booleans())
def test_a_signal_is_128_plus_n(number: int, core: bool) -> None:
    """A command that a signal ended has 128+n, and the signal by name, with or without a core dump."""
    end = outcome(number | (0x80 if core else 0), timed_out_after=None, cancelled=False)
    assert (end.exit_code, end.kind, end.signal) == (128 + number, FailureKind.SIGNALLED, number)
    assert (end.message or "").startswith("ended by ")


@given(status=st.none() | exits | signals, timeout=st.floats(0, 1e6))
def test_a_timeout_is_a_timeout(status: int | None, timeout: float) -> None:
    """A command that was stopped for its timeout timed out, whatever it answered to that."""
    end = outcome(status, timed_out_after=timeout, cancelled=False)
    assert (end.exit_code, end.kind) == (124, FailureKind.TIMED_OUT)


@given(cancelled=st.booleans())
def test_an_unknown_status_is_no_success(cancelled: bool) -> None:
    """A status that somebody else took is told as lost, and never as a success."""
    assert outcome(None, timed_out_after=None, cancelled=cancelled).kind is FailureKind.LOST
    assert outcome(None, timed_out_after=None, cancelled=cancelled).exit_code == 125


@given(status=exits | signals)
def test_a_cancelled_command_says_so(status: int) -> None:
    """A command that its caller stopped is no success, even if it answered with 0."""
    end = outcome(status, timed_out_after=None, cancelled=True)
    assert (end.kind, end.message) == (FailureKind.CANCELLED, "was stopped")
