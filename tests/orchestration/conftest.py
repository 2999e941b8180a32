"""Repositories for the tests of orchestration."""

from __future__ import annotations

from pathlib import Path

import pytest

from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

FILES = {
    "src/core/a.py": b"a = 1\n",
    "src/core/b.py": b"b = 1\n",
    "src/web/page.py": b"page = 1\n",
    "src/main.py": b"main = 1\n",
    "docs/guide.md": b"# guide\n",
    "README.md": b"# readme\n",
    "CHANGELOG.md": b"# changes\n\n- first\n",
}


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RepositoryBuilder:
    """A small repository with one commit on main; pools live beside it."""
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "cache"))
    made = RepositoryBuilder.init(str(tmp_path / "repo"))
    made.commits([CommitSpec(files=dict(FILES))])
    return made


@pytest.fixture
def repository(builder: RepositoryBuilder) -> Repository:
    """The same, opened."""
    return Repository.open(builder.path)
