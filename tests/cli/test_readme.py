"""The two commands of the README, read out of it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def readme_commands() -> list[str]:
    """The command of each shell block under "Two commands"."""
    section = re.split(r"^## ", (ROOT / "README.md").read_text(), flags=re.MULTILINE)[1]
    assert section.startswith("Two commands")
    return [block.strip() for block in re.findall(r"^```sh\n(.*?)^```", section, flags=re.MULTILINE | re.DOTALL)]


def fresh_copy(folder: Path) -> Path:
    """What a clone of this tree would hold: the files that git knows or would add, no environment, no caches."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        source, target = ROOT / name, folder / name
        if source.is_symlink() or source.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target, follow_symlinks=False)
    return folder


def test_there_are_two_and_ci_runs_the_second() -> None:
    """One sets up and runs the demo, one sets up and runs the tests; .ci/run takes the latter from the README."""
    demo, tests = readme_commands()
    for command in (demo, tests):
        assert "-m venv" in command
        assert "pip install" in command
    assert demo.endswith("arboretum demo")
    assert "pytest" in tests
    script = (ROOT / ".ci/run").read_text()
    assert "README.md" in script
    assert tests not in script


@pytest.mark.slow
def test_the_first_command_works_in_a_fresh_copy(tmp_path: Path) -> None:
    """In a copy with nothing installed the first command makes its environment, runs the demo and finds the cause."""
    copy = fresh_copy(tmp_path / "copy")
    kept = {
        name: value for name, value in os.environ.items() if name not in {"VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME"}
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", readme_commands()[0]],
        cwd=copy,
        env=kept | {"CI": "true"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    verdicts = dict(re.findall(r"^(\S+)\s+[✓✗?] (\w+)", done.stdout, flags=re.MULTILINE))
    assert verdicts["slice-end"] == "supported"
    assert verdicts["strip-text"] == "falsified"
    assert len(verdicts) == 6
    assert not list(Path(os.environ["HOME"]).rglob("pools"))
