"""A real Dask cluster on loopback: a scheduler and worker processes, each with its own home and cache folder."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, field

from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

#: What distributed itself warns of when it is imported or closed is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@define(eq=False)
class Cluster:
    """Processes of a cluster, and where they keep their things."""

    folder: Path
    scheduler: subprocess.Popen[bytes] | None = None
    workers: list[subprocess.Popen[bytes]] = field(factory=list)
    address: str = ""

    def start_scheduler(self, *, protocol: str = "tcp", **env: str) -> None:
        """Start the scheduler; one that comes after another listens at the same address."""
        file = self.folder / "scheduler.json"
        file.unlink(missing_ok=True)
        port = self.address.rpartition(":")[2] or "0"
        self.scheduler = self._start(
            ["-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", port, "--no-dashboard",
             "--no-show", "--protocol", protocol, "--scheduler-file", str(file)], "scheduler", **env,
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while not file.exists() or not file.read_text().strip():
            assert time.monotonic() < deadline, "the scheduler did not start"
            time.sleep(0.05)
        self.address = json.loads(file.read_text())["address"]

    def start_worker(
        self, *options: str, slots: int = 1, python: str = sys.executable, **env: str
    ) -> subprocess.Popen[bytes]:
        name = f"w{len(self.workers)}"
        words = ["-m", "arboretum", "worker", "--scheduler", self.address, "--slots", str(slots), "--name", name]
        worker = self._start([*words, *options], name, python=python, **env)
        self.workers.append(worker)
        return worker

    def _start(
        self, arguments: list[str], name: str, *, python: str = sys.executable, **env: str
    ) -> subprocess.Popen[bytes]:
        home = self.folder / name
        home.mkdir(exist_ok=True)
        own = {"HOME": str(home), "ARBORETUM_CACHE_DIR": str(home / "cache"), "TMPDIR": str(home)}
        with (self.folder / f"{name}.log").open("ab") as log:
            return subprocess.Popen(
                [python, "-W", "ignore", *arguments], env=os.environ | own | env, cwd=home,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip

    def restart(self) -> None:
        """Kill the scheduler with -9, start it again at the same address, and a worker in the place of each."""
        assert self.scheduler is not None
        kill_group(self.scheduler)
        self.start_scheduler()
        for worker in self.workers[:]:
            kill_group(worker)
            self.start_worker()

    def stop(self) -> None:
        for process in [*self.workers, *([self.scheduler] if self.scheduler else [])]:
            kill_group(process)


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End a process with its nanny and its children, the hard way."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(30)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """A scheduler without workers; a test starts those that it wants."""
    (tmp_path / "cluster").mkdir()
    made = Cluster(tmp_path / "cluster")
    made.start_scheduler()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def three_workers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A scheduler and three workers, each as if on a host of its own."""
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    made.start_scheduler()
    for _ in range(3):
        made.start_worker(GIT_CONFIG_NOSYSTEM="1", GIT_CONFIG_GLOBAL=os.devnull)
    yield made
    made.stop()


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    """A repository of four commits; the file ``n`` holds the number of its commit."""
    builder = RepositoryBuilder.init(str(tmp_path / "repo"))
    builder.commits([CommitSpec({"n": f"{n}\n"}, f"commit {n}\n") for n in range(4)])
    with Repository.open(tmp_path / "repo") as repository:
        yield repository
