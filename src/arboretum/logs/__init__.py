"""Logging, progress and metrics over the standard library; importing configures nothing."""

from arboretum.logs.colors import ColoredFormatter, Colors, wants_colors
from arboretum.logs.configuration import (
    LoggingSetup,
    configure_third_party_loggers,
    get_logger,
    log_exception,
    parse_level,
    setup_logging,
    setup_structured_logging,
)
from arboretum.logs.context import ContextFilter, bind, bound
from arboretum.logs.metrics import MetricsLogger
from arboretum.logs.progress import ProgressLogger
from arboretum.logs.sections import LogSection

__all__ = [
    "ColoredFormatter",
    "Colors",
    "ContextFilter",
    "LogSection",
    "LoggingSetup",
    "MetricsLogger",
    "ProgressLogger",
    "bind",
    "bound",
    "configure_third_party_loggers",
    "get_logger",
    "log_exception",
    "parse_level",
    "setup_logging",
    "setup_structured_logging",
    "wants_colors",
]
