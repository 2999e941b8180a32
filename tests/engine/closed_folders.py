"""Run by a test: a trial closes folders and files, and the slot is reset by a user who is not all-powerful."""

import ctypes
import os
import sys

from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

PR_CAPBSET_DROP, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH = 24, 1, 2


def become_ordinary() -> None:
    """Give up root's right to go past the rights of files, for this process and its children."""
    if os.geteuid() == 0 and "ORDINARY" not in os.environ:
        libc = ctypes.CDLL(None)
        for capability in (CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH):
            assert libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, "ORDINARY": "1"})


def can_read_what_is_closed(folder: str) -> bool:
    path = f"{folder}/closed"
    with open(path, "w", encoding="ascii"):
        os.chmod(path, 0)
    return os.access(path, os.R_OK, effective_ids=True)


def main() -> None:
    builder = RepositoryBuilder.init(f"{sys.argv[1]}/project")
    one, two = builder.commits(
        [CommitSpec({"a": "1\n", "d/b": "b\n", ".gitignore": "build/\n"}), CommitSpec({"a": "2\n", "d/b": None})]
    )
    assert not can_read_what_is_closed(sys.argv[1])
    pool = WorktreePool.open(Repository.open(builder.path), size=1)
    for fresh in (False, True):
        lease = pool.try_acquire(Want(commit=one))
        for name in ("shut/deep/er", "build/deep"):
            os.makedirs(f"{lease.path}/{name}", exist_ok=True)
            with open(f"{lease.path}/{name}/file", "w", encoding="ascii") as file:
                file.write("x")
        for name in ("shut/deep/er/file", "shut/deep/er", "shut/deep", "shut", "d", "a", "build/deep"):
            os.chmod(f"{lease.path}/{name}", 0)
        pool.release(lease)
        lease = pool.try_acquire(Want(commit=two), fresh=fresh)
        found = sorted(os.listdir(lease.path))
        assert found == [".git", ".gitignore", "a"] + ([] if fresh else ["build"]), (fresh, found)
        with open(f"{lease.path}/a", encoding="ascii") as file:
            assert file.read() == "2\n"
        path = lease.path
        pool.release(lease)
    os.makedirs(f"{path}/shut/deep")
    os.chmod(f"{path}/shut", 0)
    pool.clean()
    assert pool.check() == (), pool.check()
    assert os.listdir(f"{pool.root}/slots") == []


become_ordinary()
main()
