"""What people write to name a commit, worked out over the refs and objects of an in-memory repository.

The grammar is that of gitrevisions(7), as far as it names commits and needs no clock: ids and their
prefixes, refs by git's order of places, ``@``, ``~n``, ``^n``, ``^{commit}``, ``^{}``, ``^{/text}``,
``:/text``, ``@{n}``, ``@{-n}`` and ``@{upstream}``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from attrs import define

from arboretum.backends.memory import graph
from arboretum.backends.memory.objects import ObjectStore
from arboretum.backends.memory.refs import LogEntry
from arboretum.errors import InvalidValueError, ObjectMissingError, RevisionNotFoundError, UnbornHeadError
from arboretum.values import Head, Oid, RefName, Revision

_PLACES = ("{}", "refs/{}", "refs/tags/{}", "refs/heads/{}", "refs/remotes/{}", "refs/remotes/{}/HEAD")
_HEX = re.compile(r"[0-9a-fA-F]{4,64}\Z")
_STEP = re.compile(r"~(\d*)|\^(\d+)|\^\{([^}]*)\}|\^")
_AT = re.compile(r"(.*?)@\{([^}]*)\}")
_SWITCH = re.compile(r"checkout: moving from (\S+) to \S+\Z")


@define(eq=False)
class RevisionParser:
    """Finds the commit that a revision names, as seen from one worktree.

    Args:
        store: The objects.
        head: Where the worktree stands.
        oid_of: Gives the object of a ref, or None.
        log_of: Gives the reflog of a ref, oldest first.
        upstream_of: Gives the upstream of a branch, or None.
        tips: Gives all commits that refs name, for ``:/text``.
    """

    store: ObjectStore
    head: Head
    oid_of: Callable[[RefName], Oid | None]
    log_of: Callable[[RefName], list[LogEntry]]
    upstream_of: Callable[[RefName], RefName | None]
    tips: Callable[[], Iterable[Oid]]

    def resolve(self, revision: Revision) -> Oid:
        """The commit.

        Raises:
            RevisionNotFoundError: It names none.
            UnbornHeadError: It starts at HEAD, which has no commit.
            ObjectMissingError: A ref names an object that is not there.
        """
        oid = self._search(revision, str(revision)[2:]) if revision.startswith(":/") else self._walk(revision)
        kind = self.store.kind(oid)
        if kind is None:
            raise ObjectMissingError(f"{str(revision)!r} names {oid}, which is not there", operation="resolve")
        if kind != "commit":
            raise RevisionNotFoundError(f"{str(revision)!r} names a {kind} and no commit", operation="resolve")
        return oid

    def _walk(self, revision: Revision) -> Oid:
        base = re.split(r"[~^]", revision, maxsplit=1)[0]
        oid = self._base(base, revision)
        at = len(base)
        while at < len(revision):
            step = _STEP.match(revision, at)
            if step is None:
                raise self._unknown(revision)
            oid, at = self._step(oid, step, revision), step.end()
        return oid

    def _unknown(self, revision: str) -> RevisionNotFoundError:
        return RevisionNotFoundError(
            f"{str(revision)!r} names no commit of this repository", operation="resolve",
            hint="list the branches and tags to see what there is",
        )  # fmt: skip

    def _step(self, oid: Oid, step: re.Match[str], revision: Revision) -> Oid:
        if step[3] is not None:
            if step[3].startswith("/"):
                return self._search(revision, step[3][1:], [oid])
            if step[3] not in {"", "commit", "object"}:
                raise self._unknown(revision)
            return oid
        if step[0].startswith("~"):
            for _ in range(int(step[1] or 1)):
                oid = self._parent(oid, 1, revision)
            return oid
        return self._parent(oid, int(step[2] or 1), revision)

    def _parent(self, oid: Oid, number: int, revision: Revision) -> Oid:
        if self.store.kind(oid) not in {"commit", None}:
            raise self._unknown(revision)
        parents = self.store.commit(oid).parents
        if number == 0:
            return oid
        if number > len(parents):
            raise self._unknown(revision)
        return parents[number - 1]

    def _search(self, revision: Revision, text: str, starts: Iterable[Oid] | None = None) -> Oid:
        tips = list(self.tips() if starts is None else starts)
        try:
            pattern = re.compile(text)
        except re.error as error:
            raise self._unknown(revision) from error
        for commit in graph.by_date(self.store.commit, tips, set(), lambda c: c.parents):
            if pattern.search(commit.message):
                return commit.oid
        raise self._unknown(revision)

    def _base(self, text: str, revision: Revision) -> Oid:
        at = _AT.fullmatch(text)
        if at is not None:
            return self._from_log(at[1], at[2], revision)
        if text in {"@", "HEAD"}:
            if self.head.oid is None:
                raise UnbornHeadError(
                    f"HEAD is on {self.head.branch}, which has no commit yet", operation="resolve",
                    hint="make a first commit",
                )  # fmt: skip
            return self.head.oid
        ref = self._ref(text)
        if len(text) == (64 if self.store.sha256 else 40) and _HEX.match(text):
            return Oid(text.lower())
        oid = self.oid_of(ref) if ref else None
        if oid is not None:
            return oid
        found = self.store.ids(text.lower()) if _HEX.match(text) else []
        commits = [oid for oid in found if self.store.kind(oid) == "commit"]
        if len(found) == 1 or len(commits) == 1:
            return (commits or found)[0]
        if found:
            raise RevisionNotFoundError(
                f"{text!r} is short for {len(found)} objects", operation="resolve", hint="write more of the id"
            )
        raise self._unknown(revision)

    def _ref(self, text: str) -> RefName | None:
        """The ref that a short name stands for, by git's order of places."""
        for place in _PLACES:
            try:
                name = RefName(place.format(text))
            except InvalidValueError:
                continue
            if self.oid_of(name) is not None:
                return name
        return None

    def _from_log(self, name: str, what: str, revision: Revision) -> Oid:
        """``name@{what}``."""
        if what.startswith("-") and not name:
            return self._before(what[1:], revision)
        ref = self._ref(name) if name not in {"", "@", "HEAD"} else RefName("HEAD") if name else self.head.branch
        if what.lower() in {"u", "upstream", "push"}:
            branch = self.head.branch if name in {"", "@", "HEAD"} else ref
            upstream = self.upstream_of(branch) if branch else None
            oid = self.oid_of(upstream) if upstream else None
        elif what.isdigit():
            oid = self._logged(ref or RefName("HEAD"), int(what))
        else:
            oid = None
        if oid is None:
            raise self._unknown(revision)
        return oid

    def _logged(self, ref: RefName, number: int) -> Oid | None:
        log = self.log_of(ref)
        if number < len(log):
            return log[-1 - number].new
        return log[0].old if log and number == len(log) else None

    def _before(self, number: str, revision: Revision) -> Oid:
        """The branch or commit before the n-th last switch."""
        left = [m[1] for m in (_SWITCH.match(e.message) for e in reversed(self.log_of(RefName("HEAD")))) if m]
        if not number.isdigit() or not 0 < int(number) <= len(left):
            raise self._unknown(revision)
        return self._base(left[int(number) - 1], revision)
