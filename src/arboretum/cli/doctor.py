"""``arboretum doctor``: is everything here that is needed, and what can each backend do?"""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterator

import click
from attrs import frozen

from arboretum.backends.base import Capability
from arboretum.bootstrap import backend_factory, backend_names
from arboretum.cli.app import Context, is_shallow, pass_context
from arboretum.cli.exit_codes import ExitCode
from arboretum.cli.options import format_option
from arboretum.errors import ArboretumError, RepositoryNotFoundError
from arboretum.repository import Repository

_FREE_BYTES_WANTED = 512 * 1024 * 1024


@frozen(kw_only=True)
class Finding:
    """One thing that was looked at. `level` is ``ok``, ``note`` or ``problem``."""

    what: str
    level: str
    text: str


@click.command(
    epilog="""\b
Examples:
  arboretum doctor
  arboretum -C ../other doctor --format json
"""
)
@format_option
@pass_context
def doctor(context: Context, output: str) -> int:
    """Check git, the backends, the file system and the repository; exit code 4 if something is in the way."""
    findings = [*_tools(), *_cache()]
    capabilities: dict[str, list[str]] = {}
    try:
        Repository.discover(context.folder).close()
    except RepositoryNotFoundError:
        findings.append(Finding(what="repository", level="note", text=f"{context.folder} lies in none"))
    except ArboretumError as error:
        findings.append(Finding(what="repository", level="problem", text=error.message))
    else:
        findings += _repository(context, capabilities)
    bad = any(finding.level == "problem" for finding in findings)
    if output == "json":
        rows = [{"what": f.what, "level": f.level, "text": f.text} for f in findings]
        context.renderer.json({"schema": "arboretum/doctor/1", "findings": rows, "capabilities": capabilities})
    else:
        marks = {"ok": "✓", "note": "·", "problem": "✗"}
        context.renderer.table("", ("", "what", ""), [(marks[f.level], f.what, f.text) for f in findings])
        if capabilities:
            context.renderer.text("")
            context.renderer.table(
                "What each backend can do in this repository:",
                ("capability", *capabilities),
                [(c.value, *("yes" if c.value in able else "–" for able in capabilities.values())) for c in Capability],
            )
    return ExitCode.ENVIRONMENT if bad else ExitCode.HOLDS


def _tools() -> Iterator[Finding]:
    yield Finding(what="python", level="ok", text=f"{platform.python_version()} at {sys.executable}")
    git = shutil.which("git")
    if git is None:
        yield Finding(what="git", level="problem", text="not on PATH; only the backends pygit2 and memory work")
    else:
        from arboretum.backends.cli import OLDEST_GIT, git_version

        version = git_version()
        text = f"{'.'.join(map(str, version))} at {git}"
        old = version < OLDEST_GIT
        yield Finding(what="git", level="problem" if old else "ok", text=text + (": too old" if old else ""))
    for name in backend_names():
        try:
            backend_factory(name)
        except ArboretumError as error:
            yield Finding(what=f"backend {name}", level="note", text=error.message)
        else:
            yield Finding(what=f"backend {name}", level="ok", text="can be loaded")


def _cache() -> Iterator[Finding]:
    from arboretum.engine.slot_files import cache_folder
    from arboretum.worktree_files.choice import Ability

    folder = cache_folder()
    place = folder
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    if not os.access(place, os.W_OK):
        yield Finding(what="pool folder", level="problem", text=f"{folder} cannot be written")
        return
    yield Finding(what="files of new slots", level="ok", text=Ability.probe(place).description)
    free = shutil.disk_usage(place).free
    low = free < _FREE_BYTES_WANTED
    yield Finding(what="pool folder", level="problem" if low else "ok", text=f"{folder}, {free / 2**30:.1f} GiB free")


def _repository(context: Context, capabilities: dict[str, list[str]]) -> Iterator[Finding]:
    with context.repository() as repository:
        yield Finding(what="repository", level="ok", text=repository.path)
        if not os.access(repository.common_dir, os.W_OK):
            text = f"{repository.common_dir} cannot be written: nothing can be run here"
            yield Finding(what="git directory", level="problem", text=text)
        if is_shallow(repository):
            yield Finding(what="history", level="note", text="cut off: this is a shallow clone")
    for name in backend_names():
        if name == "memory":
            continue
        try:
            with Repository.discover(context.folder, backend=name) as repository:
                capabilities[name] = sorted(c.value for c in repository.backend.capabilities())
        except ArboretumError as error:
            yield Finding(what=f"backend {name}", level="note", text=f"does not open it: {error.message}")
    with context.repository() as repository:
        missing = [info.path for info in repository.worktrees.infos() if info.prunable is not None]
        yield Finding(
            what="worktrees",
            level="note" if missing else "ok",
            text=f"{len(repository.worktrees)}, {len(missing)} prunable" if missing else f"{len(repository.worktrees)}",
        )
