"""The state machine: random programs on each backend and on the in-memory one, everything compared at every step.

`ARBORETUM_STATE_EXAMPLES` says how many programs of 30 steps each backend gets (200 by default, so also in
`.ci/run`); they are spread over four tests, so that they can run side by side.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from arboretum.backends.base import GitBackend, Keeper
from arboretum.backends.memory import MemoryBackend
from arboretum.bootstrap import backend_factory
from arboretum.errors import GitOperationError, WorktreeLockedError
from arboretum.testing.machine import check_against_model
from arboretum.testing.maker import BackendMaker
from arboretum.values import ChangeKind, Oid, StatusEntry
from tests.conformance.makers import make

EXAMPLES = int(os.environ.get("ARBORETUM_STATE_EXAMPLES", "200"))
PARTS = 4


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("name", ["cli", "gitpython", "pygit2"])
def test_random_programs_agree_with_the_model(name: str, part: int, tmp_path: Path) -> None:
    """After every step of a random program a backend shows just what the in-memory model shows."""
    check_against_model(make(name, tmp_path), examples=max(1, EXAMPLES // PARTS), number=part)


def test_the_model_does_not_depend_on_its_disk(tmp_path: Path) -> None:
    """The in-memory backend with real folders shows just what it shows with its disk in memory."""
    check_against_model(make("memory-on-disk", tmp_path), examples=EXAMPLES)


class SeededBug(MemoryBackend):
    """A backend with a fault; which one, the classes below say."""


class BlindToDeletion(SeededBug):
    """Does not see that a tracked file is gone."""

    def status(self, worktree: str, **options: Any) -> tuple[StatusEntry, ...]:
        entries = super().status(worktree, **options)
        return tuple(e for e in entries if e.worktree is not ChangeKind.DELETED)


class DropsTheTop(SeededBug):
    """Drops the newest stash, whichever was meant: what a position does."""

    def stash_drop(self, stash: Oid) -> None:
        entries = self.stash_list()
        super().stash_drop(entries[0].oid if entries else stash)


class IgnoresLocks(SeededBug):
    """Removes a locked worktree by force."""

    def remove_worktree(self, path: str, *, force: bool = False) -> None:
        try:
            super().remove_worktree(path, force=force)
        except WorktreeLockedError:
            if not force:
                raise
            self.unlock_worktree(path)
            super().remove_worktree(path, force=force)

    def discard_worktree(self, path: str, keeper: Keeper, *, force: bool = False) -> Callable[[], None]:
        with contextlib.suppress(GitOperationError):
            self.unlock_worktree(path)
        return super().discard_worktree(path, keeper, force=force)


@pytest.mark.parametrize("faulty", [BlindToDeletion, DropsTheTop, IgnoresLocks])
def test_a_seeded_bug_is_found(faulty: type[SeededBug], tmp_path: Path) -> None:
    """A bug seeded into a backend makes the state machine fail within the programs of a CI run."""
    with pytest.raises(AssertionError):
        check_against_model(BackendMaker(faulty, str(tmp_path)), examples=200, shrink=False)


class _Wrapped:
    """A real backend with one method replaced: bugs can be seeded into any of them."""

    def __init__(self, backend: GitBackend) -> None:
        self._backend = backend

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)


class KeepsUntracked(_Wrapped):
    """Cleans nothing but says that it did."""

    def clean(self, worktree: str, *, ignored: bool = False) -> tuple[str, ...]:
        entries = self._backend.status(worktree, ignored=ignored)
        return tuple(e.path for e in entries if e.is_untracked or (ignored and e.is_ignored))


@pytest.mark.parametrize("name", ["pygit2", "cli"])
def test_a_bug_seeded_into_a_real_backend_is_found(name: str, tmp_path: Path) -> None:
    """The same holds for the backends over real repositories."""
    factory = backend_factory(name)

    class Faulty:
        name = "faulty"
        init = staticmethod(lambda path, **options: KeepsUntracked(factory.init(path, **options)))
        open = staticmethod(lambda path: KeepsUntracked(factory.open(path)))

    with pytest.raises(AssertionError):
        check_against_model(BackendMaker(Faulty, str(tmp_path)), examples=100, shrink=False)  # type: ignore[arg-type]
