"""One big task into several: by an external program, or by folders and co-change without one.

The program gets one JSON object on its standard input and answers with one on its output, of the same form as a
task file (``{"task": [{"id": ..., "scope": [...]}, ...]}``). The answer is checked like any task file, and
refused when two tasks that do not wait for each other could change the same file.
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from arboretum.engine.model import CommandSpec
from arboretum.errors import InputFileError
from arboretum.orchestration.co_change import Together
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.scopes import Scope, exact
from arboretum.orchestration.splitter import ScopeConflict, ancestors, find_conflicts
from arboretum.orchestration.task_file import INTEGRATION, plan_of
from arboretum.orchestration.tasks import Task, TaskPlan
from arboretum.process.model import CommandRequest
from arboretum.toml_document import TomlDocument
from arboretum.values import jsonable

if TYPE_CHECKING:
    from arboretum.repository import Repository

SCHEMA: Final = "arboretum.decompose/1"
_MAX_COMMITS: Final = 30
_MAX_FILES: Final = 2000


def request_for(
    repository: Repository,
    description: str,
    *,
    files: Sequence[str],
    together: Together,
    limits: Limits,
    max_tasks: int,
    base: str = "HEAD",
) -> dict[str, Any]:
    """What the program is asked: the description, the repository's structure, recent changes, limits."""
    folders = Counter(file.rpartition("/")[0] for file in files)
    recent = [
        {"oid": commit.oid, "subject": commit.subject, "author": commit.author.name}
        for commit in repository.log(base, limit=_MAX_COMMITS)
    ]
    ranked = sorted(together.items(), key=lambda item: (-item[1], item[0]))[:100]
    request: dict[str, Any] = _clean(
        {
            "schema": SCHEMA,
            "description": description,
            "repository": {
                "base": repository.resolve(base),
                "branch": repository.current_branch,
                "files": len(files),
                "folders": [{"path": path, "files": count} for path, count in sorted(folders.items())],
                "paths": list(files[:_MAX_FILES]),
            },
            "recent_changes": recent,
            "change_together": [{"files": list(pair), "commits": count} for pair, count in ranked],
            "limits": {"max_tasks": max_tasks, "slots": limits.slots, "cpus": limits.cpus, "memory": limits.memory},
            "answer": "one JSON object of the form of a task file: {title, task: [{id, description, prompt, scope, "
            "shared, reads, depends_on, estimate, command, verify}]}; scopes of tasks that do not wait for each "
            "other must not meet",
        }
    )
    return request


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _clean(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in value]
    return jsonable(value)


def ask_program(
    repository: Repository,
    program: CommandSpec,
    request: Mapping[str, Any],
    *,
    command: CommandSpec | None = None,
    timeout: float | None = None,
) -> TaskPlan:
    """Let `program` decompose the task, and check its answer.

    Args:
        repository: In whose worktree it runs.
        program: The program.
        request: What `request_for` made.
        command: What runs each task that the answer gives no command.
        timeout: Seconds for the program; None for never.

    Raises:
        CommandError: The program failed.
        InputFileError: Its answer is no JSON, is no plan, or has tasks whose scopes meet.
    """
    result = repository.runner.run(
        CommandRequest(
            argv=program.argv,
            shell=program.shell,
            cwd=repository.path,
            stdin=json.dumps(request).encode("ascii"),
            timeout=timeout,
            max_output=None,
        )
    ).check()
    return check_answer(result.stdout, source=f"the answer of `{result.command}`", command=command)


def check_answer(text: str, *, source: str, command: CommandSpec | None = None) -> TaskPlan:
    """The plan that `text` (JSON) states.

    Args:
        text: The answer.
        source: What it is called in messages.
        command: What runs each task that has no command of its own.

    Raises:
        InputFileError: It is no JSON, is no plan, or has tasks whose scopes meet.
    """
    try:
        data = json.loads(text)
    except ValueError as error:
        raise InputFileError(
            f"it is no JSON: {error}", path=source, hint="nothing but one JSON object on the standard output"
        ) from error
    if not isinstance(data, dict):
        raise InputFileError("it is no JSON object", path=source, hint='answer {"task": [...]}')
    if command is not None and "command" not in data:
        data["command"] = {"shell": command.argv[0]} if command.shell else list(command.argv)
    plan = plan_of(TomlDocument(source, data))
    overlaps = unordered_conflicts(plan)
    if overlaps:
        reasons = "; ".join(f"{c.one} and {c.two} can both change {c.example!r}" for c in overlaps)
        raise InputFileError(
            f"scopes overlap: {reasons}",
            path=source,
            key="task",
            hint="give each file to one task, make one task depend on the other, or list the file as shared in both",
        )
    return plan


def unordered_conflicts(plan: TaskPlan) -> tuple[ScopeConflict, ...]:
    """The conflicts between tasks of which neither waits for the other."""
    reach = ancestors(plan)
    return tuple(
        conflict
        for conflict in find_conflicts(plan.tasks)
        if conflict.one not in reach[conflict.two] and conflict.two not in reach[conflict.one]
    )


# --- without a program ---


@frozen
class _Piece:
    """A part of the tree that is never cut further: a folder, or the files that lie directly in one."""

    pattern: str
    files: tuple[str, ...]


def decompose(
    description: str, *, files: Sequence[str], together: Together, command: CommandSpec, max_tasks: int
) -> TaskPlan:
    """Group the files by folder and co-change into at most `max_tasks` tasks whose scopes cannot meet.

    Folders that hold more than their share are cut into their sub-folders; what often changes together is joined
    while it stays below the share; the smallest groups are joined until there are few enough. The same input
    gives the same tasks.

    Args:
        description: The big task; each part gets it as its prompt, with its scope.
        files: The tracked files.
        together: How many commits changed each pair of files.
        command: What runs each task.
        max_tasks: How many tasks there may be.
    """
    share = max(1, -(-len(files) // max_tasks))
    pieces = _pieces(tuple(sorted(files)), "", share)
    groups = _joined(pieces, together, share=share, max_tasks=max_tasks)
    taken: set[str] = set()
    tasks = tuple(_task(description, group, command, taken) for group in groups)
    return TaskPlan(title=description.split("\n", 1)[0], tasks=tasks)


def _pieces(files: tuple[str, ...], folder: str, share: int) -> list[_Piece]:
    direct = tuple(file for file in files if "/" not in file[len(folder) :])
    below: dict[str, list[str]] = defaultdict(list)
    for file in files:
        name, slash, _ = file[len(folder) :].partition("/")
        if slash:
            below[f"{folder}{name}/"].append(file)
    found = [_Piece(f"/{exact(folder)}*", direct)] if direct else []
    for path, inside in sorted(below.items()):
        if len(inside) > share:
            found += _pieces(tuple(inside), path, share)
        else:
            found.append(_Piece(f"/{exact(path)}", tuple(inside)))
    return found


def _joined(pieces: Sequence[_Piece], together: Together, *, share: int, max_tasks: int) -> list[list[_Piece]]:
    groups = [[piece] for piece in pieces]
    place: dict[str, int] = {file: index for index, piece in enumerate(pieces) for file in piece.files}
    ties: Counter[tuple[int, int]] = Counter()
    for (one, two), commits in together.items():
        if one in place and two in place and place[one] != place[two]:
            ties[min(place[one], place[two]), max(place[one], place[two])] += commits
    home = list(range(len(pieces)))
    for first, second in sorted(ties, key=lambda tie: (-ties[tie], tie)):
        a, b = home[first], home[second]
        if a != b and _size(groups[a]) + _size(groups[b]) <= share:
            groups[a] += groups[b]
            groups[b] = []
            home = [a if at == b else at for at in home]
    left = [group for group in groups if group]
    while len(left) > max_tasks:
        left.sort(key=lambda group: (_size(group), group[0].pattern))
        left = [left[0] + left[1], *left[2:]]
    return sorted((sorted(group, key=lambda p: p.pattern) for group in left), key=lambda group: group[0].pattern)


def _size(group: Iterable[_Piece]) -> int:
    return sum(len(piece.files) for piece in group)


def _task(description: str, group: Sequence[_Piece], command: CommandSpec, taken: set[str]) -> Task:
    biggest = max(group, key=lambda piece: len(piece.files)).pattern.strip("/*")
    base = re.sub(r"[^A-Za-z0-9_-]+", "-", biggest).strip("-_")[:60] or "top"
    base = f"{base}-files" if base.casefold() == INTEGRATION else base
    name, number = base, 1
    while name.casefold() in taken:
        number += 1
        name = f"{base}-{number}"
    taken.add(name.casefold())
    scope = Scope(tuple(piece.pattern for piece in group))
    return Task(
        id=name, description=f"{description.splitlines()[0]} ({name})", prompt=description, command=command, scope=scope
    )
