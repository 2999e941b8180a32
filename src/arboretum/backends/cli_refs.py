"""The refs, the configuration and the set of worktrees of `arboretum.backends.cli`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from arboretum.backends import parsing
from arboretum.backends.admin_files import AdminRecord
from arboretum.backends.base import ANY, AnyValue, Expected, Keeper
from arboretum.backends.cli_objects import CliObjects
from arboretum.errors import DirtyWorktreeError, GitOperationError, InvalidValueError, RefNotFoundError
from arboretum.values import Oid, Ref, RefName, StatusEntry, WorktreeInfo, WorktreeSpec


class CliRefs(CliObjects):
    """The methods of `RefStore` and `WorktreeAdmin`."""

    def read_ref(self, name: RefName, *, worktree: str | None = None) -> Ref | None:
        """See `RefStore`."""
        git_dir = self.place(worktree)[0] if worktree is not None else self.command.git_dir
        target = self.refs.read(name, git_dir=git_dir)
        oid = self.refs.find(name, git_dir=git_dir)
        return Ref(name, oid, target if isinstance(target, RefName) else None) if oid is not None else None

    def list_refs(self, prefix: str = "refs/") -> tuple[Ref, ...]:
        """See `RefStore`."""
        return self.refs.listed(prefix, git_dir=self.command.git_dir)

    def update_ref(self, name: RefName, new: Oid | None, expected: Expected, *, message: str = "") -> None:
        """See `RefStore`."""
        null = Oid.null(sha256=self.sha256)
        if new is None and (expected is None or (expected is ANY and self.tip(name) is None)):
            raise RefNotFoundError(f"there is no ref {name}", operation="update_ref")
        old = b"" if isinstance(expected, AnyValue) else (expected or null).encode()
        ref = os.fsencode(name)
        if new is None:
            line = b"delete %s\0%s\0" % (ref, old)
        else:
            line = b"update %s\0%s\0%s\0" % (ref, new.encode(), old)
        if not message.strip() and self._updated_by_server(line):
            return
        reflog = ["-m", " ".join(message.split())] if message.strip() else []
        self.command.output("update-ref", *reflog, "--stdin", "-z", operation="update_ref", stdin=line)

    def _updated_by_server(self, line: bytes) -> bool:
        """Whether a long-lived git has made the change; it keeps to the rules and takes the locks as any other.

        No is no refusal yet: it ends on the first one. It has one reflog message for all changes, so none here; and
        it lives for a second, because it writes the time of its start into the reflog.
        """
        answer = self.servers("update-ref", "--stdin", "-z", life=1.0).ask_lines(b"start\0" + line + b"commit\0", 2)
        return answer == [b"start: ok", b"commit: ok"]

    def rename_branch(self, old: RefName, new: RefName) -> None:
        """See `RefStore`."""
        with self.admin.lock():
            self.command.output("branch", "-m", "--", old.short, new.short, operation="rename_branch")

    def get_config(self, key: str, *, worktree: str | None = None) -> tuple[str, ...]:
        """See `RefStore`."""
        at = self.place(worktree) if worktree is not None else None
        _check_key(key)
        done = self.command.output(
            "config", "-z", "--get-all", "--end-of-options", key, operation="get_config", at=at, accept=(0, 1)
        )
        if done.code == 1 and done.stderr:
            raise git_config_error(key, done.said)
        return tuple(parsing.text_of(value) for value in done.stdout.split(b"\0")[:-1])

    def set_config(self, key: str, value: str | None) -> None:
        """See `RefStore`."""
        _check_key(key)
        if value is not None and "\0" in value:
            raise InvalidValueError("a configuration value cannot have a NUL")
        with self.admin.lock():
            if value is None:
                arguments = ["config", "--local", "--unset-all", "--end-of-options", key]
            else:
                arguments = ["config", "--local", "--replace-all", "--end-of-options", key, value]
            done = self.command.output(*arguments, operation="set_config", accept=(0, 1, 2, 5))
        if done.code in {1, 2}:
            raise git_config_error(key, done.said)

    # Worktrees -------------------------------------------------------------------------------

    def list_worktrees(self) -> tuple[WorktreeInfo, ...]:
        """See `WorktreeAdmin`."""
        return self.admin.infos()

    def find_worktree(self, path: str | None) -> WorktreeInfo | None:
        """See `WorktreeAdmin`."""
        return self.admin.main_info() if path is None else self.admin.info_at(path)

    def worktree_names(self) -> tuple[str, ...]:
        """See `WorktreeAdmin`."""
        return tuple(sorted(self.admin.names()))

    def add_worktree(self, spec: WorktreeSpec) -> WorktreeInfo:
        """See `WorktreeAdmin`."""
        if spec.detach is not None:
            self.read_commit(spec.detach)
        record = self.admin.add(spec)
        if spec.checkout and spec.orphan is None:
            self._populate(record)
        return self.admin.info(record)

    def _populate(self, record: AdminRecord) -> None:
        """Write the files, outside the lock, and run the post-checkout hook with what it is given by git."""
        assert record.path is not None
        at = (record.folder, record.path)
        try:
            self.command.output(
                "reset", "--hard", "--quiet", "--no-recurse-submodules", operation="add_worktree", at=at
            )  # fmt: skip
            commit = self.refs.find("HEAD", git_dir=record.folder)
            if commit is not None and self._has_hook("post-checkout"):
                null = Oid.null(sha256=self.sha256)
                self.command.output(
                    "hook", "run", "--ignore-missing", "post-checkout", "--", null, commit, "1",
                    operation="add_worktree", at=at,
                )  # fmt: skip
        except BaseException:
            self.admin.undo(record)
            raise

    def _has_hook(self, name: str) -> bool:
        """Whether git may have such a hook: its own folder is looked at, a configured one is left to git."""
        if os.path.lexists(os.path.join(self.common_dir, "hooks", name)):
            return True
        return "core.hookspath" in self.settings

    def remove_worktree(self, path: str, *, force: bool = False) -> None:
        """See `WorktreeAdmin`."""
        self._removable(path, force=force)
        self.admin.remove(path)

    def discard_worktree(self, path: str, keeper: Keeper, *, force: bool = False) -> Callable[[], None]:
        """See `WorktreeAdmin`."""
        self._removable(path, force=force)
        return self.admin.discard(path, keeper)

    def sweep_discarded(self, keep: Callable[[str], None]) -> None:
        """See `WorktreeAdmin`."""
        self.admin.sweep(keep)

    def _removable(self, path: str, *, force: bool) -> AdminRecord:
        """The record of a worktree that may be removed."""
        record = self.admin.unlocked(path, "remove_worktree")
        if not force and record.path is not None and os.path.isdir(record.path):
            if os.path.isdir(os.path.join(record.folder, "modules")):
                raise DirtyWorktreeError(
                    f"{path} has initialised submodules", operation="remove_worktree", hint="remove it with force"
                )
            changes = self.changes(record.path)
            if changes:
                raise DirtyWorktreeError(
                    f"{path} holds changes, the first in {changes[0].path!r}",
                    operation="remove_worktree",
                    hint="commit or stash them, or remove it with force",
                )
        return record

    def changes(self, worktree: str) -> tuple[StatusEntry, ...]:
        """What a removal would lose: changes and untracked files (ignored ones are not counted, as in git)."""
        done = self.command.output(
            "status", "--porcelain=v2", "-z", "--untracked-files=normal", "--no-renames", "--ignore-submodules=none",
            operation="status", at=self.place(worktree),
        )  # fmt: skip
        return parsing.parse_status(done.stdout)

    def move_worktree(self, path: str, new_path: str) -> WorktreeInfo:
        """See `WorktreeAdmin`."""
        return self.admin.info(self.admin.move(path, new_path))

    def lock_worktree(self, path: str, *, reason: str = "") -> None:
        """See `WorktreeAdmin`."""
        self.admin.lock_worktree(path, reason)

    def unlock_worktree(self, path: str) -> None:
        """See `WorktreeAdmin`."""
        self.admin.unlock_worktree(path)

    def prune_worktrees(self, *, dry_run: bool = False) -> tuple[WorktreeInfo, ...]:
        """See `WorktreeAdmin`."""
        return self.admin.prune(dry_run=dry_run)

    def repair_worktrees(self, paths: Sequence[str] = ()) -> None:
        """See `WorktreeAdmin`."""
        self.admin.repair(paths)


def _check_key(key: str) -> None:
    if "\0" in key or "." not in key:
        raise git_config_error(key, "it has no section" if "." not in key else "it has a NUL")


def git_config_error(key: str, said: str) -> GitOperationError:
    """The error for a key that git would not take."""
    from arboretum.errors import ConfigKeyError

    return ConfigKeyError(
        f"the configuration key {key!r} is not valid: {said.strip()}",
        operation="config",
        hint="keys look like section.name or section.sub.name",
    )
