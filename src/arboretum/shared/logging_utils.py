"""Logging, progress and metrics for scripts; the work is done by `arboretum.logs`."""

from arboretum.logs import (
    ColoredFormatter,
    Colors,
    LogSection,
    MetricsLogger,
    ProgressLogger,
    configure_third_party_loggers,
    get_logger,
    log_exception,
    setup_logging,
    setup_structured_logging,
)

__all__ = [
    "ColoredFormatter",
    "Colors",
    "LogSection",
    "MetricsLogger",
    "ProgressLogger",
    "configure_third_party_loggers",
    "get_logger",
    "log_exception",
    "setup_logging",
    "setup_structured_logging",
]
