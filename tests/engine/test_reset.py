# ruff: noqa: E501  (shell scripts, one to a line)
"""Whatever a trial does in its slot, the next reset brings it to its commit, proven by real git and by the files."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from arboretum.engine.slot_files import read_link
from arboretum.engine.slots import Want
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid

VANDALS = {
    "changes tracked files": "echo changed > a.txt; rm dir/b.txt; chmod +x .gitignore",
    "changes a file without changing its size or time": "touch -r a.txt ref; printf 'eno\\n' > a.txt; touch -r ref a.txt",
    "turns a file into a folder and back": "rm a.txt; mkdir a.txt; echo x > a.txt/in; rm -r dir; echo x > dir",
    "turns a folder into a link that leads out": 'mkdir ../../out; echo mine > ../../out/b.txt; rm -r dir; ln -s "$PWD/../../out" dir',
    "leaves untracked files and folders": "mkdir -p p/q/r empty/deeper; echo x > p/q/r/s; echo x > -rf; echo x > ':(top)'",
    "leaves names that are no text": "python3 -c \"open(b'\\\\xff\\\\xfe\\\\n.txt', 'w'); open('new\\nline', 'w')\"",
    "leaves ignored files": "mkdir -p build/deep; echo x > build/deep/cache; echo x > some.ignored",
    "leaves nested repositories": "git init -q n; git -C n commit -q --allow-empty -m x; git init -q --bare dir/bare.git",
    "leaves a nested worktree": "git worktree add -q --detach inner; echo x > inner/file",
    "closes folders and files": "mkdir shut; echo x > shut/x; chmod 000 a.txt x shut; chmod 555 dir; chmod 4777 .gitignore",
    "leaves stale locks": 'd=$(git rev-parse --git-dir); for f in index HEAD ORIG_HEAD config.worktree; do touch "$d/$f.lock"; done',
    "is in the middle of a merge": "echo ours > a.txt; git commit -qam ours; git merge -q other || true",
    "is in the middle of a rebase": "echo ours > a.txt; git commit -qam ours; git rebase -q other || true",
    "is in the middle of a cherry-pick": "echo ours > a.txt; git commit -qam ours; git cherry-pick other || true",
    "is in the middle of a revert": "echo ours > a.txt; git commit -qam ours; git revert --no-edit HEAD~1 || true",
    "is in the middle of am": "git format-patch -q -1 other --stdout > p; echo ours > a.txt; git commit -qam o; git am -q p || true",
    "is in the middle of a bisection": "git bisect start -q; git bisect bad HEAD; git update-ref refs/worktree/mine HEAD",
    "switches to a branch and commits there": "git checkout -q other; echo more > more.txt; git add .; git commit -qm more",
    "stands on a branch without commits": "git checkout -q --orphan nothing; git rm -qrf .",
    "hides files by a sparse checkout": "git sparse-checkout set --cone dir",
    "hides files by patterns": "git sparse-checkout set --no-cone /a.txt",
    "hides a file (skip-worktree)": "git update-index --skip-worktree a.txt; echo hidden > a.txt",
    "hides a missing file (skip-worktree)": "git update-index --skip-worktree a.txt; rm a.txt",
    "hides a file (assume-unchanged)": "git update-index --assume-unchanged a.txt; echo hidden > a.txt",
    "intends to add": "echo x > new; git add -N new; git rm -q --cached a.txt",
    "deletes the index": 'rm "$(git rev-parse --git-dir)/index"; echo x > a.txt',
    "damages the index": 'i="$(git rev-parse --git-dir)/index"; head -c 60 "$i" > t; cat t > "$i"; rm t',
    "fills the index with rubbish": 'head -c 3000 /dev/urandom > "$(git rev-parse --git-dir)/index"',
    "changes the form of the index": "git update-index --index-version 4; echo x > a.txt",
    "splits the index": "git update-index --split-index; echo x > new; git add new; rm a.txt",
    "keeps an untracked cache": "git update-index --force-untracked-cache; git status > /dev/null; echo x > new",
    "damages HEAD": 'echo rubbish > "$(git rev-parse --git-dir)/HEAD"',
    "deletes HEAD": 'rm "$(git rev-parse --git-dir)/HEAD"',
    "deletes its link": "rm .git",
    "makes a repository of its own": "rm .git; git init -q; git add -A; git commit -qm mine",
    "changes its ignore rules": "echo 'a.txt\n*' > .gitignore; echo x > new; echo x > dir/new",
    "deletes everything": 'rm -rf "$PWD"',
    "deletes itself by git": 'git worktree remove --force "$PWD"',
    "moves itself away": 'mv "$PWD" "$PWD/../../elsewhere"',
    "deletes its record": 'rm -r "$(git rev-parse --git-dir)"',
    "fills its attributes": "echo '* text eol=crlf' > .gitattributes; git add -A; git checkout -q -- .; touch a.txt",
}  # fmt: skip


def files_below(folder: str) -> dict[str, tuple[str, object]]:
    """All there is below `folder` but the link to the repository: kind and content."""
    found: dict[str, tuple[str, object]] = {}
    for top, folders, names in os.walk(os.fsencode(folder)):
        for name in [*folders, *names]:
            path = os.path.join(top, name)
            key = os.fsdecode(os.path.relpath(path, os.fsencode(folder)))
            if os.path.islink(path):
                found[key] = ("link", os.readlink(path))
            elif os.path.isdir(path):
                found[key] = ("folder", os.stat(path).st_mode & 0o700)
            elif key != ".git":
                found[key] = ("file", (Path(os.fsdecode(path)).read_bytes(), os.stat(path).st_mode & 0o700))
    return found


def expected_files(builder: RepositoryBuilder, commit: str, folder: Path) -> dict[str, tuple[str, object]]:
    folder.mkdir()
    with tarfile.open(fileobj=io.BytesIO(builder.git_bytes("archive", commit))) as archive:
        archive.extractall(folder, filter="tar")
    return files_below(str(folder))


def assert_pristine(
    builder: RepositoryBuilder, path: str, commit: str, scratch: Path, *, ignored: bool = False
) -> None:
    """Real git sees nothing but ignored files, and the files are those of the commit."""
    status = builder.git("status", "--porcelain", "-z", "--ignored", "--untracked-files=all", cwd=path)
    entries = [entry for entry in status.split("\0") if entry]
    assert [entry for entry in entries if not (ignored and entry.startswith("!! "))] == []
    assert builder.git("rev-parse", "HEAD", cwd=path) == commit
    assert builder.git("rev-parse", "--symbolic-full-name", "HEAD", cwd=path) == "HEAD"
    assert {line[:1] for line in builder.git("ls-files", "-v", cwd=path).splitlines()} <= {"H"}
    left_out = {entry[3:].rstrip("/") for entry in entries}
    found = {
        name: what for name, what in files_below(path).items()
        if not any(f"{name}/".startswith(f"{skip}/") or (what[0] == "folder" and skip.startswith(f"{name}/"))
                   for skip in left_out)
    }  # fmt: skip
    expected = expected_files(builder, commit, scratch)
    assert found == {name: what for name, what in expected.items() if name in found or what[0] != "folder"}


@pytest.fixture
def battered(ground):
    ground.builder.branch("other", ground.three)
    return ground


@pytest.mark.parametrize("vandal", VANDALS, ids=lambda name: name.replace(" ", "-"))
def test_reset_after_anything(battered, tmp_path, vandal):
    """After anything that a trial can do, each commit is restored exactly, other branches are unmoved, the pool is well."""
    ground, counter = battered, itertools.count()
    pool = ground.pool(size=1)
    refs = ground.builder.git("for-each-ref", "refs/heads/main")
    for fresh, commit in ((False, ground.one), (False, ground.two), (True, ground.one)):
        lease = pool.try_acquire(Want(commit=ground.one))
        assert_pristine(ground.builder, lease.path, ground.one, tmp_path / f"e{next(counter)}", ignored=True)
        tip = ground.builder.git("rev-parse", "other")
        subprocess.run(["sh", "-c", VANDALS[vandal]], cwd=lease.path, check=False, capture_output=True, timeout=30)
        moved_by_trial = ground.builder.git("rev-parse", "other")
        pool.release(lease)
        lease = pool.try_acquire(Want(commit=commit), fresh=fresh)
        assert_pristine(ground.builder, lease.path, commit, tmp_path / f"e{next(counter)}", ignored=not fresh)
        assert ground.builder.git("rev-parse", "other") == moved_by_trial
        ground.builder.git("update-ref", "refs/heads/other", tip)
        pool.release(lease)
        shutil.rmtree(os.path.join(pool.root, "elsewhere"), ignore_errors=True)
    assert ground.builder.git("for-each-ref", "refs/heads/main") == refs
    out = Path(pool.root) / "out" / "b.txt"
    assert not out.exists() or out.read_text() == "mine\n"
    assert [problem for problem in pool.check() if "left over" not in problem] == []
    ground.builder.git("fsck", "--no-dangling")


CONFIGURATIONS = {
    "status.showUntrackedFiles": "no",
    "clean.requireForce": "true",
    "submodule.recurse": "true",
    "core.untrackedCache": "true",
    "core.fsmonitor": "true",
    "feature.manyFiles": "true",
    "core.splitIndex": "true",
    "diff.ignoreSubmodules": "all",
    "status.relativePaths": "false",
    "checkout.defaultRemote": "nowhere",
    "core.quotePath": "true",
    "advice.detachedHead": "true",
    "core.checkStat": "minimal",
}


@pytest.mark.parametrize("key", CONFIGURATIONS)
def test_reset_whatever_the_user_has_configured(ground, tmp_path, key):
    """The user's configuration of git changes nothing in what a reset comes to."""
    ground.builder.git("config", key, CONFIGURATIONS[key])
    pool = ground.pool(size=1)
    for number, commit in enumerate((ground.one, ground.two, ground.three)):
        lease = pool.try_acquire(Want(commit=commit))
        assert_pristine(ground.builder, lease.path, commit, tmp_path / f"e{number}")
        subprocess.run(["sh", "-c", VANDALS["changes tracked files"]], cwd=lease.path, check=False)
        subprocess.run(["sh", "-c", "mkdir -p p/q; echo x > p/q/r; echo x > new"], cwd=lease.path, check=True)
        pool.release(lease)


def test_the_users_hooks_do_not_run(ground, tmp_path):
    """Making and resetting slots runs no hook of the repository."""
    marker = tmp_path / "hook-ran"
    hooks = Path(ground.builder.git_dir) / "hooks"
    hooks.mkdir(exist_ok=True)
    for name in ("post-checkout", "post-merge", "post-rewrite", "pre-commit", "post-commit"):
        (hooks / name).write_text(f"#!/bin/sh\ntouch '{marker}'\n")
        (hooks / name).chmod(0o755)
    pool = ground.pool(size=1)
    for commit in (ground.one, ground.two):
        pool.release(pool.try_acquire(Want(commit=commit)))
    assert not marker.exists()


def test_files_that_became_untracked_by_the_new_commit_go(ground, tmp_path):
    """What was ignored under the old commit's rules and is not under the new one's is removed."""
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one))
    (Path(lease.path) / "some.ignored").write_text("x")
    (Path(lease.path) / "build").mkdir()
    (Path(lease.path) / "build" / "cache").write_text("kept")
    pool.release(lease)
    lease = pool.try_acquire(Want(commit=ground.two))
    assert lease.ignored == ("build/",)
    assert_pristine(ground.builder, lease.path, ground.two, tmp_path / "e", ignored=True)


def test_the_same_slot_is_kept_through_all_that_can_be_mended(battered, tmp_path):
    """Damage that a reset can mend does not cost the slot: its ignored files are still there."""
    pool = battered.pool(size=1)
    lost = {"deletes its link", "makes a repository of its own", "deletes everything", "deletes itself by git",
            "moves itself away", "deletes its record"}  # fmt: skip
    for number, (vandal, script) in enumerate(VANDALS.items()):
        if vandal in lost:
            continue
        lease = pool.try_acquire(Want(commit=battered.one))
        (Path(lease.path) / "build").mkdir(exist_ok=True)
        (Path(lease.path) / "build" / "cache").write_text(vandal)
        subprocess.run(["sh", "-c", script], cwd=lease.path, check=False, capture_output=True, timeout=30)
        pool.release(lease)
        lease = pool.try_acquire(Want(commit=battered.one))
        assert (Path(lease.path) / "build" / "cache").read_text() == vandal, vandal
        pool.release(lease)
        assert number >= 0


def make_submodule(ground, tmp_path):
    inner = RepositoryBuilder.init(tmp_path / "inner")
    first, second = inner.commits([CommitSpec({"code": "1\n", ".gitignore": "out\n"}), CommitSpec({"code": "2\n"})])
    ground.builder.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", inner.path, "sub")
    commits = []
    for commit in (first, second):
        ground.builder.git("-C", "sub", "checkout", "-q", commit)
        ground.builder.git("add", "-A")
        ground.builder.git("commit", "-qm", f"sub at {commit}")
        commits.append(Oid(ground.builder.git("rev-parse", "HEAD")))
    return commits


def test_submodules_follow_or_are_emptied(ground, tmp_path):
    """A filled submodule goes to each commit's own state and is cleaned; one that cannot be had is emptied."""
    first, second = make_submodule(ground, tmp_path)
    pool = ground.pool(size=1)
    fill = ["git", "-c", "protocol.file.allow=always", "submodule", "update", "-q", "--init"]
    lease = pool.try_acquire(Want(commit=first))
    assert os.listdir(f"{lease.path}/sub") == []
    subprocess.run(fill, cwd=lease.path, check=True)
    pool.release(lease)
    lease = pool.try_acquire(Want(commit=second))
    assert Path(f"{lease.path}/sub/code").read_text() == "2\n"
    subprocess.run(
        ["sh", "-c", "echo x > code; echo x > new; git checkout -q -b mine"], cwd=f"{lease.path}/sub", check=True
    )
    subprocess.run(["sh", "-c", "touch $(git rev-parse --git-dir)/index.lock"], cwd=f"{lease.path}/sub", check=True)
    pool.release(lease)
    lease = pool.try_acquire(Want(commit=second))
    assert Path(f"{lease.path}/sub/code").read_text() == "2\n"
    assert sorted(os.listdir(f"{lease.path}/sub")) == [".git", ".gitignore", "code"]
    assert ground.builder.git("status", "--porcelain", "--ignored", cwd=lease.path) == ""
    pool.release(lease)
    lease = pool.try_acquire(Want(commit=ground.one))
    assert not os.path.lexists(f"{lease.path}/sub")
    pool.release(lease)
    lease = pool.try_acquire(Want(commit=first))
    assert os.listdir(f"{lease.path}/sub") == []
    subprocess.run(fill, cwd=lease.path, check=True)
    shutil.rmtree(Path(read_link(f"{lease.path}/sub")) / "objects")
    pool.release(lease)
    lease = pool.try_acquire(Want(commit=second))
    assert ground.builder.git("status", "--porcelain", cwd=lease.path) == ""


def test_a_slot_that_cannot_be_mended_is_made_anew(ground, tmp_path):
    """A file that the system will not let go of costs the slot, not the trial; what is left is told and not lost track of."""
    chattr = shutil.which("chattr")
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one))
    stuck = Path(lease.path) / "stuck"
    stuck.write_text("x")
    if chattr is None or subprocess.run([chattr, "+i", str(stuck)], check=False, capture_output=True).returncode:
        # Where no file can be made immutable a folder without rights does it, for everybody but root.
        assert os.geteuid() != 0
        pytest.skip("the file system has no immutable files")
    trash = Path(pool.root) / "trash"
    try:
        pool.release(lease)
        lease = pool.try_acquire(Want(commit=ground.two))
        assert_pristine(ground.builder, lease.path, ground.two, tmp_path / "e")
        pool.release(lease)
        assert any("left over" in problem for problem in pool.check())
    finally:
        for path in (stuck, *trash.glob("*/stuck")):
            subprocess.run([chattr, "-i", str(path)], check=False, capture_output=True)
    pool.sweep()
    assert pool.check() == ()


def test_closed_folders_without_the_rights_of_root(tmp_path):
    """Folders and files without any rights, left by a trial, are opened and removed also by who is not all-powerful."""
    script = Path(__file__).with_name("closed_folders.py")
    environment = {**os.environ, "ARBORETUM_CACHE_DIR": f"{tmp_path}/cache"}
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], env=environment, capture_output=True, text=True, check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wiped_slot_has_no_ignored_file(ground, tmp_path):
    """A slot that was given back to be wiped has no ignored file when it is taken the next time, and only then."""
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one))
    (Path(lease.path) / "build").mkdir()
    (Path(lease.path) / "build" / "half").write_text("x")
    pool.release(lease, wipe=True)
    lease = pool.try_acquire(Want(commit=ground.one))
    assert_pristine(ground.builder, lease.path, ground.one, tmp_path / "e")
    assert not lease.slot.wipe


def test_sparse_users_get_sparse_slots_again_and_again(ground):
    """Slots take over the sparse patterns of the user's worktree, and a trial that changes them changes only its trial."""
    ground.builder.git("config", "extensions.worktreeConfig", "true")
    ground.builder.git("sparse-checkout", "set", "--cone", "dir")
    pool = ground.pool(size=1)
    seen = []
    for _ in range(3):
        lease = pool.try_acquire(Want(commit=ground.two))
        seen.append(sorted(files_below(lease.path)))
        with contextlib.suppress(subprocess.CalledProcessError):
            subprocess.run(["git", "sparse-checkout", "disable"], cwd=lease.path, check=True, capture_output=True)
        pool.release(lease)
    assert seen[0] == seen[1] == seen[2]
    assert "x" not in seen[0]
