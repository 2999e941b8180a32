"""Events and trials as JSON and back, for the journal and for ``--events``.

The text of a path that is no UTF-8 is written as an escaped lone surrogate, so it survives the way back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from cattrs import Converter
from cattrs.errors import BaseValidationError

from arboretum.engine import events
from arboretum.engine.model import Trial
from arboretum.errors import InvalidValueError
from arboretum.values import Oid, RefName

#: The version of the form of a line; a reader refuses a line with a higher one.
VERSION: Final = 1

#: A value as compact JSON text in ASCII; one encoder for all, because making one costs more than a short text.
encode: Final = json.JSONEncoder(separators=(",", ":")).encode

_EVENTS: Final[Mapping[str, type[events.RunEvent]]] = {
    kind.type: kind
    for kind in (
        events.RunStarted,
        events.TrialStarted,
        events.TrialOutput,
        events.TrialFinished,
        events.VerdictReached,
        events.RunStopping,
        events.RunFinished,
        events.SlotChanged,
    )
}


def _make_converter() -> Converter:
    converter = Converter()
    for text_type in (Oid, RefName):
        converter.register_structure_hook(text_type, lambda value, kind: kind(value))
        converter.register_unstructure_hook(text_type, str)
    return converter


_converter: Final = _make_converter()


def event_to_dict(event: events.RunEvent) -> dict[str, Any]:
    """The event as plain JSON values, with its `type` and the version of the form as ``v``."""
    return {"v": VERSION, "type": event.type, **_converter.unstructure(event)}


def event_from_dict(
    record: Mapping[str, Any], *, kinds: Mapping[str, type[events.RunEvent]] = _EVENTS
) -> events.RunEvent:
    """The event that `event_to_dict` made the record of.

    Args:
        record: The record.
        kinds: The classes of events that there may be, by their types.

    Raises:
        InvalidValueError: The record is of another form, of a later version or of an unknown type.
    """
    if not isinstance(record, Mapping) or record.get("v") != VERSION:
        raise InvalidValueError("this is no event of a version that can be read")
    kind = kinds.get(str(record.get("type")))
    if kind is None:
        raise InvalidValueError(f"there is no event of the type {record.get('type')!r}")
    try:
        return _converter.structure({k: v for k, v in record.items() if k not in {"v", "type"}}, kind)
    except (BaseValidationError, ValueError, TypeError, KeyError) as error:
        raise InvalidValueError(f"the record of the event {kind.type!r} is damaged") from error


def event_line(event: events.RunEvent) -> bytes:
    """The event as one line of JSON Lines, line end included."""
    return encode(event_to_dict(event)).encode("ascii") + b"\n"


def event_of_line(line: bytes, *, kinds: Mapping[str, type[events.RunEvent]] = _EVENTS) -> events.RunEvent:
    """The event of one line; `kinds` as for `event_from_dict`.

    Raises:
        InvalidValueError: The line is no JSON or no event.
    """
    try:
        record = json.loads(line)
    except ValueError as error:
        raise InvalidValueError("the line is no JSON") from error
    return event_from_dict(record, kinds=kinds)


def trial_to_dict(trial: Trial) -> dict[str, Any]:
    """The trial as plain JSON values."""
    record: dict[str, Any] = _converter.unstructure(trial)
    return record


def trial_from_dict(record: Mapping[str, Any]) -> Trial:
    """The trial that `trial_to_dict` made the record of.

    Raises:
        InvalidValueError: The record is of another form.
    """
    try:
        return _converter.structure(dict(record), Trial)
    except (BaseValidationError, ValueError, TypeError, KeyError) as error:
        raise InvalidValueError("the record of the trial is damaged") from error
