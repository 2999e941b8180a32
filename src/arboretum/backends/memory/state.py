"""One repository in memory: what all handles on it share."""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Callable, Iterator
from typing import Concatenate, ParamSpec, TypeVar

from attrs import define, field

from arboretum.backends.memory.disk import Disk
from arboretum.backends.memory.objects import ObjectStore
from arboretum.backends.memory.refs import PRIVATE, RefTable
from arboretum.backends.trees.snapshot import File, Snapshot
from arboretum.errors import GitOperationError, GitPermissionError, WorktreeNotFoundError
from arboretum.values import Head, Oid, RefName, WorktreeInfo

P = ParamSpec("P")
R = TypeVar("R")
HEAD = RefName("HEAD")
#: What git says of a record whose folder is gone.
GONE = "gitdir file points to non-existent location"


@define(eq=False)
class WorktreeRecord:
    """One worktree: where it is, where it stands, and its index.

    Args:
        name: The name of its record; empty for the main one.
        path: Its folder.
        head: The branch it is on, or the commit it stands at.
        index: What is staged.
        locked: Why it is locked; None when it is not.
        bare_index: Whether nothing has written the index yet: then a checkout takes all files from its target.
        private: Its own refs (``refs/worktree/*``, ``ORIG_HEAD``) and the reflog of its HEAD.
    """

    name: str
    path: str
    head: RefName | Oid
    index: Snapshot = field(factory=dict)
    locked: str | None = None
    bare_index: bool = False
    private: RefTable = field(factory=RefTable)


@define(eq=False)
class MemoryState:
    """Objects, refs, configuration and worktree records of one repository.

    Args:
        disk: Where the files of its worktrees are.
        common_dir: The folder that stands for its git directory.
        main: The main worktree, or the repository itself when bare.
        bare: Whether it has no main worktree.
        store: Its objects.
    """

    disk: Disk
    common_dir: str
    main: WorktreeRecord
    bare: bool
    store: ObjectStore
    refs: RefTable = field(factory=RefTable)
    config: dict[str, list[str]] = field(factory=dict)
    linked: dict[str, WorktreeRecord] = field(factory=dict)
    lock: threading.RLock = field(factory=threading.RLock, repr=False)

    def records(self) -> Iterator[WorktreeRecord]:
        """The main worktree first, then the linked ones by path."""
        yield self.main
        yield from sorted(self.linked.values(), key=lambda record: record.path.encode("utf-8", "surrogateescape"))

    def record(self, path: str) -> WorktreeRecord:
        """The record of the worktree at `path`. Raises WorktreeNotFoundError."""
        real = self.disk.real_path(path)
        for record in self.records():
            if record.path in {real, path}:
                return record
        raise WorktreeNotFoundError(
            f"{path} is not a worktree of {self.common_dir}", hint="list the worktrees to see what there is"
        )

    def gitfile(self, record: WorktreeRecord) -> File:
        """The ``.git`` file by which a linked worktree knows its repository."""
        return File(f"gitdir: {self.common_dir}/worktrees/{record.name}\n".encode("utf-8", "surrogateescape"))

    def is_whole(self, record: WorktreeRecord) -> bool:
        """Whether the folder is there and is this worktree (and no other that took its place)."""
        if record is self.main:
            return self.disk.is_folder(record.path)
        return self.disk.read(f"{record.path}/.git") == self.gitfile(record)

    def is_gone(self, record: WorktreeRecord) -> bool:
        """Whether the folder of a linked worktree has no ``.git`` any more."""
        return record is not self.main and self.disk.read(f"{record.path}/.git") is None

    def set_index(self, record: WorktreeRecord, index: Snapshot) -> None:
        """Write the index of a worktree."""
        record.index, record.bare_index = index, False

    def live(self, path: str) -> WorktreeRecord:
        """The record of a worktree with files to work on. Raises WorktreeNotFoundError."""
        record = self.record(path)
        if (record is self.main and self.bare) or not self.is_whole(record):
            raise WorktreeNotFoundError(
                f"there is no worktree at {path} any more", hint="prune or repair the worktrees"
            )
        return record

    def head(self, record: WorktreeRecord) -> Head:
        """Where a worktree stands."""
        if isinstance(record.head, RefName):
            return Head(self.refs.final(record.head), self.refs.oid(record.head))
        return Head(None, record.head)

    def table(self, name: RefName, record: WorktreeRecord) -> RefTable:
        """The table that a ref lives in: the shared one, or one worktree's own."""
        return record.private if name.startswith(PRIVATE) or not name.startswith("refs/") else self.refs

    def check_birth(self, record: WorktreeRecord) -> None:
        """Refuse to give a branch its first commit where its name is a folder of others. Raises RefExistsError."""
        if isinstance(record.head, RefName) and self.refs.oid(record.head) is None:
            self.refs.check_name(self.refs.final(record.head))

    def move_head(self, record: WorktreeRecord, new: Oid, message: str) -> None:
        """Let HEAD (by its branch, if it is on one) name another commit."""
        old = self.head(record).oid
        if isinstance(record.head, RefName):
            self.refs.set(record.head, new, message)
        else:
            record.head = new
        record.private.log(HEAD, old, new, message)

    def info(self, record: WorktreeRecord) -> WorktreeInfo:
        """The record as a value."""
        if record is self.main and self.bare:
            return WorktreeInfo(record.path, None, None, is_main=True, bare=True)
        head = self.head(record)
        prunable = GONE if record.locked is None and self.is_gone(record) else None
        return WorktreeInfo(
            record.path, head.oid, head.branch, is_main=record is self.main, locked=record.locked, prunable=prunable,
            name=record.name,
        )  # fmt: skip

    def new_name(self, path: str) -> str:
        """A free name for the record of a worktree at `path`: its base name, made fit, and numbered if need be."""
        base = re.sub(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{", "-", path.rpartition("/")[2]).strip(".") or "worktree"
        base = re.sub(r"\.lock\Z", "-lock", base)
        names = [base, *(f"{base}{number}" for number in range(1, len(self.linked) + 2))]
        return next(name for name in names if name not in self.linked)

    def users_of(self, branch: RefName) -> list[WorktreeRecord]:
        """The worktrees that are on a branch."""
        if self.bare:
            return [r for r in self.linked.values() if r.head == branch]
        return [record for record in self.records() if record.head == branch]

    def config_values(self, key: str) -> tuple[str, ...]:
        """The values of a key in its normal form."""
        return tuple(self.config.get(key, ()))


@define(eq=False)
class Handle:
    """What every part of the backend works on: the repository, and the worktree that was opened."""

    state: MemoryState
    opened: WorktreeRecord


H = TypeVar("H", bound=Handle)


def exclusive(method: Callable[Concatenate[H, P], R]) -> Callable[Concatenate[H, P], R]:
    """Let one thread at a time run the methods of a repository, and translate what the disk refuses."""

    @functools.wraps(method)
    def wrapper(self: H, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with self.state.lock:
            try:
                return method(self, *args, **kwargs)
            except GitOperationError as error:
                error.operation = error.operation or method.__name__
                raise
            except PermissionError as error:
                raise GitPermissionError(
                    f"{method.__name__}: no permission: {error.filename}", operation=method.__name__,
                    hint="check who owns the folder",
                ) from error  # fmt: skip

    return wrapper
