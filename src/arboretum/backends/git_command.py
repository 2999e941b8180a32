"""How git is run: the one place that builds a git command line and its environment.

An adapter that runs git in another way (through GitPython) gives its own `GitProcess`; everything else is shared.
"""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, Protocol

from attrs import define, field, frozen

from arboretum.backends.faults import git_error, is_transient
from arboretum.errors import EngineError, GitOperationError
from arboretum.process.environment import LOCAL_GIT_VARIABLES

#: How often a command is tried that only saw another program half-way through a change.
TRIES: Final = 8
_SAFE_ENVIRONMENT: Final = {
    "LC_ALL": "C",  # messages are told apart by their English text
    "LANGUAGE": "",
    "GIT_TERMINAL_PROMPT": "0",  # nobody is there to answer
    "GIT_OPTIONAL_LOCKS": "0",  # reading never writes the index
    "GIT_LITERAL_PATHSPECS": "1",  # a path is a path, whatever characters it has
    "GIT_PAGER": "cat",
    "GIT_EDITOR": "true",
    "GIT_MERGE_AUTOEDIT": "no",
}
_GLOBAL_OPTIONS: Final = (
    "-c", "core.quotePath=false",  # with -z it is off anyway; messages name paths as they are
    "-c", "i18n.logOutputEncoding=UTF-8",
    "-c", "i18n.commitEncoding=UTF-8",
    "-c", "advice.detachedHead=false",
    "-c", "core.fsmonitor=false",  # a program of the repository's choosing, which a mere look would run
    "-c", "user.useConfigOnly=true",  # an identity is configured, not guessed from the name of the host
    "-c", "merge.directoryRenames=false",  # the libraries infer no renames of whole folders
    "-c", "merge.renames=true",
    "-c", "gc.auto=0",  # no housekeeping in the middle of somebody's run
    "-c", "maintenance.auto=false",
)  # fmt: skip


class GitMissingError(EngineError):
    """There is no git executable on PATH."""

    kind = "git-missing"


@frozen
class GitOutput:
    """What a git command wrote, and its exit code."""

    code: int
    stdout: bytes
    stderr: bytes

    @property
    def said(self) -> str:
        """The error stream as text."""
        return self.stderr.decode("utf-8", "replace")


class GitProcess(Protocol):
    """Runs git commands. `argv` starts with ``git``. Raises `GitMissingError` when there is no git."""

    def __call__(self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: bytes | None) -> GitOutput:
        """Run one command to its end."""

    def start(
        self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: int, stderr: int
    ) -> subprocess.Popen[bytes]:
        """Start one command whose output is read as it comes; `stdin` and `stderr` as `subprocess.Popen` takes them."""


@frozen
class ChildProcess:
    """Runs git as a child of this process."""

    def __call__(self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: bytes | None) -> GitOutput:
        """See `GitProcess`."""
        try:
            done = subprocess.run(
                argv,
                cwd=cwd,
                env=env,
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError as error:
            if error.filename == cwd:
                return GitOutput(128, b"", b"fatal: not a git repository: the folder does not exist\n")
            raise GitMissingError("there is no git on PATH", hint="install git, or use the backend 'pygit2'") from error
        except (NotADirectoryError, PermissionError) as error:
            return GitOutput(128, b"", f"fatal: cannot chdir to {cwd}: {error.strerror}\n".encode())
        return GitOutput(done.returncode, done.stdout, done.stderr)

    def start(
        self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: int, stderr: int
    ) -> subprocess.Popen[bytes]:
        """See `GitProcess`."""
        try:
            return subprocess.Popen(argv, cwd=cwd, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr)
        except FileNotFoundError as error:
            raise GitMissingError("there is no git on PATH", hint="install git, or use the backend 'pygit2'") from error


#: How git is run unless an adapter has a way of its own.
run_process: Final = ChildProcess()


def git_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment git runs in: the user's, less what would bind it to another repository."""
    env = {name: value for name, value in os.environ.items() if os.fsencode(name) not in LOCAL_GIT_VARIABLES}
    return env | _SAFE_ENVIRONMENT | dict(extra or {})


@define(eq=False)
class GitCommand:
    """Runs git commands on one repository.

    Args:
        git_dir: The git directory of the worktree that was opened.
        worktree: That worktree; None for a bare repository.
        process: Who runs them.
    """

    git_dir: str
    worktree: str | None
    process: GitProcess = field(default=run_process)

    def argv(self, arguments: Sequence[str], *, git_dir: str, worktree: str | None) -> list[str]:
        """The whole command line. The repository is named outright, so that nothing is ever discovered."""
        place = [f"--git-dir={git_dir}"]
        if worktree is not None:
            place.append(f"--work-tree={worktree}")
        return ["git", *place, *_GLOBAL_OPTIONS, *arguments]

    def output(
        self,
        *arguments: str,
        operation: str,
        at: tuple[str, str] | None = None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        accept: Sequence[int] = (0,),
        settings: Sequence[str] = (),
    ) -> GitOutput:
        """Run a git command and wait for it.

        Args:
            arguments: The command and its arguments.
            operation: The operation of the port, for the error.
            at: Git directory and folder of another worktree; None for the one that was opened.
            stdin: What to feed it.
            env: Variables to set.
            accept: Exit codes that are no failure.
            settings: Further options before the command.

        Raises:
            GitOperationError: Of the class that `faults` tells from git's words.
            GitMissingError: There is no git.
        """
        git_dir, worktree = at if at is not None else (self.git_dir, self.worktree)
        argv = self.argv((*settings, *arguments), git_dir=git_dir, worktree=worktree)
        for attempt in range(TRIES):
            done = self.process(argv, cwd=worktree or git_dir, env=git_environment(env), stdin=stdin)
            if done.code in accept or attempt == TRIES - 1 or not is_transient(done.said):
                break
            time.sleep(random.uniform(0.01, 0.05) * (attempt + 1))  # noqa: S311  (not for secrets)
        if done.code not in accept:
            raise git_error(arguments, done.said, done.code, operation=operation)
        return done

    def text(self, *arguments: str, operation: str, at: tuple[str, str] | None = None) -> str:
        """The output of a git command that prints one line."""
        return os.fsdecode(self.output(*arguments, operation=operation, at=at).stdout).removesuffix("\n")

    @contextlib.contextmanager
    def stream(self, *arguments: str, operation: str, stdin: bytes = b"") -> Iterator[Iterator[bytes]]:
        """Run a git command and read its NUL-ended records as they come; it is ended when the block is left.

        Args:
            arguments: The command and its arguments.
            operation: The operation of the port, for the error.
            stdin: What to feed it; the command must read all of it before it writes.
        """
        argv = self.argv(arguments, git_dir=self.git_dir, worktree=self.worktree)
        child = self.process.start(
            argv,
            cwd=self.worktree or self.git_dir,
            env=git_environment(),
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with child:
            finished = False
            try:
                if child.stdin is not None:
                    with contextlib.suppress(BrokenPipeError):  # it tells why on its error stream
                        child.stdin.write(stdin)
                        child.stdin.close()
                assert child.stdout is not None
                yield _records(child.stdout.fileno())
                finished = True
            finally:
                if not finished:
                    child.kill()
                assert child.stderr is not None
                said = child.stderr.read() if finished else b""
        if finished and child.returncode != 0:
            raise git_error(arguments, said.decode("utf-8", "replace"), child.returncode, operation=operation)


def _records(descriptor: int) -> Iterator[bytes]:
    rest = b""
    while chunk := os.read(descriptor, 65536):
        *whole, rest = (rest + chunk).split(b"\0")
        yield from whole
    if rest:
        yield rest


def committer_environment(name: str, email: str, when: str, *, role: str) -> dict[str, str]:
    """The variables that make git use this identity as ``AUTHOR`` or ``COMMITTER``."""
    return {f"GIT_{role}_NAME": name, f"GIT_{role}_EMAIL": email, f"GIT_{role}_DATE": when}


__all__ = [
    "ChildProcess",
    "GitCommand",
    "GitMissingError",
    "GitOperationError",
    "GitOutput",
    "GitProcess",
    "committer_environment",
    "git_environment",
    "run_process",
]
