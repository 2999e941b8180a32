"""What a file system can do is found out by doing it, used, and undone. Needs the right to mount images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.repository import Repository
from arboretum.testing.builders import RepositoryBuilder
from arboretum.worktree_files import btrfs, snapshots
from arboretum.worktree_files.choice import Ability
from tests.worktree_files.conftest import portrait
from tests.worktree_files.images import mounted

WAYS = {"btrfs": ("snapshot", True, True), "xfs": ("reflink", True, False), "ext4": ("copy", False, False)}


@pytest.mark.slow
@pytest.mark.parametrize("kind", WAYS)
def test_slots_get_their_files_by_what_the_file_system_can_do(tmp_path, kind, monkeypatch):
    """On btrfs new slots are snapshots, on XFS clones, else copies, and nothing of a trial is in another slot."""
    way, clones, snapshotted = WAYS[kind]
    with mounted(tmp_path / "disk", kind) as problem:
        if problem:
            pytest.skip(problem)
        folder = tmp_path / "disk"
        monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(folder / "cache"))
        assert Ability.probe(str(folder)) == Ability(clones=clones, snapshots=snapshotted)
        assert not [name for name in os.listdir(folder) if name.startswith("probe")]
        builder = RepositoryBuilder.init(folder / "project")
        builder.commit({**{f"d{n % 20}/f{n}": f"{n}\n" * 900 for n in range(300)}, ".gitignore": "*.env\ncache/\n"})
        builder.commit({"d0/f0": "changed\n", "d1/f1": None})
        with Repository.open(builder.path) as repository:
            steps: list[str] = []
            pool = WorktreePool.open(repository, size=4, step=steps.append)
            first = pool.try_acquire(Want(commit=repository.resolve("HEAD")))
            tree = Path(first.path)
            for name in ("secret.env", "untracked", "cache/deep/file", "nested/.git/HEAD"):
                (tree / name).parent.mkdir(parents=True, exist_ok=True)
                (tree / name).write_text("secret\n")
            (tree / "d2" / "f2").write_text("changed by the trial\n")
            leases = []
            for revision in ("HEAD", "HEAD~1", "HEAD"):
                steps.clear()
                leases.append(pool.try_acquire(Want(commit=repository.resolve(revision))))
                assert f"slot.{way}" in steps
                assert "slot.copy" not in steps or way == "copy"
                assert builder.git("status", "--porcelain", "--ignored", cwd=leases[-1].path) == ""
                assert builder.git("rev-parse", "HEAD", cwd=leases[-1].path) == repository.resolve(revision)
                assert (leases[-1].ignored, leases[-1].slot.wipe) == ((), False)
            assert portrait(Path(leases[2].path)) == portrait(folder / "project")
            assert btrfs.is_subvolume(leases[2].path) == snapshotted
            for lease in [first, *leases]:
                pool.release(lease)
            assert pool.check() == ()
            assert len(pool.clean()) == 4
            assert os.listdir(f"{pool.root}/slots") == os.listdir(f"{pool.root}/trash") == []
        builder.git("fsck", "--strict", "--no-dangling")


def die_after(moment: str) -> None:
    right = getattr(snapshots, moment)
    setattr(snapshots, moment, lambda *args, **options: (right(*args, **options), os._exit(9)))


@pytest.mark.slow
def test_a_snapshot_whose_maker_died_brings_nothing_along(tmp_path, monkeypatch):
    """A death between the snapshot and its wiping leaves a slot that is wiped before it is used, and no folder."""
    with mounted(tmp_path / "disk", "btrfs") as problem:
        if problem:
            pytest.skip(problem)
        monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "disk" / "cache"))
        builder = RepositoryBuilder.init(tmp_path / "disk" / "project")
        builder.commit({"a": "a\n", ".gitignore": "*.env\n"})
        with Repository.open(builder.path) as repository:
            head = repository.resolve("HEAD")
            for moment in ("exchange", "write_index", "discard"):
                pool = WorktreePool.open(repository, size=2)
                first = pool.try_acquire(Want(commit=head))
                Path(first.path, "secret.env").write_text("secret\n")
                pid = os.fork()
                if pid == 0:
                    try:
                        die_after(moment)
                        WorktreePool.open(repository, size=2).try_acquire(Want(commit=head))
                    finally:
                        os._exit(1)
                assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
                again = WorktreePool.open(repository, size=2)
                lease = again.try_acquire(Want(commit=head))
                assert lease.path != first.path
                assert sorted(os.listdir(lease.path)) == [".git", ".gitignore", "a"]
                again.release(lease)
                pool.release(first)
                assert again.check() == ()
                again.clean()


def test_where_nothing_can_be_written_nothing_can_be_done(tmp_path):
    """A probe of a folder that is not there finds no ability, and makes nothing."""
    assert Ability.probe(str(tmp_path / "missing")) == Ability()
    assert os.listdir(tmp_path) == []
    assert "checkout" in Ability().description
    assert "snapshot" in Ability(clones=True, snapshots=True).description
    assert "reflink" in Ability(clones=True).description
