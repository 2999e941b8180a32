"""The pool itself: which slot is taken, how much it may take, what it says of itself."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from attrs import evolve

from arboretum.engine.pool import WorktreePool
from arboretum.engine.slot_files import SlotFiles, pool_folder, repository_name
from arboretum.engine.slots import Want
from arboretum.errors import LeaseLostError, PoolError
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder


def test_slots_are_used_again_and_the_one_that_stands_right_is_taken(ground):
    """A trial gets the slot that stands at its commit already; there are never more slots than the size."""
    pool = ground.pool(size=3)
    leases = {commit: pool.try_acquire(Want(commit=commit)) for commit in (ground.one, ground.two, ground.three)}
    assert pool.try_acquire(Want(commit=ground.one)) is None
    paths = {commit: lease.path for commit, lease in leases.items()}
    assert len(set(paths.values())) == 3
    for lease in leases.values():
        pool.release(lease)
        pool.release(lease)
    for commit in (ground.two, ground.one, ground.three):
        assert pool.try_acquire(Want(commit=commit)).path == paths[commit]
    assert "FREE" not in {slot.state.name for slot in pool.slots()}


def test_the_nearest_slot_is_taken_where_many_files_are_at_stake(tmp_path):
    """In a big tree a trial gets the slot whose tree differs in the fewest files."""
    files = {f"d{n % 20}/f{n}": f"{n}\n" for n in range(2100)}
    builder = RepositoryBuilder.init(tmp_path / "big")
    far, near, wanted = builder.commits(
        [CommitSpec(files), CommitSpec(dict.fromkeys(files, "x\n")), CommitSpec({"d0/f0": "y\n"})]
    )
    with Repository.open(builder.path) as repository:
        pool = WorktreePool.open(repository, size=2)
        one, two = pool.try_acquire(Want(commit=near)), pool.try_acquire(Want(commit=far))
        path = one.path
        pool.release(one)
        pool.release(two)  # given back last: taken, if the files did not count
        assert pool.try_acquire(Want(commit=wanted)).path == path


def test_a_slot_that_stands_right_and_is_unchanged_is_not_written(ground):
    """A second trial at the same commit costs a proof and no write; one that found a change is brought back."""
    steps = []
    pool = ground.pool(size=1, step=steps.append)
    done = [("", True), ("", False), ("new file", False), ("a.txt", False), ("", True), ("", None), ("", False)]
    for change, written in done:  # None: git looks once more into what is as new as the index
        steps.clear()
        time.sleep(0.03)
        lease = pool.try_acquire(Want(commit=ground.one))
        assert written is None or ("reset.files" in steps) == written
        assert "reset.prove" in steps or "reset.prove-files" in steps
        assert (Path(lease.path) / "a.txt").read_text() == "one\n"
        if change:
            (Path(lease.path) / change).write_text("changed")
        pool.release(lease)


def test_several_pools_of_one_repository_are_one(ground, tmp_path):
    """The pool is found by the repository's git directory, from a linked worktree or through a link as well."""
    ground.builder.git("worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    os.symlink(ground.builder.path, tmp_path / "link")
    roots = {Repository.open(p).common_dir for p in (ground.builder.path, tmp_path / "linked", tmp_path / "link")}
    assert len({pool_folder(root) for root in roots}) == 1
    assert ground.pool().root == os.path.realpath(pool_folder(ground.repository.common_dir))


def test_a_pool_behind_a_link_is_kept_in_order(ground, tmp_path, monkeypatch):
    """A cache folder that is reached through a link is used, swept and cleaned like any other."""
    (tmp_path / "real").mkdir()
    os.symlink(tmp_path / "real", tmp_path / "cache")
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "cache"))
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one))
    pool.release(lease)
    assert pool.check() == ()
    os.rename(lease.path, os.path.join(pool.root, "trash", "x"))
    (Path(pool.root) / "state" / "0.json").unlink()
    assert any("record of no slot" in problem for problem in pool.check())
    pool.sweep()
    assert pool.check() == ()
    assert len(ground.repository.worktrees) == 1


@pytest.mark.parametrize(("common_dir", "name"), [
    ("/src/toolz/.git", "toolz"), ("/src/toolz.git", "toolz"), ("/src/bare", "bare"), ("/a b/ü?/.git", "repository"),
    ("/x/.git/modules/sub", "sub"), ("/src/a..b c/.git", "a-b-c"),
])  # fmt: skip
def test_a_pool_has_a_name_for_people(common_dir, name):
    """The name of a pool's folders is that of the repository, in safe letters."""
    assert repository_name(common_dir) == name


def test_a_budget_keeps_the_pool_small(ground):
    """No slot is made beyond the disk budget; caches that went over it are wiped; unused slots beyond it go."""
    pool = ground.pool(size=4, max_bytes=400_000)
    lease = pool.try_acquire(Want(commit=ground.one))
    (Path(lease.path) / "build").mkdir()
    (Path(lease.path) / "build" / "cache").write_bytes(b"x" * 150_000)
    pool.release(lease)
    one, two = pool.try_acquire(Want(commit=ground.one)), pool.try_acquire(Want(commit=ground.one))
    (Path(two.path) / "build").mkdir()
    (Path(two.path) / "build" / "cache").write_bytes(b"x" * 300_000)
    pool.release(one)
    pool.release(two)
    assert sum(slot.bytes for slot in pool.slots()) > 400_000
    lease = pool.try_acquire(Want(commit=ground.one))
    assert not (Path(lease.path) / "build").exists()
    pool.release(lease)
    assert pool.try_acquire(Want(commit=ground.one)) is not None
    third = pool.try_acquire(Want(commit=ground.one))
    assert third is None or len(pool.slots()) == 2
    tight = ground.pool(size=4, max_bytes=10_000)
    assert len(tight.slots()) <= 2
    del pool


def test_a_lease_that_was_given_back_is_no_right_any_more(ground):
    """Nothing can be noted for a slot by a lease that does not hold it."""
    pool = ground.pool()
    lease = pool.try_acquire(Want(commit=ground.one))
    pool.release(lease)
    with pytest.raises(LeaseLostError):
        pool.note_setup(lease, "digest")


def test_a_damaged_record_costs_nothing_but_a_reset(ground):
    """A slot whose record cannot be read is taken for one whose owner died; a stranger's file does no harm."""
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one))
    pool.release(lease)
    state = Path(pool.root) / "state"
    for text in ("", "{", "[]", '{"number": 0}', "\0"):
        (state / "0.json").write_text(text)
        (state / "notes.txt").write_text("not ours")
        lease = pool.try_acquire(Want(commit=ground.two))
        assert (Path(lease.path) / "a.txt").read_text() == "two\n"
        pool.release(lease)
    assert ground.pool(size=1).check() == ()


def test_a_pool_whose_repository_was_cloned_anew_is_used_again(ground, tmp_path):
    """Slots of a repository that was deleted and made again at the same place are made anew."""
    pool = ground.pool(size=1)
    pool.release(pool.try_acquire(Want(commit=ground.one)))
    os.rename(ground.builder.path, tmp_path / "old")
    os.system(f"git clone -q {tmp_path}/old {ground.builder.path}")
    with Repository.open(ground.builder.path) as repository:
        again = WorktreePool.open(repository, size=1)
        lease = again.try_acquire(Want(commit=ground.two))
        assert (Path(lease.path) / "a.txt").read_text() == "two\n"
        again.release(lease)
        assert again.check() == ()


def test_what_is_wrong_is_said(ground):
    """The check names a dead owner, a missing worktree and what is left over; a sweep puts them in order."""
    pool = ground.pool(size=3)
    dead, gone = pool.try_acquire(Want(commit=ground.one)), pool.try_acquire(Want(commit=ground.one))
    dead.unlock()
    pool.release(gone)
    os.rename(gone.path, os.path.join(pool.root, "trash", "x"))
    (Path(pool.root) / "state" / "0.json.999999-00000000.tmp").write_text("half")
    said = "\n".join(pool.check())
    for words in ("its owner has died", "is missing", "left over"):
        assert words in said
    sweep = pool.sweep()
    assert (sweep.recovered, sweep.forgotten, sweep.not_deleted) == ((0,), (1,), ())
    assert pool.check() == ()
    assert len(ground.repository.worktrees) == 2


def test_records_survive_the_way_to_the_disk(ground):
    """A record reads back equal, after any number of them, and after one that was cut off."""
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one, setup=""))
    files = SlotFiles(pool.root, ground.repository.common_dir)
    assert files.read(0) == lease.slot
    odd = evolve(lease.slot, sparse={"config.worktree": "[core]\n\tx = \udcff\n" * 300}, reason="ü")
    path = Path(pool.root) / "state" / "0.json"
    for number in range(40):
        files.write(evolve(odd, trials=number))
        assert files.read(0) == evolve(odd, trials=number)
        assert path.stat().st_size < 100_000
    whole = path.read_bytes()
    for cut in range(1, 30):
        path.write_bytes(whole + whole[:cut])
        assert files.read(0) == evolve(odd, trials=39)
    files.write(odd)
    assert files.read(0) == odd
    pool.release(lease)


def test_a_commit_that_is_not_there_costs_no_slot(ground):
    """A slot that cannot be brought to a commit is given back, and can be used for another."""
    pool = ground.pool(size=1)
    for _ in range(2):
        with pytest.raises(PoolError):
            pool.try_acquire(Want(commit=type(ground.one)("1" * 40)))
    lease = pool.try_acquire(Want(commit=ground.one))
    assert lease is not None
    pool.release(lease)
    assert pool.check() == ()
