"""The pytest plugin: repositories as fixtures.

One line in a ``conftest.py`` brings it in::

    pytest_plugins = ["arboretum.testing.plugin"]

- ``fake_repo``: a repository wholly in memory, with one commit on ``main``; files by ``fake_files``.
- ``repo``: a real repository in a temporary folder, with one commit, opened by ``backend``.
- ``backend``: the name of a backend; a test that asks for it (or for ``repo``) runs once for each.
  ``--arboretum-backend NAME`` (more than once) says which; all four by default.
- ``hermetic_git``: no configuration of the user or the machine, and an identity; the others use it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arboretum.backends.memory import MemoryBackend, MemoryDisk, WorktreeFiles
from arboretum.bootstrap import backend_factory
from arboretum.repository import Repository
from arboretum.testing.builders import hermetic_environment
from arboretum.testing.maker import BackendMaker, Bench

BACKENDS = ("cli", "gitpython", "pygit2", "memory")
_FILES = {"README.md": "# A repository for a test\n", "src/app.py": "print('hello')\n"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--arboretum-backend``."""
    parser.getgroup("arboretum").addoption(
        "--arboretum-backend", action="append", metavar="NAME", help="run tests with this backend only (repeatable)"
    )


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests that use ``backend`` once for each backend."""
    if "backend" in metafunc.fixturenames:
        chosen = metafunc.config.getoption("--arboretum-backend") or BACKENDS
        marked = [mark for mark in metafunc.definition.iter_markers("parametrize") if "backend" in str(mark.args[0])]
        if not marked:
            metafunc.parametrize("backend", chosen, indirect=True)


@pytest.fixture
def hermetic_git(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> str:
    """Let git, in this process and its children, see no configuration but the repository's; the HOME that it sees."""
    home = str(tmp_path_factory.mktemp("home"))
    wanted = hermetic_environment(home)
    for name in [name for name in os.environ if name not in wanted]:
        monkeypatch.delenv(name)
    for name, value in wanted.items():
        if os.environ.get(name) != value:
            monkeypatch.setenv(name, value)
    return home


@pytest.fixture
def backend(request: pytest.FixtureRequest) -> str:
    """The name of the backend that the test runs with."""
    return str(getattr(request, "param", "cli"))


@pytest.fixture
def fake_repo(tmp_path: Path, hermetic_git: str) -> Iterator[Repository]:
    """A repository wholly in memory: no file and no process outside this one."""
    del hermetic_git
    disk = MemoryDisk()
    path = disk.real_path(str(tmp_path / "fake" / "repo"))
    maker = BackendMaker(MemoryBackend, str(tmp_path), disk)
    memory = MemoryBackend.init(path, disk=disk)
    Bench(maker, memory, path).set_up(_FILES)
    with Repository(memory) as repository:
        yield repository


@pytest.fixture
def fake_files(fake_repo: Repository) -> WorktreeFiles:
    """The files of ``fake_repo``'s main worktree, as a mapping from path to bytes."""
    return files_of(fake_repo)


def files_of(repository: Repository, worktree: str | os.PathLike[str] | None = None) -> WorktreeFiles:
    """The files of a worktree (None: the main one) of a repository in memory, as a mapping.

    Raises:
        TypeError: The repository is not in memory.
    """
    memory = repository.backend
    if not isinstance(memory, MemoryBackend):
        raise TypeError(f"{memory.name} keeps its files on disk: read and write them there")
    return memory.files(os.fspath(worktree) if worktree is not None else repository.path)


@pytest.fixture
def repo(tmp_path: Path, hermetic_git: str, backend: str) -> Iterator[Repository]:
    """A repository in a folder of its own, with one commit on ``main``; its files are real on every backend."""
    del hermetic_git
    maker = BackendMaker(backend_factory(backend), str(tmp_path))
    path = os.path.realpath(tmp_path / "repo")
    opened = maker.factory.init(path)
    Bench(maker, opened, path).set_up(_FILES)
    with Repository(opened) as repository:
        yield repository


__all__ = ["backend", "fake_files", "fake_repo", "files_of", "hermetic_git", "repo"]
