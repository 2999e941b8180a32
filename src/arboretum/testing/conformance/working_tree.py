"""What backends do with one worktree's HEAD, index and files."""

from __future__ import annotations

from arboretum.backends.base import Capability
from arboretum.backends.trees.snapshot import File
from arboretum.errors import (
    BranchCheckedOutError,
    ConflictError,
    DirtyWorktreeError,
    GitOperationError,
    NothingToCommitError,
    PatchFailedError,
    PathOccupiedError,
    RefNotFoundError,
    RemoteError,
    RepositoryNotFoundError,
)
from arboretum.testing.conformance.objects import UGLY
from arboretum.testing.conformance.registry import check, collected, refused
from arboretum.testing.maker import BackendMaker, as_files
from arboretum.values import FileMode, RefName, ResetMode, Revision, WorktreeSpec


@check("open", "discover", "init")
def check_repositories_are_found_where_they_are(maker: BackendMaker) -> None:
    """Open takes exactly a worktree or git directory; discover looks upwards; init refuses a second time."""
    bench = maker.repository()
    linked = bench.worktree()
    for path, worktree in ((bench.path, bench.path), (linked, linked), (bench.backend.common_dir, bench.path)):
        opened = maker.factory.open(path)
        assert opened.common_dir == bench.backend.common_dir
        assert opened.worktree_path == worktree, (path, opened.worktree_path)
        assert not opened.is_bare
        opened.close()
    found = maker.factory.discover(f"{linked}/src")
    assert (found.worktree_path, found.common_dir) == (linked, bench.backend.common_dir)
    found.close()
    for path in (f"{bench.path}/src", bench.beside("none"), f"{bench.path}/a.txt"):
        with refused(RepositoryNotFoundError, bench):
            maker.factory.open(path)
    with refused(RepositoryNotFoundError, bench):
        maker.factory.discover(bench.beside(""))
    with refused(PathOccupiedError, bench):
        maker.factory.init(bench.path)


@check("head", "checkout")
def check_heads_are_told(maker: BackendMaker) -> None:
    """HEAD is on a branch, or detached at a commit."""
    bench = maker.repository()
    head = bench.backend.head(bench.path)
    assert (head.branch, head.oid, head.is_detached) == ("refs/heads/main", bench.head(), False)
    bench.backend.checkout(bench.path, bench.head())
    head = bench.backend.head(bench.path)
    assert (head.branch, head.is_detached, head.is_unborn) == (None, True, False)


@check("status")
def check_status_tells_each_kind_of_change(maker: BackendMaker) -> None:
    """Status names each path that differs once, by git's two letters, ugly names included."""
    bench = maker.repository(
        {"mod": "1\n", "staged": "1\n", "both": "1\n", "gone": "1\n", "removed": "1\n", "mode": "1\n", "type": "1\n",
         UGLY: "1\n", ".gitignore": "*.o\nbuild/\n"}
    )  # fmt: skip
    bench.write({"staged": "2\n", "both": "2\n", "removed": None, "added": "x"})
    bench.backend.stage(bench.path, ["staged", "both", "removed", "added"])
    bench.write(
        {"mod": "2\n", "both": "3\n", "gone": None, "mode": File(b"1\n", FileMode.EXECUTABLE), "new/file": "x",
         "type": File(b"mod", FileMode.SYMLINK), UGLY: "2\n", "x.o": "", "build/deep/x": "", "new/y.o": ""}
    )  # fmt: skip
    expected = {
        "added": "A.", "both": "MM", "gone": ".D", "mod": ".M", "mode": ".M", "new/file": "??", "removed": "D.",
        "staged": "M.", "type": ".T", UGLY: ".M",
    }  # fmt: skip
    assert bench.status() == expected
    with_ignored = {e.path: f"{e.index}{e.worktree}" for e in bench.backend.status(bench.path, ignored=True)}
    assert {path for path, kind in with_ignored.items() if kind == "!!"} == {"x.o", "build/", "new/y.o"}
    without = {e.path for e in bench.backend.status(bench.path, untracked=False)}
    assert without == expected.keys() - {"new/file"}
    paths = [e.path.encode("utf-8", "surrogateescape") for e in bench.backend.status(bench.path, ignored=True)]
    assert paths == sorted(paths)


@check("status")
def check_status_tells_renames_when_asked(maker: BackendMaker) -> None:
    """A staged rename is one entry with its old path when renames are asked for, and two when not."""
    text = "".join(f"{n}\n" for n in range(20))
    bench = maker.repository({"old": text, "other": "x"})
    bench.write({"old": None, "sub/new": text + "more\n"})
    bench.backend.stage(bench.path, ["old", "sub/new"])
    assert bench.status() == {"old": "D.", "sub/new": "A."}
    (entry,) = bench.backend.status(bench.path, renames=True)
    assert (entry.path, entry.old_path, f"{entry.index}{entry.worktree}") == ("sub/new", "old", "R.")


@check("status")
def check_repositories_inside_are_named_as_one(maker: BackendMaker) -> None:
    """A worktree inside another shows there as one untracked folder."""
    bench = maker.repository()
    bench.backend.add_worktree(WorktreeSpec(f"{bench.path}/inner", detach=bench.head()))
    assert bench.status() == {"inner/": "??"}


@check("stage")
def check_staging_takes_paths_literally(maker: BackendMaker) -> None:
    """Paths to stage are names and no patterns; folders go with all below, deletions too, ignored files do not."""
    bench = maker.repository({"a.txt": "1\n", "d/one": "1\n", "d/two": "1\n", ".gitignore": "*.o\n"})
    bench.write({"a.txt": "2\n", "*": "star", ":(top)x": "colon", "d/one": None, "d/new": "x", "d/x.o": "x"})
    bench.backend.stage(bench.path, ["*"])
    assert bench.status()["*"] == "A."
    assert bench.status()["a.txt"] == ".M"
    bench.backend.stage(bench.path, [":(top)x", "d"])
    assert bench.status() == {
        "*": "A.", ":(top)x": "A.", "a.txt": ".M", "d/new": "A.", "d/one": "D.",
    }  # fmt: skip
    bench.backend.stage(bench.path, ["."])
    assert bench.status()["a.txt"] == "M."
    with refused(GitOperationError, bench):
        bench.backend.stage(bench.path, ["not there"])


@check("stage", "commit")
def check_files_and_folders_may_take_each_others_place(maker: BackendMaker) -> None:
    """A folder that became a file, and a file that became a folder, are staged and committed as they are."""
    bench = maker.repository({"was/folder": "1\n", "file": "1\n"})
    bench.write({"was/folder": None, "file": None})
    bench.disk.remove(f"{bench.path}/was")
    bench.write({"was": "now a file\n", "file/inside": "x\n"})
    bench.backend.stage(bench.path, ["."])
    who = bench.signature()
    oid = bench.backend.commit(bench.path, "swap", author=who, committer=who)
    assert set(as_files(bench.backend, oid)) == {"was", "file/inside"}
    assert bench.status() == {}


@check("commit")
def check_commits_take_the_index_and_nothing_else(maker: BackendMaker) -> None:
    """A commit holds what is staged, goes on HEAD, and has the people and the tidied message given."""
    bench = maker.repository()
    before = bench.head()
    bench.write({"a.txt": "staged\n"})
    bench.backend.stage(bench.path, ["a.txt"])
    bench.write({"a.txt": "later\n", "untracked": "x"})
    author, committer = bench.signature(), bench.signature("COMMITTER")
    message = "\n\nsubject  \n\n\n\nbody\t\n # no comment\n\n"
    oid = bench.backend.commit(bench.path, message, author=author, committer=committer)
    commit = bench.backend.read_commit(oid)
    assert commit.parents == (before,)
    assert (commit.author, commit.committer) == (author, committer)
    assert commit.message == "subject\n\nbody\n # no comment\n"
    assert as_files(bench.backend, oid)["a.txt"].data == b"staged\n"
    assert bench.backend.head(bench.path).oid == oid
    assert bench.status() == {"a.txt": ".M", "untracked": "??"}


@check("staged_tree")
def check_staged_trees_are_what_a_commit_would_have(maker: BackendMaker) -> None:
    """The staged tree is that of the next commit; to store it moves nothing and changes no file."""
    bench = maker.repository({"kept": "1\n", "gone": "1\n"})
    before = bench.head()
    assert bench.backend.staged_tree(bench.path) == bench.backend.read_commit(before).tree
    bench.write({"new/file": "staged\n", "gone": None})
    bench.backend.stage(bench.path, ["."])
    bench.write({"new/file": "later\n", "untracked": "x"})
    status = bench.status()
    tree = bench.backend.staged_tree(bench.path)
    assert set(as_files(bench.backend, tree)) == {"kept", "new/file"}
    assert (bench.status(), bench.head()) == (status, before)
    oid = bench.backend.commit(bench.path, "x", author=bench.signature(), committer=bench.signature())
    assert bench.backend.read_commit(oid).tree == tree


@check("commit")
def check_empty_commits_are_refused_unless_asked_for(maker: BackendMaker) -> None:
    """Nothing staged is NothingToCommitError, unless an empty commit is asked for; a message is always needed."""
    bench = maker.repository()
    bench.write({"untracked": "x"})
    with refused(NothingToCommitError, bench):
        bench.backend.commit(bench.path, "nothing", author=bench.signature(), committer=bench.signature())
    with refused(GitOperationError, bench):
        bench.backend.commit(bench.path, "  \n\n", allow_empty=True)
    oid = bench.backend.commit(bench.path, "empty", allow_empty=True)
    assert bench.backend.head(bench.path).oid == oid


@check("commit")
def check_first_and_detached_commits(maker: BackendMaker) -> None:
    """The first commit of a branch has no parent and makes the branch; a detached one moves only HEAD."""
    bench = maker.empty()
    first = bench.commit({"a": "1"})
    assert bench.backend.read_commit(first).parents == ()
    ref = bench.backend.read_ref(RefName.branch("main"))
    assert ref is not None
    assert ref.oid == first
    bench.backend.checkout(bench.path, first)
    second = bench.commit({"a": "2"})
    head, main = bench.backend.head(bench.path), bench.backend.read_ref(RefName.branch("main"))
    assert (head.branch, head.oid) == (None, second)
    assert main is not None
    assert main.oid == first


@check("checkout")
def check_checkout_keeps_local_changes(maker: BackendMaker) -> None:
    """A switch keeps changes that are not in its way, and refuses those that are, staged, unstaged and untracked."""
    bench = maker.repository({"a": "1\n", "b": "1\n"})
    first = bench.head()
    second = bench.loose_commit({"a": "2\n", "b": "1\n", "new": "x\n"}, [first])
    bench.backend.update_ref(RefName.branch("other"), second, None)
    bench.write({"b": "mine\n", "extra": "mine"})
    bench.backend.checkout(bench.path, RefName.branch("other"))
    assert (bench.files()["a"], bench.files()["b"], bench.files()["new"]) == (b"2\n", b"mine\n", b"x\n")
    assert bench.status() == {"b": ".M", "extra": "??"}
    bench.backend.checkout(bench.path, RefName.branch("main"))
    assert "new" not in bench.files()
    for change in ({"a": "mine\n"}, {"new": "mine\n"}):
        bench.write(change)
        with refused(DirtyWorktreeError, bench):
            bench.backend.checkout(bench.path, RefName.branch("other"))
        bench.write({"a": "1\n", "new": None})
    bench.write({"a": "staged\n"})
    bench.backend.stage(bench.path, ["a"])
    with refused(DirtyWorktreeError, bench):
        bench.backend.checkout(bench.path, second)
    bench.backend.checkout(bench.path, second, force=True)
    assert bench.files()["a"] == b"2\n"
    assert bench.files()["extra"] == b"mine"


@check("checkout", "reset")
def check_force_keeps_untracked_files(maker: BackendMaker) -> None:
    """A file that HEAD has and the index has not is untracked: a forced checkout and a hard reset let it be."""
    for forced in ("checkout", "reset"):
        bench = maker.repository({"a": "1\n"})
        first, second = bench.head(), bench.commit({"b": "committed\n", "lib/c": "committed\n"})
        bench.backend.reset(bench.path, first, ResetMode.MIXED)
        bench.backend.reset(bench.path, second, ResetMode.SOFT)
        bench.write({"b": "mine\n", "lib/c": "mine\n"})
        if forced == "checkout":
            bench.backend.checkout(bench.path, first, force=True)
        else:
            bench.backend.reset(bench.path, first, ResetMode.HARD)
        assert bench.status() == {"b": "??", "lib/c": "??"}
        assert dict(bench.files()) == {"a": b"1\n", "b": b"mine\n", "lib/c": b"mine\n"}


@check("checkout")
def check_forced_checkouts_leave_nothing_staged(maker: BackendMaker) -> None:
    """By force the index becomes the target's, also where it has files that are gone and in neither commit."""
    bench = maker.repository({"a": "1\n"})
    bench.branch("topic")
    bench.write({"a": "2\n", "b": "1\n"})
    bench.backend.stage(bench.path, ["a", "b"])
    bench.write({"b": None})
    bench.backend.checkout(bench.path, RefName.branch("topic"), force=True)
    assert bench.status() == {}
    assert dict(bench.files()) == {"a": b"1\n"}


@check("checkout")
def check_checkout_refuses_branches_in_use(maker: BackendMaker) -> None:
    """A branch that another worktree is on is not checked out, nor one that is not there."""
    bench = maker.repository()
    bench.branch("topic")
    linked = bench.worktree(branch="topic")
    with refused(BranchCheckedOutError, bench):
        bench.backend.checkout(bench.path, RefName.branch("topic"))
    with refused(BranchCheckedOutError, bench):
        bench.backend.checkout(linked, RefName.branch("main"))
    with refused(RefNotFoundError, bench):
        bench.backend.checkout(bench.path, RefName.branch("none"))
    bench.backend.checkout(linked, RefName.branch("topic"))


@check("reset")
def check_resets_go_as_far_as_asked(maker: BackendMaker) -> None:
    """A soft reset moves HEAD, a mixed one the index too, a hard one the tracked files as well; untracked ones stay."""
    bench = maker.repository({"a": "1\n", "gone later": "x\n"})
    first = bench.head()
    second = bench.commit({"a": "2\n", "b": "2\n", "gone later": None})
    bench.write({"untracked": "mine"})
    bench.backend.reset(bench.path, first, ResetMode.SOFT)
    assert bench.head() == first
    assert bench.status() == {"a": "M.", "b": "A.", "gone later": "D.", "untracked": "??"}
    bench.backend.reset(bench.path, first, ResetMode.MIXED)
    assert bench.status() == {"a": ".M", "b": "??", "gone later": ".D", "untracked": "??"}
    bench.backend.reset(bench.path, second, ResetMode.HARD)
    assert bench.status() == {"untracked": "??"}
    bench.write({"a": "dirty\n"})
    bench.backend.reset(bench.path, first, ResetMode.HARD)
    assert dict(bench.files()) == {"a": b"1\n", "gone later": b"x\n", "untracked": b"mine"}
    assert bench.status() == {"untracked": "??"}
    assert bench.backend.head(bench.path).branch == "refs/heads/main"


@check("clean")
def check_clean_removes_what_git_does_not_know(maker: BackendMaker) -> None:
    """Clean removes untracked files and folders, ignored ones only when asked, tracked ones never."""
    bench = maker.repository({"a": "1\n", "d/tracked": "1\n", ".gitignore": "*.o\n"})
    bench.write(
        {"a": "changed\n", "new": "x", "d/new": "x", "all/new/deep": "x", "x.o": "x", "mixed/y.o": "", "mixed/y": ""}
    )
    removed = bench.backend.clean(bench.path)
    assert set(removed) == {"new", "d/new", "all/", "mixed/y"}
    assert set(bench.files()) == {"a", "d/tracked", ".gitignore", "x.o", "mixed/y.o"}
    assert set(bench.backend.clean(bench.path, ignored=True)) == {"x.o", "mixed/"}
    assert dict(bench.files()) == {"a": b"changed\n", "d/tracked": b"1\n", ".gitignore": b"*.o\n"}
    assert bench.backend.clean(bench.path) == ()


@check("clean")
def check_clean_removes_nested_repositories_but_no_worktrees(maker: BackendMaker) -> None:
    """A repository of its own inside a worktree goes like any untracked folder."""
    bench = maker.repository()
    maker.factory.init(f"{bench.path}/nested").close()
    assert bench.backend.clean(bench.path) == ("nested/",)
    assert not bench.disk.is_folder(f"{bench.path}/nested")


@check("apply")
def check_patches_are_applied_whole_or_not_at_all(maker: BackendMaker) -> None:
    """A patch changes the files (and the index when asked), or nothing at all."""
    files = {"a": "1\n2\n3\n", "b": "1\n", "gone": "x\n"}
    bench = maker.repository(files)
    new = bench.loose_commit({"a": "1\nX\n3\n", "b": "2\n", "new/file": "n\n"})
    patch = bench.backend.diff_text(bench.head(), new)
    bench.backend.apply(bench.path, patch)
    assert dict(bench.files()) == {"a": b"1\nX\n3\n", "b": b"2\n", "new/file": b"n\n"}
    assert bench.status() == {"a": ".M", "b": ".M", "gone": ".D", "new/file": "??"}
    with refused(PatchFailedError, bench):
        bench.backend.apply(bench.path, patch)
    bench.backend.clean(bench.path)
    bench.backend.reset(bench.path, bench.head(), ResetMode.HARD)
    bench.backend.apply(bench.path, patch, index=True)
    assert bench.status() == {"a": "M.", "b": "M.", "gone": "D.", "new/file": "A."}
    bench.backend.reset(bench.path, bench.head(), ResetMode.HARD)
    bench.write({"b": "other\n"})
    for index in (False, True):
        with refused(PatchFailedError, bench):
            bench.backend.apply(bench.path, patch, index=index)


@check("cherry_pick")
def check_cherry_picks_keep_author_and_message(maker: BackendMaker) -> None:
    """A picked commit brings its change, author and message; local changes elsewhere stay."""
    bench = maker.repository({"a": "1\n", "b": "1\n"})
    base = bench.head()
    picked = bench.loose_commit({"a": "1\n", "b": "1\n", "c": "new\n"}, [base], "add c\n\nbody\n")
    bench.commit({"b": "2\n"})
    head = bench.head()
    bench.write({"a": "mine\n", "untracked": "x"})
    oid = bench.backend.cherry_pick(bench.path, picked)
    commit, original = bench.backend.read_commit(oid), bench.backend.read_commit(picked)
    assert (commit.parents, commit.message, commit.author) == ((head,), original.message, original.author)
    assert bench.head() == oid
    assert bench.files()["c"] == b"new\n"
    assert bench.status() == {"a": ".M", "untracked": "??"}


@check("cherry_pick")
def check_cherry_picks_that_conflict_change_nothing(maker: BackendMaker) -> None:
    """A pick that conflicts, would overwrite work, brings nothing or is a merge is refused and changes nothing."""
    bench = maker.repository({"a": "1\n", "b": "1\n"})
    base = bench.head()
    clash = bench.loose_commit({"a": "clash\n", "b": "1\n"}, [base])
    bench.commit({"a": "2\n"})
    with refused(ConflictError, bench) as caught:
        bench.backend.cherry_pick(bench.path, clash)
    assert getattr(caught[0], "paths", ()) == ("a",)
    change = bench.loose_commit({"a": "1\n", "b": "2\n"}, [base])
    bench.write({"b": "mine\n"})
    with refused(DirtyWorktreeError, bench):
        bench.backend.cherry_pick(bench.path, change)
    bench.backend.stage(bench.path, ["b"])
    with refused(DirtyWorktreeError, bench):
        bench.backend.cherry_pick(bench.path, change)
    bench.backend.reset(bench.path, bench.head(), ResetMode.HARD)
    with refused(GitOperationError, bench):
        bench.backend.cherry_pick(bench.path, bench.loose_commit({"a": "1\n"}, [base, clash]))
    with refused(NothingToCommitError, bench):
        bench.backend.cherry_pick(bench.path, bench.loose_commit({"a": "2\n", "b": "1\n"}, [base]))


@check("clone", requires=(Capability.FETCH,))
def check_clones_have_branches_and_files(maker: BackendMaker) -> None:
    """A clone has the branches of its source as remote ones, its HEAD, and its files; a failed one leaves nothing."""
    source = maker.repository()
    source.branch("topic")
    path = maker.path("clone")
    clone = maker.factory.clone(source.path, path)
    assert clone.head(path).oid == source.head()
    assert clone.status(path) == ()
    names = {str(ref.name) for ref in clone.list_refs("refs/remotes/")}
    assert names >= {"refs/remotes/origin/main", "refs/remotes/origin/topic"}
    assert clone.get_config("branch.main.remote") == ("origin",)
    clone.close()
    with refused(PathOccupiedError):
        maker.factory.clone(source.path, path)
    nowhere = maker.path("nowhere")
    with refused(RemoteError):
        maker.factory.clone(source.beside("none"), nowhere)
    assert not source.disk.is_folder(nowhere)
    bare = maker.factory.clone(source.path, maker.path("bare.git"), bare=True)
    assert bare.is_bare
    assert {r.name.short for r in bare.list_refs("refs/heads/")} == {"main", "topic"}
    bare.close()


@check("fetch", requires=(Capability.FETCH,))
def check_fetch_brings_what_is_new(maker: BackendMaker) -> None:
    """Fetch moves the remote branches, takes refspecs, and prunes when asked; an unknown remote is RemoteError."""
    source = maker.repository()
    source.branch("topic")
    path = maker.path("clone")
    clone = maker.factory.clone(source.path, path)
    new = source.commit({"a.txt": "new\n"})
    source.backend.update_ref(RefName.branch("topic"), None, source.log(new)[1])
    clone.fetch("origin")
    assert clone.resolve(Revision("origin/main")) == new
    assert clone.read_ref(RefName("refs/remotes/origin/topic")) is not None
    clone.fetch("origin", prune=True)
    assert clone.read_ref(RefName("refs/remotes/origin/topic")) is None
    clone.fetch("origin", ["+refs/heads/main:refs/heads/copied"])
    copied = clone.read_ref(RefName.branch("copied"))
    assert copied is not None
    assert copied.oid == new
    with refused(RemoteError):
        clone.fetch("nobody")
    with refused(RemoteError):
        clone.fetch("origin", ["refs/heads/none:refs/heads/x"])
    clone.close()


CHECKS = collected(globals())
