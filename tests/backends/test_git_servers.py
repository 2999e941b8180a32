"""Long-lived git processes: right answers, whatever becomes of them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psutil
import pytest

from arboretum.backends.cli import CliBackend
from arboretum.errors import ObjectMissingError, RefChangedError, RefExistsError
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import DiffEntry, Oid, RefName, Signature


@pytest.fixture
def backend(real: RepositoryBuilder) -> Iterator[CliBackend]:
    opened = CliBackend.open(real.path)
    yield opened
    opened.close()


def servers(real: RepositoryBuilder) -> list[psutil.Process]:
    """The living processes that answer what differs between trees of the repository."""
    found, words = [], {"diff-tree", "--stdin", f"--git-dir={real.git_dir}"}
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it has just ended
            if words <= set(child.cmdline()):
                found.append(child)
    return found


def ends(real: RepositoryBuilder) -> tuple[Oid, Oid]:
    return Oid(real.git("rev-parse", "main~1")), Oid(real.git("rev-parse", "main"))


def differences(backend: CliBackend, real: RepositoryBuilder) -> tuple[DiffEntry, ...]:
    return backend.diff_trees(*ends(real))


def test_a_server_that_was_killed_is_replaced(backend: CliBackend, real: RepositoryBuilder) -> None:
    """Killed between two questions, it costs nobody an answer."""
    expected = differences(backend, real)
    assert [entry.path for entry in expected] == ["d/c.txt"]
    (server,) = servers(real)
    server.send_signal(signal.SIGKILL)
    server.wait(10)
    assert differences(backend, real) == expected
    assert differences(backend, real) == expected
    assert len(servers(real)) == 1


def test_answers_of_threads_never_mix(backend: CliBackend, real: RepositoryBuilder) -> None:
    """Many threads ask at once, forth and back, and each gets its own answer; closing leaves no process."""
    one, two = ends(real)
    forth, back = backend.diff_trees(one, two), backend.diff_trees(two, one)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda i: backend.diff_trees(*((two, one) if i % 2 else (one, two))), range(200)))
    assert answers == [forth, back] * 100
    assert len(servers(real)) <= 9
    backend.close()
    assert servers(real) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_has_servers_of_its_own(backend: CliBackend, real: RepositoryBuilder) -> None:
    """A forked process gets right answers and leaves its parent's processes alone."""
    expected = differences(backend, real)
    before = [server.pid for server in servers(real)]
    child = os.fork()
    if child == 0:
        right = differences(backend, real) == expected
        backend.close()
        os._exit(0 if right else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert differences(backend, real) == expected
    if sys.platform == "linux":
        assert [server.pid for server in servers(real)] == before


def test_what_a_server_cannot_answer_is_told_in_git_s_words(backend: CliBackend, real: RepositoryBuilder) -> None:
    """Missing objects and refused changes have the errors that one process a question has."""
    one, two = ends(real)
    with pytest.raises(ObjectMissingError):
        backend.diff_trees(one, Oid("1" * 40))
    name = RefName("refs/heads/topic")
    for _ in range(2):
        backend.update_ref(name, one, None)
        with pytest.raises(RefExistsError):
            backend.update_ref(name, two, None)
        with pytest.raises(RefChangedError):
            backend.update_ref(name, one, two)
        assert backend.tip(name) == one
        backend.update_ref(name, two, one)
        backend.update_ref(name, None, two)
        assert backend.tip(name) is None


def test_commits_are_what_one_process_writes(backend: CliBackend, real: RepositoryBuilder) -> None:
    """A commit has the same id however it is written, and git finds nothing wrong with it."""
    one, two = ends(real)
    who = Signature.now("Ada", "ada@example.org")
    values = {"tree": backend.read_commit(two).tree, "parents": (one, two), "message": "caf\N{LATIN SMALL LETTER E}\n"}
    made = [backend.write_commit(author=who, committer=who, **values) for _ in range(2)]
    assert made[0] == made[1]
    real.git("fsck", "--strict", "--no-dangling", made[0])
    assert real.git("rev-parse", f"{made[0]}^1", f"{made[0]}^2").split() == [one, two]
