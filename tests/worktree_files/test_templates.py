"""The template of a pool is used while it is what was proven, and never once anything in it has changed.

Needs the right to mount images.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.repository import Repository
from arboretum.testing.builders import RepositoryBuilder
from arboretum.worktree_files import btrfs, snapshots
from tests.worktree_files.conftest import portrait
from tests.worktree_files.images import mounted

_SUBVOL_SETFLAGS = 0x4008941A
_READ_ONLY = 2

pytestmark = pytest.mark.slow


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with mounted(tmp_path / "disk", "btrfs") as problem:
        if problem:
            pytest.skip(problem)
        monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "disk" / "cache"))
        yield tmp_path / "disk"


@pytest.fixture
def project(disk: Path) -> RepositoryBuilder:
    builder = RepositoryBuilder.init(disk / "project")
    files = {f"d{n % 7}/f{n}": (f"{n}\n" * (1 + n * n % 900)) for n in range(60)}
    builder.commit({**files, ".gitignore": "*.env\n", "link": "x", "empty": ""})
    builder.commit({"d0/f0": "changed\n", "d1/f1": None})
    return builder


@pytest.fixture
def repository(project: RepositoryBuilder) -> Iterator[Repository]:
    with Repository.open(project.path) as opened:
        yield opened


class Ground:
    """A pool whose slots are all held, so that each new one is made."""

    def __init__(self, repository: Repository, size: int = 200) -> None:
        self.repository, self.steps, self.leases = repository, [], []
        self.pool = WorktreePool.open(repository, size=size, step=self.steps.append)

    def slot(self, revision: str = "HEAD") -> set[str]:
        """Make another slot, see that it is right, and tell by which steps."""
        self.steps.clear()
        commit = self.repository.resolve(revision)
        lease = self.pool.try_acquire(Want(commit=commit))
        assert lease is not None
        self.leases.append(lease)
        assert (lease.slot.commit, lease.ignored, lease.slot.wipe) == (commit, (), False)
        return set(self.steps)

    @property
    def template(self) -> str:
        (name,) = [name for name in os.listdir(f"{self.pool.root}/template") if not name.endswith(".index")]
        return f"{self.pool.root}/template/{name}"


def is_right(builder: RepositoryBuilder, path: str, revision: str = "HEAD") -> None:
    """The slot is what a checkout makes, for git and bit by bit, and nothing is stale."""
    assert builder.git("status", "--porcelain", "--ignored", cwd=path) == ""
    assert builder.git("diff-files", cwd=path) == ""
    assert builder.git("rev-parse", "HEAD", cwd=path) == builder.git("rev-parse", revision)
    assert builder.git("write-tree", cwd=path) == builder.git("rev-parse", f"{revision}^{{tree}}")
    oracle = Path(f"{builder.path}.oracle")
    builder.git("worktree", "add", "-q", "--detach", str(oracle), revision)
    try:
        assert portrait(Path(path)) == portrait(oracle)
    finally:
        builder.git("worktree", "remove", "--force", str(oracle))


def test_new_slots_are_snapshots_of_the_template_and_proven_by_that(project, repository):
    """The first slot leaves a template; whatever its trial does, the next ones are the template's, without a status."""
    ground = Ground(repository)
    assert {"template.snapshot", "template.record"} <= ground.slot()
    tree = Path(ground.leases[0].path)
    for name in ("secret.env", "untracked", "deep/er/file"):
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("secret\n")
    (tree / "d2" / "f2").write_text("changed by the trial\n")
    for _ in range(2):
        steps = ground.slot()
        assert "slot.snapshot" in steps
        assert not {"reset.prove", "slot.copy", "slot.reflink", "template.snapshot"} & steps
        is_right(project, ground.leases[-1].path)
    assert ground.leases[-1].slot.files == ground.leases[0].slot.files
    assert ground.pool.check() == ()
    for lease in ground.leases:
        ground.pool.release(lease)
    assert ground.pool.try_acquire(Want(commit=repository.resolve("HEAD"))) is not None
    project.git("fsck", "--strict", "--no-dangling")


def test_a_slot_at_another_commit_is_moved_and_leaves_the_new_template(project, repository):
    """There is one template, of the commit at which a slot was made last."""
    ground = Ground(repository)
    ground.slot()
    for revision in ("HEAD~1", "HEAD~1", "HEAD"):
        before = ground.template
        steps = ground.slot(revision)
        assert "slot.snapshot" in steps
        is_right(project, ground.leases[-1].path, revision)
        assert ("template.record" in steps) == ("reset.files" in steps) == (ground.template != before)
    assert os.listdir(f"{ground.pool.root}/trash") == []


def set_flag(folder: str, flag: int) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SUBVOL_SETFLAGS, struct.pack("=Q", flag))
    finally:
        os.close(descriptor)


def write(path: Path, *, flags: int = 0) -> None:
    descriptor = os.open(path, os.O_RDWR | flags)
    try:
        with mmap.mmap(-1, 4096) as data:
            data[:4096] = path.name.encode().ljust(4096, b"x")
            os.pwrite(descriptor, data, 0)
    finally:
        os.close(descriptor)


def map_and_write(path: Path) -> None:
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 0) as data:
        data[0:1] = b"X"


def write_and_restore_times(path: Path) -> None:
    before = path.stat()
    data = path.read_bytes()
    path.write_bytes(b"X" + data[1:])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write_below_the_flag(path: Path) -> None:
    set_flag(str(path.parents[1]), _READ_ONLY)
    set_flag(str(path.parents[1]), 0)
    write(path)
    set_flag(str(path.parents[1]), _READ_ONLY)


def write_past_the_flag(path: Path) -> None:
    with path.open("r+b", buffering=0) as file:
        set_flag(str(path.parents[1]), _READ_ONLY)
        file.write(b"X")


def share_blocks(path: Path) -> None:
    subprocess.run(["cp", "--reflink=always", f"{path.parent}/f58", str(path)], check=True)


CHANGES: dict[str, Any] = {
    "write": write,
    "write and sync": lambda path: (write(path), os.sync()),
    "direct": lambda path: write(path, flags=os.O_DIRECT),
    "mapped": map_and_write,
    "times restored": write_and_restore_times,
    "below the flag": write_below_the_flag,
    "past the flag": write_past_the_flag,
    "shared blocks": share_blocks,
    "cut": lambda path: os.truncate(path, 1),
    "hole": lambda path: subprocess.run(["fallocate", "-p", "-l", "4096", str(path)], check=True),
    "rights": lambda path: path.chmod(0o755),
    "owner": lambda path: os.chown(path, 1234, 1234),
    "attribute": lambda path: os.setxattr(path, "user.x", b"1"),
    "touch": os.utime,
    "remove": os.unlink,
    "rename": lambda path: path.rename(path.with_name("renamed")),
    "add": lambda path: path.with_name("secret.env").write_text("secret\n"),
    "folder": lambda path: path.with_name("empty folder").mkdir(),
    "link": lambda path: os.link(path, path.with_name("hard link")),
    "symbolic link": lambda path: path.with_name("symbolic link").symlink_to(path),
    "pipe": lambda path: os.mkfifo(path.with_name("pipe")),
    "subvolume": lambda path: btrfs.make_subvolume(f"{path.parent}/subvolume"),
    "another one": lambda path: replaced(path.parents[1]),
    "nothing there": lambda path: shutil.rmtree(path.parents[1]),
}


def replaced(template: Path) -> None:
    """Put a snapshot of the template in its place, changed."""
    template.rename(f"{template}.old")
    assert btrfs.snapshot(f"{template}.old", str(template))
    write(template / "d2" / "f2")


def test_a_template_that_was_changed_in_any_way_is_none(project, repository):
    """However something in the template was changed, before or while it is used, the next slot has none of it."""
    ground = Ground(repository)
    ground.slot()
    right = btrfs.snapshot
    for change in CHANGES.values():
        for when in ("before", "while"):
            template = ground.template
            assert "slot.snapshot" in ground.slot()

            def meanwhile(source: str, path: str, template: str = template, change: Any = change) -> bool:
                if source == template:
                    change(Path(template, "d2", "f2"))
                return right(source, path)

            with pytest.MonkeyPatch.context() as patch:
                if when == "before":
                    change(Path(template, "d2", "f2"))
                else:
                    patch.setattr(snapshots.btrfs, "snapshot", meanwhile)
                ground.slot()
            path = Path(ground.leases[-1].path)
            assert portrait(path) == portrait(Path(project.path)), (change, when)
            assert project.git("status", "--porcelain", "--ignored", cwd=str(path)) == ""
            ground.slot()  # what was seen only after the snapshot is known now
            assert ground.template != template, (change, when)
    assert ground.pool.check() == ()


def test_what_changes_nothing_leaves_the_template_what_it_is(disk, project, repository):
    """Flags, snapshots, balancing, scrubbing and mounting anew do not count: the template is used after them."""
    ground = Ground(repository)
    ground.slot()
    assert btrfs.snapshot(ground.template, str(disk / "another"))
    set_flag(ground.template, _READ_ONLY)
    assert "reset.prove" not in ground.slot()
    set_flag(ground.template, 0)
    for command in (["balance", "start", "--full-balance"], ["scrub", "start", "-B"], ["filesystem", "sync"]):
        if shutil.which("btrfs"):
            subprocess.run(["btrfs", *command, str(disk)], check=True, capture_output=True)
    assert "reset.prove" not in ground.slot()
    template, count = ground.template, len(ground.leases)
    for lease in ground.leases:
        ground.pool.release(lease)
    del ground
    repository.close()
    subprocess.run(["umount", str(disk)], check=True)
    subprocess.run(["mount", "-o", "loop", f"{disk}.img", str(disk)], check=True)
    with Repository.open(project.path) as again:
        ground = Ground(again)
        for _ in range(count):
            assert "slot.snapshot" not in ground.slot()
        assert not {"reset.prove", "slot.copy", "slot.reflink"} & ground.slot()
        assert ground.template == template
        is_right(project, ground.leases[-1].path)


def crash(project: RepositoryBuilder, wanted: str, head: Any) -> None:
    """A life that dies at a step while it makes two slots."""
    pid = os.fork()
    if pid == 0:
        with contextlib.suppress(BaseException):
            pool = WorktreePool.open(
                Repository.open(project.path),
                size=3,
                step=lambda name: os.kill(os.getpid(), signal.SIGKILL) if name == wanted else None,
            )
            _held = [pool.try_acquire(Want(commit=head)) for _ in range(2)]
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL, wanted


def test_a_kill_while_templates_and_snapshots_are_made_leaves_nothing(project, repository):
    """After a kill at any step nothing is left over in the next pool, and its slots are right."""
    head = repository.resolve("HEAD")
    ground = Ground(repository)
    names = list(dict.fromkeys(step for revision in ("HEAD", "HEAD") for step in sorted(ground.slot(revision))))
    assert {"template.index", "template.snapshot", "template.record", "slot.snapshot"} <= set(names)
    del ground
    for name in names:
        WorktreePool.open(repository, size=3).clean()
        crash(project, name, head)
        ground = Ground(repository, size=3)
        assert [problem for problem in ground.pool.check() if problem.endswith("left over")] == [], name
        for _ in range(2):
            ground.slot()
            is_right(project, ground.leases[-1].path)
        for lease in ground.leases:
            ground.pool.release(lease)
        assert ground.pool.check() == (), name
    assert len(ground.pool.clean()) == 2
    for folder in ("slots", "trash", "template"):
        assert os.listdir(f"{ground.pool.root}/{folder}") == []


def test_a_pool_with_a_limit_or_of_one_slot_keeps_no_template(project, repository):
    """Where disk is counted, or no further slot is made, nothing is kept for it; a pool with a limit removes it."""
    assert "template.snapshot" not in Ground(repository, size=1).slot()
    ground = Ground(repository)
    for lease in ground.leases:
        ground.pool.release(lease)
    ground.slot()
    ground.slot()
    assert os.path.isdir(ground.template)
    WorktreePool.open(repository, size=4, max_bytes=1 << 40)
    assert os.listdir(f"{ground.pool.root}/template") == []
    assert not os.path.exists(f"{ground.pool.root}/state/template.json")


@pytest.mark.parametrize("damage", ["cut", "other index", "another folder", "record", "no index"])
def test_a_damaged_record_of_the_template_is_none(project, repository, damage):
    """A record or an index that is damaged leads to no template, and to nothing outside of the pool."""
    ground = Ground(repository)
    ground.slot()
    record = Path(ground.pool.root, "state", "template.json")
    index = Path(f"{ground.template}.index")
    match damage:
        case "cut":
            index.write_bytes(index.read_bytes()[:-7])
        case "other index":
            index.write_bytes(bytes(index.stat().st_size))
        case "no index":
            index.unlink()
        case "another folder":
            record.write_text(record.read_text().replace('"name": "', '"name": "../../'))
        case _:
            record.write_text(record.read_text()[:50])
    ground.slot()
    is_right(project, ground.leases[-1].path)
    ground.pool.sweep()
    assert ground.pool.check() == ()


ORDINARY = """
import ctypes, os, sys
if "ORDINARY" not in os.environ:
    for capability in range(64):
        ctypes.CDLL(None).prctl(24, capability, 0, 0, 0)
    os.execve(sys.executable, [sys.executable, "-c", sys.argv[2], *sys.argv[1:]], {**os.environ, "ORDINARY": "1"})
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.repository import Repository
from arboretum.worktree_files import btrfs
assert btrfs.make_subvolume(sys.argv[1] + ".sub")
assert not btrfs.delete_subvolume(sys.argv[1] + ".sub")
steps = []
with Repository.open(sys.argv[1]) as repository:
    pool = WorktreePool.open(repository, size=4, step=steps.append)
    leases = [pool.try_acquire(Want(commit=repository.resolve(name))) for name in ("HEAD", "HEAD", "HEAD~1", "HEAD~1")]
    assert steps.count("slot.snapshot") == 3 and "slot.reflink" not in steps
    for lease in leases:
        pool.release(lease)
    assert pool.check() == (), pool.check()
    pool.clean()
    assert pool.check() == (), pool.check()
    assert not any(os.listdir(f"{pool.root}/{name}") for name in ("slots", "trash", "template"))
"""


def test_templates_without_the_rights_of_root(project):
    """Who may not delete subvolumes makes them all the same, uses them, and removes them as folders."""
    done = subprocess.run(
        [sys.executable, "-c", ORDINARY, project.path, ORDINARY], capture_output=True, text=True, check=False,
        env=dict(project.environment) | {"ARBORETUM_CACHE_DIR": os.environ["ARBORETUM_CACHE_DIR"]},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
