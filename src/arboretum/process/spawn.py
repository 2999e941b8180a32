"""Starting a program, and saying in a word why it could not be started."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from arboretum.process.model import (
    EXIT_NOT_EXECUTABLE,
    EXIT_NOT_FOUND,
    EXIT_RUNNER_FAILED,
    CommandRequest,
    FailureKind,
)

#: Errors that pass by themselves: descriptors and processes come free as other commands end; a script that
#: another thread has just written is busy until that thread's other children have exec'ed (golang/go#22315).
_TRANSIENT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ETXTBSY})
#: Seconds to wait before each further attempt at a start that failed for such a reason.
BACKOFF: Final = (0.005, 0.01, 0.02, 0.04, 0.08, 0.16, 0.32)
_LIMITS: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM, errno.E2BIG})


@frozen
class SpawnFailure:
    """Why a program could not be started; `transient` when it may be possible in a moment."""

    exit_code: int
    kind: FailureKind
    message: str
    transient: bool = False


@frozen
class Pipes:
    """The child's ends of its streams; `stderr` may be the same as `stdout`."""

    stdin: int
    stdout: int
    stderr: int


def start(
    request: CommandRequest, cwd: str, env: Mapping[bytes, bytes], pipes: Pipes
) -> subprocess.Popen[bytes] | SpawnFailure:
    """Start the program in a session of its own, without blocked signals.

    A session, not only a group: a child that asks the terminal for a password then fails at once
    instead of being stopped by the kernel.
    """
    argv = ("/bin/sh", "-c", request.argv[0]) if request.shell else request.argv
    program = _find_program(argv[0], cwd, env)
    if isinstance(program, SpawnFailure):
        return program
    try:
        return _popen(argv, program, cwd, env, pipes)
    except OSError as error:
        return _classify(error, argv[0], program, cwd)
    except (ValueError, TypeError) as error:
        return missing_folder(cwd) or invalid(f"cannot run {argv[0]!r}: {error}")


def _popen(
    argv: tuple[str, ...], program: str, cwd: str, env: Mapping[bytes, bytes], pipes: Pipes
) -> subprocess.Popen[bytes]:
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    if blocked:  # a child inherits the mask: with SIGTERM in it, it could never be asked to end
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        return subprocess.Popen(
            argv,
            executable=program,
            stdin=pipes.stdin,
            stdout=pipes.stdout,
            stderr=pipes.stderr,
            cwd=cwd,
            env=env,
            start_new_session=True,
        )
    finally:
        if blocked:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _find_program(name: str, cwd: str, env: Mapping[bytes, bytes]) -> str | SpawnFailure:
    """Look `name` up as execvp(3) does, in the child's PATH and from the child's folder.

    Popen could do it, but its look-up swaps the process's warning filters, which threads must not.
    """
    if "/" in name or "\0" in name:
        return name
    search = os.fsdecode(env.get(b"PATH", os.defpath.encode()))
    refused = ""
    for folder in search.split(os.pathsep):
        candidate = os.path.join(cwd, folder, name)
        if os.access(candidate, os.X_OK) and not os.path.isdir(candidate):
            return candidate
        if not refused and os.path.isfile(candidate):
            refused = candidate
    if refused:
        return SpawnFailure(EXIT_NOT_EXECUTABLE, FailureKind.NOT_EXECUTABLE, f"{refused} is not executable (chmod +x)")
    return SpawnFailure(
        EXIT_NOT_FOUND, FailureKind.NOT_FOUND, f"{name!r} was not found in PATH ({search}); is it installed?"
    )


def _classify(error: OSError, name: str, program: str, cwd: str) -> SpawnFailure:
    if missing := missing_folder(cwd):
        return missing
    if error.errno in _LIMITS:
        return out_of_resources(f"run {name!r}", error)
    path = os.path.join(cwd, program)
    why = error.strerror or str(error)
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        if os.path.exists(path):
            return SpawnFailure(
                EXIT_NOT_EXECUTABLE,
                FailureKind.BAD_INTERPRETER,
                f"{name!r} exists, but the interpreter that it names does not: {_first_line(path)}",
            )
        return SpawnFailure(EXIT_NOT_FOUND, FailureKind.NOT_FOUND, f"{name!r} was not found in {cwd}")
    transient = error.errno == errno.ETXTBSY
    if os.path.isdir(path):
        why = "it is a folder"
    elif error.errno == errno.ENOEXEC:
        why = "it is no program of this machine, and has no #! line"
    elif error.errno == errno.EACCES and _is_file_without_x(path):
        why = "it is not executable (chmod +x)"
    return SpawnFailure(EXIT_NOT_EXECUTABLE, FailureKind.NOT_EXECUTABLE, f"cannot run {name!r}: {why}", transient)


def invalid(message: str) -> SpawnFailure:
    """A request that the operating system cannot even be asked."""
    return SpawnFailure(EXIT_RUNNER_FAILED, FailureKind.INVALID, message)


def out_of_resources(what: str, error: OSError) -> SpawnFailure:
    """The system has no more descriptors, processes or argument space for `what` was tried."""
    advice = {
        errno.E2BIG: "pass the long arguments in a file or on standard input",
        errno.EMFILE: "run fewer commands at once or raise `ulimit -n`",
        errno.ENFILE: "run fewer commands at once",
    }.get(error.errno or 0, "run fewer commands at once or raise `ulimit -u`")
    message = f"cannot {what}: {error.strerror}; {advice}"
    return SpawnFailure(EXIT_RUNNER_FAILED, FailureKind.LIMITS, message, error.errno in _TRANSIENT)


def missing_folder(cwd: str) -> SpawnFailure | None:
    """Say what is wrong with the folder to run in; None when nothing is."""
    try:
        if not stat.S_ISDIR(os.stat(cwd).st_mode):
            why = "is not a folder"
        elif not os.access(cwd, os.X_OK):
            why = "may not be entered"
        else:
            return None
    except (OSError, ValueError) as error:
        why = f"cannot be used ({getattr(error, 'strerror', None) or error})"
    return SpawnFailure(EXIT_RUNNER_FAILED, FailureKind.CWD_MISSING, f"the folder to run in, {cwd!r}, {why}")


def _is_file_without_x(path: str) -> bool:
    return os.path.isfile(path) and not os.access(path, os.X_OK)


def _first_line(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return file.readline(200).decode("utf-8", "replace").strip()
    except OSError:
        return "(unreadable)"
