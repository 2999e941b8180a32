"""A repository on a host that has none: a bare mirror, filled by packs that hold only what it lacks."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from attrs import define

from arboretum.backends.git_command import git_environment, run_process
from arboretum.errors import ExecutorError, ObjectMissingError
from arboretum.repository import Repository
from arboretum.values import Oid, RefName

#: Where a mirror keeps what it was sent, so that no housekeeping drops it.
KEPT: Final = "refs/arboretum/mirror/"
#: How many commits the other side is told of, newest first: enough to cut a thin pack.
MOST_TIPS: Final = 64


@define(eq=False)
class Mirror:
    """A bare repository of one host, shared by all its workers.

    Args:
        path: Its folder.
    """

    path: str

    def open(self, *, sha256: bool) -> Repository:
        """The repository, made if it is not there; several processes may ask at once."""
        from filelock import FileLock

        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with FileLock(f"{self.path}.lock", thread_local=False):
            if not os.path.isfile(os.path.join(self.path, "HEAD")):
                kind = ["--object-format=sha256"] if sha256 else []
                run_git(["init", "--quiet", "--bare", *kind, self.path], os.path.dirname(self.path))
        return Repository.open(self.path)

    def tips(self, repository: Repository) -> tuple[Oid, ...]:
        """Commits that the mirror has with all they reach."""
        return tuple(ref.oid for ref in repository.refs(KEPT))[-MOST_TIPS:]

    def has(self, repository: Repository, commit: Oid) -> bool:
        """Whether the mirror has `commit` with all it reaches."""
        if repository.backend.read_ref(keeper(commit)) is not None:
            return True
        if not is_here(repository, commit):
            return False
        return any(repository.backend.merge_base(commit, tip) == commit for tip in self.tips(repository))

    def take(self, pack: bytes, commit: Oid) -> None:
        """Take in a pack that makes `commit` whole.

        Raises:
            ExecutorError: git does not accept it (a full disk, a missing base).
        """
        if pack:
            run_git(["-C", self.path, "index-pack", "--stdin", "--fix-thin"], self.path, stdin=pack)
        with Repository.open(self.path) as repository:
            repository.update_ref(keeper(commit), commit, message="sent by a run")


def keeper(commit: Oid) -> RefName:
    """The ref that keeps `commit` in a mirror."""
    return RefName(f"{KEPT}{commit}")


def make_pack(repository: Repository, commit: Oid, known: Sequence[Oid]) -> bytes:
    """A thin pack of `commit` without what the commits `known` reach (those that this repository has).

    The repository is only read: unlike a bundle, a pack needs no ref.

    Raises:
        ExecutorError: git cannot make it.
    """
    excluded = [f"^{oid}" for oid in known if oid != commit and is_here(repository, oid)]
    revisions = "\n".join([commit, *excluded]) + "\n"
    argv = ["-C", repository.git_dir, "pack-objects", "--revs", "--thin", "--stdout", "--quiet", "--delta-base-offset"]
    return run_git(argv, repository.common_dir, stdin=revisions.encode())


def is_here(repository: Repository, oid: Oid) -> bool:
    """Whether the commit `oid` is in the repository."""
    try:
        repository.backend.read_commit(oid)
    except ObjectMissingError:
        return False
    return True


def run_git(arguments: Sequence[str], cwd: str, *, stdin: bytes = b"") -> bytes:
    """Run git and return its output.

    Raises:
        ExecutorError: It failed; with its words.
    """
    done = run_process(["git", *arguments], cwd=cwd, env=git_environment(), stdin=stdin)
    if done.code != 0:
        said = done.said.strip() or f"exit code {done.code}"
        raise ExecutorError(f"git {arguments[2] if len(arguments) > 2 else ''} failed: {said}", hint="check the disk")
    return done.stdout
