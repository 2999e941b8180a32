"""A checkout meets what lies in its way: nothing that is nowhere else is lost, and what is elsewhere is no obstacle."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum.errors import DirtyWorktreeError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid, ResetMode
from tests.backends.oracle import ADAPTERS, files_below, fingerprint, opened

#: What the two commits may have at each place; no place is a file and a folder in one commit.
LAYOUTS = (("a", "d/b", "d/c", "e/f"), ("a", "d", "e/f"), ("a", "d/b", "e"), ("d/c/x", "e/f", "new"), ("a", "n/m/o"))
PLACES = ("a", "d", "d/b", "d/c", "d/c/x", "d/z", "e", "e/f", "e/z", "n", "n/m", "n/m/o", "new", "z")
PRECIOUS = (b"precious\n", False)
KINDS = ("file", "empty", "link", "folder", "nested", "gone", "staged", "touched")


def write(path: Path, text: str) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    path.write_text(text)


def put(root: Path, place: str, kind: str, environment: dict[str, str]) -> None:
    """Put something where git did not; what cannot be put there is left out."""
    path = root / place
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "touched":
            os.utime(path, ns=(10**18, 10**18))
        elif kind in {"file", "staged"}:
            write(path, "precious\n")
        else:
            write(path, "")
            path.unlink()
        if kind == "link":
            path.symlink_to("../outside")
        elif kind == "folder":
            path.mkdir()
            (path / "inner").write_text("precious\n")
        elif kind == "empty":
            path.mkdir()
        elif kind == "nested":
            subprocess.run(["git", "init", "-q", path], check=True, env=environment)
    except (FileExistsError, FileNotFoundError, NotADirectoryError):
        return
    if kind == "staged":
        subprocess.run(["git", "add", "-f", "--", place], cwd=root, env=environment, capture_output=True, check=False)


@pytest.fixture(scope="module")
def nursery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("obstacles")


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layouts=st.tuples(*[st.sampled_from(LAYOUTS)] * 2),
    texts=st.lists(st.sampled_from("xy"), min_size=8, max_size=8),
    obstacles=st.lists(st.tuples(st.sampled_from(PLACES), st.sampled_from(KINDS)), min_size=1, max_size=4),
    ignored=st.sets(st.sampled_from(("z", "new", "e", "inner")), max_size=2),
)
def test_a_checkout_that_goes_on_ends_where_gits_does(nursery: Path, layouts, texts, obstacles, ignored):
    """Where neither pygit2's checkout nor git's refuses, files and index are the same; no file that is new is lost."""
    shutil.rmtree(nursery)
    made = RepositoryBuilder.init(nursery / "git")
    left = iter(texts)
    one, two = ({place: next(left) for place in layout} for layout in layouts)
    gone = dict.fromkeys(one.keys() - two.keys())
    target = made.commits([CommitSpec(one), CommitSpec({**gone, **two}, branch="target", parents=[":1"])])[1]
    made.git("reset", "-q", "--hard", "main")
    Path(made.git_dir, "info").mkdir(exist_ok=True)
    Path(made.git_dir, "info", "exclude").write_text("".join(f"{name}\n" for name in ignored))
    for place, kind in obstacles:
        put(Path(made.path), place, kind, made.environment)
    (nursery / "outside").mkdir()
    shutil.copytree(made.path, nursery / "ours", symlinks=True)
    ours = RepositoryBuilder(str(nursery / "ours"), made.environment)
    before, files = fingerprint(ours), files_below(ours.path)
    done = subprocess.run(
        ["git", "checkout", "-q", "--detach", target],
        cwd=made.path,
        env=made.environment,
        capture_output=True,
        check=False,
    )
    with_ours = opened("pygit2", ours.path)
    try:
        with_ours.checkout(ours.path, target)
    except DirtyWorktreeError:
        assert fingerprint(ours) == before
        return
    finally:
        with_ours.close()
    if done.returncode:  # git is stricter about staged files in place of folders that stay as they are
        kept = files_below(ours.path)
        assert all(kept[path] == file for path, file in files.items() if file == PRECIOUS)
        return
    for command in (["status", "--porcelain=v2", "-z", "-uall", "--ignored"], ["ls-files", "-s", "-z"]):
        assert ours.git(*command) == made.git(*command)
    assert files_below(ours.path) == files_below(made.path)
    assert not os.listdir(nursery / "outside")


@pytest.mark.parametrize("name", ADAPTERS)
def test_what_lies_elsewhere_is_no_obstacle(name: str, real: RepositoryBuilder):
    """A folder that both commits have alike may be a link, hold changes, be gone: a checkout looks at what differs."""
    first = real.commit({"same/s": "s\n", "other/o": "o\n", "changed/c": "1\n"}, "one")
    second = real.commit({"changed/c": "2\n"}, "two")
    root = Path(real.path)
    shutil.rmtree(root / "same")
    (root / "same").symlink_to("other")
    (root / "other/o").write_text("mine\n")
    (root / "changed/untracked").write_text("mine\n")
    backend = opened(name, real.path)
    backend.checkout(real.path, Oid(first))
    assert (root / "changed/c").read_text() == "1\n"
    assert backend.head(real.path).oid == first != second
    assert (root / "same").is_symlink()
    assert [(root / path).read_text() for path in ("other/o", "changed/untracked")] == ["mine\n"] * 2


@pytest.mark.parametrize("how", ["checkout", "reset"])
@pytest.mark.parametrize("gone", ["place", "parent", "blocked", "nothing"])
@pytest.mark.parametrize(("old", "new"), list(itertools.permutations(("file", "link", "folder"), 2)))
@pytest.mark.parametrize("name", ADAPTERS)
def test_by_force_one_kind_takes_the_place_of_another(
    name: str, old: str, new: str, gone: str, how: str, real: RepositoryBuilder
):
    """Also where what the last commit has there is missing, alone or with the folder around it."""
    root = Path(real.path)

    def commit(kind: str) -> Oid:
        (root / "in").mkdir(exist_ok=True)
        (root / "in/y").write_text("y\n")
        if kind == "file":
            (root / "in/p").write_text("file\n")
        elif kind == "link":
            (root / "in/p").symlink_to("y")
        else:
            (root / "in/p").mkdir()
            (root / "in/p/x").write_text("x\n")
        real.git("add", "-A")
        real.git("commit", "-qm", kind)
        return Oid(real.git("rev-parse", "HEAD"))

    first = commit(old)
    real.git("rm", "-rq", "in")
    second = commit(new)
    wanted = files_below(real.path)
    real.git("checkout", "-q", "--detach", first)
    if gone in {"parent", "blocked"}:
        shutil.rmtree(root / "in")
        if gone == "blocked":
            (root / "in").write_text("in the way\n")
    elif gone == "place":
        put(root, "in/p", "gone", real.environment)
    backend = opened(name, real.path)
    if how == "checkout":
        backend.checkout(real.path, second, force=True)
    else:
        backend.reset(real.path, second, ResetMode.HARD)
    assert files_below(real.path) == wanted
    assert real.git("status", "--porcelain") == ""
