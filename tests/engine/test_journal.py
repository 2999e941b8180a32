"""The journal: what was written is read back, whatever happened to its last line, and it has one writer."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.engine.events import (
    RunFinished,
    RunStarted,
    RunStopping,
    SlotChanged,
    TrialFinished,
    TrialOutput,
    TrialStarted,
    VerdictReached,
)
from arboretum.engine.journal import Journal, iter_runs, last_status, new_run_id, read_journal
from arboretum.engine.model import Judgement, Outcome, Reason, Trial, Verdict
from arboretum.engine.records import event_line, event_of_line
from arboretum.errors import InvalidValueError, StoreError
from arboretum.events import Event
from arboretum.values import Oid

texts = st.text(st.characters(codec=None), max_size=12)
numbers = st.floats(allow_nan=False, allow_infinity=False)
oids = st.text("0123456789abcdef", min_size=40, max_size=40).map(Oid)
trials = st.builds(
    Trial, hypothesis=texts, attempt=st.integers(1, 9), outcome=st.sampled_from(Outcome),
    exit_code=st.none() | st.integers(0, 255), duration=numbers, slot=texts, commit=st.none() | oids,
    tree=st.none() | oids, message=texts, output_tail=texts, output_paths=st.dictionaries(texts, texts, max_size=2),
    metrics=st.dictionaries(texts, numbers, max_size=2), cached=st.booleans(), leaked=st.booleans(),
)  # fmt: skip
judgements = st.builds(
    Judgement, hypothesis=texts, verdict=st.sampled_from(Verdict), reason=st.sampled_from(Reason),
    confidence=st.floats(0, 1), trials=st.tuples(trials), notes=st.tuples(texts),
)  # fmt: skip
events = st.one_of(
    st.builds(RunStarted, run=texts, title=texts, base=oids, command=texts, hypotheses=st.tuples(texts, texts),
              trials=st.integers(0), jobs=st.integers(1), time=numbers),
    st.builds(TrialStarted, run=texts, hypothesis=texts, attempt=st.integers(1), slot=texts, path=texts, time=numbers),
    st.builds(TrialOutput, run=texts, hypothesis=texts, attempt=st.integers(1), stream=texts, line=texts, time=numbers),
    st.builds(TrialFinished, run=texts, trial=trials, time=numbers),
    st.builds(VerdictReached, run=texts, judgement=judgements, time=numbers),
    st.builds(RunFinished, run=texts, status=texts, duration=numbers, time=numbers),
    st.builds(RunStopping, run=texts, time=numbers),
    st.builds(SlotChanged, run=texts, slot=texts, state=texts, previous=texts, lease=texts, time=numbers),
)  # fmt: skip


def finished(attempt: int = 1, message: str = "") -> TrialFinished:
    return TrialFinished(run="r", trial=Trial(hypothesis="h", attempt=attempt, outcome=Outcome.PASSED, message=message))


@given(events)
def test_every_event_is_one_line_and_comes_back_equal(event):
    """An event is one line of JSON, whatever its texts hold, and reads back equal."""
    line = event_line(event)
    assert line.count(b"\n") == 1
    assert event_of_line(line) == event


@pytest.mark.parametrize("line", [b"", b"{", b"[]", b"null", b'{"v":2,"type":"slot"}', b'{"v":1,"type":"x"}',
                                  b'{"v":1,"type":"run-finished"}', b"\xff\xfe"])  # fmt: skip
def test_what_is_no_event_is_refused(line):
    """A damaged line, a later version and an unknown type are errors of ours, not of a library."""
    with pytest.raises(InvalidValueError):
        event_of_line(line)


def test_what_is_written_is_read_back(tmp_path):
    """The events of the run come back in order; lines of output, slots and other runs are left out."""
    with Journal.open(str(tmp_path), "r") as journal:
        for event in (
            RunStarted(run="r", title="", base=Oid("0" * 40), command="c", hypotheses=("h",), trials=1, jobs=1),
            TrialOutput(run="r", hypothesis="h", attempt=1, stream="stdout", line="x"),
            SlotChanged(run="r", slot="1", state="free", previous="dirty"),
            RunFinished(run="another", status="done", duration=1.0),
            Event(),
            finished(),
        ):
            journal(event)
        contents = read_journal(str(tmp_path), "r")
        assert contents.status == "running"
    contents = read_journal(str(tmp_path), "r")
    assert [event.type for event in contents.events] == ["run-started", "trial-finished"]
    assert contents.status == "interrupted"
    assert set(contents.trials) == {"h#1"}
    assert list(iter_runs(str(tmp_path))) == ["r"]


@given(st.integers(1, 400), st.binary(max_size=40))
def test_a_damaged_tail_costs_at_most_the_last_line(tmp_path_factory, cut, rubbish):
    """Whatever the tail of the file was cut to or ends in, all whole lines are read, and new ones can be added."""
    folder = tmp_path_factory.mktemp("journal")
    with Journal.open(str(folder), "r") as journal:
        for attempt in (1, 2):
            journal(finished(attempt))
        whole = os.path.getsize(journal.path)
        journal(finished(3, "x" * 50))
        path = Path(journal.path)
    tail = path.read_bytes()[whole:]
    path.write_bytes(path.read_bytes()[:whole] + tail[: min(cut, len(tail) - 2)] + rubbish)
    assert {"h#1", "h#2"} <= set(read_journal(str(folder), "r").trials)
    with Journal.open(str(folder), "r") as journal:
        journal(finished(4))
    contents = read_journal(str(folder), "r")
    assert set(contents.trials) - {"h#3"} == {"h#1", "h#2", "h#4"}


@given(st.lists(events, max_size=4), st.binary(max_size=40).filter(lambda end: b"\n" not in end), st.booleans())
def test_the_end_of_a_journal_tells_its_status(tmp_path_factory, written, rubbish, live):
    """The status read from the end alone is that of the whole journal: ended, killed, damaged, or going on."""
    folder = str(tmp_path_factory.mktemp("runs"))
    with Journal.open(folder, "r") as journal:
        for event in written:
            journal.write(event)
        if live:
            assert last_status(folder, "r") == read_journal(folder, "r").status == "running"
    with open(os.path.join(folder, "r", "events.jsonl"), "ab") as file:
        file.write(rubbish)
    assert last_status(folder, "r") == read_journal(folder, "r").status


def test_a_run_has_one_writer(tmp_path):
    """A journal that is open for writing cannot be opened by another writer, and can once it is closed."""
    first = Journal.open(str(tmp_path), "r")
    with pytest.raises(StoreError, match="another process"):
        Journal.open(str(tmp_path), "r")
    first.close()
    first.close()
    Journal.open(str(tmp_path), "r").close()


@pytest.mark.parametrize("run", ["../x", "", ".hidden", "a/b"])
def test_a_run_id_cannot_leave_the_folder(tmp_path, run):
    """An id that is no plain name is refused before anything is made."""
    with pytest.raises(InvalidValueError):
        Journal.open(str(tmp_path / "runs"), run)
    assert not (tmp_path / "runs").exists()


def test_an_unknown_run_is_a_clear_error(tmp_path):
    """Reading the journal of a run that is not there says so."""
    with pytest.raises(StoreError, match="missing"):
        read_journal(str(tmp_path), "missing")
    assert list(iter_runs(str(tmp_path / "nowhere"))) == []


def test_run_ids_sort_by_age():
    """A later run has a later id, and ids are valid names."""
    ids = [new_run_id(moment) for moment in (0, 86400, 1e9, 1.7e9, 1.7e9 + 0.001, 1.7e9 + 0.5)]
    assert ids == sorted(ids)
    assert len({new_run_id(0) for _ in range(100)}) == 100


def test_a_full_disk_leaves_the_journal_as_it_was(tmp_path):
    """When a line cannot be written whole nothing of it stays, the error is clear, and writing can go on later."""
    with Journal.open(str(tmp_path), "r") as journal:
        journal(finished(1))
        size = os.path.getsize(journal.path)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
        try:
            with pytest.raises(StoreError, match="cannot write the journal") as caught:
                journal(finished(2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            signal.signal(signal.SIGXFSZ, old)
        assert "--resume" in caught.value.hint
        assert os.path.getsize(journal.path) == size
        journal(finished(3))
    contents = read_journal(str(tmp_path), "r")
    assert (set(contents.trials), contents.damaged) == ({"h#1", "h#3"}, 0)


def test_a_killed_writer_loses_nothing_it_has_written(tmp_path):
    """What `write` has returned from is there after a kill -9, and the run counts as interrupted."""
    script = (
        "import os, signal, sys\n"
        "from arboretum.engine.events import TrialFinished\n"
        "from arboretum.engine.journal import Journal\n"
        "from arboretum.engine.model import Outcome, Trial\n"
        "journal = Journal.open(sys.argv[1], 'r')\n"
        "for n in range(1, 51):\n"
        "    journal(TrialFinished(run='r', trial=Trial(hypothesis='h', attempt=n, outcome=Outcome.PASSED)))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=30)
    contents = read_journal(str(tmp_path), "r")
    assert (len(contents.trials), contents.status) == (50, "interrupted")
