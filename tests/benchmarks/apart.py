"""One area in a process and on a file system of its own, with the disk at rest, so that none feels what others left.

What earlier areas have left costs the later ones: values for Python's collector to look at, data to write, and on ext4
files that were just deleted. Without a journal the kernel passes over the inodes of files deleted in the last minutes,
one by one for each new file: to make files takes up to thirty times as long then, for git as for us.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import attrs

from tests.benchmarks.measure import Row
from tests.worktree_files.images import mounted

_ROOT: Final = Path(__file__).resolve().parents[2]
_DISK_MEBIBYTES: Final = 20_000  # of an image that takes no more than what is in it
_REST_SECONDS: Final = 30.0
#: So much of what others write all the time does not count as unrest.
_RESTING_KIBIBYTES: Final = 4096


class AreaError(Exception):
    """An area has ended with an error, which its own process has told."""


def rows_here(area: str, scale: float) -> Iterable[Row]:
    """The figures of an area, measured in this process, each as soon as it is known."""
    rows: Iterable[Row] = importlib.import_module(f"tests.benchmarks.bench_{area}").run(scale)
    return rows


def rows_apart(area: str, scale: float) -> Iterator[Row]:
    """The same, measured in a process of its own on a file system of its own.

    Raises:
        AreaError: The area has failed.
    """
    with _disk(area) as folder:
        bring_to_rest()
        read, write = os.pipe()
        with os.fdopen(read, encoding="utf-8") as told:
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "tests.benchmarks.apart", area, str(scale), str(write)],
                    cwd=_ROOT, env=os.environ | {"TMPDIR": folder}, pass_fds=[write],
                    start_new_session=True,  # Ctrl-C comes once, from us
                )  # fmt: skip
            finally:
                os.close(write)
            with _ended(process):
                yield from rows_of(told, process)


def rows_of(told: Iterable[str], process: subprocess.Popen[bytes]) -> Iterator[Row]:
    """The figures in the lines that `main` of that process has told.

    Raises:
        AreaError: The area has failed.
    """
    end: dict[str, str] | None = None
    for line in told:
        match json.loads(line):
            case {"row": row}:
                yield Row(**row)
            case said:
                end = said
    process.wait()
    if end is None or "error" in end:
        raise AreaError(end["error"] if end else f"the process of the area ended with {process.returncode}")


@contextlib.contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Let the process put its things in order when we are interrupted, and wait until it has."""
    try:
        yield
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextlib.contextmanager
def _disk(area: str) -> Iterator[str]:
    """A folder on a new ext4, where one may be mounted and the area has not its own ones; else an ordinary one."""
    with tempfile.TemporaryDirectory(prefix="arboretum-bench-") as name:
        if getattr(importlib.import_module(f"tests.benchmarks.bench_{area}"), "OWN_DISKS", False):
            yield name
            return
        with mounted(Path(name) / "ext4", "ext4", mebibytes=_DISK_MEBIBYTES) as problem:
            yield name if problem else f"{name}/ext4"


def bring_to_rest() -> None:
    """Let everything be written that is to be written, so that nobody pays for it who has not caused it; bounded."""
    end = time.monotonic() + _REST_SECONDS
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(["sync"], check=False, timeout=_REST_SECONDS)
    while _unwritten() > _RESTING_KIBIBYTES and time.monotonic() < end:
        time.sleep(0.1)


def _unwritten() -> int:
    """How many KiB the kernel has still to write; 0 where it does not tell."""
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Dirty:", "Writeback:")))


def main(area: str, scale: str, descriptor: str) -> None:
    """Measure an area, and tell each figure as a line of JSON."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    with os.fdopen(int(descriptor), "w", encoding="utf-8", buffering=1) as told:

        def tell(what: dict[str, object]) -> None:
            told.write(json.dumps(what, default=str) + "\n")

        try:
            for row in rows_here(area, float(scale)):
                tell({"row": attrs.asdict(row)})
        except KeyboardInterrupt:
            tell({"error": "interrupted"})
        except Exception as problem:  # whatever one area has run into, the figures of the others are worth having
            traceback.print_exc()
            tell({"error": said_shortly(problem)})
        else:
            tell({"end": area})


def said_shortly(problem: Exception) -> str:
    """An error in one line."""
    text = str(problem) if isinstance(problem, AreaError) else f"{type(problem).__name__}: {problem}"
    return (text.strip().splitlines() or [""])[0]


if __name__ == "__main__":
    main(*sys.argv[1:])
