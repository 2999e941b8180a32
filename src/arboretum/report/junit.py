"""JUnit XML that a CI reads: one test case a hypothesis, and one for the control.

Falsified is a failure, inconclusive an error (skipped when it was asked to be skipped or was cancelled): a run that
could not tell must not look green.
"""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

from junitparser import Error, Failure, JUnitXml, Skipped, TestCase, TestSuite

from arboretum.engine.model import CONTROL, Judgement, Reason, Verdict
from arboretum.report.exhibits import printable

if TYPE_CHECKING:
    from arboretum.engine.result import RunResult
    from arboretum.report.exhibits import Exhibits

_NOT_RUN = {Reason.SKIPPED, Reason.CANCELLED}


def render_junit(result: RunResult, exhibits: Exhibits) -> str:
    """The run as JUnit XML.

    Args:
        result: The run.
        exhibits: Outputs to carry as ``system-out``.

    Returns:
        The content of the file.
    """
    suite = TestSuite(printable(result.plan.title) or "arboretum run")
    suite.timestamp = dt.datetime.fromtimestamp(result.started, dt.UTC).isoformat(timespec="seconds")
    suite.add_property("run", result.run)
    suite.add_property("base", str(result.base))
    suite.add_property("recommendation", printable(result.recommendation))
    control = TestCase(CONTROL, classname="arboretum", time=sum(trial.duration for trial in result.control))
    control.system_out = "\n".join(exhibits.outputs.get(trial.id, "") for trial in result.control)
    suite.add_testcase(control)
    for judgement in result.judgements:
        suite.add_testcase(_case(judgement, exhibits))
    report: Any = JUnitXml()  # junitparser is not annotated throughout
    report.add_testsuite(suite)
    report.update_statistics()
    text: str = report.tostring().decode("utf-8")
    return text


def _case(judgement: Judgement, exhibits: Exhibits) -> TestCase:
    case = TestCase(judgement.hypothesis, classname="arboretum", time=sum(trial.duration for trial in judgement.trials))
    message = printable(f"{judgement.verdict}: {judgement.reason} (confidence {judgement.confidence:.2f})")
    notes = printable("\n".join([*judgement.notes, *(trial.message for trial in judgement.trials if trial.message)]))
    entry = _entry(judgement, message)
    if entry is not None:
        entry.text = notes
        case.result = [entry]
    case.system_out = "\n".join(exhibits.outputs.get(trial.id, "") for trial in judgement.trials)
    return case


def _entry(judgement: Judgement, message: str) -> Failure | Error | Skipped | None:
    match judgement.verdict:
        case Verdict.SUPPORTED:
            return None
        case Verdict.FALSIFIED:
            return Failure(message, str(judgement.reason))
        case Verdict.INCONCLUSIVE:
            return Skipped(message) if judgement.reason in _NOT_RUN else Error(message, str(judgement.reason))
