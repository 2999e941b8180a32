"""`Repository`: a git repository as an object, over any backend."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Self

from attrs import define, field

from arboretum.backends.base import ANY, Expected, GitBackend
from arboretum.backends.layers import observed
from arboretum.bootstrap import DEFAULT_BACKEND, backend_factory, default_runner
from arboretum.branches import Branches, Tags
from arboretum.events import Observer, Observers
from arboretum.removal import Removals
from arboretum.stashes import Stashes
from arboretum.values import (
    Commit,
    DiffEntry,
    Head,
    LogQuery,
    MergeOutcome,
    Oid,
    Ref,
    RefName,
    Revision,
)
from arboretum.worktree import Worktrees

if TYPE_CHECKING:
    from arboretum.process.model import CommandRunner

StrPath = str | os.PathLike[str]


@define(eq=False, slots=False)
class Repository:
    """A git repository, opened once by one backend.

    Args:
        backend: What reads and writes it.
        runner: What runs commands in its worktrees; None for real processes.
        observers: Told of what happens; of git operations only if there is one from the start.
    """

    backend: GitBackend
    _runner: CommandRunner | None = field(default=None, alias="runner")
    observers: Observers = field(factory=Observers)

    def __attrs_post_init__(self) -> None:
        if self.observers:
            self.backend = observed(self.backend, self.observers)

    @classmethod
    def open(
        cls,
        path: StrPath = ".",
        *,
        backend: str | GitBackend = DEFAULT_BACKEND,
        runner: CommandRunner | None = None,
        observers: Iterable[Observer] = (),
    ) -> Self:
        """Open the repository whose worktree or git directory is `path`.

        Args:
            path: The worktree or git directory; ignored when `backend` is an instance.
            backend: The name of a backend, or an opened one.
            runner: What runs commands; None for real processes.
            observers: Told of what happens.

        Raises:
            RepositoryNotFoundError: There is none exactly there; see `discover`.
            UnsafeRepositoryError: It belongs to somebody else.
            UnsupportedOperationError: The backend does not know its format.
        """
        opened = backend_factory(backend).open(absolute(path)) if isinstance(backend, str) else backend
        return cls(opened, runner=runner, observers=Observers.of(observers))

    @classmethod
    def discover(
        cls,
        path: StrPath = ".",
        *,
        backend: str = DEFAULT_BACKEND,
        runner: CommandRunner | None = None,
        observers: Iterable[Observer] = (),
    ) -> Self:
        """Open the repository that `path` lies in: the nearest one upwards. Arguments and errors as `open`."""
        opened = backend_factory(backend).discover(absolute(path))
        return cls(opened, runner=runner, observers=Observers.of(observers))

    @classmethod
    def init(
        cls,
        path: StrPath,
        *,
        bare: bool = False,
        initial_branch: str = "main",
        backend: str = DEFAULT_BACKEND,
        runner: CommandRunner | None = None,
        observers: Iterable[Observer] = (),
    ) -> Self:
        """Make an empty repository at `path`.

        Raises:
            PathOccupiedError: There is a repository already.
            InvalidValueError: `initial_branch` is no branch name.
        """
        name = RefName.branch(initial_branch).short
        opened = backend_factory(backend).init(absolute(path), bare=bare, initial_branch=name)
        return cls(opened, runner=runner, observers=Observers.of(observers))

    @classmethod
    def clone(
        cls,
        url: str,
        path: StrPath,
        *,
        bare: bool = False,
        backend: str = DEFAULT_BACKEND,
        runner: CommandRunner | None = None,
        observers: Iterable[Observer] = (),
    ) -> Self:
        """Clone `url` to `path`.

        Raises:
            RemoteError: The remote cannot be reached or refuses.
            PathOccupiedError: `path` exists and is not an empty folder.
        """
        opened = backend_factory(backend).clone(url, absolute(path), bare=bare)
        return cls(opened, runner=runner, observers=Observers.of(observers))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Repository {self.path!r} backend={self.backend.name}>"

    def close(self) -> None:
        """Wait for removals, and give back what the backend holds open; closing twice is allowed."""
        self.removals.close()
        self.backend.close()

    @property
    def runner(self) -> CommandRunner:
        """What runs commands in the worktrees."""
        if self._runner is None:
            self._runner = default_runner()
        return self._runner

    @property
    def path(self) -> str:
        """The root of the worktree that was opened; the git directory of a bare repository."""
        return self.backend.worktree_path or self.backend.git_dir

    @property
    def git_dir(self) -> str:
        """The git directory of the worktree that was opened."""
        return self.backend.git_dir

    @property
    def common_dir(self) -> str:
        """The git directory that all worktrees share."""
        return self.backend.common_dir

    @property
    def is_bare(self) -> bool:
        """Whether there is no main worktree."""
        return self.backend.is_bare

    @cached_property
    def state_dir(self) -> str:
        """The folder in the common git directory in which arboretum keeps its own files.

        It is made on first use; where it cannot be made what writes into it says so, and what only reads finds nothing.
        """
        folder = os.path.join(self.common_dir, "arboretum")
        with contextlib.suppress(OSError):
            os.makedirs(folder, exist_ok=True)
        return folder

    @contextlib.contextmanager
    def lock(self, name: str, *, timeout: float = -1) -> Iterator[None]:
        """Hold the cross-process lock `name` of this repository. The kernel lets go of it when its holder dies.

        Args:
            name: Which lock.
            timeout: Seconds to wait for it; negative waits for ever.

        Raises:
            filelock.Timeout: Somebody else holds it for longer.
        """
        from filelock import FileLock

        with FileLock(os.path.join(self.state_dir, f"{name}.lock"), timeout=timeout, thread_local=False):
            yield

    # Where it stands -------------------------------------------------------------------------

    @property
    def head(self) -> Head:
        """Where the opened worktree (or the bare repository) stands."""
        worktree = self.backend.worktree_path
        if worktree is not None:
            return self.backend.head(worktree)
        ref = self.backend.read_ref(RefName("HEAD"))
        if ref is not None:
            return Head(branch=ref.target, oid=ref.oid)
        main = self.backend.find_worktree(None)
        assert main is not None  # a repository always has this one
        return Head(branch=main.branch, oid=main.head)

    @property
    def current_branch(self) -> str | None:
        """The branch of the opened worktree; None when detached (or unborn)."""
        head = self.head
        return head.branch.short if head.branch is not None and not head.is_unborn else None

    # Collections -----------------------------------------------------------------------------

    @cached_property
    def branches(self) -> Branches:
        """The local branches."""
        return Branches(self)

    @cached_property
    def tags(self) -> Tags:
        """The tags."""
        return Tags(self)

    @cached_property
    def worktrees(self) -> Worktrees:
        """The worktrees, the main one first."""
        return Worktrees(self)

    @cached_property
    def removals(self) -> Removals:
        """The removals of worktrees that are going on."""
        return Removals(self)

    @cached_property
    def stashes(self) -> Stashes:
        """The stashes, which all worktrees share."""
        return Stashes(self)

    # History ---------------------------------------------------------------------------------

    def resolve(self, revision: str) -> Oid:
        """The commit that `revision` names.

        Raises:
            RevisionNotFoundError: It names none.
            InvalidValueError: It could be taken for an option.
        """
        return self.backend.resolve(Revision(revision), worktree=self.backend.worktree_path)

    def commit(self, revision: str = "HEAD") -> Commit:
        """The commit that `revision` names. Errors as `resolve`."""
        return self.backend.read_commit(self.resolve(revision))

    def log(
        self,
        *revisions: str,
        exclude: Iterable[str] = (),
        first_parent: bool = False,
        paths: Iterable[str] = (),
        limit: int | None = None,
        topological: bool = False,
    ) -> Iterator[Commit]:
        """Walk the commits that `revisions` (HEAD by default) reach and `exclude` do not, newest first, lazily."""
        query = LogQuery(
            include=tuple(map(self.resolve, revisions or ("HEAD",))),
            exclude=tuple(map(self.resolve, exclude)),
            first_parent=first_parent,
            paths=tuple(paths),
            limit=limit,
            topological=topological,
        )
        return self.backend.log(query)

    def merge_base(self, one: str, two: str) -> Oid | None:
        """A best common ancestor of two revisions; None for unrelated histories."""
        return self.backend.merge_base(self.resolve(one), self.resolve(two))

    def is_ancestor(self, ancestor: str, descendant: str) -> bool:
        """Whether `descendant` reaches `ancestor` (or is it)."""
        old = self.resolve(ancestor)
        return self.backend.merge_base(old, self.resolve(descendant)) == old

    def ahead_behind(self, one: str, two: str) -> tuple[int, int]:
        """How many commits `one` has that `two` lacks, and the other way round."""
        a, b = self.resolve(one), self.resolve(two)
        ahead = sum(1 for _ in self.backend.log(LogQuery(include=(a,), exclude=(b,))))
        return ahead, sum(1 for _ in self.backend.log(LogQuery(include=(b,), exclude=(a,))))

    def diff_names(self, old: str | None, new: str, *, renames: bool = True) -> tuple[DiffEntry, ...]:
        """Which paths differ between two revisions; `old` None stands for nothing at all."""
        return self.backend.diff_trees(None if old is None else self.resolve(old), self.resolve(new), renames=renames)

    def merge_tree(self, ours: str, theirs: str) -> MergeOutcome:
        """Merge two revisions in memory: a clean tree or the conflicts. Nothing is touched."""
        return self.backend.merge_trees(self.resolve(ours), self.resolve(theirs))

    # Refs and configuration ------------------------------------------------------------------

    def ref(self, name: str) -> Ref | None:
        """The ref with this full name; None if there is none."""
        return self.backend.read_ref(RefName(name))

    def refs(self, prefix: str = "refs/") -> tuple[Ref, ...]:
        """All refs below `prefix`, sorted by name."""
        return self.backend.list_refs(prefix)

    def update_ref(self, name: str, new: Oid | None, expected: Expected = ANY, *, message: str = "") -> None:
        """Set (None: delete) a ref if it has the expected value now. Errors as `RefStore.update_ref`."""
        self.backend.update_ref(RefName(name), new, expected, message=message)

    def get_config(self, key: str) -> str | None:
        """The value of `key` that counts (the last one); None if it is not set."""
        values = self.backend.get_config(key, worktree=self.backend.worktree_path)
        return values[-1] if values else None

    def set_config(self, key: str, value: str | None) -> None:
        """Set `key` in the repository's own configuration; None removes it."""
        self.backend.set_config(key, value)

    def fetch(self, remote: str = "origin", refspecs: Iterable[str] = (), *, prune: bool = False) -> None:
        """Fetch from a remote.

        Raises:
            RemoteError: It cannot be reached or refuses.
        """
        self.backend.fetch(remote, tuple(refspecs), prune=prune)


def absolute(path: StrPath) -> str:
    """`path` made absolute, links kept."""
    return str(Path(path).expanduser().absolute())
