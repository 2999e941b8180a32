"""`Worktree` and the collection of a repository's worktrees."""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from attrs import define, field

from arboretum.errors import GitOperationError, UsageError, WorktreeLockedError, WorktreeNotFoundError
from arboretum.interrupts import to_the_end
from arboretum.process.model import CommandRequest, CommandResult
from arboretum.removal import Removal
from arboretum.salvage import salvage
from arboretum.stashes import WorktreeStash
from arboretum.values import (
    DiffEntry,
    Head,
    Oid,
    RefName,
    ResetMode,
    Revision,
    Signature,
    StatusEntry,
    WorktreeInfo,
    WorktreeSpec,
)

if TYPE_CHECKING:
    from arboretum.repository import Repository

StrPath = str | os.PathLike[str]


def _absolute(path: StrPath) -> str:
    return os.path.abspath(os.path.expanduser(os.fspath(path)))


@define(eq=False, slots=False)
class Worktree:
    """One worktree: its HEAD, its index and its files.

    Args:
        repository: The repository that it belongs to.
        path: Its absolute path.
    """

    repository: Repository = field(repr=False)
    path: str

    @property
    def info(self) -> WorktreeInfo:
        """What git records of it now.

        Raises:
            WorktreeNotFoundError: It is no worktree of the repository any more.
        """
        return self.repository.worktrees.info(self.path)

    @property
    def head(self) -> Head:
        """Where it stands."""
        return self.repository.backend.head(self.path)

    @property
    def branch(self) -> str | None:
        """The branch it is on; None when detached."""
        branch = self.head.branch
        return branch.short if branch is not None else None

    @cached_property
    def stash(self) -> WorktreeStash:
        """Put its changes away and take stashes back, by commit id."""
        return WorktreeStash(self.repository, self.path)

    # Files -----------------------------------------------------------------------------------

    def resolve(self, revision: str) -> Oid:
        """The commit that `revision` names as seen from this worktree (its HEAD, its own refs)."""
        return self.repository.backend.resolve(Revision(revision), worktree=self.path)

    def status(
        self, *, untracked: bool = True, ignored: bool = False, renames: bool = False
    ) -> tuple[StatusEntry, ...]:
        """What differs between HEAD, the index and the files, sorted by path. Never writes anything."""
        return self.repository.backend.status(self.path, untracked=untracked, ignored=ignored, renames=renames)

    def is_clean(self, *, untracked: bool = True) -> bool:
        """Whether nothing differs; with `untracked` also that there is no untracked file."""
        return not self.status(untracked=untracked)

    def diff_names(self, revision: str, *, renames: bool = True) -> tuple[DiffEntry, ...]:
        """Which paths differ between `revision` and this worktree's HEAD."""
        backend = self.repository.backend
        return backend.diff_trees(self.resolve(revision), self.resolve("HEAD"), renames=renames)

    def stage(self, paths: Iterable[str] = (".",)) -> None:
        """Take the files at `paths` into the index as they are, deletions too."""
        self.repository.backend.stage(self.path, tuple(paths))

    def commit(
        self,
        message: str,
        *,
        author: Signature | None = None,
        committer: Signature | None = None,
        allow_empty: bool = False,
    ) -> Oid:
        """Commit the index on HEAD.

        Raises:
            NothingToCommitError: The index equals HEAD and `allow_empty` was not given.
            IdentityMissingError: There is no author.
        """
        return self.repository.backend.commit(
            self.path, message, author=author, committer=committer, allow_empty=allow_empty
        )

    def checkout(self, target: str, *, detach: bool = False, force: bool = False) -> None:
        """Switch to a branch if `target` is one (and `detach` is not given), else to the commit it names.

        Raises:
            DirtyWorktreeError: It would overwrite local changes; nothing was changed.
            BranchCheckedOutError: Another worktree is on the branch.
        """
        backend = self.repository.backend
        place = RefName.branch(target) if not detach and target in self.repository.branches else self.resolve(target)
        backend.checkout(self.path, place, force=force)

    def reset(self, target: str = "HEAD", mode: ResetMode = ResetMode.HARD, *, clean: bool = False) -> None:
        """Move HEAD (and its branch) to `target`.

        Args:
            target: The commit.
            mode: HEAD only, the index too, or the tracked files too.
            clean: Remove untracked files as well (ignored ones stay).
        """
        self.repository.backend.reset(self.path, self.resolve(target), mode)
        if clean:
            self.clean()

    def clean(self, *, ignored: bool = False) -> tuple[str, ...]:
        """Remove untracked files and folders (`ignored`: ignored ones also). Returns what was removed."""
        return self.repository.backend.clean(self.path, ignored=ignored)

    def apply(self, patch: bytes, *, index: bool = False) -> None:
        """Apply a patch to the files (and the index), all or nothing.

        Raises:
            PatchFailedError: It does not apply; the message names the hunk.
        """
        self.repository.backend.apply(self.path, patch, index=index)

    def cherry_pick(self, revision: str) -> Oid:
        """Apply a commit on HEAD and commit it with its author and message.

        Raises:
            ConflictError: It does not apply; nothing was changed.
        """
        return self.repository.backend.cherry_pick(self.path, self.resolve(revision))

    # Commands --------------------------------------------------------------------------------

    def run(self, argv: str | Sequence[str], *, check: bool = False, **options: Any) -> CommandResult:
        """Run a command in the worktree, through the injected runner.

        Args:
            argv: The program and its arguments; a text is split as a shell would split it.
            check: Raise if the command fails.
            options: See `arboretum.process.CommandRequest`: ``timeout`` and ``grace`` in seconds, ``env``, ...

        Raises:
            CommandError: The command failed and `check` was given.
        """
        result = self.repository.runner.run(self._request(argv, options))
        return result.check() if check else result

    async def run_async(self, argv: str | Sequence[str], *, check: bool = False, **options: Any) -> CommandResult:
        """The same for async code; a cancelled command's processes are gone when this has returned."""
        result = await self.repository.runner.run_async(self._request(argv, options))
        return result.check() if check else result

    def _request(self, argv: str | Sequence[str], options: dict[str, Any]) -> CommandRequest:
        return CommandRequest(**{"argv": argv, "cwd": self.path} | options)

    # The worktree itself ---------------------------------------------------------------------

    def lock(self, reason: str = "") -> None:
        """Lock it against removal, move and prune.

        Raises:
            WorktreeLockedError: It is locked already.
        """
        self.repository.backend.lock_worktree(self.path, reason=reason)

    def unlock(self) -> None:
        """Unlock it.

        Raises:
            GitOperationError: It is not locked.
        """
        self.repository.backend.unlock_worktree(self.path)

    def move(self, path: StrPath) -> None:
        """Move it to `path`.

        Raises:
            WorktreeLockedError: It is locked.
            PathOccupiedError: There is something at `path`.
        """
        self.path = self.repository.backend.move_worktree(self.path, _absolute(path)).path

    def remove(self, *, force: bool = False) -> Removal:
        """Remove it. What only it holds is kept as a commit under ``refs/arboretum/salvage/``.

        That is what `force` discards (ignored files and nested repositories excepted), and commits that nothing but
        its detached HEAD reaches. When this returns, folder and record are out of sight and its branch is free; its
        files are looked through and deleted behind, before the repository is closed or the process ends.

        Args:
            force: Remove it although it holds changes or untracked files.

        Returns:
            The removal: its ``kept`` is the salvage ref if there was something to keep, its ``wait`` waits for the end.

        Raises:
            DirtyWorktreeError: It holds changes and `force` was not given.
            WorktreeLockedError: It is locked; that is never broken.
            WorktreeNotFoundError: The folder is no longer this worktree; it was left alone.
        """
        return self.repository.removals.begin(self.path, force=force)

    def salvage(self) -> RefName | None:
        """Keep uncommitted work, and commits of a detached HEAD, under ``refs/arboretum/salvage/``.

        The files stay as they are. ``git stash apply <ref>`` brings changes back.

        Returns:
            The ref; None if there is nothing that is not kept elsewhere.
        """
        return salvage(self)


@define(eq=False)
class Worktrees:
    """The worktrees of a repository: the main one (or the bare repository) first, then by path."""

    _repository: Repository

    def __iter__(self) -> Iterator[Worktree]:
        return (Worktree(self._repository, info.path) for info in self.infos())

    def __len__(self) -> int:
        return len(self._repository.backend.worktree_names()) + 1

    def __contains__(self, path: object) -> bool:
        return isinstance(path, (str, os.PathLike)) and self._find(path) is not None

    def infos(self) -> tuple[WorktreeInfo, ...]:
        """What git records of all worktrees."""
        return self._repository.backend.list_worktrees()

    def _find(self, path: StrPath) -> WorktreeInfo | None:
        return self._repository.backend.find_worktree(_absolute(path))

    def info(self, path: StrPath) -> WorktreeInfo:
        """What git records of the worktree at `path`.

        Raises:
            WorktreeNotFoundError: There is none.
        """
        found = self._find(path)
        if found is None:
            raise WorktreeNotFoundError(
                f"{_absolute(path)} is not a worktree of {self._repository.path}",
                operation="list_worktrees",
                hint="list them with: git worktree list",
            )
        return found

    def get(self, path: StrPath) -> Worktree:
        """The worktree at `path`. Raises WorktreeNotFoundError."""
        return Worktree(self._repository, self.info(path).path)

    @property
    def main(self) -> Worktree:
        """The main worktree.

        Raises:
            WorktreeNotFoundError: The repository is bare.
        """
        info = self._repository.backend.find_worktree(None)
        assert info is not None  # a repository always has this one
        if info.bare:
            raise WorktreeNotFoundError(f"{info.path} is a bare repository: it has no main worktree")
        return Worktree(self._repository, info.path)

    def add(
        self,
        path: StrPath,
        *,
        branch: str | None = None,
        new_branch: str | None = None,
        detach: str | None = None,
        orphan: str | None = None,
        start: str = "HEAD",
        checkout: bool = True,
        lock: str | None = None,
        force: bool = False,
    ) -> Worktree:
        """Make a worktree at `path`.

        A new branch is made first, by compare-and-set from nothing, so the add can be tried again; if the
        worktree cannot be made the branch goes away again.

        Args:
            path: Where; parents are made, an empty folder is taken over.
            branch: The existing branch to check out.
            new_branch: The branch to make at `start` and check out.
            detach: The revision to stand at on no branch.
            orphan: The branch without commits to stand on.
            start: Where the new branch starts.
            checkout: Whether to write the files.
            lock: The reason to lock it with from its first moment; None leaves it unlocked.
            force: Take the path although a record of a missing worktree claims it.

        Raises:
            PathOccupiedError: There is something at `path`.
            BranchCheckedOutError: A worktree is on the branch.
            RefExistsError: The new branch exists already.
            RefNotFoundError: There is no such branch.
        """
        if sum(choice is not None for choice in (branch, new_branch, detach, orphan)) != 1:
            raise UsageError("say where the worktree stands: one of branch, new_branch, detach and orphan")
        repository = self._repository
        name = branch if new_branch is None else new_branch
        spec = WorktreeSpec(
            path=_absolute(path),
            branch=RefName.branch(name) if name is not None else None,
            detach=repository.resolve(detach) if detach is not None else None,
            orphan=RefName.branch(orphan) if orphan is not None else None,
            checkout=checkout,
            lock=lock,
            force=force,
        )
        made = repository.branches.create(new_branch, start) if new_branch is not None else None
        try:
            info = repository.backend.add_worktree(spec)
        except BaseException:
            if made is not None:
                with contextlib.suppress(GitOperationError):
                    repository.backend.update_ref(made.ref, None, made.oid)
            raise
        return Worktree(repository, info.path)

    @contextlib.contextmanager
    def temporary(
        self, target: str = "HEAD", *, path: StrPath | None = None, detach: bool = False
    ) -> Iterator[Worktree]:
        """A worktree that is removed on exit, also when an exception or Ctrl-C ends the block.

        Uncommitted changes in it are kept under ``refs/arboretum/salvage/``. A branch that was checked out stays.

        Args:
            target: A branch to check out, or a revision to stand at.
            path: Where to make it; None for a path of its own.
            detach: Stand at the commit although `target` is a branch.
        """
        own = os.path.join(tempfile.gettempdir(), f"arboretum-{secrets.token_hex(8)}") if path is None else None
        place = os.path.join(own, "worktree") if own is not None else _absolute(path or ".")
        tree: Worktree | None = None
        try:
            if own is not None:
                os.mkdir(own, 0o700)
            on_branch = not detach and target in self._repository.branches
            tree = self.add(place, branch=target) if on_branch else self.add(place, detach=target)
            yield tree
        finally:
            to_the_end(lambda: self._end(tree, own))

    def _end(self, tree: Worktree | None, own: str | None) -> None:
        """Remove a temporary worktree, and the folder `own` that was made for it."""
        if own is not None and tree is None:  # Ctrl-C came between its making and our hearing of it
            tree = Worktree(self._repository, os.path.join(os.path.realpath(own), "worktree"))
        if tree is not None and tree.path in self:
            with contextlib.suppress(WorktreeLockedError):  # locked in the block: it is to stay
                tree.remove(force=True).wait()
        if own is not None:
            with contextlib.suppress(OSError):
                os.rmdir(own)

    def prune(self, *, dry_run: bool = False) -> tuple[WorktreeInfo, ...]:
        """Remove the records of worktrees whose folders are gone; locked ones stay. Returns them.

        What removals of processes that died have left is put in order, too: their work is kept, their files go.
        """
        if not dry_run:
            self._repository.removals.sweep()
        return self._repository.backend.prune_worktrees(dry_run=dry_run)

    def repair(self, paths: Iterable[StrPath] = ()) -> None:
        """Mend the links between records and folders; `paths` are worktrees that were moved by hand."""
        self._repository.backend.repair_worktrees(tuple(map(_absolute, paths)))
