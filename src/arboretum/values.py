"""Values: what git talks about, parsed once at the edge into types that cannot be wrong.

Nothing here does I/O. Paths are `str` in which bytes that are no UTF-8 are surrogate-escaped, as
`os.fsdecode` makes them, so every file name survives a round trip.
"""

from __future__ import annotations

import datetime as dt
import enum
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Self, TypeVar

from attrs import field, frozen

from arboretum.errors import InvalidValueError
from arboretum.moments import moment, parse_offset

_HEX: Final = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
# The rules of git-check-ref-format(1), as one expression per rule.
_REF_FORBIDDEN: Final = (
    (re.compile(r"[\x00-\x20\x7f~^:?*\[\\]"), "it has a space, a control character or one of ~ ^ : ? * [ \\"),
    (re.compile(r"\.\."), "it has two dots in a row"),
    (re.compile(r"@\{"), "it has @{"),
    (re.compile(r"//|^/|/\Z"), "it has an empty component"),
    (re.compile(r"(?:^|/)\."), "a component starts with a dot"),
    (re.compile(r"\.\Z"), "it ends with a dot"),
    (re.compile(r"\.lock(?:/|\Z)"), "a component ends with .lock"),
)
# Nearly all names are of this form; one match instead of seven, for lists of thousands.
_PLAIN_REF: Final = re.compile(r"refs(?:/[A-Za-z0-9_+=-]+(?:\.(?!lock(?:/|\Z))[A-Za-z0-9_+=-]+)*)+\Z")
#: Refs that live outside ``refs/`` and have one component in capitals (HEAD, ORIG_HEAD, ...).
_PSEUDO_REF: Final = re.compile(r"[A-Z][A-Z0-9_]*\Z")
#: The name ends at the first bracket, the address at the next one, the date begins after the last one.
_IDENTITY: Final = re.compile(r"([^<]*)<([^>]*)>(?:.*>)?\s*(?:(-?[0-9]+)(?: +([+-][0-9]+))?)?", re.DOTALL)


class Oid(str):
    """The full id of an object in hexadecimal: 40 digits (SHA-1) or 64 (SHA-256).

    Raises:
        InvalidValueError: The text is anything else.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not _HEX.match(text):
            raise InvalidValueError(f"{text!r} is not an object id: 40 or 64 lower-case hexadecimal digits are")
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return f"Oid({str(self)!r})"

    @property
    def short(self) -> str:
        """The first twelve digits, for people."""
        return self[:12]

    @property
    def is_null(self) -> bool:
        """Whether all digits are zero: git's way to say "no object"."""
        return not self.strip("0")

    @classmethod
    def known(cls, told: object) -> Self:
        """The id that git (or its library) told where only ids stand: taken as it is, which is four times as fast.

        Args:
            told: The text, or a library's own id whose text it is.
        """
        return str.__new__(cls, told)

    @classmethod
    def null(cls, *, sha256: bool = False) -> Self:
        """The id that stands for "no object"."""
        return cls("0" * (64 if sha256 else 40))


class RefName(str):
    """The full name of a ref (``refs/heads/main``, ``HEAD``), valid by git's own rules.

    Raises:
        InvalidValueError: git would refuse the name, or it could be taken for an option.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if isinstance(text, str) and _PLAIN_REF.match(text):
            return str.__new__(cls, text)
        if not isinstance(text, str) or not text:
            raise InvalidValueError("an empty text is not a ref name")
        for pattern, why in _REF_FORBIDDEN:
            if pattern.search(text):
                raise InvalidValueError(f"{text!r} is not a ref name: {why}")
        if not text.startswith("refs/") and not _PSEUDO_REF.match(text):
            raise InvalidValueError(
                f"{text!r} is not a full ref name",
                hint="full names look like refs/heads/main; see RefName.branch",
            )
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return f"RefName({str(self)!r})"

    @classmethod
    def branch(cls, name: str) -> Self:
        """The ref of the local branch `name` (``fix/tail`` gives ``refs/heads/fix/tail``).

        Raises:
            InvalidValueError: The name is no branch name by git's rules (also ``HEAD``, ``@`` and ``-x``).
        """
        if not name or name in {"HEAD", "@"} or name.startswith("-"):
            raise InvalidValueError(f"{name!r} is not a branch name")
        return cls(f"refs/heads/{name}")

    @classmethod
    def tag(cls, name: str) -> Self:
        """The ref of the tag `name`."""
        if not name or name.startswith("-"):
            raise InvalidValueError(f"{name!r} is not a tag name")
        return cls(f"refs/tags/{name}")

    @property
    def is_branch(self) -> bool:
        """Whether the ref is a local branch."""
        return self.startswith("refs/heads/")

    @property
    def short(self) -> str:
        """The name without ``refs/heads/``, ``refs/tags/`` or ``refs/remotes/``."""
        for prefix in ("refs/heads/", "refs/tags/", "refs/remotes/"):
            if self.startswith(prefix):
                return self[len(prefix) :]
        return str(self)


class Revision(str):
    """What a person writes to name a commit (``HEAD~3``, ``v1.0``, ``fix/tail``): safe to hand to git.

    It may name nothing; it can never be taken for an option.

    Raises:
        InvalidValueError: The text is empty, starts with a dash or has a NUL or line break.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not text.strip():
            raise InvalidValueError("an empty text names no revision")
        if text.startswith("-"):
            raise InvalidValueError(f"{text!r} is not a revision: it starts with a dash, as options do")
        if any(c in text for c in "\x00\n\r"):
            raise InvalidValueError(f"{text!r} is not a revision: it has a NUL or a line break")
        return super().__new__(cls, text)

    def __repr__(self) -> str:
        return f"Revision({str(self)!r})"


def parse_tree_path(text: str) -> str:
    """Check that `text` is a path inside a tree: relative, ``/``-separated, with no way out of it.

    Returns:
        The same text.

    Raises:
        InvalidValueError: It is empty, absolute, has a NUL, or a component ``.``, ``..`` or ``.git``.
    """
    parts = text.split("/")
    if not text or "\x00" in text or any(p in {"", ".", ".."} or p.lower() == ".git" for p in parts):
        raise InvalidValueError(f"{text!r} is not a path inside a tree")
    return text


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


class FileMode(enum.IntEnum):
    """The kinds of entry that a tree can hold."""

    TREE = 0o040000
    FILE = 0o100644
    EXECUTABLE = 0o100755
    SYMLINK = 0o120000
    SUBMODULE = 0o160000


@frozen
class TreeEntry:
    """One path of a tree."""

    path: str
    mode: FileMode
    oid: Oid


class ChangeKind(enum.StrEnum):
    """What happened to a path; the letters are git's."""

    UNMODIFIED = "."
    MODIFIED = "M"
    ADDED = "A"
    DELETED = "D"
    RENAMED = "R"
    COPIED = "C"
    TYPE_CHANGED = "T"
    UNMERGED = "U"
    UNTRACKED = "?"
    IGNORED = "!"


@frozen
class DiffEntry:
    """One path that differs between two trees; `old_path` is set for a rename."""

    path: str
    kind: ChangeKind
    old_path: str | None = None


@frozen
class StatusEntry:
    """One path that differs between HEAD, the index and the files of a worktree.

    Args:
        path: The path.
        index: HEAD against the index (what is staged).
        worktree: The index against the files.
        old_path: Where a renamed path came from.
        submodule: Whether the path is a submodule.
    """

    path: str
    index: ChangeKind
    worktree: ChangeKind
    old_path: str | None = None
    submodule: bool = False

    @property
    def is_conflict(self) -> bool:
        """Whether the path is unmerged."""
        return ChangeKind.UNMERGED in (self.index, self.worktree) or (self.index, self.worktree) in {
            (ChangeKind.ADDED, ChangeKind.ADDED),
            (ChangeKind.DELETED, ChangeKind.DELETED),
        }

    @property
    def is_staged(self) -> bool:
        """Whether the index differs from HEAD at this path."""
        return (
            self.index not in {ChangeKind.UNMODIFIED, ChangeKind.UNTRACKED, ChangeKind.IGNORED} and not self.is_conflict
        )

    @property
    def is_untracked(self) -> bool:
        """Whether git does not know the path (and does not ignore it)."""
        return self.index is ChangeKind.UNTRACKED

    @property
    def is_ignored(self) -> bool:
        """Whether git is told to ignore the path."""
        return self.index is ChangeKind.IGNORED


@frozen
class WorktreeInfo:
    """What git records of one worktree.

    Args:
        path: Its absolute path.
        head: The commit it stands at; None when unborn or bare.
        branch: The branch it is on; None when detached or bare.
        is_main: Whether it is the repository's main worktree (or the bare repository itself).
        bare: Whether it has no files at all.
        locked: Why it is locked; empty for "no reason given"; None when it is not locked.
        prunable: Why `prune` would remove its record; None when it would not.
        name: The name of its folder under ``worktrees/`` in the common git directory; empty for the main one.
    """

    path: str
    head: Oid | None
    branch: RefName | None
    is_main: bool = False
    bare: bool = False
    locked: str | None = None
    prunable: str | None = None
    name: str = ""

    @property
    def detached(self) -> bool:
        """Whether it stands at a commit and on no branch."""
        return self.branch is None and not self.bare


@frozen
class WorktreeSpec:
    """How a worktree is to be made.

    Exactly one of `branch`, `detach` and `orphan` says where it stands; the branch exists already
    (the domain layer makes it first, by compare-and-set).

    Args:
        path: Where to make it (absolute).
        branch: The existing branch to check out.
        detach: The commit to stand at, on no branch.
        orphan: The branch without commits to stand on.
        checkout: Whether to write the files; without it the index is empty and HEAD is set.
        lock: The reason to lock it with from its first moment; None leaves it unlocked.
        force: Take the path or branch although a record of another (missing or same-branch) worktree claims it.
    """

    path: str
    branch: RefName | None = None
    detach: Oid | None = None
    orphan: RefName | None = None
    checkout: bool = True
    lock: str | None = None
    force: bool = False

    def __attrs_post_init__(self) -> None:
        if sum(x is not None for x in (self.branch, self.detach, self.orphan)) != 1:
            raise InvalidValueError("a worktree stands on a branch, at a commit or on an orphan branch: exactly one")
        if not self.path.startswith("/") or "\x00" in self.path:
            raise InvalidValueError(f"{self.path!r} is not an absolute path")


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


class ResetMode(enum.StrEnum):
    """How far `reset` goes: HEAD only, the index too, or the files too."""

    SOFT = "soft"
    MIXED = "mixed"
    HARD = "hard"


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


def jsonable(value: Any) -> Any:
    r"""Text that JSON can carry: surrogate escapes become ``\xNN``, so that no writer ever fails on a path."""
    if isinstance(value, str) and not value.isascii():
        try:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a surrogate that stands for no byte
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
