"""Setting up logging for a program. A library never calls this; importing this package configures nothing."""

from __future__ import annotations

import difflib
import logging
import os
import sys
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Final, Literal, Self, TextIO

from attrs import define, field

from arboretum.errors import InvalidValueError, UsageError
from arboretum.logs.colors import ColoredFormatter, wants_colors
from arboretum.logs.context import ContextFilter

Level = int | str
_LEVELS: Final = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_OURS: Final = "_arboretum_installed"
_FORMAT: Final = "%(levelname)s %(name)s: %(context_text)s%(message)s"
#: Libraries that are used here or by what runs here, and talk more than most people want.
THIRD_PARTY: Final = ("asyncio", "distributed", "filelock", "git", "markdown_it", "urllib3")


class StandardErrorHandler(logging.StreamHandler[TextIO]):
    """Writes to what ``sys.stderr`` is at the time, so that a live display that stands in for it is not torn."""

    def __init__(self) -> None:
        logging.Handler.__init__(self)

    @property
    def stream(self) -> TextIO:  # type: ignore[override]  # the base class has a plain attribute
        """The standard error stream of this moment."""
        return sys.stderr

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  (the name is logging's)
        """Say nothing when the reader of a pipe has gone away; anything else is reported as usual."""
        if not isinstance(sys.exc_info()[1], BrokenPipeError):
            super().handleError(record)


@define(eq=False)
class LoggingSetup:
    """What a set-up has installed; `undo` (or the end of a ``with``) takes it away again."""

    logger: logging.Logger
    handlers: tuple[logging.Handler, ...]
    _level_before: int = field(default=logging.NOTSET)

    def undo(self) -> None:
        """Take the handlers away and give the logger its level back. Doing it twice does nothing."""
        if any(handler in self.logger.handlers for handler in self.handlers):
            self.logger.setLevel(self._level_before)
        for handler in self.handlers:
            self.logger.removeHandler(handler)
            handler.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.undo()


def setup_logging(
    level: Level = logging.INFO,
    log_format: str | None = None,
    log_file: str | os.PathLike[str] | None = None,
    use_colors: bool | None = None,
    include_timestamp: bool = True,
) -> LoggingSetup:
    """Send log records to standard error, and to a file when one is named.

    Calling it again replaces what it had installed; handlers of others stay. Colours go to a terminal only
    (see `wants_colors`), never to the file.

    Args:
        level: The least level that is shown, as a number or a name.
        log_format: A format for `logging.Formatter`; it may use ``%(context_text)s`` for the bound ids.
        log_file: A file that gets the records, too; its folder is made if need be. Each process needs one of its own.
        use_colors: True or False; None decides by terminal and environment.
        include_timestamp: Whether the default format starts with the time. (A `log_format` says so itself.)

    Raises:
        InvalidValueError: There is no such level, or the format is wrong.
        UsageError: The file cannot be written.
    """
    text = log_format if log_format is not None else ("%(asctime)s " if include_timestamp else "") + _FORMAT
    _check_format(text)
    colored = wants_colors(sys.stderr, use_colors)
    handlers = _handlers(log_file, lambda is_file: ColoredFormatter(text, use_colors=colored and not is_file))
    return _install(handlers, parse_level(level))


def setup_structured_logging(
    format: Literal["json", "text"] = "json",  # noqa: A002  (the name is given)
    log_file: str | os.PathLike[str] | None = None,
    level: Level = logging.INFO,
) -> LoggingSetup:
    """Send log records as one JSON object a line to standard error, or to a file instead.

    Args:
        format: ``json``, or ``text`` for the format of `setup_logging`.
        log_file: Write there and not to standard error.
        level: The least level that is written.

    Raises:
        InvalidValueError: There is no such format or level.
        UsageError: The file cannot be written.
    """
    if format not in ("json", "text"):
        raise InvalidValueError(f"{format!r} is not a log format", hint="known are: json, text")
    handlers = _handlers(log_file, lambda _is_file: _json_formatter() if format == "json" else _text_formatter())
    if log_file is not None:
        handlers = handlers[1:]
    return _install(handlers, parse_level(level))


def get_logger(name: str, level: Level | None = None) -> logging.Logger:
    """The logger with this name; its own level is set when one is given.

    Raises:
        InvalidValueError: There is no such level.
    """
    logger = logging.getLogger(name)
    if level is not None:
        logger.setLevel(parse_level(level))
    return logger


def log_exception(logger: logging.Logger, exc: BaseException, context: str = "") -> None:
    """Log an exception with its traceback, wherever it was caught.

    Args:
        logger: Who says it.
        exc: The exception.
        context: What was being done.
    """
    logger.error("%s%s: %s", f"{context}: " if context else "", type(exc).__name__, exc, exc_info=exc)


def configure_third_party_loggers(level: Level = logging.WARNING, names: Iterable[str] = THIRD_PARTY) -> None:
    """Let other libraries say no less important things than `level`.

    Raises:
        InvalidValueError: There is no such level.
    """
    number = parse_level(level)
    for name in names:
        logging.getLogger(name).setLevel(number)


def parse_level(level: Level) -> int:
    """The number of a level.

    Raises:
        InvalidValueError: There is no such level.
    """
    if isinstance(level, int) and not isinstance(level, bool) and level >= 0:
        return level
    if isinstance(level, str) and level.upper() in (known := logging.getLevelNamesMapping()):
        return known[level.upper()]
    close = difflib.get_close_matches(str(level).upper(), _LEVELS, n=1)
    hint = f"did you mean {close[0]}?" if close else f"known are: {', '.join(_LEVELS)}"
    raise InvalidValueError(f"{level!r} is not a log level", hint=hint)


def _json_formatter() -> logging.Formatter:
    from arboretum.logs.structured import json_formatter  # late: it triples the time that this package takes to import

    return json_formatter()


def _text_formatter() -> logging.Formatter:
    return ColoredFormatter("%(asctime)s " + _FORMAT, use_colors=False)


def _check_format(text: str) -> None:
    try:
        formatter = logging.Formatter(text)
        probe = logging.LogRecord("probe", logging.INFO, __file__, 1, "probe", None, None)
        ContextFilter().filter(probe)
        formatter.format(probe)
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidValueError(
            f"{text!r} is not a log format: {error}", hint="see the table of LogRecord attributes in Python's manual"
        ) from error


def _handlers(
    log_file: str | os.PathLike[str] | None, formatter: Callable[[bool], logging.Formatter]
) -> tuple[logging.Handler, ...]:
    handlers: list[logging.Handler] = [StandardErrorHandler()]
    if log_file is not None:
        handlers.append(_open_file(os.fspath(log_file)))
    for handler in handlers:
        handler.addFilter(ContextFilter())
        handler.setFormatter(formatter(isinstance(handler, logging.FileHandler)))
    return tuple(handlers)


def _open_file(path: str) -> logging.FileHandler:
    if not path:
        raise UsageError("the name of the log file is empty", hint="leave it out to have no log file")
    try:
        os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
        return logging.FileHandler(path, encoding="utf-8", errors="backslashreplace")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise UsageError(
            f"cannot write the log file {path!r}: {why}", hint="name a file in a folder that you may write to"
        ) from error


def _install(handlers: tuple[logging.Handler, ...], level: int) -> LoggingSetup:
    root = logging.getLogger()
    before = root.level
    for old in [handler for handler in root.handlers if getattr(handler, _OURS, False)]:
        root.removeHandler(old)
        old.close()
    for handler in handlers:
        setattr(handler, _OURS, True)
        root.addHandler(handler)
    root.setLevel(level)
    return LoggingSetup(root, handlers, before)
