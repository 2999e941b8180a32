"""A run's plan and result, kept in its folder: what ``--resume`` goes on with and ``arboretum show`` shows again."""

from __future__ import annotations

import functools
import json
import logging
import os
from collections.abc import Callable
from typing import Any, cast

from cattrs.errors import BaseValidationError
from cattrs.preconf.json import JsonConverter, make_converter
from cattrs.strategies import configure_tagged_union

from arboretum.engine.journal import run_folder
from arboretum.engine.model import Plan
from arboretum.engine.result import Result
from arboretum.errors import StoreError
from arboretum.values import Oid

_log = logging.getLogger(__name__)
_PLAN, _RESULT = "plan.json", "result.json"


@functools.cache
def _converter() -> JsonConverter:
    converter = make_converter()
    converter.register_structure_hook(Oid, lambda value, kind: kind(value))
    converter.register_unstructure_hook(Oid, str)
    configure_tagged_union(Result, converter, tag_name="kind")
    return converter


def keep_plan(runs_dir: str, run: str, plan: Plan) -> None:
    """Keep what was asked. Raises StoreError when it cannot be written."""
    _keep(os.path.join(run_folder(runs_dir, run), _PLAN), plan, Plan)


def keep_result(runs_dir: str, result: Result) -> None:
    """Keep what came of it. Raises StoreError when it cannot be written."""
    _keep(os.path.join(run_folder(runs_dir, result.run), _RESULT), result, Result)


def keep_if_possible(keep: Callable[[], None]) -> None:
    """Keep what a later command can show again; a disk that cannot take it does not spoil the run."""
    try:
        keep()
    except StoreError as error:
        _log.warning("%s", error)


def has_plan(runs_dir: str, run: str) -> bool:
    """Whether the run is one of hypotheses, which can be gone on with; one over commits is just begun again."""
    return os.path.exists(os.path.join(run_folder(runs_dir, run), _PLAN))


def kept_plan(runs_dir: str, run: str) -> Plan:
    """What the run was asked. Raises StoreError when it is not known."""
    return cast("Plan", _kept(runs_dir, run, _PLAN, Plan))


def kept_result(runs_dir: str, run: str) -> Result:
    """What came of the run. Raises StoreError when it is not known (also: it is not over)."""
    return cast("Result", _kept(runs_dir, run, _RESULT, Result))


def _keep(path: str, value: object, kind: Any) -> None:
    aside = f"{path}.new"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(aside, "w", encoding="ascii") as file:
            file.write(
                json.dumps(_converter().unstructure(value, unstructure_as=kind))
            )  # in one piece: `dump` takes ten times as long
        os.replace(aside, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", hint="check permissions and free space") from error


def _kept(runs_dir: str, run: str, name: str, kind: Any) -> Any:
    path = os.path.join(run_folder(runs_dir, run), name)
    try:
        with open(path, encoding="ascii") as file:
            return _converter().structure(json.load(file), kind)
    except FileNotFoundError as error:
        raise StoreError(
            f"nothing is kept of the run {run!r} ({name})", hint="list the runs with: arboretum history"
        ) from error
    except (OSError, ValueError, TypeError, KeyError, BaseValidationError) as error:
        raise StoreError(f"{path} cannot be read: {error}", hint="it is left as it is; run the plan again") from error
