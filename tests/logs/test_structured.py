"""JSON logs, ids, metrics, structlog."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import math
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader

from arboretum.errors import InvalidValueError
from arboretum.logs import MetricsLogger, bind, bound, setup_structured_logging
from arboretum.logs.structlog_interop import configure_structlog


def records(path: Path) -> list[dict[str, object]]:
    """The objects of a JSON log; each line has to be one."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_one_object_a_line_with_ids(tmp_path: Path) -> None:
    """A record is one JSON object with time, level, logger, message, the ids that were bound and the extras."""
    setup_structured_logging(log_file=tmp_path / "log")
    with bind(run="r1", hypothesis="h"), bind(slot="s3", attempt=2):
        logging.getLogger("some.library").warning("two\nlines", extra={"size": 3})
    logging.getLogger("a").info("outside")
    first, second = records(tmp_path / "log")
    assert first.pop("timestamp").startswith("20")
    assert first == {
        "level": "WARNING",
        "logger": "some.library",
        "message": "two\nlines",
        "run": "r1",
        "hypothesis": "h",
        "slot": "s3",
        "attempt": 2,
        "size": 3,
    }
    assert "run" not in second


def test_exceptions_are_structured(tmp_path: Path) -> None:
    """An exception comes with type, message, frames and cause as fields."""
    setup_structured_logging(log_file=tmp_path / "log")
    try:
        try:
            raise KeyError("inner")
        except KeyError as inner:
            raise RuntimeError("outer") from inner
    except RuntimeError:
        logging.getLogger("a").exception("failed")
    (record,) = records(tmp_path / "log")
    error = record["exception"]
    assert (error["type"], error["message"]) == ("RuntimeError", "outer")
    assert error["frames"][-1]["function"] == "test_exceptions_are_structured"
    assert error["cause"]["type"] == "KeyError"
    assert "exc_info" not in record


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(
    message=st.text(st.characters(exclude_categories=())),
    value=st.one_of(st.binary(), st.floats(), st.text(), st.sets(st.integers())),
)
def test_every_record_is_valid_json(tmp_path: Path, message: str, value: object) -> None:
    """Whatever a message or an extra holds, lone surrogates included, the line is one valid JSON object."""
    with setup_structured_logging(log_file=tmp_path / "log"):
        logging.getLogger("a").info("%s", message, extra={"thing": value})
    (record,) = records(tmp_path / "log")
    (tmp_path / "log").unlink()
    assert record["message"].encode("utf-8") is not None


def test_ids_per_thread_and_task(tmp_path: Path) -> None:
    """Concurrent tasks and threads each stamp their own ids, and every line stays whole."""
    setup_structured_logging(log_file=tmp_path / "log")
    log = logging.getLogger("a")

    def work(name: str) -> None:
        with bind(hypothesis=name):
            for attempt in range(50):
                with bind(attempt=attempt):
                    log.info("%s %d %s", name, attempt, "x" * 5000)

    async def main() -> None:
        with bind(run="r"):
            threads = [
                threading.Thread(target=contextvars.copy_context().run, args=(work, f"thread{i}")) for i in range(4)
            ]
            for thread in threads:
                thread.start()
            await asyncio.gather(*(asyncio.to_thread(work, f"task{i}") for i in range(4)))
            for thread in threads:
                thread.join()

    asyncio.run(main())
    assert bound() == {}
    seen = records(tmp_path / "log")
    assert len(seen) == 400
    for record in seen:
        assert record["message"].startswith(f"{record['hypothesis']} {record['attempt']} ")
        assert record["run"] == "r"


def test_several_processes_may_append(tmp_path: Path) -> None:
    """Lines of several processes that append to one file stay whole."""
    program = (
        "import logging, sys; from arboretum.logs import setup_structured_logging\n"
        "setup_structured_logging(log_file=sys.argv[1])\n"
        "for i in range(100): logging.info('%s %d %s', sys.argv[2], i, 'x' * 6000)"
    )
    path = str(tmp_path / "log")
    processes = [subprocess.Popen([sys.executable, "-c", program, path, str(i)]) for i in range(4)]
    assert [process.wait() for process in processes] == [0] * 4
    assert len({record["message"][:6] for record in records(tmp_path / "log")}) > 100
    assert len(records(tmp_path / "log")) == 400


def test_text_format(tmp_path: Path) -> None:
    """The other format is plain text."""
    setup_structured_logging("text", tmp_path / "log")
    logging.getLogger("a").info("hello")
    assert (tmp_path / "log").read_text().endswith("INFO a: hello\n")


def test_unknown_format() -> None:
    """A format that does not exist is refused with those that do."""
    with pytest.raises(InvalidValueError, match="json, text"):
        setup_structured_logging("xml")  # type: ignore[arg-type]  # that is the test


def test_metrics_go_to_the_log(tmp_path: Path) -> None:
    """A metric is a record whose fields can be counted."""
    setup_structured_logging(log_file=tmp_path / "log")
    MetricsLogger().log_metric("trial_duration_s", 0, {"hypothesis": "h"})
    (record,) = records(tmp_path / "log")
    assert record["message"] == "trial_duration_s=0 hypothesis=h"
    assert (record["metric"], record["value"], record["tags"]) == ("trial_duration_s", 0, {"hypothesis": "h"})


def test_metrics_go_to_open_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """With OpenTelemetry's API a metric is recorded in a histogram of its name."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    monkeypatch.setattr("opentelemetry.metrics.get_meter", provider.get_meter)
    metrics = MetricsLogger()
    for value in (1.0, 2.5):
        metrics.log_metric("wait_s", value, {"slot": "1"})
    scope = reader.get_metrics_data().resource_metrics[0].scope_metrics[0]
    (point,) = scope.metrics[0].data.data_points
    assert (scope.metrics[0].name, point.sum, point.count, dict(point.attributes)) == ("wait_s", 3.5, 2, {"slot": "1"})
    provider.shutdown()


def test_metrics_without_open_telemetry(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """Without the extra, metrics go to the log alone."""
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with caplog.at_level(logging.INFO):
        MetricsLogger().log_metric("a", 1)
    assert caplog.messages == ["a=1"]


@pytest.mark.parametrize(
    ("name", "value"), [("", 1), (" ", 1), ("a", math.nan), ("a", math.inf), ("a", "1"), ("a", True), ("a", None)]
)
def test_bad_metrics(name: str, value: object) -> None:
    """A metric without a name or a finite number is refused."""
    with pytest.raises(InvalidValueError):
        MetricsLogger().log_metric(name, value)  # type: ignore[arg-type]  # that is the test


def test_structlog_goes_the_same_way(tmp_path: Path) -> None:
    """Events of structlog reach the same handlers and carry the same ids."""
    structlog = pytest.importorskip("structlog")
    setup_structured_logging(log_file=tmp_path / "log")
    configure_structlog()
    try:
        with bind(run="r9"):
            structlog.get_logger("s").info("event", size=3)
    finally:
        structlog.reset_defaults()
    (record,) = records(tmp_path / "log")
    assert (record["message"], record["run"], record["size"]) == ("event", "r9", 3)
