"""The set of worktrees of a repository.

libgit2's own worktree functions are not used: they know neither lock nor move nor repair, cannot make a
detached worktree, and two half-made records beside each other make them take every branch for checked
out. The admin files are read and written by `arboretum.backends.admin_files`; libgit2 writes the files.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Final

import pygit2

from arboretum.backends.admin_files import AdminFiles, AdminRecord
from arboretum.backends.base import Keeper
from arboretum.backends.libgit2 import gate
from arboretum.backends.libgit2.configuration import Settings
from arboretum.backends.libgit2.faults import operation
from arboretum.backends.libgit2.modes import oid_of
from arboretum.backends.libgit2.objects import Objects, pygit2_tree
from arboretum.backends.libgit2.refs import follow
from arboretum.backends.libgit2.survey import survey
from arboretum.backends.libgit2.switching import write_all
from arboretum.errors import DirtyWorktreeError, ObjectMissingError
from arboretum.values import Oid, WorktreeInfo, WorktreeSpec

_RELATIVE: Final = "extensions.relativeWorktrees"


class Worktrees(Objects):
    """The `WorktreeAdmin` of libgit2."""

    @property
    def is_bare(self) -> bool:
        """Whether the repository has no main worktree."""
        layout = self.handles.layout
        if not layout.is_linked:
            return layout.worktree is None
        files = (os.path.join(layout.common_dir, name) for name in ("config", "config.worktree"))
        return any(os.path.isfile(file) and _is_true(pygit2.Config(file), "core.bare") for file in files)

    def admin(self) -> AdminFiles:
        """The admin files of this repository."""
        layout, repository = self.handles.layout, self.handles.main()
        main = None if self.is_bare else layout.common_dir.removesuffix("/.git")
        relative = Settings.of(repository).flag(_RELATIVE)
        return AdminFiles(
            layout.common_dir, main, self.handles.refs.find, relative=relative, asides=self.handles.asides
        )

    @operation
    def list_worktrees(self) -> tuple[WorktreeInfo, ...]:
        return self.admin().infos()

    @operation
    def find_worktree(self, path: str | None) -> WorktreeInfo | None:
        return self.admin().main_info() if path is None else self.admin().info_at(path)

    @operation
    def worktree_names(self) -> tuple[str, ...]:
        return tuple(sorted(self.admin().names()))

    def _info(self, record: AdminRecord) -> WorktreeInfo:
        return self.admin().info(record)

    @operation
    def add_worktree(self, spec: WorktreeSpec) -> WorktreeInfo:
        repository = self.handles.main()
        common_dir = self.handles.layout.common_dir
        settings = Settings.of(repository)
        gate.refuse_hooks(settings, common_dir, "add_worktree", "post-checkout")
        oid = self._start(repository, spec)
        if spec.checkout and oid is not None:
            gate.refuse_sparse(settings, "add_worktree")
            gate.refuse_promised(common_dir, "add_worktree")
            attributes = gate.tree_attributes(repository, pygit2_tree(repository, oid))
            gate.refuse_filters(settings, common_dir, "add_worktree", attributes)
        record = self.admin().add(spec)
        if spec.checkout and oid is not None:
            self._populate(record, oid)
        return self._info(record)

    def _start(self, repository: pygit2.Repository, spec: WorktreeSpec) -> Oid | None:
        """The commit that the new worktree is to stand at; None for an orphan."""
        if spec.detach is not None:
            return oid_of(self._commit(repository, spec.detach).id)
        branch = spec.branch or spec.orphan
        assert branch is not None  # the spec has exactly one of the three
        oid = follow(repository, branch)[1]
        if spec.orphan is not None or oid is None:
            return None  # what is wrong with the branch is told under the lock
        if repository.get(oid) is None:
            raise ObjectMissingError(f"{branch} names {oid}, which is not in this repository")
        return Oid(oid)

    def _populate(self, record: AdminRecord, oid: Oid) -> None:
        """Write the files, outside the lock; after a failure neither folder nor record is left."""
        try:
            repository = self.handles.at(record.path)
            write_all(repository, pygit2_tree(repository, oid))
        except BaseException:
            self.admin().undo(record)
            raise

    @operation
    def remove_worktree(self, path: str, *, force: bool = False) -> None:
        admin = self.admin()
        record = admin.unlocked(path, "remove_worktree")
        if not force and record.path is not None and os.path.lexists(record.path):
            self._refuse_dirty(record, record.path)
        admin.remove(path)

    def _refuse_dirty(self, record: AdminRecord, path: str) -> None:
        self._refuse_unreadable(path)
        changed = survey(self.handles.at(path), untracked=True, ignored=False, renames=False)
        if changed or os.path.isdir(os.path.join(record.folder, "modules")):
            raise DirtyWorktreeError(
                f"the worktree at {path} has changes, untracked files or submodules",
                hint="commit or stash them, or use force",
            )

    def _refuse_unreadable(self, path: str) -> None:
        """Refuse to tell whether a worktree holds work where libgit2 tells it wrongly."""
        settings = Settings.of(self.handles.at(path))
        gate.refuse_sparse(settings, "remove_worktree")
        gate.refuse_filters(settings, self.handles.layout.common_dir, "remove_worktree")

    @operation
    def discard_worktree(self, path: str, keeper: Keeper, *, force: bool = False) -> Callable[[], None]:
        admin = self.admin()
        record = admin.unlocked(path, "remove_worktree")
        if record.path is not None and os.path.lexists(record.path):
            self._refuse_unreadable(record.path)
            if not force:
                self._refuse_dirty(record, record.path)
        return admin.discard(path, keeper)

    @operation
    def sweep_discarded(self, keep: Callable[[str], None]) -> None:
        self.admin().sweep(keep)

    @operation
    def move_worktree(self, path: str, new_path: str) -> WorktreeInfo:
        return self._info(self.admin().move(path, new_path))

    @operation
    def lock_worktree(self, path: str, *, reason: str = "") -> None:
        self.admin().lock_worktree(path, reason)

    @operation
    def unlock_worktree(self, path: str) -> None:
        self.admin().unlock_worktree(path)

    @operation
    def prune_worktrees(self, *, dry_run: bool = False) -> tuple[WorktreeInfo, ...]:
        return self.admin().prune(dry_run=dry_run)

    @operation
    def repair_worktrees(self, paths: Sequence[str] = ()) -> None:
        self.admin().repair(paths)


def _is_true(config: pygit2.Config, key: str) -> bool:
    return bool(list(config.get_multivar(key))) and config.get_bool(key)
