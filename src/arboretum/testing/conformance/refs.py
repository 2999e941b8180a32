"""What backends do with refs and configuration."""

from __future__ import annotations

from arboretum.backends.base import ANY
from arboretum.errors import (
    ConfigKeyError,
    ObjectMissingError,
    RefChangedError,
    RefExistsError,
    RefLockedError,
    RefNotFoundError,
)
from arboretum.testing.conformance.objects import MISSING
from arboretum.testing.conformance.registry import check, collected, refused
from arboretum.testing.maker import BackendMaker
from arboretum.values import Oid, RefName, WorktreeSpec


@check("update_ref", "read_ref")
def check_refs_change_by_compare_and_set(maker: BackendMaker) -> None:
    """A ref changes only from the value that the caller saw."""
    bench = maker.repository()
    backend, first = bench.backend, bench.head()
    second = bench.loose_commit({"a": "2"}, [first])
    ref = RefName.branch("fix/tail")
    assert backend.read_ref(ref) is None
    backend.update_ref(ref, first, None)
    with refused(RefExistsError, bench):
        backend.update_ref(ref, second, None)
    with refused(RefChangedError, bench):
        backend.update_ref(ref, second, second)
    backend.update_ref(ref, second, first, message="moved on")
    backend.update_ref(ref, first, ANY)
    backend.update_ref(ref, second, ANY)
    with refused(RefChangedError, bench):
        backend.update_ref(ref, None, first)
    found = backend.read_ref(ref)
    assert found is not None
    assert (found.name, found.oid, found.target) == (ref, second, None)
    backend.update_ref(ref, None, second)
    assert backend.read_ref(ref) is None
    with refused(RefChangedError, bench):
        backend.update_ref(ref, first, second)
    with refused(RefChangedError, bench):
        backend.update_ref(ref, None, second)


@check("update_ref")
def check_names_that_are_folders_of_others_are_refused(maker: BackendMaker) -> None:
    """A ref cannot be a folder of another one, loose or packed, and what is refused leaves nothing."""
    bench = maker.repository()
    bench.branch("a/b")
    for name in ("a", "a/b/c"):
        with refused(RefExistsError, bench):
            bench.backend.update_ref(RefName.branch(name), bench.head(), None)
    bench.backend.update_ref(RefName.branch("a/b"), None, bench.head())
    bench.branch("a")


@check("update_ref")
def check_refs_name_objects_that_are_there(maker: BackendMaker) -> None:
    """A ref to an object that is not there is refused."""
    bench = maker.repository()
    with refused(ObjectMissingError, bench):
        bench.backend.update_ref(RefName.branch("gone"), Oid(MISSING), None)


@check("update_ref")
def check_a_lock_on_a_ref_is_told(maker: BackendMaker) -> None:
    """A ref that somebody else is changing is RefLockedError, which is worth a retry."""
    bench = maker.repository()
    ref = bench.branch("busy")
    second = bench.loose_commit({"a": "2"})
    bench.write({f"{ref}.lock": ""}, bench.backend.common_dir)
    with refused(RefLockedError, bench) as caught:
        bench.backend.update_ref(ref, second, bench.head())
    assert caught[0].retryable
    bench.write({f"{ref}.lock": None}, bench.backend.common_dir)
    bench.backend.update_ref(ref, second, bench.head())


@check("list_refs", "read_ref")
def check_refs_are_listed_by_prefix(maker: BackendMaker) -> None:
    """Refs are listed by prefix, sorted by name, symbolic ones with their target."""
    bench = maker.repository()
    backend, oid = bench.backend, bench.head()
    for name in ("refs/heads/b", "refs/heads/a/x", "refs/tags/v1", "refs/arboretum/salvage/1", "refs/remotes/o/m"):
        backend.update_ref(RefName(name), oid, None)
    names = [str(ref.name) for ref in backend.list_refs()]
    assert names == [
        "refs/arboretum/salvage/1", "refs/heads/a/x", "refs/heads/b", "refs/heads/main", "refs/remotes/o/m",
        "refs/tags/v1",
    ]  # fmt: skip
    assert [r.name.short for r in backend.list_refs("refs/heads/")] == ["a/x", "b", "main"]
    assert backend.list_refs("refs/nothing/") == ()
    head = backend.read_ref(RefName("HEAD"))
    assert head is not None
    assert (head.oid, head.target) == (oid, "refs/heads/main")


@check("rename_branch")
def check_renamed_branches_take_everything_along(maker: BackendMaker) -> None:
    """A renamed branch takes its configuration and the HEADs of all worktrees along, also of one that is missing."""
    bench = maker.repository()
    old = bench.branch("old")
    bench.backend.set_config("branch.old.remote", "origin")
    linked = bench.worktree(branch="old")
    missing = bench.worktree("missing", spec=WorktreeSpec("/x", branch=old, force=True))
    bench.disk.remove(missing)
    new = RefName.branch("new/name")
    bench.backend.rename_branch(old, new)
    assert bench.backend.read_ref(old) is None
    assert bench.backend.head(linked).branch == new
    assert [w.branch for w in bench.backend.list_worktrees() if w.path == missing] == [new]
    assert bench.backend.get_config("branch.new/name.remote") == ("origin",)
    assert bench.backend.get_config("branch.old.remote") == ()
    bench.backend.rename_branch(RefName.branch("main"), RefName.branch("trunk"))
    assert bench.backend.head(bench.path).branch == RefName.branch("trunk")
    assert bench.status() == {}


@check("rename_branch")
def check_renames_onto_others_are_refused(maker: BackendMaker) -> None:
    """A branch is not renamed onto another, nor one that is not there."""
    bench = maker.repository()
    one, two = bench.branch("one"), bench.branch("two")
    with refused(RefExistsError, bench):
        bench.backend.rename_branch(one, two)
    with refused(RefNotFoundError, bench):
        bench.backend.rename_branch(RefName.branch("none"), RefName.branch("three"))


@check("get_config", "set_config")
def check_configuration_round_trips(maker: BackendMaker) -> None:
    """A key gives back the value that was set, whatever it holds; keys are as free in case as git's."""
    bench = maker.empty()
    backend = bench.backend
    for value in ("plain", "", " lead and trail ", 'quo"te', "back\\slash", "ä", "semi;colon # hash", "two\nlines"):
        backend.set_config("section.name", value)
        assert backend.get_config("section.name") == (value,), value
    backend.set_config("Section.Sub.Key.NAME", "x")
    assert backend.get_config("section.Sub.Key.name") == ("x",)
    assert backend.get_config("section.sub.key.name") == ()
    backend.set_config("section.name", None)
    backend.set_config("section.name", None)
    assert backend.get_config("section.name") == ()
    for key in ("", "nosection", "section.", ".name", "section.na_me", "section.1x", "a b.c", "section.name\n"):
        with refused(ConfigKeyError, bench):
            backend.set_config(key, "x")
        with refused(ConfigKeyError, bench):
            backend.get_config(key)


@check("update_ref", "list_worktrees")
def check_moving_a_branch_moves_no_file(maker: BackendMaker) -> None:
    """Changing the ref of a branch that a worktree is on changes its HEAD and none of its files."""
    bench = maker.repository()
    first = bench.head()
    second = bench.loose_commit({"a.txt": "other\n", "src/b.txt": "b\n"}, [first])
    linked = bench.worktree(spec=WorktreeSpec("/x", branch=bench.branch("topic")))
    bench.backend.update_ref(RefName.branch("topic"), second, first)
    assert bench.head(linked) == second
    assert bench.files(linked)["a.txt"] == b"one\ntwo\nthree\n"
    assert bench.status(linked) == {"a.txt": "M."}


CHECKS = collected(globals())
