"""The plan file (``hypotheses.toml``): read it into a `Plan`, and say exactly where it is wrong.

Two steps, both before anything is made: `load_plan` checks what the file alone can tell, `validate` what
only the repository can (that its revisions exist). Every error is an `InputFileError` with file, line and key.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from attrs import evolve

from arboretum.durations import parse_duration
from arboretum.engine.model import (
    CONTROL,
    SOURCES,
    CommandSpec,
    Expectation,
    Hypothesis,
    Plan,
    check_identifier,
    expectation,
    hypothesis_id,
    wrong_combinations,
)
from arboretum.engine.needs import parse_label, parse_size
from arboretum.errors import GitOperationError, InputFileError, InvalidValueError, UsageError
from arboretum.process.model import CommandRequest
from arboretum.toml_document import KeyPath, Parser, TomlDocument, check_text, parse_variables, whole_number
from arboretum.values import Revision, parse_tree_path

if TYPE_CHECKING:
    from arboretum.repository import Repository


#: The keys that make a hypothesis different from the base; a hypothesis has at most one of them.
MAX_REPEATS: Final = 10_000


def load_plan(path: str | os.PathLike[str]) -> Plan:
    """Read the plan file at `path`; nothing else is read but the patch files it names.

    Raises:
        InputFileError: The file, or a key in it, cannot be meant.
    """
    return plan_of(TomlDocument.read(path, kind="plan file"))


def plan_of(document: TomlDocument) -> Plan:
    """The plan that a parsed file states. Paths of patch files are relative to the file's folder.

    Raises:
        InputFileError: A key cannot be meant.
    """
    data = document.check_keys(document.data, (), {*_PLAN, "version", "hypothesis", "timeout"})
    document.check_version("plan")
    if "command" not in data:
        raise document.error("the plan has no command", ("command",), hint='add: command = "pytest -q"')
    values = document.values_of((), data, _PLAN)
    values |= _timeout(document, data)
    hypotheses = _hypotheses(document, data.get("hypothesis", []))
    return Plan(**values, hypotheses=hypotheses, path=document.path, lines=document.lines)


def validate(plan: Plan, repository: Repository) -> None:
    """Check what only the repository knows: that the base and every `ref` name a commit. Nothing is made.

    Raises:
        InputFileError: A revision of a plan file names no commit; with the file, line and key.
        UsageError: The same for a plan that was not read from a file.
    """
    if not plan.hypotheses:
        raise plan_error(plan, "hypothesis", "the plan has no hypothesis", hint="add at least one")
    _resolve(plan, repository, "base", plan.base)
    for index, hypothesis in enumerate(plan.hypotheses):
        if hypothesis.ref is not None:
            _resolve(plan, repository, f"hypothesis[{index}].ref", hypothesis.ref)


def _resolve(plan: Plan, repository: Repository, key: str, revision: str) -> None:
    try:
        repository.resolve(revision)
    except (GitOperationError, InvalidValueError) as error:
        raise plan_error(plan, key, error.message, hint=error.hint) from error


def plan_error(plan: Plan, key: str, message: str, *, hint: str = "") -> UsageError:
    """The error for the key `key` of `plan`: with file and line when the plan was read from a file."""
    if plan.path is None:
        index = re.match(r"hypothesis\[(\d+)\]", key)
        subject = f"hypothesis {plan.hypotheses[int(index[1])].id!r}" if index else key
        return UsageError(f"{subject}: {message}", hint=hint)
    line = next((plan.lines[k] for k in (key, key.rpartition(".")[0]) if k in plan.lines), None)
    return InputFileError(message, path=plan.path, line=line, key=key, hint=hint)


# --- the parsers of single values: each takes what TOML gave and returns what the model holds ---


def _fraction(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise InvalidValueError(f"a number from 0 to 1 is wanted, not {value!r}")
    return float(value)


def _confidence(value: object) -> float:
    number = _fraction(value)
    if not 0.5 < number < 1:
        raise InvalidValueError(f"a number between 0.5 and 1 is wanted, not {value!r}")
    return number


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise InvalidValueError(f"true or false is wanted, not {value!r}")
    return value


def _revision(value: object) -> str:
    return str(Revision(check_text(value)))


def _identifier(value: object) -> str:
    return hypothesis_id(check_text(value))


def _list(parse: Parser) -> Parser:
    def parse_all(value: object) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise InvalidValueError(f"a list is wanted, not {value!r}")
        return tuple(parse(item) for item in value)

    return parse_all


def parse_command(value: object) -> CommandSpec:
    """A command: a text that is split as a shell would, a list of arguments, or ``{shell = "..."}``.

    Raises:
        InvalidValueError: It is none of these, is empty, or has unbalanced quotes.
    """
    shell = False
    if isinstance(value, dict):
        if set(value) != {"shell"}:
            raise InvalidValueError('a command table has the one key "shell"', hint='{shell = "make && ./check"}')
        value, shell = [check_text(value["shell"])], True
    if not isinstance(value, str | list):
        raise InvalidValueError(f"a command is a text, a list or {{shell = ...}}, not {value!r}")
    for part in value if isinstance(value, list) else [value]:
        check_text(part)
    request = CommandRequest(argv=value, shell=shell)
    if shell and not request.argv[0].strip():
        raise InvalidValueError("the command is empty", hint="name a program to run")
    return CommandSpec(request.argv, shell)


def _pattern(*groups: str) -> Parser:
    def parse(value: object) -> str:
        text = check_text(value)
        try:
            compiled = re.compile(text, re.MULTILINE)
        except re.error as error:
            raise InvalidValueError(f"not a regular expression: {error}") from error
        for group in groups:
            if group not in compiled.groupindex:
                raise InvalidValueError(f"the pattern has no group {group!r}", hint=f"write (?P<{group}>...)")
        return text

    return parse


def _tree_path(value: object) -> str:
    return parse_tree_path(check_text(value).removeprefix("./").removesuffix("/"))


def _expectation(value: object) -> Expectation:
    return expectation(check_text(value))


_PLAN: Final[Mapping[str, Parser]] = {
    "title": check_text,
    "base": _revision,
    "command": parse_command,
    "grace": parse_duration,
    "repeats": whole_number(1, MAX_REPEATS),
    "confidence": _confidence,
    "stop_on_supported": _boolean,
    "memory": parse_size,
    "labels": _list(parse_label),
    "setup": parse_command,
    "setup_inputs": _list(_tree_path),
    "include": _list(_tree_path),
    "env": parse_variables,
    "cache_env": _list(check_text),
    "cache_versions": _list(parse_command),
    "nothing_ran": _pattern(),
    "junit": _tree_path,
    "metrics": _pattern("name", "value"),
    "metrics_file": _tree_path,
}
_HYPOTHESIS: Final[Mapping[str, Parser]] = {
    "id": _identifier,
    "description": check_text,
    "ref": _revision,
    "patch": check_text,
    "edit": parse_command,
    "env": parse_variables,
    "command": parse_command,
    "combine": _list(_identifier),
    "expect": _expectation,
    "probability": _fraction,
    "impact": _fraction,
    "complexity": _fraction,
    "timeout": parse_duration,
    "fresh": _boolean,
    "memory": parse_size,
    "labels": _list(parse_label),
    "tags": _list(check_text),
}


# --- tables ---


def _timeout(document: TomlDocument, data: Mapping[str, Any]) -> dict[str, Any]:
    if "timeout" not in data:
        return {}
    if data["timeout"] == "auto":
        return {"auto_timeout": True}
    return {"timeout": _positive_duration(document, ("timeout",), data["timeout"])}


def _positive_duration(document: TomlDocument, path: KeyPath, value: object) -> float:
    try:
        seconds = parse_duration(value)
    except InvalidValueError as error:
        hint = error.hint + (", or 'auto'" if len(path) == 1 else "")
        raise document.error(error.message, path, hint=hint) from error
    if math.isclose(seconds, 0):
        raise document.error("a timeout of zero would stop every trial", path, hint="leave it out for no timeout")
    return seconds


def _hypotheses(document: TomlDocument, tables: object) -> tuple[Hypothesis, ...]:
    if not isinstance(tables, list):
        raise document.error("hypotheses are an array of tables", ("hypothesis",), hint="write [[hypothesis]]")
    hypotheses = tuple(_hypothesis(document, ("hypothesis", i), table) for i, table in enumerate(tables))
    if not hypotheses:
        raise document.error(
            "the plan has no hypothesis", ("hypothesis",), hint="add at least one [[hypothesis]] table"
        )
    document.check_ids("hypothesis", (h.id for h in hypotheses))
    for hypothesis, error in wrong_combinations(hypotheses):
        raise document.error(error.message, ("hypothesis", hypotheses.index(hypothesis), "combine"), hint=error.hint)
    return hypotheses


def _hypothesis(document: TomlDocument, path: KeyPath, table: object) -> Hypothesis:
    table = document.check_keys(table, path, _HYPOTHESIS)
    if "id" not in table:
        raise document.error("the hypothesis has no id", path, hint='add: id = "a-short-name"')
    values = document.values_of(path, table, _HYPOTHESIS)
    if "timeout" in table:
        _positive_duration(document, (*path, "timeout"), table["timeout"])
    sources = [key for key in table if key in SOURCES]
    if sources == ["patch"]:
        values["patch"] = _patch(document, (*path, "patch"), values["patch"])
    try:
        return Hypothesis(**values)
    except InvalidValueError as error:
        raise document.error(error.message, (*path, *sources[1:2]), hint=error.hint) from error


def _patch(document: TomlDocument, path: KeyPath, text: str) -> bytes:
    if "\n" in text:  # the patch itself; a path has no line break
        return text.encode()
    file = os.path.join(os.path.dirname(document.path), text)
    try:
        with open(file, "rb") as opened:
            content = opened.read()
    except OSError as error:
        raise document.error(f"the patch file {text!r} cannot be read: {error.strerror}", path) from error
    if not content.strip():
        raise document.error(f"the patch file {text!r} is empty", path)
    return content


def plan_for_refs(refs: tuple[str, ...], command: CommandSpec, *, base: str = "HEAD", **settings: Any) -> Plan:
    """The plan of ``arboretum run --ref A --ref B -- CMD``: each revision is a hypothesis that predicts a pass.

    Args:
        refs: The revisions.
        command: What every trial runs.
        base: What the control runs on.
        settings: Other fields of `Plan`.

    Raises:
        InvalidValueError: A text is no revision.
        UsageError: A revision is named twice.
    """
    hypotheses: dict[str, Hypothesis] = {}
    for ref in refs:
        name = _id_for(_revision(ref))
        if any(h.ref == ref for h in hypotheses.values()):
            raise UsageError(f"the revision {ref!r} is named twice")
        while name in hypotheses or name == CONTROL:
            name += "-2"
        hypotheses[name] = Hypothesis(id=name, ref=ref)
    return evolve(Plan(command=command, base=_revision(base), hypotheses=tuple(hypotheses.values())), **settings)


def _id_for(ref: str) -> str:
    text = re.sub(r"[^A-Za-z0-9._-]+", "-", ref).strip(".-")[:80] or "ref"
    text = re.sub(r"\.{2,}", ".", text).removesuffix(".lock")
    return check_identifier(text) if text.strip("-._") else "ref"
