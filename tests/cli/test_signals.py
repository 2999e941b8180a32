"""Ctrl-C, SIGTERM, a second Ctrl-C, at any moment."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import Arboretum, environment, fingerprint, processes_with

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
PLAN = """
version = 1
base = "main"
command = {{shell = "trap '' TERM; sleep {nap} & setsid sleep {nap} & wait"}}
grace = "{grace}"
{hypotheses}
"""


def start(project: Path, tmp_path: Path, *, nap: str, grace: str) -> subprocess.Popen[str]:
    names = '[[hypothesis]]\nid = "a"\nref = "fix/right"\n[[hypothesis]]\nid = "b"\nref = "fix/wrong"\n'
    plan = tmp_path / "hypotheses.toml"
    plan.write_text(PLAN.format(nap=nap, grace=grace, hypotheses=names))
    return subprocess.Popen(
        [sys.executable, "-m", "arboretum", "run", str(plan), "--jobs", "3"],
        cwd=project, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip


def wait_for_trials(nap: str) -> None:
    deadline = time.monotonic() + 60
    while not processes_with(f"sleep {nap}"):
        assert time.monotonic() < deadline, "no trial was started"
        time.sleep(0.02)


def check_clean(project: Path, tmp_path: Path, arboretum: Arboretum, nap: str, before: dict[str, str]) -> None:
    assert processes_with(f"sleep {nap}") == []
    assert fingerprint(project / ".git", project) == before
    pool = arboretum("-C", project, "pool", "status", "--format", "json")
    assert pool.code == 0, pool.out
    assert {slot["state"] for slot in pool.json["slots"]} <= {"free", "dirty", "retired"}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_ends_the_run_cleanly(project: Path, tmp_path: Path, arboretum: Arboretum, number: int) -> None:
    """Exit code 130, no process left, no leased slot left, the user's repository untouched, and it can be resumed."""
    nap = f"3{os.getpid()}.{number}"
    before = fingerprint(project / ".git", project)
    child = start(project, tmp_path, nap=nap, grace="0.3s")
    wait_for_trials(nap)
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "Traceback" not in err
    assert err.count("stopping what runs") == 1
    check_clean(project, tmp_path, arboretum, nap, before)
    listed = arboretum("-C", project, "history", "--format", "json")
    assert [run["status"] for run in listed.json["runs"]] == ["interrupted"]


def test_a_second_signal_does_not_wait(project: Path, tmp_path: Path, arboretum: Arboretum) -> None:
    """When trials ignore SIGTERM and their grace is long, a second Ctrl-C ends them at once."""
    nap = f"4{os.getpid()}.1"
    before = fingerprint(project / ".git", project)
    child = start(project, tmp_path, nap=nap, grace="600s")
    wait_for_trials(nap)
    child.send_signal(signal.SIGINT)
    time.sleep(0.5)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    check_clean(project, tmp_path, arboretum, nap, before)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(max(3, round(4 * SCALE))))
def test_a_signal_at_any_moment(project: Path, tmp_path: Path, arboretum: Arboretum, seed: int) -> None:
    """Whenever the signal comes, from the first moment on, nothing is left behind."""
    nap = f"5{os.getpid()}.{seed}"
    before = fingerprint(project / ".git", project)
    child = start(project, tmp_path, nap=nap, grace="0.2s")
    time.sleep(random.Random(seed).uniform(0.2, 2.0))
    child.send_signal(signal.SIGINT)
    time.sleep(0.05)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=60)
    # Before Python has got as far as our handlers, a signal ends it the way the kernel does.
    assert child.returncode in {130, -signal.SIGINT}, err
    check_clean(project, tmp_path, arboretum, nap, before)


def test_an_interrupted_run_is_resumed(project: Path, tmp_path: Path, arboretum: Arboretum) -> None:
    """`--resume` goes on with the interrupted run and repeats no trial that had finished."""
    flag = tmp_path / "go-on"
    count = tmp_path / "count"
    plan = tmp_path / "hypotheses.toml"
    script = (
        f'echo "$(git rev-parse HEAD)" >> {count}; test "$(cat answer.py)" = "ANSWER = 41" && exit 1;'
        f" test -e {flag} || sleep 6{os.getpid()}; grep -q 42 answer.py"
    )
    plan.write_text(
        f"version = 1\nbase = 'main'\ncommand = {{shell = {json.dumps(script)}}}\ngrace = '0.2s'\n"
        "[[hypothesis]]\nid = 'a'\nref = 'fix/right'\n[[hypothesis]]\nid = 'b'\nref = 'fix/wrong'\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-m", "arboretum", "run", str(plan), "--jobs", "1", "--no-cache"],
        cwd=project, env=environment(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    wait_for_trials(f"6{os.getpid()}")
    child.send_signal(signal.SIGINT)
    assert child.wait(60) == 130
    flag.touch()
    done = arboretum("-C", project, "run", "--resume", "--format", "json")
    assert done.code == 0, done.err
    assert {h["id"]: h["verdict"] for h in done.json["hypotheses"]} == {"a": "supported", "b": "falsified"}
    commits = count.read_text().split()
    base = subprocess.run(
        ["git", "-C", str(project), "rev-parse", "main"], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert commits.count(base) == 1, "the control had finished and was repeated"
