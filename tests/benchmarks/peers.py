"""Packages that arboretum is held against and does not need: put into an environment of their own, timed in it."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Self

import platformdirs
from attrs import define, field

_WAYS: Final = Path(__file__).with_name("peer_ways.py")


def environment(packages: Iterable[str]) -> tuple[str, dict[str, str]]:
    """The Python of an environment that holds the packages, in the user's cache folder; it is kept for the next run.

    Args:
        packages: Names in the default package index.

    Returns:
        Its interpreter, and why each package that could not be had is left out.
    """
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    folder = Path(platformdirs.user_cache_dir("arboretum")) / "benchmarks" / f"peers-{version}"
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    missing: dict[str, str] = {}
    for package in packages:
        if subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0:
            continue
        done = subprocess.run(
            [python, "-m", "pip", "install", "--quiet", package], capture_output=True, text=True, check=False
        )
        if done.returncode:
            missing[package] = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
    return str(python), missing


@define(eq=False)
class Peers:
    """A process in that environment that does what it is asked and tells how long it took.

    Args:
        python: The interpreter.
        cwd: Where it works.
    """

    python: str
    cwd: str
    _process: subprocess.Popen[str] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._process = subprocess.Popen(
            [self.python, str(_WAYS)], cwd=self.cwd, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate()

    def way(self, name: str, path: str, **options: object) -> Callable[[], float] | None:
        """The way of this name on the repository at `path`; None when the peer has none or it fails."""
        if self._ask({"prepare": name, "path": path, "options": options}) is None:
            return None

        def timed() -> float:
            seconds = self._ask({"run": name})
            assert seconds is not None, f"{name} failed after it had worked"
            return seconds

        return timed

    def _ask(self, request: dict[str, object]) -> float | None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            return None
        return float(answer["seconds"])
