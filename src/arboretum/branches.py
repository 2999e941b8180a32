"""Branches and tags: collections over the ref store."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

from attrs import define, frozen

from arboretum.errors import (
    BranchCheckedOutError,
    BranchNotMergedError,
    GitOperationError,
    InvalidValueError,
    RefExistsError,
    RefNotFoundError,
)
from arboretum.values import Oid, RefName

if TYPE_CHECKING:
    from arboretum.repository import Repository


#: The lock of the common git directory that is held around changes of the set of worktrees.
WORKTREES_LOCK: Final = "worktrees"
# What a deleted branch leaves in the configuration.
_BRANCH_KEYS: Final = ("remote", "merge", "pushRemote", "rebase", "description")


@frozen
class Branch:
    """A local branch as it was when it was looked at."""

    name: str
    oid: Oid

    @property
    def ref(self) -> RefName:
        """Its full name."""
        return RefName.branch(self.name)


@define(eq=False)
class Branches:
    """The local branches of a repository, by name."""

    _repository: Repository

    def __iter__(self) -> Iterator[Branch]:
        for ref in self._repository.backend.list_refs("refs/heads/"):
            yield Branch(ref.name.removeprefix("refs/heads/"), ref.oid)

    def __contains__(self, name: object) -> bool:
        try:
            return isinstance(name, str) and self._find(name) is not None
        except InvalidValueError:  # HEAD~1 is a revision, but no name that a branch could have
            return False

    def __getitem__(self, name: str) -> Branch:
        return self.get(name)

    def get(self, name: str) -> Branch:
        """The branch `name`.

        Raises:
            RefNotFoundError: There is none.
        """
        oid = self._find(name)
        if oid is None:
            raise RefNotFoundError(f"there is no branch {name!r}", operation="read_ref")
        return Branch(name, oid)

    def _find(self, name: str) -> Oid | None:
        ref = self._repository.backend.read_ref(RefName.branch(name))
        return ref.oid if ref is not None else None

    def create(self, name: str, start: str = "HEAD", *, upstream: str | None = None) -> Branch:
        """Make a branch at `start`, by compare-and-set from nothing.

        Raises:
            RefExistsError: There is one of that name (or one that it would be a folder of).
            RevisionNotFoundError: `start` names no commit.
            InvalidValueError: git would refuse the name.
        """
        ref, oid = RefName.branch(name), self._repository.resolve(start)
        self._repository.backend.update_ref(ref, oid, None, message=f"branch: Created from {start}")
        if upstream is not None:
            try:
                self.set_upstream(name, upstream)
            except GitOperationError:
                self._repository.backend.update_ref(ref, None, oid)
                raise
        return Branch(name, oid)

    def delete(self, name: str, *, force: bool = False) -> Branch:
        """Delete a branch, by compare-and-set from the value that was judged.

        Args:
            name: The branch.
            force: Delete it although it holds commits that neither its upstream nor HEAD has.

        Returns:
            The branch as it was, so that it can be made again.

        Raises:
            RefNotFoundError: There is none.
            BranchCheckedOutError: A worktree is on it.
            BranchNotMergedError: It is not merged and `force` was not given.
        """
        branch, backend = self.get(name), self._repository.backend
        if not force and not self._is_merged(branch):
            raise BranchNotMergedError(
                f"branch {name!r} at {branch.oid.short} is not merged into its upstream or HEAD",
                operation="update_ref",
                hint="merge it first, or delete it with force",
            )
        with self._still():  # no worktree may take the branch between the look and the act
            for tree in backend.list_worktrees():
                if tree.branch == branch.ref:
                    raise BranchCheckedOutError(
                        f"branch {name!r} is checked out in {tree.path}",
                        operation="update_ref",
                        hint="switch that worktree to another branch, or remove it",
                    )
            backend.update_ref(branch.ref, None, branch.oid)
        for key in _BRANCH_KEYS:
            if backend.get_config(f"branch.{name}.{key}"):
                backend.set_config(f"branch.{name}.{key}", None)
        return branch

    def _still(self) -> contextlib.AbstractContextManager[None]:
        """Holds the set of worktrees still; a repository that is not on a disk has nobody else at work on it."""
        on_disk = os.path.isdir(self._repository.common_dir)
        return self._repository.lock(WORKTREES_LOCK) if on_disk else contextlib.nullcontext()

    def _is_merged(self, branch: Branch) -> bool:
        backend = self._repository.backend
        upstream = self._upstream_ref(branch.name)
        onto = backend.read_ref(upstream) if upstream is not None else None
        target = onto.oid if onto is not None else self._repository.head.oid
        return target is not None and backend.merge_base(branch.oid, target) == branch.oid

    def rename(self, old: str, new: str) -> Branch:
        """Rename a branch, with its reflog, its configuration and the HEADs of the worktrees that are on it.

        Raises:
            RefNotFoundError: There is no branch `old`.
            RefExistsError: There is a branch `new`.
        """
        branch = self.get(old)
        if new in self:
            raise RefExistsError(f"there is a branch {new!r} already", operation="rename_branch")
        self._repository.backend.rename_branch(branch.ref, RefName.branch(new))
        return Branch(new, branch.oid)

    def upstream(self, name: str) -> str | None:
        """What the branch follows (``origin/main``, or ``main`` for a local one); None if it follows nothing."""
        ref = self._upstream_ref(name)
        return ref.short if ref is not None else None

    def _upstream_ref(self, name: str) -> RefName | None:
        remote, merge = (self._repository.get_config(f"branch.{name}.{key}") for key in ("remote", "merge"))
        if remote is None or merge is None:
            return None
        branch = merge.removeprefix("refs/heads/")
        return RefName.branch(branch) if remote == "." else RefName(f"refs/remotes/{remote}/{branch}")

    def set_upstream(self, name: str, upstream: str | None) -> None:
        """Let branch `name` follow ``remote/branch`` or a local branch; None lets it follow nothing.

        Raises:
            RefNotFoundError: There is no such branch, here or at the remote as last fetched.
        """
        self.get(name)
        backend = self._repository.backend
        if upstream is None:
            remote = merge = None
        elif upstream in self:
            remote, merge = ".", RefName.branch(upstream)
        else:
            remote, _, branch = upstream.partition("/")
            if not branch or backend.read_ref(RefName(f"refs/remotes/{upstream}")) is None:
                raise RefNotFoundError(
                    f"there is no branch {upstream!r} to follow", operation="read_ref", hint="fetch it first"
                )
            merge = RefName.branch(branch)
        backend.set_config(f"branch.{name}.remote", remote)
        backend.set_config(f"branch.{name}.merge", merge)


@define(eq=False)
class Tags:
    """The tags of a repository, by name; each stands for the commit that it names in the end."""

    _repository: Repository

    def __iter__(self) -> Iterator[str]:
        for ref in self._repository.backend.list_refs("refs/tags/"):
            yield ref.name.short

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._repository.backend.read_ref(RefName.tag(name)) is not None

    def get(self, name: str) -> Oid:
        """The commit of tag `name`.

        Raises:
            RefNotFoundError: There is none.
        """
        if name not in self:
            raise RefNotFoundError(f"there is no tag {name!r}", operation="read_ref")
        return self._repository.resolve(RefName.tag(name))

    def create(self, name: str, target: str = "HEAD") -> Oid:
        """Make a lightweight tag at `target`.

        Raises:
            RefExistsError: There is one already.
        """
        oid = self._repository.resolve(target)
        self._repository.backend.update_ref(RefName.tag(name), oid, None)
        return oid

    def delete(self, name: str) -> None:
        """Delete a tag.

        Raises:
            RefNotFoundError: There is none.
        """
        ref = self._repository.backend.read_ref(RefName.tag(name))
        if ref is None:
            raise RefNotFoundError(f"there is no tag {name!r}", operation="read_ref")
        self._repository.backend.update_ref(ref.name, None, ref.oid)
