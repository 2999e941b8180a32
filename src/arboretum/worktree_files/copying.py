"""Copies of a warm sibling: this process and helpers copy its files, and its index gets the stat data of the copies."""

from __future__ import annotations

import contextlib
import logging
import marshal
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

from attrs import define, frozen

from arboretum.worktree_files import file_copy
from arboretum.worktree_files.file_copy import STAT_BYTES, UNKNOWN, Copier
from arboretum.worktree_files.index_format import Index, IndexFormatError
from arboretum.worktree_files.model import Filled, Sibling, Target
from arboretum.worktree_files.turns import Turns

_log = logging.getLogger(__name__)

#: Within so many nanoseconds two changes of a file may have the same time: the longest tick of a kernel's clock.
TICK: Final = 10_000_000
#: A copy's modification time lies at least so many nanoseconds in the past.
_PAST: Final = 2_000_000_000
#: With fewer files a helper is not worth its start.
_MANY: Final = 400
_MAX_HELPERS: Final = 4
#: A helper has everything that it needs in one module; what the user's environment says about Python is not its affair.
_HELPER: Final = "import sys; sys.path.append(sys.argv.pop(1)); import file_copy; file_copy.main()"

Entries = list[tuple[bytes, bytes, bytes]]


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


#: In one turn a sibling is copied to so many worktrees: each file is opened, proven and read once for all of them.
_TOGETHER: Final = 16


@define(eq=False)
class CopyFiles:
    """Copies the files of a sibling, or lets the copies share its blocks.

    Args:
        clone: Whether they share blocks (reflinks); the file system must be able to.
    """

    name: ClassVar[str] = "copy"
    clone: bool = False

    def fill(self, sibling: Sibling, target: Target) -> Filled | None:
        """See `FileSource`."""
        key = (sibling.path, sibling.settled, sibling.index, target.sha256, self.clone)
        made = _turns.serve(key, target, lambda targets: self._copies(sibling, targets))
        if made is None:
            return None
        write_index(target.admin, made.index.with_stat_data(made.stats))
        left = made.stats.count(UNKNOWN)
        return Filled(files=len(made.stats) - left, left=left)

    def _copies(self, sibling: Sibling, targets: Sequence[Target]) -> Sequence[_Copy | None]:
        try:
            index = Index.parse(sibling.index, sha256=targets[0].sha256)
        except IndexFormatError as error:
            _log.debug("%s is not copied: %s", sibling.path, error)
            return [None] * len(targets)
        entries = index.entries()
        if _leads_through_a_link(entries):
            return [None] * len(targets)
        options = {
            "source": os.fsencode(sibling.path),
            "targets": [os.fsencode(target.path) for target in targets],
            "settled": sibling.settled - TICK,
            "latest": time.time_ns() - _PAST,
            "clone": self.clone,
            "sha256": targets[0].sha256,
        }
        names = {name for target in targets for name in target.environment}
        environment = {name: " ".join(t.environment[name] for t in targets if name in t.environment) for name in names}
        stats = _copied(options, entries, environment, len(targets))
        return [_Copy(index, stats_of_one) for stats_of_one in stats]


@frozen
class _Copy:
    """The stat data of the files of one copy, for the entries of the index."""

    index: Index
    stats: list[bytes]


#: One turn at a time, for each is the work of all processors; two would end one after the other, the last one alone.
_turns: Final[Turns[Target, _Copy | None]] = Turns(1, _TOGETHER)


class CloneFiles(CopyFiles):
    """The same with shared blocks."""

    name = "reflink"

    def __init__(self) -> None:
        super().__init__(clone=True)


def settle(path: str, admin: str, *, sha256: bool) -> bool:
    """Set the times of the files of a worktree back, and in its index, too, so that git need not look into them.

    A file that was written in the same second as the index may have changed since, for all that git knows: every
    status reads all of them, until somebody lets it write the index anew. The caller has proven the worktree clean, and
    nobody else is in it.

    Args:
        path: Its folder.
        admin: Its folder in the common git directory.
        sha256: Whether object ids have 64 digits.

    Returns:
        Whether it was done; not, if the index is one that is not known.
    """
    with open(os.path.join(admin, "index"), "rb") as file:
        data = file.read()
    try:
        index = Index.parse(data, sha256=sha256)
    except IndexFormatError:
        return False
    latest, root = time.time_ns() - _PAST, os.fsencode(path)
    stats = [file_copy.set_back(root, words, name, latest) for words, _oid, name in index.entries()]
    time.sleep(TICK / 1e9)  # so that no file seems to have changed together with the index
    write_index(admin, index.with_stat_data(stats))
    return True


def write_index(admin: str, data: bytes, *, modified: int | None = None) -> None:
    """Put the index of a worktree in place, whole; `modified` is its time in nanoseconds, None for now."""
    aside = os.path.join(admin, "index.lock")
    with open(aside, "xb") as file:
        file.write(data)
        if modified is not None:
            file.flush()
            os.utime(file.fileno(), ns=(modified, modified))
    os.replace(aside, os.path.join(admin, "index"))


def index_for_a_copy(data: bytes, *, sha256: bool) -> bytes:
    """An index for a copy of the worktree, file by file the same: without what is only of that one.

    Raises:
        IndexFormatError: It has something in it for which its files cannot simply be copied.
    """
    index = Index.parse(data, sha256=sha256)
    return index.with_stat_data([words for words, _oid, _name in index.entries()])


def _leads_through_a_link(entries: Entries) -> bool:
    """Whether an entry lies below another one that is a link; no tree of git has that, but a forged one may."""
    links = {name.lower() for words, _oid, name in entries if words[24:26] == b"\0\0" and words[26] >> 4 == 0o12}
    if not links:
        return False
    folders = {name.rpartition(b"/")[0].lower() for _words, _oid, name in entries}
    return any(above in links for folder in folders for above in _with_parents(folder))


def _with_parents(folder: bytes) -> Iterator[bytes]:
    while folder:
        yield folder
        folder = folder.rpartition(b"/")[0]


def _copied(
    options: dict[str, object], entries: Entries, environment: Mapping[str, str], targets: int
) -> list[list[bytes]]:
    """The stat data of the copies, entry by entry, for each of the targets."""
    size = file_copy.chunk_size(len(entries))
    done: dict[int, bytes] = {}
    queue = file_copy.fill_queue(len(entries))
    try:
        # With several targets this process is left to itself: its other threads finish the copies of the turn before.
        with _started(_helpers(len(entries), targets), options, entries, queue, environment) as started:
            if targets == 1 or not started:
                with contextlib.suppress(OSError):
                    done |= file_copy.work(Copier(**options), entries, queue)  # type: ignore[arg-type]  # as the helper gets them
            for helper in started:
                done |= _results(helper)
    finally:
        os.close(queue)
    stats = [[UNKNOWN] * len(entries) for _ in range(targets)]
    for number, words in done.items():
        if number >= 0:
            parts = [words[at : at + STAT_BYTES] for at in range(0, len(words), STAT_BYTES)]
            for target, one in enumerate(stats):
                one[number * size : number * size + len(parts) // targets] = parts[target::targets]
    return stats


def _helpers(count: int, targets: int) -> int:
    if count < _MANY:
        return 0
    return min(_processors() - (1 if targets == 1 else 0), _MAX_HELPERS)


@contextlib.contextmanager
def _started(
    count: int, options: dict[str, object], entries: Entries, queue: int, environment: Mapping[str, str]
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Helper processes; they are gone afterwards, whatever happens."""
    started: list[subprocess.Popen[bytes]] = []
    if not count or not sys.executable:
        yield started
        return
    with tempfile.TemporaryFile() as job:
        job.write(marshal.dumps((options, entries, os.getpid())))
        job.flush()
        try:
            for _ in range(count):
                with contextlib.suppress(OSError):
                    started.append(_start(job.fileno(), queue, environment))
            yield started
        finally:
            for helper in started:
                helper.kill()
                helper.wait()
                if helper.stdout is not None:
                    helper.stdout.close()


def _start(job: int, queue: int, environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    folder = os.path.dirname(os.path.abspath(file_copy.__file__))
    return subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _HELPER, folder, str(job), str(queue)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        pass_fds=(job, queue),
        env={**os.environ, **environment},
        start_new_session=True,
    )


def _results(helper: subprocess.Popen[bytes]) -> dict[int, bytes]:
    """What a helper has done; nothing for one that was ended half-way: git writes its files then."""
    assert helper.stdout is not None
    data = helper.stdout.read()
    try:
        done = marshal.loads(data)  # noqa: S302  # what our own helper wrote
    except (ValueError, EOFError, TypeError):
        return {}
    return done if isinstance(done, dict) else {}
