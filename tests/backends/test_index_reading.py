"""pygit2 works on the index that is on disk now, whatever its time stamps say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arboretum.backends.libgit2 import Pygit2Backend
from arboretum.errors import GitOperationError
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import Oid


@pytest.fixture
def backend(real: RepositoryBuilder):
    found = Pygit2Backend.open(real.path)
    yield found
    found.close()


def replace(index: Path, data: bytes) -> None:
    """Write other content into the very file, and give it the time stamp of the old one."""
    stamp = index.stat().st_mtime_ns
    with open(index, "r+b") as file:
        file.write(data)
        file.truncate()
    os.utime(index, ns=(stamp, stamp))


def without_checksum(index: Path) -> None:
    """What git leaves with ``index.skipHash``: zeros in place of the checksum at the end."""
    replace(index, index.read_bytes()[:-20] + bytes(20))


@pytest.mark.parametrize("hashed", [True, False])
def test_another_content_is_seen_where_inode_size_and_time_are_the_same(hashed: bool, backend, real):
    """What somebody else staged within one tick of the clock is neither lost nor missed."""
    index, root = Path(real.git_dir, "index"), Path(real.path)
    (root / "a.txt").write_text("1\n")
    real.git("add", "a.txt")
    if not hashed:
        without_checksum(index)
    before = index.read_bytes()
    backend.staged_tree(real.path)
    (root / "a.txt").write_text("2\n")
    real.git("add", "a.txt")
    if not hashed:
        without_checksum(index)
    other, tree = index.read_bytes(), real.git("write-tree")
    assert len(other) == len(before)
    assert other != before
    index.unlink()
    index.write_bytes(before)
    backend.staged_tree(real.path)
    replace(index, other)
    assert backend.staged_tree(real.path) == tree
    (root / "new.txt").write_text("new\n")
    backend.stage(real.path, ["new.txt"])
    assert real.git("show", ":a.txt") == "2"
    assert real.git("show", ":new.txt") == "new"


def test_an_index_that_is_gone_is_empty(backend, real):
    """Without an index nothing is staged, though libgit2 remembers one."""
    backend.staged_tree(real.path)
    Path(real.git_dir, "index").unlink()
    assert backend.staged_tree(real.path) == Oid(real.git("hash-object", "-t", "tree", "/dev/null"))


def test_a_staging_that_fails_leaves_nothing_behind(backend, real):
    """Of several paths one cannot be staged: the next commit has none of them, nor has the index on disk."""
    Path(real.path, "good.txt").write_text("good\n")
    before = real.git("write-tree")
    with pytest.raises(GitOperationError):
        backend.stage(real.path, ["good.txt", "missing.txt"])
    assert backend.staged_tree(real.path) == before
    assert real.git("ls-files", "good.txt") == ""


def test_a_write_that_fails_leaves_nothing_behind(backend, real):
    """Somebody holds the lock of the index: what was to be staged is in no later commit."""
    Path(real.path, "good.txt").write_text("good\n")
    before, lock = real.git("write-tree"), Path(real.git_dir, "index.lock")
    lock.touch()
    with pytest.raises(GitOperationError):
        backend.stage(real.path, ["good.txt"])
    lock.unlink()
    assert backend.staged_tree(real.path) == before
