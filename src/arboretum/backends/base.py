"""The backend port: what arboretum needs of git, cut where the stores are.

`ObjectReader`, `RefStore`, `WorktreeAdmin` and `WorkingTree` together are a `GitBackend`. Everything that
can be derived from these primitives is derived once, in `arboretum.repository` and its neighbours.

Rules for every method:

- Values in, values out: no native object of a library crosses the port.
- It fails with a class of `arboretum.errors.GitOperationError`, the cause kept, and then has changed nothing
  (or has undone it), unless its contract says otherwise.
- What a backend cannot do (`capabilities`) is refused with `UnsupportedOperationError` before any side effect.
- The same call has the same observable result on every backend.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from typing import Final, NamedTuple, Protocol

from arboretum.values import (
    Commit,
    DiffEntry,
    Head,
    LogQuery,
    MergeOutcome,
    Oid,
    Ref,
    RefName,
    ResetMode,
    Revision,
    Signature,
    StashEntry,
    StatusEntry,
    TreeEntry,
    WorktreeInfo,
    WorktreeSpec,
)


class Capability(enum.StrEnum):
    """What a backend may or may not be able to do on the repository at hand. Few, and honest."""

    SHA256 = "sha256"
    REFTABLE = "reftable"
    SPARSE_CHECKOUT = "sparse-checkout"
    FILTERS = "filters"  # clean/smudge programs, git-lfs
    HOOKS = "hooks"
    SUBMODULES = "submodules"
    PARTIAL_CLONE = "partial-clone"
    RELATIVE_WORKTREES = "relative-worktrees"
    FETCH = "fetch"
    INDEX_EXTENSIONS = "index-extensions"  # split index, sparse index
    EXACT_RESET = "exact-reset"  # writes anew what was changed in any way, rights included


class AnyValue(enum.Enum):
    """The type of `ANY`."""

    ANY = "any"


#: As the expected value of a ref: whatever it is now.
ANY: Final = AnyValue.ANY
#: The expected value of a ref: an id, None for "must not exist", or `ANY`.
Expected = Oid | None | AnyValue


class CommitLink(NamedTuple):
    """How a commit hangs together with others: a walk of a hundred thousand has time for no more.

    Attributes:
        oid: Its id.
        parents: Its parents, in order.
        time: When it was committed, in seconds since the epoch; 0 where it does not say.
    """

    oid: Oid
    parents: tuple[Oid, ...]
    time: int


class Keeper(Protocol):
    """Keeps the work in a worktree that is being discarded."""

    def before(self, path: str) -> None:
        """Keep what only the git directory of the worktree holds; it is still as it was."""

    def behind(self, path: str) -> None:
        """Keep what its files hold, perhaps in another thread and with the folder at another path."""


class ObjectReader(Protocol):
    """Objects: read commits, trees and blobs, compare, merge in memory, write."""

    def resolve(self, revision: Revision, *, worktree: str | None = None) -> Oid:
        """The commit that `revision` names, tags peeled.

        - `worktree` says whose HEAD and per-worktree refs count; None for the one that was opened.
        - Raises RevisionNotFoundError; UnbornHeadError for HEAD on a branch without commits;
          ObjectMissingError when a ref names an object that is not there.
        """

    def read_commit(self, oid: Oid) -> Commit:
        """The commit `oid`. Raises ObjectMissingError."""

    def log(self, query: LogQuery) -> Iterator[Commit]:
        """The commits of `query`, newest first; lazily, and never a parent before a child when topological."""

    def links(self, query: LogQuery) -> Iterator[CommitLink]:
        """The same walk as `log`, without what the commits hold; all parents are told, also those outside the walk."""

    def merge_base(self, one: Oid, two: Oid) -> Oid | None:
        """A best common ancestor, or None for unrelated histories."""

    def read_tree(self, tree: Oid) -> tuple[TreeEntry, ...]:
        """All files below `tree` (a tree or commit id) with their full paths, sorted by path bytes; no folders."""

    def read_blob(self, oid: Oid) -> bytes:
        """The content of a blob. Raises ObjectMissingError."""

    def write_blob(self, data: bytes) -> Oid:
        """Store a blob."""

    def write_tree(self, entries: Sequence[TreeEntry]) -> Oid:
        """Store the tree (with its sub-trees) that holds exactly `entries` (full paths)."""

    def write_commit(
        self, *, tree: Oid, parents: Sequence[Oid], message: str, author: Signature, committer: Signature
    ) -> Oid:
        """Store a commit. No ref moves, no hook runs."""

    def diff_trees(self, old: Oid | None, new: Oid, *, renames: bool = True) -> tuple[DiffEntry, ...]:
        """Which paths differ, sorted by path; `old` None stands for the empty tree. Commit or tree ids."""

    def diff_text(self, old: Oid | None, new: Oid) -> bytes:
        """The difference as a unified patch that `apply` takes, binary files included."""

    def merge_trees(self, ours: Oid, theirs: Oid, *, base: Oid | None = None) -> MergeOutcome:
        """Merge two commits in memory, three-way with rename detection.

        - `base` None: their merge base (the merge of the merge bases where there are several);
          given: that commit or tree is the only base, as for a cherry-pick.
        - Touches no ref, no index, no file.
        """

    def apply_to_tree(self, tree: Oid, patch: bytes) -> Oid:
        """The tree that `patch` makes of `tree`, in memory. Raises PatchFailedError naming the hunk."""


class RefStore(Protocol):
    """Refs, HEAD and configuration."""

    def read_ref(self, name: RefName, *, worktree: str | None = None) -> Ref | None:
        """The ref `name`, or None. A symbolic ref has its target; a dangling one counts as None."""

    def list_refs(self, prefix: str = "refs/") -> tuple[Ref, ...]:
        """All refs whose name starts with `prefix`, sorted by name."""

    def update_ref(self, name: RefName, new: Oid | None, expected: Expected, *, message: str = "") -> None:
        """Set (or with None delete) a ref, if it has the expected value now.

        - Raises RefChangedError (another value), RefExistsError (`expected` None and it exists, or a
          folder/file conflict of names), RefLockedError (somebody is changing it).
        - The branch of a worktree may be moved by it: the domain layer guards that.
        """

    def rename_branch(self, old: RefName, new: RefName) -> None:
        """Rename a branch with its reflog, its configuration and the HEADs of all worktrees that are on it."""

    def get_config(self, key: str, *, worktree: str | None = None) -> tuple[str, ...]:
        """All values of `key` (``section.name`` or ``section.sub.name``), later files last; empty if unset."""

    def set_config(self, key: str, value: str | None) -> None:
        """Set the key in the repository's own configuration to one value; None removes it. Raises ConfigKeyError."""


class WorktreeAdmin(Protocol):
    """The set of worktrees of a repository. Safe against any number of processes that do the same."""

    def list_worktrees(self) -> tuple[WorktreeInfo, ...]:
        """The main worktree (or bare repository) first, then the linked ones sorted by path."""

    def find_worktree(self, path: str | None) -> WorktreeInfo | None:
        """The one of `list_worktrees` at `path` (absolute; another way that links lead there does), None if none is.

        - None as the path is the main worktree (or bare repository).
        - It costs the same however many worktrees there are, where the folder's own link names its record.
        """

    def worktree_names(self) -> tuple[str, ...]:
        """The names of the linked worktrees' records, sorted: much cheaper than all that `list_worktrees` tells."""

    def add_worktree(self, spec: WorktreeSpec) -> WorktreeInfo:
        """Make a linked worktree; parents of its path are made, an empty folder is taken over.

        - Raises PathOccupiedError, BranchCheckedOutError, RefNotFoundError (branch), WorktreeLockedError
          (a locked record claims the path). After a failure neither folder nor record is left.
        - Of two adds of the same branch at once one succeeds and the other gets BranchCheckedOutError.
        """

    def remove_worktree(self, path: str, *, force: bool = False) -> None:
        """Remove a linked worktree and its record.

        - Raises WorktreeNotFoundError, WorktreeLockedError (also with `force`), DirtyWorktreeError (changes or
          untracked files, or submodules; not with `force`). The main worktree is never removed.
        - A folder that is no longer this worktree is left alone and refused with WorktreeNotFoundError.
        """

    def discard_worktree(self, path: str, keeper: Keeper, *, force: bool = False) -> Callable[[], None]:
        """Take a linked worktree out of sight; what is returned keeps its work and deletes it, and is to be called.

        - When it returns, neither the folder is at its path nor the record in the list, and its branch is free. What
          it returns may be called in another thread, before the backend is closed.
        - If `keeper` raises, here or there, the worktree is put back and the error goes on.
        - Of a missing folder nothing is kept. Raises what `remove_worktree` raises.
        """

    def sweep_discarded(self, keep: Callable[[str], None]) -> None:
        """Put in order what `discard_worktree` of dead processes has left: put back, or carried to its end.

        - `keep` is called with the folder of each that has not been kept as a whole, before it is deleted.
        - Nothing is told from its name or age: what lives is not touched, nor what only looks like a leftover.
        """

    def move_worktree(self, path: str, new_path: str) -> WorktreeInfo:
        """Move it. Raises WorktreeLockedError, PathOccupiedError, WorktreeNotFoundError."""

    def lock_worktree(self, path: str, *, reason: str = "") -> None:
        """Lock it against removal, move and prune. Raises WorktreeLockedError when it is locked already."""

    def unlock_worktree(self, path: str) -> None:
        """Unlock it. Raises GitOperationError when it is not locked."""

    def prune_worktrees(self, *, dry_run: bool = False) -> tuple[WorktreeInfo, ...]:
        """Remove the records of worktrees whose folders are gone; locked ones stay. Returns them."""

    def repair_worktrees(self, paths: Sequence[str] = ()) -> None:
        """Mend the links between records and folders; `paths` are worktrees that were moved by hand."""


class WorkingTree(Protocol):
    """One worktree's HEAD, index and files; `worktree` is its absolute path."""

    def head(self, worktree: str) -> Head:
        """Where it stands."""

    def status(
        self, worktree: str, *, untracked: bool = True, ignored: bool = False, renames: bool = False
    ) -> tuple[StatusEntry, ...]:
        """What differs, sorted by path; untracked files one by one, ignored folders as ``name/``. Never writes."""

    def stage(self, worktree: str, paths: Sequence[str]) -> None:
        """Take the files at `paths` (literal, not patterns; folders with all below) as they are, deletions too."""

    def staged_tree(self, worktree: str) -> Oid:
        """Store the tree that the index stands for, and nothing else. Raises ConflictError (unmerged)."""

    def commit(
        self,
        worktree: str,
        message: str,
        *,
        author: Signature | None = None,
        committer: Signature | None = None,
        allow_empty: bool = False,
    ) -> Oid:
        """Commit the index on HEAD. Raises NothingToCommitError, IdentityMissingError, ConflictError (unmerged)."""

    def checkout(self, worktree: str, target: RefName | Oid, *, force: bool = False) -> None:
        """Switch to a branch, or detached to a commit.

        - Local changes that it would overwrite: DirtyWorktreeError, nothing changed (`force` discards them).
        - BranchCheckedOutError when another worktree is on the branch.
        """

    def reset(self, worktree: str, target: Oid, mode: ResetMode, *, exact: bool = False) -> None:
        """Move HEAD (and its branch) to `target`; MIXED also the index, HARD also the tracked files.

        - `exact` (with HARD) writes anew each tracked file of which a time is not the one in the index (in whole
          seconds), so that its rights are those of a new file, whatever is configured; no hook runs, and no branch
          moves: HEAD is detached afterwards.
        - Raises UnsupportedOperationError where that is asked for without `Capability.EXACT_RESET`.
        """

    def clean(self, worktree: str, *, ignored: bool = False) -> tuple[str, ...]:
        """Remove untracked files and folders, nested repositories too (`ignored`: ignored ones also). Returns them."""

    def apply(self, worktree: str, patch: bytes, *, index: bool = False) -> None:
        """Apply a patch to the files (and the index). All or nothing. Raises PatchFailedError."""

    def cherry_pick(self, worktree: str, commit: Oid) -> Oid:
        """Apply a commit on HEAD and commit it with its author and message. Raises ConflictError, nothing changed."""

    def stash_create(self, worktree: str, message: str, *, untracked: bool = False) -> Oid | None:
        """Make a stash commit of the changes (None if there are none). No ref and no file is touched."""

    def stash_apply(self, worktree: str, stash: Oid, *, index: bool = False) -> None:
        """Put a stash's changes into the files. Raises ConflictError, nothing changed; StashNotFoundError."""

    def stash_list(self) -> tuple[StashEntry, ...]:
        """The entries of ``refs/stash``, newest first."""

    def stash_store(self, stash: Oid, message: str) -> None:
        """Put a stash commit on top of ``refs/stash``."""

    def stash_drop(self, stash: Oid) -> None:
        """Take the entry with this commit id out of ``refs/stash``, wherever it stands. Raises StashNotFoundError."""

    def fetch(self, remote: str, refspecs: Sequence[str] = (), *, prune: bool = False) -> None:
        """Fetch from a configured remote, a path or a URL. Raises RemoteError."""


class GitBackend(ObjectReader, RefStore, WorktreeAdmin, WorkingTree, Protocol):
    """Git, as arboretum needs it: one repository, opened by one library."""

    @property
    def name(self) -> str:
        """The name by which the backend is asked for, e.g. ``cli``."""

    @property
    def git_dir(self) -> str:
        """The git directory of the worktree that was opened (absolute)."""

    @property
    def common_dir(self) -> str:
        """The git directory that all worktrees share (absolute). An in-memory backend names a folder of its own."""

    @property
    def worktree_path(self) -> str | None:
        """The worktree that was opened (absolute); None for a bare repository."""

    @property
    def is_bare(self) -> bool:
        """Whether the repository has no main worktree."""

    @property
    def sha256(self) -> bool:
        """Whether object ids have 64 digits."""

    def capabilities(self) -> frozenset[Capability]:
        """What it can do on this repository, worked out once."""

    def close(self) -> None:
        """Give back descriptors and child processes; closing twice is allowed."""


class BackendFactory(Protocol):
    """How backends come into being; the class of a backend has these as class methods."""

    @property
    def name(self) -> str:
        """The name by which the backend is asked for, e.g. ``cli``."""

    def open(self, path: str) -> GitBackend:
        """Open the repository whose worktree or git directory is exactly `path`.

        Raises RepositoryNotFoundError, UnsafeRepositoryError, UnsupportedOperationError (format), GitPermissionError.
        """

    def discover(self, path: str) -> GitBackend:
        """Open the repository that `path` lies in: the nearest one upwards."""

    def init(self, path: str, *, bare: bool = False, initial_branch: str = "main") -> GitBackend:
        """Make an empty repository; PathOccupiedError if there is one already."""

    def clone(self, url: str, path: str, *, bare: bool = False) -> GitBackend:
        """Clone. Raises RemoteError, PathOccupiedError; after a failure nothing is left at `path`."""


__all__ = [
    "ANY", "AnyValue", "BackendFactory", "Capability", "Expected", "GitBackend", "Keeper", "ObjectReader", "RefStore",
    "WorkingTree", "WorktreeAdmin",
]  # fmt: skip
