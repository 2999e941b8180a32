"""The commits of a run: that of a task's work in its worktree, and the people who stand in them. Blocks."""

from __future__ import annotations

import functools
import os
from typing import Final

from attrs import define, field

from arboretum.backends.base import ANY, GitBackend
from arboretum.backends.identity import identity, tidy_message
from arboretum.engine import admin_state
from arboretum.engine.slot_files import read_link
from arboretum.errors import ConflictError, GitOperationError, NothingToCommitError
from arboretum.values import Oid, RefName, Signature

#: The hooks that `git commit` runs.
_HOOKS: Final = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit")


@define(eq=False)
class Committer:
    """Makes the commits of one run. Safe to share between threads.

    Args:
        backend: The repository.
    """

    backend: GitBackend
    _people: tuple[Signature, Signature] | None = field(default=None, init=False)
    _asks_git: bool | None = field(default=None, init=False)

    def identities(self) -> tuple[Signature, Signature]:
        """Author and committer of a commit that is made now.

        Raises:
            IdentityMissingError: The configuration names nobody.
        """
        if self._people is None:  # asked once: each question to the configuration is a process
            config = functools.cache(self.backend.get_config)
            self._people = (identity("author", os.environ, config), identity("committer", os.environ, config))
        author, committer = self._people
        return Signature.now(author.name, author.email), Signature.now(committer.name, committer.email)

    def record(self, worktree: str, branch: RefName, start: Oid, message: str) -> tuple[Oid, tuple[str, ...]]:
        """Commit what is not committed yet in a task's worktree; a program that commits by itself is as welcome.

        Args:
            worktree: Its path.
            branch: The branch that has to have the work afterwards, wherever the program has gone.
            start: The commit that the work started from.
            message: For what is committed here.

        Returns:
            The commit that holds the work, and the paths that differ from the start.

        Raises:
            GitOperationError: It cannot be committed (paths are unmerged, a hook refuses it, nobody is known, ...).
        """
        changes = self.backend.status(worktree)
        unmerged = tuple(entry.path for entry in changes if entry.is_conflict)
        if unmerged:
            raise ConflictError(f"it left {', '.join(unmerged)} unmerged", paths=unmerged, operation="commit")
        at = self.backend.head(worktree)
        head = at.oid
        if changes:
            self.backend.stage(worktree, (".",))
            if head is not None and at.branch == branch and not self._is_for_git(worktree):
                head = self._commit_plainly(worktree, branch, head, message)
            else:
                try:
                    head = self.backend.commit(worktree, message)
                except NothingToCommitError:
                    head = self.backend.head(worktree).oid  # a line end, say, that a filter mends
        if head is None:
            raise GitOperationError("its worktree stands on a branch without commits", operation="head")
        if at.branch != branch:  # it went to a branch of its own; ours has to have the work, too
            self.backend.update_ref(branch, head, ANY)
        if head == start:
            return head, ()
        entries = self.backend.diff_trees(start, head, renames=False)
        return head, tuple(entry.path for entry in entries)

    def _commit_plainly(self, worktree: str, branch: RefName, head: Oid, message: str) -> Oid:
        """What `git commit` comes to where nothing but the index, HEAD and the people have a say; a third of its time.

        Returns:
            The commit; `head` when nothing is staged.
        """
        tree = self.backend.staged_tree(worktree)
        if tree == self.backend.read_commit(head).tree:
            return head
        author, committer = self.identities()
        text = tidy_message(message)
        made = self.backend.write_commit(tree=tree, parents=(head,), message=text, author=author, committer=committer)
        self.backend.update_ref(branch, made, head)
        return made

    def _is_for_git(self, worktree: str) -> bool:
        """Whether more has a say in a commit: hooks, a signature, or a merge or the like that is half done."""
        if self._asks_git is None:
            signs = self.backend.get_config("commit.gpgSign")[-1:]
            self._asks_git = signs not in {(), ("false",)} or bool(self.backend.get_config("core.hooksPath"))
        hooks = os.path.join(self.backend.common_dir, "hooks")
        if self._asks_git or any(os.path.exists(os.path.join(hooks, name)) for name in _HOOKS):
            return True
        admin = read_link(worktree)
        return admin is None or admin_state.is_half_done(admin)
