"""The wrapper that tells observers what a backend does."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.backends.base import GitBackend
from arboretum.backends.layers import OPERATIONS, observed
from arboretum.errors import RevisionNotFoundError
from arboretum.events import Event, GitOperationFinished
from arboretum.values import Revision


@pytest.fixture
def seen() -> list[Event]:
    return []


@pytest.fixture
def repo(tmp_path: Path, seen: list[Event]) -> Iterator[Repository]:
    with Repository.init(tmp_path / "r", backend="memory", observers=[seen.append]) as repository:
        Path(repository.path, "a").write_text("1")
        repository.worktrees.main.stage(["a"])
        repository.worktrees.main.commit("one")
        seen.clear()
        yield repository


def test_every_operation_is_told_with_its_outcome(repo: Repository, seen: list[Event]) -> None:
    """Each call of the port gives one event: its name, backend and time, and the kind of error if it failed."""
    repo.resolve("HEAD")
    with pytest.raises(RevisionNotFoundError) as caught:
        repo.resolve("nothing")
    assert [(e.operation, e.backend, e.error) for e in seen if isinstance(e, GitOperationFinished)] == [
        ("resolve", "memory", None),
        ("resolve", "memory", "revision-not-found"),
    ]
    assert all(isinstance(e, GitOperationFinished) and e.duration >= 0 for e in seen)
    assert caught.value.operation == "resolve"


def test_a_walk_is_told_when_it_ends(repo: Repository, seen: list[Event]) -> None:
    """A lazy walk counts as one operation, told once, also when only its start was wanted."""
    walk = repo.log()
    seen.clear()
    next(walk)
    assert seen == []
    walk.close()  # type: ignore[attr-defined]  # a generator
    assert len(list(repo.log())) == 1
    assert [e.operation for e in seen if isinstance(e, GitOperationFinished)] == ["log", "resolve", "log"]
    assert all(isinstance(e, GitOperationFinished) and e.error is None for e in seen)


def test_an_observer_that_fails_changes_nothing(tmp_path: Path) -> None:
    """The work goes on when an observer raises; it is not asked again."""
    calls: list[Event] = []

    def broken(event: Event) -> None:
        calls.append(event)
        raise RuntimeError("I am broken")

    with Repository.init(tmp_path / "r", backend="memory", observers=[broken]) as repository:
        assert repository.head.is_unborn
        assert list(repository.branches) == []
    assert len(calls) == 1


def test_all_operations_of_the_port_are_wrapped(repo: Repository) -> None:
    """The list of operations is that of the port: nothing else is timed, nothing of it is missed."""
    properties = {name for name, member in inspect.getmembers(GitBackend) if isinstance(member, property)}
    public = {name for name in dir(GitBackend) if not name.startswith("_")}
    assert public - OPERATIONS == properties | {"capabilities", "close"}
    assert observed(repo.backend, lambda _: None).common_dir == repo.common_dir
    assert repo.backend.resolve(Revision("HEAD")) == repo.head.oid
