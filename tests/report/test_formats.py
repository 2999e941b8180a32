"""The reports that machines read, and Markdown."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.engine.model import Outcome, Trial
from arboretum.engine.result import RunResult
from arboretum.report import Exhibits, ReportFormat, render_report
from arboretum.report.document import load_schema, run_document
from arboretum.report.exhibits import SHOWN_BYTES, Outputs, printable
from arboretum.report.view import timeline


def test_json_fits_its_published_schema(result: RunResult) -> None:
    """The JSON of a run is one object that the published schema describes, whatever text was in it."""
    schema = load_schema("run-1")
    jsonschema.Draft202012Validator.check_schema(schema)
    text = render_report(result, ReportFormat.JSON)
    document = json.loads(text.encode("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(document)
    assert document == run_document(result)
    assert [h["verdict"] for h in document["hypotheses"]] == ["supported"] * 2 + ["falsified"] + ["inconclusive"] * 2
    assert document["hypotheses"][3]["trials"][0]["outcome"] == "timeout"


def test_the_schema_refuses_what_it_does_not_describe(result: RunResult) -> None:
    """A document with an unknown key or an unknown verdict does not fit the schema: it is no schema for everything."""
    validator = jsonschema.Draft202012Validator(load_schema("run-1"))
    document = run_document(result)
    assert not validator.is_valid(document | {"extra": 1})
    document["hypotheses"][0]["verdict"] = "maybe"
    assert not validator.is_valid(document)


def test_junit_counts_are_those_of_the_verdicts(result: RunResult, exhibits: Exhibits) -> None:
    """In JUnit, falsified is a failure, undecided an error, cancelled skipped, supported (and the control) a pass."""
    root = ET.fromstring(render_report(result, ReportFormat.JUNIT, exhibits=exhibits))
    suite = root.find("testsuite")
    assert suite is not None
    assert {k: suite.get(k) for k in ("tests", "failures", "errors", "skipped")} == {
        "tests": "6",
        "failures": "1",
        "errors": "1",
        "skipped": "1",
    }
    cases = {case.get("name"): case for case in suite.iter("testcase")}
    assert cases["wrong"].find("failure") is not None
    error = cases["hangs"].find("error")
    assert error is not None
    assert "stopped after 30 s" in (error.text or "")
    assert "needle" in (cases["control"].findtext("system-out") or "")
    assert float(cases["slow"].get("time", "0")) == pytest.approx(9.3)


def test_markdown_is_a_table_that_hostile_text_cannot_leave(result: RunResult, exhibits: Exhibits) -> None:
    """Every row of the Markdown table has all its cells, and a code fence is longer than any fence inside it."""
    text = render_report(result, ReportFormat.MARKDOWN, exhibits=exhibits)
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(result.judgements)
    assert {len(re.split(r"(?<!\\)\|", row)) for row in rows} == {8}
    assert "<script>" not in text.replace(exhibits.outputs["slow#1"], "")
    fences = re.findall(r"^`{3,}", text, re.MULTILINE)
    assert "`````" in fences
    assert "slower: 3.1 times the control" in text
    assert "tell them apart" in text


@given(st.text())
def test_printable_text_fits_xml(text: str) -> None:
    """What `printable` returns can stand in XML, and is left alone by a second pass."""
    clean = printable(text)
    ET.fromstring("<a>" + clean.replace("&", "&amp;").replace("<", "&lt;") + "</a>")
    clean.encode("utf-8")
    assert printable(clean) == clean


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c"]), st.floats(1, 1e9), st.floats(0, 1e6), st.booleans()), max_size=20
    )
)
def test_timeline_bars_stay_on_their_lane(trials: list[tuple[str, float, float, bool]]) -> None:
    """Each trial that took a slot is one bar, in its slot's lane, between 0 and 100 percent."""
    made = [
        Trial(hypothesis="h", attempt=n, outcome=Outcome.PASSED, slot=slot, started=start, duration=long, cached=cached)
        for n, (slot, start, long, cached) in enumerate(trials, start=1)
    ]
    lanes = timeline(made)
    bars = [(lane.slot, bar) for lane in lanes for bar in lane.bars]
    assert sorted((slot, bar.trial) for slot, bar in bars) == sorted((t.slot, t.id) for t in made if not t.cached)
    assert all(bar.left >= 0 and bar.width >= 0 and bar.left + bar.width <= 100.01 for _, bar in bars)


def test_a_long_output_keeps_its_head_and_its_tail(tmp_path: Path) -> None:
    """Of an output that is too long to show, the first and last parts are shown, and how much is missing."""
    path = tmp_path / "stdout"
    path.write_bytes(b"first\n" + b"x" * 3 * SHOWN_BYTES + b"\nlast")
    text = Outputs().shown(Trial(hypothesis="h", attempt=1, outcome=Outcome.FAILED, output_paths={"stdout": str(path)}))
    assert text.startswith("first")
    assert text.endswith("last")
    assert re.search(r"\[\.\.\. \d+ bytes left out \.\.\.\]", text)
    assert len(text) < SHOWN_BYTES + 100


def test_outputs_that_are_gone_fall_back_to_their_last_lines() -> None:
    """When the kept output was cleaned away the report shows the last lines that the result carries."""
    trial = Trial(
        hypothesis="h", attempt=1, outcome=Outcome.FAILED, output_paths={"stdout": "/nowhere"}, output_tail="last words"
    )
    assert Outputs().shown(trial) == "last words"
