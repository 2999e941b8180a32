"""The journal of a run: its events as JSON Lines, appended as they happen; what a killed run resumes from.

A line is written by one ``write`` on a descriptor in append mode, so it survives a kill of this process as
soon as `Journal.write` has returned; the start and the end of a run are also forced to the disk, and
everything in between about once a second, for the case that the machine itself goes down. A reader drops
lines that are damaged: after a crash that is at most the last one.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import secrets
import time
from collections.abc import Callable, Iterator
from typing import BinaryIO, Final, Self

from attrs import define, field, frozen

from arboretum.engine.events import RunEvent, RunFinished, RunStopping, SlotChanged, TrialFinished, TrialOutput
from arboretum.engine.model import Trial, check_identifier
from arboretum.engine.records import event_line, event_of_line
from arboretum.engine.steps import Step, no_step
from arboretum.errors import InvalidValueError, StoreError
from arboretum.events import Event

_log = logging.getLogger(__name__)

_ONLY_LIVE: Final = (TrialOutput, SlotChanged, RunStopping)
_EVENTS_FILE: Final = "events.jsonl"
_SYNC_SECONDS: Final = 1.0
#: Bytes at the end of a journal in which its last event is looked for; that of an ended run takes some two hundred.
_TAIL: Final = 4096


def new_run_id(now: float | None = None) -> str:
    """A new id for a run: the UTC time, three digits of 4,096ths of a second, and six random digits.

    So ids sort by age, also of runs that follow each other within a second.
    """
    seconds = time.time() if now is None else now
    stamp = time.strftime("%Y%m%d-%H%M%S", time.gmtime(seconds))
    return f"{stamp}-{int(seconds % 1 * 4096):03x}{secrets.token_hex(3)}"


def runs_folder(state_dir: str) -> str:
    """Where the runs of a repository are kept, given its state folder (`Repository.state_dir`)."""
    return os.path.join(state_dir, "runs")


def run_folder(runs_dir: str, run: str) -> str:
    """The folder of the run `run` below `runs_dir`.

    Raises:
        InvalidValueError: The id cannot be the name of a folder.
    """
    return os.path.join(runs_dir, check_identifier(run, what="run id"))


@define(eq=False)
class Journal:
    """The one writer of a run's journal; an exclusive kernel lock on the file says that the run lives.

    Args:
        run: The id of the run.
        path: The file.
    """

    run: str
    path: str
    _descriptor: int
    _step: Step = no_step
    _synced: float = field(factory=time.monotonic)

    @classmethod
    def open(cls, runs_dir: str, run: str, *, step: Step = no_step) -> Self:
        """Open the journal of `run` for writing, a new one or that of an interrupted run.

        A half-written last line of a killed writer is closed with a line end, so that it damages nothing else.

        Raises:
            StoreError: The file cannot be made or written, or the run is going on in another process.
        """
        path = os.path.join(run_folder(runs_dir, run), _EVENTS_FILE)
        try:
            step("journal.folder")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            step("journal.open")
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        except OSError as error:
            raise StoreError(
                f"cannot open the journal of the run {run}: {error}",
                hint="check the permissions of the repository's git directory and the space on its disk",
            ) from error
        try:
            _lock(descriptor, run)
            _close_last_line(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls(run, path, descriptor, step)

    def write(self, event: RunEvent) -> None:
        """Append `event`; when this has returned the event survives the end of this process.

        Raises:
            StoreError: It could not be written (a full disk, say); the journal is as it was before.
        """
        line = event_line(event)
        self._step(f"journal.write.{event.type}")
        size = os.fstat(self._descriptor).st_size
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                written += os.write(self._descriptor, line[written:])
        except OSError as error:
            os.ftruncate(self._descriptor, size)
            raise StoreError(
                f"cannot write the journal of the run {self.run}: {error}",
                hint="make space, then go on with `--resume`: finished trials are not repeated",
            ) from error
        if event.bounds or time.monotonic() - self._synced > _SYNC_SECONDS:
            self._step("journal.sync")
            os.fsync(self._descriptor)
            self._synced = time.monotonic()

    def __call__(self, event: Event) -> None:
        """Take note of an event of this run; what is only shown live and other runs' events are left out."""
        if isinstance(event, RunEvent) and event.run == self.run and not isinstance(event, _ONLY_LIVE):
            self.write(event)

    def close(self) -> None:
        """Give the file and its lock back; closing twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _lock(descriptor: int, run: str) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        raise StoreError(
            f"the run {run} is going on in another process", hint="wait for it, or stop it first"
        ) from error


def _close_last_line(descriptor: int) -> None:
    size = os.fstat(descriptor).st_size
    if size and os.pread(descriptor, 1, size - 1) != b"\n":
        os.write(descriptor, b"\n")


@frozen
class JournalContents:
    """What a journal says.

    Args:
        run: The id of the run.
        events: Its events, in the order of writing.
        damaged: How many lines could not be read.
        live: Whether the run is going on right now.
    """

    run: str
    events: tuple[RunEvent, ...]
    damaged: int = 0
    live: bool = False

    @property
    def trials(self) -> dict[str, Trial]:
        """The trials that are over, by `Trial.id`; of several with one id the last."""
        return {e.trial.id: e.trial for e in self.events if isinstance(e, TrialFinished)}

    @property
    def status(self) -> str:
        """``running``, what the last `RunFinished` says, or ``interrupted`` when the writer was killed."""
        if self.live:
            return "running"
        last = self.events[-1] if self.events else None
        return last.status if isinstance(last, RunFinished) else "interrupted"


def read_journal(runs_dir: str, run: str, *, decode: Callable[[bytes], RunEvent] = event_of_line) -> JournalContents:
    """Read the journal of `run`; damaged lines are counted and left out.

    Args:
        runs_dir: The folder of the runs.
        run: The id of the run.
        decode: What makes an event of a line.

    Raises:
        StoreError: There is no such journal, or it cannot be read.
    """
    with _reading(runs_dir, run) as (file, live):
        lines = file.read().split(b"\n")
    events, damaged = [], 0
    for line in filter(None, lines):
        try:
            events.append(decode(line))
        except InvalidValueError:
            damaged += 1
    if damaged:
        _log.warning("%d damaged line(s) in %s were left out", damaged, file.name)
    return JournalContents(run, tuple(events), damaged, live)


def last_status(runs_dir: str, run: str) -> str:
    """`JournalContents.status` of the run, from the end of its journal alone.

    Raises:
        StoreError: There is no such journal, or it cannot be read.
    """
    with _reading(runs_dir, run) as (file, live):
        file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
        lines = file.read().split(b"\n")
    for line in filter(None, reversed(lines)):
        with contextlib.suppress(InvalidValueError):  # damaged, or the end of a very long one
            return JournalContents(run, (event_of_line(line),), live=live).status
    return JournalContents(run, (), live=live).status


@contextlib.contextmanager
def _reading(runs_dir: str, run: str) -> Iterator[tuple[BinaryIO, bool]]:
    """The journal of `run`, open for reading, and whether the run is going on (asked before anything is read)."""
    try:
        with open(os.path.join(run_folder(runs_dir, run), _EVENTS_FILE), "rb") as file:
            yield file, not _try_shared_lock(file.fileno())
    except OSError as error:
        raise StoreError(
            f"cannot read the journal of the run {run}: {error.strerror}", hint="`arboretum history` lists the runs"
        ) from error


def _try_shared_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return False
    fcntl.flock(descriptor, fcntl.LOCK_UN)
    return True


def iter_runs(runs_dir: str) -> Iterator[str]:
    """The ids of the runs that have a journal, newest first."""
    try:
        names = sorted(os.listdir(runs_dir), reverse=True)
    except OSError:
        return
    yield from (n for n in names if os.path.exists(os.path.join(runs_dir, n, _EVENTS_FILE)))
