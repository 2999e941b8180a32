"""The ref part of the in-memory backend."""

from __future__ import annotations

from attrs import define

from arboretum.backends.base import Expected
from arboretum.backends.memory.refs import RefTable, config_key
from arboretum.backends.memory.state import HEAD, Handle, exclusive
from arboretum.errors import ObjectMissingError, RefLockedError, UnsupportedOperationError
from arboretum.values import Oid, Ref, RefName

#: Settings that change what a repository or its files are in ways that no in-memory repository follows.
_REFUSED = ("core.autocrlf", "core.sparsecheckout", "core.eol", "extensions.")


@define(eq=False)
class MemoryRefs(Handle):
    """`arboretum.backends.base.RefStore` in memory."""

    @exclusive
    def read_ref(self, name: RefName, *, worktree: str | None = None) -> Ref | None:
        """See `RefStore`."""
        record = self.opened if worktree is None else self.state.record(worktree)
        if name == HEAD:
            head = self.state.head(record)
            return None if head.oid is None else Ref(name, head.oid, head.branch)
        table = self.state.table(name, record)
        return table.ref(name)

    @exclusive
    def list_refs(self, prefix: str = "refs/") -> tuple[Ref, ...]:
        """See `RefStore`."""
        found = [*self.state.refs.all(prefix), *self.opened.private.all(prefix)]
        return tuple(sorted(found, key=lambda ref: ref.name.encode("utf-8", "surrogateescape")))

    @exclusive
    def update_ref(self, name: RefName, new: Oid | None, expected: Expected, *, message: str = "") -> None:
        """See `RefStore`."""
        if name == HEAD and isinstance(self.opened.head, RefName):
            name = self.opened.head
        table = self.state.table(name, self.opened)
        if self.state.disk.is_file(f"{self.state.common_dir}/{name}.lock"):
            raise RefLockedError(
                f"{name} is being changed by another program", operation="update_ref",
                hint=f"if no git runs, remove {self.state.common_dir}/{name}.lock",
            )  # fmt: skip
        if isinstance(expected, Oid) and expected.is_null:
            expected = None
        if name == HEAD:
            table = RefTable({HEAD: self.opened.head})  # detached: it lives in the record
        table.check(name, new, expected)
        if new is not None and self.state.store.kind(new) is None:
            raise ObjectMissingError(f"{name} cannot name {new}: there is no such object", operation="update_ref")
        if name == HEAD and new is not None:
            self.state.move_head(self.opened, new, message)
        elif name != HEAD:
            table.set(name, new, message)

    @exclusive
    def rename_branch(self, old: RefName, new: RefName) -> None:
        """See `RefStore`."""
        self.state.refs.rename(old, new)
        for record in self.state.records():
            if record.head == old:
                record.head = new
        prefix = f"branch.{old.short}."
        for key in [key for key in self.state.config if key.startswith(prefix)]:
            self.state.config[f"branch.{new.short}.{key[len(prefix) :]}"] = self.state.config.pop(key)

    @exclusive
    def get_config(self, key: str, *, worktree: str | None = None) -> tuple[str, ...]:
        """See `RefStore`."""
        if worktree is not None:
            self.state.record(worktree)
        return self.state.config_values(config_key(key))

    @exclusive
    def set_config(self, key: str, value: str | None) -> None:
        """See `RefStore`."""
        name = config_key(key)
        if value is None:
            self.state.config.pop(name, None)
            return
        if name.startswith(_REFUSED) and value.lower() not in {"false", "no", "off", "0"}:
            raise UnsupportedOperationError(
                f"the memory backend does not follow {key}", operation="set_config",
                hint="use the cli backend for a repository with this setting",
            )  # fmt: skip
        self.state.config[name] = [value]
