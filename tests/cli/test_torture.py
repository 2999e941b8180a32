"""Eight hypotheses at once, most of them up to no good."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.conftest import PYTEST, environment, processes_with

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
MEBIBYTES = 1024 if SCALE >= 2 else 256
PLAN = """
version = 1
title = "Which of these is evidence?"
base = "main"
command = {command}
timeout = "60s"

[[hypothesis]]
id = "right"
ref = "fix/right"

[[hypothesis]]
id = "wrong"
ref = "fix/wrong"

[[hypothesis]]
id = "sleeps"
command = {{shell = "setsid sleep 31{marker} & sleep 32{marker}"}}
timeout = "1s"

[[hypothesis]]
id = "prints-a-lot"
command = {{shell = "yes 0123456789abcdef$(printf %200s) | head -c {bytes}"}}

[[hypothesis]]
id = "prints-rubbish"
command = {{shell = "printf '\\\\377\\\\376\\\\200 not utf-8 \\\\303'; exit 1"}}

[[hypothesis]]
id = "kills-itself"
command = {{shell = "kill -9 $$"}}

[[hypothesis]]
id = "not-there"
command = "no-such-command-{marker}"

[[hypothesis]]
id = "tests-nothing"
command = {nothing}
"""
EXPECTED = {
    "right": ("supported", "as-predicted", "passed"),
    "wrong": ("falsified", "contradicted", "failed"),
    "sleeps": ("inconclusive", "timeout", "timeout"),
    "prints-a-lot": ("supported", "as-predicted", "passed"),
    "prints-rubbish": ("falsified", "contradicted", "failed"),
    "kills-itself": ("inconclusive", "killed", "killed"),
    "not-there": ("inconclusive", "command-not-found", "command-not-found"),
    "tests-nothing": ("inconclusive", "nothing-ran", "nothing-ran"),
}


def high_water(pid: int) -> int:
    """The most memory that a process has had, in KiB; 0 when it is gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    return int(status.split("VmHWM:")[1].split()[0]) if "VmHWM:" in status else 0


@pytest.mark.slow
def test_each_gets_the_right_verdict_and_nothing_is_left(project: Path, tmp_path: Path) -> None:
    """Every verdict and reason is right, the command stays below 200 MB, and no process outlives it."""
    marker = f"{os.getpid()}7"
    quoted = "[" + ", ".join(f"'{word}'" for word in PYTEST) + "]"
    plan = tmp_path / "hypotheses.toml"
    plan.write_text(
        PLAN.format(
            command=quoted, nothing=quoted[:-1] + ", '-k', 'no_such_test']", marker=marker, bytes=MEBIBYTES << 20
        )
    )
    out = tmp_path / "out.json"
    with out.open("wb") as stream:
        child = subprocess.Popen(
            [sys.executable, "-m", "arboretum", "run", str(plan), "--format", "json", "--jobs", "8"],
            cwd=project, env=environment(tmp_path), stdout=stream, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        peak = 0
        while child.poll() is None:
            # Not ru_maxrss: that counts the memory of this test's own process, too, from the moment before exec.
            peak = max(peak, high_water(child.pid))
            time.sleep(0.02)
    document = json.loads(out.read_bytes())
    found = {h["id"]: (h["verdict"], h["reason"], *(t["outcome"] for t in h["trials"])) for h in document["hypotheses"]}
    assert found == EXPECTED
    assert child.returncode == 0
    assert [t["outcome"] for t in document["control"]["trials"]] == ["failed"]
    assert 0 < peak < 200 * 1024, f"{peak} KiB"
    assert processes_with(f"sleep 31{marker}") == []
    assert processes_with(f"sleep 32{marker}") == []
    assert processes_with("0123456789abcdef") == []
    print(f"peak memory {peak // 1024} MiB while a trial printed {MEBIBYTES} MiB")
