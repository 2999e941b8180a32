"""What the checks of this package work on: a way to make repositories with some backend."""

from __future__ import annotations

import datetime as dt
import itertools
import shutil
from collections.abc import Iterator, Mapping, Sequence

from attrs import define, evolve, field

from arboretum.backends.base import BackendFactory, Capability, GitBackend
from arboretum.backends.memory import Disk, MemoryBackend, MemoryDisk, RealDisk, WorktreeFiles
from arboretum.backends.trees.snapshot import File, FileContent
from arboretum.testing.builders import CONFIG, EPOCH, IDENTITY, CommitSpec
from arboretum.values import FileMode, LogQuery, Oid, RefName, ResetMode, Signature, TreeEntry, WorktreeSpec


@define(eq=False)
class MemoryFactory:
    """`MemoryBackend` on one disk in memory, as a `BackendFactory`: nothing is outside the process.

    Args:
        disk: The disk that all its repositories share.
    """

    disk: MemoryDisk = field(factory=MemoryDisk)
    name: str = "memory"

    def open(self, path: str) -> GitBackend:
        """See `BackendFactory`."""
        return MemoryBackend.open(path, disk=self.disk)

    def discover(self, path: str) -> GitBackend:
        """See `BackendFactory`."""
        return MemoryBackend.discover(path, disk=self.disk)

    def init(self, path: str, *, bare: bool = False, initial_branch: str = "main") -> GitBackend:
        """See `BackendFactory`."""
        return MemoryBackend.init(path, bare=bare, initial_branch=initial_branch, disk=self.disk)

    def clone(self, url: str, path: str, *, bare: bool = False) -> GitBackend:
        """See `BackendFactory`."""
        return MemoryBackend.clone(url, path, bare=bare, disk=self.disk)


@define(eq=False)
class BackendMaker:
    """Makes repositories with one backend, each in a folder of its own, for checks to work on.

    Args:
        factory: The class of the backend, or anything else with the methods of `BackendFactory`.
        folder: An absolute path below which everything is made.
        disk: How files of worktrees are read and written; the machine's own by default.
    """

    factory: BackendFactory
    folder: str
    disk: Disk = field(factory=RealDisk)
    _numbers: Iterator[int] = field(factory=itertools.count, init=False, repr=False)

    @classmethod
    def in_memory(cls) -> BackendMaker:
        """A maker of in-memory repositories on a disk in memory."""
        factory = MemoryFactory()
        return cls(factory, "/memory", factory.disk)

    @property
    def name(self) -> str:
        """The name of the backend."""
        return self.factory.name

    def path(self, name: str = "place") -> str:
        """A path in a new folder of its own; nothing is there."""
        return self.disk.real_path(f"{self.folder}/{next(self._numbers)}/{name}")

    def empty(self, *, bare: bool = False) -> Bench:
        """A new repository without commits, with an identity in its configuration."""
        path = self.path("repo.git" if bare else "repo")
        bench = Bench(self, self.factory.init(path, bare=bare), path)
        bench.configure()
        return bench

    def repository(self, files: Mapping[str, FileContent] | None = None) -> Bench:
        """A new repository with one commit on ``main``: `files`, or two small ones."""
        bench = self.empty()
        bench.commit({"a.txt": "one\ntwo\nthree\n", "src/b.txt": "b\n"} if files is None else files, "first commit")
        return bench

    def copy(self, bench: Bench) -> Bench:
        """The same repository once more, at another path (a copy of its folder, for disks that have real folders)."""
        path = self.path("repo")
        shutil.copytree(bench.path, path, symlinks=True)
        return Bench(self, self.factory.open(path), path)


@define(eq=False)
class Bench:
    """A repository under test, and short ways to say what checks say often.

    Args:
        maker: Where it comes from.
        backend: The backend that has it open.
        path: Its main worktree (or its git directory when bare).
    """

    maker: BackendMaker
    backend: GitBackend
    path: str
    _clock: Iterator[int] = field(factory=lambda: itertools.count(EPOCH, 60), init=False, repr=False)

    @property
    def disk(self) -> Disk:
        """How files are read and written."""
        return self.maker.disk

    def configure(self) -> None:
        """Give the repository an identity, and let git do nothing by itself."""
        for key, value in CONFIG.items():
            self.backend.set_config(key, value)

    def set_up(self, files: Mapping[str, FileContent]) -> Oid:
        """Configure an empty repository and commit `files` in it."""
        self.configure()
        return self.commit(files, "first commit")

    def can(self, *needed: Capability) -> bool:
        """Whether the backend has all these capabilities here."""
        return self.backend.capabilities().issuperset(needed)

    def files(self, worktree: str | None = None) -> WorktreeFiles:
        """The files of a worktree (None: the main one) by path."""
        return WorktreeFiles(self.disk, worktree or self.path)

    def write(self, files: Mapping[str, FileContent | None], worktree: str | None = None) -> None:
        """Write files of a worktree; None removes one."""
        for path, content in files.items():
            if content is None:
                self.disk.remove(f"{worktree or self.path}/{path}")
            else:
                self.disk.write(f"{worktree or self.path}/{path}", File.of(content))

    def signature(self, role: str = "AUTHOR") -> Signature:
        """Somebody, a minute after the last time."""
        when = dt.datetime.fromtimestamp(next(self._clock), dt.UTC)
        return Signature(IDENTITY[f"GIT_{role}_NAME"], IDENTITY[f"GIT_{role}_EMAIL"], when)

    def commit(
        self, files: Mapping[str, FileContent | None], message: str = "a commit", worktree: str | None = None
    ) -> Oid:
        """Write files of a worktree, stage them, and commit."""
        place = worktree or self.path
        self.write(files, place)
        self.backend.stage(place, list(files))
        who = self.signature()
        return self.backend.commit(place, message, author=who, committer=who, allow_empty=True)

    def tree(self, files: Mapping[str, FileContent]) -> Oid:
        """Store a tree; no worktree knows of it."""
        entries = []
        for path, content in files.items():
            file = File.of(content)
            entries.append(TreeEntry(path, file.mode, self.backend.write_blob(file.data)))
        return self.backend.write_tree(entries)

    def loose_commit(
        self, files: Mapping[str, FileContent], parents: Sequence[Oid] = (), message: str = "a commit\n"
    ) -> Oid:
        """Store a commit with exactly these files; no ref knows of it."""
        who = self.signature()
        return self.backend.write_commit(
            tree=self.tree(files), parents=parents, message=message, author=who, committer=who
        )

    def branch(self, name: str, at: Oid | None = None) -> RefName:
        """Make a branch (None: where HEAD is)."""
        ref = RefName.branch(name)
        self.backend.update_ref(ref, at or self.head(), None, message="made for a test")
        return ref

    def head(self, worktree: str | None = None) -> Oid:
        """The commit that a worktree stands at."""
        oid = self.backend.head(worktree or self.path).oid
        assert oid is not None
        return oid

    def worktree(self, name: str = "linked", *, branch: str | None = None, spec: WorktreeSpec | None = None) -> str:
        """Add a worktree beside the main one, detached at HEAD or on `branch`; its path."""
        path = self.beside(name)
        if spec is None:
            ref = RefName.branch(branch) if branch else None
            spec = WorktreeSpec(path, branch=ref, detach=None if ref else self.head())
        return self.backend.add_worktree(evolve(spec, path=path)).path

    def beside(self, name: str) -> str:
        """A path beside the main worktree."""
        return f"{self.path.rpartition('/')[0]}/{name}"

    def replay(self, specs: Sequence[CommitSpec]) -> tuple[Oid, ...]:
        """Store a history through the port; the same one as `RepositoryBuilder.commits` makes, id by id."""
        oids: list[Oid] = []
        trees: list[dict[str, File]] = []
        tips: dict[str, int] = {}
        for number, spec in enumerate(specs, 1):
            parents = self._parents(spec, tips)
            tree = dict(trees[parents[0] - 1]) if parents else {}
            for path, content in spec.files.items():
                tree.pop(path, None) if content is None else tree.update({path: File.of(content)})
            when = dt.datetime.fromtimestamp(spec.when or EPOCH + 60 * number, dt.UTC)
            author, committer = (
                Signature(IDENTITY[f"GIT_{r}_NAME"], IDENTITY[f"GIT_{r}_EMAIL"], when) for r in ("AUTHOR", "COMMITTER")
            )
            oids.append(
                self.backend.write_commit(
                    tree=self.tree(tree), parents=[oids[p - 1] for p in parents], message=spec.message, author=author,
                    committer=committer,
                )
            )  # fmt: skip
            trees.append(tree)
            tips[spec.branch] = number
        self._move_branches({name: oids[number - 1] for name, number in tips.items()})
        return tuple(oids)

    def _parents(self, spec: CommitSpec, tips: Mapping[str, int]) -> list[int]:
        if spec.parents is None:
            return [tips[spec.branch]] if spec.branch in tips else []
        return [int(p[1:]) if p.startswith(":") else tips[p] for p in spec.parents]

    def _move_branches(self, tips: Mapping[str, Oid]) -> None:
        for name, oid in tips.items():
            ref = RefName.branch(name)
            now = self.backend.read_ref(ref)
            self.backend.update_ref(ref, oid, now.oid if now else None, message="replayed")
        head = None if self.backend.is_bare else self.backend.head(self.path)
        if head is not None and head.oid is not None:
            self.backend.reset(self.path, head.oid, ResetMode.HARD)

    def log(self, *tips: Oid) -> list[Oid]:
        """The ids of a log."""
        return [commit.oid for commit in self.backend.log(LogQuery(tips))]

    def status(self, worktree: str | None = None) -> dict[str, str]:
        """The status as path -> two letters."""
        return {e.path: f"{e.index}{e.worktree}" for e in self.backend.status(worktree or self.path)}


def as_files(backend: GitBackend, tree: Oid) -> dict[str, File]:
    """The files of a tree."""
    return {
        entry.path: File(backend.read_blob(entry.oid), entry.mode)
        for entry in backend.read_tree(tree) if entry.mode is not FileMode.SUBMODULE
    }  # fmt: skip
