"""What backends do with objects."""

from __future__ import annotations

import datetime as dt
from typing import Any

from arboretum.backends.trees.snapshot import File, FileContent
from arboretum.errors import ObjectMissingError, PatchFailedError, RevisionNotFoundError, UnbornHeadError
from arboretum.testing.builders import CommitSpec
from arboretum.testing.conformance.registry import check, collected, refused
from arboretum.testing.maker import BackendMaker, as_files
from arboretum.values import ChangeKind, FileMode, LogQuery, Oid, Revision, Signature, TreeEntry

UGLY = 'a "q"\n\\ \udcff'
MISSING = "1234567890" * 4


@check("write_blob", "read_blob")
def check_blobs_keep_every_byte(maker: BackendMaker) -> None:
    """A blob is read as it was written, whatever bytes it has, under git's own id."""
    backend = maker.empty().backend
    for data in (b"", b"text\n", bytes(range(256)), b"\r\n" * 3, b"x" * 100_000):
        assert backend.read_blob(backend.write_blob(data)) == data
    assert backend.sha256 or backend.write_blob(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


@check("write_tree", "read_tree")
def check_trees_hold_exactly_their_entries(maker: BackendMaker) -> None:
    """A tree gives back the paths, modes and ids that it was made of, sorted by bytes; ugly names included."""
    bench = maker.empty()
    backend = bench.backend
    blob = backend.write_blob(b"x")
    names = ["z", "a", "a.b", "a-b/c", "sub/deep/er", "ä", UGLY, "-x", "sub.txt"]
    modes = [FileMode.FILE, FileMode.EXECUTABLE, FileMode.SYMLINK]
    entries = [TreeEntry(name, modes[at % 3], blob) for at, name in enumerate(names)]
    found = backend.read_tree(backend.write_tree(entries))
    assert set(found) == set(entries)
    paths = [entry.path.encode("utf-8", "surrogateescape") for entry in found]
    assert paths == sorted(paths)
    assert backend.read_tree(backend.write_tree([])) == ()


@check("write_commit", "read_commit")
def check_commits_keep_all_that_they_say(maker: BackendMaker) -> None:
    """A commit is read as it was written: tree, parents in order, people, offsets, and the message byte for byte."""
    bench = maker.empty()
    backend, tree = bench.backend, bench.tree({"a": "1"})
    first = bench.loose_commit({"a": "1"})
    second = bench.loose_commit({"a": "2"})
    who = Signature(
        "Zoë Ämter",
        "zoe@example.org",
        dt.datetime(2001, 2, 3, 4, 5, 6, tzinfo=dt.timezone(-dt.timedelta(hours=3, minutes=30))),
    )
    whom = Signature("Bo", "bo@example.org", dt.datetime(2020, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=14))))
    message = "subject\n\nbody with trailing blanks  \n\n\nä \udcff\n"
    oid = backend.write_commit(tree=tree, parents=[first, second], message=message, author=who, committer=whom)
    commit = backend.read_commit(oid)
    assert (commit.oid, commit.tree, commit.parents, commit.message) == (oid, tree, (first, second), message)
    assert (commit.author, commit.committer) == (who, whom)
    assert commit.author.when.utcoffset() == who.when.utcoffset()
    assert commit.subject == "subject"


@check("resolve")
def check_revisions_name_commits(maker: BackendMaker) -> None:
    """Branches, tags, ids and their prefixes, ancestors and HEAD name the commits that git names."""
    bench = maker.empty()
    one, two, aside, merged = bench.replay(
        [
            CommitSpec({"a": "1"}, "first"), CommitSpec({"a": "2"}, "second"),
            CommitSpec({"b": "1"}, "aside", "topic", [":1"]), CommitSpec({"b": "1"}, "merge", "main", [":2", ":3"]),
        ]
    )  # fmt: skip
    backend = bench.backend
    for text, oid in {
        "HEAD": merged, "main": merged, "refs/heads/main": merged, "heads/topic": aside, "@": merged, "HEAD~1": two,
        "main^2": aside, "HEAD^2~1": one, "main~2": one, merged: merged, two[:10]: two, "topic^0": aside,
        "HEAD^{commit}": merged, "@~": two,
    }.items():  # fmt: skip
        assert backend.resolve(Revision(text)) == oid, text
    for text in ("nothing", "HEAD~9", "HEAD^3", "main^{tree}", "feedface" * 2, "refs/heads/", "a..b"):
        with refused(RevisionNotFoundError):
            backend.resolve(Revision(text))


@check("resolve", "head")
def check_an_unborn_head_has_no_commit(maker: BackendMaker) -> None:
    """HEAD on a branch without commits is told apart from a revision that is not there."""
    bench = maker.empty()
    head = bench.backend.head(bench.path)
    assert head.is_unborn
    assert head.branch == "refs/heads/main"
    with refused(UnbornHeadError, bench):
        bench.backend.resolve(Revision("HEAD"))
    with refused(RevisionNotFoundError, bench):
        bench.backend.resolve(Revision("main"))


@check("resolve")
def check_head_means_that_of_the_worktree_asked_for(maker: BackendMaker) -> None:
    """HEAD is that of the worktree asked for, and of the opened one when none is."""
    bench = maker.repository()
    first = bench.head()
    linked = bench.worktree()
    second = bench.commit({"a.txt": "more\n"}, worktree=linked)
    assert bench.backend.resolve(Revision("HEAD")) == first
    assert bench.backend.resolve(Revision("HEAD"), worktree=linked) == second
    inside = maker.factory.open(linked)
    assert inside.resolve(Revision("HEAD")) == second
    inside.close()


@check("read_commit", "read_blob", "read_tree", "log", "diff_trees", "merge_base")
def check_missing_objects_are_told(maker: BackendMaker) -> None:
    """An object that is not there is ObjectMissingError wherever it is asked for."""
    bench = maker.repository()
    backend, gone = bench.backend, Oid(MISSING)
    with refused(ObjectMissingError, bench):
        backend.read_commit(gone)
    with refused(ObjectMissingError, bench):
        backend.read_blob(gone)
    with refused(ObjectMissingError, bench):
        backend.read_tree(gone)
    with refused(ObjectMissingError, bench):
        list(backend.log(LogQuery((gone,))))
    with refused(ObjectMissingError, bench):
        backend.diff_trees(gone, bench.head())
    with refused(ObjectMissingError, bench):
        backend.merge_base(gone, bench.head())
    with refused(ObjectMissingError, bench):
        backend.read_commit(backend.write_blob(b"no commit"))


@check("log")
def check_logs_walk_as_git_does(maker: BackendMaker) -> None:
    """A log is newest first; ranges, first parents, paths, limits and topological order are honoured."""
    bench = maker.empty()
    one, two, aside, merged, last = bench.replay(
        [
            CommitSpec({"a": "1"}, "1"), CommitSpec({"a": "2"}, "2"), CommitSpec({"b": "1"}, "3", "topic", [":1"]),
            CommitSpec({"b": "1"}, "4", "main", [":2", ":3"]), CommitSpec({"lib/c": "1"}, "5"),
        ]
    )  # fmt: skip

    def log(*tips: Oid, **limits: Any) -> list[Oid]:
        return [c.oid for c in bench.backend.log(LogQuery(tips, **limits))]

    assert log(last) == [last, merged, aside, two, one]
    assert log(last, exclude=(two,)) == [last, merged, aside]
    assert log(last, first_parent=True) == [last, merged, two, one]
    assert log(last, limit=2) == [last, merged]
    assert log(last, paths=("lib",)) == [last]
    assert log(last, paths=("a",)) == [two, one]
    assert log(last, paths=("b",)) == [aside]
    assert log(last, paths=("*",)) == []
    order = log(last, topological=True)
    assert order[:2] == [last, merged]
    assert order[-1] == one
    assert set(order[2:4]) == {two, aside}


@check("links")
def check_links_are_those_of_the_log(maker: BackendMaker) -> None:
    """The links of a walk are its commits in the same order, each with all its parents and its time."""
    bench = maker.empty()
    *_, two, _aside, _merged, last = bench.replay(
        [
            CommitSpec({"a": "1"}, "1"), CommitSpec({"a": "2"}, "2"), CommitSpec({"b": "1"}, "3", "topic", [":1"]),
            CommitSpec({"b": "1"}, "4", "main", [":2", ":3"]), CommitSpec({"lib/c": "1"}, "5"),
        ]
    )  # fmt: skip
    queries = [
        LogQuery((last,)), LogQuery((last,), exclude=(two,)), LogQuery((last,), first_parent=True),
        LogQuery((last,), limit=2), LogQuery((last,), topological=True), LogQuery(()),
    ]  # fmt: skip
    for query in queries:
        told = [(c.oid, c.parents, int(c.committer.when.timestamp())) for c in bench.backend.log(query)]
        assert [tuple(link) for link in bench.backend.links(query)] == told, query
    with refused(ObjectMissingError, bench):
        list(bench.backend.links(LogQuery((Oid(MISSING),))))


@check("merge_base")
def check_merge_bases_are_the_best_common_ancestors(maker: BackendMaker) -> None:
    """The merge base is the nearest common ancestor; unrelated histories have none."""
    bench = maker.empty()
    root = bench.loose_commit({"a": "1"})
    left = bench.loose_commit({"a": "2"}, [root])
    right = bench.loose_commit({"b": "1"}, [root])
    both = bench.loose_commit({"a": "2", "b": "1"}, [left, right])
    further = bench.loose_commit({"c": "1"}, [right])
    stranger = bench.loose_commit({"z": "1"})
    base = bench.backend.merge_base
    assert base(left, right) == root
    assert base(both, further) == right
    assert base(both, left) == left
    assert base(root, root) == root
    assert base(both, stranger) is None


@check("diff_trees")
def check_diffs_name_what_changed(maker: BackendMaker) -> None:
    """A diff has one entry per path that differs, sorted, renames told apart when asked for."""
    bench = maker.empty()
    text = "".join(f"line {n}\n" for n in range(20))
    old = bench.tree({"same": "1", "edit": "1", "gone": "bye", "link": "x", "mode": "1", "from": text, UGLY: "1"})
    new = bench.tree(
        {
            "same": "1", "edit": "2", "link": File(b"y", FileMode.SYMLINK), "mode": File(b"1", FileMode.EXECUTABLE),
            "to/there": text + "more\n", "fresh": "hello", UGLY: "2",
        }
    )  # fmt: skip
    kinds = {e.path: (str(e.kind), e.old_path) for e in bench.backend.diff_trees(old, new)}
    assert kinds == {
        "edit": ("M", None), "gone": ("D", None), "link": ("T", None), "mode": ("M", None), "fresh": ("A", None),
        "to/there": ("R", "from"), UGLY: ("M", None),
    }  # fmt: skip
    plain = bench.backend.diff_trees(old, new, renames=False)
    assert {e.path: str(e.kind) for e in plain if "from" in e.path or "to" in e.path} == {"from": "D", "to/there": "A"}
    paths = [e.path.encode("utf-8", "surrogateescape") for e in plain]
    assert paths == sorted(paths)
    assert {e.kind for e in bench.backend.diff_trees(None, new)} == {ChangeKind.ADDED}
    assert bench.backend.diff_trees(new, new) == ()


@check("diff_text", "apply_to_tree")
def check_patches_round_trip(maker: BackendMaker) -> None:
    """The patch between two trees makes the one of the other, with binaries, modes, links and ugly names."""
    bench = maker.empty()
    old: dict[str, FileContent] = {
        "text": "1\n2\n3\n4\n5\n",
        "no newline": "end",
        "bin": b"\x00\x01" * 50,
        "gone": "x\n",
        "mode": "m\n",
        UGLY: "u\n",
    }
    new: dict[str, FileContent] = {
        "text": "1\n2\nthree\n4\n5\n", "no newline": "end\n", "bin": b"\x00\x02" * 50, "empty": "",
        "mode": File(b"m\n", FileMode.EXECUTABLE), "link": File(b"text", FileMode.SYMLINK), UGLY: "v\n",
    }  # fmt: skip
    before, after = bench.tree(old), bench.tree(new)
    patch = bench.backend.diff_text(before, after)
    assert bench.backend.apply_to_tree(before, patch) == after
    assert bench.backend.apply_to_tree(bench.tree({}), bench.backend.diff_text(None, after)) == after
    assert bench.backend.diff_text(after, after) == b""


@check("apply_to_tree")
def check_a_patch_that_does_not_apply_names_its_file(maker: BackendMaker) -> None:
    """A patch whose lines are not there, that is cut short, or that leads out of the tree is PatchFailedError."""
    bench = maker.empty()
    old, new = bench.tree({"a": "1\n2\n3\n", "b": "1\n"}), bench.tree({"a": "1\nX\n3\n", "b": "2\n"})
    other = bench.tree({"a": "quite\nother\nlines\n", "b": "1\n"})
    patch = bench.backend.diff_text(old, new)
    with refused(PatchFailedError, bench) as caught:
        bench.backend.apply_to_tree(other, patch)
    assert getattr(caught[0], "paths", ()) == ("a",)
    outside = b"--- a/../../out\n+++ b/../../out\n@@ -0,0 +1 @@\n+x\n"
    inside_git = (
        b"diff --git a/.git/config b/.git/config\nnew file mode 100644\n"
        b"--- /dev/null\n+++ b/.git/config\n@@ -0,0 +1 @@\n+x\n"
    )
    for broken in (b"no patch at all", b"", patch[: len(patch) // 2], outside, inside_git):
        with refused(PatchFailedError, bench):
            bench.backend.apply_to_tree(old, broken)


@check("merge_trees")
def check_merges_in_memory(maker: BackendMaker) -> None:
    """A merge in memory is clean or names its conflicts; it follows renames and touches nothing."""
    bench = maker.repository()
    text = [f"line {n}\n" for n in range(12)]

    def version(*changes: tuple[int, str]) -> str:
        lines = list(text)
        for at, line in changes:
            lines[at] = line
        return "".join(lines)

    base = bench.loose_commit({"f": version(), "g": "g\n", "gone": "x\n"})
    ours = bench.loose_commit({"f": version((0, "first\n")), "g": "g\n", "new": "n\n", "gone": "x\n"}, [base])
    theirs = bench.loose_commit({"f": version((11, "last\n")), "gone": "x\n"}, [base])
    outcome = bench.backend.merge_trees(ours, theirs)
    assert outcome.tree is not None
    merged = {path: file.data for path, file in as_files(bench.backend, outcome.tree).items()}
    assert merged == {"f": version((0, "first\n"), (11, "last\n")).encode(), "new": b"n\n", "gone": b"x\n"}
    clash = bench.loose_commit({"f": version((0, "other\n")), "g": "g\n"}, [base])
    outcome = bench.backend.merge_trees(ours, clash)
    assert (outcome.tree, outcome.conflicts) == (None, ("f",))
    deleted = bench.loose_commit({"g": "g\n", "gone": "x\n"}, [base])
    assert bench.backend.merge_trees(ours, deleted).conflicts == ("f",)
    renamed = bench.loose_commit({"moved/f": version(), "g": "g\n", "gone": "x\n"}, [base])
    outcome = bench.backend.merge_trees(renamed, theirs)
    assert outcome.tree is not None
    assert as_files(bench.backend, outcome.tree)["moved/f"].data == version((11, "last\n")).encode()
    assert bench.status() == {}


@check("merge_trees")
def check_merges_take_the_base_that_is_given(maker: BackendMaker) -> None:
    """With a base given, a commit or a tree, only that one counts, as for a cherry-pick."""
    bench = maker.empty()
    root = bench.loose_commit({"a": "1\n"})
    step = bench.loose_commit({"a": "1\n", "b": "1\n"}, [root])
    pick = bench.loose_commit({"a": "1\n", "b": "1\n", "c": "1\n"}, [step])
    ours = bench.loose_commit({"a": "1\n", "z": "1\n"}, [root])
    for base in (step, bench.backend.read_commit(step).tree):
        outcome = bench.backend.merge_trees(ours, pick, base=base)
        assert outcome.tree is not None
        assert set(as_files(bench.backend, outcome.tree)) == {"a", "z", "c"}


@check("merge_trees")
def check_criss_cross_merges_have_one_base(maker: BackendMaker) -> None:
    """Where there are several merge bases, their merge is the base."""
    bench = maker.empty()
    root = bench.loose_commit({"f": "1\n2\n3\n4\n5\n6\n7\n8\n"})
    left = bench.loose_commit({"f": "one\n2\n3\n4\n5\n6\n7\n8\n"}, [root])
    right = bench.loose_commit({"f": "1\n2\n3\n4\n5\n6\n7\neight\n"}, [root])
    both = "one\n2\n3\n4\n5\n6\n7\neight\n"
    ours = bench.loose_commit({"f": both.replace("4", "four")}, [left, right])
    theirs = bench.loose_commit({"f": both, "new": "x\n"}, [right, left])
    outcome = bench.backend.merge_trees(ours, theirs)
    assert outcome.tree is not None
    files = as_files(bench.backend, outcome.tree)
    assert files["f"].data == both.replace("4", "four").encode()
    assert set(files) == {"f", "new"}


CHECKS = collected(globals())
