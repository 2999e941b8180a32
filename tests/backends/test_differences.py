"""Each way in which the libraries behind the adapters differ from git, and that none of it reaches a user.

The numbers are those of the project's list of differences; each docstring says what the difference is.
"""

from __future__ import annotations

import datetime as dt
import os
import shutil
from pathlib import Path

import pytest

from arboretum.backends.base import ANY, Capability, GitBackend
from arboretum.errors import (
    BranchCheckedOutError,
    ConflictError,
    DirtyWorktreeError,
    GitOperationError,
    IdentityMissingError,
    InvalidValueError,
    ObjectMissingError,
    RevisionNotFoundError,
    UnbornHeadError,
    UnsupportedOperationError,
    WorktreeLockedError,
)
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import (
    ChangeKind,
    FileMode,
    LogQuery,
    Oid,
    RefName,
    ResetMode,
    Revision,
    TreeEntry,
    WorktreeSpec,
)
from tests.backends.oracle import ADAPTERS, fingerprint, opened, status_of

MAIN = RefName.branch("main")


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def backend(adapter: str, real: RepositoryBuilder):
    found = opened(adapter, real.path)
    yield found
    found.close()


def head(real: RepositoryBuilder) -> Oid:
    return Oid(real.git("rev-parse", "HEAD"))


def shown(backend: GitBackend, worktree: str, **options: bool) -> set[tuple[str, str]]:
    """The status as git's short format writes it."""
    return {
        ((entry.index.value + entry.worktree.value).replace(".", " "), entry.path)
        for entry in backend.status(worktree, **options)
    }


# --- worktrees ----------------------------------------------------------------------------------------------


def test_01_records_of_worktrees_with_one_basename_are_told_apart(backend, real, tmp_path):
    """pygit2 takes the record's name for the branch's too, dulwich lets a second basename take over the first's record.

    Here a record gets a free name of its own, and both worktrees stay what they are.
    """
    for name in ("feature/x", "other"):
        real.branch(name)
    one = backend.add_worktree(WorktreeSpec(str(tmp_path / "a/wt"), branch=RefName.branch("feature/x")))
    two = backend.add_worktree(WorktreeSpec(str(tmp_path / "b/wt"), branch=RefName.branch("other")))
    assert one.name != two.name
    assert real.git("branch", "--show-current", cwd=one.path) == "feature/x"
    assert real.git("branch", "--show-current", cwd=two.path) == "other"


def test_02_what_an_add_writes_is_what_git_reads_and_carries_on_from(backend, real, tmp_path):
    """pygit2 writes an absolute ``commondir`` and a ``.git`` with a trailing slash; here they are as git writes them.

    Git lists, locks, moves and removes such a worktree as its own.
    """
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    record = Path(real.git_dir, "worktrees", info.name)
    assert (record / "commondir").read_text() == "../..\n"
    assert Path(info.path, ".git").read_text() == f"gitdir: {record}\n"
    assert real.git("status", "--porcelain", cwd=info.path) == ""
    real.git("worktree", "lock", info.path)
    real.git("worktree", "unlock", info.path)
    real.git("worktree", "move", info.path, str(tmp_path / "moved"))
    real.git("worktree", "remove", str(tmp_path / "moved"))
    assert len(backend.list_worktrees()) == 1


def test_03_an_empty_folder_is_taken_over_and_parents_are_made(backend, real, tmp_path):
    """pygit2 wants a target that does not exist under a parent that does; git and we take both cases."""
    (tmp_path / "empty").mkdir()
    for path in (tmp_path / "empty", tmp_path / "not/there/yet"):
        info = backend.add_worktree(WorktreeSpec(str(path), detach=head(real)))
        assert Path(info.path, "a.txt").read_text() == "one\ntwo\nthree\n"


def test_04_a_failed_add_leaves_nothing(backend, real, tmp_path):
    """A failed add of pygit2 leaves a half-made record (and the branch); here neither folder nor record is left."""
    broken = real.git("mktree", "--missing", stdin=f"100644 blob {'1' * 40}\tgone\n".encode())
    commit = Oid(real.git("commit-tree", "-m", "broken", broken))
    before = fingerprint(real)
    with pytest.raises(ObjectMissingError):
        backend.add_worktree(WorktreeSpec(str(tmp_path / "deep/wt"), detach=commit))
    assert fingerprint(real) == before
    assert not (tmp_path / "deep/wt").exists()
    assert not list(Path(real.git_dir, "worktrees").glob("*"))


def test_04_half_made_records_of_others_poison_nothing(backend, real, tmp_path):
    """Two empty record folders side by side make libgit2 take every branch for checked out, until git prunes them.

    Here every operation goes on: add, checkout, branch rename and delete, list.
    """
    for name in ("p", "q", "r", "s"):
        Path(real.git_dir, "worktrees", name).mkdir(parents=True)
    real.branch("free")
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), branch=RefName.branch("free")))
    assert [w.path for w in backend.list_worktrees()] == [real.path, info.path]
    backend.checkout(info.path, head(real))
    backend.rename_branch(RefName.branch("free"), RefName.branch("renamed"))
    backend.checkout(info.path, RefName.branch("renamed"))
    backend.checkout(info.path, head(real))
    backend.update_ref(RefName.branch("renamed"), None, head(real))
    assert [ref.name for ref in backend.list_refs()] == [MAIN]


def test_05_a_branch_in_use_is_refused_also_in_the_middle_of_a_rebase(backend, real, tmp_path):
    """The libraries check out again a branch that is being rebased elsewhere (dulwich any); git and we refuse."""
    base = head(real)
    real.branch("topic")
    other = backend.add_worktree(WorktreeSpec(str(tmp_path / "other"), branch=RefName.branch("topic")))
    with pytest.raises(BranchCheckedOutError):
        backend.add_worktree(WorktreeSpec(str(tmp_path / "again"), branch=RefName.branch("topic")))
    with pytest.raises(BranchCheckedOutError):
        backend.checkout(real.path, RefName.branch("topic"))
    real.commit({"a.txt": "main\n"}, "on main")
    Path(other.path, "a.txt").write_text("topic\n")
    real.git("commit", "-qam", "on topic", cwd=other.path)
    with pytest.raises(AssertionError, match="conflict"):
        real.git("rebase", "main", cwd=other.path)
    assert backend.head(other.path).is_detached
    with pytest.raises(BranchCheckedOutError):
        backend.add_worktree(WorktreeSpec(str(tmp_path / "again"), branch=RefName.branch("topic")))
    assert not (tmp_path / "again").exists()
    assert base != head(real)


def test_06_a_removed_worktree_is_gone_and_a_dirty_or_locked_one_is_not(backend, real, tmp_path):
    """pygit2's prune removes only the record, dulwich removes dirty worktrees without being told to force.

    Here folder and record go together, changes need ``force``, and a lock holds even against that.
    """
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    Path(info.path, "untracked").write_text("mine")
    with pytest.raises(DirtyWorktreeError):
        backend.remove_worktree(info.path)
    backend.lock_worktree(info.path, reason="on a USB disk")
    for force in (False, True):
        with pytest.raises(WorktreeLockedError, match="USB"):
            backend.remove_worktree(info.path, force=force)
    assert Path(info.path, "untracked").read_text() == "mine"
    backend.unlock_worktree(info.path)
    backend.remove_worktree(info.path, force=True)
    assert not Path(info.path).exists()
    assert real.git("worktree", "list").count("\n") == 0


def test_07_worktrees_are_listed_in_gits_order_with_reasons(backend, real, tmp_path):
    """The libraries list in the folder's order, leave out the main worktree and give no reason to prune one."""
    for name in ("c", "a", "b"):
        backend.add_worktree(WorktreeSpec(str(tmp_path / name), detach=head(real)))
    shutil.rmtree(tmp_path / "b")
    shutil.rmtree(tmp_path / "c")
    record = next(info for info in backend.list_worktrees() if info.path.endswith("/c"))
    Path(real.git_dir, "worktrees", record.name, "locked").write_text("kept\n")
    listed = backend.list_worktrees()
    assert [w.path for w in listed] == [real.path, *(str(tmp_path / n) for n in "abc")]
    assert [w.prunable for w in listed] == [None, None, "gitdir file points to non-existent location", None]
    assert listed[3].locked == "kept"
    said = [line for line in real.git("worktree", "list", "--porcelain").splitlines() if line.startswith("prunable")]
    assert said == [f"prunable {listed[2].prunable}"]


def test_08_a_worktree_moved_by_hand_is_worked_on_where_it_is(backend, real, tmp_path, adapter):
    """pygit2 takes the folder from the record: after a move by hand it works at the old place, on what lies there."""
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    moved = str(tmp_path / "moved")
    os.rename(info.path, moved)
    Path(info.path).mkdir()
    Path(info.path, "a.txt").write_text("not yours")
    Path(moved, "a.txt").write_text("changed\n")
    for view in (backend, opened(adapter, moved)):
        assert shown(view, moved) == {(" M", "a.txt")}
        view.reset(moved, head(real), ResetMode.HARD)
        assert Path(moved, "a.txt").read_text() == "one\ntwo\nthree\n"
        Path(moved, "a.txt").write_text("changed\n")
    assert Path(info.path, "a.txt").read_text() == "not yours"
    with pytest.raises(GitOperationError):
        backend.remove_worktree(info.path, force=True)
    assert Path(info.path, "a.txt").read_text() == "not yours"
    backend.repair_worktrees([moved])
    assert [w.path for w in backend.list_worktrees()] == [real.path, moved]


def test_09_the_real_path_is_recorded_and_any_path_is_listed(backend, real, tmp_path):
    """With dulwich a symbolic link stays in a recorded path; a line break breaks every listing but git's -z."""
    (tmp_path / "real-parent").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real-parent")
    through = backend.add_worktree(WorktreeSpec(str(tmp_path / "link/wt"), detach=head(real)))
    assert through.path == str(tmp_path / "real-parent/wt")
    odd = tmp_path / "line\nbreak and \udcff bytes"
    backend.add_worktree(WorktreeSpec(str(odd), detach=head(real)))
    paths = {w.path for w in backend.list_worktrees()}
    assert paths == {real.path, through.path, str(odd)}
    listed = real.git("worktree", "list", "--porcelain", "-z").split("\0")
    assert {line.removeprefix("worktree ") for line in listed if line.startswith("worktree ")} == paths
    backend.remove_worktree(str(odd))
    backend.remove_worktree(str(tmp_path / "link/wt"))


def test_10_an_add_does_what_it_is_told_and_guesses_nothing(backend, real, tmp_path):
    """Git guesses: a branch from the folder's name, an upstream from a remote branch; the libraries do not.

    Here nothing is guessed: the only ref and the only configuration are those that were there.
    """
    real.git("update-ref", "refs/remotes/origin/topic", "HEAD")
    real.git("config", "remote.origin.url", real.path)
    real.branch("topic")
    before = (real.git("for-each-ref"), real.git("config", "--local", "--list"))
    backend.add_worktree(WorktreeSpec(str(tmp_path / "topic"), branch=RefName.branch("topic")))
    backend.add_worktree(WorktreeSpec(str(tmp_path / "new"), detach=head(real)))
    assert (real.git("for-each-ref"), real.git("config", "--local", "--list")) == before


def test_11_a_sparse_checkout_is_kept_sparse_or_refused(backend, real, tmp_path):
    """pygit2 writes the whole tree into a worktree of a sparse checkout, and takes what is left out for deleted."""
    real.git("sparse-checkout", "set", "--cone", "nothing")
    before = fingerprint(real)
    if Capability.SPARSE_CHECKOUT in backend.capabilities():
        info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
        assert not Path(info.path, "d").exists()
        assert backend.status(info.path) == backend.status(real.path) == ()
        return
    for act in (
        lambda: backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real))),
        lambda: backend.status(real.path),
        lambda: backend.reset(real.path, head(real), ResetMode.HARD),
        lambda: backend.checkout(real.path, head(real)),
        lambda: backend.clean(real.path),
        lambda: backend.stage(real.path, ["."]),
        lambda: backend.stash_create(real.path, "wip"),
    ):
        with pytest.raises(UnsupportedOperationError, match="sparse"):
            act()
    assert fingerprint(real) == before
    assert backend.head(real.path).branch == MAIN  # reads that need no files go on


def test_12_worktrees_with_submodules_are_not_removed_by_chance(backend, real, tmp_path):
    """A worktree with submodules is removed by git only with force, and never moved; the libraries do not look."""
    inner = RepositoryBuilder.init(tmp_path / "inner")
    inner.commit({"i.txt": "i"}, "inner")
    real.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", inner.path, "sub")
    real.git("commit", "-qm", "with a submodule")
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    real.git("-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init", cwd=info.path)
    assert real.git("status", "--porcelain", cwd=info.path) == ""
    with pytest.raises(DirtyWorktreeError, match="submodule"):
        backend.remove_worktree(info.path)
    with pytest.raises(GitOperationError, match="submodule"):
        backend.move_worktree(info.path, str(tmp_path / "moved"))
    assert Path(info.path, "sub/i.txt").exists()
    backend.remove_worktree(info.path, force=True)


def test_13_a_bare_repository_is_on_no_branch(adapter, tmp_path):
    """With dulwich there is a branch for the bare repository's own entry; git and we say: bare."""
    real = RepositoryBuilder.init(tmp_path / "bare.git", bare=True)
    commit = real.commit({"a": "a"}, "one")
    backend = opened(adapter, real.path)
    assert backend.is_bare
    assert backend.worktree_path is None
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=commit))
    main, linked = backend.list_worktrees()
    assert (main.path, main.bare, main.branch, main.head) == (real.path, True, None, None)
    assert (linked.path, linked.bare, linked.head) == (info.path, False, commit)
    inside = opened(adapter, info.path)
    assert inside.is_bare
    assert inside.worktree_path == info.path


# --- status and index ---------------------------------------------------------------------------------------


def test_14_conflicts_have_gits_letters(backend, real):
    """pygit2 has one flag for all conflicts, dulwich says MM, GitPython UM; git and we have letters for each kind."""
    one, two, three = (real.git("hash-object", "-w", "--stdin", stdin=data) for data in (b"1", b"2", b"3"))
    kinds = {"dd": "1", "au": "2", "ud": "12", "ua": "3", "du": "13", "aa": "23", "uu": "123"}
    oids = {"1": one, "2": two, "3": three}
    lines = [f"100644 {oids[s]} {s}\t{name}\n" for name, stages in kinds.items() for s in stages]
    real.git("update-index", "--index-info", stdin="".join(lines).encode())
    found = shown(backend, real.path)
    assert found == status_of(real)
    assert {xy for xy, path in found if path in kinds} == {"DD", "AU", "UD", "UA", "DU", "AA", "UU"}
    assert {e.path for e in backend.status(real.path) if e.is_conflict} == set(kinds)


def test_15_a_file_only_intended_to_be_added_is_not_staged(backend, real):
    """pygit2 and dulwich show ``git add -N`` as staged and modified; git and we show an unstaged addition."""
    Path(real.path, "later.txt").write_text("content\n")
    real.git("add", "-N", "later.txt")
    assert shown(backend, real.path) == status_of(real) == {(" A", "later.txt")}
    Path(real.path, "a.txt").write_text("changed\n")
    backend.stage(real.path, ["a.txt"])
    commit = backend.commit(real.path, "without it")
    assert "later.txt" not in {entry.path for entry in backend.read_tree(commit)}
    assert shown(backend, real.path) == {(" A", "later.txt")}


def test_16_a_name_that_is_no_utf8_hides_nothing(backend, real):
    """GitPython's comparison fails in a thread and comes back empty for a name that is no UTF-8: dirty looks clean."""
    name = os.fsdecode(b"d/caf\xe9")
    Path(real.path, name).write_text("1\n")
    Path(real.path, os.fsdecode(b"new\xff")).write_text("1\n")
    backend.stage(real.path, [name])
    first = backend.commit(real.path, "a name in Latin-1")
    Path(real.path, name).write_text("2\n")
    assert shown(backend, real.path) == {(" M", name), ("??", os.fsdecode(b"new\xff"))}
    stash = backend.stash_create(real.path, "wip", untracked=True)
    assert stash is not None
    backend.reset(real.path, first, ResetMode.HARD)
    assert backend.clean(real.path) == (os.fsdecode(b"new\xff"),)
    backend.stash_apply(real.path, stash)
    assert Path(real.path, name).read_text() == "2\n"
    backend.stage(real.path, ["d"])
    second = backend.commit(real.path, "changed")
    assert [(e.path, e.kind) for e in backend.diff_trees(first, second)] == [(name, ChangeKind.MODIFIED)]
    assert name in {entry.path for entry in backend.read_tree(second)}
    patch = backend.diff_text(first, second)
    assert backend.apply_to_tree(first, patch) == backend.read_commit(second).tree


def test_17_a_status_is_gits_status(backend, real, tmp_path):
    """With dulwich modes, assume-unchanged, excludes and nested repositories are overlooked, types are modified."""
    real.commit({"mode": "m", "assumed": "a", "type": "t", "staged": "s", "gone": "g", "both": "b"}, "more")
    path = Path(real.path)
    (path / "mode").chmod(0o755)
    real.git("update-index", "--assume-unchanged", "assumed")
    (path / "assumed").write_text("changed")
    (path / "type").unlink()
    (path / "type").symlink_to("a.txt")
    (path / "staged").write_text("changed")
    (path / "both").write_text("1")
    real.git("add", "staged", "both")
    (path / "both").write_text("2")
    (path / "gone").unlink()
    (path / "d/new").write_text("n")
    Path(real.git_dir, "info").mkdir(exist_ok=True)
    Path(real.git_dir, "info/exclude").write_text("*.log\nbuild/\n")
    (path / "x.log").write_text("l")
    (path / "build").mkdir()
    (path / "build/out").write_text("o")
    RepositoryBuilder.init(path / "nested").commit({"n": "n"}, "n")
    assert shown(backend, real.path) == status_of(real)
    ignored = {entry.path for entry in backend.status(real.path, ignored=True) if entry.is_ignored}
    assert ignored == {"x.log", "build/", *()}
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    Path(info.path, "y.log").write_text("l")
    assert backend.status(info.path) == ()


def test_18_a_status_writes_nothing(backend, real):
    """``git status`` refreshes the index on disk, under its lock; a look never writes here."""
    index = Path(real.git_dir, "index")
    os.utime(Path(real.path, "a.txt"), (1, 1))  # stale in the index: an optional refresh would write it
    before = (index.read_bytes(), index.stat().st_mtime_ns, index.stat().st_ino)
    assert backend.status(real.path) == ()
    assert (index.read_bytes(), index.stat().st_mtime_ns, index.stat().st_ino) == before
    Path(real.git_dir, "index.lock").touch()
    assert backend.status(real.path) == ()


def test_19_answers_do_not_depend_on_the_users_settings(backend, real):
    """status.showUntrackedFiles, status.renames, diff.renames and their kin change what git answers."""
    before = head(real)
    for key, value in {
        "status.showUntrackedFiles": "no", "status.renames": "copies", "diff.renames": "false", "diff.noprefix": "true",
        "diff.mnemonicPrefix": "true", "core.quotePath": "true", "color.ui": "always", "log.showSignature": "true",
        "diff.external": "false", "core.pager": "false", "log.date": "relative", "diff.algorithm": "patience",
        "status.relativePaths": "false", "log.follow": "true", "diff.ignoreSubmodules": "all",
    }.items():  # fmt: skip
        real.git("config", key, value)
    path = Path(real.path)
    (path / "new").write_text("n")
    (path / "a.txt").rename(path / "moved.txt")
    assert shown(backend, real.path) == {("??", "new"), ("??", "moved.txt"), (" D", "a.txt")}
    backend.stage(real.path, ["."])
    (entry,) = [e for e in backend.status(real.path, renames=True) if e.old_path]
    assert (entry.path, entry.old_path, entry.index) == ("moved.txt", "a.txt", ChangeKind.RENAMED)
    assert ("A ", "moved.txt") in shown(backend, real.path)
    after = backend.commit(real.path, "moved")
    kinds = {(e.path, e.kind) for e in backend.diff_trees(before, after)}
    assert kinds == {("moved.txt", ChangeKind.RENAMED), ("new", ChangeKind.ADDED)}
    assert backend.apply_to_tree(before, backend.diff_text(before, after)) == backend.read_commit(after).tree
    assert [c.oid for c in backend.log(LogQuery((after,), limit=1))] == [after]


def test_20_what_another_program_staged_is_never_dropped(backend, real):
    """pygit2 and GitPython keep the index in memory: writing it back drops what another program staged meanwhile."""
    for name in ("first", "second", "third"):
        Path(real.path, name).write_text(name)
    backend.status(real.path)
    backend.stage(real.path, ["first"])
    real.git("add", "second")
    assert ("A ", "second") in shown(backend, real.path)
    backend.stage(real.path, ["third"])
    assert status_of(real) == {("A ", "first"), ("A ", "second"), ("A ", "third")}


# --- refs, HEAD, commits ------------------------------------------------------------------------------------


def test_21_every_move_of_a_branch_is_in_its_reflog(backend, real):
    """The texts of reflogs differ from library to library and are no contract; that there is an entry is one."""
    topic = RefName.branch("topic")
    first, second = Oid(real.git("rev-parse", "HEAD~1")), head(real)
    backend.update_ref(topic, first, None, message="made by a test")
    backend.update_ref(topic, second, first, message="moved by a test")
    assert real.git("reflog", "show", "--format=%H", "topic").split() == [second, first]
    backend.checkout(real.path, topic)
    backend.commit(real.path, "more", allow_empty=True)
    backend.reset(real.path, first, ResetMode.HARD)
    assert real.git("reflog", "show", "--format=%H", "HEAD").split()[0] == first
    assert len(real.git("reflog", "show", "topic").splitlines()) == 4
    backend.rename_branch(topic, RefName.branch("renamed"))
    assert len(real.git("reflog", "show", "renamed").splitlines()) >= 4


def test_22_the_identity_comes_from_the_environment_as_gits_does(backend, real, monkeypatch):
    """pygit2 looks only into the configuration; GitPython shifts a date by its own offset; dulwich ignores it.

    With no identity at all the libraries invent one from the host's name; here it is refused.
    """
    real.git("config", "user.name", "From Configuration")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "  From. Environment <>")
    monkeypatch.setenv("GIT_AUTHOR_DATE", "2020-02-03T00:00:00+02:00")
    monkeypatch.delenv("GIT_COMMITTER_NAME")
    monkeypatch.setenv("GIT_COMMITTER_DATE", "1580680800 -0130")
    made = backend.read_commit(backend.commit(real.path, "by whom", allow_empty=True))
    assert (made.author.name, made.committer.name) == ("From. Environment", "From Configuration")
    assert made.author.when == dt.datetime(2020, 2, 3, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    assert made.author.when.utcoffset() == dt.timedelta(hours=2)
    assert real.git("log", "-1", "--format=%ad %cd", "--date=raw") == "1580680800 +0200 1580680800 -0130"
    real.git("config", "--unset", "user.name")
    for name in ("GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL", "EMAIL"):
        monkeypatch.delenv(name, raising=False)
    before = fingerprint(real)
    with pytest.raises(IdentityMissingError):
        backend.commit(real.path, "by nobody", allow_empty=True)
    assert fingerprint(real) == before


def test_23_messages_are_tidied_as_git_tidies_them(backend, real):
    """Blanks at line ends and in rows are stripped by git; the libraries store messages as they get them."""
    made = backend.commit(real.path, "\n\n subject  \n\n\n\n body\t\n# not a comment\n\n", allow_empty=True)
    assert real.git("cat-file", "commit", made).partition("\n\n")[2] == " subject\n\n body\n# not a comment"
    with pytest.raises(GitOperationError, match="message"):
        backend.commit(real.path, " \n\n", allow_empty=True)


def test_24_a_changed_home_is_seen(adapter, real, tmp_path, monkeypatch):
    """libgit2 looks HOME up once, when it is loaded, and ignores GIT_CONFIG_GLOBAL.

    What a command line sets for itself alone (GIT_CONFIG_COUNT) leaks into none of the backends.
    """
    monkeypatch.delenv("GIT_CONFIG_GLOBAL")
    for name in ("one", "two"):
        (tmp_path / name / ".config/git").mkdir(parents=True)
        (tmp_path / name / ".gitconfig").write_text(f"[test]\n\tkey = {name}\n")
        monkeypatch.setenv("HOME", str(tmp_path / name))
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / name / ".config"))
        assert opened(adapter, real.path).get_config("test.key") == (name,)
    (tmp_path / "elsewhere").write_text("[test]\n\tkey = file\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "elsewhere"))
    assert opened(adapter, real.path).get_config("test.key") == ("file",)
    for name, value in {"COUNT": "1", "KEY_0": "Test.Key", "VALUE_0": "of one command"}.items():
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    assert opened(adapter, real.path).get_config("test.key") == ("file",)


def test_25_an_unborn_head_and_a_head_through_an_alias(adapter, tmp_path, real):
    """Each library raises another error for an unborn HEAD, and takes an alias of a branch for the branch."""
    empty = RepositoryBuilder.init(tmp_path / "empty", initial_branch="trunk")
    backend = opened(adapter, empty.path)
    assert backend.head(empty.path).branch == RefName.branch("trunk")
    assert backend.head(empty.path).is_unborn
    assert backend.read_ref(RefName("HEAD")) is None
    with pytest.raises(UnbornHeadError):
        backend.resolve(Revision("HEAD"))
    assert [w.head for w in backend.list_worktrees()] == [None]
    real.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    real.git("symbolic-ref", "HEAD", "refs/heads/alias")
    assert opened(adapter, real.path).head(real.path).branch == MAIN


def test_26_a_checkout_keeps_what_is_nowhere_else(backend, real):
    """With dulwich a checkout overwrites untracked files; git and we refuse, and overwrite only what is ignored."""
    path = Path(real.path)
    first, second = Oid(real.git("rev-parse", "HEAD~1")), head(real)
    backend.checkout(real.path, first)
    (path / "d/c.txt").write_text("precious")
    with pytest.raises(DirtyWorktreeError):
        backend.checkout(real.path, second)
    assert (path / "d/c.txt").read_text() == "precious"
    assert backend.head(real.path).oid == first
    Path(real.git_dir, "info").mkdir(exist_ok=True)
    Path(real.git_dir, "info/exclude").write_text("c.txt\n")
    backend.checkout(real.path, second)
    assert (path / "d/c.txt").read_text() == "c\n"
    (path / "a.txt").write_text("kept, because both commits have it alike\n")
    backend.checkout(real.path, first)
    assert (path / "a.txt").read_text() == "kept, because both commits have it alike\n"


def test_27_a_stash_that_conflicts_is_kept_and_changes_nothing(backend, real):
    """``pygit2.stash_pop`` writes conflict markers, reports success and drops the stash: the work is lost."""
    path = Path(real.path)
    (path / "a.txt").write_text("one\nmine\nthree\n")
    stash = backend.stash_create(real.path, "mine")
    assert stash is not None
    backend.stash_store(stash, "On main: mine")
    backend.reset(real.path, head(real), ResetMode.HARD)
    (path / "a.txt").write_text("one\ntheirs\nthree\n")
    with pytest.raises(ConflictError):
        backend.stash_apply(real.path, stash)
    assert (path / "a.txt").read_text() == "one\ntheirs\nthree\n"
    backend.stage(real.path, ["a.txt"])
    backend.commit(real.path, "theirs")
    before = fingerprint(real)
    with pytest.raises(ConflictError) as caught:
        backend.stash_apply(real.path, stash)
    assert caught.value.paths == ("a.txt",)
    assert fingerprint(real) == before
    assert [entry.oid for entry in backend.stash_list()] == [stash]


def test_28_nothing_to_stash_is_no_error(backend, real):
    """``pygit2.stash`` raises a KeyError where there is nothing to stash; here the answer is: no stash."""
    assert backend.stash_create(real.path, "nothing") is None
    Path(real.path, "untracked").write_text("u")
    assert backend.stash_create(real.path, "nothing tracked") is None
    assert backend.stash_create(real.path, "untracked", untracked=True) is not None


def test_29_values_of_one_instance_serve_another(adapter, real, tmp_path):
    """A pygit2 object used with another Repository instance than its own is refused; only plain values cross here."""
    one, two = opened(adapter, real.path), opened(adapter, real.path)
    info = one.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    three = opened(adapter, info.path)
    tree = one.write_tree([TreeEntry("x", FileMode.FILE, two.write_blob(b"x"))])
    commit = two.commit(info.path, "from the other one", allow_empty=True)
    assert three.read_commit(commit).parents == (head(real),)
    assert three.diff_trees(commit, tree)
    assert one.merge_base(commit, head(real)) == head(real)


def test_30_refs_of_one_worktree_belong_to_it(adapter, real, tmp_path):
    """GitPython's list leaves ``refs/worktree/`` out, which each worktree has for itself."""
    backend = opened(adapter, real.path)
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=Oid(real.git("rev-parse", "HEAD~1"))))
    inside = opened(adapter, info.path)
    name = RefName("refs/worktree/mark")
    inside.update_ref(name, Oid(real.git("rev-parse", "HEAD~1")), None)
    backend.update_ref(name, head(real), None)
    assert {ref.name: ref.oid for ref in inside.list_refs()}[name] == real.git("rev-parse", "HEAD~1")
    assert {ref.name: ref.oid for ref in backend.list_refs()}[name] == head(real)
    found = backend.read_ref(name, worktree=info.path)
    assert found is not None
    assert found.oid == real.git("rev-parse", "HEAD~1")
    assert backend.resolve(Revision("HEAD"), worktree=info.path) == real.git("rev-parse", "HEAD~1")


def test_31_configuration_of_one_worktree_is_read(adapter, real, tmp_path):
    """GitPython and dulwich do not read ``config.worktree``; all write the shared file, and so do we."""
    real.git("config", "extensions.worktreeConfig", "true")
    backend = opened(adapter, real.path)
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    real.git("config", "test.key", "shared")
    real.git("config", "--worktree", "test.key", "private", cwd=info.path)
    assert backend.get_config("test.key") == ("shared",)
    assert backend.get_config("test.key", worktree=info.path) == ("shared", "private")
    backend.set_config("test.key", "new")
    assert real.git("config", "--get-all", "test.key", cwd=info.path).split() == ["new", "private"]


def test_32_a_repack_behind_the_back_is_survived(backend, real):
    """With its own object database GitPython fails after ``git repack -ad``, because it keeps the old packs open."""
    real.git("repack", "-adq")
    first = backend.read_commit(head(real))
    real.commit({"more": "m" * 1000}, "more")
    real.git("repack", "-adq")
    real.git("pack-refs", "--all", "--prune")
    assert backend.read_commit(head(real)).parents == (first.oid,)
    assert backend.read_blob(Oid(real.git("rev-parse", "HEAD:more"))) == b"m" * 1000
    assert [ref.name for ref in backend.list_refs()] == [MAIN]


def test_33_no_argument_is_taken_for_an_option(backend, real, tmp_path):
    """``repo.git.log("--output=...")`` of GitPython wrote a file; a text that starts with a dash is no option here."""
    evil = f"--output={tmp_path}/written"
    for make in (Revision, RefName, RefName.branch, RefName.tag, Oid):
        with pytest.raises(InvalidValueError):
            make(evil)
    with pytest.raises(GitOperationError):
        backend.stage(real.path, [evil])
    with pytest.raises((GitOperationError, InvalidValueError)):
        backend.fetch(f"--upload-pack=touch {tmp_path}/written")
    with pytest.raises((GitOperationError, InvalidValueError)):
        backend.fetch(real.path, [f"--upload-pack=touch {tmp_path}/written"])
    with pytest.raises((GitOperationError, InvalidValueError)):
        backend.fetch(f"ext::touch {tmp_path}/written")
    with pytest.raises((GitOperationError, InvalidValueError)):
        type(backend).clone(f"--upload-pack=touch {tmp_path}/written", str(tmp_path / "clone"))
    with pytest.raises(GitOperationError):
        backend.get_config("--list")
    with pytest.raises(GitOperationError):
        backend.set_config("--unset-all", "core.bare")
    Path(real.path, "--force").write_text("a file like any other\n")
    backend.stage(real.path, ["--force"])
    made = backend.commit(real.path, "--amend")
    assert backend.read_commit(made).message == "--amend\n"
    assert [c.oid for c in backend.log(LogQuery((made,), paths=("--force",)))] == [made]
    assert not (tmp_path / "written").exists()
    with pytest.raises(RevisionNotFoundError):
        backend.resolve(Revision("HEAD --output=x"))
    backend.update_ref(RefName.branch("topic"), made, ANY)
