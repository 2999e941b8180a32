"""A run's plan and result, kept in its folder: what ``--resume`` goes on with and ``arboretum show`` shows again."""

from __future__ import annotations

import functools
import json
import os
from typing import TypeVar

from cattrs.errors import BaseValidationError
from cattrs.preconf.json import JsonConverter, make_converter

from arboretum.engine.journal import run_folder
from arboretum.engine.model import Plan
from arboretum.engine.result import RunResult
from arboretum.errors import StoreError
from arboretum.values import Oid

_T = TypeVar("_T")
_PLAN, _RESULT = "plan.json", "result.json"


@functools.cache
def _converter() -> JsonConverter:
    converter = make_converter()
    converter.register_structure_hook(Oid, lambda value, kind: kind(value))
    converter.register_unstructure_hook(Oid, str)
    return converter


def keep_plan(runs_dir: str, run: str, plan: Plan) -> None:
    """Keep what was asked. Raises StoreError when it cannot be written."""
    _keep(os.path.join(run_folder(runs_dir, run), _PLAN), plan)


def keep_result(runs_dir: str, result: RunResult) -> None:
    """Keep what came of it. Raises StoreError when it cannot be written."""
    _keep(os.path.join(run_folder(runs_dir, result.run), _RESULT), result)


def kept_plan(runs_dir: str, run: str) -> Plan:
    """What the run was asked. Raises StoreError when it is not known."""
    return _kept(runs_dir, run, _PLAN, Plan)


def kept_result(runs_dir: str, run: str) -> RunResult:
    """What came of the run. Raises StoreError when it is not known (also: it is not over)."""
    return _kept(runs_dir, run, _RESULT, RunResult)


def _keep(path: str, value: object) -> None:
    aside = f"{path}.new"
    try:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(aside, "w", encoding="ascii") as file:
            file.write(json.dumps(_converter().unstructure(value)))  # in one piece: `dump` takes ten times as long
        os.replace(aside, path)
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", hint="check permissions and free space") from error


def _kept(runs_dir: str, run: str, name: str, kind: type[_T]) -> _T:
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
