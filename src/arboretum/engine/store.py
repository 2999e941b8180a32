"""The store of results: runs, trials, whole outputs and the cache, in one SQLite file that all worktrees share.

Any number of threads and processes may use the file at once (WAL, one short transaction for each change). A
file that is damaged is set aside under another name, never deleted, and work goes on with a new one.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Self, TypeVar

from attrs import define, evolve, field
from filelock import FileLock, Timeout

from arboretum.engine import store_outputs
from arboretum.engine.model import Outcome, Trial
from arboretum.engine.records import encode, trial_from_dict, trial_to_dict
from arboretum.engine.steps import Step, no_step
from arboretum.engine.store_records import ResultKey, Retention, RunRecord, Why
from arboretum.engine.store_schema import connect_to_read, migrate
from arboretum.errors import InvalidValueError, StoreError
from arboretum.values import jsonable

_log = logging.getLogger(__name__)

_BUSY_SECONDS: Final = 30.0
_T = TypeVar("_T")
_FILE: Final = "results.sqlite3"
_CACHEABLE: Final = frozenset({Outcome.PASSED, Outcome.FAILED})


def store_path(state_dir: str) -> str:
    """Where the results of a repository are kept, given its state folder (`Repository.state_dir`)."""
    return os.path.join(state_dir, _FILE)


@define(eq=False)
class ResultStore:
    """The results of a repository.

    Args:
        path: The SQLite file.
        set_aside: Where a damaged file that was found at `path` has been moved to; None when there was none.
    """

    path: str
    _step: Step = no_step
    set_aside: str | None = None
    _connection: sqlite3.Connection | None = field(default=None, repr=False)
    _lock: threading.RLock = field(factory=threading.RLock, repr=False)
    _in_batch: bool = field(default=False, init=False)
    _taken_over: list[str] = field(factory=list, init=False, repr=False)

    @classmethod
    def open(cls, path: str | os.PathLike[str], *, step: Step = no_step) -> Self:
        """Open the store at `path`, and make or migrate it where that is due.

        Raises:
            StoreError: It cannot be read or written, or a later arboretum has written it.
        """
        store = cls(os.fspath(path), step)
        with store._errors("open"):
            os.makedirs(os.path.dirname(store.path), exist_ok=True)
            store._open()
        return store

    @classmethod
    def open_to_read(cls, path: str | os.PathLike[str]) -> Self:
        """Open the store at `path` to look something up, also where nothing can be written.

        A store that is not there is empty, and is not made.

        Raises:
            StoreError: It cannot be read.
        """
        if os.path.exists(path):
            try:
                return cls.open(path)
            except StoreError as error:
                if not isinstance(error.__cause__, (sqlite3.OperationalError, OSError)):
                    raise
        store = cls(os.fspath(path))
        with store._errors("open"):
            store._connection = connect_to_read(store.path)
        return store

    # --- runs -------------------------------------------------------------------------------------------------

    def begin_run(self, run: RunRecord) -> None:
        """Keep a run that begins (or that is resumed: then only its status changes)."""
        values = (run.id, run.title, run.base, run.command, run.started, None, run.status, run.plan, run.result)
        self._write(
            "begin-run",
            lambda db: db.execute(
                "INSERT INTO runs (id, title, base, command, started, finished, status, plan, result)"
                " VALUES (?,?,?,?,?,?,?,?,?)"
                " ON CONFLICT(id) DO UPDATE SET status = excluded.status, finished = NULL",
                [jsonable(value) for value in values],
            ),
        )

    def end_run(self, run: str, status: str, *, result: str = "") -> None:
        """Keep how the run ended: ``done``, ``interrupted`` or ``failed``."""
        self._write(
            "end-run",
            lambda db: db.execute(
                "UPDATE runs SET status = ?, finished = ?, result = ? WHERE id = ?",
                (status, time.time(), jsonable(result), run),
            ),
        )

    def runs(self, *, limit: int = 100) -> tuple[RunRecord, ...]:
        """The last `limit` runs, newest first."""
        rows = self._read("SELECT * FROM runs ORDER BY started DESC, id DESC LIMIT ?", (limit,))
        return tuple(_run_record(row) for row in rows)

    def run(self, run: str) -> RunRecord | None:
        """The run with this id, or whose id is the only one that starts like this; None when there is no such run.

        Raises:
            InvalidValueError: Several ids start like this.
        """
        rows = self._read("SELECT * FROM runs WHERE substr(id, 1, ?) = ?", (len(run), run))
        exact = [row for row in rows if row[0] == run]
        if not exact and len(rows) > 1:
            raise InvalidValueError(f"{run!r} could be {len(rows)} runs", hint="`arboretum history` lists their ids")
        return next((_run_record(row) for row in exact or rows), None)

    # --- trials and outputs -----------------------------------------------------------------------------------

    def record_trial(self, run: str, trial: Trial, *, key: ResultKey | None = None) -> Trial:
        """Keep a finished trial of a run that has begun, with its key, and take over its whole outputs.

        The files that `Trial.output_paths` names are read, compressed and, once they are safe in the store, removed.

        Returns:
            The trial as it is kept, without `Trial.output_paths`: from now on `output` has them.
        """
        kept = evolve(trial, output_paths={})
        files = {s: p for s, p in trial.output_paths.items() if os.path.exists(p)}
        values = (
            run, trial.hypothesis, trial.attempt, trial.outcome.value, time.time(), _trial_json(kept),
            key.digest if key else "", _fields_json(key) if key else "{}",
        )  # fmt: skip

        def record(db: sqlite3.Connection) -> None:
            db.execute(
                "INSERT OR REPLACE INTO trials (run, hypothesis, attempt, outcome, finished, record, key, fields)"
                " VALUES (?,?,?,?,?,?,?,?)",
                values,
            )
            for stream, file in files.items():
                store_outputs.add(db, run, trial, stream, file)

        self._write("record-trial", record)
        with self._lock:
            self._taken_over += files.values()
        self._remove_raw_outputs()
        return kept

    def _remove_raw_outputs(self) -> None:
        """Remove files whose content is safe in the store by now."""
        with self._lock:
            while self._taken_over and not self._in_batch:
                file = self._taken_over.pop()
                self._step("store.remove-raw-output")
                with contextlib.suppress(OSError):
                    os.unlink(file)
                    os.rmdir(os.path.dirname(file))  # when it was the last one

    def trials(self, run: str) -> tuple[Trial, ...]:
        """The finished trials of a run, in the order they finished in."""
        rows = self._read("SELECT record FROM trials WHERE run = ? ORDER BY finished", (run,))
        return tuple(trial_from_dict(json.loads(record)) for (record,) in rows)

    def output(self, run: str, hypothesis: str, attempt: int, stream: str = "stdout") -> Iterator[bytes] | None:
        """The whole output of a trial, in parts; None when none is kept (any more).

        That of one whose result was taken from the cache is that of the trial which found the result.
        """
        place = (run, hypothesis, attempt)
        rows = self._read(store_outputs.FIND, (*place, stream))
        if not rows:
            source = self._read(store_outputs.FIND_SOURCE, place)
            rows = self._read(store_outputs.FIND, (*source[0], stream)) if source else []
        return store_outputs.parts(self._read, rows[0][0]) if rows else None

    # --- cache ------------------------------------------------------------------------------------------------

    def get(self, key: ResultKey) -> Trial | None:
        """The cached result with this key, or None."""
        return self.get_many([key]).get(key.digest)

    def get_many(self, keys: Iterable[ResultKey]) -> dict[str, Trial]:
        """The cached results of those keys that have one, by the digest of the key."""
        digests = list(dict.fromkeys(key.digest for key in keys))
        rows = self._read(
            "SELECT key, record FROM cache WHERE key IN (SELECT value FROM json_each(?))", (json.dumps(digests),)
        )
        return {digest: trial_from_dict(json.loads(record)) for digest, record in rows}

    def put(self, key: ResultKey, trial: Trial, *, run: str = "") -> None:
        """Keep a result for later runs; one with the same key is replaced. Only a pass or a fail is kept."""
        if trial.outcome not in _CACHEABLE:
            return
        values = (
            key.digest, _fields_json(key), jsonable(key.fields.get("command", "")), trial.outcome.value,
            _trial_json(trial), run, time.time(),
        )  # fmt: skip
        self._write(
            "put",
            lambda db: db.execute(
                "INSERT OR REPLACE INTO cache (key, fields, command, outcome, record, run, stored)"
                " VALUES (?,?,?,?,?,?,?)",
                values,
            ),
        )

    def why(self, run: str, hypothesis: str, attempt: int = 1) -> Why | None:
        """Why the trial's result was or was not taken from the cache; None when the trial has no key (or is not known).

        A miss is explained by the nearest result that was stored when the run began: of the same tree and the same
        command if there is one, with the fewest fields that differ.
        """
        rows = self._read(
            "SELECT record, key, fields, started FROM trials JOIN runs ON runs.id = run"
            " WHERE run = ? AND hypothesis = ? AND attempt = ?",
            (run, hypothesis, attempt),
        )
        if not rows or not rows[0][1]:
            return None
        record, digest, fields_text, started = rows[0]
        fields = json.loads(fields_text)
        if json.loads(record)["cached"]:
            source = self._read("SELECT run FROM cache WHERE key = ?", (digest,))
            return Why(hit=True, fields=fields, source=source[0][0] if source else "")
        others = self._read(
            "SELECT fields FROM cache WHERE stored < ? AND key != ? ORDER BY command != ?, stored DESC LIMIT 1000",
            (started, digest, fields.get("command", "")),
        )
        candidates = [_differences(fields, json.loads(text)) for (text,) in others]
        nearest = min(candidates, key=lambda found: ("tree" in found, len(found)), default={})
        return Why(hit=False, fields=fields, differences=nearest)

    # --- upkeep -----------------------------------------------------------------------------------------------

    def apply_retention(self, retention: Retention, *, now: float | None = None) -> tuple[str, ...]:
        """Drop what is beyond `retention`, never of a run that may still go on, and give the space back.

        Returns:
            The ids of the runs whose outputs are not kept any more (their journals need not be kept either).
        """
        now = time.time() if now is None else now

        def delete(db: sqlite3.Connection) -> tuple[str, ...]:
            db.execute("DELETE FROM cache WHERE stored < ?", (now - retention.cache_age,))
            dropped = store_outputs.drop(
                db, runs=retention.runs, before=now - retention.age, max_bytes=retention.output_bytes
            )
            db.execute("DELETE FROM runs WHERE started < ?", (now - max(retention.cache_age, retention.age),))
            return dropped

        dropped = self._write("retention", delete)
        self._read("PRAGMA incremental_vacuum", ())
        self._read("PRAGMA wal_checkpoint(TRUNCATE)", ())
        return dropped

    def check(self) -> tuple[str, ...]:
        """What is wrong with the file, in SQLite's words; empty when it is sound."""
        rows = self._read("PRAGMA integrity_check", ())
        return tuple(str(row[0]) for row in rows if row[0] != "ok")

    def close(self) -> None:
        """Give the file back; closing twice is allowed."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    # --- inside -----------------------------------------------------------------------------------------------

    @property
    def _db(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"the result store {self.path} is closed")
        return self._connection

    def _open(self, *, suspect: bool = False) -> None:
        """Open and migrate under a lock between processes; set a damaged file aside and start anew."""
        with FileLock(f"{self.path}.lock", timeout=_BUSY_SECONDS):
            try:
                self._connection = self._connect()
                if suspect:
                    _check(self._connection)
            except sqlite3.OperationalError:
                raise  # no permission, no space, locked: the file may be sound
            except sqlite3.DatabaseError as error:
                self.close()
                self._set_aside(error)
                self._connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        self._step("store.connect")
        connection = sqlite3.connect(self.path, timeout=_BUSY_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            connection.execute("PRAGMA foreign_keys = ON")
            migrate(connection, self._step)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
        except BaseException:
            connection.close()
            raise
        return connection

    def _set_aside(self, cause: sqlite3.DatabaseError) -> None:
        target = f"{self.path}.damaged-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        while os.path.exists(target):
            target += "+"
        for suffix in ("-wal", "-shm", ""):
            self._step("store.set-aside")
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path + suffix, target + suffix)
        self.set_aside = target
        _log.warning("the result store was damaged (%s) and is kept as %s; a new one was started", cause, target)

    def _read(self, query: str, values: Sequence[object]) -> list[tuple[Any, ...]]:
        return self._attempt("read", lambda: self._db.execute(query, values).fetchall())

    @contextlib.contextmanager
    def batch(self) -> Iterator[None]:
        """Make all changes in the block one transaction: it costs about what one of them costs.

        Other threads wait for its end. When the block raises nothing of it is kept.
        """
        with self._lock:
            if self._in_batch:
                yield
                return
            self._attempt("batch", lambda: self._db.execute("BEGIN IMMEDIATE"))
            self._in_batch = True
            try:
                yield
                self._step("store.batch.commit")
                with self._errors("batch"):
                    if self._db.in_transaction:  # SQLite ends it by itself when the disk is full
                        self._db.execute("COMMIT")
            except BaseException:
                if self._connection is not None and self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                self._taken_over.clear()
                raise
            finally:
                self._in_batch = False
        self._remove_raw_outputs()

    def _write(self, name: str, action: Callable[[sqlite3.Connection], _T]) -> _T:
        """Carry out `action` in one transaction: all or nothing."""

        def transaction() -> _T:
            self._step(f"store.{name}")
            if self._in_batch:
                return action(self._db)
            self._db.execute("BEGIN IMMEDIATE")
            try:
                result = action(self._db)
                self._step(f"store.{name}.commit")
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
            self._step(f"store.{name}.committed")
            return result

        return self._attempt(name, transaction)

    def _attempt(self, name: str, action: Callable[[], _T]) -> _T:
        """Carry out `action`; when the file turns out to be damaged, once more on a new one."""
        with self._errors(name), self._lock:
            try:
                return action()
            except (sqlite3.OperationalError, sqlite3.IntegrityError):
                raise
            except sqlite3.DatabaseError:
                self.close()
                self._open(suspect=True)
                return action()

    @contextlib.contextmanager
    def _errors(self, operation: str) -> Iterator[None]:
        """The seam at which SQLite's and the system's errors become ours."""
        try:
            yield
        except (sqlite3.Error, OSError, Timeout) as error:
            raise StoreError(
                f"the result store {self.path} failed ({operation}): {error}",
                hint="check the permissions and the space of the repository's git directory, or use `--no-cache`",
            ) from error


def _check(connection: sqlite3.Connection) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise sqlite3.DatabaseError(found)


def _run_record(row: Sequence[object]) -> RunRecord:
    names = ("id", "title", "base", "command", "started", "finished", "status", "plan", "result")
    return RunRecord(**dict(zip(names, row, strict=True)))  # type: ignore[arg-type]  # the columns have these types


def _trial_json(trial: Trial) -> str:
    return encode(trial_to_dict(trial))


def _fields_json(key: ResultKey) -> str:
    return encode(dict(key.fields))


def _differences(now: Mapping[str, str], then: Mapping[str, str]) -> dict[str, tuple[str | None, str | None]]:
    names = sorted({*now, *then})
    return {name: (now.get(name), then.get(name)) for name in names if now.get(name) != then.get(name)}
