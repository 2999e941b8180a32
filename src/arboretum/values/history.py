"""What a history is made of: commits, who made them, refs, where HEAD stands, stashes, merges, walks."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from attrs import field, frozen

from arboretum.errors import InvalidValueError
from arboretum.moments import moment, parse_offset
from arboretum.values.names import Oid, RefName

#: The name ends at the first bracket, the address at the next one, the date begins after the last one.
_IDENTITY: Final = re.compile(r"([^<]*)<([^>]*)>(?:.*>)?\s*(?:(-?[0-9]+)(?: +([+-][0-9]+))?)?", re.DOTALL)


@frozen
class Signature:
    """Who did something and when: the author or committer of a commit.

    Args:
        name: The name.
        email: The e-mail address, without angle brackets.
        when: The moment, with its offset from UTC. Git keeps whole seconds.
    """

    name: str
    email: str
    when: dt.datetime = field()

    @when.validator
    def _check_when(self, _attribute: object, value: dt.datetime) -> None:
        if value.tzinfo is None:
            raise InvalidValueError("a signature needs a moment with an offset from UTC")

    @classmethod
    def parse(cls, text: str) -> Self:
        """What git reads from ``Name <address> seconds offset``.

        Broken ones, which old histories have, are read as far as git reads them, and never refused: without brackets
        nobody is named, without a date it is the epoch.
        """
        match = _IDENTITY.match(text)
        if match is None:
            return cls("", "", moment(0, 0))
        name, email, seconds, offset = match.groups()
        return cls(name.rstrip(), email, moment(int(seconds or 0), parse_offset(offset or "+0000")))

    @classmethod
    def now(cls, name: str, email: str) -> Self:
        """A signature of this moment, in UTC."""
        return cls(name, email, dt.datetime.now(dt.UTC).replace(microsecond=0))


_Told = TypeVar("_Told")


class _Deferred:
    """Signatures that are made when somebody asks for them: most of the work of a walk, and seldom looked at."""

    __slots__ = ("_author", "_committer", "_sign")
    _sign: Callable[[Any], Signature]
    _author: Any
    _committer: Any

    if not TYPE_CHECKING:  # a type checker shall go on knowing which attributes there are

        def __getattr__(self, name: str) -> Signature:
            if name == "author":
                value = self._sign(self._author)
            elif name == "committer":
                value = self.author if self._committer == self._author else self._sign(self._committer)
            else:
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}", name=name, obj=self)
            object.__setattr__(self, name, value)  # the value does not change, it is only kept
            return value


@frozen
class Commit(_Deferred):
    """A commit: its tree, its parents, who, when and why."""

    oid: Oid
    tree: Oid
    parents: tuple[Oid, ...]
    author: Signature
    committer: Signature
    message: str

    @classmethod
    def told(
        cls, oid: Oid, tree: Oid, parents: tuple[Oid, ...], message: str, *,
        sign: Callable[[_Told], Signature], author: _Told, committer: _Told,
    ) -> Self:  # fmt: skip
        """A commit whose signatures are made when they are first looked at; it is the same value.

        Args:
            oid: Its id.
            tree: Its tree.
            parents: Its parents.
            message: Why.
            sign: Makes a signature; it must never fail, and need nothing but what it is given.
            author: What it is given for the author; best text or an exact tuple, which cost the collector nothing.
            committer: The same for the committer.
        """
        commit = cls.__new__(cls)
        put = object.__setattr__
        put(commit, "oid", oid)
        put(commit, "tree", tree)
        put(commit, "parents", parents)
        put(commit, "message", message)
        put(commit, "_sign", sign)
        put(commit, "_author", author)
        put(commit, "_committer", committer)
        return commit

    @property
    def subject(self) -> str:
        """The first line of the message."""
        return self.message.split("\n", 1)[0]


@frozen
class Ref:
    """A ref and the object it names (for a symbolic ref: `target` is the ref it stands for)."""

    name: RefName
    oid: Oid
    target: RefName | None = None


@frozen
class Head:
    """Where a worktree stands: on a branch, detached at a commit, or on a branch that has no commit yet."""

    branch: RefName | None
    oid: Oid | None

    @property
    def is_detached(self) -> bool:
        """Whether HEAD names a commit and no branch."""
        return self.branch is None

    @property
    def is_unborn(self) -> bool:
        """Whether the branch has no commit yet."""
        return self.oid is None


@frozen
class StashEntry:
    """One stash: the id of its commit is its name; its position is not kept, because others move it."""

    oid: Oid
    message: str
    branch: str | None = None


@frozen
class MergeOutcome:
    """The result of a merge in memory: a tree, or the conflicts; nothing was touched.

    Args:
        tree: The merged tree; None when there are conflicts.
        conflicts: The conflicting paths, sorted.
    """

    tree: Oid | None
    conflicts: tuple[str, ...] = ()

    @property
    def is_clean(self) -> bool:
        """Whether the merge has no conflict."""
        return self.tree is not None


@frozen
class LogQuery:
    """Which commits to walk, newest first, parents after children.

    Args:
        include: Walk from these commits.
        exclude: Leave out these commits and all that they reach.
        first_parent: Follow only first parents.
        paths: Only commits that touch these paths (simplified history, as git log does).
        limit: At most so many commits; None for all.
        topological: Never show a parent before all of its children.
    """

    include: tuple[Oid, ...]
    exclude: tuple[Oid, ...] = ()
    first_parent: bool = False
    paths: tuple[str, ...] = ()
    limit: int | None = None
    topological: bool = False
