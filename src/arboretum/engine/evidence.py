"""What a finished command says: its outcome (did it test anything at all?) and the numbers it reported.

Nothing here runs anything. The executor reads the files that the command wrote and hands in their content.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections.abc import Mapping

from attrs import field, frozen

from arboretum.engine.model import CommandSpec, Outcome, TrialRequest, outcome_of
from arboretum.process.model import CommandResult

#: What pytest exits with when it collected no test (pytest.ExitCode.NO_TESTS_COLLECTED).
PYTEST_NO_TESTS = 5
_PYTEST = re.compile(r"(?:^|[\s/;&|(])(?:pytest|py\.test)(?:-\d[\d.]*)?(?=$|[\s;&|)])")


@frozen(kw_only=True)
class Reading:
    """What was read from a finished command.

    Args:
        outcome: How the trial ended.
        message: Why, in one line, when the outcome needs a reason.
        metrics: The numbers it reported.
    """

    outcome: Outcome
    message: str = ""
    metrics: Mapping[str, float] = field(factory=dict)


@frozen(kw_only=True)
class _JUnit:
    tests: int
    ran: int
    metrics: Mapping[str, float]


def read_evidence(
    request: TrialRequest, result: CommandResult, *, junit: bytes | None = None, metrics_file: bytes | None = None
) -> Reading:
    """What `result` says of the trial `request`.

    Args:
        request: What was asked; its `nothing_ran`, `junit`, `metrics` and `metrics_file` say how to read.
        result: How the command ended.
        junit: The content of the JUnit XML file, if the command wrote one.
        metrics_file: The content of the JSON file of numbers, if the command wrote one.

    Returns:
        The outcome, with `Outcome.NOTHING_RAN` for a command that ended by itself and tested nothing: pytest's exit
        code 5, a JUnit file in which no test was run, or output that matches the pattern.
    """
    outcome = outcome_of(result)
    report, problem = _read_junit(junit) if junit is not None else (None, "")
    metrics = dict(report.metrics) if report else {}
    if request.metrics:
        metrics |= metrics_in_text(request.metrics, result.stdout + "\n" + result.stderr)
    if metrics_file is not None:
        metrics |= metrics_in_json(metrics_file)
    message = result.error_message or ""
    if outcome in {Outcome.PASSED, Outcome.FAILED}:
        why = _nothing_ran(request, result, report)
        if why:
            return Reading(outcome=Outcome.NOTHING_RAN, message=why, metrics=metrics)
    return Reading(outcome=outcome, message=message or problem, metrics=metrics)


def _nothing_ran(request: TrialRequest, result: CommandResult, report: _JUnit | None) -> str:
    if result.exit_code == PYTEST_NO_TESTS and runs_pytest(request.command):
        return "pytest collected no test (exit code 5)"
    if report is not None and report.ran == 0:
        return "the JUnit file has no test" if report.tests == 0 else f"all {report.tests} tests were skipped"
    if request.nothing_ran:
        found = re.search(request.nothing_ran, f"{result.stdout}\n{result.stderr}", re.MULTILINE)
        if found:
            return f"the output has {found.group()!r}, which means that nothing was tested"
    return ""


def runs_pytest(command: CommandSpec) -> bool:
    """Whether the command starts pytest, as a program (``pytest``, ``python -m pytest``) or inside a shell text."""
    if command.shell:
        return any(_PYTEST.search(text) for text in command.argv)
    return any(_PYTEST.fullmatch(arg.rsplit("/", 1)[-1]) for arg in command.argv)


def metrics_in_text(pattern: str, text: str) -> dict[str, float]:
    """The numbers that `pattern`, with its groups ``name`` and ``value``, finds in `text`; a name's last one counts."""
    found: dict[str, float] = {}
    for match in re.finditer(pattern, text, re.MULTILINE):
        groups = match.groupdict()
        try:
            value = float(groups["value"])
        except (TypeError, ValueError):
            continue
        if math.isfinite(value):
            found[groups.get("name") or "value"] = value
    return found


def metrics_in_json(data: bytes) -> dict[str, float]:
    """The finite numbers of a JSON object, nested ones with dotted names; empty for what is no JSON object."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    found: dict[str, float] = {}
    _collect(document, "", found)
    return found


def _collect(value: object, name: str, found: dict[str, float]) -> None:
    if isinstance(value, dict):
        for key, inner in value.items():
            _collect(inner, f"{name}.{key}" if name else str(key), found)
    elif isinstance(value, int | float) and not isinstance(value, bool) and name:
        with contextlib.suppress(OverflowError):  # a whole number may be larger than any float
            if math.isfinite(number := float(value)):
                found[name] = number


def _read_junit(data: bytes) -> tuple[_JUnit | None, str]:
    from junitparser import JUnitXml, TestSuite  # XML parsing is only paid for when a plan asks for it

    try:
        document = JUnitXml.fromstring(data)
        suites = [document] if isinstance(document, TestSuite) else list(document)
    except Exception as error:  # whatever the command wrote there, the trial goes on
        return None, f"the JUnit file cannot be read: {error}"
    tests = ran = 0
    metrics: dict[str, float] = {}
    for suite in suites:
        for case in suite:
            tests += 1
            ran += not case.is_skipped
            if case.time is not None and not case.is_skipped:
                metrics[f"test:{case.classname}.{case.name}" if case.classname else f"test:{case.name}"] = case.time
    metrics |= {"junit.tests": float(ran), "junit.time": sum(metrics.values())}
    return _JUnit(tests=tests, ran=ran, metrics=metrics), ""
