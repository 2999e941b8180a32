"""A process that is killed at any step leaves nothing that the next one cannot put right by itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = float(os.environ.get("ARBORETUM_TEST_SCALE", "1")) > 1


@pytest.mark.slow
def test_a_kill_at_every_step_is_recovered_from(tmp_path, capsys):
    """After a kill -9 at each I/O step a new run finishes the work, repeats no finished trial, and all checks pass."""
    harness = Path(__file__).with_name("crash_harness.py")
    form = [] if FULL else ["short"]
    done = subprocess.run(
        [sys.executable, str(harness), str(tmp_path / "cases"), *form], capture_output=True, text=True, check=False,
        timeout=3000 if FULL else 600,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    with capsys.disabled():
        print(f"\n  killed at {result['covered']} of {result['steps']} steps of {len(result['kinds'])} kinds")
    assert result["failures"] == {}
    assert result["covered"] == result["steps"] if FULL else result["covered"] >= len(result["kinds"])
    parts = {name.split(".")[0] for name in result["kinds"]}
    assert parts >= {"pool", "lease", "slot", "reset", "store", "journal", "audit"}
