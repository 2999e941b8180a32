"""A copied worktree is as if git had checked it out, and holds nothing but the commit. Real git is the oracle."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.testing.builders import RepositoryBuilder
from arboretum.testing.strategies import file_trees
from arboretum.worktree_files import copying
from arboretum.worktree_files.copying import CloneFiles, CopyFiles
from arboretum.worktree_files.index_format import STAT_BYTES, Index
from arboretum.worktree_files.turns import Turns
from tests.worktree_files.conftest import empty, entries, is_fresh, portrait, sibling_of, warm

SECRET = b"a secret of the sibling"


def stat_data(builder: RepositoryBuilder, tree: Path, *, sha256: bool = False) -> dict[bytes, bytes]:
    index = Index.parse(sibling_of(builder, tree).index, sha256=sha256)
    return {name: words for words, _oid, name in index.entries()}


@given(file_trees(), st.sampled_from([2, 3, 4]), st.sampled_from(["sha1", "sha256"]), st.booleans())
def test_a_copy_equals_a_checkout(tree, version, object_format, clone):
    """Bytes, rights, links, names and index entries are those of git's own checkout, and no entry is stale."""
    with tempfile.TemporaryDirectory() as name:
        folder, sha256 = Path(name), object_format == "sha256"
        builder = RepositoryBuilder.init(folder / "project", object_format=object_format)
        builder.commit(tree)
        sibling = warm(builder, folder / "warm", index_version=version)
        target = empty(builder, folder / "new", sha256=sha256)
        filled = (CloneFiles() if clone else CopyFiles()).fill(sibling, target)
        assert filled is not None
        assert (filled.files, filled.left) == (len(tree), 0)
        assert portrait(folder / "new") == portrait(folder / "warm")
        assert entries(builder, folder / "new") == entries(builder, folder / "warm")
        assert is_fresh(builder, folder / "new")
        assert builder.git("status", "--porcelain", "--ignored", cwd=target.path) == ""
        builder.git("fsck", "--strict", "--no-dangling")
        before = stat_data(builder, folder / "new", sha256=sha256)
        os.utime(folder / "new" / ".git")
        builder.git("update-index", "--refresh", "--really-refresh", cwd=target.path)
        assert before == stat_data(builder, folder / "new", sha256=sha256)


@given(st.data())
def test_what_was_changed_in_the_sibling_does_not_travel(data):
    """Whatever somebody did to files of the sibling, a copy has their committed content or leaves them to git."""
    names = [f"{folder}file{n}" for n in range(4) for folder in ("", "a/", "a/b/")]
    changes = data.draw(st.lists(st.tuples(st.sampled_from(names), st.sampled_from(sorted(CHANGES))), max_size=8))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        builder = RepositoryBuilder.init(folder / "project")
        builder.commit({**{path: f"{path}\n" for path in names}, ".gitignore": "*.env\n"})
        sibling = warm(builder, folder / "warm")
        for path, change in changes:
            with contextlib.suppress(OSError):  # an earlier change may have taken the place
                if not (folder / "warm" / path).is_fifo():
                    CHANGES[change](folder / "warm" / path)
        for secret in (".env", "a/x.env", "a/untracked", "new/deep"):
            if not (folder / "warm" / "a").is_dir():
                break
            (folder / "warm" / secret).parent.mkdir(exist_ok=True)
            (folder / "warm" / secret).write_bytes(SECRET)
        target = empty(builder, folder / "new")
        filled = CopyFiles().fill(sibling, target)
        assert filled is not None
        copied = portrait(folder / "new")
        assert not any(SECRET in content for _mode, content in copied.values())
        wrong = builder.git_bytes("status", "-z", "--porcelain", "--ignored", "--no-renames", cwd=target.path)
        assert all(line[:3] in {b" D ", b" M "} for line in wrong.split(b"\0") if line), wrong
        assert wrong.count(b"\0") <= filled.left
        builder.git("reset", "-q", "--hard", cwd=target.path)
        assert portrait(folder / "new") == portrait(folder / "project")
        assert is_fresh(builder, folder / "new")


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(SECRET)


def same_size(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[:-1] + SECRET[:1])


def keep_times(path: Path) -> None:
    before = path.stat()
    same_size(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def to_link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/etc/hostname")


def to_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_socket(path: Path) -> None:
    path.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def to_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def folder_to_link(path: Path) -> None:
    away = path.parent.with_name("elsewhere")
    path.parent.rename(away)
    path.parent.symlink_to(away)
    path.write_bytes(SECRET)


CHANGES = {
    "append": append,
    "same size": same_size,
    "same size and time": keep_times,
    "touch": os.utime,
    "rights": lambda path: path.chmod(0o755),
    "close": lambda path: path.chmod(0),
    "remove": os.unlink,
    "link": to_link,
    "pipe": to_pipe,
    "socket": to_socket,
    "folder": to_folder,
    "folder to link": folder_to_link,
    "remove folder": lambda path: shutil.rmtree(path.parent) if path.parent.name in "ab" else None,
}


@pytest.fixture
def project(tmp_path):
    noise = random.Random(1)
    builder = RepositoryBuilder.init(tmp_path / "project")
    files = {f"d{n % 20}/f{n}": noise.randbytes(noise.randrange(300)) for n in range(1500)}
    builder.commit({**files, "long": noise.randbytes(3_000_000), "empty": b""})
    return builder


@pytest.mark.parametrize("processors", [1, 2, 4])
def test_helpers_do_the_same_work(project, tmp_path, monkeypatch, processors):
    """One process or several: the copy is the same, and no process is left."""
    monkeypatch.setattr(copying, "_processors", lambda: processors)
    sibling, target = warm(project, tmp_path / "warm"), empty(project, tmp_path / "new")
    assert CopyFiles().fill(sibling, target) == copying.Filled(files=1502)
    assert portrait(tmp_path / "new") == portrait(tmp_path / "warm")
    assert is_fresh(project, tmp_path / "new")


@pytest.mark.parametrize("clone", [False, True])
def test_copies_that_are_made_together_are_each_right(project, tmp_path, monkeypatch, clone):
    """Worktrees that wait for the same sibling get their files in one turn; what is in one's way is only its own."""
    turns: Turns[Any, Any] = Turns(1, 8)
    monkeypatch.setattr(copying, "_turns", turns)
    sibling = warm(project, tmp_path / "warm")
    (tmp_path / "warm" / "d2" / "f2").write_text("changed\n")
    targets = [empty(project, tmp_path / f"new{number}") for number in range(5)]
    (tmp_path / "new3" / "d1").write_text("in the way\n")
    begun, go_on = threading.Event(), threading.Event()

    def hold(items: Any) -> Any:
        begun.set()
        go_on.wait()
        return items

    with ThreadPoolExecutor(6) as threads:
        threads.submit(turns.serve, "", None, hold)
        begun.wait()
        source = CloneFiles() if clone else CopyFiles()
        waiting = [threads.submit(source.fill, sibling, target) for target in targets]
        while len(turns._waiting) < len(targets):
            time.sleep(0.001)
        go_on.set()
        filled = [each.result() for each in waiting]
    in_the_way = sum(name.startswith("d1/") for name in project.git("ls-files").split("\n"))
    assert [each.left for each in filled] == [1, 1, 1, 1 + in_the_way, 1]
    for target in targets:
        if target.path != str(tmp_path / "new3"):
            assert project.git("diff-files", "--name-only", cwd=target.path) == "d2/f2"
        project.git("reset", "-q", "--hard", cwd=target.path)
        assert portrait(Path(target.path)) == portrait(Path(project.path))
        assert is_fresh(project, Path(target.path))


DYING_HELPERS = {
    "at once": "import sys; sys.exit(1)",
    "killed": "import os; os.kill(os.getpid(), 9)",
    "talking nonsense": "print('nonsense')",
    "after taking work": "import sys, os; os.read(int(sys.argv[3]), 40); os.kill(os.getpid(), 9)",
}


@pytest.mark.parametrize("helper", DYING_HELPERS.values(), ids=DYING_HELPERS)
def test_a_helper_that_dies_costs_only_time(project, tmp_path, monkeypatch, helper):
    """What a helper has taken and not delivered is left to git; nothing wrong is believed."""
    monkeypatch.setattr(copying, "_processors", lambda: 4)
    monkeypatch.setattr(copying, "_HELPER", helper)
    sibling, target = warm(project, tmp_path / "warm"), empty(project, tmp_path / "new")
    filled = CopyFiles().fill(sibling, target)
    assert filled is not None
    assert filled.files + filled.left == 1502
    project.git("reset", "-q", "--hard", cwd=target.path)
    assert portrait(tmp_path / "new") == portrait(tmp_path / "warm")


def test_no_interpreter_no_helper(project, tmp_path, monkeypatch):
    """Where Python does not know its own program, this process copies alone."""
    monkeypatch.setattr("sys.executable", "")
    sibling, target = warm(project, tmp_path / "warm"), empty(project, tmp_path / "new")
    assert CopyFiles().fill(sibling, target) == copying.Filled(files=1502)


def test_git_need_not_look_into_copied_files(project, tmp_path):
    """The copies' times lie so far back that a git which compares whole seconds trusts them."""
    CopyFiles().fill(warm(project, tmp_path / "warm"), empty(project, tmp_path / "new"))
    seconds = int((tmp_path / "project" / ".git" / "worktrees" / "new" / "index").stat().st_mtime)
    assert all(int.from_bytes(words[8:12]) < seconds for words in stat_data(project, tmp_path / "new").values())


def test_later_changes_of_either_side_stay_there(project, tmp_path):
    """A copy shares nothing that can change: writing in place on one side is not seen on the other."""
    CopyFiles().fill(warm(project, tmp_path / "warm"), empty(project, tmp_path / "new"))
    for path in project.git("ls-files").split("\n"):
        assert (tmp_path / "new" / path).stat().st_nlink == 1
    with (tmp_path / "new" / "long").open("r+b") as file:
        file.write(b"changed")
    assert not (tmp_path / "warm" / "long").read_bytes().startswith(b"changed")
    assert project.git("status", "--porcelain", cwd=str(tmp_path / "new")) == "M long".rjust(7)


def test_a_change_within_the_tick_is_found_by_its_content(tmp_path):
    """What changed when the index was written is compared by hash, so an equal time and size prove nothing."""
    builder = RepositoryBuilder.init(tmp_path / "project")
    builder.commit({"file": "one\n", "other": "1\n", "link": "x"})
    sibling = warm(builder, tmp_path / "warm")
    path = tmp_path / "warm" / "file"
    path.write_text("two\n")
    entry = path.stat()
    # An index that has the new stat data with the old object: what a change within one tick of the clock looks like.
    index = Index.parse(sibling.index, sha256=False)
    stats = [words for words, _oid, _name in index.entries()]
    place = index.names.index(b"file")
    stats[place] = copying.file_copy._words(entry)
    forged = index.with_stat_data(stats)
    target = empty(builder, tmp_path / "new")
    filled = CopyFiles().fill(copying.Sibling(path=sibling.path, index=forged, settled=entry.st_ctime_ns,
                                              commit=sibling.commit), target)  # fmt: skip
    assert filled == copying.Filled(files=2, left=1)
    assert not (tmp_path / "new" / "file").exists()


def test_a_forged_index_writes_nothing_outside(tmp_path):
    """An index with names that lead out of the worktree, or through a link, makes no file there."""
    builder = RepositoryBuilder.init(tmp_path / "project")
    (tmp_path / "outside").mkdir()
    builder.commit({"aa/aaaaaaa": "x\n", "bb": "y\n"})
    sibling = warm(builder, tmp_path / "warm")
    (tmp_path / "warm" / "bb").unlink()
    for old, new in ((b"aa/aaaaaaa", b"../outside"), (b"aa/aaaaaaa", b".git/hooks"), (b"aa/aaaaaaa", b"aa/../../x")):
        data = sibling.index[:-20].replace(old, new)
        forged = data + hashlib.sha1(data).digest()
        target = empty(builder, tmp_path / f"new{new.hex()}")
        CopyFiles().fill(copying.Sibling(path=sibling.path, index=forged, settled=sibling.settled,
                                         commit=sibling.commit), target)  # fmt: skip
        assert set(os.listdir(target.path)) <= {".git", "aa"}
        assert os.listdir(tmp_path / "outside") == []
        assert not (Path(target.admin) / "hooks").exists()


def test_a_sparse_checkout_stays_one(project, tmp_path):
    """Entries that are not to be in the worktree are not copied, and stay marked."""
    sibling = warm(project, tmp_path / "warm")
    project.git("sparse-checkout", "set", "--no-cone", "/d1/", "/long", cwd=sibling.path)
    sibling = sibling_of(project, tmp_path / "warm")
    target = empty(project, tmp_path / "new")
    shutil.copytree(f"{sibling.path}/../project/.git/worktrees/warm/info", f"{target.admin}/info", dirs_exist_ok=True)
    shutil.copy(f"{sibling.path}/../project/.git/worktrees/warm/config.worktree", target.admin)
    assert CopyFiles().fill(sibling, target) == copying.Filled(files=76)
    assert portrait(tmp_path / "new") == portrait(tmp_path / "warm")
    assert entries(project, tmp_path / "new") == entries(project, tmp_path / "warm")


@pytest.mark.parametrize("spoil", ["split", "assume", "intent", "conflict", "sparse index", "cut", "checksum", "none"])
def test_an_index_that_is_not_that_of_a_clean_worktree_is_refused(project, tmp_path, spoil):
    """Nothing is copied by an index that is damaged, or says more than which files are there."""
    sibling = warm(project, tmp_path / "warm")
    commands = {
        "split": [("update-index", "--split-index")],
        "assume": [("update-index", "--assume-unchanged", "long")],
        "intent": [("rm", "-q", "--cached", "long"), ("add", "-N", "long")],
        "conflict": [("rm", "-q", "--cached", "long")],
        "sparse index": [("sparse-checkout", "set", "--sparse-index", "d1")],
    }.get(spoil, [])
    for command in commands:
        project.git(*command, cwd=sibling.path)
    if spoil == "conflict":
        oid = project.git("rev-parse", "HEAD:long")
        project.git("update-index", "--index-info", stdin=f"100644 {oid} 1\tlong\n".encode(), cwd=sibling.path)
    sibling = sibling_of(project, tmp_path / "warm")
    data = {"cut": sibling.index[:-400], "checksum": sibling.index[:-20] + bytes(20), "none": b""}.get(
        spoil, sibling.index
    )
    target = empty(project, tmp_path / "new")
    bad = copying.Sibling(path=sibling.path, index=data, settled=sibling.settled, commit=sibling.commit)
    assert CopyFiles().fill(bad, target) is None
    assert os.listdir(target.path) == [".git"]
    assert not os.path.exists(f"{target.admin}/index")


def test_extensions_of_the_sibling_stay_there(project, tmp_path):
    """An untracked cache is of the folders that it was made in; the cached trees are of the commit and go along."""
    sibling = warm(project, tmp_path / "warm")
    project.git("update-index", "--force-untracked-cache", cwd=sibling.path)
    project.git("status", cwd=sibling.path)
    sibling = sibling_of(project, tmp_path / "warm")
    assert b"UNTR" in sibling.index
    target = empty(project, tmp_path / "new")
    assert CopyFiles().fill(sibling, target) is not None
    made = Path(target.admin, "index").read_bytes()
    assert b"UNTR" not in made
    assert b"TREE" in made
    (tmp_path / "new" / "d1" / "untracked").write_text("x")
    assert project.git("status", "--porcelain", cwd=target.path) == "?? d1/untracked"


def test_filters_and_line_ends_are_as_in_the_sibling(tmp_path):
    """What git had converted on its way out is copied as it is, and is clean here, too."""
    builder = RepositoryBuilder.init(tmp_path / "project", config={"filter.up.smudge": "tr a-z A-Z",
                                                                  "filter.up.clean": "tr A-Z a-z"})  # fmt: skip
    builder.commit({".gitattributes": "*.txt eol=crlf\n*.up filter=up\n", "a.txt": "one\ntwo\n", "b.up": "shout\n"})
    sibling, target = warm(builder, tmp_path / "warm"), empty(builder, tmp_path / "new")
    assert (tmp_path / "warm" / "b.up").read_text() == "SHOUT\n"
    filled = CopyFiles().fill(sibling, target)
    builder.git("reset", "-q", "--hard", cwd=target.path)
    assert filled is not None
    assert portrait(tmp_path / "new") == portrait(tmp_path / "warm")
    assert builder.git("status", "--porcelain", cwd=target.path) == ""


def test_submodules_are_empty_folders(tmp_path):
    """A submodule that the sibling has filled is an empty folder in the copy, as in a fresh checkout."""
    inner = RepositoryBuilder.init(tmp_path / "inner")
    inner.commit({"secret": SECRET})
    builder = RepositoryBuilder.init(tmp_path / "project")
    builder.commit({"a": "a\n"})
    builder.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", inner.path, "sub")
    builder.git("commit", "-q", "-m", "sub")
    warm(builder, tmp_path / "warm")
    builder.git("-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init", cwd=str(tmp_path / "warm"))
    assert (tmp_path / "warm" / "sub" / "secret").exists()
    target = empty(builder, tmp_path / "new")
    assert CopyFiles().fill(sibling_of(builder, tmp_path / "warm"), target) is not None
    assert os.listdir(tmp_path / "new" / "sub") == []
    assert builder.git("status", "--porcelain", cwd=target.path) == ""


def test_the_umask_decides_on_rights(tmp_path):
    """A copy gets the rights that a checkout would get here, not those of the sibling."""
    builder = RepositoryBuilder.init(tmp_path / "project")
    builder.commit({"a": "a\n", "d/b": "b\n"})
    sibling = warm(builder, tmp_path / "warm")
    target = empty(builder, tmp_path / "new")
    before = os.umask(0o077)
    try:
        CopyFiles().fill(sibling, target)
        builder.git("worktree", "add", "-q", "--detach", str(tmp_path / "git"))
    finally:
        os.umask(before)
    assert portrait(tmp_path / "new") == portrait(tmp_path / "git")


def test_a_copy_without_its_bit_is_left_to_git(tmp_path):
    """Where the umask takes the right to run a file away the copy is not what the index says, and is not called so."""
    builder = RepositoryBuilder.init(tmp_path / "project")
    builder.commit({"plain": "a\n", "program": "b\n"})
    builder.git("update-index", "--chmod=+x", "program")
    builder.git("commit", "-q", "-m", "a program")
    sibling, target = warm(builder, tmp_path / "warm"), empty(builder, tmp_path / "new")
    before = os.umask(0o122)
    try:
        assert CopyFiles().fill(sibling, target) == copying.Filled(files=1, left=1)
    finally:
        os.umask(before)


def test_a_helper_ends_with_its_parent(project, tmp_path):
    """A helper whose parent has gone takes no further chunk."""
    script = "import sys; from arboretum.worktree_files.file_copy import main; main()"
    sibling, target = warm(project, tmp_path / "warm"), empty(project, tmp_path / "new")
    index = Index.parse(sibling.index, sha256=False)
    options = {"source": os.fsencode(sibling.path), "targets": [os.fsencode(target.path)], "settled": 1 << 62,
               "latest": 0, "clone": False, "sha256": False}  # fmt: skip
    queue = copying.file_copy.fill_queue(len(index.names))
    with tempfile.TemporaryFile() as job:
        job.write(copying.marshal.dumps((options, index.entries(), 1)))
        job.flush()
        done = subprocess.run(
            [copying.sys.executable, "-c", script, str(job.fileno()), str(queue)], pass_fds=(job.fileno(), queue),
            check=True, capture_output=True,
        )  # fmt: skip
    os.close(queue)
    assert copying.marshal.loads(done.stdout) == {}
    assert os.listdir(target.path) == [".git"]
    assert STAT_BYTES == 40
