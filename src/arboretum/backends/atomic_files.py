"""Small files and folders that other programs read while we change them: no reader sees half of a change."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import os
import re
import secrets
import shutil
import stat
import sys
import time
from collections.abc import Callable, Iterator
from typing import Final

from arboretum.errors import GitPermissionError

_CHUNK: Final = 1 << 12
_READING: Final = os.O_RDONLY | os.O_CLOEXEC
# What `os.fsdecode` does, without its checks of what it is given.
_ENCODING: Final = sys.getfilesystemencoding()
_ERRORS: Final = sys.getfilesystemencodeerrors()
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")
_RENAME_NOREPLACE: Final = 1
_RENAME_EXCHANGE: Final = 2
_AT_FDCWD: Final = -100


def read_bytes(path: str, at: int | None = None) -> bytes | None:
    """The whole content of a small file; None when there is none.

    ``os.open`` and ``os.read`` take two thirds of the time of ``open``: listing thousands of worktrees is these calls.

    Args:
        path: The file.
        at: The folder that a relative path starts from, open; None for the current one.

    Raises:
        GitPermissionError: It may not be read.
    """
    try:
        descriptor = os.open(path, _READING, dir_fd=at)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
        return None
    except PermissionError as error:
        raise GitPermissionError(f"cannot read {path}: {error.strerror}") from error
    try:
        data = os.read(descriptor, _CHUNK)
        if len(data) == _CHUNK:
            while part := os.read(descriptor, _CHUNK):
                data += part
    except IsADirectoryError:
        return None
    finally:
        os.close(descriptor)
    return data


def read_text(path: str, at: int | None = None) -> str | None:
    """The same as surrogate-escaped text."""
    data = read_bytes(path, at)
    return None if data is None else data.decode(_ENCODING, _ERRORS)


@contextlib.contextmanager
def opened_folder(path: str) -> Iterator[int | None]:
    """A folder to read many files of: the way to each of them is short from there. None when there is none.

    Raises:
        GitPermissionError: It may not be read.
    """
    try:
        descriptor = os.open(path, _READING | os.O_DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        yield None
        return
    except PermissionError as error:
        raise GitPermissionError(f"cannot read {path}: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def path_bytes(path: str) -> bytes:
    """What `os.fsencode` gives, and in half of its time: for thousands of paths."""
    return path.encode(_ENCODING, _ERRORS)


def exists(path: str) -> bool:
    """Whether there is something at `path`, a dangling link too; ``lexists`` makes a whole stat result of it."""
    return os.access(path, os.F_OK) or os.path.lexists(path)


def write_text(path: str, text: str) -> None:
    """Put `text` at `path` in one step: a reader sees the old content or the new one."""
    aside = f"{path}.{secrets.token_hex(4)}"
    write_new(aside, text)
    try:
        os.replace(aside, path)
    except OSError:
        os.unlink(aside)
        raise


def write_new(path: str, text: str) -> None:
    """Make a file that nobody knows of yet; where it cannot be written whole there is none."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        data = os.fsencode(text)
        while data:
            data = data[os.write(descriptor, data) :]
    except OSError:
        os.unlink(path)
        raise
    finally:
        os.close(descriptor)


def rename_new(source: str, target: str) -> None:
    """Rename a folder to a name that nothing has: rename(2) alone would silently replace an empty folder.

    Raises:
        FileExistsError: Something has the name.
    """
    renameat2 = _renameat2()
    if renameat2 is not None:
        done = renameat2(
            _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(_RENAME_NOREPLACE)
        )
        number = ctypes.get_errno()
        if done == 0:
            return
        if number not in {errno.EINVAL, errno.ENOSYS}:
            raise OSError(number, os.strerror(number), target)
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
    os.rename(source, target)


def exchange(one: str, two: str) -> bool:
    """Let two names of one file system change places, in one step; False where that cannot be done."""
    renameat2 = _renameat2()
    if renameat2 is None:
        return False
    flag = ctypes.c_uint(_RENAME_EXCHANGE)
    return renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(two), flag) == 0


@functools.cache
def _renameat2() -> Callable[..., int] | None:
    """The system call that Python does not wrap; Linux only."""
    if sys.platform != "linux":
        return None
    function: Callable[..., int] | None = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    return function


def make_folders(path: str) -> list[str]:
    """Make a folder and its parents; what was made, innermost first."""
    made: list[str] = []
    missing = path
    while not os.path.lexists(missing):
        made.append(missing)
        missing = os.path.dirname(missing)
    os.makedirs(path, exist_ok=True)
    return made


def remove_tree(path: str) -> None:
    """Delete a folder and all below it, read-only folders too. What is gone already is no failure."""

    def make_writable(function: Callable[[str], object], failed: str, info: object) -> None:
        error = info[1] if isinstance(info, tuple) else info
        if isinstance(error, FileNotFoundError):
            return
        for folder in (os.path.dirname(failed), failed):
            with contextlib.suppress(OSError):
                if not os.path.islink(folder):
                    os.chmod(folder, stat.S_IMODE(os.lstat(folder).st_mode) | stat.S_IRWXU)
        if os.path.isdir(failed) and not os.path.islink(failed):
            shutil.rmtree(failed, ignore_errors=True)
        else:
            function(failed)

    if os.path.islink(path) or not os.path.isdir(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    elif sys.version_info >= (3, 12):
        shutil.rmtree(path, onexc=make_writable)
    else:
        shutil.rmtree(path, onerror=make_writable)


def mount_points() -> list[str]:
    """Where file systems are mounted; nothing where the system does not tell (other than Linux)."""
    try:
        with open("/proc/self/mountinfo", "rb") as file:
            fields = [line.split(b" ")[4] for line in file]
    except OSError:
        return []
    return [os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), path)) for path in fields]


def age(path: str) -> float:
    """Seconds since something at `path` was last changed; 0 when there is nothing."""
    try:
        return time.time() - os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


@contextlib.contextmanager
def permissions(path: str) -> Iterator[None]:
    """Tell the operating system's refusal as an error of ours, its cause kept."""
    try:
        yield
    except OSError as error:
        raise GitPermissionError(
            f"cannot change {error.filename or path}: {error.strerror}", hint="check the permissions and the free space"
        ) from error
