"""The backend over GitPython.

GitPython is git run through `git.Git`, with Python objects on top. Of the two, only the running agrees with
git: its index, ref and configuration writers differ from git's, its comparison goes blank on names that are
no UTF-8, its ``add`` changes the directory of the whole process, and its readers share pipes between threads
and over a fork. So this adapter hands the command lines of the CLI backend, which are the same, to
GitPython, and uses none of its writers and readers.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from attrs import frozen

from arboretum.backends.cli import CliBackend
from arboretum.backends.git_command import GitMissingError, GitOutput, GitProcess

_FOLDER_GONE: Final = GitOutput(128, b"", b"fatal: not a git repository: the folder does not exist or is closed\n")
#: The exit code of ``env`` when there is no such command.
_NOT_FOUND: Final = 127


@frozen
class GitPythonProcess:
    """Runs git through GitPython."""

    def __call__(self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: bytes | None) -> GitOutput:
        """See `GitProcess`."""
        if not _is_usable(cwd):
            return _FOLDER_GONE
        with tempfile.TemporaryFile() as file:  # GitPython feeds a child from real files only
            if stdin is not None:
                file.write(stdin)
                file.seek(0)
            code, stdout, stderr = _execute(
                cwd,
                _without_leaks(argv, env),
                istream=file if stdin is not None else None,
                with_extended_output=True,
                with_exceptions=False,
                stdout_as_string=False,
                strip_newline_in_stdout=False,
                env=env,
            )
        if code == _NOT_FOUND and stderr.startswith("env:"):
            raise _missing()
        return GitOutput(code, stdout, stderr.encode("utf-8", "surrogateescape"))

    def start(
        self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: int, stderr: int
    ) -> subprocess.Popen[bytes]:
        """See `GitProcess`."""
        command = _without_leaks(argv, env)
        if stderr == subprocess.DEVNULL:
            # GitPython always pipes the error stream, and a pipe that nobody reads stops a child when it is full.
            command = ["sh", "-c", 'exec "$@" 2>/dev/null', "sh", *command]
        guard = _execute(cwd, command, istream=stdin, as_process=True, env=env)
        # The guard ends its child when it is collected, in a forked process too: then it would be the parent's.
        process: subprocess.Popen[bytes] | None = guard.proc
        guard.proc = None
        assert process is not None
        if stderr == subprocess.DEVNULL and process.stderr is not None:
            process.stderr.close()
            process.stderr = None
        return process


def _execute(cwd: str, command: Sequence[str], **options: Any) -> Any:
    """Let GitPython run a command in the folder `cwd`. Imported late: GitPython runs git once when it is imported."""
    try:
        from git import Git
        from git.exc import GitCommandNotFound
    except ImportError as error:
        raise _missing() from error
    try:
        return Git(cwd).execute(list(command), **options)
    except GitCommandNotFound as error:
        raise _missing() from error


def _missing() -> GitMissingError:
    return GitMissingError("there is no git on PATH", hint="install git, or use the backend 'pygit2'")


def _is_usable(cwd: str) -> bool:
    """Whether git can be run in the folder; for one that is closed or gone GitPython takes the process's own."""
    return os.path.isdir(cwd) and os.access(cwd, os.X_OK)


def _without_leaks(argv: Sequence[str], env: Mapping[str, str]) -> list[str]:
    """The command line, with what takes away the variables that `env` does not have.

    GitPython adds to the environment of this process and cannot take from it; a ``GIT_INDEX_FILE`` (in a hook,
    say) would bind git to another repository.
    """
    leaks = [name for name in os.environ if name not in env]
    if not leaks:
        return list(argv)
    return ["env", *(part for name in leaks for part in ("-u", name)), *argv]


class GitPythonBackend(CliBackend):
    """Git through GitPython.

    It may be shared by threads and survives a fork, as the CLI backend does; it keeps no object of GitPython.
    """

    name: ClassVar[str] = "gitpython"

    @classmethod
    def process(cls) -> GitProcess:
        """Who runs git for backends of this class."""
        return GitPythonProcess()
