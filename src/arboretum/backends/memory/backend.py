"""`MemoryBackend`: the whole port in memory, and how its repositories come into being."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar, Final
from weakref import WeakKeyDictionary

from attrs import define, field

from arboretum.backends.base import Capability
from arboretum.backends.memory.admin import MemoryWorktrees
from arboretum.backends.memory.disk import Disk, RealDisk
from arboretum.backends.memory.naming import MemoryRefs
from arboretum.backends.memory.objects import ObjectStore
from arboretum.backends.memory.remotes import Transfer
from arboretum.backends.memory.stashing import MemoryStashes
from arboretum.backends.memory.state import HEAD, MemoryState, WorktreeRecord, exclusive
from arboretum.backends.trees.snapshot import File
from arboretum.errors import PathOccupiedError, RemoteError, RepositoryNotFoundError
from arboretum.values import RefName

#: What it can do, on every repository of its own.
CAPABILITIES: Final = frozenset({Capability.SHA256, Capability.FETCH})
#: The file in a repository's git directory that names it among the repositories of this process.
_MARK = "arboretum-memory"


@define(eq=False)
class Registry:
    """The repositories of one process, by the disk that they are on and the mark in their git directory.

    A repository in memory lives as long as its process, wherever handles come and go; the mark ties it to its
    folder, so that it moves with the folder (a copy of the folder is no repository) and is forgotten with it.
    """

    _by_disk: WeakKeyDictionary[Disk, dict[str, MemoryState]] = field(factory=WeakKeyDictionary)

    def add(self, state: MemoryState) -> None:
        """Register a repository that was just made."""
        known = self._by_disk.setdefault(state.disk, {})
        mark = f"{os.getpid()}-{len(known)}"
        known[mark] = state
        state.disk.write(f"{state.common_dir}/{_MARK}", File(mark.encode()))

    def find(self, disk: Disk, common_dir: str) -> MemoryState | None:
        """The repository whose git directory this is."""
        mark = disk.read(f"{common_dir}/{_MARK}")
        state = self._by_disk.get(disk, {}).get(mark.data.decode("ascii", "replace")) if mark else None
        if state is not None and state.common_dir != common_dir:
            if disk.read(f"{state.common_dir}/{_MARK}") == mark:
                return None  # a copy of the folder is no copy of the repository
            state.main.path = common_dir if state.bare else os.path.dirname(common_dir)
            state.common_dir = common_dir
        return state


@define(eq=False)
class MemoryBackend(MemoryWorktrees, MemoryStashes, MemoryRefs):
    """A repository in memory that behaves as git does: the verified fake of the other backends.

    Objects have git's own ids. Refs, indexes, reflogs, stashes and the records of worktrees are in memory,
    shared by all handles of the process on the same repository, and safe to use from many threads. The files
    of worktrees are on a `Disk`: in real folders by default, so that programs and commands find them, or in
    memory too (``disk=MemoryDisk()``), where `files` reads and writes them.

    Make one with `init` or `clone`, and get more handles with `open` and `discover`.
    """

    name: ClassVar[str] = "memory"
    real_disk: ClassVar[RealDisk] = RealDisk()
    registry: ClassVar[Registry] = Registry()

    @classmethod
    def open(cls, path: str, *, disk: Disk | None = None) -> MemoryBackend:
        """Open a repository of this process: see `BackendFactory`."""
        disk = disk or cls.real_disk
        real = disk.real_path(path)
        for common_dir in (f"{real}/.git", real):
            state = cls.registry.find(disk, common_dir)
            if state is not None:
                return cls(state, state.main)
        return cls._open_linked(disk, real, path)

    @classmethod
    def _open_linked(cls, disk: Disk, real: str, path: str) -> MemoryBackend:
        link = disk.read(f"{real}/.git")
        target = os.fsdecode(link.data).removeprefix("gitdir: ").removesuffix("\n") if link else ""
        common_dir, _, name = target.rpartition("/worktrees/")
        state = cls.registry.find(disk, common_dir) if common_dir else None
        if state is None or name not in state.linked:
            raise RepositoryNotFoundError(
                f"there is no in-memory repository at {path}", operation="open",
                hint="a repository in memory is made by init or clone, and lives in the process that made it",
            )  # fmt: skip
        return cls(state, state.linked[name])

    @classmethod
    def discover(cls, path: str, *, disk: Disk | None = None) -> MemoryBackend:
        """Open the repository that `path` lies in: see `BackendFactory`."""
        place = real = (disk or cls.real_disk).real_path(path)
        while True:
            try:
                return cls.open(place, disk=disk)
            except RepositoryNotFoundError:
                parent = os.path.dirname(place)
                if parent == place:
                    raise RepositoryNotFoundError(
                        f"there is no in-memory repository at or above {real}", operation="discover"
                    ) from None
                place = parent

    @classmethod
    def init(
        cls, path: str, *, bare: bool = False, initial_branch: str = "main", disk: Disk | None = None,
        sha256: bool = False,
    ) -> MemoryBackend:  # fmt: skip
        """Make an empty repository: see `BackendFactory`."""
        disk = disk or cls.real_disk
        branch = RefName.branch(initial_branch)
        real = disk.real_path(path)
        common_dir = real if bare else f"{real}/.git"
        if disk.is_file(real) or disk.is_file(f"{common_dir}/{_MARK}") or disk.is_folder(f"{common_dir}/objects"):
            raise PathOccupiedError(f"there is a repository (or a file) at {path} already", operation="init")
        disk.make_folder(common_dir)
        main = WorktreeRecord("", real, branch, bare_index=True)
        state = MemoryState(disk, common_dir, main, bare, ObjectStore(sha256))
        state.config |= {
            "core.repositoryformatversion": ["1" if sha256 else "0"],
            "core.filemode": ["true"],
            "core.bare": ["true" if bare else "false"],
        }
        if sha256:
            state.config["extensions.objectformat"] = ["sha256"]
        cls.registry.add(state)
        return cls(state, main)

    @classmethod
    def clone(cls, url: str, path: str, *, bare: bool = False, disk: Disk | None = None) -> MemoryBackend:
        """Clone another in-memory repository on the same disk: see `BackendFactory`."""
        disk = disk or cls.real_disk
        real = disk.real_path(path)
        if disk.is_file(real) or disk.names(real):
            raise PathOccupiedError(f"cannot clone to {path}: it exists and is not an empty folder", operation="clone")
        source = cls._remote(url, disk)
        head = source.main.head
        made = cls.init(
            path, bare=bare, initial_branch=head.short if isinstance(head, RefName) else "main", disk=disk,
            sha256=source.store.sha256,
        )  # fmt: skip
        Transfer(source, made.state).clone(url, bare=bare)
        oid = made.state.refs.oid(made.state.main.head) if isinstance(made.state.main.head, RefName) else None
        if oid is not None and not bare:
            made.checkout(made.state.main.path, RefName(made.state.main.head), force=True)
        return made

    @classmethod
    def _remote(cls, url: str, disk: Disk) -> MemoryState:
        try:
            return cls.open(url.removeprefix("file://"), disk=disk).state
        except RepositoryNotFoundError as error:
            raise RemoteError(
                f"cannot reach {url!r}: the memory backend fetches from repositories of this process only",
                operation="fetch",
            ) from error

    @exclusive
    def fetch(self, remote: str, refspecs: Sequence[str] = (), *, prune: bool = False) -> None:
        """See `WorkingTree`."""
        urls = self.state.config_values(f"remote.{remote}.url")
        source = self._remote(urls[-1] if urls else remote, self.state.disk)
        configured = self.state.config_values(f"remote.{remote}.fetch")
        Transfer(source, self.state).fetch(refspecs or configured, prune=prune)

    @property
    def disk(self) -> Disk:
        """Where the files of its worktrees are."""
        return self.state.disk

    @property
    def git_dir(self) -> str:
        """See `GitBackend`."""
        name = self.opened.name
        return f"{self.state.common_dir}/worktrees/{name}" if name else self.state.common_dir

    @property
    def common_dir(self) -> str:
        """See `GitBackend`."""
        return self.state.common_dir

    @property
    def worktree_path(self) -> str | None:
        """See `GitBackend`."""
        return None if self.state.bare and self.opened is self.state.main else self.opened.path

    @property
    def is_bare(self) -> bool:
        """See `GitBackend`."""
        return self.state.bare

    @property
    def sha256(self) -> bool:
        """See `GitBackend`."""
        return self.state.store.sha256

    def capabilities(self) -> frozenset[Capability]:
        """See `GitBackend`."""
        return CAPABILITIES

    def close(self) -> None:
        """See `GitBackend`: there is nothing to give back."""


__all__ = ["HEAD", "MemoryBackend", "Registry"]
