"""What all parts of `arboretum.backends.cli` share: how git is run, and where each worktree's git directory is."""

from __future__ import annotations

import os
from collections.abc import Mapping

from attrs import define, field

from arboretum.backends.admin_files import AdminFiles, read_link
from arboretum.backends.git_command import GitCommand
from arboretum.backends.object_server import ObjectServer
from arboretum.errors import InvalidValueError, WorktreeNotFoundError
from arboretum.values import Oid, RefName


@define(eq=False)
class CliSession:
    """One repository, opened.

    Args:
        command: How git is run on it.
        common_dir: The git directory that all worktrees share.
        sha256: Whether object ids have 64 digits.
        settings: The few configuration values that say what kind of repository it is.
    """

    command: GitCommand
    common_dir: str
    sha256: bool
    settings: Mapping[str, str] = field(repr=False)
    objects: ObjectServer = field(init=False, repr=False)
    admin: AdminFiles = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.objects = ObjectServer(self.command)
        self.admin = AdminFiles(self.common_dir, self._main_path(), self.tip)

    def _main_path(self) -> str | None:
        if self.settings.get("core.bare") == "true":
            return None
        configured = self.settings.get("core.worktree")
        if configured is not None:
            return os.path.normpath(os.path.join(self.common_dir, configured))
        parent, name = os.path.split(self.common_dir)
        return parent if name == ".git" else None

    def tip(self, name: RefName) -> Oid | None:
        """The commit of a branch; None when there is none. One question to the long-lived child."""
        found = self.objects.find(name)
        return found[0] if found is not None else None

    def place(self, worktree: str) -> tuple[str, str]:
        """The git directory and the folder of a worktree, checked to belong to this repository.

        Git is told both outright: left to look by itself it would find whatever repository lies above a folder that
        is no worktree any more.

        Raises:
            WorktreeNotFoundError: The folder is gone, or is no worktree of this repository.
        """
        if "\0" in worktree:
            raise InvalidValueError(f"{worktree!r} is not a path: it has a NUL")
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
