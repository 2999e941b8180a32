"""A run that is killed with -9 at any moment and resumed comes to the same end."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arboretum.orchestration.orchestrator import read_board
from arboretum.repository import Repository
from tests.orchestration import twelve

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
ROOT = Path(__file__).parents[2]
RUN = "20260101-000000-abcdef"
#: At scale 1 a short form; 20 moments of each kind from scale 10 on.
MOMENTS = min(20, max(2, round(2 * SCALE)))
EVENTS = 60  # about as many as an undisturbed run has


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "cache"))


def drive(path: str, at: int = 0) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.orchestration.drive", path, RUN, str(at)], cwd=ROOT, start_new_session=True
    )


def finish(tmp_path: Path, path: str) -> None:
    process = drive(path)
    assert process.wait(60) == 0
    if sys.platform == "linux":
        assert twelve.no_process_in(tmp_path / "cache") == []


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(MOMENTS))
def test_killed_at_a_random_time_and_resumed(tmp_path: Path, seed: int) -> None:
    """Killed at a random time of the run, twice, and resumed: the same end as undisturbed."""
    builder = twelve.build(tmp_path / "repo")
    chance = random.Random(seed)
    for _ in range(2):
        process = drive(builder.path)
        time.sleep(chance.uniform(0.2, 2.5))
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        process.wait(10)
    finish(tmp_path, builder.path)
    repository = Repository.open(builder.path)
    twelve.check_end(builder, repository, read_board(repository, RUN))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(MOMENTS))
def test_killed_around_a_random_event_and_resumed(tmp_path: Path, seed: int) -> None:
    """Killed just before or just after a random line of the journal is written, and resumed: the same end."""
    builder = twelve.build(tmp_path / "repo")
    chance = random.Random(1000 + seed)
    process = drive(builder.path, chance.choice([-1, 1]) * chance.randint(1, EVENTS))
    assert process.wait(60) in {0, -signal.SIGKILL}
    finish(tmp_path, builder.path)
    repository = Repository.open(builder.path)
    twelve.check_end(builder, repository, read_board(repository, RUN))
