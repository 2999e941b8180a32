"""Hostile repositories: what their configuration or their files would like to run or reach."""

from __future__ import annotations

import contextlib
import os
import subprocess
from pathlib import Path

import pytest

from arboretum.backends.base import GitBackend
from arboretum.bootstrap import backend_factory
from arboretum.errors import ArboretumError, GitOperationError, InvalidValueError, UnsafeRepositoryError
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import FileMode, LogQuery, Oid, RefName, ResetMode, Revision, TreeEntry, WorktreeSpec
from tests.backends.oracle import ADAPTERS, files_below, opened


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


def head(real: RepositoryBuilder) -> Oid:
    return Oid(real.git("rev-parse", "HEAD"))


def look_around(backend: GitBackend, real: RepositoryBuilder, aside: Path) -> None:
    """Everything that a script does in a repository that it was handed."""
    commit = head(real)
    Path(real.path, "a.txt").write_text("changed\n")
    backend.status(real.path, ignored=True, renames=True)
    backend.resolve(Revision("HEAD~1"))
    assert list(backend.log(LogQuery((commit,))))
    backend.diff_text(None, commit)
    backend.diff_trees(None, commit)
    backend.list_refs()
    backend.list_worktrees()
    backend.merge_trees(commit, commit)
    info = backend.add_worktree(WorktreeSpec(str(aside / "wt"), detach=commit))
    backend.status(info.path)
    backend.reset(info.path, commit, ResetMode.HARD)
    backend.clean(info.path, ignored=True)
    backend.remove_worktree(info.path)
    backend.stage(real.path, ["a.txt"])
    backend.fetch(real.path)


def test_no_program_of_the_configuration_is_run_by_looking(adapter, real, tmp_path):
    """Programs that a repository's own configuration names for reading, watching or showing are not run."""
    marker = tmp_path / "ran"
    evil = f"touch {marker}; false"
    for key in (
        "core.fsmonitor", "core.pager", "core.editor", "core.askPass", "core.sshCommand", "diff.external", "pager.log",
        "sequence.editor", "gpg.program", "alias.status", "alias.log", "core.gitProxy", "core.alternateRefsCommand",
        "uploadpack.packObjectsHook", "diff.evil.command", "diff.evil.textconv", "merge.evil.driver",
    ):  # fmt: skip
        subprocess.run(["git", "config", "--file", f"{real.git_dir}/config", key, evil], check=True)
    Path(real.git_dir, "info").mkdir(exist_ok=True)
    Path(real.git_dir, "info/attributes").write_text("* diff=evil merge=evil\n")
    real.environment = {**real.environment, "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "core.fsmonitor",
                        "GIT_CONFIG_VALUE_0": "false"}  # fmt: skip
    look_around(opened(adapter, real.path), real, tmp_path)
    assert not marker.exists()


def test_a_repository_of_somebody_else_in_a_parent_is_not_taken(adapter, tmp_path):
    """A ``.git`` that another user put into a parent folder is refused when it is discovered, configuration unread."""
    if os.geteuid() != 0:
        pytest.fail("this test has to give a folder away, which only root can")
    marker = tmp_path / "ran"
    trap = RepositoryBuilder.init(tmp_path / "shared")
    trap.commit({"a": "a"}, "a")
    trap.git("config", "core.fsmonitor", f"touch {marker}")
    mine = Path(trap.path, "mine/deep")
    mine.mkdir(parents=True)
    subprocess.run(["chown", "-R", "12345", f"{trap.path}/.git", trap.path], check=True)
    subprocess.run(["chown", "-R", "0", f"{trap.path}/mine"], check=True)
    with pytest.raises(UnsafeRepositoryError):
        backend_factory(adapter).discover(str(mine))
    assert not marker.exists()


@pytest.mark.parametrize(
    "text",
    ["gitdir: {git_dir}", "gitdir: ../real/.git/worktrees/../../.git", "gitdir: /proc/self/cwd", "gitdir:", "nonsense",
     "gitdir: \0x", "gitdir: {git_dir}/objects", "gitdir: " + "x" * 5000],
)  # fmt: skip
def test_a_git_file_that_lies_gives_nothing_away(adapter, text, real, tmp_path):
    """A ``.git`` file may say what it likes: no other repository's files, index or branches are touched through it."""
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / ".git").write_text(text.format(git_dir=real.git_dir) + "\n")
    before = (files_below(real.path), real.git("for-each-ref"))
    with contextlib.suppress(ArboretumError):
        backend = opened(adapter, str(trap))
        assert backend.worktree_path in {str(trap), None}
        with contextlib.suppress(ArboretumError):
            backend.clean(str(trap), ignored=True)
    assert (files_below(real.path), real.git("for-each-ref")) == before
    with contextlib.suppress(ArboretumError):
        opened(adapter, real.path).remove_worktree(str(trap), force=True)
    assert trap.exists()


@pytest.mark.parametrize("field", ["gitdir", "commondir", "HEAD"])
def test_a_record_that_lies_leads_nowhere(adapter, field, real, tmp_path):
    """A worktree's record that was tampered with lets nothing be removed or written outside of worktrees."""
    backend = opened(adapter, real.path)
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").write_text("keep")
    lie = {"gitdir": f"{precious}/.git\n", "commondir": f"{precious}\n", "HEAD": "ref: ../../../precious/file\n"}[field]
    Path(real.git_dir, "worktrees", info.name, field).write_text(lie)
    for act in (
        backend.list_worktrees,
        lambda: backend.remove_worktree(str(precious), force=True),
        lambda: backend.reset(str(precious), head(real), ResetMode.HARD),
        lambda: backend.clean(str(precious), ignored=True),
        lambda: backend.commit(info.path, "m", allow_empty=True),
        backend.prune_worktrees,
        backend.repair_worktrees,
    ):
        with contextlib.suppress(ArboretumError):
            act()
    assert (precious / "file").read_text() == "keep"
    assert os.listdir(precious) == ["file"]


@pytest.mark.parametrize(
    "path", ["../out", "/abs", ".git/config", "a/../../out", "x/.GIT/hooks/pre-commit", "", "a//b"]
)
def test_no_tree_is_made_with_a_path_that_leads_out(adapter, path, real):
    """A tree, a stage and a patch take only paths that stay inside the worktree and out of ``.git``."""
    backend = opened(adapter, real.path)
    blob = backend.write_blob(b"owned")
    with pytest.raises((GitOperationError, InvalidValueError)):
        backend.write_tree([TreeEntry(path, FileMode.FILE, blob)])
    patch = f"diff --git a/{path} b/{path}\nnew file mode 100644\n--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+owned\n"
    before = files_below(real.path)
    config = Path(real.git_dir, "config").read_text()
    with pytest.raises((GitOperationError, InvalidValueError)):
        backend.apply(real.path, patch.encode())
    assert files_below(real.path) == before
    assert Path(real.git_dir, "config").read_text() == config
    assert not Path(real.path).parent.joinpath("out").exists()


def test_a_hostile_tree_is_not_written_outside(adapter, real, tmp_path):
    """A tree that holds ``.git`` or ``..``, made by other means, is refused when it is to be checked out."""
    backend = opened(adapter, real.path)
    blob = real.git("hash-object", "-w", "--stdin", stdin=b"owned")
    for name in (".git", "..", ".GIT"):
        inner = real.git("mktree", stdin=f"100644 blob {blob}\tconfig\n".encode())
        raw = b"40000 " + name.encode() + b"\0" + bytes.fromhex(inner)
        tree = real.git("hash-object", "-t", "tree", "-w", "--literally", "--stdin", stdin=raw)
        commit = Oid(real.git("commit-tree", "-m", "evil", tree))
        config = Path(real.git_dir, "config").read_text()
        with contextlib.suppress(ArboretumError):
            backend.add_worktree(WorktreeSpec(str(tmp_path / f"wt{name}"), detach=commit))
        with contextlib.suppress(ArboretumError):
            backend.reset(real.path, commit, ResetMode.HARD)
        assert Path(real.git_dir, "config").read_text() == config
        assert not (tmp_path / "config").exists()
        assert not (tmp_path / f"wt{name}/.git/config").exists()


def test_names_of_refs_cannot_escape_the_ref_store(adapter, real):
    """A ref's name is checked before any path is made of it."""
    backend = opened(adapter, real.path)
    for name in ("refs/heads/../../config", "refs/heads/x.lock", "refs/../HEAD", "refs/heads/.x", "config"):
        with pytest.raises(InvalidValueError):
            backend.update_ref(RefName(name), head(real), None)
