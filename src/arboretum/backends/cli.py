"""The backend over the git executable: the reference, and the only one that can do everything."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import ClassVar, Final, Self

from attrs import define

from arboretum.backends.base import Capability
from arboretum.backends.cli_trees import CliTrees
from arboretum.backends.faults import git_error
from arboretum.backends.git_command import GitCommand, GitOutput, GitProcess, git_environment, run_process
from arboretum.errors import (
    GitOperationError,
    InvalidValueError,
    PathOccupiedError,
    RepositoryNotFoundError,
    UnsafeRepositoryError,
    UnsupportedOperationError,
)
from arboretum.values import RefName

#: ``git merge-tree --write-tree`` and ``cat-file --batch-command`` are needed.
OLDEST_GIT: Final = (2, 38)
# What is asked to find a repository; the last one fails outside a worktree, after the others have been answered.
_PLACE_QUESTIONS: Final = ("--show-object-format", "--absolute-git-dir", "--show-toplevel")
_ANSWERS: Final = 3  # with the end of the last line, when there is no worktree
RELATIVE_SINCE: Final = (2, 48)
_ALWAYS: Final = frozenset(Capability) - {Capability.REFTABLE, Capability.RELATIVE_WORKTREES}


@define(eq=False)
class CliBackend(CliTrees):
    """Git through its command line.

    It may be shared by threads: every thread has its own long-lived ``cat-file``. After a fork each process starts
    its own.
    """

    name: ClassVar[str] = "cli"

    @property
    def git_dir(self) -> str:
        """See `GitBackend`."""
        return self.command.git_dir

    @property
    def worktree_path(self) -> str | None:
        """See `GitBackend`."""
        return self.command.worktree

    @property
    def is_bare(self) -> bool:
        """See `GitBackend`."""
        return self.admin.main_path is None

    def capabilities(self) -> frozenset[Capability]:
        """See `GitBackend`."""
        version = git_version(self.command.process)
        return _ALWAYS | ({Capability.RELATIVE_WORKTREES} if version >= RELATIVE_SINCE else set())

    # Coming into being -----------------------------------------------------------------------

    @classmethod
    def process(cls) -> GitProcess:
        """Who runs git for backends of this class."""
        return run_process

    @classmethod
    def open(cls, path: str) -> Self:
        """See `BackendFactory`."""
        backend = cls._find(path, embedded=True)
        real = os.path.realpath(path)
        exact = {os.path.realpath(place) for place in (backend.worktree_path, backend.git_dir) if place is not None}
        if real not in exact:
            raise RepositoryNotFoundError(
                f"{path} is inside the repository {backend.worktree_path or backend.git_dir}, not its root",
                operation="open",
                hint="discover it instead, or name its root",
            )
        return backend

    @classmethod
    def discover(cls, path: str) -> Self:
        """See `BackendFactory`."""
        return cls._find(path, embedded=False)

    @classmethod
    def _find(cls, path: str, *, embedded: bool) -> Self:
        """Let git find the repository, in one process; here it also checks who owns it.

        Args:
            path: Where to look from.
            embedded: Whether it may be a bare repository that lies in the worktree of another one.
        """
        process = cls.process()
        parse_place(path)
        start = path if os.path.isdir(path) else os.path.dirname(path)
        if not os.path.isdir(start):
            raise RepositoryNotFoundError(f"{path} does not exist", operation="discover", hint="check the path")
        done = process(["git", "rev-parse", *_PLACE_QUESTIONS], cwd=start, env=git_environment(), stdin=None)
        answer = os.fsdecode(done.stdout).split("\n")
        if len(answer) < _ANSWERS:
            raise _refusal(done, start)
        if len(answer) != _ANSWERS + (done.code == 0):  # a path with a line break: asked for one by one
            answer = [answer[0], _ask(process, start, "rev-parse", "--absolute-git-dir")]
        git_dir = os.path.realpath(answer[1])
        found = answer[2] if len(answer) > _ANSWERS else None
        worktree = os.path.realpath(found) if found is not None else _toplevel(process, start, git_dir)
        common_dir = _read_common(git_dir)
        _check_format(process, common_dir)
        if worktree is None and not embedded:
            _refuse_embedded(process, git_dir)
        command = GitCommand(git_dir, worktree, process)
        return cls(command=command, common_dir=common_dir, sha256=answer[0] == "sha256")

    @classmethod
    def init(cls, path: str, *, bare: bool = False, initial_branch: str = "main") -> Self:
        """See `BackendFactory`."""
        parse_place(path)
        if _is_git_dir(path) or os.path.lexists(os.path.join(path, ".git")):
            raise PathOccupiedError(f"there is a repository at {path} already", operation="init", hint="open it")
        branch = RefName.branch(initial_branch).short
        kind = ["--bare"] if bare else []
        argv = ["git", "init", "--quiet", *kind, f"--initial-branch={branch}", "--", path]
        _check(cls.process(), argv, os.path.dirname(_existing(path)), "init")
        return cls.open(path)

    @classmethod
    def clone(cls, url: str, path: str, *, bare: bool = False) -> Self:
        """See `BackendFactory`."""
        for text in (url, path):
            parse_place(text)
        if os.path.lexists(path) and not (os.path.isdir(path) and not os.listdir(path)):
            raise PathOccupiedError(f"{path} exists and is not an empty folder", operation="clone")
        kind = ["--bare"] if bare else []
        argv = ["git", "clone", "--quiet", *kind, "--end-of-options", url, path]
        _check(cls.process(), argv, os.getcwd(), "clone")
        return cls.open(path)


def parse_place(text: str) -> str:
    """Check that a path or URL is one. Raises InvalidValueError."""
    if not text or text.startswith("-") or "\0" in text:
        raise InvalidValueError(f"{text!r} is not a path or URL", hint="write ./ in front of a name with a dash")
    return text


_versions: dict[GitProcess, tuple[int, ...]] = {}


def git_version(process: GitProcess = run_process) -> tuple[int, ...]:
    """The version of git as numbers; asked once for each way of running it."""
    if process not in _versions:
        text = process(["git", "version"], cwd="/", env=git_environment(), stdin=None).stdout.decode()
        numbers = text.split()[2].split(".")
        _versions[process] = tuple(int(n) for n in numbers[:3] if n.isdigit())
    return _versions[process]


def _ask(process: GitProcess, cwd: str, *arguments: str) -> str:
    """The one line that git prints when it finds the repository by itself."""
    done = process(["git", *arguments], cwd=cwd, env=git_environment(), stdin=None)
    if done.code != 0:
        raise git_error(arguments, done.said, done.code, operation="open")
    return os.fsdecode(done.stdout).removesuffix("\n")


def _refusal(done: GitOutput, start: str) -> GitOperationError:
    """Why git found no repository."""
    error = git_error(["rev-parse"], done.said, done.code, operation="open")
    if not isinstance(error, RepositoryNotFoundError):
        return error
    return RepositoryNotFoundError(
        f"{start} is not in a git repository: {done.said.strip()}", operation="open",
        hint="check the path, or make a repository there",
    )  # fmt: skip


def _toplevel(process: GitProcess, start: str, git_dir: str) -> str | None:
    """The worktree that `start` lies in; for a git directory named outright, the worktree it belongs to."""
    with contextlib.suppress(GitOperationError):
        return os.path.realpath(_ask(process, start, "rev-parse", "--show-toplevel"))
    link = os.path.join(git_dir, "gitdir")
    if os.path.isfile(link):
        with open(link, encoding="utf-8", errors="surrogateescape") as file:
            worktree = os.path.dirname(os.path.normpath(os.path.join(git_dir, file.read().rstrip("\n"))))
        return worktree if os.path.isdir(worktree) else None
    with contextlib.suppress(GitOperationError):
        if _ask(process, git_dir, "config", "--type=bool", "--default=false", "--get", "core.bare") == "true":
            return None
    return os.path.dirname(git_dir) if os.path.basename(git_dir) == ".git" else None


def _check_format(process: GitProcess, common_dir: str) -> None:
    """Refuse what this backend cannot work with, by name and before anything is done."""
    if git_version(process) < OLDEST_GIT:
        raise UnsupportedOperationError(
            f"git {'.'.join(map(str, git_version(process)))} is too old",
            operation="open",
            hint=f"install git {'.'.join(map(str, OLDEST_GIT))} or newer, or use the backend 'pygit2'",
        )
    if os.path.isdir(os.path.join(common_dir, "reftable")):
        raise UnsupportedOperationError(
            f"{common_dir} keeps its refs in a reftable, which this backend cannot do yet",
            operation="open",
            hint="git refs migrate --ref-format=files turns it into one that every program reads",
        )


def _refuse_embedded(process: GitProcess, git_dir: str) -> None:
    """Refuse a bare repository inside a worktree: a clone may carry one, with a configuration that runs programs.

    Git has ``safe.bareRepository`` for it, off by default.
    """
    try:
        outer = _ask(process, os.path.dirname(git_dir), "rev-parse", "--show-toplevel")
    except GitOperationError:
        return
    raise UnsafeRepositoryError(
        f"{git_dir} is a bare repository inside the worktree {outer}: it may have come with its files",
        operation="discover",
        hint="open it by its own path if you trust it",
    )


def _read_common(git_dir: str) -> str:
    try:
        with open(os.path.join(git_dir, "commondir"), encoding="utf-8", errors="surrogateescape") as file:
            return os.path.realpath(os.path.join(git_dir, file.read().rstrip("\n")))
    except FileNotFoundError:
        return git_dir


def _is_git_dir(path: str) -> bool:
    return all(os.path.exists(os.path.join(path, name)) for name in ("HEAD", "objects", "refs"))


def _existing(path: str) -> str:
    """`path` with a nearest parent that exists, for a working directory."""
    while not os.path.isdir(os.path.dirname(path)):
        path = os.path.dirname(path)
    return path


def _check(process: GitProcess, argv: Sequence[str], cwd: str, operation: str) -> None:
    done = process(argv, cwd=cwd, env=git_environment(), stdin=None)
    if done.code != 0:
        raise git_error(argv[1:], done.said, done.code, operation=operation)
