"""What all parts of `arboretum.backends.cli` share: how git is run, and where each worktree's git directory is."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from functools import cached_property
from typing import Final

from attrs import define, field

from arboretum.backends.admin_files import AdminFiles, read_link
from arboretum.backends.git_command import GitCommand
from arboretum.backends.git_servers import GitServers
from arboretum.backends.object_server import ObjectServer
from arboretum.backends.ref_files import RefFiles
from arboretum.errors import InvalidValueError, WorktreeNotFoundError
from arboretum.values import Oid, RefName

_SETTINGS: Final = r"^(core\.(bare|worktree|logallrefupdates|hookspath)|extensions\..*)$"


@define(eq=False, slots=False)
class CliSession:
    """One repository, opened.

    Args:
        command: How git is run on it.
        common_dir: The git directory that all worktrees share.
        sha256: Whether object ids have 64 digits.
    """

    command: GitCommand
    common_dir: str
    sha256: bool
    objects: ObjectServer = field(init=False, repr=False)
    refs: RefFiles = field(init=False, repr=False)
    asides: dict[str, str] = field(factory=dict, init=False, repr=False)
    _servers: dict[tuple[str, ...], GitServers] = field(factory=dict, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.objects = ObjectServer(self.command)
        self.refs = RefFiles(self.common_dir)

    @cached_property
    def settings(self) -> Mapping[str, str]:
        """The few configuration values that say what kind of repository it is; asked for when first needed."""
        listing = self.command.output("config", "-z", "--get-regexp", _SETTINGS, operation="open", accept=(0, 1))
        pairs = (record.partition(b"\n") for record in listing.stdout.split(b"\0") if record)
        return {os.fsdecode(key): os.fsdecode(value) for key, _, value in pairs}

    @cached_property
    def admin(self) -> AdminFiles:
        """The worktree records of the repository."""
        return AdminFiles(
            self.common_dir,
            self._main_path(),
            self.tip,
            relative=_is_true(self.settings.get("extensions.relativeworktrees", "false")),
            origin=self.command.git_dir,
            committer=self._committer,
            asides=self.asides,
        )

    def _main_path(self) -> str | None:
        if self.command.worktree is not None and self.command.git_dir == self.common_dir:
            return self.command.worktree
        if _is_true(self.settings.get("core.bare", "false")):
            return None
        configured = self.settings.get("core.worktree")
        if configured is not None:
            return os.path.normpath(os.path.join(self.common_dir, configured))
        parent, name = os.path.split(self.common_dir)
        return parent if name == ".git" else None

    def _committer(self) -> str | None:
        """Who stands in a reflog; None where git keeps none, or knows nobody."""
        if not _is_true(self.settings.get("core.logallrefupdates", "true"), also="always"):
            return None
        who = self._identity
        return f"{who} {int(time.time())} {time.strftime('%z')}" if who else None

    @cached_property
    def _identity(self) -> str:
        done = self.command.output("var", "GIT_COMMITTER_IDENT", operation="add_worktree", accept=(0, 128))
        return os.fsdecode(done.stdout.rpartition(b">")[0] + b">") if done.code == 0 else ""

    def servers(self, *arguments: str, life: float = 60.0) -> GitServers:
        """The long-lived processes of a command; see `GitServers`."""
        found = self._servers.get(arguments)
        return found or self._servers.setdefault(arguments, GitServers(self.command, arguments, life))

    def close(self) -> None:
        """See `GitBackend`."""
        self.objects.close()
        for servers in self._servers.values():
            servers.close()

    def tip(self, name: RefName) -> Oid | None:
        """The object that a ref names, read from git's own files; None when there is no such ref."""
        return self.refs.find(name)

    def place(self, worktree: str) -> tuple[str, str]:
        """The git directory and the folder of a worktree, checked to belong to this repository.

        Git is told both outright: left to look by itself it would find whatever repository lies above a folder that
        is no worktree any more.

        Raises:
            WorktreeNotFoundError: The folder is gone, or is no worktree of this repository.
        """
        if "\0" in worktree:
            raise InvalidValueError(f"{worktree!r} is not a path: it has a NUL")
        if worktree in self.asides:
            return self.asides[worktree], worktree
        link = os.path.join(worktree, ".git")
        if os.path.isdir(link) and os.path.realpath(link) == os.path.realpath(self.common_dir):
            return self.common_dir, worktree
        git_dir = read_link(link)
        if git_dir is not None and os.path.isdir(git_dir):
            real = os.path.realpath(git_dir)
            shared = os.path.realpath(self.common_dir)
            if real == shared or os.path.dirname(real) == os.path.join(shared, "worktrees"):
                return real, worktree
        if os.path.realpath(worktree) == os.path.realpath(self.admin.main_path or "/nowhere"):
            return self.common_dir, worktree  # core.worktree: the folder has no link of its own
        raise WorktreeNotFoundError(
            f"{worktree} is not a worktree of {self.common_dir}", hint="list, prune or repair the worktrees"
        )


def _is_true(value: str, *, also: str = "true") -> bool:
    return value.lower() in {"true", "yes", "on", "1", "", also}
