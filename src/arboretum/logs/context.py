"""The ids that a log record belongs to: run, hypothesis, slot, attempt.

They are context variables, so each task and thread has its own. A filter on the *handlers* stamps them on
every record that passes, those of other libraries included.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
from collections.abc import Iterator, Mapping
from typing import Final

_bound: Final[contextvars.ContextVar[Mapping[str, str | int]]] = contextvars.ContextVar("arboretum_log_context")
#: The ids in the order in which text formats show them; others may be bound, too.
FIELDS: Final = ("run", "hypothesis", "slot", "attempt")


@contextlib.contextmanager
def bind(**ids: str | int) -> Iterator[None]:
    """Have all records made inside carry these ids, on top of those already bound.

    A new task inherits them; a new thread does when it is started through ``contextvars.copy_context().run``,
    as the runner of this package does.
    """
    token = _bound.set({**bound(), **ids})
    try:
        yield
    finally:
        _bound.reset(token)


def bound() -> Mapping[str, str | int]:
    """The ids that a record made here and now would carry."""
    return _bound.get({})


class ContextFilter(logging.Filter):
    """Stamps the bound ids on each record, as `context` (a mapping) and as `context_text` (for text formats)."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, stamped; a record that was stamped where it was made keeps its ids."""
        if not hasattr(record, "context"):
            ids = bound()
            record.context = ids
            record.context_text = "".join(f"[{name}={ids[name]}] " for name in (*FIELDS, *_others(ids)) if name in ids)
        return True


def _others(ids: Mapping[str, str | int]) -> list[str]:
    return [name for name in ids if name not in FIELDS]
