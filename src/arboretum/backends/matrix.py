"""The table of what each backend can do, made of the code: the port's methods and the declared capabilities."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Final

from arboretum.backends.base import (
    BackendFactory,
    Capability,
    GitBackend,
    ObjectReader,
    RefStore,
    WorkingTree,
    WorktreeAdmin,
)
from arboretum.backends.cli import RELATIVE_SINCE

_PARTS: Final = {
    "Coming into being": BackendFactory,
    "Objects": ObjectReader,
    "Refs and configuration": RefStore,
    "Worktrees": WorktreeAdmin,
    "Files": WorkingTree,
}
_MEANING: Final = {
    Capability.SHA256: "repositories with SHA-256 ids",
    Capability.REFTABLE: "refs in a table (`extensions.refStorage`)",
    Capability.SPARSE_CHECKOUT: "sparse checkouts",
    Capability.FILTERS: "filter programs, git-lfs",
    Capability.HOOKS: "hooks are run",
    Capability.SUBMODULES: "submodules",
    Capability.PARTIAL_CLONE: "partial clones: missing objects are fetched",
    Capability.RELATIVE_WORKTREES: "relative links (`extensions.relativeWorktrees`)",
    Capability.FETCH: "clone and fetch",
    Capability.INDEX_EXTENSIONS: "split and sparse index",
}


def operations(part: type) -> Iterator[tuple[str, str]]:
    """The methods of one part of the port, and the first sentence of each one's contract."""
    for name, method in vars(part).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            yield name, (inspect.getdoc(method) or "").split("\n\n")[0].replace("\n", " ").split(". ")[0].rstrip(".")


def operation_table(backends: Mapping[str, type[GitBackend]]) -> str:
    """A Markdown table: each operation of the port, and which backends have it."""
    lines = [f"| operation | {' | '.join(backends)} | what it does |", f"|---|{'---|' * len(backends)}---|"]
    for title, part in _PARTS.items():
        lines.append(f"| **{title}** |{' |' * len(backends)} |")
        for name, summary in operations(part):
            cells = ("yes" if callable(getattr(backend, name, None)) else "no" for backend in backends.values())
            lines.append(f"| `{name}` | {' | '.join(cells)} | {summary} |")
    return "\n".join(lines) + "\n"


def capability_table(backends: Mapping[str, GitBackend]) -> str:
    """A Markdown table: each capability, and which backends have it on an ordinary repository."""
    lines = [f"| feature | {' | '.join(backends)} |", f"|---|{'---|' * len(backends)}"]
    for capability in Capability:
        cells = (_cell(name, backend, capability) for name, backend in backends.items())
        lines.append(f"| {_MEANING[capability]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _cell(name: str, backend: GitBackend, capability: Capability) -> str:
    if name in {"cli", "gitpython"} and capability is Capability.RELATIVE_WORKTREES:
        return f"git {'.'.join(map(str, RELATIVE_SINCE))}"
    return "yes" if capability in backend.capabilities() else "refused"
