"""Setting up logging for a program."""

from __future__ import annotations

import io
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.errors import ArboretumError, InvalidValueError, UsageError
from arboretum.logs import (
    ColoredFormatter,
    Colors,
    bind,
    configure_third_party_loggers,
    get_logger,
    log_exception,
    setup_logging,
    setup_structured_logging,
    wants_colors,
)


def test_importing_configures_nothing() -> None:
    """Importing the package adds no handler, sets no level, starts no thread and imports no heavy library."""
    program = (
        "import logging, sys, threading\n"
        "import arboretum.logs, arboretum.shared\n"
        "root = logging.getLogger()\n"
        "assert not root.handlers and root.level == logging.WARNING, root.handlers\n"
        "assert threading.active_count() == 1\n"
        "heavy = {'rich', 'pythonjsonlogger', 'structlog', 'opentelemetry', 'git', 'pygit2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "logging.getLogger('arboretum.x').warning('nobody asked')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_records_reach_standard_error_and_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """One set-up sends records to standard error and to the file, whose folder is made, with the bound ids."""
    path = tmp_path / "new" / "log"
    setup_logging("debug", log_file=path, include_timestamp=False)
    with bind(run="r1", attempt=2):
        logging.getLogger("third.party").debug("héllo \udc80")
    expected = "DEBUG third.party: [run=r1] [attempt=2] héllo "
    assert capsys.readouterr().err == path.read_text("utf-8") == expected + "\\x80\n"


def test_timestamp_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    """The default format starts with the time unless it was told not to."""
    setup_logging()
    logging.getLogger("a").info("x")
    assert capsys.readouterr().err[:4].isdigit()
    setup_logging(include_timestamp=False)
    logging.getLogger("a").info("x")
    assert capsys.readouterr().err == "INFO a: x\n"


def test_setting_up_twice_shows_each_record_once(
    capsys: pytest.CaptureFixture[str], root_logger: logging.Logger
) -> None:
    """A second set-up replaces the first, and leaves the handlers of others alone."""
    other = logging.StreamHandler(io.StringIO())
    root_logger.addHandler(other)
    setup_logging()
    setup_logging(log_format="%(message)s")
    logging.getLogger("a").info("once")
    assert capsys.readouterr().err == "once\n"
    assert other.stream.getvalue() == "once\n"


def test_undo_restores(root_logger: logging.Logger) -> None:
    """Undoing a set-up restores handlers and level, however often it is done."""
    before = list(root_logger.handlers), root_logger.level
    with setup_logging(logging.DEBUG) as setup:
        assert root_logger.level == logging.DEBUG
        setup.undo()
    assert (root_logger.handlers, root_logger.level) == before


def test_level_zero_is_a_level(root_logger: logging.Logger) -> None:
    """A level of 0 means 0, not "the default"."""
    setup_logging(0)
    assert root_logger.level == 0
    assert get_logger("arboretum.test.zero", 0).level == 0


@pytest.mark.parametrize("level", ["LOUD", "", -1, 2.5, True, None])
def test_unknown_level(level: object, root_logger: logging.Logger) -> None:
    """A level that does not exist is refused with a hint, and nothing is installed."""
    before = list(root_logger.handlers)
    with pytest.raises(InvalidValueError) as caught:
        setup_logging(level)  # type: ignore[arg-type]  # that is the test
    assert caught.value.hint
    assert root_logger.handlers == before


@pytest.mark.parametrize("call", [get_logger, lambda name, level: setup_structured_logging(level=level)])
def test_unknown_level_elsewhere(call: Callable[[str, object], object], root_logger: logging.Logger) -> None:
    """The other functions that take a level refuse one that does not exist, and change nothing."""
    before = list(root_logger.handlers), root_logger.level
    with pytest.raises(InvalidValueError):
        call("arboretum.test.level", "LOUD")
    assert (list(root_logger.handlers), root_logger.level) == before


def test_close_level_is_suggested() -> None:
    """A misspelt level gets the right one as a hint."""
    with pytest.raises(InvalidValueError, match="did you mean WARNING"):
        configure_third_party_loggers("warnign")


@pytest.mark.parametrize("text", ["%(nope)s", "%(message", "%(levelname)d", "no field at all"])
def test_wrong_format(text: str, root_logger: logging.Logger) -> None:
    """A format that could not format any record is refused at once."""
    before = list(root_logger.handlers)
    with pytest.raises(InvalidValueError):
        setup_logging(log_format=text)
    assert root_logger.handlers == before


def test_wrong_file(tmp_path: Path, root_logger: logging.Logger) -> None:
    """A log file that cannot be written is refused with what to do, and nothing is installed."""
    before = list(root_logger.handlers)
    (tmp_path / "file").write_text("")
    for path in (tmp_path, tmp_path / "file" / "x", "", "a\0b"):
        with pytest.raises(UsageError) as caught:
            setup_logging(log_file=path)
        assert caught.value.hint
    assert root_logger.handlers == before


def test_log_exception(caplog: pytest.LogCaptureFixture) -> None:
    """An exception is logged with what was done, its text and its traceback, also outside of its handler."""
    error = ArboretumError("it broke", hint="mend it")
    log_exception(get_logger("arboretum.test"), error, "while testing")
    assert "while testing: ArboretumError: it broke" in caplog.text
    assert caplog.records[0].exc_info[1] is error


def test_third_party_loggers_are_quietened() -> None:
    """The level is set for the libraries known and for those named."""
    configure_third_party_loggers(logging.ERROR, ["arboretum_test_a"])
    assert logging.getLogger("arboretum_test_a").level == logging.ERROR


@given(
    level=st.sampled_from([0, 5, 10, 20, 25, 30, 40, 50, 60]),
    message=st.text(),
    use_colors=st.booleans(),
    with_error=st.booleans(),
)
def test_formatting_never_changes_the_record(level: int, message: str, use_colors: bool, with_error: bool) -> None:
    """A formatted record has the same attributes as before."""
    error = (ValueError, ValueError("x"), None) if with_error else None
    record = logging.LogRecord("n", level, __file__, 1, message.replace("%", "%%"), None, error)
    before = dict(record.__dict__)
    text = ColoredFormatter("%(asctime)s %(levelname)s %(message)s", use_colors=use_colors).format(record)
    assert record.__dict__ == before
    assert (Colors.RESET in text) == (use_colors or Colors.RESET in message)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("environ", "terminal", "pipe"),
    [
        ({}, True, False),
        ({"NO_COLOR": "1"}, False, False),
        ({"NO_COLOR": ""}, True, False),
        ({"FORCE_COLOR": "1"}, True, True),
        ({"FORCE_COLOR": "0"}, True, False),
        ({"NO_COLOR": "1", "FORCE_COLOR": "1"}, False, False),
        ({"CLICOLOR_FORCE": "1"}, True, True),
        ({"CLICOLOR": "0"}, False, False),
        ({"TERM": "dumb"}, False, False),
        ({"PYTHON_COLORS": "1", "NO_COLOR": "1"}, True, True),
        ({"PYTHON_COLORS": "0", "FORCE_COLOR": "1"}, False, False),
    ],
)
def test_conventions_of_colour(environ: dict[str, str], terminal: bool, pipe: bool) -> None:
    """Colours follow the conventions in their order of precedence, and an explicit answer beats them all."""
    assert wants_colors(_Terminal(), environ=environ) is terminal
    assert wants_colors(io.StringIO(), environ=environ) is pipe
    assert wants_colors(_Terminal(), False, environ) is False
    assert wants_colors(io.StringIO(), True, environ) is True


def test_colours_go_to_standard_error_and_not_to_the_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """A log file never has colours."""
    setup_logging(use_colors=True, log_file=tmp_path / "log", include_timestamp=False)
    logging.getLogger("a").warning("x")
    assert capsys.readouterr().err == f"{Colors.YELLOW}WARNING{Colors.RESET} a: x\n"
    assert (tmp_path / "log").read_text() == "WARNING a: x\n"


def test_reader_that_went_away_is_no_error() -> None:
    """A program whose standard error is a closed pipe goes on and prints no traceback."""
    program = (
        "import logging; from arboretum.logs import setup_logging; setup_logging()\n"
        "for _ in range(9): logging.info('x' * 99999)"
    )
    done = subprocess.run(
        [
            "bash",
            "-c",
            'set -o pipefail; "$0" -c "$1" 2> >(exec head -c1 >/dev/null); echo $?',
            sys.executable,
            program,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() in {"0", "120"}
    assert "Traceback" not in done.stdout + done.stderr
