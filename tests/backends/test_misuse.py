"""For each misuse the same class of error on every adapter, its cause kept, and nothing changed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arboretum import errors
from arboretum.backends.base import GitBackend
from arboretum.bootstrap import backend_factory
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import Oid, RefName, Revision, WorktreeSpec
from tests.backends.oracle import ADAPTERS, fingerprint, opened

MISSING = Oid("1" * 40)
TOPIC = RefName.branch("topic")
Act = Callable[[GitBackend, RepositoryBuilder, Path], object]


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


def head(real: RepositoryBuilder) -> Oid:
    return Oid(real.git("rev-parse", "HEAD"))


def linked(real: RepositoryBuilder, tmp_path: Path, *options: str) -> str:
    path = str(tmp_path / "linked")
    real.git("worktree", "add", "-q", *options, path, "topic")
    return path


def taken_branch(backend, real, tmp_path):
    linked(real, tmp_path)
    return lambda: backend.add_worktree(WorktreeSpec(str(tmp_path / "more"), branch=TOPIC))


def checked_out_elsewhere(backend, real, tmp_path):
    linked(real, tmp_path)
    return lambda: backend.checkout(real.path, TOPIC)


def dirty_removed(backend, real, tmp_path):
    path = linked(real, tmp_path)
    Path(path, "a.txt").write_text("mine")
    return lambda: backend.remove_worktree(path)


def locked_moved(backend, real, tmp_path):
    path = linked(real, tmp_path)
    real.git("worktree", "lock", path)
    return lambda: backend.move_worktree(path, str(tmp_path / "moved"))


def unborn_resolved(backend, real, tmp_path):
    real.git("symbolic-ref", "HEAD", "refs/heads/none")
    return lambda: backend.resolve(Revision("HEAD"))


def ref_locked(backend, real, tmp_path):
    Path(real.git_dir, "refs/heads/topic.lock").touch()
    new = Oid(real.git("rev-parse", "HEAD~1"))
    return lambda: backend.update_ref(TOPIC, new, head(real))


def index_locked(backend, real, tmp_path):
    Path(real.path, "a.txt").write_text("changed")
    Path(real.git_dir, "index.lock").touch()
    return lambda: backend.stage(real.path, ["a.txt"])


def object_missing(backend, real, tmp_path):
    return lambda: backend.read_commit(MISSING)


def object_missing_detached(backend, real, tmp_path):
    return lambda: backend.add_worktree(WorktreeSpec(str(tmp_path / "more"), detach=MISSING))


def path_occupied(backend, real, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("mine")
    return lambda: backend.add_worktree(WorktreeSpec(str(tmp_path / "full"), branch=TOPIC))


def path_is_a_file(backend, real, tmp_path):
    (tmp_path / "file").write_text("mine")
    return lambda: backend.add_worktree(WorktreeSpec(str(tmp_path / "file"), branch=TOPIC))


def no_such_branch(backend, real, tmp_path):
    return lambda: backend.add_worktree(WorktreeSpec(str(tmp_path / "more"), branch=RefName.branch("none")))


def no_such_worktree(backend, real, tmp_path):
    return lambda: backend.status(str(tmp_path / "nowhere"))


def worktree_of_another(backend, real, tmp_path):
    other = RepositoryBuilder.init(tmp_path / "other")
    other.commit({"o": "o"}, "o")
    return lambda: backend.status(other.path)


def folder_inside(backend, real, tmp_path):
    return lambda: backend.status(f"{real.path}/d")


def main_removed(backend, real, tmp_path):
    return lambda: backend.remove_worktree(real.path, force=True)


def ref_exists(backend, real, tmp_path):
    return lambda: backend.update_ref(TOPIC, head(real), None)


def ref_is_a_folder(backend, real, tmp_path):
    return lambda: backend.update_ref(RefName.branch("topic/deeper"), head(real), None)


def ref_changed(backend, real, tmp_path):
    return lambda: backend.update_ref(TOPIC, head(real), Oid(real.git("rev-parse", "HEAD~1")))


def rename_of_none(backend, real, tmp_path):
    return lambda: backend.rename_branch(RefName.branch("none"), RefName.branch("new"))


def rename_onto_another(backend, real, tmp_path):
    return lambda: backend.rename_branch(TOPIC, RefName.branch("main"))


def rename_below_another(backend, real, tmp_path):
    return lambda: backend.rename_branch(TOPIC, RefName.branch("main/x"))


def stash_of_none(backend, real, tmp_path):
    return lambda: backend.stash_drop(MISSING)


def nothing_staged(backend, real, tmp_path):
    return lambda: backend.commit(real.path, "nothing")


def unlocked_twice(backend, real, tmp_path):
    path = linked(real, tmp_path)
    return lambda: backend.unlock_worktree(path)


def unmerged_committed(backend, real, tmp_path):
    one, two = (real.git("hash-object", "-w", "--stdin", stdin=text) for text in (b"1", b"2"))
    real.git("update-index", "--index-info", stdin=f"100644 {one} 2\tx\n100644 {two} 3\tx\n".encode())
    return lambda: backend.commit(real.path, "unmerged")


def patch_that_fails(backend, real, tmp_path):
    text = b"--- a/a.txt\n+++ b/a.txt\n@@ -1 +1 @@\n-never was there\n+new\n"
    return lambda: backend.apply(real.path, text)


def remote_unreachable(backend, real, tmp_path):
    return lambda: backend.fetch(str(tmp_path / "nowhere.git"))


def bad_key(backend, real, tmp_path):
    return lambda: backend.set_config("nosection", "x")


CASES: dict[Act, type[errors.ArboretumError]] = {
    taken_branch: errors.BranchCheckedOutError,
    checked_out_elsewhere: errors.BranchCheckedOutError,
    dirty_removed: errors.DirtyWorktreeError,
    locked_moved: errors.WorktreeLockedError,
    unborn_resolved: errors.UnbornHeadError,
    ref_locked: errors.RefLockedError,
    index_locked: errors.RepositoryBusyError,
    object_missing: errors.ObjectMissingError,
    object_missing_detached: errors.ObjectMissingError,
    path_occupied: errors.PathOccupiedError,
    path_is_a_file: errors.PathOccupiedError,
    no_such_branch: errors.RefNotFoundError,
    no_such_worktree: errors.WorktreeNotFoundError,
    worktree_of_another: errors.WorktreeNotFoundError,
    folder_inside: errors.WorktreeNotFoundError,
    main_removed: errors.GitOperationError,
    ref_exists: errors.RefExistsError,
    ref_is_a_folder: errors.RefExistsError,
    ref_changed: errors.RefChangedError,
    rename_of_none: errors.RefNotFoundError,
    rename_onto_another: errors.RefExistsError,
    rename_below_another: errors.RefExistsError,
    stash_of_none: errors.StashNotFoundError,
    nothing_staged: errors.NothingToCommitError,
    unlocked_twice: errors.GitOperationError,
    unmerged_committed: errors.ConflictError,
    patch_that_fails: errors.PatchFailedError,
    remote_unreachable: errors.RemoteError,
    bad_key: errors.ConfigKeyError,
}
#: What git, or libgit2, finds out itself: git's words are in the message, the library's exception is the cause.
FOUND_BELOW = {ref_locked, index_locked, ref_is_a_folder, remote_unreachable}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_misuse_has_its_error_and_changes_nothing(adapter, case, real, tmp_path):
    """Each misuse is refused with its own class of error and leaves everything as it was."""
    real.branch("topic")
    backend = opened(adapter, real.path)
    act = case(backend, real, tmp_path)
    locks = [*Path(real.git_dir).rglob("*.lock")]
    aside = [lock.rename(f"{lock}.aside") for lock in locks]
    before = fingerprint(real)
    for path, lock in zip(aside, locks, strict=True):
        path.rename(lock)
    folders = sorted(tmp_path.iterdir())
    with pytest.raises(errors.ArboretumError) as caught:
        act()
    assert type(caught.value) is CASES[case]
    assert isinstance(caught.value, errors.GitOperationError)
    assert caught.value.__cause__ is caught.value.__context__, "what it was raised over is its cause, and no other"
    if case in FOUND_BELOW:
        said_by_git = caught.value.message.startswith("git ")
        raised_by_libgit2 = type(caught.value.__cause__).__name__ in {"GitError", "OSError"}
        assert raised_by_libgit2 if adapter == "pygit2" else said_by_git
    assert sorted(tmp_path.iterdir()) == folders
    for lock in locks:
        lock.unlink()
    assert fingerprint(real) == before
    assert not [p for p in Path(real.git_dir).rglob("*.lock") if p.name != "worktrees.lock"]


@pytest.mark.parametrize("kind", ["nothing", "empty folder", "file", "folder inside", "broken gitfile", "broken HEAD"])
def test_what_is_no_repository_is_not_opened(adapter, kind, real, tmp_path):
    """A path that is not exactly a worktree or git directory is no repository, and says so with the cause."""
    path = {"folder inside": Path(real.path, "d")}.get(kind, tmp_path / "place")
    if kind in {"empty folder", "broken gitfile", "broken HEAD"}:
        path.mkdir()
    if kind == "file":
        path.write_text("text")
    if kind == "broken gitfile":
        (path / ".git").write_text("gitdir: /nowhere/at/all\n")
    if kind == "broken HEAD":
        (path / ".git").mkdir()
    with pytest.raises(errors.RepositoryNotFoundError):
        opened(adapter, str(path))


def test_a_gitfile_that_leads_elsewhere_is_not_followed_into_the_files_there(adapter, real, tmp_path):
    """A ``.git`` file that claims another repository's git directory gives access to no files but its own folder's."""
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / ".git").write_text(f"gitdir: {real.git_dir}\n")
    before = fingerprint(real)
    with contextlib.suppress(errors.GitOperationError):
        backend = opened(adapter, str(trap))
        assert backend.worktree_path == str(trap)
        backend.clean(str(trap), ignored=True)
    assert fingerprint(real) == before


UNPRIVILEGED = """
    import os, sys
    from arboretum.bootstrap import backend_factory
    from arboretum.errors import ArboretumError
    from arboretum.values import *
    name, scratch, path, aside = sys.argv[1:]

    def write(path, aside):
        backend = backend_factory(name).open(path)
        head = backend.head(path).oid
        for act in (
            lambda: backend.update_ref(RefName.branch("new"), head, None),
            lambda: backend.commit(path, "m", allow_empty=True),
            lambda: backend.add_worktree(WorktreeSpec(f"{aside}/wt", detach=head)),
            lambda: backend.set_config("a.b", "c"),
            lambda: backend.write_blob(b"new"),
        ):
            try:
                act()
                print("done")
            except ArboretumError as error:
                print(type(error).__name__)

    write(scratch, f"{scratch}.aside")  # with all rights; and what is imported late is there from now on
    os.setgid(12345)
    os.setuid(12345)
    write(path, aside)
"""


@pytest.fixture
def public(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder that every user can look into, with a HOME in it; pytest's own folders are closed to others."""
    with tempfile.TemporaryDirectory(prefix="arboretum-") as name:
        place = Path(name)
        place.chmod(0o755)
        (place / ".gitconfig").write_text("[safe]\n\tdirectory = *\n")
        monkeypatch.setenv("HOME", name)
        monkeypatch.setenv("GIT_CONFIG_GLOBAL", f"{name}/.gitconfig")
        yield place


def test_what_is_not_permitted_is_told_as_that(adapter, public):
    """A repository that may be read and not written is read; each write fails with GitPermissionError."""
    if os.geteuid() != 0:
        pytest.fail("this test takes rights away from itself, which only root can give")
    aside = public / "aside"
    aside.mkdir()
    aside.chmod(0o777)
    scratch, real = (RepositoryBuilder.init(public / name) for name in ("scratch", "real"))
    for builder in (scratch, real):
        builder.commit({"a.txt": "a\n"}, "one")
    subprocess.run(["chmod", "-R", "a+rX", real.path], check=True)
    before = fingerprint(real)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(UNPRIVILEGED), adapter, scratch.path, real.path, str(aside)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout.split() == ["done"] * 5 + ["GitPermissionError"] * 5, done.stderr
    assert fingerprint(real) == before
    assert list(aside.iterdir()) == []
    assert backend_factory(adapter).open(real.path).head(real.path).oid == head(real)
