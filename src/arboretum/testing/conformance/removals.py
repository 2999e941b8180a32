"""What backends do when a worktree is discarded: out of sight at once, kept in two steps, put back on a failure."""

from __future__ import annotations

import threading

from attrs import define, field

from arboretum.backends.base import GitBackend
from arboretum.errors import DirtyWorktreeError, PathOccupiedError, WorktreeLockedError, WorktreeNotFoundError
from arboretum.testing.conformance.registry import check, collected, refused
from arboretum.testing.maker import BackendMaker, Bench
from arboretum.values import Head, Oid, RefName, StatusEntry, WorktreeSpec


@define(eq=False)
class Watcher:
    """A keeper that notes what it sees, and fails at a step if it is told to.

    Args:
        backend: Whose worktrees it looks at.
        fails: The step at which it raises.
    """

    backend: GitBackend
    fails: str = ""
    heads: list[Head] = field(factory=list)
    staged: list[Oid] = field(factory=list)
    statuses: list[tuple[StatusEntry, ...]] = field(factory=list)

    def before(self, path: str) -> None:
        """See `Keeper`."""
        self.heads.append(self.backend.head(path))
        self.staged.append(self.backend.staged_tree(path))
        self._fail("before")

    def behind(self, path: str) -> None:
        """See `Keeper`."""
        self.statuses.append(self.backend.status(path))
        if not self.backend.head(path).is_unborn:
            self.backend.stash_create(path, "kept", untracked=True)
        self._fail("behind")

    def _fail(self, step: str) -> None:
        if step == self.fails:
            raise PathOccupiedError("told to")


def _listed(bench: Bench) -> list[str]:
    return [info.path for info in bench.backend.list_worktrees()]


@check("discard_worktree", "sweep_discarded")
def check_a_discarded_worktree_is_out_of_sight_at_once(maker: BackendMaker) -> None:
    """Path, record, name and branch are free at once; its work is seen as it was, later and in another thread."""
    bench = maker.repository({"a.txt": "1\n", ".gitignore": "*.o\n"})
    topic = bench.branch("topic")
    place = bench.worktree(branch="topic")
    bench.write({"a.txt": "2\n", "new/file": "x", "b.o": "built"}, place)
    tip, tree = bench.head(place), bench.backend.read_commit(bench.head(place)).tree
    watcher = Watcher(bench.backend)
    finish = bench.backend.discard_worktree(place, watcher, force=True)
    assert not bench.disk.is_folder(place)
    assert _listed(bench) == [bench.path]
    assert bench.backend.worktree_names() == ()
    other = bench.worktree(branch="topic")
    assert other == place
    bench.write({"a.txt": "the other's\n"}, other)
    bench.backend.sweep_discarded(watcher.behind)  # what lives is not touched
    thread = threading.Thread(target=finish)
    thread.start()
    thread.join()
    assert [head.oid for head in watcher.heads] == [tip]
    assert watcher.staged == [tree]
    assert [[entry.path for entry in status] for status in watcher.statuses] == [["a.txt", "new/file"]]
    assert _listed(bench) == [bench.path, other]
    assert [entry.path for entry in bench.backend.status(other)] == ["a.txt"]
    assert bench.backend.head(other).branch == topic


@check("discard_worktree")
def check_a_worktree_whose_work_cannot_be_kept_is_put_back(maker: BackendMaker) -> None:
    """If its keeper fails at either step, the worktree is as it was: branch, index, files and record."""
    bench = maker.repository({"a.txt": "1\n"})
    place = bench.worktree(spec=WorktreeSpec("/x", branch=bench.branch("topic")))
    bench.write({"a.txt": "2\n", "new": "x"}, place)
    bench.backend.stage(place, ["new"])
    before = (bench.backend.list_worktrees(), bench.backend.head(place), bench.status(place), bench.files(place)["new"])
    for step in ("before", "behind"):
        with refused(PathOccupiedError):
            bench.backend.discard_worktree(place, Watcher(bench.backend, step), force=True)()
        after = (
            bench.backend.list_worktrees(), bench.backend.head(place), bench.status(place), bench.files(place)["new"],
        )  # fmt: skip
        assert after == before
    bench.backend.discard_worktree(place, Watcher(bench.backend), force=True)()
    assert _listed(bench) == [bench.path]


@check("discard_worktree")
def check_what_may_not_be_removed_is_not_discarded(maker: BackendMaker) -> None:
    """A locked worktree, one with changes (without force) and a folder that is none are refused; nobody looks in."""
    bench = maker.repository()
    place, watcher = bench.worktree(), Watcher(bench.backend)
    bench.write({"new": "x"}, place)
    with refused(DirtyWorktreeError, bench):
        bench.backend.discard_worktree(place, watcher)
    bench.backend.lock_worktree(place)
    with refused(WorktreeLockedError, bench):
        bench.backend.discard_worktree(place, watcher, force=True)
    with refused(WorktreeNotFoundError, bench):
        bench.backend.discard_worktree(bench.beside("none"), watcher, force=True)
    bench.backend.unlock_worktree(place)
    bench.disk.remove(place)
    bench.backend.discard_worktree(place, watcher)()
    assert _listed(bench) == [bench.path]
    assert watcher.heads == []
    unborn = bench.worktree("unborn", spec=WorktreeSpec("/x", orphan=RefName.branch("fresh")))
    bench.backend.discard_worktree(unborn, watcher)()
    assert _listed(bench) == [bench.path]


CHECKS = collected(globals())
