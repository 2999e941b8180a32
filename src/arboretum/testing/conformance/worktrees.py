"""What backends do with the set of worktrees."""

from __future__ import annotations

import os

from arboretum.errors import (
    BranchCheckedOutError,
    DirtyWorktreeError,
    GitOperationError,
    ObjectMissingError,
    PathOccupiedError,
    RefExistsError,
    RefNotFoundError,
    WorktreeLockedError,
    WorktreeNotFoundError,
)
from arboretum.testing.conformance.objects import MISSING
from arboretum.testing.conformance.registry import check, collected, refused
from arboretum.testing.maker import BackendMaker, Bench
from arboretum.values import Oid, RefName, ResetMode, WorktreeInfo, WorktreeSpec


def info_of(bench: Bench, path: str) -> WorktreeInfo:
    """The record of the worktree at a path."""
    return next(info for info in bench.backend.list_worktrees() if info.path == path)


@check("list_worktrees", "add_worktree")
def check_worktrees_stand_where_asked(maker: BackendMaker) -> None:
    """A worktree stands on the branch, at the commit or on the orphan asked for, and is listed so."""
    bench = maker.repository()
    first = bench.head()
    bench.branch("topic")
    on_branch = bench.worktree("on branch", branch="topic")
    detached = bench.worktree("detached")
    orphan = bench.worktree("orphan", spec=WorktreeSpec("/x", orphan=RefName.branch("fresh")))
    listed = bench.backend.list_worktrees()
    assert [w.path for w in listed] == [bench.path, *sorted([on_branch, detached, orphan])]
    assert listed[0] == WorktreeInfo(bench.path, first, RefName.branch("main"), is_main=True)
    found = info_of(bench, on_branch)
    assert (found.head, found.branch, found.locked, found.prunable) == (first, "refs/heads/topic", None, None)
    found = info_of(bench, detached)
    assert (found.head, found.branch, found.detached) == (first, None, True)
    found = info_of(bench, orphan)
    assert (found.head, found.branch) == (None, "refs/heads/fresh")
    for place in (on_branch, detached):
        assert dict(bench.files(place)) == {"a.txt": b"one\ntwo\nthree\n", "src/b.txt": b"b\n"}
        assert bench.status(place) == {}
    assert bench.backend.head(orphan).is_unborn
    assert bench.status(orphan) == {}


@check("add_worktree")
def check_a_worktree_may_be_made_without_files(maker: BackendMaker) -> None:
    """Without checkout the HEAD is set and no file is written; a hard reset then writes them."""
    bench = maker.repository()
    bench.branch("topic")
    place = bench.worktree(spec=WorktreeSpec("/x", branch=RefName.branch("topic"), checkout=False))
    assert list(bench.files(place)) == []
    assert bench.head(place) == bench.head()
    assert set(bench.status(place).values()) == {"D."}
    bench.backend.reset(place, bench.head(), ResetMode.HARD)
    assert bench.status(place) == {}
    assert bench.files(place)["a.txt"] == b"one\ntwo\nthree\n"


@check("add_worktree")
def check_folders_are_made_and_empty_ones_taken_over(maker: BackendMaker) -> None:
    """The folders above a worktree are made, and an empty folder in its place is taken over."""
    bench = maker.repository()
    deep = bench.worktree("some/where/deep")
    empty = bench.beside("empty")
    bench.disk.make_folder(empty)
    assert bench.worktree("empty") == empty
    assert {info.path for info in bench.backend.list_worktrees()} == {bench.path, deep, empty}


@check("add_worktree")
def check_occupied_paths_are_refused(maker: BackendMaker) -> None:
    """A path with something in it is refused, and what is there stays."""
    bench = maker.repository()
    bench.write({"full/file": "mine", "file": "mine"}, bench.beside("")[:-1])
    for name in ("full", "file"):
        with refused(PathOccupiedError, bench):
            bench.worktree(name)
    assert bench.files(bench.beside("full"))["file"] == b"mine"
    linked = bench.worktree("linked")
    with refused(PathOccupiedError, bench):
        bench.worktree("linked")
    with refused(PathOccupiedError, bench):
        bench.backend.add_worktree(WorktreeSpec(bench.path, detach=bench.head()))
    bench.disk.remove(linked)
    with refused(PathOccupiedError, bench):
        bench.worktree("linked")
    bench.worktree(spec=WorktreeSpec("/x", detach=bench.head(), force=True))
    assert len(bench.backend.list_worktrees()) == 2


@check("add_worktree")
def check_branches_in_use_are_refused(maker: BackendMaker) -> None:
    """A branch that a worktree is on (a lost one too) is not checked out twice, unless forced."""
    bench = maker.repository()
    bench.branch("topic")
    first = bench.worktree("first", branch="topic")
    with refused(BranchCheckedOutError, bench):
        bench.worktree("second", branch="topic")
    with refused(BranchCheckedOutError, bench):
        bench.worktree("second", branch="main")
    assert not bench.disk.is_folder(bench.beside("second"))
    bench.disk.remove(first)
    with refused(BranchCheckedOutError, bench):
        bench.worktree("second", branch="topic")
    forced = bench.worktree("forced", spec=WorktreeSpec("/x", branch=RefName.branch("topic"), force=True))
    assert bench.backend.head(forced).branch == "refs/heads/topic"


@check("add_worktree", "move_worktree", "repair_worktrees")
def check_paths_of_missing_worktrees_are_claimed_after_a_move(maker: BackendMaker) -> None:
    """The path of a missing worktree is refused also where it was moved to it, before the branch is looked at."""
    for by_hand in (False, True):
        bench = maker.repository()
        bench.branch("topic")
        place, moved = bench.worktree("old"), bench.beside("moved")
        if by_hand:
            bench.disk.move(place, moved)
            bench.backend.repair_worktrees([moved])
        else:
            bench.backend.move_worktree(place, moved)
        bench.disk.remove(moved)
        for stand in (
            {"detach": bench.head()},
            {"branch": RefName.branch("topic")},
            {"orphan": RefName.branch("topic")},
            {"orphan": RefName.branch("fresh")},
        ):
            with refused(PathOccupiedError, bench):
                bench.backend.add_worktree(WorktreeSpec(moved, **stand))
        bench.backend.add_worktree(WorktreeSpec(moved, detach=bench.head(), force=True))
        assert [w.path for w in bench.backend.list_worktrees()] == [bench.path, moved]
        bench.worktree("old")
        assert [w.path for w in bench.backend.list_worktrees()] == [bench.path, moved, bench.beside("old")]


@check("add_worktree")
def check_a_worktree_needs_something_to_stand_on(maker: BackendMaker) -> None:
    """A branch or commit that is not there is refused, and so is an orphan branch that is."""
    bench = maker.repository()
    with refused(RefNotFoundError, bench):
        bench.worktree(branch="none")
    with refused(ObjectMissingError, bench):
        bench.worktree(spec=WorktreeSpec("/x", detach=Oid(MISSING)))
    bench.branch("topic")
    with refused(RefExistsError, bench):
        bench.worktree(spec=WorktreeSpec("/x", orphan=RefName.branch("topic")))
    assert not bench.disk.is_folder(bench.beside("linked"))


@check("add_worktree", "list_worktrees", "lock_worktree", "unlock_worktree")
def check_locks_are_kept_with_their_reasons(maker: BackendMaker) -> None:
    """A lock has a reason (also none, also one of several lines), from the first moment if asked for."""
    bench = maker.repository()
    place = bench.worktree(spec=WorktreeSpec("/x", detach=bench.head(), lock="on a USB disk"))
    assert info_of(bench, place).locked == "on a USB disk"
    with refused(WorktreeLockedError, bench):
        bench.backend.lock_worktree(place, reason="again")
    bench.backend.unlock_worktree(place)
    assert info_of(bench, place).locked is None
    with refused(GitOperationError, bench):
        bench.backend.unlock_worktree(place)
    for reason in ("", "two\nlines", "ä"):
        bench.backend.lock_worktree(place, reason=reason)
        assert info_of(bench, place).locked == reason
        bench.backend.unlock_worktree(place)
    with refused(WorktreeNotFoundError, bench):
        bench.backend.lock_worktree(bench.beside("none"))
    with refused(GitOperationError, bench):
        bench.backend.lock_worktree(bench.path)


@check("add_worktree", "remove_worktree", "move_worktree", "prune_worktrees")
def check_locked_worktrees_are_left_alone(maker: BackendMaker) -> None:
    """A locked worktree is neither removed, nor moved, nor pruned, nor its path taken over, with force or without."""
    bench = maker.repository()
    place = bench.worktree()
    bench.backend.lock_worktree(place, reason="mine")
    for force in (False, True):
        with refused(WorktreeLockedError, bench):
            bench.backend.remove_worktree(place, force=force)
    with refused(WorktreeLockedError, bench):
        bench.backend.move_worktree(place, bench.beside("other"))
    bench.disk.remove(place)
    assert bench.backend.prune_worktrees() == ()
    found = info_of(bench, place)
    assert (found.locked, found.prunable) == ("mine", None)
    for force in (False, True):
        with refused(WorktreeLockedError, bench):
            bench.worktree(spec=WorktreeSpec("/x", detach=bench.head(), force=force))


@check("remove_worktree")
def check_removal_loses_no_work(maker: BackendMaker) -> None:
    """A worktree with changes, staged, unstaged or untracked, is removed only by force; ignored files do not count."""
    bench = maker.repository({"a.txt": "1\n", ".gitignore": "*.o\n"})
    place = bench.worktree()
    for change in ({"a.txt": "2\n"}, {"new": "x"}, {"a.txt": None}):
        bench.write(change, place)
        with refused(DirtyWorktreeError, bench):
            bench.backend.remove_worktree(place)
        bench.write({"a.txt": "1\n", "new": None}, place)
    bench.write({"staged": "x"}, place)
    bench.backend.stage(place, ["staged"])
    with refused(DirtyWorktreeError, bench):
        bench.backend.remove_worktree(place)
    bench.backend.remove_worktree(place, force=True)
    assert not bench.disk.is_folder(place)
    assert len(bench.backend.list_worktrees()) == 1
    place = bench.worktree()
    bench.write({"x.o": "built"}, place)
    bench.backend.remove_worktree(place)
    assert not bench.disk.is_folder(place)


@check("remove_worktree", "list_worktrees")
def check_only_worktrees_of_the_repository_are_removed(maker: BackendMaker) -> None:
    """The main worktree, a folder that is none, and one that took a worktree's place are left alone."""
    bench = maker.repository()
    with refused(GitOperationError, bench):
        bench.backend.remove_worktree(bench.path, force=True)
    with refused(WorktreeNotFoundError, bench):
        bench.backend.remove_worktree(bench.beside("none"), force=True)
    place = bench.worktree()
    bench.disk.remove(place)
    bench.write({"precious": "mine"}, place)
    with refused(WorktreeNotFoundError, bench):
        bench.backend.remove_worktree(place, force=True)
    assert bench.files(place)["precious"] == b"mine"
    bench.disk.remove(place)
    bench.backend.remove_worktree(place)
    assert len(bench.backend.list_worktrees()) == 1


@check("move_worktree")
def check_moved_worktrees_go_on(maker: BackendMaker) -> None:
    """A moved worktree keeps its HEAD, its index and its changes; folders above the new place are made."""
    bench = maker.repository()
    bench.branch("topic")
    place = bench.worktree(branch="topic")
    bench.write({"a.txt": "changed\n", "new": "x"}, place)
    bench.backend.stage(place, ["new"])
    status = bench.status(place)
    target = bench.beside("far/away")
    info = bench.backend.move_worktree(place, target)
    assert (info.path, info.branch) == (target, "refs/heads/topic")
    assert not bench.disk.is_folder(place)
    assert bench.status(target) == status == {"a.txt": ".M", "new": "A."}
    with refused(WorktreeNotFoundError, bench):
        bench.backend.move_worktree(place, bench.beside("x"))
    with refused(GitOperationError, bench):
        bench.backend.move_worktree(bench.path, bench.beside("x"))
    bench.write({"full/file": "mine"}, bench.beside("")[:-1])
    with refused(PathOccupiedError, bench):
        bench.backend.move_worktree(target, bench.beside("full"))


@check("prune_worktrees", "list_worktrees")
def check_lost_worktrees_are_pruned(maker: BackendMaker) -> None:
    """The record of a worktree whose folder is gone is named with a reason, and pruned when asked."""
    bench = maker.repository()
    bench.branch("topic")
    kept, lost = bench.worktree("kept"), bench.worktree("lost", branch="topic")
    assert bench.backend.prune_worktrees() == ()
    bench.disk.remove(lost)
    assert info_of(bench, lost).prunable
    assert [w.path for w in bench.backend.prune_worktrees(dry_run=True)] == [lost]
    assert [w.path for w in bench.backend.prune_worktrees()] == [lost]
    assert [w.path for w in bench.backend.list_worktrees()] == [bench.path, kept]
    bench.worktree("again", branch="topic")


@check("repair_worktrees", "list_worktrees")
def check_worktrees_moved_by_hand_are_repaired(maker: BackendMaker) -> None:
    """A worktree that was moved by hand works again once it is repaired, with its branch and its changes."""
    bench = maker.repository()
    bench.branch("topic")
    place, target = bench.worktree(branch="topic"), bench.beside("moved")
    bench.write({"a.txt": "changed\n"}, place)
    bench.disk.move(place, target)
    assert info_of(bench, place).prunable
    bench.backend.repair_worktrees([target])
    found = info_of(bench, target)
    assert (found.branch, found.prunable) == ("refs/heads/topic", None)
    assert bench.status(target) == {"a.txt": ".M"}


@check("repair_worktrees")
def check_a_lost_link_is_mended(maker: BackendMaker) -> None:
    """A worktree whose `.git` file was damaged works again once the worktrees are repaired."""
    bench = maker.repository()
    place = bench.worktree()
    bench.write({".git": "gitdir: /nowhere\n"}, place)
    bench.backend.repair_worktrees()
    assert bench.status(place) == {}
    bench.backend.remove_worktree(place)


@check("add_worktree")
def check_worktrees_of_one_name_do_not_meet(maker: BackendMaker) -> None:
    """Worktrees whose folders have the same name have records of their own."""
    bench = maker.repository()
    places = [bench.worktree(f"{n}/same") for n in range(3)]
    for number, place in enumerate(places):
        bench.commit({"a.txt": f"{number}\n"}, worktree=place)
    assert len({bench.head(place) for place in places}) == 3
    names = {info.name for info in bench.backend.list_worktrees()}
    assert len(names) == 4
    bench.backend.remove_worktree(places[1])
    assert bench.status(places[0]) == bench.status(places[2]) == {}


@check("add_worktree", "status", "remove_worktree")
def check_worktrees_may_have_ugly_paths(maker: BackendMaker) -> None:
    """A worktree works at a path with spaces, quotes, dashes, line breaks and bytes that are no UTF-8."""
    bench = maker.repository()
    for name in ("a b", "-x", "q\"uo'te", "new\nline", "ä", os.fsdecode(b"\xff\xfe"), "glob*[a]?", "trailing "):
        place = bench.worktree(name)
        assert info_of(bench, place).head == bench.head()
        assert bench.status(place) == {}
        bench.backend.remove_worktree(place)
    assert len(bench.backend.list_worktrees()) == 1


@check("init", "add_worktree", "list_worktrees")
def check_bare_repositories_have_worktrees(maker: BackendMaker) -> None:
    """A bare repository lists itself first and has linked worktrees like any other."""
    bench = maker.empty(bare=True)
    assert bench.backend.is_bare
    assert bench.backend.worktree_path is None
    oid = bench.loose_commit({"a": "1"})
    bench.backend.update_ref(RefName.branch("main"), oid, None)
    place = bench.worktree(branch="main")
    first, second = bench.backend.list_worktrees()
    assert (first.path, first.is_main, first.bare, first.branch, first.head) == (bench.path, True, True, None, None)
    assert (second.path, second.head) == (place, oid)
    bench.commit({"a": "2"}, worktree=place)
    assert bench.status(place) == {}
    bench.backend.remove_worktree(place)


@check("worktree_names", "list_worktrees")
def check_names_are_those_of_the_records(maker: BackendMaker) -> None:
    """The names of the linked worktrees alone are those that the full list has, lost ones included."""
    bench = maker.repository()
    assert bench.backend.worktree_names() == ()
    places = [bench.worktree(f"{n}/same") for n in range(3)]
    bench.disk.remove(places[0])
    listed = sorted(info.name for info in bench.backend.list_worktrees() if not info.is_main)
    assert list(bench.backend.worktree_names()) == listed


@check("find_worktree", "list_worktrees")
def check_a_worktree_is_found_as_it_is_listed(maker: BackendMaker) -> None:
    """Each worktree is found by its path as the list has it: lost, locked and moved ones too; nothing else is."""
    bench = maker.repository()
    places = [bench.worktree(f"{n}/same") for n in range(3)]
    bench.backend.lock_worktree(places[1], reason="why")
    bench.disk.remove(places[0])
    moved = bench.backend.move_worktree(places[2], f"{bench.path}-moved").path
    listed = bench.backend.list_worktrees()
    assert [bench.backend.find_worktree(info.path) for info in listed] == list(listed)
    assert bench.backend.find_worktree(None) == listed[0]
    assert moved in {info.path for info in listed}
    for nowhere in (places[2], f"{bench.path}/a.txt", f"{bench.path}/nothing", "/"):
        assert bench.backend.find_worktree(nowhere) is None


CHECKS = collected(globals())
