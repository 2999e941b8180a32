"""The frame of the benchmarks does its sums right, keeps what it has, and draws it. No time is asserted here."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree as ET

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.benchmarks.__main__ import areas, measure
from tests.benchmarks.apart import AreaError, rows_apart, rows_of
from tests.benchmarks.each_ways import GitTest
from tests.benchmarks.measure import Row, compare, growth, interleave, slope
from tests.benchmarks.outcome import Outcome, table
from tests.benchmarks.plot import cases, figure, panels, pictures, share
from tests.benchmarks.programs import Program, provide

ROOT = Path(__file__).parents[2]
positive = st.floats(0.001, 1000)


@given(st.lists(st.tuples(positive, positive), min_size=1))
def test_a_ratio_is_the_median_of_the_rounds(pairs: list[tuple[float, float]]) -> None:
    """The ratio lies between the smallest and the largest ratio of a round, whatever the drift between rounds."""
    times = {"ours": [a for a, _ in pairs], "theirs": [b for _, b in pairs]}
    row = compare("x", "case", times, ours="ours", baseline="theirs", target=1.0)
    ratios = [a / b for a, b in pairs]
    assert row.ratio is not None
    assert min(ratios) <= row.ratio <= max(ratios)
    assert row.reached is (row.ratio <= 1.0)
    faster = compare("x", "case", times, ours="ours", baseline="theirs", target=1.0, at_least=True)
    assert faster.ratio is not None
    assert faster.reached is (faster.ratio >= 1.0)


def test_each_way_is_timed_once_a_round() -> None:
    """Warm-up rounds run but do not count, and a way may tell its own seconds."""
    calls = {"a": 0, "b": 0}

    def way(name: str) -> float:
        calls[name] += 1
        return 2.0 if name == "a" else 4.0

    times = interleave({"a": lambda: way("a"), "b": lambda: way("b")}, rounds=3, warmup=2)
    assert calls == {"a": 5, "b": 5}
    assert times == {"a": [2.0] * 3, "b": [4.0] * 3}


def test_a_figure_without_baseline_is_told_and_not_judged() -> None:
    """A row without a ratio is neither reached nor missed, and still stands in the table and the data."""
    row = Row(area="x", case="left out", baseline="jj", note="could not be had")
    assert row.reached is None
    assert table([row]).row_count == 1
    assert Outcome([row]).document()["rows"][0]["note"] == "could not be had"  # type: ignore[index]


@given(st.floats(-1, 3), st.floats(1e-6, 10), st.lists(st.integers(1, 10**6), min_size=2, unique=True))
def test_a_slope_is_the_exponent_of_the_growth(exponent: float, constant: float, sizes: list[int]) -> None:
    """Of a time that is a power of the size the slope is that power, whatever sizes were measured."""
    points = {size: constant * size**exponent for size in sizes}
    assert slope(points) == pytest.approx(exponent, abs=1e-3)
    row = growth("x", "case", points, unit="files", theirs={1: 1.0, 10: 10.0}, baseline="git", target=1.1)
    assert row.ratio == pytest.approx(exponent, abs=2e-3)
    assert row.ours == points[max(sizes)]
    assert row.extra["slope"]["git"] == pytest.approx(1.0)  # type: ignore[index]


def test_the_constant_part_does_not_hide_the_growth() -> None:
    """Only the large end counts, where what grows outweighs what does not; one size alone has no slope."""
    assert slope({n: 1.0 if n <= 100 else n / 100 for n in (1, 10, 100, 1000, 10_000)}) == pytest.approx(1.0)
    assert slope({5: 2.0}) == 0.0


@pytest.mark.parametrize("area", areas())
def test_every_area_can_be_run(area: str) -> None:
    """Each benchmark module has a docstring and a function `run` that takes a scale."""
    import importlib
    import inspect

    module = importlib.import_module(f"tests.benchmarks.bench_{area}")
    assert module.__doc__
    assert list(inspect.signature(module.run).parameters) == ["scale"]


# What is measured is kept ------------------------------------------------------------------------


def _area(monkeypatch: pytest.MonkeyPatch, name: str, *ends: BaseException) -> None:
    """An area of that name with one figure, which may end in an error after it."""

    def run(scale: float) -> Iterator[Row]:
        yield Row(area=name, case="one", ratio=scale)
        for end in ends:
            raise end

    monkeypatch.setitem(sys.modules, f"tests.benchmarks.bench_{name}", SimpleNamespace(run=run))  # type: ignore[arg-type]  # it has all that is asked for


def test_an_area_that_fails_loses_nothing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """The figures of other areas stand, and so do those that the failing one had; the failure is a row and a trace."""
    outcome = Outcome()
    for name, ends in (("first", ()), ("broken", [ValueError("out of luck\nand more")]), ("last", ())):
        _area(monkeypatch, name, *ends)
        measure(name, 1.0, outcome)
    assert [(row.area, row.case) for row in outcome.rows] == [
        ("first", "one"), ("broken", "one"), ("broken", "failed"), ("last", "one"),
    ]  # fmt: skip
    assert outcome.failed == ["broken"]
    assert outcome.areas["broken"]["error"] == "ValueError: out of luck"
    assert "out of luck" in capsys.readouterr().err


def test_an_interrupt_keeps_what_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C goes on to the caller, and the figures up to there are in the outcome."""
    outcome = Outcome()
    _area(monkeypatch, "long", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        measure("long", 1.0, outcome)
    assert [row.case for row in outcome.rows] == ["one"]
    assert outcome.failed == ["long"]


def test_an_area_apart_tells_the_figures_and_the_errors_of_its_process() -> None:
    """Each row comes through as it was made; a process that ends without its last word has failed."""
    assert {row.area for row in rows_apart("start", 0.02)} == {"start"}
    row = Row(area="x", case="one", ratio=0.5, extra={"n": 1})
    lines = [json.dumps({"row": attrs.asdict(row)})]
    for end, problem in (([], "ended with 3"), ([json.dumps({"error": "out of luck"})], "out of luck")):
        process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(3)"])
        told = rows_of([*lines, *end], process)
        assert next(told) == row
        with pytest.raises(AreaError, match=problem):
            next(told)


def test_an_outcome_can_be_read_again_and_joined(tmp_path: Path) -> None:
    """What is written is read back; areas measured anew replace the older ones, failed ones do not."""
    older = Outcome([Row(area=a, case="old", ratio=0.5, target=1.0, extra={"n": 1}) for a in "abc"])
    for area in "abc":
        older.took(area, 1.0, 1.0)
    older.write(tmp_path / "out" / "figures.json")
    read = Outcome.read(tmp_path / "out" / "figures.json")
    assert read == older
    newer = Outcome([Row(area="b", case="new"), Row(area="c", case="half")])
    newer.took("b", 2.0, 1.0)
    newer.took("c", 2.0, 1.0, error="interrupted")
    joined = newer.joined(read)
    assert [(row.area, row.case) for row in joined.rows] == [("a", "old"), ("b", "new"), ("c", "old")]
    assert joined.failed == []
    assert newer.joined(Outcome()) == newer


@pytest.mark.slow
def test_the_short_form_runs_and_writes_everything(tmp_path: Path) -> None:
    """The one command runs every area in its short form, fails in none, and leaves figures and plots."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks", "--scale", "0.02", "--out", str(tmp_path)],
        cwd=ROOT, capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcome = Outcome.read(tmp_path / "figures.json")
    assert set(outcome.areas) == {*areas(), "peers"}
    assert {"ratios.svg", "ratios-narrow.svg", "growth.svg", "growth-narrow.svg"} < set(os.listdir(tmp_path))


@pytest.mark.slow
def test_ctrl_c_ends_the_command_with_its_figures(tmp_path: Path) -> None:
    """SIGINT in the middle of a run: exit code 130, a table, and the figures of what was done."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks", "start", "engine", "--scale", "0.05", "--out", str(tmp_path)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        assert process.stderr is not None
        while "… engine" not in (line := process.stderr.readline()):
            assert line, "it ended before it came to the engine"
        time.sleep(1)
        os.killpg(process.pid, signal.SIGINT)
        said, _ = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "import arboretum" in said
    outcome = Outcome.read(tmp_path / "figures.json")
    assert "error" not in outcome.areas["start"]
    assert outcome.areas["engine"]["error"] == "interrupted"


def test_a_program_that_cannot_be_had_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the tools to fetch it a program is left out with a reason; one on the PATH is taken as it is."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("git", "there"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
    wanted = [Program(name, name, compiled=False) for name in ("there", "nowhere")]
    missing = provide(tmp_path / "cache", wanted)
    assert list(missing) == ["nowhere"]
    assert missing["nowhere"]


def test_the_algorithm_of_git_test_runs_each_tree_once(tmp_path: Path) -> None:
    """It runs on each commit whose tree is not known to be good, and on none of them again until it forgets."""
    from arboretum.testing.builders import CommitSpec, RepositoryBuilder

    builder = RepositoryBuilder.init(tmp_path / "repository")
    oids = builder.commits([CommitSpec({"n": text}) for text in ("1", "2", "1", "3")])
    builder.git("worktree", "add", "-q", "--detach", str(tmp_path / "tree"))
    ways = GitTest(str(tmp_path / "tree"), builder.environment)
    command = f"cat n >> {tmp_path}/seen"
    assert ways.run(oids, command) == 3
    assert ways.run(oids, command) == 0
    assert (tmp_path / "seen").read_text() == "123"
    ways.forget()
    assert ways.run(oids[:1], command) == 1


# Pictures ----------------------------------------------------------------------------------------

ratios = st.floats(1e-6, 1e6)
names = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S", "Zs")), min_size=1, max_size=90)
judged = st.builds(
    Row, area=st.sampled_from(["create", "objects", "own"]), case=names, baseline=names, ratio=ratios,
    target=ratios, at_least=st.booleans(),
)  # fmt: skip
curves = st.builds(
    lambda case, points: growth("x", case, points, unit="files", theirs=points, baseline="git"),
    names,
    st.dictionaries(st.integers(1, 10**5), st.floats(1e-7, 1e3), min_size=1, max_size=5),
)


@given(st.lists(st.one_of(judged, curves), max_size=8))
def test_every_figure_is_in_the_pictures(rows: list[Row]) -> None:
    """Whatever was measured, the pictures are well-formed, stay within their frame, and leave no judged figure out."""
    for name, text in pictures(rows).items():
        picture = ET.fromstring(text)
        width, height = (float(picture.attrib[side]) for side in ("width", "height"))
        for mark in picture.iter("{http://www.w3.org/2000/svg}text"):
            assert 0 <= float(mark.attrib["x"]) <= width, name
            assert 0 <= float(mark.attrib["y"]) <= height, name
    shown = [row for _, group in cases(rows) for case in group for _, row in case.marks]
    assert sorted(map(id, shown)) == sorted(id(row) for row in rows if "curve" not in row.extra)
    assert sum(len(group) for _, group in panels(rows)) == len({r.case for r in rows if "curve" in r.extra})


@given(judged)
def test_a_figure_tells_reached_from_missed(row: Row) -> None:
    """The share of the target is at most 1 where it was reached, and figures that differ are written differently."""
    assert row.ratio is not None
    assert row.target is not None
    assume(abs(row.ratio / row.target - 1) > 1e-2)
    assert (share(row) <= 1) == row.reached
    ratio, target = figure(row).removesuffix(")").split(" (")
    assert ratio != target[2:]


def test_the_backends_of_one_case_stand_in_one_line() -> None:
    """Rows that differ in their backend alone share a line, or a panel, with a mark or a curve each."""
    rows = [
        Row(area="objects", case=f"status ({name})", baseline=name, ratio=1.0, target=1.1)
        for name in ("cli", "gitpython", "pygit2")
    ]
    ((_, [case]),) = cases(rows)
    assert (case.name, case.baseline) == ("status", "cli, gitpython, pygit2")
    assert [variant for variant, _ in case.marks] == ["cli", "gitpython", "pygit2"]
    grown = [growth("x", f"list ({n})", {1: 1.0, 9: 9.0}, unit="files", theirs={1: 1.0}, baseline="git")
             for n in ("cli", "pygit2")]  # fmt: skip
    ((unit, [panel]),) = panels(grown)
    assert unit == "files"
    assert [(name, ours) for name, ours, _, _ in panel.lines] == [("cli", True), ("pygit2", True), ("git", False)]


def test_the_pictures_of_the_docs_are_of_their_figures() -> None:
    """What the docs show is drawn from the figures that are kept beside it; `--draw --out` there draws it anew."""
    folder = Path(__file__).resolve().parents[2] / "docs/images/benchmarks"
    for name, text in pictures(Outcome.read(folder / "figures.json").rows).items():
        assert (folder / name).read_text(encoding="utf-8") == text, name
