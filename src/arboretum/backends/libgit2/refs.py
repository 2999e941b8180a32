"""Refs, HEAD and configuration through libgit2."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final, TypeVar

import pygit2

from arboretum.backends.admin_records import AdminRecords
from arboretum.backends.atomic_files import write_text
from arboretum.backends.base import Expected
from arboretum.backends.identity import identity
from arboretum.backends.libgit2.configuration import Settings, write_value
from arboretum.backends.libgit2.faults import NATIVE_ERRORS, operation, translated
from arboretum.backends.libgit2.gate import refuse_hooks
from arboretum.backends.libgit2.session import Session
from arboretum.backends.ref_files import RefFiles
from arboretum.errors import (
    GitOperationError,
    IdentityMissingError,
    ObjectMissingError,
    RefChangedError,
    RefExistsError,
    RefLockedError,
    RefNotFoundError,
    RepositoryBusyError,
)
from arboretum.values import Head, Oid, Ref, RefName, Signature

_T = TypeVar("_T")
_LONGEST_CHAIN: Final = 5  # how many symbolic refs git follows in a row (SYMREF_MAXDEPTH)
#: How long git waits for the lock of a ref by default (core.filesRefLockTimeout), in seconds.
_REF_LOCK_TIMEOUT: Final = 0.1
_CONFIG_LOCK_TIMEOUT: Final = 1.0


def patiently(action: Callable[[], _T], seconds: float) -> _T:
    """`action`, tried again while another program holds a lock, for `seconds` at most."""
    end, pause = time.monotonic() + seconds, 0.001
    while True:
        try:
            return action()
        except (RefLockedError, RepositoryBusyError):
            if time.monotonic() + pause > end:
                raise
            time.sleep(pause)
            pause *= 2


def follow(repository: pygit2.Repository, name: str) -> tuple[str, str | None]:
    """The ref that `name` stands for after all symbolic ones, and the id it holds (None: it does not exist)."""
    for _ in range(_LONGEST_CHAIN):
        try:
            reference = repository.lookup_reference(name)
        except KeyError:
            return name, None
        target = reference.raw_target
        if isinstance(target, pygit2.Oid):
            return name, str(target)
        name = target.decode("utf-8", "surrogateescape")
    raise GitOperationError(f"{name} is a chain of symbolic refs without an end")


def head_of(repository: pygit2.Repository) -> Head:
    """Where the worktree of `repository` stands."""
    try:
        return born_head(repository)
    except NATIVE_ERRORS:  # unborn, or odd: asked step by step, so that it is told as everywhere
        name, oid = follow(repository, "HEAD")
        if name == "HEAD" and oid is None:
            raise GitOperationError(f"{repository.path} has no HEAD that can be read") from None
    return Head(None if name == "HEAD" else RefName(name), None if oid is None else Oid.known(oid))


def born_head(repository: pygit2.Repository) -> Head:
    """The same in one call, for a HEAD that leads to a commit. Raises an error of libgit2 for any other."""
    final = repository.head
    name = final.raw_name.decode("utf-8", "surrogateescape")
    return Head(None if name == "HEAD" else RefName(name), Oid.known(final.target))


def committer_of(repository: pygit2.Repository) -> Signature:
    """Who is at work, for reflogs; a stand-in where nobody is configured: a reflog is no reason to refuse."""
    try:
        return identity("committer", os.environ, Settings.of(repository).all)
    except IdentityMissingError:
        return Signature.now("arboretum", "arboretum@localhost")


def sign_reflogs(repository: pygit2.Repository, who: Signature | None = None) -> None:
    """Let the reflog entries that follow be written in the name of the committer (None: of the one at work)."""
    who = who or committer_of(repository)
    repository.set_ident(who.name, who.email)


def move_ref(repository: pygit2.Repository, name: str, new: str, old: str | None, message: str) -> None:
    """Set the ref, whose value was `old` (None: it did not exist), by compare-and-set.

    Raises:
        RefChangedError, RefExistsError, RefLockedError: See the port.
    """

    def move() -> None:
        with translated("update_ref", subject=name):
            if old is None:
                repository.create_reference_direct(name, pygit2.Oid(hex=new), False, message)
                return
            reference = _direct(repository, name, old)
            if old != new:
                reference.set_target(pygit2.Oid(hex=new), message)

    patiently(move, _REF_LOCK_TIMEOUT)


def _direct(repository: pygit2.Repository, name: str, old: str) -> pygit2.Reference:
    """The ref, as it was read to have the value `old`; what libgit2 changes then, it compares under the lock."""
    try:
        reference = repository.lookup_reference(name)
    except KeyError as error:
        raise RefChangedError(f"{name} does not exist any more; {old} was expected") from error
    if str(reference.target) != old:
        raise RefChangedError(f"{name} is at {reference.target}; {old} was expected")
    return reference


def refuse_collision(repository: pygit2.Repository, new: RefName, *, but: RefName | None = None) -> None:
    """Raise RefExistsError when `new` is taken, or is a folder of another ref (than `but`) or the other way round."""
    for raw in repository.raw_listall_references():
        name = raw.decode("utf-8", "surrogateescape")
        if name != but and new.collides_with(name):
            raise RefExistsError(f"there is a branch {RefName(name).short!r} already")


class Refs(Session):
    """The `RefStore` of libgit2."""

    @operation
    def read_ref(self, name: RefName, *, worktree: str | None = None) -> Ref | None:
        final, oid = follow(self.handles.at(worktree), name)
        if oid is None:
            return None
        return Ref(name, Oid(oid), None if final == name else RefName(final))

    @operation
    def list_refs(self, prefix: str = "refs/") -> tuple[Ref, ...]:
        self.handles.main()  # is the repository still there?
        return self.handles.refs.listed(prefix, git_dir=self.handles.layout.git_dir)

    @operation
    def update_ref(self, name: RefName, new: Oid | None, expected: Expected, *, message: str = "") -> None:
        repository = self.handles.main()
        refuse_hooks(Settings.of(repository), self.handles.layout.common_dir, "update_ref", "reference-transaction")
        final, old = follow(repository, name)
        if isinstance(expected, str) and old != expected:
            raise RefChangedError(f"{name} is at {old or 'nothing'}; {expected} was expected")
        if expected is None and old is not None:
            raise RefExistsError(f"{name} exists already, at {old}")
        if new is None:
            if old is None:
                raise RefNotFoundError(f"there is no ref {name}")
            self._delete(repository, final, old)
            return
        self._check_target(repository, RefName(final), new)
        sign_reflogs(repository)
        move_ref(repository, final, new, old, message)

    @staticmethod
    def _check_target(repository: pygit2.Repository, name: RefName, new: Oid) -> None:
        found = repository.get(new)
        if found is None:
            raise ObjectMissingError(f"{name} cannot be set to {new}: it is not in this repository")
        if name.is_branch and not isinstance(found, pygit2.Commit):
            raise GitOperationError(f"{name} cannot be set to {new}: a branch names a commit, not a {found.type_str}")

    @staticmethod
    def _delete(repository: pygit2.Repository, name: str, old: str) -> None:
        def delete() -> None:
            with translated("update_ref", subject=name):
                _direct(repository, name, old).delete()

        patiently(delete, _REF_LOCK_TIMEOUT)

    @operation
    def rename_branch(self, old: RefName, new: RefName) -> None:
        repository = self.handles.main()
        refuse_hooks(Settings.of(repository), self.handles.layout.common_dir, "rename_branch", "reference-transaction")
        if follow(repository, old)[1] is None:
            raise RefNotFoundError(f"there is no branch {old.short!r}")
        if old == new:
            return
        refuse_collision(repository, new, but=old)  # libgit2 notices only when it has deleted the old ref
        sign_reflogs(repository)
        with self.lock():
            patiently(lambda: self._rename(repository, old, new), _REF_LOCK_TIMEOUT)
            self._take_along(old, new)

    @staticmethod
    def _rename(repository: pygit2.Repository, old: RefName, new: RefName) -> None:
        with translated("rename_branch", subject=f"{old.short} to {new.short}"):
            repository.branches.local[old.short].rename(new.short)

    def _take_along(self, old: RefName, new: RefName) -> None:
        """Let the HEADs that are still at `old` follow: libgit2 passes over worktrees whose folders are gone."""
        common_dir = self.handles.layout.common_dir
        for record in AdminRecords(common_dir, None, RefFiles(common_dir).find).records():
            if record.head == old:
                write_text(os.path.join(record.folder, "HEAD"), f"ref: {new}\n")

    @operation
    def get_config(self, key: str, *, worktree: str | None = None) -> tuple[str, ...]:
        return Settings.of(self.handles.at(worktree)).all(key)

    @operation
    def set_config(self, key: str, value: str | None) -> None:
        def write() -> None:
            with translated("set_config", subject=key):
                write_value(self.handles.layout.common_dir, key, value)

        with self.lock():
            patiently(write, _CONFIG_LOCK_TIMEOUT)
