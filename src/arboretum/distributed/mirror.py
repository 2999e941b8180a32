"""A repository on a host that has none: a bare mirror, filled by packs that hold only what it lacks."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Final

from attrs import define, field

from arboretum.backends.git_command import git_environment, run_process
from arboretum.errors import ExecutorError, ObjectMissingError, RefChangedError, RefNotFoundError
from arboretum.repository import Repository
from arboretum.values import Oid, RefName

#: Where a mirror keeps what it was sent, so that no housekeeping drops it.
KEPT: Final = "refs/arboretum/mirror/"
#: How many commits the other side is told of: enough to cut a thin pack.
MOST_TIPS: Final = 64


@define(eq=False)
class Mirror:
    """A bare repository of one host, shared by all its workers.

    Args:
        path: Its folder.
        sha256: Whether its ids have 64 digits.
    """

    path: str
    sha256: bool = False
    _repository: Repository | None = field(default=None, init=False, repr=False)
    _whole: set[Oid] = field(factory=set, init=False, repr=False)
    _guard: threading.RLock = field(factory=threading.RLock, init=False, repr=False)

    @property
    def repository(self) -> Repository:
        """The repository, made if it is not there; several threads and processes may ask at once.

        Raises:
            ExecutorError: It cannot be made.
        """
        with self._guard:
            if self._repository is None or not os.path.isfile(os.path.join(self.path, "HEAD")):
                self._whole.clear()
                self._make()
                self._repository = Repository.open(self.path)
            return self._repository

    def _make(self) -> None:
        from filelock import FileLock

        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        with FileLock(f"{self.path}.lock", thread_local=False):
            if not os.path.isfile(os.path.join(self.path, "HEAD")):
                kind = ["--object-format=sha256"] if self.sha256 else []
                run_git(["init", "--quiet", "--bare", *kind, self.path], os.path.dirname(self.path))

    def tips(self) -> tuple[Oid, ...]:
        """Commits that the mirror has with all they reach."""
        return tuple(ref.oid for ref in self.repository.refs(KEPT))[-MOST_TIPS:]

    def has(self, commit: Oid) -> bool:
        """Whether the mirror has `commit` with all it reaches."""
        repository = self.repository
        if commit not in self._whole and self._looks_whole(repository, commit):
            self._whole.add(commit)
        return commit in self._whole

    def _looks_whole(self, repository: Repository, commit: Oid) -> bool:
        if repository.backend.read_ref(keeper(commit)) is not None:
            return True
        if not is_here(repository, commit):
            return False
        return any(repository.backend.merge_base(commit, tip) == commit for tip in self.tips())

    def take(self, pack: bytes, commits: Sequence[Oid]) -> None:
        """Take in a pack that makes `commits` whole.

        Raises:
            ExecutorError: git does not accept it (a full disk, a missing base).
        """
        repository = self.repository
        before = repository.refs(KEPT)
        if pack:
            take_pack(repository, pack)
        for commit in commits:
            repository.update_ref(keeper(commit), commit, message="sent by a run")
            self._whole.add(commit)
        for ref in before:  # what a newer one reaches needs no keeper: what is told of the tips stays short
            if any(ref.oid != c and repository.backend.merge_base(ref.oid, c) == ref.oid for c in commits):
                with contextlib.suppress(RefChangedError, RefNotFoundError):
                    repository.update_ref(ref.name, None, ref.oid)

    def distrust(self) -> None:
        """Look anew at what is there: something has failed."""
        self._whole.clear()


def keeper(commit: Oid) -> RefName:
    """The ref that keeps `commit` in a mirror."""
    return RefName(f"{KEPT}{commit}")


def make_pack(repository: Repository, commits: Sequence[Oid], known: Sequence[Oid]) -> bytes:
    """A thin pack of `commits` without what the commits `known` reach (those that this repository has).

    The repository is only read: unlike a bundle, a pack needs no ref.

    Raises:
        ExecutorError: git cannot make it.
    """
    excluded = [f"^{oid}" for oid in known if oid not in commits and is_here(repository, oid)]
    revisions = "\n".join([*commits, *excluded]) + "\n"
    argv = ["-C", repository.git_dir, "pack-objects", "--revs", "--thin", "--stdout", "--quiet", "--delta-base-offset"]
    return run_git(argv, repository.common_dir, stdin=revisions.encode())


def take_pack(repository: Repository, pack: bytes) -> None:
    """Put the objects of a thin pack into a repository; no ref is made.

    Raises:
        ExecutorError: git does not accept it (a full disk, a missing base).
    """
    run_git(["-C", repository.git_dir, "index-pack", "--stdin", "--fix-thin"], repository.common_dir, stdin=pack)


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
