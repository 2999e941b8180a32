"""How checks are declared, and what many of them say."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from attrs import frozen

from arboretum.backends.base import Capability
from arboretum.errors import ArboretumError
from arboretum.testing.maker import BackendMaker, Bench
from arboretum.testing.observation import observe


@frozen
class Check:
    """One rule that backends follow.

    Args:
        function: Raises AssertionError for a backend that does not.
        operations: The operations of the port that it is about.
        requires: The capabilities without which it says nothing.
    """

    function: Callable[[BackendMaker], None]
    operations: tuple[str, ...]
    requires: frozenset[Capability] = frozenset()

    @property
    def name(self) -> str:
        """Its name."""
        return self.function.__name__

    @property
    def rule(self) -> str:
        """The rule, in a sentence."""
        return (self.function.__doc__ or "").partition("\n")[0]

    def __call__(self, maker: BackendMaker) -> None:
        """Check the maker's backend."""
        self.function(maker)


def check(*operations: str, requires: tuple[Capability, ...] = ()) -> Callable[[Callable[[BackendMaker], None]], Check]:
    """Declare a check of these operations of the port."""

    def declare(function: Callable[[BackendMaker], None]) -> Check:
        return Check(function, operations, frozenset(requires))

    return declare


def collected(module: dict[str, object]) -> tuple[Check, ...]:
    """All checks of a module, in the order in which they stand there."""
    return tuple(value for value in module.values() if isinstance(value, Check))


@contextlib.contextmanager
def refused(error: type[ArboretumError], *benches: Bench) -> Iterator[list[ArboretumError]]:
    """Whatever is done inside fails with exactly this class of error, and leaves the repositories as they were.

    Args:
        error: The class that has to be raised (not one derived from it).
        benches: Repositories in which nothing may change: refs, worktrees, status, files, stashes.

    Yields:
        A list that holds the error afterwards.
    """
    before = [observe(bench.backend, bench.disk) for bench in benches]
    caught: list[ArboretumError] = []
    try:
        yield caught
    except ArboretumError as found:
        caught.append(found)
    if not caught:
        raise AssertionError(f"{error.__name__} was not raised")
    told = caught[0]
    if type(told) is not error:
        raise AssertionError(f"{type(told).__name__} was raised instead of {error.__name__}: {told}") from told
    assert told.message, "an error says what went wrong"
    after = [observe(bench.backend, bench.disk) for bench in benches]
    assert after == before, f"the refused operation left a change:\n  before {before}\n  after {after}"
