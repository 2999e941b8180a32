"""The conformance suite: what every backend has to do, as functions that take a maker and need no test framework.

::

    from arboretum.testing import BackendMaker, conformance

    maker = BackendMaker(MyBackend, "/tmp/somewhere")
    for check in conformance.checks_for(maker):
        check(maker)                       # raises AssertionError when the backend does it otherwise

Checks that need a capability are left out for backends without it; that a backend then refuses cleanly is
a check of its own.
"""

from __future__ import annotations

from collections.abc import Iterator

from arboretum.testing.conformance import (
    errors,
    hostile,
    objects,
    refs,
    removals,
    sharing,
    stashes,
    unborn,
    working_tree,
    worktrees,
)
from arboretum.testing.conformance.registry import Check, refused
from arboretum.testing.maker import BackendMaker

#: Every check, in the order of the port.
CHECKS: tuple[Check, ...] = (
    *objects.CHECKS, *refs.CHECKS, *worktrees.CHECKS, *removals.CHECKS, *working_tree.CHECKS, *unborn.CHECKS,
    *stashes.CHECKS, *errors.CHECKS, *hostile.CHECKS, *sharing.CHECKS,
)  # fmt: skip


def checks_for(maker: BackendMaker) -> Iterator[Check]:
    """The checks that a backend's capabilities (on a plain new repository) call for."""
    bench = maker.empty()
    able = bench.backend.capabilities()
    bench.backend.close()
    yield from (check for check in CHECKS if check.requires <= able)


def check_all(maker: BackendMaker) -> None:
    """Run every check that applies. Raises AssertionError naming the first one that fails."""
    for check in checks_for(maker):
        try:
            check(maker)
        except AssertionError as error:
            raise AssertionError(f"{maker.name}: {check.name}: {error}") from error


__all__ = ["CHECKS", "Check", "check_all", "checks_for", "refused"]
