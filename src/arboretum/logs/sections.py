"""Sections of a log: a heading, what happens, how long it took and how it ended."""

from __future__ import annotations

import logging
import time
from types import TracebackType
from typing import Final, Self

from attrs import define, field

_WIDTH: Final = 60


@define(eq=False)
class LogSection:
    """Frames the records made inside a ``with`` by a heading and a line that says how it ended.

    Args:
        section_name: The heading.
        logger: Who says it; this package's when None.
        level: The level of heading and end; a failure is an error.
        separator: What the lines above and below the heading are made of.
    """

    section_name: str
    logger: logging.Logger | None = None
    level: int = logging.INFO
    separator: str = "="
    _started: float = field(default=0.0, init=False)

    def __enter__(self) -> Self:
        self._started = time.monotonic()
        line = (self.separator * _WIDTH)[:_WIDTH]
        for text in (line, self.section_name, line):
            if text:
                self._logger.log(self.level, "%s", text)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        took = time.monotonic() - self._started
        if error is None:
            self._logger.log(self.level, "%s: done in %.1fs", self.section_name, took)
        else:
            what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            self._logger.log(
                max(self.level, logging.ERROR), "%s: failed after %.1fs: %s", self.section_name, took, what
            )

    @property
    def _logger(self) -> logging.Logger:
        return self.logger if self.logger is not None else logging.getLogger("arboretum")
