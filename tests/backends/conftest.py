"""Real repositories for the tests of the adapters, each with a few commits and git itself as the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest

from arboretum.testing.builders import RepositoryBuilder


@pytest.fixture
def real(tmp_path: Path) -> RepositoryBuilder:
    """A repository with two commits on ``main``."""
    builder = RepositoryBuilder.init(tmp_path / "real")
    builder.commit({"a.txt": "one\ntwo\nthree\n", "d/b.txt": "b\n"}, "one")
    builder.commit({"d/c.txt": "c\n"}, "two")
    return builder
