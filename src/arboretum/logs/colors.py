"""Whether to use colours, and how."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Mapping
from typing import IO, Any, ClassVar, Literal

from arboretum.values import jsonable


class Colors:
    """The escape sequences of ECMA-48 that terminals agree on."""

    RESET = "\033[0m"
    BOLD = "\033[1m"
    DIM = "\033[2m"
    UNDERLINE = "\033[4m"
    BLACK = "\033[30m"
    RED = "\033[31m"
    GREEN = "\033[32m"
    YELLOW = "\033[33m"
    BLUE = "\033[34m"
    MAGENTA = "\033[35m"
    CYAN = "\033[36m"
    WHITE = "\033[37m"
    GRAY = "\033[90m"
    BRIGHT_RED = "\033[91m"
    BRIGHT_GREEN = "\033[92m"
    BRIGHT_YELLOW = "\033[93m"
    BRIGHT_BLUE = "\033[94m"


def wants_colors(stream: IO[str], explicit: bool | None = None, environ: Mapping[str, str] | None = None) -> bool:
    """Decide once whether a stream gets colours.

    The first of these that says something decides: `explicit`; ``PYTHON_COLORS`` (0 or 1); ``NO_COLOR`` when
    not empty (no-color.org); ``FORCE_COLOR`` or ``CLICOLOR_FORCE`` when neither empty nor 0; ``CLICOLOR=0``;
    ``TERM=dumb``; and in the end whether the stream is a terminal.
    """
    env = os.environ if environ is None else environ
    if explicit is not None:
        return explicit
    if env.get("PYTHON_COLORS") in {"0", "1"}:
        return env["PYTHON_COLORS"] == "1"
    if env.get("NO_COLOR"):
        return False
    if any(env.get(name, "") not in {"", "0"} for name in ("FORCE_COLOR", "CLICOLOR_FORCE")):
        return True
    if env.get("CLICOLOR") == "0" or env.get("TERM") == "dumb":
        return False
    return is_terminal(stream)


def is_terminal(stream: IO[str]) -> bool:
    """Whether a stream is a terminal; a closed or replaced one is not."""
    try:
        return stream.isatty()
    except (AttributeError, ValueError):
        return False


class ColoredFormatter(logging.Formatter):
    """A formatter that colours the name of the level. The record itself is never changed.

    Args:
        fmt: The format, as for `logging.Formatter`.
        datefmt: The format of times.
        style: The style of `fmt`.
        use_colors: Whether to colour at all.
    """

    LEVEL_COLORS: ClassVar[Mapping[int, str]] = {
        logging.DEBUG: Colors.CYAN,
        logging.INFO: Colors.GREEN,
        logging.WARNING: Colors.YELLOW,
        logging.ERROR: Colors.RED,
        logging.CRITICAL: Colors.BOLD + Colors.RED,
    }

    def __init__(
        self,
        fmt: str | None = None,
        datefmt: str | None = None,
        style: Literal["%", "{", "$"] = "%",
        use_colors: bool = True,
        **options: Any,
    ) -> None:
        super().__init__(fmt, datefmt, style, **options)
        self.use_colors = use_colors

    def format(self, record: logging.LogRecord) -> str:
        """The text of the record, such that any stream can encode it."""
        shown = copy.copy(record)  # other handlers see the same record, and the base class writes to it, too
        if self.use_colors:
            levels = [level for level in self.LEVEL_COLORS if level <= record.levelno]
            color = self.LEVEL_COLORS[max(levels)] if levels else Colors.GRAY
            shown.levelname = f"{color}{record.levelname}{Colors.RESET}"
        return str(jsonable(super().format(shown)))
