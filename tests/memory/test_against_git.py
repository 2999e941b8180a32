"""The in-memory model against real git: ids, trees, diffs, merges, patches, revisions, walks."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum.backends.memory import File, MemoryBackend, MemoryDisk
from arboretum.errors import PatchFailedError, RevisionNotFoundError
from arboretum.testing import strategies as gits
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import FileMode, LogQuery, Oid, RefName, Revision, Signature, TreeEntry

FAST = settings(
    deadline=None, max_examples=int(60 * float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))), derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip


@pytest.fixture(scope="module")
def real() -> Iterator[RepositoryBuilder]:
    with tempfile.TemporaryDirectory() as folder:
        yield RepositoryBuilder.init(f"{folder}/repo", bare=True)


def blank() -> MemoryBackend:
    return MemoryBackend.init("/r", disk=MemoryDisk())


def put_tree(memory: MemoryBackend, tree: dict[str, File]) -> Oid:
    return memory.write_tree([TreeEntry(p, f.mode, memory.write_blob(f.data)) for p, f in tree.items()])


def put_commit(memory: MemoryBackend, tree: dict[str, File], parents: tuple[Oid, ...] = ()) -> Oid:
    who = Signature("A", "a@b", dt.datetime.fromtimestamp(1_700_000_000 + len(memory.state.store), dt.UTC))
    return memory.write_commit(tree=put_tree(memory, tree), parents=parents, message="m\n", author=who, committer=who)


def import_history(memory: MemoryBackend, real: RepositoryBuilder, oids: tuple[Oid, ...]) -> None:
    """Copy commits of a real repository into memory through nothing but the port's writers."""
    for oid in oids:
        raw = real.git_bytes("cat-file", "commit", oid)
        memory.state.store._put("commit", raw)
        for tree in {raw[5:45].decode()}:
            listing = real.git_bytes("ls-tree", "-r", "-t", "-z", tree).split(b"\0")
            for line in filter(None, listing):
                kind, sub = line.split(b"\t")[0].split()[1:]
                memory.state.store._put(kind.decode(), real.git_bytes("cat-file", kind.decode(), sub.decode()))
            memory.state.store._put("tree", real.git_bytes("cat-file", "tree", tree))


@FAST
@given(tree=gits.file_trees())
def test_objects_have_the_ids_that_git_gives_them(real: RepositoryBuilder, tree: dict[str, File]) -> None:
    """A tree of any files has in memory the id that real git gives it."""
    oid = real.commits([CommitSpec(dict(tree), parents=[])])[0]
    assert put_tree(blank(), tree) == real.git("rev-parse", f"{oid}^{{tree}}")


@FAST
@given(data=st.data(), base=gits.file_trees(ugly=False, max_files=5))
def test_tree_merges_agree_with_git(real: RepositoryBuilder, data: st.DataObject, base: dict[str, File]) -> None:
    """A three-way merge of trees with renames is clean where git's is, and gives the same tree."""
    ours, theirs = (data.draw(gits.edited_trees(base)) for _ in range(2))
    memory = blank()
    trees = [base, ours, theirs]
    one = real.commits(
        [
            CommitSpec(dict(base), parents=[]),
            *(CommitSpec(dict.fromkeys(base) | dict(t), parents=[":1"]) for t in trees[1:]),
        ]
    )
    below = put_commit(memory, base)
    mine, yours = (put_commit(memory, t, (below,)) for t in trees[1:])
    outcome = memory.merge_trees(mine, yours)
    done = subprocess.run(
        ["git", "-c", "merge.directoryRenames=false", "merge-tree", "--write-tree", "--name-only", one[1], one[2]],
        cwd=real.path, env=dict(real.environment), capture_output=True, check=False,
    )  # fmt: skip
    assert outcome.is_clean == (done.returncode == 0), (outcome, done.stdout)
    if outcome.is_clean:
        assert outcome.tree == done.stdout.decode().split()[0]


@FAST
@given(data=st.data(), old=gits.file_trees())
def test_diffs_agree_with_git(real: RepositoryBuilder, data: st.DataObject, old: dict[str, File]) -> None:
    """Two trees differ in memory in the paths and ways that git names, renames included."""
    new = data.draw(gits.edited_trees(old))
    memory = blank()
    one, two = real.commits(
        [CommitSpec(dict(old), parents=[]), CommitSpec(dict.fromkeys(old) | dict(new), parents=[":1"])]
    )
    for renames in (True, False):
        raw = real.git("diff-tree", "-r", "-z", "--name-status", "-M" if renames else "--no-renames", one, two)
        fields, found = raw.split("\0"), []
        while fields and fields[0]:
            kind = fields.pop(0)[0]
            first = fields.pop(0)
            found.append((kind, fields.pop(0), first) if kind == "R" else (kind, first, None))
        entries = memory.diff_trees(put_tree(memory, old), put_tree(memory, new), renames=renames)
        assert sorted((str(e.kind), e.path, e.old_path) for e in entries) == sorted(found)


@FAST
@given(data=st.data(), old=gits.file_trees())
def test_patches_go_both_ways_between_memory_and_git(
    real: RepositoryBuilder, data: st.DataObject, old: dict[str, File]
) -> None:
    """Git applies our patches and we apply git's (binary deltas too), and both give the new tree."""
    new = data.draw(gits.edited_trees(old))
    memory = blank()
    one, two = real.commits(
        [CommitSpec(dict(old), parents=[]), CommitSpec(dict.fromkeys(old) | dict(new), parents=[":1"])]
    )
    before, after = put_tree(memory, old), put_tree(memory, new)
    if before == after:
        return
    theirs = real.git_bytes("diff-tree", "-p", "--binary", "--full-index", "-M", one, two)
    assert memory.apply_to_tree(before, theirs) == after
    mine = memory.diff_text(before, after)
    assert memory.apply_to_tree(before, mine) == after
    index = {**real.environment, "GIT_INDEX_FILE": f"{real.path}/scratch-index"}
    scratch = RepositoryBuilder(real.path, bare=True, environment=index)
    scratch.git("read-tree", one)
    scratch.git("apply", "--cached", "--whitespace=nowarn", "-", stdin=mine)
    assert scratch.git("write-tree") == after


@FAST
@given(base=gits.lines(max_size=20), data=st.data())
def test_a_patch_applies_to_a_changed_file_exactly_where_gits_does(
    real: RepositoryBuilder, data: st.DataObject, base: bytes
) -> None:
    """A patch made against another version applies, or fails, as `git apply` has it."""
    target, new = data.draw(gits.edited(base)), data.draw(gits.edited(base))
    memory = blank()
    patch = memory.diff_text(*(put_tree(memory, {"f": File(x)}) for x in (base, new)))
    if not patch:
        return
    with tempfile.TemporaryDirectory() as folder:
        with open(f"{folder}/f", "wb") as file:
            file.write(target)
        done = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", "-"], cwd=folder, input=patch, capture_output=True, check=False
        )
        with open(f"{folder}/f", "rb") as file:
            expected = file.read()
    tree = put_tree(memory, {"f": File(target)})
    if done.returncode:
        with pytest.raises(PatchFailedError) as caught:
            memory.apply_to_tree(tree, patch)
        assert caught.value.paths == ("f",)
    else:
        result = memory.apply_to_tree(tree, patch)
        assert memory.read_blob(memory.read_tree(result)[0].oid) == expected


@FAST
@given(specs=gits.histories(max_commits=10), data=st.data())
def test_walks_and_merge_bases_agree_with_git(
    real: RepositoryBuilder, specs: tuple[CommitSpec, ...], data: st.DataObject
) -> None:
    """Log order, exclusion, path limits, first parents and merge bases are git's."""
    oids = real.commits(specs)
    memory = blank()
    import_history(memory, real, oids)
    one, two = (data.draw(st.sampled_from(oids)) for _ in range(2))
    for name, flags, query in (
        ("plain", [one], LogQuery((one,))),
        ("topo", ["--topo-order", one, two], LogQuery((one, two), topological=True)),
        ("range", [one, f"^{two}"], LogQuery((one,), (two,))),
        ("first-parent", ["--first-parent", one], LogQuery((one,), first_parent=True)),
        ("paths", [one, "--", "a", "lib"], LogQuery((one,), paths=("a", "lib"))),
        ("topo paths", ["--topo-order", one, "--", "src"], LogQuery((one,), paths=("src",), topological=True)),
    ):
        assert [c.oid for c in memory.log(query)] == real.git("rev-list", *flags).split(), name
    done = subprocess.run(
        ["git", "merge-base", "--all", one, two], cwd=real.path, env=dict(real.environment), capture_output=True,
        check=False,
    )  # fmt: skip
    bases = done.stdout.decode().split()
    assert (memory.merge_base(one, two) in bases) if bases else (memory.merge_base(one, two) is None)


def test_revisions_are_read_as_git_reads_them(real: RepositoryBuilder) -> None:
    """Each form of a revision names the commit that git names, or is unknown to both."""
    oids = real.commits(
        [
            CommitSpec({"a": "1"}, "first line", parents=[], branch="rev"),
            CommitSpec({"a": "2"}, "second", branch="rev"),
            CommitSpec({"b": "1"}, "aside", branch="side", parents=[":1"]),
            CommitSpec({"c": "1"}, "merge of side", branch="rev", parents=[":2", ":3"]),
        ]
    )
    real.git("symbolic-ref", "HEAD", "refs/heads/rev")
    real.git("update-ref", "refs/tags/v1", oids[0])
    memory = blank()
    import_history(memory, real, oids)
    for line in real.git("for-each-ref", "--format=%(objectname) %(refname)").splitlines():
        oid, name = line.split(" ", 1)
        if Oid(oid) in memory.state.store:
            memory.state.refs.values[RefName(name)] = Oid(oid)
    memory.state.main.head = RefName("refs/heads/rev")
    for text in (
        "HEAD", "@", "rev", "heads/rev", "refs/heads/rev", "v1", "tags/v1", "HEAD~", "HEAD^", "HEAD^2", "HEAD^2~1",
        "HEAD~1^1", "@~2", "HEAD^0", "HEAD^{commit}", "HEAD^{}", "HEAD^3", "HEAD~9", "nothing", oids[1], oids[1][:8],
        oids[1][:8] + "~1", "HEAD^{/second}", ":/aside", "HEAD^{tree}", "HEAD^{blob}", "0" * 7, "@{-1}",
        "rev^{/no such text}", "rev^", "side",
    ):  # fmt: skip
        asked = text if text.startswith(":/") else f"{text}^{{commit}}"
        done = subprocess.run(
            ["git", "rev-parse", "--verify", "--quiet", "--end-of-options", asked], cwd=real.path,
            env=dict(real.environment), capture_output=True, check=False,
        )  # fmt: skip
        expected = done.stdout.decode().strip() or None
        try:
            found: str | None = memory.resolve(Revision(text))
        except RevisionNotFoundError:
            found = None
        assert found == expected, text


def test_modes_of_files_survive_a_patch(real: RepositoryBuilder) -> None:
    """A patch that changes only a mode, or a file into a link, does that and no more."""
    memory = blank()
    old = put_tree(memory, {"run": File(b"x\n"), "link": File(b"y\n")})
    new = put_tree(memory, {"run": File(b"x\n", FileMode.EXECUTABLE), "link": File(b"run", FileMode.SYMLINK)})
    assert memory.apply_to_tree(old, memory.diff_text(old, new)) == new
