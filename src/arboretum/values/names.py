"""What git knows things by: object ids, ref names, what a person writes for a commit, paths inside a tree."""

from __future__ import annotations

import re
from typing import Final, Self

from arboretum.errors import InvalidValueError

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

    def collides_with(self, other: str) -> bool:
        """Whether there cannot be both refs: one name is the other's, or a folder in it (``fix``, ``fix/a``)."""
        return f"{other}/".startswith(f"{self}/") or f"{self}/".startswith(f"{other}/")


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
        if "\x00" in text or "\n" in text or "\r" in text:  # a loop takes three times as long
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
