"""Log records as JSON, one object a line, by python-json-logger."""

from __future__ import annotations

import datetime as dt
import logging
import traceback
from typing import Any

from pythonjsonlogger.json import JsonFormatter

from arboretum.values import jsonable


class _Formatter(JsonFormatter):
    """Adds the bound ids and structured exceptions, and never fails on a path that is no UTF-8."""

    def add_fields(self, log_data: dict[str, Any], record: logging.LogRecord, message_dict: dict[str, Any]) -> None:
        super().add_fields(log_data, record, message_dict)
        for name in ("context", "context_text", "exc_info", "stack_info"):
            log_data.pop(name, None)
        log_data.update(getattr(record, "context", {}))
        log_data["timestamp"] = dt.datetime.fromtimestamp(record.created, dt.UTC).isoformat(timespec="microseconds")
        if record.exc_info and record.exc_info[1] is not None:
            log_data["exception"] = exception_fields(record.exc_info[1])

    def process_log_record(self, log_data: dict[str, Any]) -> dict[str, Any]:
        cleaned = _clean(log_data)
        assert isinstance(cleaned, dict)
        return cleaned


def json_formatter() -> logging.Formatter:
    """A formatter that writes a record as one JSON object: time, level, logger, message, ids, extras, exception."""
    return _Formatter(
        ["levelname", "name", "message"],
        rename_fields={"levelname": "level", "name": "logger"},
        json_default=repr,
    )


def exception_fields(error: BaseException) -> dict[str, Any]:
    """An exception as data: its type, message, frames (innermost last) and cause."""
    fields: dict[str, Any] = {
        "type": type(error).__name__,
        "module": type(error).__module__,
        "message": str(error),
        "frames": [
            {"file": frame.filename, "line": frame.lineno, "function": frame.name}
            for frame in traceback.extract_tb(error.__traceback__)
        ],
    }
    cause = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if cause is not None:
        fields["cause"] = exception_fields(cause)
    return fields


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {jsonable(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_clean(item) for item in value]
    return jsonable(value)
