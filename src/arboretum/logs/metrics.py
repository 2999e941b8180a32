"""Metrics: numbers with a name, sent to the log and, where OpenTelemetry is installed, to it."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Mapping
from typing import Any

from attrs import define, field

from arboretum.errors import InvalidValueError

_log = logging.getLogger(__name__)


@define(eq=False)
class MetricsLogger:
    """Logs numbers. Each call is one record with the fields ``metric``, ``value`` and ``tags``.

    With the extra ``metrics`` (the OpenTelemetry API) each number is also recorded in a histogram of that
    name by the meter ``arboretum``; where it goes from there is the program's choice of SDK and exporter.

    Args:
        logger: Who says it.
        level: The level of the records.
    """

    logger: logging.Logger = field(factory=lambda: logging.getLogger("arboretum.metrics"))
    level: int = logging.INFO
    _meter: Any = field(default=None, init=False)
    _histograms: dict[str, Any] = field(factory=dict, init=False)
    _lock: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        try:
            from opentelemetry import metrics
        except ImportError:
            return
        self._meter = metrics.get_meter("arboretum")

    def log_metric(self, name: str, value: float, tags: Mapping[str, str] | None = None) -> None:
        """Log one number.

        Args:
            name: What is measured, with its unit where it has one (``trial_duration_s``).
            value: The number.
            tags: What it is measured of.

        Raises:
            InvalidValueError: The name is empty, or the value is no finite number.
        """
        if not isinstance(name, str) or not name.strip():
            raise InvalidValueError("a metric needs a name")
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise InvalidValueError(f"the metric {name!r} needs a finite number, not {value!r}")
        labels = dict(tags) if tags is not None else {}
        shown = "".join(f" {key}={item}" for key, item in labels.items())
        self.logger.log(
            self.level, "%s=%g%s", name, value, shown, extra={"metric": name, "value": value, "tags": labels}
        )
        if self._meter is not None:
            self._record(name, value, labels)

    def _record(self, name: str, value: float, labels: dict[str, str]) -> None:
        try:
            with self._lock:
                if name not in self._histograms:
                    self._histograms[name] = self._meter.create_histogram(name)
            self._histograms[name].record(value, labels)
        except Exception as error:  # a metric must never stop what it measures
            _log.warning("OpenTelemetry refused the metric %s: %s", name, error)
