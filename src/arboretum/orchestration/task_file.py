"""The task file (``tasks.toml``, or the JSON answer of a planner) into a `TaskPlan`; every error says where it is."""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from typing import Any, Final

from arboretum.durations import parse_duration
from arboretum.engine.model import check_identifier
from arboretum.engine.needs import parse_label, parse_size
from arboretum.engine.plan_file import parse_command
from arboretum.errors import InputFileError, InvalidValueError
from arboretum.orchestration.graph import find_cycles
from arboretum.orchestration.scopes import Scope
from arboretum.orchestration.tasks import MergeOrder, Task, TaskPlan
from arboretum.toml_document import KeyPath, Parser, TomlDocument, check_text, parse_variables, whole_number
from arboretum.values import Revision

#: The id that a task cannot have, because the integration branch has it.
INTEGRATION: Final = "integration"


def load_tasks(path: str | os.PathLike[str]) -> TaskPlan:
    """Read the task file at `path`: TOML, or JSON of the same form when its name ends with ``.json``.

    Raises:
        InputFileError: The file, or a key in it, cannot be meant.
    """
    if os.fspath(path).endswith(".json"):
        return plan_of(_read_json(os.fspath(path)))
    return plan_of(TomlDocument.read(path, kind="task file"))


def _read_json(path: str) -> TomlDocument:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
    except OSError as error:
        hint = "name a file that you may read"
        raise InputFileError(f"the task file cannot be read: {error.strerror}", path=path, hint=hint) from error
    except ValueError as error:
        line = error.lineno if isinstance(error, json.JSONDecodeError) else None
        raise InputFileError(f"not valid JSON: {error}", path=path, line=line) from error
    if not isinstance(data, dict):
        raise InputFileError("it is no JSON object", path=path, line=1)
    return TomlDocument(path, data)


def plan_of(document: TomlDocument) -> TaskPlan:
    """The plan that a parsed document states.

    Raises:
        InputFileError: A key cannot be meant; with file, line and key.
    """
    data = document.check_keys(document.data, (), {*_PLAN, *_DEFAULTS, "version", "task"})
    document.check_version("task")
    values = document.values_of((), data, _PLAN)
    defaults = document.values_of((), data, _DEFAULTS)
    tables = data.get("task", [])
    if not isinstance(tables, list) or not tables:
        raise document.error("the file has no task", ("task",), hint="add at least one [[task]] table")
    tasks = tuple(_task(document, ("task", i), table, defaults) for i, table in enumerate(tables))
    document.check_ids("task", (task.id for task in tasks))
    _check_dependencies(document, tasks)
    _check_limits(document, tasks, values)
    return TaskPlan(**values, tasks=tasks, path=document.path, lines=document.lines)


# --- parsers of single values ---


def _cpus(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise InvalidValueError(f"a number of cores above 0 is wanted, not {value!r}")
    return float(value)


def _positive(value: object) -> float:
    seconds = parse_duration(value)
    if seconds == 0:
        raise InvalidValueError("zero seconds would be over before it began", hint="leave it out for no limit")
    return seconds


def _texts(parse: Parser) -> Parser:
    def parse_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InvalidValueError(f"a list of texts is wanted, not {value!r}", hint='write ["one", "two"]')
        parsed = tuple(parse(check_text(item)) for item in value)
        twice = next((item for i, item in enumerate(parsed) if item in parsed[:i]), None)
        if twice is not None:
            raise InvalidValueError(f"{twice!r} is named twice")
        return parsed

    return parse_all


def _scope(value: object) -> Scope:
    texts = _texts(str)(value)
    if not texts:
        raise InvalidValueError(
            "the scope is empty: the task could change nothing",
            hint='name what it may change: scope = ["src/parser/**"], or ["**"] for everything',
        )
    return Scope(texts)


def _merge_order(value: object) -> MergeOrder:
    try:
        return MergeOrder(check_text(value))
    except ValueError as error:
        raise InvalidValueError(f'"finish" or "plan" is wanted, not {value!r}') from error


def _task_id(value: object) -> str:
    text = check_identifier(check_text(value), what="task id")
    if text == INTEGRATION:
        raise InvalidValueError(f"{INTEGRATION!r} is the name of the integration branch")
    return text


_PLAN: Final[Mapping[str, Parser]] = {
    "title": check_text,
    "base": lambda value: str(Revision(check_text(value))),
    "verify": parse_command,
    "verify_timeout": _positive,
    "merge": _merge_order,
    "jobs": whole_number(1, 10_000),
    "grace": parse_duration,
}
#: What the file may say once for all tasks that do not say it themselves.
_DEFAULTS: Final[dict[str, Parser]] = {
    "command": parse_command,
    "timeout": _positive,
    "estimate": _positive,
    "retries": whole_number(0, 100),
    "env": parse_variables,
}
_TASK: Final[dict[str, Parser]] = _DEFAULTS | {
    "id": _task_id,
    "description": check_text,
    "prompt": check_text,
    "depends_on": _texts(str),
    "scope": _scope,
    "shared": _scope,
    "reads": _scope,
    "cpus": _cpus,
    "memory": parse_size,
    "labels": _texts(parse_label),
    "exclusive": _texts(str),
    "verify": parse_command,
}


# --- tables ---


def _task(document: TomlDocument, path: KeyPath, table: object, defaults: Mapping[str, Any]) -> Task:
    table = document.check_keys(table, path, _TASK)
    values = document.values_of(path, table, _TASK)
    values |= {key: value for key, value in defaults.items() if key not in values}
    if "env" in defaults:
        values["env"] = {**defaults["env"], **values["env"]}
    for key, hint in {
        "id": 'add: id = "a-short-name"',
        "command": 'add: command = "./do-it {id}" (to the task, or once at the top for all tasks)',
        "scope": 'name what it may change: scope = ["src/parser/**"], or ["**"] for everything',
    }.items():
        if key not in values:
            raise document.error(f"the task has no {key}", path, hint=hint)
    return Task(**values)


def _check_dependencies(document: TomlDocument, tasks: tuple[Task, ...]) -> None:
    position = {task.id: index for index, task in enumerate(tasks)}
    for index, task in enumerate(tasks):
        for name in task.depends_on:
            if name not in position:
                near = difflib.get_close_matches(name, position, n=1, cutoff=0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"the tasks are: {', '.join(position)}"
                raise document.error(f"there is no task {name!r}", ("task", index, "depends_on"), hint=hint)
    cycles = find_cycles({task.id: task.depends_on for task in tasks})
    if cycles:
        said = "; ".join(" needs ".join((*cycle, cycle[0])) for cycle in cycles)
        raise document.error(
            f"tasks wait for each other: {said}",
            ("task", position[cycles[0][0]], "depends_on"),
            hint="take one of these dependencies away, or join the tasks",
        )


def _check_limits(document: TomlDocument, tasks: tuple[Task, ...], values: Mapping[str, Any]) -> None:
    if "verify_timeout" in values and not (values.get("verify") or any(task.verify for task in tasks)):
        raise document.error("there is no verify command that this could limit", ("verify_timeout",))
