"""What the tests of the engine share: a repository with a little history, and a pool in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define
from hypothesis import settings

from arboretum.engine.pool import WorktreePool
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid

# Time is never asserted in a test: a machine with much to do is no defect.
settings.register_profile("no-deadline", deadline=None)
settings.load_profile("no-deadline")


@define(eq=False)
class Ground:
    """A repository of three commits that differ in every kind of way."""

    builder: RepositoryBuilder
    repository: Repository
    one: Oid
    two: Oid
    three: Oid

    def pool(self, **options) -> WorktreePool:
        return WorktreePool.open(self.repository, **{"size": 2} | options)


def make_ground(folder: Path) -> Ground:
    builder = RepositoryBuilder.init(folder / "project")
    one, two, three = builder.commits(
        [
            CommitSpec({"a.txt": "one\n", "dir/b.txt": "b\n", ".gitignore": "*.ignored\nbuild/\n", "x": "x\n"}, "1"),
            CommitSpec({"a.txt": "two\n", "x": None, "x/y": "now a folder\n", ".gitignore": "build/\n"}, "2"),
            CommitSpec({"a.txt": "three\n", "x/y": None, "x": "a file again\n", "dir/b.txt": None}, "3"),
        ]
    )
    return Ground(builder, Repository.open(builder.path), one, two, three)


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    made = make_ground(tmp_path)
    yield made
    made.repository.close()
