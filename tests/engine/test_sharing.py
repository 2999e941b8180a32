"""Several processes share one pool: no slot is leased twice at once, nobody waits for ever, the dead are replaced."""

from __future__ import annotations

import collections
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from arboretum.engine.slots import HELD, SlotState

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
LEASES = 500 if SCALE > 1 else 60
WORKER = Path(__file__).with_name("share_worker.py")


def start(ground, size: int, leases: int, log: Path, seed: int) -> subprocess.Popen[bytes]:
    arguments = [ground.builder.path, str(size), str(leases), str(log), str(seed)]
    return subprocess.Popen([sys.executable, str(WORKER), *arguments], stderr=subprocess.PIPE)


def held_twice(entries: list[list], deaths: dict[int, int]) -> list[str]:
    """Every moment at which a slot was reserved while another live lease held it."""
    holders: dict[str, tuple[str, int]] = {}
    found = []
    for moment, pid, slot, _previous, state, lease in entries:
        if state == SlotState.RESERVED:
            holder, owner = holders.get(slot, ("", 0))
            if holder and not (owner in deaths and deaths[owner] <= moment):
                found.append(f"slot {slot} was given to {lease} while {holder} held it")
            holders[slot] = (lease, pid)
        elif state in HELD:
            if holders.get(slot, ("", 0))[0] != lease:
                found.append(f"slot {slot} is {state} for {lease}, which does not hold it")
        elif holders.get(slot, ("", 0))[0] == lease or holders.get(slot, ("", 0))[1] in deaths:
            holders.pop(slot, None)
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("processes", "size"), [(2, 2), (8, 3)])
def test_processes_share_a_pool(ground, tmp_path, processes, size):
    """Over hundreds of leases, with processes killed at random, no slot is held twice and all leases are had."""
    log, chance, deaths = tmp_path / "log", random.Random(7), {}
    each = LEASES // processes
    workers = [start(ground, size, each, log, seed) for seed in range(processes)]
    kills = 3 if SCALE > 1 else 2
    deadline = time.monotonic() + (1200 if SCALE > 1 else 240)
    try:
        while any(worker.poll() is None for worker in workers):
            assert time.monotonic() < deadline, "the processes are stuck"
            time.sleep(chance.uniform(0.2, 0.6))
            victim = chance.randrange(len(workers))
            enough = log.exists() and log.read_bytes().count(b"\n") > 20 * (1 + len(deaths))
            if kills > len(deaths) and enough and workers[victim].poll() is None:
                deaths[workers[victim].pid] = time.monotonic_ns()
                workers[victim].kill()
                workers[victim].communicate()
                workers[victim] = start(ground, size, each, log, 100 + len(deaths))
        for worker in workers:
            assert worker.wait() == 0, worker.stderr.read().decode()
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            worker.stderr.close()
    entries = sorted(json.loads(line) for line in log.read_text().splitlines())
    assert held_twice(entries, deaths) == []
    leased = collections.Counter(entry[5] for entry in entries if entry[4] == SlotState.LEASED)
    assert set(leased.values()) == {1}
    assert len(leased) >= each * processes
    assert len({entry[2] for entry in entries}) <= size
    assert deaths
    pool = ground.pool(size=size)
    assert pool.check() == ()
    assert {slot.state for slot in pool.slots()} <= {"dirty", "free"}
    assert ground.builder.git("worktree", "list", "--porcelain").count("worktree ") == 1 + len(pool.slots())
    ground.builder.git("fsck", "--strict", "--no-dangling")
