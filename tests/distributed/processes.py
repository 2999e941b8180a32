"""Commands run as a person runs them, and what is left of the processes that they have started."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from arboretum import Repository


def command(repo: Repository, *arguments: str, **env: str) -> subprocess.Popen[str]:
    """The command as a person runs it, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "arboretum", *arguments], cwd=repo.path, text=True, env=os.environ | env,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def until(what: Callable[[], bool], text: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, f"not so after {seconds} s: {text}"
        time.sleep(0.05)


def pids(folder: Path) -> list[int]:
    return [int(word) for file in folder.glob("*.pid") for word in file.read_text().split()]


def running(folder: Path) -> list[int]:
    found = []
    for pid in pids(folder):
        with contextlib.suppress(OSError, IndexError):
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z":
                found.append(pid)
    return found


def during(action: Callable[[], object], when: Callable[[], bool]) -> threading.Thread:
    """Do something as soon as something is so."""

    def wait() -> None:
        until(when, "what is waited for")
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread
