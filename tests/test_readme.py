"""The README's two commands do what it says, from nothing."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
COMMANDS = re.findall(
    r"^```sh\n(.*?)\n```$", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
)


def test_the_two_commands_are_the_first_two() -> None:
    """The first command of the README runs the demo, the second the tests; each sets up an environment of its own."""
    demo, tests = COMMANDS[:2]
    assert "arboretum demo" in demo
    assert "pytest" in tests
    assert all(command.startswith("python3 -m venv .venv && ") for command in (demo, tests))


def test_ci_runs_the_second_command() -> None:
    """What `.ci/run` takes out of the README is the second command, word for word."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    (extraction,) = re.findall(r"^tests=\$\((.*)\)$", script, re.MULTILINE)
    taken = subprocess.run(["sh", "-c", extraction], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert taken.strip() == COMMANDS[1]


@pytest.mark.slow
def test_the_first_command_works_in_a_fresh_copy(tmp_path: Path) -> None:
    """In a copy of the committed and uncommitted files, the first command sets everything up and finds the cause."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("this is no checkout: there is no list of files to copy")
    copy = tmp_path / "copy"
    for name in filter(None, listed.stdout.split(b"\0")):
        source, target = ROOT / os.fsdecode(name), copy / os.fsdecode(name)
        if not os.path.lexists(source):
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        else:
            target.write_bytes(source.read_bytes())
            target.chmod(source.stat().st_mode)
    env = {name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH"}}
    done = subprocess.run(
        ["bash", "-c", COMMANDS[0] + " --repeats 3"], cwd=copy, env=env, capture_output=True, text=True, timeout=900,
        check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^slice-end +✓ supported", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^strip-text +✗ falsified", done.stdout, re.MULTILINE), done.stdout
    assert re.search(r"^not-the-command +\? inconclusive +control-agrees", done.stdout, re.MULTILINE), done.stdout
