"""Whole outputs of trials in the store: cut into parts, each compressed, so that size costs no memory."""

from __future__ import annotations

import sqlite3
import zlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from arboretum.engine.model import Trial

_PART_BYTES: Final = 1 << 20
_LEVEL: Final = 3
#: Finds the id of an output.
FIND: Final = "SELECT id FROM outputs WHERE run = ? AND hypothesis = ? AND attempt = ? AND stream = ?"

#: Finds the trial from which a cached one's result was taken: its run, hypothesis and attempt.
FIND_SOURCE: Final = (
    "SELECT found.run, found.hypothesis, found.attempt FROM trials AS asked"
    " JOIN cache ON cache.key = asked.key JOIN trials AS found ON found.run = cache.run AND found.key = asked.key"
    " WHERE asked.run = ? AND asked.hypothesis = ? AND asked.attempt = ? AND asked.key != ''"
)


def add(db: sqlite3.Connection, run: str, trial: Trial, stream: str, path: str) -> None:
    """Take over the file `path` as the output of a trial; an earlier one of the same trial is replaced."""
    place = (run, trial.hypothesis, trial.attempt, stream)
    db.execute("DELETE FROM outputs WHERE run = ? AND hypothesis = ? AND attempt = ? AND stream = ?", place)
    with open(path, "rb") as file:
        first = file.read(_PART_BYTES)
        if not first:
            return
        output = db.execute(
            "INSERT INTO outputs (run, hypothesis, attempt, stream, bytes, stored_bytes) VALUES (?,?,?,?,0,0)", place
        ).lastrowid
        size = stored = 0
        part, data = 0, first
        while data:
            packed = zlib.compress(data, _LEVEL)
            db.execute("INSERT INTO output_parts (output, part, data) VALUES (?,?,?)", (output, part, packed))
            size, stored, part = size + len(data), stored + len(packed), part + 1
            data = file.read(_PART_BYTES)
        db.execute("UPDATE outputs SET bytes = ?, stored_bytes = ? WHERE id = ?", (size, stored, output))


def parts(read: Callable[[str, Sequence[object]], list[tuple[Any, ...]]], output: int) -> Iterator[bytes]:
    """The parts of the output with this id, decompressed one at a time; `read` carries out a query."""
    part = 0
    while rows := read("SELECT data FROM output_parts WHERE output = ? AND part = ?", (output, part)):
        yield zlib.decompress(rows[0][0])
        part += 1


def drop(db: sqlite3.Connection, *, runs: int, before: float, max_bytes: int) -> tuple[str, ...]:
    """Delete outputs of runs beyond the newest `runs`, started before `before`, or beyond `max_bytes` in all.

    Returns:
        The ids of the runs whose outputs were to go, whether they had any or not.
    """
    rows = db.execute(
        "SELECT r.id, r.started, r.status, (SELECT COALESCE(SUM(o.stored_bytes), 0) FROM outputs o WHERE o.run = r.id)"
        " FROM runs r ORDER BY r.started DESC, r.id DESC"
    ).fetchall()
    dropped, total = [], 0
    for position, (run, started, status, size) in enumerate(rows):
        total += size
        over = position >= runs or total > max_bytes
        if started < before or (over and status != "running"):
            dropped.append(run)
            total -= size
    db.executemany("DELETE FROM outputs WHERE run = ?", [(run,) for run in dropped])
    return tuple(dropped)
