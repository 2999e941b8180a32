"""For programs that use structlog (extra ``structlog``): its records go the same way and carry the same ids."""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from arboretum.logs.context import bound


def add_context(_logger: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """A structlog processor that adds the bound ids; what the event says itself wins."""
    for name, value in bound().items():
        event.setdefault(name, value)
    return event


def configure_structlog() -> None:
    """Send structlog's events through standard logging, so that the handlers set up here get them.

    Raises:
        ImportError: structlog is not installed.
    """
    import structlog

    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            add_context,
            structlog.processors.format_exc_info,
            structlog.stdlib.render_to_log_kwargs,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
