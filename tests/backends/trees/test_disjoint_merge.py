"""Merges of trees without a process, with git's own merge as the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum.backends.cli import CliBackend
from arboretum.backends.memory import File
from arboretum.backends.trees.disjoint_merge import Entries, merge_disjoint, parse_tree
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.testing.strategies import edited_trees, file_trees
from arboretum.values import FileMode, Oid

BASE = {f"{folder}{name}": File(f"{folder}{name}\n".encode() * 9) for folder in ("", "d/", "d/e/") for name in "abc"}


@st.composite
def three(draw: st.DrawFn) -> tuple[dict[str, File], dict[str, File], dict[str, File]]:
    """A tree and what two sides have made of it."""
    base = BASE | draw(st.sampled_from([{}, {"x": File(b"d/a", FileMode.SYMLINK)}])) | draw(file_trees(max_files=2))
    base = {p: f for p, f in base.items() if not any(other.startswith(f"{p}/") for other in base)}
    return base, draw(edited_trees(base)), draw(edited_trees(base))


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(trees=three())
def test_a_merge_without_a_process_is_git_s(
    tmp_path_factory: pytest.TempPathFactory,
    object_format: str,
    trees: tuple[dict[str, File], dict[str, File], dict[str, File]],
) -> None:
    """Where the paths touched are disjoint, the composed tree is the one that git's merge makes; else git decides."""
    builder = RepositoryBuilder.init(tmp_path_factory.mktemp("m") / "r", object_format=object_format)
    base, ours, theirs = trees
    builder.commits(
        [
            CommitSpec(dict(base), "base", parents=[]),
            CommitSpec(changes(base, ours), "ours", "ours", parents=[":1"]),
            CommitSpec(changes(base, theirs), "theirs", "theirs", parents=[":1"]),
        ]
    )
    tips = [Oid(builder.git("rev-parse", name)) for name in ("main", "ours", "theirs")]
    backend = CliBackend.open(builder.path)
    try:
        expected = backend.merge_trees(tips[1], tips[2])  # git finds the base by itself, so that it is git's merge
        assert backend.merge_trees(tips[1], tips[2], base=tips[0]) == expected
        if expected.tree is not None:
            builder.git("fsck", "--strict", expected.tree)
    finally:
        backend.close()


def changes(before: dict[str, File], after: dict[str, File]) -> dict[str, File | None]:
    gone: dict[str, File | None] = {path: None for path in before if path not in after}
    return gone | {path: file for path, file in after.items() if before.get(path) != file}


def oid(number: int) -> Oid:
    return Oid(f"{number:040x}")


@pytest.mark.parametrize(
    ("base", "ours", "theirs"),
    [
        ({b"a": 1}, {b"a": 2}, {b"a": 3}),
        ({b"a": 1}, {b"a": 2}, {b"a": 2}),
        ({b"a": 1, b"z": 9}, {b"z": 8}, {b"z": 9, b"y": 1}),
        ({b"a": 1, b"z": 9}, {b"z": 9, b"b": 1}, {b"z": 9, b"c": 1}),
        ({}, {b"a": 1}, {b"a": 2}),
    ],
    ids=["both change", "both alike", "one deletes", "both rename", "both add"],
)
def test_what_both_sides_touch_is_left_to_git(
    base: dict[bytes, int], ours: dict[bytes, int], theirs: dict[bytes, int]
) -> None:
    """A path that both sides have touched, even alike, is not decided here; one that one side has, is."""
    trees: dict[Oid, Entries] = {
        oid(1000 + number): {name: (b"100644", bytes.fromhex(oid(value))) for name, value in tree.items()}
        for number, tree in enumerate((base, ours, theirs))
    }
    written: list[Entries] = []
    found = merge_disjoint(
        oid(1000), oid(1001), oid(1002), read=trees.__getitem__, write=lambda e: (written.append(e), oid(2000))[1]
    )
    touched = [{n for n in base.keys() | side.keys() if base.get(n) != side.get(n)} for side in (ours, theirs)]
    assert (found is None) == bool(touched[0] & touched[1])
    if found is not None:
        assert {name: int.from_bytes(value) for name, (_mode, value) in written[-1].items()} == {b"z": 8, b"y": 1}


def test_trees_are_read_as_git_writes_them(real: RepositoryBuilder) -> None:
    """The entries of a tree object are those that ls-tree lists."""
    tree = Path(real.path)
    (tree / "x").symlink_to("a.txt")
    real.git("add", "x")
    real.git("update-index", "--add", "--cacheinfo", f"160000,{'1' * 40},module")
    wanted = real.git("write-tree")
    backend = CliBackend.open(real.path)
    found = backend.objects.read(wanted)
    backend.close()
    assert found is not None
    listed = [line.replace("\t", " ").split(" ") for line in real.git("ls-tree", wanted).split("\n")]
    assert {name.decode(): (mode.decode(), oid.hex()) for name, (mode, oid) in parse_tree(found[1]).items()} == {
        name: (mode.lstrip("0"), oid) for mode, _kind, oid, name in listed
    }
