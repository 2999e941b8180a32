"""The result store: what goes in comes out, from any process, after damage and across versions."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import sqlite3
import threading
import time
from hashlib import sha256
from pathlib import Path

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from arboretum.engine.housekeeping import keep_house
from arboretum.engine.journal import Journal
from arboretum.engine.model import Outcome, Trial
from arboretum.engine.store import ResultStore
from arboretum.engine.store_records import Retention, RunRecord
from arboretum.engine.store_schema import LATEST, STEPS
from arboretum.errors import InvalidValueError, StoreError
from tests.engine.test_hazards import read_only


@frozen
class Key:
    fields: dict[str, str]

    @property
    def digest(self) -> str:
        return sha256(json.dumps(self.fields, sort_keys=True).encode()).hexdigest()


def key(**fields: str) -> Key:
    return Key({"command": "true", "tree": "a" * 40, "attempt": "1"} | fields)


def passed(hypothesis: str = "h", attempt: int = 1, **rest) -> Trial:
    return Trial(hypothesis=hypothesis, attempt=attempt, outcome=Outcome.PASSED, exit_code=0, **rest)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "deep" / "results.sqlite3")


texts = st.text(st.characters(codec=None), max_size=20)
numbers = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    with ResultStore.open(tmp_path_factory.mktemp("shared") / "results.sqlite3") as store:
        store.begin_run(RunRecord(id="shared"))
        yield store


@given(
    message=texts, tail=texts, metrics=st.dictionaries(texts, numbers, max_size=3),
    outcome=st.sampled_from(Outcome), duration=numbers, code=st.none() | st.integers(0, 255),
)  # fmt: skip
def test_trial_survives_the_way_through_the_store(shared, message, tail, metrics, outcome, duration, code):
    """A trial reads back equal, whatever its texts hold, lone surrogates included."""
    trial = Trial(
        hypothesis="h", attempt=1, outcome=outcome, exit_code=code, message=message, output_tail=tail,
        metrics=metrics, duration=duration,
    )  # fmt: skip
    shared.record_trial("shared", trial)
    assert shared.trials("shared") == (trial,)


def test_runs_are_listed_newest_first_and_found_by_a_unique_start(path):
    """A run is found by its id or the start of it; a start that several have is refused, an unknown one is None."""
    with ResultStore.open(path) as store:
        store.begin_run(RunRecord(id="20240101-a", started=1.0, title="one"))
        store.begin_run(RunRecord(id="20240102-b", started=2.0, title="two"))
        store.end_run("20240101-a", "done", result='{"x": 1}')
        assert [run.title for run in store.runs()] == ["two", "one"]
        assert store.run("20240101").result == '{"x": 1}'
        assert store.run("nothing") is None
        with pytest.raises(InvalidValueError, match="2 runs"):
            store.run("2024")


def test_only_a_pass_or_a_fail_is_cached(path):
    """Of all outcomes only passed and failed come out of the cache."""
    with ResultStore.open(path) as store:
        for outcome in Outcome:
            store.put(key(tree=outcome.value), evolve(passed(), outcome=outcome))
        found = store.get_many([key(tree=outcome.value) for outcome in Outcome])
    assert {trial.outcome for trial in found.values()} == {Outcome.PASSED, Outcome.FAILED}


def test_lookup_in_bulk_equals_lookups_one_by_one(path):
    """`get_many` finds exactly what `get` finds, over any number of keys."""
    keys = [key(tree=str(n)) for n in range(1500)]
    with ResultStore.open(path) as store:
        for known in keys[::3]:
            store.put(known, passed(message=known.fields["tree"]))
        found = store.get_many(keys)
        assert found == {k.digest: trial for k in keys if (trial := store.get(k)) is not None}
        assert len(found) == 500


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3_500_000])
def test_whole_output_is_kept_and_the_raw_file_goes(path, tmp_path, size):
    """An output of any size reads back byte for byte, takes less room, and its file is removed once it is kept."""
    raw = tmp_path / "stdout"
    content = (b"line of output \xff\x00\n" * (size // 17 + 1))[:size]
    raw.write_bytes(content)
    with ResultStore.open(path) as store:
        store.begin_run(RunRecord(id="r"))
        kept = store.record_trial("r", passed(output_paths={"stdout": str(raw)}))
        assert not raw.exists()
        assert kept.output_paths == {}
        assert b"".join(store.output("r", "h", 1) or ()) == content
        assert store.output("r", "h", 1, "stderr") is None
    assert os.path.getsize(path) < max(size, 200_000)


def test_the_output_of_a_cached_trial_is_that_of_the_trial_which_found_the_result(path, tmp_path):
    """A trial whose result was taken from the cache has the whole output of the one that was run."""
    raw = tmp_path / "stdout"
    raw.write_bytes(b"the whole of it")
    with ResultStore.open(path) as store:
        store.begin_run(RunRecord(id="first"))
        store.begin_run(RunRecord(id="second"))
        found = store.record_trial("first", passed("here", output_paths={"stdout": str(raw)}), key=key())
        store.put(key(), found, run="first")
        store.record_trial("second", passed("there", cached=True), key=key())
        store.record_trial("second", passed("elsewhere"))
        assert b"".join(store.output("second", "there", 1) or ()) == b"the whole of it"
        assert store.output("second", "elsewhere", 1) is None


def test_a_store_is_read_where_nothing_can_be_written(path, tmp_path):
    """On a read-only disk the store is read; one that is not there is empty, and is not made."""
    with ResultStore.open(path) as store:
        store.begin_run(RunRecord(id="kept"))
    with ResultStore.open_to_read(tmp_path / "nowhere" / "results.sqlite3") as store:
        assert store.runs() == ()
    assert not (tmp_path / "nowhere").exists()
    with read_only(tmp_path / "deep") as mounted:
        if not mounted:
            pytest.skip("nothing may be mounted here")
        with ResultStore.open_to_read(path) as store:
            assert [run.id for run in store.runs()] == ["kept"]
            with pytest.raises(StoreError, match="readonly"):
                store.begin_run(RunRecord(id="new"))


def test_output_stays_in_its_file_when_the_store_cannot_take_it(path, tmp_path):
    """A raw output is removed only after it is safe: an error before leaves the file where it is."""
    raw = tmp_path / "stdout"
    raw.write_bytes(b"precious")
    with ResultStore.open(path) as store, pytest.raises(StoreError):
        store.record_trial("run-that-never-began", passed(output_paths={"stdout": str(raw)}))
    assert raw.read_bytes() == b"precious"


def test_a_batch_is_kept_whole_or_not_at_all(path, tmp_path):
    """What is changed in a batch is there when it ends, nothing of it when it fails; outputs stay until then."""
    raw = tmp_path / "stdout"
    raw.write_bytes(b"precious")
    with ResultStore.open(path) as store, ResultStore.open(path) as other:
        store.begin_run(RunRecord(id="r"))
        with contextlib.suppress(ZeroDivisionError), store.batch():
            store.record_trial("r", passed(output_paths={"stdout": str(raw)}))
            store.put(key(), passed())
            raise ZeroDivisionError
        assert raw.read_bytes() == b"precious"
        assert (store.trials("r"), store.get(key())) == ((), None)
        with store.batch():
            store.record_trial("r", passed(output_paths={"stdout": str(raw)}))
            with store.batch():
                store.put(key(), passed())
            assert raw.exists()
            assert other.get(key()) is None
        assert not raw.exists()
        assert other.get(key()) == passed()
        assert b"".join(other.output("r", "h", 1)) == b"precious"


def test_why_names_the_fields_that_differ_from_the_nearest_result(path):
    """A miss is explained by the fewest fields that differ from a result stored before; a hit names its run."""
    with ResultStore.open(path) as store:
        store.begin_run(RunRecord(id="old", started=0.0))
        store.put(key(python="3.11", env="x"), passed(), run="old")
        store.put(key(tree="b" * 40, python="3.12", env="x"), passed(), run="old")
        store.begin_run(RunRecord(id="new"))
        store.record_trial("new", passed("miss"), key=key(python="3.12", env="x"))
        store.record_trial("new", passed("hit", cached=True), key=key(python="3.11", env="x"))
        store.record_trial("new", passed("uncached"))
        assert store.why("new", "miss").differences == {"python": ("3.12", "3.11")}
        assert (store.why("new", "hit").hit, store.why("new", "hit").source) == (True, "old")
        assert store.why("new", "uncached") is None
        assert store.why("new", "unknown") is None


def test_a_store_of_each_earlier_version_is_migrated_with_its_content(path):
    """A file written by any earlier version opens at the latest version and has lost nothing."""
    for version in range(LATEST):
        old = f"{path}.{version}"
        os.makedirs(os.path.dirname(old), exist_ok=True)
        db = sqlite3.connect(old)
        for statements in STEPS[:version]:
            for statement in statements:
                db.execute(statement)
        if version:
            db.execute("INSERT INTO runs VALUES ('r', 't', 'b', 'c', 1.0, NULL, 'done', '{}', '')")
        db.execute(f"PRAGMA user_version = {version}")
        db.commit()
        db.close()
        with ResultStore.open(old) as store:
            assert [run.id for run in store.runs()] == (["r"] if version else [])
            store.begin_run(RunRecord(id="r"))
            store.record_trial("r", passed())
            assert store.check() == ()


def test_a_store_of_a_later_version_is_refused_and_left_alone(path):
    """A store that a later arboretum wrote is not touched."""
    ResultStore.open(path).close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.commit()
    db.close()
    before = Path(path).read_bytes()
    with pytest.raises(StoreError, match="version 99"):
        ResultStore.open(path)
    assert Path(path).read_bytes() == before


@pytest.mark.parametrize("damage", ["header", "all", "middle", "text"])
def test_a_damaged_store_is_set_aside_and_work_goes_on(path, damage):
    """A damaged file is kept under another name, byte for byte, and a new store takes its place."""
    with ResultStore.open(path) as store:
        store.begin_run(RunRecord(id="r"))
        for n in range(400):
            store.put(key(tree=str(n)), passed(message="x" * 300))
    content = bytearray(Path(path).read_bytes())
    spans = {"header": (0, 100), "all": (0, len(content)), "middle": (4096, len(content)), "text": (0, 16)}
    start, end = spans[damage]
    content[start:end] = b"\x5a" * (end - start)
    Path(path).write_bytes(content)
    with ResultStore.open(path) as store:
        store.begin_run(RunRecord(id="next"))
        store.record_trial("next", passed())
        store.put(key(), passed())
        store.get_many([key(tree=str(n)) for n in range(400)])
        assert store.get(key()) == passed()
        assert store.check() == ()
        assert store.set_aside is not None
        assert Path(store.set_aside).read_bytes()[:4096] == content[:4096]


def test_an_unreadable_store_is_a_clear_error_and_left_alone(path, tmp_path):
    """A path that cannot be a file of ours gives a StoreError with a hint, and nothing is removed."""
    Path(path).mkdir(parents=True)
    with pytest.raises(StoreError) as caught:
        ResultStore.open(path)
    assert "--no-cache" in caught.value.hint
    assert Path(path).is_dir()


def test_a_closed_store_says_so(path):
    """A store that is closed refuses work, and closing twice is allowed."""
    store = ResultStore.open(path)
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.runs()


def test_retention_drops_the_oldest_outputs_first_and_never_of_a_running_run(path, tmp_path):
    """Outputs go by count, age and size, oldest runs first; a running run, the cache and the runs stay."""
    with ResultStore.open(path) as store:
        for n in range(6):
            run = f"run-{n}"
            store.begin_run(RunRecord(id=run, started=1000.0 + n))
            raw = tmp_path / run
            raw.write_bytes(os.urandom(100_000))
            store.record_trial(run, passed(output_paths={"stdout": str(raw)}))
            if n != 1:
                store.end_run(run, "done")
        store.put(key(), passed())
        by_age = Retention(age=100.0, cache_age=1e10)
        assert store.apply_retention(evolve(by_age, runs=4), now=1005.0) == ("run-0",)
        assert store.apply_retention(evolve(by_age, output_bytes=250_000), now=1005.0) == ("run-3", "run-2", "run-0")
        assert store.output("run-1", "h", 1) is not None
        size = os.path.getsize(path)
        assert set(store.apply_retention(by_age, now=2000.0)) == {f"run-{n}" for n in range(6)}
        assert len(store.runs()) == 6
        assert store.trials("run-5") == (passed(),)
        store.apply_retention(Retention(cache_age=10.0, age=10.0), now=time.time() + 60.0)
        assert store.get(key()) is None
        assert store.runs() == ()
    assert os.path.getsize(path) < size


def _write_many(path: str, worker: int) -> None:
    with ResultStore.open(path) as store:
        for n in range(25):
            store.put(key(tree=f"{worker}.{n}"), passed())
            store.record_trial("r", passed(f"w{worker}", n + 1))


def test_processes_and_threads_write_at_once(path):
    """Four processes and four threads that open and write at the same time lose nothing."""
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_write_many, args=(path, n)) for n in range(4)]
    with ResultStore.open(path) as store:
        store.begin_run(RunRecord(id="r"))
        threads = [threading.Thread(target=_write_many, args=(path, 10 + n)) for n in range(4)]
        for worker in (*processes, *threads):
            worker.start()
        for worker in (*processes, *threads):
            worker.join()
        assert all(process.exitcode == 0 for process in processes)
        assert len(store.trials("r")) == 200
        keys = [key(tree=f"{w}.{n}") for w in (0, 1, 2, 3, 10, 11, 12, 13) for n in range(25)]
        assert len(store.get_many(keys)) == 200


def test_old_runs_leave_the_disk_and_live_ones_stay(path, tmp_path):
    """Folders of runs beyond the retention are removed, with their journals; that of a run that goes on stays."""
    runs = str(tmp_path / "runs")
    with ResultStore.open(path) as store:
        for n in range(4):
            store.begin_run(RunRecord(id=f"run-{n}", started=1000.0 + n))
            store.end_run(f"run-{n}", "done")
            Journal.open(runs, f"run-{n}").close()
        live = Journal.open(runs, "run-0")
        assert keep_house(store, runs, Retention(runs=2, age=1e10, cache_age=1e10)) == ("run-1",)
        live.close()
        assert sorted(os.listdir(runs)) == ["run-0", "run-2", "run-3"]
        assert len(store.runs()) == 4
