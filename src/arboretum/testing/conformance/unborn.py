"""What backends do on a branch that has no commit yet, and in a worktree that has no index yet."""

from __future__ import annotations

from arboretum.errors import RefExistsError
from arboretum.testing.conformance.registry import check, collected, refused
from arboretum.testing.maker import BackendMaker
from arboretum.values import RefName, ResetMode, WorktreeSpec


@check("reset", "commit")
def check_branches_are_not_born_beside_those_they_collide_with(maker: BackendMaker) -> None:
    """Where a branch's name has become a folder of another's, or lies in one, nothing gives it its first commit."""
    for unborn, other in (("fix", "fix/one"), ("deep/fix/one", "deep/fix")):
        bench = maker.repository({"a": "1\n", "b": "1\n"})
        linked = bench.worktree(spec=WorktreeSpec("/x", orphan=RefName.branch(unborn)))
        bench.branch(other)
        for mode in ResetMode:
            with refused(RefExistsError, bench):
                bench.backend.reset(linked, bench.head(), mode)
        bench.write({"new": "1\n"}, linked)
        bench.backend.stage(linked, ["new"])
        with refused(RefExistsError, bench):
            bench.backend.commit(linked, "first")


@check("reset")
def check_a_reset_gives_a_branch_its_first_commit(maker: BackendMaker) -> None:
    """A reset on a branch without commits makes the branch, with the index and files that its mode says."""
    for mode, status in (
        (ResetMode.SOFT, {"a": "D."}),
        (ResetMode.MIXED, {"a": ".D"}),
        (ResetMode.HARD, {}),
    ):
        bench = maker.repository({"a": "1\n"})
        linked = bench.worktree(spec=WorktreeSpec("/x", orphan=RefName.branch("fresh")))
        bench.backend.reset(linked, bench.head(), mode)
        assert (bench.backend.head(linked).branch, bench.head(linked)) == ("refs/heads/fresh", bench.head())
        assert bench.status(linked) == status


@check("stage", "checkout")
def check_a_worktree_without_files_gets_them_by_a_checkout(maker: BackendMaker) -> None:
    """Before there is an index a checkout writes all files, also after something was staged where there was nothing."""
    bench = maker.repository({"a": "1\n", "lib/b": "1\n"})
    branch = bench.branch("topic")
    linked = bench.worktree(spec=WorktreeSpec("/x", branch=branch, checkout=False))
    bench.backend.stage(linked, ["."])
    assert bench.status(linked) == {"a": "D.", "lib/b": "D."}
    bench.backend.checkout(linked, branch)
    assert bench.status(linked) == {}
    assert set(bench.files(linked)) - {".git"} == {"a", "lib/b"}


CHECKS = collected(globals())
