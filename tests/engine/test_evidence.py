"""What a finished command says: outcomes, runs that tested nothing, and numbers."""

from __future__ import annotations

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.engine.evidence import metrics_in_json, metrics_in_text, read_evidence, runs_pytest
from arboretum.engine.model import CommandSpec, Outcome, TrialRequest
from arboretum.process.model import CommandResult, FailureKind
from tests.engine.trials import oid


def asked(*argv: str, shell: bool = False, **more: object) -> TrialRequest:
    command = CommandSpec(argv or ("true",), shell)
    return TrialRequest(run="r", hypothesis="h", attempt=1, commit=oid(1), command=command, **more)  # type: ignore[arg-type]


def ended(exit_code: int = 0, stdout: str = "", stderr: str = "", **more: object) -> CommandResult:
    return CommandResult(
        stdout=stdout, stderr=stderr, exit_code=exit_code, duration=1.0, command="x", cwd="/", **more  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.mark.parametrize(
    ("result", "outcome"),
    [
        (ended(0), Outcome.PASSED),
        (ended(1), Outcome.FAILED),
        (ended(5), Outcome.FAILED),
        (ended(125), Outcome.SKIPPED),
        (ended(124), Outcome.FAILED),
        (ended(124, timed_out=True, error_message="timed out"), Outcome.TIMEOUT),
        (ended(126, error_message="not executable"), Outcome.COMMAND_NOT_FOUND),
        (ended(127, error_message="not found"), Outcome.COMMAND_NOT_FOUND),
        (ended(137, signal=9, error_message="killed by SIGKILL", failure_kind=FailureKind.SIGNALLED), Outcome.KILLED),
        (ended(125, error_message="no memory", failure_kind=FailureKind.LIMITS), Outcome.ERROR),
    ],
)
def test_the_end_of_a_command_has_one_meaning(result: CommandResult, outcome: Outcome) -> None:
    """Exit codes, signals, timeouts and commands that could not be run each have their outcome."""
    assert read_evidence(asked(), result).outcome is outcome


@pytest.mark.parametrize(
    ("argv", "shell", "is_pytest"),
    [
        (("pytest", "-q"), False, True),
        (("/venv/bin/pytest",), False, True),
        (("python3", "-m", "pytest", "x"), False, True),
        (("py.test",), False, True),
        (("pytest-3",), False, True),
        (("cd sub && pytest -q; true",), True, True),
        (("(pytest)",), True, True),
        (("python", "check.py", "pytest.ini"), False, False),
        (("cat pytest.log",), True, False),
        (("mypytest",), False, False),
    ],
)
def test_pytest_is_recognised(argv: tuple[str, ...], shell: bool, is_pytest: bool) -> None:
    """Pytest is known as a program, a module and inside a shell text; names that only look like it are not."""
    assert runs_pytest(CommandSpec(argv, shell)) == is_pytest
    expected = Outcome.NOTHING_RAN if is_pytest else Outcome.FAILED
    assert read_evidence(asked(*argv, shell=shell), ended(5)).outcome is expected


JUNIT = '<testsuites><testsuite name="s">{}</testsuite></testsuites>'


@pytest.mark.parametrize(
    ("cases", "outcome", "message"),
    [
        ("", Outcome.NOTHING_RAN, "the JUnit file has no test"),
        ('<testcase name="a"><skipped/></testcase>' * 2, Outcome.NOTHING_RAN, "all 2 tests were skipped"),
        ('<testcase name="a" time="0.5"/>', Outcome.PASSED, ""),
    ],
)
def test_a_green_that_ran_nothing_is_seen(cases: str, outcome: Outcome, message: str) -> None:
    """A JUnit file without a test that ran makes a pass say nothing."""
    reading = read_evidence(asked(junit="out.xml"), ended(0), junit=JUNIT.format(cases).encode())
    assert (reading.outcome, reading.message) == (outcome, message)


def test_a_pattern_can_say_that_nothing_ran() -> None:
    """Output that matches the user's pattern makes a pass or a fail say nothing, and no other outcome."""
    request = asked(nothing_ran=r"^ran 0 tests")
    assert read_evidence(request, ended(0, "hello\nran 0 tests\n")).outcome is Outcome.NOTHING_RAN
    assert read_evidence(request, ended(1, stderr="ran 0 tests")).outcome is Outcome.NOTHING_RAN
    assert read_evidence(request, ended(0, "ran 10 tests")).outcome is Outcome.PASSED
    assert read_evidence(request, ended(124, "ran 0 tests", timed_out=True)).outcome is Outcome.TIMEOUT


@given(st.binary(max_size=200))
def test_any_report_file_is_survived(data: bytes) -> None:
    """Whatever a command writes as its report, the trial keeps its outcome or says that nothing ran."""
    reading = read_evidence(asked(junit="x"), ended(0), junit=data, metrics_file=data)
    assert reading.outcome in {Outcome.PASSED, Outcome.NOTHING_RAN}


def test_an_unreadable_report_is_told() -> None:
    """A damaged JUnit file is named in the message."""
    assert "cannot be read" in read_evidence(asked(junit="x"), ended(0), junit=b"<oops").message


def test_durations_of_tests_are_metrics() -> None:
    """Each test that ran gives its time, by name, and the file their number and sum."""
    cases = '<testcase classname="m" name="a" time="0.5"/><testcase name="b" time="0.25"/>'
    reading = read_evidence(asked(junit="x"), ended(0), junit=JUNIT.format(cases).encode())
    assert reading.metrics == {"test:m.a": 0.5, "test:b": 0.25, "junit.tests": 2.0, "junit.time": 0.75}


def test_numbers_in_the_output_are_metrics() -> None:
    """A pattern with a name and a value finds numbers in both streams; the last of a name counts."""
    request = asked(metrics=r"^(?P<name>\w+)=(?P<value>\S+)$")
    reading = read_evidence(request, ended(0, "a=1\na=2.5\nb=x\nc=inf", "d=-3e2"))
    assert reading.metrics == {"a": 2.5, "d": -300.0}


@given(st.dictionaries(st.text(), st.floats() | st.integers() | st.booleans() | st.none() | st.text(), max_size=5))
def test_only_finite_numbers_of_a_json_file_are_metrics(document) -> None:
    """Numbers are taken under their names; texts, booleans, nothing, infinities and NaN are not."""
    found = metrics_in_json(json.dumps(document).encode())
    for name, value in document.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        finite = is_number and abs(value) <= sys.float_info.max
        assert (name in found) == bool(finite and name)
    assert metrics_in_json(b'{"a": 1' + b"0" * 400 + b"}") == {}


def test_nested_numbers_have_dotted_names() -> None:
    """Objects inside objects give dotted names; a file that is no JSON gives nothing."""
    assert metrics_in_json(b'{"a": {"b": 1, "c": {"d": 2}}, "e": [3]}') == {"a.b": 1.0, "a.c.d": 2.0}
    assert metrics_in_json(b"nope") == metrics_in_json(b"\xff") == metrics_in_json(b"3") == {}
    assert metrics_in_text(r"(?P<value>\d+) ms", "12 ms") == {"value": 12.0}
