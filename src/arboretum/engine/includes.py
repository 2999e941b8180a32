"""Give a slot copies of files that git does not track (``.env``, caches): as clones where the file system has them.

A file is copied only when the slot's one is missing or differs in size or time, so what a trial changed comes
back and what it left alone costs one look. Nothing is ever linked: a trial that writes into its copy changes its copy.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
import sys
from collections.abc import Iterable
from typing import Final

from arboretum.engine.steps import Step, no_step
from arboretum.errors import PoolError
from arboretum.values import parse_tree_path

_FICLONE: Final = 0x40049409  # linux/fs.h: share the extents of another file, copy on write
_NO_CLONE: Final = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM})


def copy_includes(source: str, target: str, paths: Iterable[str], *, step: Step = no_step) -> int:
    """Copy the files and folders `paths` of the folder `source` to the same paths of `target`.

    Args:
        source: The user's worktree; only read.
        target: The slot.
        paths: Paths inside both; one that is missing in `source` goes from `target`, too.
        step: Called before each change.

    Returns:
        How many files were copied.

    Raises:
        PoolError: Something could not be copied.
    """
    copied = 0
    for path in paths:
        origin, place = os.path.join(source, parse_tree_path(path)), os.path.join(target, path)
        try:
            _make_way(target, path)
            copied += _copy(origin, place, step)
        except OSError as error:
            raise PoolError(f"cannot copy the included file {path}: {error}") from error
    return copied


def _make_way(target: str, path: str) -> None:
    """Make the folders above `path`; none of them may be a link that leads out of the slot."""
    place = target
    for part in path.split("/")[:-1]:
        place = os.path.join(place, part)
        if os.path.islink(place) or (os.path.lexists(place) and not os.path.isdir(place)):
            os.unlink(place)
        if not os.path.isdir(place):
            os.mkdir(place)


def _copy(origin: str, place: str, step: Step) -> int:
    try:
        wanted = os.lstat(origin)
    except FileNotFoundError:
        _remove(place, step)
        return 0
    if stat.S_ISDIR(wanted.st_mode):
        if os.path.islink(place) or not os.path.isdir(place):
            _remove(place, step)
            os.mkdir(place)
        with os.scandir(origin) as entries:
            return sum(_copy(entry.path, os.path.join(place, entry.name), step) for entry in entries)
    if not (stat.S_ISREG(wanted.st_mode) or stat.S_ISLNK(wanted.st_mode)) or _is_same(wanted, place):
        return 0  # sockets, pipes and devices are nobody's data
    _remove(place, step)
    step("include.copy")
    if stat.S_ISLNK(wanted.st_mode):
        os.symlink(os.readlink(origin), place)
    else:
        clone_file(origin, place)
    shutil.copystat(origin, place, follow_symlinks=False)
    return 1


def _is_same(wanted: os.stat_result, place: str) -> bool:
    with contextlib.suppress(OSError):
        found = os.lstat(place)
        return (found.st_mode, found.st_size, found.st_mtime_ns) == (wanted.st_mode, wanted.st_size, wanted.st_mtime_ns)
    return False


def _remove(place: str, step: Step) -> None:
    if not os.path.lexists(place):
        return
    step("include.remove")
    if os.path.isdir(place) and not os.path.islink(place):
        shutil.rmtree(place)
    else:
        os.unlink(place)


def clone_file(origin: str, place: str) -> bool:
    """Copy the content of a file to a new one, sharing its blocks until one is written where that can be.

    Returns:
        Whether the blocks are shared.

    Raises:
        OSError: It could not be copied; `place` may be there in part.
    """
    with open(origin, "rb") as reader, open(place, "xb") as writer:
        if sys.platform == "linux":
            try:
                fcntl.ioctl(writer.fileno(), _FICLONE, reader.fileno())
            except OSError as error:
                if error.errno not in _NO_CLONE:
                    raise
            else:
                return True
        shutil.copyfileobj(reader, writer, 1 << 20)
    return False
