"""Copy the files of index entries from one worktree into others, and take down their stat data.

This module stands alone, because a helper process runs it without the rest of the package (`main`), to start quickly.

A file is copied only if its stat data, before and after it was read, is exactly what the index recorded when git had
last seen that content there; what may have changed within the clock's tick is compared by its hash. So each file is
proven as it is copied, by git's own rule, whatever somebody does in the source meanwhile. What is not proven is left
out, and git writes it.
"""

from __future__ import annotations

import errno
import marshal
import os
import stat
import struct
import sys

TYPE_CHECKING = False  # the module of that name takes too long to load
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, TypeVar

    Where = TypeVar("Where")
    Made = TypeVar("Made")

try:
    import fcntl
except ImportError:  # pragma: no cover - only where there are no such locks either
    fcntl = None  # type: ignore[assignment]  # a module that is missing

_WORDS = struct.Struct(">10I")
#: The stat data of an entry that git has to look at again.
STAT_BYTES = _WORDS.size
UNKNOWN = bytes(_WORDS.size)
#: How many entries are taken at a time.
CHUNK = 64
_QUEUE_ITEM = 4
_SECOND = 1_000_000_000
_WORD = 0xFFFFFFFF
#: Longer files are copied by the kernel.
_SMALL = 1 << 16
#: Linux: let a file share the blocks of another one.
FICLONE = 0x40049409
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SYMLINK, _GITLINK = 0o12, 0o16  # as git shortens them: the highest four bits of a mode
#: Errors after which no further file can be written either.
_FATAL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class _ChangedError(Exception):
    """The file is not the one that the index knows."""


class Copier:
    """Copies entries from `source` to each of `targets`.

    Args:
        source: The worktree that is copied.
        targets: The new ones, without files.
        settled: Nanoseconds since the epoch; a file that changed at this time or later is compared by its hash.
        latest: The latest modification time that a copy gets, in nanoseconds. It lies in the past, so that git, which
            may compare whole seconds only, sees every later change by the time alone.
        clone: Whether files share their blocks (FICLONE) instead of being copied.
        sha256: Whether object ids have 64 digits.
    """

    def __init__(
        self, source: bytes, targets: list[bytes], *, settled: int, latest: int, clone: bool, sha256: bool
    ) -> None:
        self.source, self.targets = source, targets
        self.settled, self.latest, self.clone, self.sha256 = settled, latest, clone, sha256

    def copy(self, entries: list[tuple[bytes, bytes, bytes]]) -> bytes:
        """Copy these entries (stat data, object id, path).

        Returns:
            The stat data of the copies, for each entry that in each target, `UNKNOWN` for one that was left out.

        Raises:
            OSError: The disk is full, or cannot be written.
        """
        made: list[bytes] = []
        unknown = [UNKNOWN] * len(self.targets)
        folder, here, there = None, -1, list[int]()
        try:
            for words, oid, name in entries:
                parent, _, base = name.rpartition(b"/")
                if parent != folder:
                    here, there = self._enter(parent, here, *there)
                    folder = parent
                if here < 0 or base.lower() in {b".git", b"..", b".", b""}:
                    made += unknown
                    continue
                try:
                    made += self._one(words, oid, base, here, there)
                except _ChangedError:
                    made += unknown
                except OSError as error:
                    _raise_if_fatal(error)
                    made += unknown  # gone, closed, no file any more
        finally:
            _close(here, *there)
        return b"".join(made)

    def _enter(self, folder: bytes, *before: int) -> tuple[int, list[int]]:
        """Open a folder in all worktrees; -1 for one that has none, or cannot have it, or where its name leads out."""
        _close(*before)
        parts = folder.lower().split(b"/") if folder else []
        if b".git" in parts or b".." in parts or b"." in parts or b"" in parts:
            return -1, []
        try:
            here = os.open(os.path.join(self.source, folder), _FOLDER)
        except OSError:
            return -1, []
        try:
            return here, _each(self.targets, lambda target: _open_or_make(os.path.join(target, folder)), -1)
        except BaseException:
            os.close(here)
            raise

    def _one(self, words: bytes, oid: bytes, base: bytes, here: int, there: list[int]) -> list[bytes]:
        kind = words[26] >> 4  # the type of file, in the mode
        if kind == _GITLINK:
            return _each(there, lambda target: _make_folder(base, target), UNKNOWN)
        if kind == _SYMLINK:
            return self._link(words, oid, base, here, there)
        descriptor = os.open(base, _READ, dir_fd=here)
        try:
            return self._file(words, oid, base, descriptor, there)
        finally:
            os.close(descriptor)

    def _file(self, words: bytes, oid: bytes, base: bytes, descriptor: int, there: list[int]) -> list[bytes]:
        data, size = None, int.from_bytes(words[36:], "big")
        if size <= _SMALL and not (size and self.clone):
            data = _read(descriptor, size)  # what is seen afterwards holds for what was read
        found = os.fstat(descriptor)
        modified, doubtful = self._same(words, found)
        if not stat.S_ISREG(found.st_mode):
            raise _ChangedError
        if doubtful:
            data = data if data is not None else _read(descriptor, found.st_size)
            self._compare(oid, data)

        def make(target: int) -> bytes:
            # The rights are those that git would give: the umask takes away, the bit of the index decides.
            out = os.open(base, _WRITE, 0o777 if words[27] & 0o100 else 0o666, dir_fd=target)
            try:
                if data is not None:
                    _write(out, data)
                else:
                    self._fill(out, descriptor, found.st_size)
                    self._same(words, os.fstat(descriptor))
                os.utime(out, ns=(modified, modified))
                made = os.fstat(out)
            except BaseException:
                os.unlink(base, dir_fd=target)
                raise
            finally:
                os.close(out)
            # An umask that takes the bit away, or a file system without it: git has to judge.
            return _words(made) if (made.st_mode ^ words[27]) & 0o100 == 0 else UNKNOWN

        return _each(there, make, UNKNOWN)

    def _fill(self, out: int, descriptor: int, size: int) -> None:
        if self.clone and _shares_blocks(out, descriptor):
            return
        os.lseek(descriptor, 0, os.SEEK_SET)
        if size > _SMALL:
            _copy_range(descriptor, out, size)
        else:
            _write(out, _read(descriptor, size))

    def _link(self, words: bytes, oid: bytes, base: bytes, here: int, there: list[int]) -> list[bytes]:
        before = os.stat(base, dir_fd=here, follow_symlinks=False)
        modified, doubtful = self._same(words, before)
        if not stat.S_ISLNK(before.st_mode):
            raise _ChangedError
        text = os.readlink(base, dir_fd=here)
        if doubtful:
            self._compare(oid, text)
        after = os.stat(base, dir_fd=here, follow_symlinks=False)
        if (after.st_ctime_ns, after.st_ino) != (before.st_ctime_ns, before.st_ino):
            raise _ChangedError

        def make(target: int) -> bytes:
            os.symlink(text, base, dir_fd=target)
            os.utime(base, ns=(modified, modified), dir_fd=target, follow_symlinks=False)
            return _words(os.stat(base, dir_fd=target, follow_symlinks=False))

        return _each(there, make, UNKNOWN)

    def _same(self, words: bytes, found: os.stat_result) -> tuple[int, bool]:
        """Whether the file is what the index recorded: the time for its copy, and whether its content is in doubt."""
        seconds, nanos, mseconds, mnanos, _dev, inode, _mode, uid, gid, size = _WORDS.unpack(words)
        changed, modified = seconds * _SECOND + nanos, mseconds * _SECOND + mnanos
        if (
            changed != found.st_ctime_ns
            or modified != found.st_mtime_ns
            or inode != found.st_ino & _WORD
            or size != found.st_size & _WORD
            or uid != found.st_uid & _WORD
            or gid != found.st_gid & _WORD
        ):
            raise _ChangedError
        # A time without a fraction is that of a file system that knows whole seconds only.
        return min(modified, self.latest), changed >= self.settled or not nanos

    def _compare(self, oid: bytes, data: bytes) -> None:
        """Prove a content by its hash; one that a filter has changed cannot be proven so."""
        maker = _hash("sha256" if self.sha256 else "sha1")
        if maker(b"blob %d\0" % len(data) + data, usedforsecurity=False).digest() != oid:
            raise _ChangedError


def _each(targets: list[Where], make: Callable[[Where], Made], failed: Made) -> list[Made]:
    """What is made in each target; what goes wrong in one is `failed` in that one."""
    made = []
    for target in targets:
        try:
            made.append(make(target))
        except _ChangedError:
            made.append(failed)
        except OSError as error:
            _raise_if_fatal(error)
            made.append(failed)  # a name that is taken there
    return made


def _raise_if_fatal(error: OSError) -> None:
    if error.errno in _FATAL:
        raise error


def _make_folder(base: bytes, target: int) -> bytes:
    os.mkdir(base, dir_fd=target)
    return _words(os.stat(base, dir_fd=target, follow_symlinks=False))


def _open_or_make(folder: bytes) -> int:
    try:
        os.mkdir(folder)
    except FileExistsError:
        pass
    except FileNotFoundError:
        os.makedirs(folder, exist_ok=True)
    return os.open(folder, _FOLDER)


def _hash(name: str) -> Callable[..., Any]:
    """The hash of this name; where it can be had without loading OpenSSL, that saves a helper some milliseconds."""
    try:
        found = getattr(__import__(f"_{name}"), name)
    except (ImportError, AttributeError):
        found = getattr(__import__("hashlib"), name)
    return found  # type: ignore[no-any-return]  # looked up by name


def set_back(root: bytes, words: bytes, name: bytes, latest: int) -> bytes:
    """Give a file that is what the index says an older modification time; its new stat data, else the old."""
    path = os.path.join(root, name)
    try:
        found = os.lstat(path)
        if stat.S_ISDIR(found.st_mode) or _words(found)[:24] != words[:24] or found.st_mtime_ns <= latest:
            return words
        os.utime(path, ns=(latest, latest), follow_symlinks=False)
        return _words(os.lstat(path))
    except OSError:
        return words


def _words(found: os.stat_result) -> bytes:
    """What git keeps of a file's stat data (all but its mode)."""
    seconds, nanos = divmod(found.st_ctime_ns, _SECOND)
    mseconds, mnanos = divmod(found.st_mtime_ns, _SECOND)
    return _WORDS.pack(
        seconds & _WORD, nanos, mseconds & _WORD, mnanos, found.st_dev & _WORD, found.st_ino & _WORD, 0,
        found.st_uid & _WORD, found.st_gid & _WORD, found.st_size & _WORD,
    )  # fmt: skip


def _read(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)
    while 0 < len(data) < size:
        part = os.read(descriptor, size + 1 - len(data))
        if not part:
            break
        data += part
    if len(data) != size:
        raise _ChangedError
    return data


def _write(descriptor: int, data: bytes) -> None:
    done = os.write(descriptor, data) if data else 0
    while done < len(data):
        done += os.write(descriptor, data[done:])


def _shares_blocks(target: int, source: int) -> bool:
    if fcntl is None:
        return False
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError as error:
        if error.errno in _FATAL:
            raise
        return False
    return True


def _copy_range(source: int, target: int, size: int) -> None:
    """Copy a long file within the kernel where it can, else through memory."""
    done = 0
    if hasattr(os, "copy_file_range"):
        try:
            while count := os.copy_file_range(source, target, size - done):
                done += count
        except OSError:
            if done:
                raise
    while part := os.read(source, 1 << 20):
        _write(target, part)
        done += len(part)
    if done != size:
        raise _ChangedError


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        if descriptor >= 0:
            os.close(descriptor)


def fill_queue(count: int) -> int:
    """A pipe from which any number of processes take the numbers of the chunks that are still to be done.

    Args:
        count: How many entries there are.

    Returns:
        Its reading end.
    """
    chunks = -(-count // chunk_size(count))
    reading, writing = os.pipe()
    try:
        for number in range(chunks):
            os.write(writing, number.to_bytes(_QUEUE_ITEM, "big"))
    finally:
        os.close(writing)
    return reading


#: How many numbers fit into a pipe of the least capacity that is usual.
_QUEUE_MAX = 4096 // _QUEUE_ITEM


def work(copier: Copier, entries: list[tuple[bytes, bytes, bytes]], queue: int, parent: int = 0) -> dict[int, bytes]:
    """Copy chunk after chunk, until none is left or the process `parent` (0: none) is gone.

    Returns:
        The stat data of each chunk that was copied here, by number.
    """
    size = chunk_size(len(entries))
    done = {}
    while item := os.read(queue, _QUEUE_ITEM):
        if parent and os.getppid() != parent:
            break
        number = int.from_bytes(item, "big")
        done[number] = copier.copy(entries[number * size : (number + 1) * size])
    return done


def chunk_size(count: int) -> int:
    """How many entries are taken at a time, so that the numbers of all chunks fit into the queue."""
    return max(CHUNK, -(-count // _QUEUE_MAX))


def main() -> None:
    """The helper process: the job is in descriptor argv[1], the queue is argv[2]; the results go to stdout."""
    job, queue = int(sys.argv[1]), int(sys.argv[2])
    options, entries, parent = marshal.loads(os.pread(job, os.fstat(job).st_size, 0))  # noqa: S302  # ours
    try:
        done = work(Copier(**options), entries, queue, parent)
    except OSError as error:
        done = {-1: str(error).encode()}
    with open(1, "wb") as file:
        marshal.dump(done, file)
