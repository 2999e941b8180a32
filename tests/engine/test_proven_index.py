"""A slot that was moved is a fresh worktree, whatever the last trial did to files, folders, index and configuration."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum.engine.proven_index import Folders, Layout, ProvenIndex
from arboretum.engine.slots import Want
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.engine.conftest import Ground

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
FILES = ("a", "b", "d/a", "d/b", "d/e/only", "s/single", "x.py")


def make_ground(folder: Path) -> Ground:
    """A history in which files stay, change with the same size, come, go and turn into folders."""
    builder = RepositoryBuilder.init(folder / "project")
    first: dict[str, str | None] = {name: f"{name} 1\n" for name in FILES}
    one, two, three = builder.commits(
        [
            CommitSpec({**first, ".gitignore": "*.ignored\ncache/\n"}, "1"),
            CommitSpec({"a": "a 2\n", "d/b": "d/b 2\n", "new/file": "new\n", "x.py": None}, "2"),
            CommitSpec({"a": None, "a/now/a/folder": "x\n", "d/e/only": None, "new/file": "NEW\n"}, "3"),
        ]
    )
    builder.branch("other", two)
    return Ground(builder, Repository.open(builder.path), one, two, three)


#: Something that a trial does to a file, or near it.
Harm = Callable[[Path], object]


# --- what a trial may do ---


def _times(path: Path) -> tuple[int, int]:
    found = os.lstat(path)
    return found.st_atime_ns, found.st_mtime_ns


def change_in_place(path: Path) -> None:
    """The same size, the same times, the same inode."""
    times, size = _times(path), path.stat().st_size
    path.write_bytes(b"?" * size)
    os.utime(path, ns=times)


def replace(path: Path) -> None:
    """The same size, the same times, another inode."""
    times, size = _times(path), path.stat().st_size
    aside = path.with_name("aside")
    aside.write_bytes(b"!" * size)
    os.utime(aside, ns=times)
    aside.replace(path)


def swap(path: Path) -> None:
    """Two files change places."""
    other = next(p for name in FILES if (p := _root(path) / name) != path and p.is_file())
    aside = path.with_name("aside")
    path.rename(aside)
    other.rename(path)
    aside.rename(other)


def move_folder_out(path: Path) -> None:
    """The folder leads to another place that has the very same files."""
    folder, out = path.parent, Path(tempfile.mkdtemp(dir=_root(path).parents[1])) / "out"
    if folder != _root(path):
        folder.rename(out)
        folder.symlink_to(out)


def copy_folder_out(path: Path) -> None:
    """The folder leads to a copy with the same times."""
    folder, out = path.parent, Path(tempfile.mkdtemp(dir=_root(path).parents[1])) / "out"
    if folder != _root(path):
        shutil.copytree(folder, out)
        shutil.rmtree(folder)
        folder.symlink_to(out)


def touch_later(path: Path) -> None:
    """A time of modification that lies ahead."""
    path.write_bytes(b"later")
    os.utime(path, (time.time() + 3600, time.time() + 3600))


def second_link(path: Path) -> None:
    """A hard link, written through."""
    os.link(path, path.with_name("link.ignored"))
    times = _times(path)
    path.with_name("link.ignored").write_bytes(b"x" * path.stat().st_size)
    os.utime(path, ns=times)


def into_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _root(path: Path) -> Path:
    return next(p for p in path.parents if (p / ".git").is_file())


def _admin(path: Path) -> Path:
    return Path((_root(path) / ".git").read_text().removeprefix("gitdir: ").strip())


def _git(*arguments: str) -> Harm:
    def run(path: Path) -> object:
        filled = [part.replace("PATH", str(path.relative_to(_root(path)))) for part in arguments]
        return subprocess.run(["git", *filled], cwd=_root(path), check=False, capture_output=True)

    run.__name__ = "git " + " ".join(arguments)
    return run


def index_of_another_time(path: Path) -> None:
    os.utime(_admin(path) / "index", (time.time() + 3600, time.time() + 3600))


def index_of_an_older_time(path: Path) -> None:
    os.utime(_admin(path) / "index", (time.time() - 3600, time.time() - 3600))


def same_index_new_file(path: Path) -> None:
    index = _admin(path) / "index"
    index.write_bytes(index.read_bytes())


def forged_index(path: Path) -> None:
    """An index that hides all files and ends with the same checksum."""
    index, times = _admin(path) / "index", _times(_admin(path) / "index")
    before = index.read_bytes()
    _git("update-index", "--assume-unchanged", *FILES)(path)
    index.write_bytes(index.read_bytes()[:-20] + before[-20:])
    os.utime(index, ns=times)


def hooks(path: Path) -> None:
    """Hooks that git runs in the middle of a reset, and that change a file."""
    folder = _admin(path).parents[1] / "hooks"
    folder.mkdir(exist_ok=True)
    for name in ("post-index-change", "post-checkout", "reference-transaction"):
        (folder / name).write_text("#!/bin/sh\ncd \"$GIT_WORK_TREE\" 2>/dev/null || exit 0\nprintf 'b 9\\n' > b\n")
        (folder / name).chmod(0o755)


def empty_folder(path: Path) -> None:
    (path.parent / "empty" / "inner").mkdir(parents=True)


def other_files(path: Path) -> None:
    (path.parent / "untracked").touch()
    (path.parent / "some.ignored").touch()
    (path.parent / "link").symlink_to(path)
    os.mkfifo(path.parent / "pipe")


def ignored_folder(path: Path) -> None:
    (path.parent / "cache" / "empty").mkdir(parents=True)
    (path.parent / "cache" / "file").touch()


def next_second(_path: Path) -> None:
    time.sleep(1.0 - time.time() % 1 + 0.01)


def _rights(mode: int, *, folder: bool = False) -> Harm:
    def change(path: Path) -> None:
        (path.parent if folder and path.parent != _root(path) else path).chmod(mode)

    change.__name__ = f"chmod {mode:o}{' of the folder' if folder else ''}"
    return change


def remove_folder(path: Path) -> None:
    shutil.rmtree(path.parent)


def remove_index(path: Path) -> None:
    (_admin(path) / "index").unlink()


def remove(path: Path) -> None:
    path.unlink()


#: After these a change of rights for others than the owner may be what the index knows, and stays.
REFRESHING: tuple[Harm, ...] = (
    _git("add", "-A"), _git("update-index", "--refresh"), _git("update-index", "--assume-unchanged", "PATH"),
    _git("update-index", "--skip-worktree", "PATH"), _git("update-index", "--split-index"), _git("add", "-N", "."),
    _git("update-index", "--index-version", "4"), _git("read-tree", "HEAD"), _git("rm", "--cached", "PATH"),
    _git("commit", "-qam", "x"), _git("checkout", "-q", "other"), _git("checkout", "-qf", "HEAD~1"),
    _git("stash", "-u"), _git("mv", "PATH", "moved"), _git("sparse-checkout", "set", "d"),
    _git("reset", "-q", "--soft", "other"), forged_index,
)  # fmt: skip
MISCHIEF: tuple[Harm, ...] = (
    change_in_place, replace, swap, move_folder_out, copy_folder_out, touch_later, second_link, into_folder, remove,
    *map(_rights, (0o600, 0o755, 0o666, 0o4644, 0o000)),
    *[_rights(mode, folder=True) for mode in (0o500, 0o000, 0o1755)],
    empty_folder, other_files, ignored_folder, remove_folder, remove_index, index_of_another_time,
    index_of_an_older_time, same_index_new_file, hooks, next_second,
    _git("init", "-q", "nested"), _git("worktree", "add", "-q", "--detach", "inner"),
    _git("symbolic-ref", "HEAD", "refs/heads/other"), *[_git("config", *pair) for pair in (
        ("core.trustctime", "false"), ("core.checkStat", "minimal"), ("core.fileMode", "false"),
        ("core.ignoreStat", "true"), ("core.fsmonitor", "true"), ("core.splitIndex", "true"),
        ("core.untrackedCache", "true"), ("index.version", "4"), ("checkout.workers", "4"),
        ("status.showUntrackedFiles", "no"),
    )], *REFRESHING,
)  # fmt: skip
DEEDS = {harm.__name__: harm for harm in MISCHIEF}


# --- what has to hold ---


def tree_of(root: Path) -> dict[str, tuple[object, ...]]:
    """Everything below `root` but its link to the repository: kind, rights, content."""
    found: dict[str, tuple[object, ...]] = {}
    for path in sorted(root.rglob("*")):
        name, mode = str(path.relative_to(root)), path.lstat().st_mode
        if path.is_symlink():
            found[name] = ("link", os.readlink(path))
        elif path.is_dir():
            found[name] = ("folder", mode & 0o5700)
        elif not path.is_file():
            found[name] = ("special",)
        elif name != ".git":
            found[name] = ("file", mode & 0o7777, path.read_bytes())
    return found


class World:
    """A pool and, for each commit, what `git worktree add` makes of it."""

    def __init__(self, folder: Path) -> None:
        self.ground = make_ground(folder)
        self.commits = (self.ground.one, self.ground.two, self.ground.three)
        self.fresh = {}
        for commit in self.commits:
            path = folder / commit[:8]
            self.ground.builder.git("worktree", "add", "-q", "--detach", str(path), commit)
            self.fresh[commit] = tree_of(path)
        self.pool = self.ground.pool(size=1, root=str(folder / "pool"))

    def move(self, commit: str, *, fresh: bool = False, strict: bool = True) -> Path:
        """Move the slot, and hold it against a fresh worktree."""
        lease = self.pool.try_acquire(Want(commit=commit), fresh=fresh)
        assert lease is not None
        self.pool.release(lease)
        path, ignored = Path(lease.path), [entry.rstrip("/") + "/" for entry in lease.ignored]
        assert not (fresh and ignored)
        found = tree_of(path).items()
        kept = {name: what for name, what in found if not any(f"{name}/".startswith(entry) for entry in ignored)}
        assert _seen(kept, strict=strict) == _seen(self.fresh[commit], strict=strict)
        git = self.ground.builder.git
        assert git("rev-parse", "HEAD", cwd=str(path)) == commit
        # The index stays as it was proven: a status that wrote it would hide the proof that is tested here.
        look = ("--no-optional-locks", "-c", "core.fsmonitor=false", "status", "--porcelain", "-uall")
        assert git(*look, cwd=str(path)) == ""
        return path


def _seen(tree: dict[str, tuple[object, ...]], *, strict: bool) -> dict[str, tuple[object, ...]]:
    mask = 0o7777 if strict else 0o5700
    return {n: (w[0], w[1] & mask, *w[2:]) if w[0] == "file" else w for n, w in tree.items()}  # type: ignore[operator]


@contextlib.contextmanager
def a_world() -> Iterator[World]:
    with tempfile.TemporaryDirectory() as name:
        world = World(Path(name))
        try:
            yield world
        finally:
            world.ground.repository.close()


deeds = st.lists(st.tuples(st.sampled_from(sorted(DEEDS)), st.sampled_from(FILES)), max_size=3)
moves = st.lists(st.tuples(deeds, st.integers(0, 2), st.booleans()), min_size=1, max_size=4)


@given(moves)
@settings(max_examples=round(25 * SCALE), print_blob=True)
def test_a_moved_slot_is_a_fresh_worktree(moves):
    """After any mischief, in any order and at any moment, each move ends with what `git worktree add` makes."""
    with a_world() as world:
        path, strict = world.move(world.ground.one), True
        for harm, commit, fresh in moves:
            for name, file in harm:
                strict = strict and DEEDS[name] not in REFRESHING
                with contextlib.suppress(OSError, StopIteration):
                    DEEDS[name](path / file)
            path = world.move(world.commits[commit], fresh=fresh, strict=strict)


@pytest.mark.parametrize("deed", DEEDS)
def test_each_mischief_is_undone(deed):
    """Each single thing that a trial may do is undone by a move to another commit and by a proof at the same one."""
    with a_world() as world:
        for to in (world.ground.one, world.ground.two):
            for file in ("b", "d/e/only"):
                path = world.move(world.ground.one, strict=DEEDS[deed] not in REFRESHING)
                with contextlib.suppress(OSError, StopIteration):
                    DEEDS[deed](path / file)
                world.move(to, strict=DEEDS[deed] not in REFRESHING)


def in_order(*harm: Harm) -> Harm:
    def run(path: Path) -> None:
        for deed in harm:
            deed(path)

    return run


def touch_another(path: Path) -> None:
    (_root(path) / "s" / "single").write_text("more")


SCHEMES = {
    "git is told to look less closely": in_order(
        DEEDS["git config core.trustctime false"], DEEDS["git config core.checkStat minimal"],
        change_in_place,
    ),
    "odd rights are put into the index, which then is not the newest in it": in_order(
        DEEDS["chmod 4644"], DEEDS["git update-index --refresh"], next_second, touch_another, _git("add", "s/single"),
    ),
    "a hidden file, and an index that ends as before": in_order(
        DEEDS["chmod 4644"], change_in_place, forged_index
    ),
}  # fmt: skip


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_only_one_part_of_the_proof_sees(scheme):
    """Schemes against single parts of the proof do not succeed."""
    with a_world() as world:
        for to in (world.ground.one, world.ground.two, world.ground.one):
            next_second(world.move(world.ground.one, strict=False))
            path = world.move(world.ground.two, strict=False)  # some files are younger than the one that is changed
            SCHEMES[scheme](path / "b")
            world.move(to, strict=False)


def test_a_move_looks_once():
    """After a trial that changed files git runs once; once more, to tell what is ignored, if there is anything else."""
    with a_world() as world:
        world.move(world.ground.one)
        steps: list[str] = []
        world.pool._reset._step = steps.append
        for deed, looks in ((next_second, 0), (touch_later, 0), (ignored_folder, 1), (replace, 1)):
            path = world.move(world.ground.two)
            next_second(path)
            deed(path / "d" / "a")
            steps.clear()
            world.move(world.ground.three)
            assert (steps.count("reset.files"), steps.count("reset.prove")) == (1, looks)


def test_what_git_cannot_see_is_seen():
    """A change of rights and a folder without files are seen, which git alone would not notice at that moment."""
    with a_world() as world:
        path = world.move(world.ground.two)
        index = ProvenIndex.read(str(_admin(path / "a")), sha256=False)
        assert index is not None
        young, layout, folders = index.young_files(), Layout.of(index.names), Folders(str(path))
        assert young.are_unchanged(str(path))
        assert folders.are_exactly(layout)
        (path / "a").chmod(0o600)
        assert not young.are_unchanged(str(path))
        assert not index.are_files_unchanged(str(path))
        empty_folder(path / "b")
        assert not folders.are_exactly(layout)
