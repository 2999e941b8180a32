"""The tables of the result store, as a list of steps from each version to the next.

A released step is never edited: a change of the tables is a new step at the end.
"""

from __future__ import annotations

import os
import sqlite3
import urllib.parse
from collections.abc import Sequence
from typing import Final

from arboretum.engine.steps import Step, no_step
from arboretum.errors import StoreError

_RUNS_AND_CACHE: Final = (
    """CREATE TABLE runs (
        id TEXT PRIMARY KEY, title TEXT NOT NULL, base TEXT NOT NULL, command TEXT NOT NULL,
        started REAL NOT NULL, finished REAL, status TEXT NOT NULL, plan TEXT NOT NULL, result TEXT NOT NULL
    ) WITHOUT ROWID""",
    """CREATE TABLE trials (
        run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, hypothesis TEXT NOT NULL, attempt INTEGER NOT NULL,
        outcome TEXT NOT NULL, finished REAL NOT NULL, record TEXT NOT NULL, key TEXT NOT NULL, fields TEXT NOT NULL,
        PRIMARY KEY (run, hypothesis, attempt)
    ) WITHOUT ROWID""",
    """CREATE TABLE cache (
        key TEXT PRIMARY KEY, fields TEXT NOT NULL, command TEXT NOT NULL, outcome TEXT NOT NULL,
        record TEXT NOT NULL, run TEXT NOT NULL, stored REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX cache_command ON cache(command, stored)",
    "CREATE INDEX runs_started ON runs(started)",
)
_OUTPUTS: Final = (
    """CREATE TABLE outputs (
        id INTEGER PRIMARY KEY, run TEXT NOT NULL REFERENCES runs(id) ON DELETE CASCADE, hypothesis TEXT NOT NULL,
        attempt INTEGER NOT NULL, stream TEXT NOT NULL, bytes INTEGER NOT NULL, stored_bytes INTEGER NOT NULL,
        UNIQUE (run, hypothesis, attempt, stream)
    )""",
    """CREATE TABLE output_parts (
        output INTEGER NOT NULL REFERENCES outputs(id) ON DELETE CASCADE, part INTEGER NOT NULL, data BLOB NOT NULL,
        PRIMARY KEY (output, part)
    )""",
)
#: ``STEPS[n]`` takes a store of version n to version n + 1; version 0 is an empty file.
STEPS: Final[Sequence[Sequence[str]]] = (_RUNS_AND_CACHE, _OUTPUTS)
LATEST: Final = len(STEPS)


def version_of(connection: sqlite3.Connection) -> int:
    """The version of the tables in the file; 0 for a file without any."""
    return int(connection.execute("PRAGMA user_version").fetchone()[0])


def migrate(connection: sqlite3.Connection, step: Step) -> None:
    """Bring the tables to the latest version, each step in a transaction of its own.

    Raises:
        StoreError: A later version of arboretum has written the file; it is not touched.
    """
    found = version_of(connection)
    if found > LATEST:
        raise StoreError(
            f"the result store has version {found}, and this arboretum knows versions up to {LATEST}",
            hint="use the arboretum that wrote it, or `--no-cache`",
        )
    if found == 0:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
    for version in range(found, LATEST):
        step(f"store.migrate.{version + 1}")
        connection.execute("BEGIN IMMEDIATE")
        try:
            for statement in STEPS[version]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {version + 1}")
            step(f"store.migrated.{version + 1}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def connect_to_read(path: str) -> sqlite3.Connection:
    """A connection to the store at `path` that writes nothing; to an empty one where there is no file.

    SQLite wants to write beside a file in WAL mode even to read it. Where it cannot, and no change waits in the WAL,
    the file itself is all there is.

    Raises:
        sqlite3.Error: It cannot be read.
        StoreError: It has another version.
    """
    if not os.path.exists(path):
        connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        migrate(connection, no_step)
        return connection
    uri = f"file:{urllib.parse.quote(os.path.abspath(path))}?mode=ro"
    try:
        return _checked(sqlite3.connect(uri, uri=True, check_same_thread=False))
    except sqlite3.OperationalError:
        waiting = f"{path}-wal"
        if os.path.exists(waiting) and os.path.getsize(waiting):
            raise
    return _checked(sqlite3.connect(f"{uri}&immutable=1", uri=True, check_same_thread=False))


def _checked(connection: sqlite3.Connection) -> sqlite3.Connection:
    try:
        found = version_of(connection)
        if found != LATEST:
            raise StoreError(
                f"the result store has version {found}, and this arboretum reads version {LATEST}",
                hint="it can be brought to that version where it can be written",
            )
    except BaseException:
        connection.close()
        raise
    return connection
