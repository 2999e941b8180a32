"""What backends do with stashes."""

from __future__ import annotations

from arboretum.errors import ConflictError, StashNotFoundError, UnbornHeadError
from arboretum.testing.conformance.registry import check, collected, refused
from arboretum.testing.maker import BackendMaker, Bench, as_files
from arboretum.testing.observation import observe
from arboretum.values import Oid, ResetMode


def put_away(bench: Bench, worktree: str | None = None, *, untracked: bool = False) -> Oid:
    """Stash the changes of a worktree and make it clean."""
    place = worktree or bench.path
    oid = bench.backend.stash_create(place, "work", untracked=untracked)
    assert oid is not None
    bench.backend.reset(place, bench.head(place), ResetMode.HARD)
    if untracked:
        bench.backend.clean(place)
    return oid


@check("stash_create")
def check_making_a_stash_touches_nothing(maker: BackendMaker) -> None:
    """A stash commit holds the changes, has HEAD and the index as parents, and nothing else changes."""
    bench = maker.repository({"a": "1\n", "b": "1\n"})
    assert bench.backend.stash_create(bench.path, "nothing") is None
    bench.write({"a": "staged\n"})
    bench.backend.stage(bench.path, ["a"])
    bench.write({"a": "later\n", "b": None, "new": "x\n"})
    before = observe(bench.backend, bench.disk)
    oid = bench.backend.stash_create(bench.path, "work")
    assert oid is not None
    assert observe(bench.backend, bench.disk) == before
    commit = bench.backend.read_commit(oid)
    assert commit.parents[0] == bench.head()
    assert as_files(bench.backend, oid)["a"].data == b"later\n"
    assert set(as_files(bench.backend, oid)) == {"a"}
    assert as_files(bench.backend, commit.parents[1])["a"].data == b"staged\n"
    assert len(commit.parents) == 2
    oid = bench.backend.stash_create(bench.path, "work", untracked=True)
    assert oid is not None
    assert set(as_files(bench.backend, bench.backend.read_commit(oid).parents[2])) == {"new"}


@check("stash_create")
def check_stashing_needs_a_commit(maker: BackendMaker) -> None:
    """Before the first commit there is nothing that a stash could be based on."""
    bench = maker.empty()
    bench.write({"a": "1\n"})
    with refused(UnbornHeadError, bench):
        bench.backend.stash_create(bench.path, "work", untracked=True)


@check("stash_apply")
def check_applied_stashes_bring_all_back(maker: BackendMaker) -> None:
    """An applied stash gives back changes, deletions, new and untracked files; what was staged only when asked."""
    for index, expected in ((False, ".M"), (True, "M.")):
        bench = maker.repository({"a": "1\n", "gone": "x\n"})
        bench.write({"a": "2\n", "added": "n\n", "gone": None, "untracked": "u\n"})
        bench.backend.stage(bench.path, ["a", "added"])
        oid = put_away(bench, untracked=True)
        assert bench.status() == {}
        bench.backend.stash_apply(bench.path, oid, index=index)
        assert bench.status() == {"a": expected, "added": "A.", "gone": ".D", "untracked": "??"}
        assert dict(bench.files()) == {"a": b"2\n", "added": b"n\n", "untracked": b"u\n"}


@check("stash_create", "stash_apply")
def check_files_taken_out_of_the_index_are_kept_once(maker: BackendMaker) -> None:
    """A file that only the index has lost is kept among the tracked ones, so that the stash can be applied."""
    for content in ("2\n", "1\n"):
        bench = maker.repository({"a": "1\n", "b": "1\n"})
        bench.write({"a": None})
        bench.backend.stage(bench.path, ["a"])
        bench.write({"a": content, "new": "u\n"})
        oid = put_away(bench, untracked=True)
        untracked = bench.backend.read_commit(oid).parents[2]
        assert (as_files(bench.backend, oid)["a"].data, set(as_files(bench.backend, untracked))) == (
            content.encode(),
            {"new"},
        )
        bench.backend.stash_apply(bench.path, oid)
        assert dict(bench.files()) == {"a": content.encode(), "b": b"1\n", "new": b"u\n"}


@check("stash_apply")
def check_stashes_that_keep_a_file_twice_change_nothing(maker: BackendMaker) -> None:
    """A stash as git itself makes it then, with a file among the tracked and the untracked ones, is a conflict."""
    bench = maker.repository({"a": "1\n", "b": "1\n"})
    base = bench.head()
    index = bench.loose_commit({"b": "1\n"}, [base])
    untracked = bench.loose_commit({"a": "2\n"})
    stash = bench.loose_commit({"a": "2\n", "b": "2\n"}, [base, index, untracked])
    with refused(ConflictError, bench):
        bench.backend.stash_apply(bench.path, stash)
    bench.commit({"a": None})
    with refused(ConflictError, bench):
        bench.backend.stash_apply(bench.path, stash)
    bench.backend.reset(bench.path, base, ResetMode.HARD)
    bench.write({"a": None})
    with refused(ConflictError, bench):
        bench.backend.stash_apply(bench.path, stash)


@check("stash_create")
def check_files_where_a_staged_folder_was_are_kept(maker: BackendMaker) -> None:
    """An untracked file, its name not UTF-8 either, is kept beside the folder that was staged at its place."""
    bench = maker.repository({"a": "1\n"})
    bench.write({"x/y": "staged\n"})
    bench.backend.stage(bench.path, ["x/y"])
    bench.write({"x/y": None})
    bench.disk.remove(f"{bench.path}/x")
    bench.write({"x": "file\n", "\udcff": "odd\n"})
    oid = bench.backend.stash_create(bench.path, "work", untracked=True)
    assert oid is not None
    assert set(as_files(bench.backend, oid)) == {"a", "x/y"}
    untracked = as_files(bench.backend, bench.backend.read_commit(oid).parents[2])
    assert {path: file.data for path, file in untracked.items()} == {"x": b"file\n", "\udcff": b"odd\n"}


@check("stash_apply")
def check_what_is_staged_already_is_not_staged_again(maker: BackendMaker) -> None:
    """Where the index has come to be the one that a stash kept, it stays, and the files alone are brought back."""
    bench = maker.repository({"a": "1\n", "b": "1\n"})
    bench.write({"a": "2\n"})
    bench.backend.stage(bench.path, ["a"])
    bench.write({"b": "2\n"})
    oid = put_away(bench)
    bench.commit({"a": "2\n"})
    bench.backend.stash_apply(bench.path, oid, index=True)
    assert bench.status() == {"b": ".M"}
    assert dict(bench.files()) == {"a": b"2\n", "b": b"2\n"}


@check("stash_apply")
def check_stashes_merge_with_what_came_since(maker: BackendMaker) -> None:
    """A stash is applied on other commits by a three-way merge, in any worktree."""
    lines = [f"{n}\n" for n in range(9)]
    bench = maker.repository({"a": "".join(lines)})
    bench.write({"a": "".join(["first\n", *lines[1:]])})
    oid = put_away(bench)
    linked = bench.worktree()
    bench.commit({"a": "".join([*lines[:-1], "last\n"])}, worktree=linked)
    bench.backend.stash_apply(linked, oid)
    assert bench.files(linked)["a"] == "".join(["first\n", *lines[1:-1], "last\n"]).encode()


@check("stash_apply")
def check_conflicting_stashes_change_nothing(maker: BackendMaker) -> None:
    """A stash that conflicts, or would overwrite changes or untracked files, changes nothing and is still there."""
    bench = maker.repository({"a": "1\n"})
    bench.write({"a": "2\n", "untracked": "u\n"})
    oid = put_away(bench, untracked=True)
    bench.backend.stash_store(oid, "On main: work")
    bench.write({"a": "mine\n"})
    with refused(ConflictError, bench):
        bench.backend.stash_apply(bench.path, oid)
    bench.commit({"a": "other\n"})
    with refused(ConflictError, bench) as caught:
        bench.backend.stash_apply(bench.path, oid)
    assert "a" in getattr(caught[0], "paths", ())
    bench.backend.reset(bench.path, bench.log(bench.head())[1], ResetMode.HARD)
    bench.write({"untracked": "mine\n"})
    with refused(ConflictError, bench):
        bench.backend.stash_apply(bench.path, oid)
    with refused(StashNotFoundError, bench):
        bench.backend.stash_apply(bench.path, bench.head())
    assert [entry.oid for entry in bench.backend.stash_list()] == [oid]


@check("stash_list", "stash_store", "stash_drop")
def check_stashes_are_kept_by_their_ids(maker: BackendMaker) -> None:
    """Stashes are listed newest first with their messages, and dropped by id wherever they stand."""
    bench = maker.repository()
    linked = bench.worktree()
    oids = []
    for number, place in enumerate((bench.path, linked, bench.path)):
        bench.write({"a.txt": f"{number}\n"}, place)
        oids.append(put_away(bench, place))
        bench.backend.stash_store(oids[-1], f"On main: number {number}")
    assert [entry.oid for entry in bench.backend.stash_list()] == oids[::-1]
    assert [entry.message for entry in bench.backend.stash_list()] == [f"On main: number {n}" for n in (2, 1, 0)]
    assert bench.backend.stash_list()[0].branch == "main"
    bench.backend.stash_drop(oids[1])
    assert [entry.oid for entry in bench.backend.stash_list()] == [oids[2], oids[0]]
    with refused(StashNotFoundError, bench):
        bench.backend.stash_drop(oids[1])
    bench.backend.stash_drop(oids[2])
    bench.backend.stash_drop(oids[0])
    assert bench.backend.stash_list() == ()
    assert not [ref for ref in bench.backend.list_refs() if ref.name == "refs/stash"]
    with refused(StashNotFoundError, bench):
        bench.backend.stash_store(bench.head(), "no stash")


CHECKS = collected(globals())
