"""The identity of a trial's result: two trials with the same key are the same experiment.

A key is a set of named fields, kept beside the result, so that `arboretum why` can say which of them differs.
What cannot change a pass or a fail (the timeout, the grace period, the id of the hypothesis) is not in it.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import shlex
from collections.abc import Mapping

from attrs import field, frozen

from arboretum.engine.model import CommandSpec, Plan
from arboretum.engine.records import encode
from arboretum.engine.variants import Variant
from arboretum.process.model import CommandRequest, CommandRunner
from arboretum.values import jsonable

#: Changes when the meaning of a field does, so that older results are not taken for new ones.
KEY_VERSION = 1


def _sorted(fields: Mapping[str, str]) -> dict[str, str]:
    return dict(sorted(fields.items()))


@frozen
class CacheKey:
    """The fields that make a result what it is, as text, by name."""

    fields: Mapping[str, str] = field(converter=_sorted)
    #: The SHA-256 of all fields, in hexadecimal.
    digest: str = field(init=False, eq=False, repr=False)

    @digest.default
    def _digest_of_fields(self) -> str:
        return hashlib.sha256(encode(self.fields).encode()).hexdigest()


def shared_fields(plan: Plan, runner: CommandRunner, *, folder: str) -> dict[str, str]:
    """The fields that all trials of a plan have in common, worked out once in a run.

    Args:
        plan: The plan.
        runner: Runs the version commands.
        folder: The user's worktree: the version commands run there, and `include` files are read from it.
    """
    fields = {
        "key": str(KEY_VERSION),
        "platform": f"{platform.system()} {platform.machine()}",
        "setup": _command(plan.setup) if plan.setup else "",
        "reading": json.dumps([plan.nothing_ran, plan.junit, plan.metrics, plan.metrics_file]),
    }
    for name in plan.cache_env:
        value = os.environ.get(name)
        fields[f"inherited:{name}"] = "" if value is None else f"={jsonable(value)}"
    for command in plan.cache_versions:
        fields[f"version:{_command(command)}"] = _version(command, runner, folder)
    for path in plan.include:
        fields[f"include:{jsonable(path)}"] = _content(os.path.join(folder, path))
    return fields


def cache_key(shared: Mapping[str, str], variant: Variant, *, attempt: int) -> CacheKey:
    """The key of one trial of `variant`; repeats differ in `attempt`, so that they stay independent."""
    fields = {
        **shared,
        "tree": str(variant.tree),
        "command": _command(variant.command),
        "attempt": str(attempt),
        "fresh": str(variant.fresh),
    }
    if variant.edits:
        fields["edits"] = json.dumps([_command(edit) for edit in variant.edits])
    if variant.labels:  # they choose the kind of machine
        fields["labels"] = json.dumps(sorted(variant.labels))
    for name, value in variant.env.items():
        fields[f"env:{jsonable(name)}"] = jsonable(value)
    return CacheKey(fields)


def _command(command: CommandSpec) -> str:
    return str(jsonable(command.argv[0] if command.shell else shlex.join(command.argv))) + " (shell)" * command.shell


def _version(command: CommandSpec, runner: CommandRunner, folder: str) -> str:
    result = runner.run(CommandRequest(argv=command.argv, shell=command.shell, cwd=folder, timeout=60.0))
    return str(jsonable(f"{result.exit_code}: {result.stdout.strip()} {result.stderr.strip()}".strip()))


def _content(path: str) -> str:
    if os.path.isdir(path):
        digest = hashlib.sha256()
        for top, folders, files in os.walk(path):
            folders.sort()
            for name in sorted(files):
                file = os.path.join(top, name)
                digest.update(f"{os.path.relpath(file, path)}\0{_content(file)}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()
    if not os.path.isfile(path):
        return "no file"
    try:
        with open(path, "rb") as file_object:
            return hashlib.file_digest(file_object, "sha256").hexdigest()
    except OSError as error:
        return f"unreadable: {error.strerror}"
