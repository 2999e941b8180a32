"""What each backend can do, as data and as the page of the documentation that is made of it.

``python -m arboretum.testing.support docs/reference/backends.md`` writes the page.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Final

from attrs import frozen

from arboretum.backends.base import (
    BackendFactory,
    Capability,
    ObjectReader,
    RefStore,
    WorkingTree,
    WorktreeAdmin,
)
from arboretum.testing.conformance import CHECKS

BACKENDS: Final = ("cli", "gitpython", "pygit2", "memory")


@frozen
class Gap:
    """Something that a backend does not do, and why.

    Args:
        backend: Its name.
        operations: The operations of the port that it is about.
        reason: What it does instead, and why.
    """

    backend: str
    operations: tuple[str, ...]
    reason: str


#: All gaps. Whatever is not named here is checked to be the same on every backend.
GAPS: Final = (
    Gap(
        "pygit2", ("open", "discover"),
        "libgit2 reads no SHA-256 and no reftable repository and no unknown extension: such a one is refused by the "
        "name of its format when it is opened.",
    ),
    Gap(
        "pygit2",
        ("commit", "cherry_pick", "checkout", "add_worktree", "update_ref", "rename_branch", "stash_store"),
        "libgit2 runs no hooks and signs nothing: where git would run a hook or sign, the operation is refused.",
    ),
    Gap(
        "pygit2",
        ("status", "stage", "checkout", "reset", "clean", "apply", "cherry_pick", "stash_create", "stash_apply",
         "add_worktree", "remove_worktree", "discard_worktree"),
        "libgit2 runs no filter programs (LFS), knows no sparse checkout and fetches no missing object: where one of "
        "these matters, the operation is refused.",
    ),
    Gap(
        "memory", ("clone", "fetch"),
        "It clones and fetches from repositories of the same process, and speaks to no network.",
    ),
    Gap(
        "memory", ("resolve", "set_config", "stage"),
        "It is a model for tests: no dates in revisions, no submodules, hooks, filters, line-end conversion, sparse "
        "checkouts or repository extensions; what cannot be left out without a difference is refused.",
    ),
)  # fmt: skip
#: Capabilities that depend on the version of the git executable.
SINCE: Final = {Capability.REFTABLE: "git 2.45", Capability.RELATIVE_WORKTREES: "git 2.48"}


def operations() -> Iterator[tuple[str, str]]:
    """Every operation of the port, with the part of the port that it belongs to."""
    for title, port in (
        ("Coming into being", BackendFactory), ("Objects", ObjectReader), ("Refs and configuration", RefStore),
        ("The set of worktrees", WorktreeAdmin), ("One worktree", WorkingTree),
    ):  # fmt: skip
        for name, member in vars(port).items():
            if inspect.isfunction(member) and not name.startswith("_"):
                yield title, name


def declared() -> dict[str, frozenset[Capability]]:
    """What each backend says it can do; of the two that run git, with the newest git."""
    from arboretum.backends.libgit2.gate import CAPABILITIES
    from arboretum.backends.memory.backend import CAPABILITIES as MEMORY

    everything = frozenset(Capability)
    return {"cli": everything, "gitpython": everything, "pygit2": CAPABILITIES, "memory": MEMORY}


def page() -> str:
    """The page, in Markdown."""
    lines = [
        "# What each backend can do",
        "",
        "<!-- Made by `python -m arboretum.testing.support docs/reference/backends.md`; a test keeps it so. -->",
        "",
        "The same program runs on each of the four backends by changing one word: `Repository.open(path,",
        'backend="pygit2")`. Every operation of the port is there on every backend, and the conformance suite, a state',
        "machine of random programs and real git itself hold them to the same observable result. A number in brackets",
        "leads to a gap below; a refusal comes before any side effect, as `UnsupportedOperationError`.",
        "",
        *_operation_table(),
        "## Gaps",
        "",
        *(f"{number}. **{gap.backend}**: {gap.reason}" for number, gap in enumerate(GAPS, 1)),
        "",
        "## Capabilities",
        "",
        "What a backend answers for the repository at hand; `arboretum doctor` prints it for yours.",
        "",
        *_row(["capability", *BACKENDS]),
        *_row(["---"] * 5),
        *(line for capability in Capability for line in _row([capability.value, *_answers(capability)])),
    ]
    return "\n".join(lines) + "\n"


def _answers(capability: Capability) -> Iterator[str]:
    for name, able in declared().items():
        since = f" ({SINCE[capability]})" if capability in SINCE and name in {"cli", "gitpython"} else ""
        yield f"yes{since}" if capability in able else "–"


def _operation_table() -> Iterator[str]:
    last = ""
    for title, name in operations():
        if title != last:
            yield from (["", f"## {title}", ""] if last else [f"## {title}", ""])
            yield from _row(["operation", *BACKENDS, "checks"])
            yield from _row(["---"] * 6)
            last = title
        yield from _row([f"`{name}`", *(_cell(backend, name) for backend in BACKENDS), str(_checks_of(name))])
    yield ""


def _cell(backend: str, operation: str) -> str:
    numbers = [str(at) for at, gap in enumerate(GAPS, 1) if gap.backend == backend and operation in gap.operations]
    return "yes" + (f" [{', '.join(numbers)}]" if numbers else "")


def _checks_of(operation: str) -> int:
    return sum(operation in check.operations for check in CHECKS)


def _row(cells: list[str]) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]


if __name__ == "__main__":
    with open(sys.argv[1], "w", encoding="utf-8") as file:
        file.write(page())
