"""The misuse table: the same class of error on every backend, and nothing changed.

Most misuses are checked beside the operation that they are about; here stand those of the table in the
documentation that have no other place.
"""

from __future__ import annotations

from arboretum.errors import (
    BranchCheckedOutError,
    DirtyWorktreeError,
    ObjectMissingError,
    PathOccupiedError,
    RefLockedError,
    RepositoryNotFoundError,
    UnbornHeadError,
    WorktreeLockedError,
    WorktreeNotFoundError,
)
from arboretum.testing.conformance.objects import MISSING
from arboretum.testing.conformance.registry import check, collected, refused
from arboretum.testing.maker import BackendMaker
from arboretum.values import Oid, RefName, ResetMode, Revision, WorktreeSpec


@check("add_worktree", "checkout", "remove_worktree", "move_worktree", "resolve", "update_ref", "read_commit", "open")
def check_the_misuse_table(maker: BackendMaker) -> None:
    """Each misuse of the table has the same class of error on every backend, and changes nothing."""
    bench, unborn = maker.repository(), maker.empty()
    backend, oid = bench.backend, bench.head()
    bench.branch("topic")
    linked = bench.worktree(branch="topic")
    bench.write({"new": "x"}, linked)
    locked = bench.worktree("locked", spec=WorktreeSpec("/x", detach=oid, lock="why"))
    held = bench.branch("held")
    bench.write({f"{held}.lock": ""}, backend.common_dir)
    bench.write({"full/file": "x"}, bench.beside("")[:-1])
    with refused(BranchCheckedOutError, bench):
        backend.add_worktree(WorktreeSpec(bench.beside("second"), branch=RefName.branch("topic")))
    with refused(BranchCheckedOutError, bench):
        backend.checkout(bench.path, RefName.branch("topic"))
    with refused(DirtyWorktreeError, bench):
        backend.remove_worktree(linked)
    with refused(WorktreeLockedError, bench):
        backend.move_worktree(locked, bench.beside("elsewhere"))
    with refused(UnbornHeadError, unborn):
        unborn.backend.resolve(Revision("HEAD~1"))
    with refused(RefLockedError, bench):
        backend.update_ref(held, None, oid)
    with refused(ObjectMissingError, bench):
        backend.read_commit(Oid(MISSING))
    with refused(RepositoryNotFoundError):
        maker.factory.open(bench.beside("full"))
    with refused(PathOccupiedError, bench):
        backend.add_worktree(WorktreeSpec(bench.beside("full"), detach=oid))
    bench.write({f"{held}.lock": None}, backend.common_dir)


@check("head", "status", "stage", "commit", "checkout", "reset", "clean", "apply", "stash_create", "stash_apply")
def check_worktrees_that_are_none_are_told(maker: BackendMaker) -> None:
    """Each operation on a path that is no worktree of the repository is WorktreeNotFoundError."""
    bench = maker.repository()
    backend, oid, nowhere = bench.backend, bench.head(), bench.beside("none")
    stranger = maker.repository()
    who = bench.signature()
    for path in (nowhere, stranger.path):
        for act in (
            backend.head,
            backend.status,
            lambda p: backend.stage(p, ["a.txt"]),
            backend.staged_tree,
            lambda p: backend.commit(p, "x", author=who, committer=who, allow_empty=True),
            lambda p: backend.checkout(p, oid),
            lambda p: backend.reset(p, oid, ResetMode.HARD),
            lambda p: backend.clean(p, ignored=True),
            lambda p: backend.stash_create(p, "x"),
            lambda p: backend.cherry_pick(p, oid),
            lambda p: backend.resolve(Revision("HEAD"), worktree=p),
        ):
            with refused(WorktreeNotFoundError, bench, stranger):
                act(path)


CHECKS = collected(globals())
