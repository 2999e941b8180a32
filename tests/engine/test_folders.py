"""What is remembered of folders and of the form of an index never hides a change of them."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum.engine.proven_index import Folders, Layout
from arboretum.testing.builders import RepositoryBuilder
from arboretum.worktree_files.index_format import Index, IndexFormatError, Shape

NAMES: Final = ("a", "d/a", "d/b", "d/e/only", "s/single")


@contextmanager
def a_tree(*, settled: bool) -> Iterator[Path]:
    """Files of those names, made just now or some ticks of the clock ago."""
    with tempfile.TemporaryDirectory() as name:
        for path in (".git", *NAMES):
            (Path(name) / path).parent.mkdir(parents=True, exist_ok=True)
            (Path(name) / path).write_text(path)
        if settled:
            time.sleep(0.03)
            (Path(name) / "s" / "later").touch()  # by this the clock is known to have gone on
            (Path(name) / "s" / "later").unlink()
        yield Path(name)


def _swap(folder: Path) -> None:
    """Another folder with the same names in its place."""
    shutil.copytree(folder, folder.with_name("aside"), symlinks=True)
    shutil.rmtree(folder)
    folder.with_name("aside").rename(folder)


def _link(folder: Path) -> None:
    """The folder elsewhere, and a link to it in its place."""
    folder.rename(folder.with_name("elsewhere"))
    folder.symlink_to("elsewhere")


#: What a trial may do, and whether a listing has to differ after it.
HARMS: Final[dict[str, tuple[Callable[[Path], object], bool]]] = {
    "a new file": (lambda root: (root / "d" / "new").touch(), True),
    "a new folder": (lambda root: (root / "d" / "e" / "empty").mkdir(), True),
    "a file gone": (lambda root: (root / "d" / "b").unlink(), True),
    "a file renamed": (lambda root: (root / "d" / "b").rename(root / "d" / "c"), True),
    "a file moved elsewhere": (lambda root: (root / "d" / "b").rename(root / "s" / "b"), True),
    "a folder gone": (lambda root: shutil.rmtree(root / "s"), True),
    "a folder closed": (lambda root: (root / "d").chmod(0o500), True),
    "a link for a folder": (lambda root: _link(root / "s"), True),
    "a folder for another": (lambda root: _swap(root / "d"), False),
    "a file rewritten": (lambda root: (root / "a").write_text("x"), False),
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.sampled_from(sorted(HARMS)), min_size=1, max_size=3), st.booleans(), st.integers(1, 3))
def test_a_remembered_folder_hides_nothing(harms: list[str], settled: bool, looks: int) -> None:
    """Any change of the names or the kind of a folder is seen at once, however often it was looked at before."""
    layout = Layout.of([os.fsencode(name) for name in NAMES])
    with a_tree(settled=settled) as root:
        folders = Folders(str(root))
        for _ in range(looks):
            assert folders.are_exactly(layout)
        for harm in harms:
            try:
                HARMS[harm][0](root)
            except OSError:
                continue  # another one has taken its object away
            assert folders.are_exactly(layout) == Folders(str(root)).are_exactly(layout)
        if len(harms) == 1:
            assert folders.are_exactly(layout) is not HARMS[harms[0]][1]


def test_only_changed_folders_are_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that was at rest when it was looked into is not read again before it changes."""
    read: list[str] = []
    listdir = os.listdir

    def counted(path: bytes) -> list[bytes]:
        read.append(os.path.basename(os.fsdecode(path)))
        return listdir(path)

    layout = Layout.of([os.fsencode(name) for name in NAMES])
    with a_tree(settled=True) as root:
        monkeypatch.setattr(os, "listdir", counted)
        folders = Folders(str(root))
        assert folders.are_exactly(layout)
        assert len(read) == len(layout.folders)
        read.clear()
        (root / "d" / "b").rename(root / "d" / "c")
        (root / "d" / "c").rename(root / "d" / "b")
        assert folders.are_exactly(layout)
        assert read == ["d", "s"]  # "s" was the newest when it was looked into


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of an index."""
    builder = RepositoryBuilder.init(tmp_path_factory.mktemp("index") / "project")
    builder.commit({name: f"{name}\n" for name in NAMES})
    return Path(builder.path, ".git", "index").read_bytes()


def _parsed(data: bytes, like: Shape | None) -> object:
    try:
        found = Index.parse(data, sha256=False, like=like)
    except IndexFormatError:
        return None
    return found.places, found.names, found.end, found.entries()


@settings(max_examples=400, deadline=None)
@given(st.data())
def test_a_known_form_changes_nothing_that_is_read(index: bytes, data: st.DataObject) -> None:
    """Whatever bytes of an index differ from those of the one that is known, it is read as if none was known."""
    shape = Shape.of(Index.parse(index, sha256=False))
    changed = bytearray(index[:-20])
    for _ in range(data.draw(st.integers(0, 3))):
        changed[data.draw(st.integers(0, len(changed) - 1))] ^= data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, 40)) * data.draw(st.sampled_from([0, 0, 1]))
    body = bytes(changed[: len(changed) - cut])
    whole = body + hashlib.sha1(body, usedforsecurity=False).digest()
    assert _parsed(whole, shape) == _parsed(whole, None)


def test_other_times_and_contents_are_of_the_same_form(index: bytes) -> None:
    """Only stat data and object ids are free in a form."""
    found = Index.parse(index, sha256=False)
    shape = Shape.of(found)
    for place in found.places:
        for at in range(62):
            changed = bytearray(index)
            changed[place + at] ^= 1
            assert shape.is_of(bytes(changed)) == (at not in {24, 25, 26, 27, 60, 61})
