"""Objects through pygit2, held against git: logs, renames, merges, patches."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from arboretum.backends.libgit2 import Pygit2Backend
from arboretum.errors import (
    GitOperationError,
    ObjectMissingError,
    RevisionNotFoundError,
    UnbornHeadError,
    UnsupportedOperationError,
)
from arboretum.testing.builders import RepositoryBuilder
from arboretum.testing.strategies import edited_trees, file_trees
from arboretum.values import FileMode, LogQuery, Oid, Revision, Signature, TreeEntry

LAW = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RepositoryBuilder, Pygit2Backend]]:
    builder = RepositoryBuilder.init(tmp_path_factory.mktemp("objects") / "scratch")
    backend = Pygit2Backend.open(builder.path)
    yield builder, backend
    backend.close()


def someone(seconds: int = 0) -> Signature:
    return Signature("A U Thor", "a@example.org", dt.datetime.fromtimestamp(1_000_000_000 + seconds, dt.UTC))


def commit(backend: Pygit2Backend, tree: Oid, parents: list[Oid], seconds: int = 0, message: str = "m\n") -> Oid:
    who = someone(seconds)
    return backend.write_commit(tree=tree, parents=parents, message=message, author=who, committer=who)


def store(backend: Pygit2Backend, files: dict) -> Oid:
    entries = [TreeEntry(path, file.mode, backend.write_blob(file.data)) for path, file in files.items()]
    return backend.write_tree(entries)


@st.composite
def graphs(draw) -> list[tuple[int, tuple[int, ...], str]]:
    """Commits as (date, parents, content of the file ``a``); dates often tie and sometimes go backwards."""
    found: list[tuple[int, tuple[int, ...], str]] = []
    for number in range(draw(st.integers(2, 14))):
        pool = list(range(max(0, number - 5), number))
        parents = draw(st.lists(st.sampled_from(pool), unique=True, max_size=3)) if pool else []
        date = draw(st.sampled_from((0, number * 10, 500 - number * 10)))
        found.append((date, tuple(parents), draw(st.sampled_from("xyz"))))
    return found


@LAW
@given(graph=graphs(), picks=st.tuples(st.integers(0, 99), st.integers(0, 99)), options=st.sampled_from((0, 1, 2)))
def test_a_log_has_the_commits_of_git_log_in_its_order(scratch, graph, picks, options):
    """A log names the commits that git log names, in the same order, however dates tie or run backwards."""
    builder, backend = scratch
    oids: list[Oid] = []
    for number, (date, parents, content) in enumerate(graph):
        tree = backend.write_tree([TreeEntry("a", FileMode.FILE, backend.write_blob(content.encode()))])
        oids.append(commit(backend, tree, [oids[p] for p in parents], date, f"{number}\n"))
    tips = tuple(dict.fromkeys(oids[pick % len(oids)] for pick in picks))
    flags = ([], ["--topo-order"], ["--first-parent"])[options]
    query = LogQuery(tips, topological=options == 1, first_parent=options == 2)
    assert [c.oid for c in backend.log(query)] == builder.git("rev-list", *flags, *tips).split()
    hidden = LogQuery((oids[-1],), exclude=(oids[0],), topological=options == 1, first_parent=options == 2)
    assert [c.oid for c in backend.log(hidden)] == builder.git("rev-list", *flags, oids[-1], f"^{oids[0]}").split()
    both = LogQuery(
        tips, exclude=(oids[sum(picks) % len(oids)], oids[0]), paths=("a",), topological=options == 1,
        first_parent=options == 2,
    )  # fmt: skip
    told = builder.git("rev-list", *flags, *tips, *(f"^{oid}" for oid in both.exclude), "--", "a").split()
    assert [c.oid for c in backend.log(both)] == told
    paths = LogQuery(tips, paths=("a",), topological=options == 1, first_parent=options == 2)
    assert [c.oid for c in backend.log(paths)] == builder.git("rev-list", *flags, *tips, "--", "a").split()


def is_accidental(base: dict, ours: dict, theirs: dict) -> bool:
    """Whether git's answer hangs on the order in which it comes by the files, and differs between its versions.

    So it is where both sides add the same file (git then takes our side's, whatever was renamed to it), and
    where a side has one content under two new (or two old) names, either of which may pass for the renamed file.
    """
    added = [{path: side[path] for path in side.keys() - base.keys()} for side in (ours, theirs)]
    alike = any(added[1].get(path) == file for path, file in added[0].items())
    gone = [{path: base[path] for path in base.keys() - side.keys()} for side in (ours, theirs)]
    return alike or any(len({file.data for file in some.values()}) < len(some) for some in (*added, *gone))


@LAW
@given(data=st.data())
def test_a_merge_in_memory_comes_out_as_git_merge_tree(scratch, data):
    """A merge in memory is clean exactly when git's is, and then has the same tree."""
    builder, backend = scratch
    base = data.draw(file_trees(ugly=False))
    ours, theirs = data.draw(edited_trees(base)), data.draw(edited_trees(base))
    assume(not is_accidental(base, ours, theirs))
    root = commit(backend, store(backend, base), [])
    tips = [commit(backend, store(backend, tree), [root]) for tree in (ours, theirs)]
    done = subprocess.run(
        ["git", "merge-tree", "--write-tree", "--name-only", "-z", *tips],
        cwd=builder.path, capture_output=True, check=False,
    )  # fmt: skip
    outcome = backend.merge_trees(*tips)
    assert outcome.is_clean == (done.returncode == 0)
    if outcome.is_clean:
        assert outcome.tree == done.stdout.split(b"\0")[0].decode()


@LAW
@given(data=st.data())
def test_a_patch_made_is_a_patch_that_applies(scratch, data):
    """The text of a difference, applied to the old tree, gives the new tree: by us, and by git."""
    builder, backend = scratch
    old = data.draw(file_trees())
    new = data.draw(edited_trees(old))
    before, after = store(backend, old), store(backend, new)
    if before == after:
        return
    patch = backend.diff_text(before, after)
    assert backend.apply_to_tree(before, patch) == after
    own = subprocess.run(
        ["git", "diff-tree", "-r", "-p", "--binary", "--full-index", before, after],
        cwd=builder.path, capture_output=True, check=True,
    )  # fmt: skip
    if applied_by_git(builder, before, own.stdout) is not None:  # git cannot read its own of an empty file in " "
        assert applied_by_git(builder, before, patch) == after


def applied_by_git(builder: RepositoryBuilder, before: Oid, patch: bytes) -> str | None:
    """The tree that git makes of `before` with `patch`; None when it cannot apply it."""
    index = {**builder.environment, "GIT_INDEX_FILE": f"{builder.git_dir}/patched"}
    subprocess.run(["git", "read-tree", before], cwd=builder.path, env=index, check=True)
    done = subprocess.run(["git", "apply", "--cached"], cwd=builder.path, env=index, input=patch, check=False)
    written = subprocess.run(["git", "write-tree"], cwd=builder.path, env=index, capture_output=True, check=True)
    return written.stdout.decode().strip() if done.returncode == 0 else None


@LAW
@given(data=st.data())
def test_a_comparison_pairs_renames_as_git_does(scratch, data):
    """The paths that differ, renames paired, are those of git diff-tree -M."""
    builder, backend = scratch
    old = data.draw(file_trees())
    new = data.draw(edited_trees(old))
    before, after = store(backend, old), store(backend, new)
    fields = builder.git("diff-tree", "-r", "-M", "-z", "--name-status", before, after).split("\0")[:-1]
    wanted = set()
    while fields:
        kind = fields.pop(0)
        old_path = fields.pop(0) if kind[0] == "R" else None
        wanted.add((kind[0], old_path, fields.pop(0)))
    assert {(e.kind.value, e.old_path, e.path) for e in backend.diff_trees(before, after)} == wanted


@LAW
@given(files=file_trees())
def test_a_tree_that_was_written_is_read_back(scratch, files):
    """A tree holds exactly the entries it was written with, in git's order, whatever their names."""
    builder, backend = scratch
    tree = store(backend, files)
    read = backend.read_tree(tree)
    assert {entry.path: entry.mode for entry in read} == {path: file.mode for path, file in files.items()}
    assert [os.fsencode(e.path) for e in read] == builder.git_bytes(
        "ls-tree", "-r", "-z", "--name-only", tree
    ).split(b"\0")[:-1]  # fmt: skip


@pytest.mark.parametrize(
    "text",
    ["HEAD", "@", "main", "heads/main", "refs/heads/main", "HEAD~1", "HEAD^", "HEAD^0", "HEAD@{0}", ":/two",
     "HEAD^{/one}", "v1", "v1^{commit}", "v1~1", "HEAD^{commit}", "@~1", "main@{0}", "v1-0-gSHORT"],
)  # fmt: skip
def test_a_revision_names_what_git_says_it_names(real, text):
    """Each form of revision that libgit2 reads names the commit that git rev-parse names."""
    real.git("tag", "-a", "-m", "a tag", "v1")
    backend = Pygit2Backend.open(real.path)
    revision = text.replace("SHORT", real.git("rev-parse", "--short", "HEAD"))
    named = real.git("rev-parse", "--verify", revision)
    assert backend.resolve(Revision(revision)) == real.git("rev-parse", "--verify", f"{named}^{{commit}}")


@pytest.mark.parametrize("text", ["nope", "HEAD~9", "HEAD^2", "main@{upstream}", "HEAD..main", "a b", "HEAD:a.txt"])
def test_a_revision_without_a_commit_is_not_found(real, text):
    """What names no commit is refused as such, with the library's error as the cause."""
    with pytest.raises(RevisionNotFoundError) as caught:
        Pygit2Backend.open(real.path).resolve(Revision(text))
    assert caught.value.__cause__ is not None


def test_the_syntax_for_the_index_is_refused_by_name(real):
    """libgit2 does not read ``:path``, and says so instead of finding nothing."""
    with pytest.raises(UnsupportedOperationError, match="index"):
        Pygit2Backend.open(real.path).resolve(Revision(":a.txt"))


def test_head_without_a_commit_is_unborn(tmp_path: Path):
    """HEAD on a branch without commits is not just missing: it is unborn."""
    backend = Pygit2Backend.init(str(tmp_path / "new"))
    for text in ("HEAD", "@", "HEAD~1", "HEAD^{tree}"):
        with pytest.raises(UnbornHeadError):
            backend.resolve(Revision(text))
    with pytest.raises(RevisionNotFoundError) as caught:
        backend.resolve(Revision("HEADER"))
    assert not isinstance(caught.value, UnbornHeadError)


def test_a_missing_object_is_told_from_a_missing_name(real):
    """A ref (or an id) that names an object which is not there is not an unknown revision."""
    backend = Pygit2Backend.open(real.path)
    gone = "1" * 40
    Path(real.git_dir, "refs/heads/broken").write_text(f"{gone}\n")
    for text in (gone, "broken", "broken~2"):
        with pytest.raises(ObjectMissingError):
            backend.resolve(Revision(text))
    for read in (backend.read_commit, backend.read_blob, backend.read_tree):
        with pytest.raises(ObjectMissingError):
            read(Oid(gone))


def test_a_commit_keeps_text_that_is_no_utf8(scratch):
    """Messages and names survive as they are, in UTF-8, in a declared encoding and in neither."""
    builder, backend = scratch
    tree = backend.write_tree([])
    raw = (f"tree {tree}\nauthor \xe9 <e@x> 1 +0130\ncommitter C <c@x> 2 -0800\n").encode("latin-1")
    declared = builder.git(
        "hash-object", "-t", "commit", "-w", "--stdin", stdin=raw + b"encoding latin-1\n\n\xe9t\xe9\n"
    )
    assert backend.read_commit(Oid(declared)).message == "été\n"
    bare = builder.git("hash-object", "-t", "commit", "-w", "--stdin", stdin=raw + b"\n\xe9\n")
    found = backend.read_commit(Oid(bare))
    assert found.message.encode("utf-8", "surrogateescape") == b"\xe9\n"
    assert found.author.when.utcoffset() == dt.timedelta(hours=1, minutes=30)
    again = backend.write_commit(
        tree=found.tree, parents=[], message=found.message, author=found.author, committer=found.committer
    )
    assert again == bare


@pytest.mark.parametrize("packed", [False, True])
def test_head_is_that_of_the_repository_that_is_there_now(tmp_path: Path, packed: bool) -> None:
    """HEAD is never told of a repository that is gone, whether or not another one has taken its place."""
    place = str(tmp_path / "place")

    def made(text: str) -> Oid:
        builder = RepositoryBuilder.init(place)
        oid = builder.commit({"file": text})
        if packed:
            builder.git("pack-refs", "--all")
        return oid

    first = made("one")
    backend = Pygit2Backend.open(place)
    assert backend.head(place).oid == first
    shutil.rmtree(place)
    with pytest.raises(GitOperationError):
        backend.head(place)
    second = made("another")
    assert backend.head(place).oid == second != first
    backend.close()
