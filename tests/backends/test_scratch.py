"""Folders for a moment: they outlive their process until the next one comes, and no longer."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.backends.scratch import scratch_folder, sweep_scratch
from arboretum.testing.builders import RepositoryBuilder

HOLDER = """
import sys
from arboretum.backends.scratch import scratch_folder
with scratch_folder(sys.argv[1]) as folder:
    open(f"{folder}/index", "w").close()
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path: Path):
    """A process with a folder of its own."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    folder = process.stdout.readline().strip()
    yield process, Path(folder)
    process.kill()
    process.communicate()


def test_what_a_killed_process_left_goes_with_the_next_one(holder, tmp_path: Path) -> None:
    """As long as its maker lives a folder is left alone; when that was killed the next maker removes it."""
    process, folder = holder
    with scratch_folder(str(tmp_path)) as other:
        assert sorted(os.listdir(tmp_path)) == sorted([folder.name, os.path.basename(other)])
    assert (folder / "index").exists()
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert folder.exists()
    with scratch_folder(str(tmp_path)) as other:
        assert os.listdir(tmp_path) == [os.path.basename(other)]
    assert os.listdir(tmp_path) == []


def test_a_command_does_not_hold_the_folder_of_its_dead_starter(tmp_path: Path) -> None:
    """The lock is the maker's alone: what it has started, and lives on, does not keep the folder."""
    code = HOLDER.replace("import sys", "import subprocess, sys", 1).replace(
        "    sys.stdin.read()",
        "    child = subprocess.Popen(['sleep', '60'], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)\n"
        "    print(child.pid, flush=True)\n    sys.stdin.read()",
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    child = int(process.stdout.readline())
    try:
        process.kill()
        process.communicate()
        sweep_scratch(str(tmp_path))
        assert os.listdir(tmp_path) == []
    finally:
        os.kill(child, signal.SIGKILL)


def test_makers_at_the_same_time_never_take_each_others_folders(tmp_path: Path) -> None:
    """However many make and sweep at once, a folder is there, with what was put into it, until its maker is done."""
    failures: list[str] = []

    def work() -> None:
        for _ in range(40):
            with scratch_folder(str(tmp_path)) as folder:
                path = Path(folder, "index")
                path.write_text("mine")
                sweep_scratch(str(tmp_path))
                if not path.exists():
                    failures.append(folder)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert os.listdir(tmp_path) == []


def test_other_things_in_the_folder_are_left_alone(tmp_path: Path) -> None:
    """Only what has the name of such a folder, and is a folder, is swept; a link is not followed."""
    kept = tmp_path / "aside"
    (kept / "inner").mkdir(parents=True)
    parent = tmp_path / "own"
    for name in ("other", "index-old"):
        (parent / name).mkdir(parents=True)
    (parent / "scratch-file").write_text("x")
    (parent / "scratch-link").symlink_to(kept)
    sweep_scratch(str(parent))
    sweep_scratch(str(tmp_path / "none"))
    assert sorted(os.listdir(parent)) == ["index-old", "other", "scratch-file", "scratch-link"]
    assert (kept / "inner").is_dir()


def test_the_copy_of_an_index_goes_with_a_sweep(real: RepositoryBuilder) -> None:
    """What a process killed in a stash has left in the git directory goes with the next sweep of the repository."""
    own = Path(real.git_dir, "arboretum", "tmp")
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(own)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    process.kill()
    process.communicate()
    assert len(os.listdir(own)) == 1
    with Repository.open(real.path) as repository:
        repository.removals.sweep()
    assert os.listdir(own) == []
