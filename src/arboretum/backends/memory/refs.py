"""Refs with reflogs, and configuration, in memory."""

from __future__ import annotations

import re
from collections.abc import Iterator

from attrs import define, field, frozen

from arboretum.backends.base import ANY, Expected
from arboretum.errors import ConfigKeyError, RefChangedError, RefExistsError, RefNotFoundError
from arboretum.values import Oid, Ref, RefName

#: Refs that each worktree has for itself, besides HEAD and its kin.
PRIVATE = ("refs/worktree/", "refs/bisect/", "refs/rewritten/")
_KEY = re.compile(r"[A-Za-z0-9-]+(?:\..+)?\.[A-Za-z][A-Za-z0-9-]*\Z", re.DOTALL)


@frozen
class LogEntry:
    """One line of a reflog."""

    old: Oid | None
    new: Oid | None
    message: str


@define(eq=False)
class RefTable:
    """Names and what they stand for: an object or another name."""

    values: dict[RefName, Oid | RefName] = field(factory=dict)
    logs: dict[RefName, list[LogEntry]] = field(factory=dict)

    def final(self, name: RefName) -> RefName:
        """The name at the end of a chain of symbolic refs."""
        for _ in range(5):
            value = self.values.get(name)
            if not isinstance(value, RefName):
                break
            name = value
        return name

    def oid(self, name: RefName) -> Oid | None:
        """The object that a name stands for in the end; None for no ref or a dangling one."""
        value = self.values.get(self.final(name))
        return value if isinstance(value, Oid) else None

    def ref(self, name: RefName) -> Ref | None:
        """The ref as a value."""
        oid = self.oid(name)
        if oid is None:
            return None
        value = self.values[name]
        return Ref(name, oid, value if isinstance(value, RefName) else None)

    def all(self, prefix: str) -> Iterator[Ref]:
        """The refs below ``refs/`` with this prefix, sorted by name."""
        for name in sorted(self.values):
            ref = self.ref(name) if name.startswith("refs/") and name.startswith(prefix) else None
            if ref is not None:
                yield ref

    def check(self, name: RefName, new: Oid | None, expected: Expected) -> None:
        """Refuse a change that the present state forbids: the compare of compare-and-set.

        Raises:
            RefExistsError: It must not exist and does, or its name is a folder of another's or below one.
            RefChangedError: It has another value.
            RefNotFoundError: It is to be deleted and does not exist.
        """
        now = self.oid(name)
        if expected is None and now is not None:
            raise RefExistsError(f"{name} exists already: it is at {now.short}", operation="update_ref")
        if isinstance(expected, Oid) and now != expected:
            is_at = f"at {now.short}" if now else "not there"
            raise RefChangedError(f"{name} is {is_at} and not at {expected.short} any more", operation="update_ref")
        if new is None and expected is ANY and now is None:
            raise RefNotFoundError(f"there is no ref {name}", operation="update_ref")
        if new is not None and now is None:
            self.check_name(name)

    def check_name(self, name: RefName) -> None:
        """Refuse a name that is a folder of another ref or lies below one. Raises RefExistsError."""
        for other in self.values:
            if name.collides_with(other):
                raise RefExistsError(f"{name} cannot be made beside {other}", operation="update_ref")

    def set(self, name: RefName, new: Oid | None, message: str) -> None:
        """Set or delete a ref; the caller has checked."""
        name = self.final(name)
        old = self.oid(name)
        if new is None:
            self.values.pop(name, None)
            self.logs.pop(name, None)
            return
        self.values[name] = new
        if old != new:
            self.log(name, old, new, message)

    def log(self, name: RefName, old: Oid | None, new: Oid | None, message: str) -> None:
        """Add a line to a reflog."""
        self.logs.setdefault(name, []).append(LogEntry(old, new, message))

    def rename(self, old: RefName, new: RefName) -> None:
        """Rename a branch with its reflog; symbolic refs to it are left to the caller.

        Raises:
            RefNotFoundError: There is no such branch.
            RefExistsError: The new name is taken.
        """
        if old not in self.values:
            raise RefNotFoundError(f"there is no branch {old.short}", operation="rename_branch")
        if new in self.values:
            raise RefExistsError(f"there is a branch {new.short} already", operation="rename_branch")
        value = self.values.pop(old)
        try:
            self.check_name(new)
        except RefExistsError:
            self.values[old] = value
            raise
        self.values[new] = value
        if old in self.logs:
            self.logs[new] = self.logs.pop(old)


def config_key(key: str) -> str:
    """A configuration key in its normal form: section and name in lower case, the sub-section as it is.

    Raises:
        ConfigKeyError: It is no key.
    """
    if not _KEY.match(key) or "\n" in key or "\x00" in key:
        raise ConfigKeyError(
            f"{key!r} is not a configuration key", operation="get_config",
            hint="a key is section.name or section.sub-section.name",
        )  # fmt: skip
    section, _, rest = key.partition(".")
    sub, _, name = rest.rpartition(".")
    return ".".join([section.lower(), *([sub] if sub else []), name.lower()])
