"""Repository formats and features: each works, or is refused by name before anything is touched, on every adapter."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from arboretum.backends.base import Capability, GitBackend
from arboretum.backends.git_command import run_process
from arboretum.bootstrap import backend_factory
from arboretum.errors import GitOperationError, UnsafeRepositoryError, UnsupportedOperationError
from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import Oid, RefName, ResetMode, Revision, WorktreeSpec
from tests.backends.oracle import ADAPTERS, fingerprint, opened

MAIN = RefName.branch("main")
GIT = tuple(int(n) for n in run_process(["git", "version"], cwd="/", env=dict(os.environ), stdin=None)
            .stdout.split()[2].split(b".")[:2])  # fmt: skip


@pytest.fixture(params=ADAPTERS)
def adapter(request: pytest.FixtureRequest) -> str:
    return request.param


def head(real: RepositoryBuilder) -> Oid:
    return Oid(real.git("rev-parse", "HEAD"))


def extend(real: RepositoryBuilder, name: str) -> None:
    """Declare an extension of the format; git itself may not know it and would not work on the repository any more."""
    with Path(real.git_dir, "config").open("a") as file:
        file.write(f"[extensions]\n\t{name} = true\n")


def acts(backend: GitBackend, real: RepositoryBuilder, tmp_path: Path) -> dict[str, Callable[[], object]]:
    """Operations that read or write the files of a worktree."""
    commit = head(real)
    return {
        "add_worktree": lambda: backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=commit)),
        "status": lambda: backend.status(real.path),
        "reset": lambda: backend.reset(real.path, commit, ResetMode.HARD),
        "checkout": lambda: backend.checkout(real.path, commit),
        "stage": lambda: backend.stage(real.path, ["a.txt"]),
        "stash_create": lambda: backend.stash_create(real.path, "wip"),
    }


def test_a_sha256_repository(adapter, tmp_path):
    """A repository with SHA-256 ids works, or is refused when it is opened, by that name."""
    real = RepositoryBuilder.init(tmp_path / "long", object_format="sha256")
    commit = real.commit({"a.txt": "a\n"}, "one")
    if adapter == "pygit2":
        with pytest.raises(UnsupportedOperationError, match="sha256"):
            opened(adapter, real.path)
        return
    backend = opened(adapter, real.path)
    assert backend.sha256
    assert Capability.SHA256 in backend.capabilities()
    assert backend.resolve(Revision("HEAD")) == commit
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=commit))
    Path(info.path, "a.txt").write_text("b\n")
    backend.stage(info.path, ["a.txt"])
    made = backend.commit(info.path, "two")
    assert len(made) == 64
    assert backend.apply_to_tree(commit, backend.diff_text(commit, made)) == backend.read_commit(made).tree
    backend.update_ref(RefName.branch("new"), made, None)
    real.git("fsck", "--strict")


def test_a_reftable_repository(adapter, tmp_path):
    """A repository with refs in a table works where git can, and else is refused when it is opened, by that name."""
    real = RepositoryBuilder.init(tmp_path / "table")
    commit = real.commit({"a.txt": "a\n"}, "one")
    probe = opened(adapter, real.path)
    if Capability.REFTABLE in probe.capabilities():
        real.git("refs", "migrate", "--ref-format=reftable")
        backend = opened(adapter, real.path)
        assert backend.resolve(Revision("main")) == commit
        backend.update_ref(RefName.branch("new"), commit, None)
        assert backend.head(real.path).branch == MAIN
        return
    real.git("config", "core.repositoryFormatVersion", "1")
    real.git("config", "extensions.refStorage", "reftable")
    with pytest.raises(UnsupportedOperationError, match=r"(?i)refstorage|reftable"):
        opened(adapter, real.path)


def test_an_unknown_extension(adapter, tmp_path):
    """A repository with an extension that is not known is refused when it is opened, by its name."""
    real = RepositoryBuilder.init(tmp_path / "odd")
    real.commit({"a.txt": "a\n"}, "one")
    real.git("config", "core.repositoryFormatVersion", "1")
    extend(real, "fromTheFuture")
    with pytest.raises(UnsupportedOperationError, match=r"(?i)fromthefuture"):
        opened(adapter, real.path)


def test_relative_worktree_paths(adapter, tmp_path):
    """A repository with relative links is worked on, and stays relative; or is refused by name where git is too old."""
    real = RepositoryBuilder.init(tmp_path / "rel")
    commit = real.commit({"a.txt": "a\n"}, "one")
    real.git("config", "core.repositoryFormatVersion", "1")
    extend(real, "relativeWorktrees")
    if adapter != "pygit2" and GIT < (2, 48):
        with pytest.raises(UnsupportedOperationError, match=r"(?i)relativeworktrees"):
            opened(adapter, real.path)
        return
    backend = opened(adapter, real.path)
    assert Capability.RELATIVE_WORKTREES in backend.capabilities()
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=commit))
    assert Path(info.path, ".git").read_text() == f"gitdir: ../rel/.git/worktrees/{info.name}\n"
    assert Path(real.git_dir, "worktrees", info.name, "gitdir").read_text() == "../../../../wt/.git\n"
    moved = backend.move_worktree(info.path, str(tmp_path / "deep/moved"))
    assert backend.status(moved.path) == ()
    Path(tmp_path / "deep").rename(tmp_path / "other")
    backend.repair_worktrees([str(tmp_path / "other/moved")])
    assert [w.path for w in backend.list_worktrees()] == [real.path, str(tmp_path / "other/moved")]
    assert backend.status(str(tmp_path / "other/moved")) == ()


def test_configuration_of_single_worktrees(adapter, real, tmp_path):
    """With extensions.worktreeConfig a new worktree takes over the main one's own configuration, but not its place."""
    real.git("config", "extensions.worktreeConfig", "true")
    real.git("config", "--worktree", "test.key", "kept")
    real.git("config", "--worktree", "core.worktree", real.path)
    backend = opened(adapter, real.path)
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    assert real.git("config", "--get-all", "test.key", cwd=info.path) == "kept"
    assert real.git("rev-parse", "--show-toplevel", cwd=info.path) == info.path
    Path(info.path, "a.txt").write_text("changed\n")
    assert [e.path for e in backend.status(info.path)] == ["a.txt"]
    assert backend.status(real.path) == ()


@pytest.mark.parametrize("kind", ["split", "sparse"])
def test_index_extensions(adapter, real, tmp_path, kind):
    """A split or sparse index works, or is refused by name before anything is touched."""
    if kind == "split":
        real.git("update-index", "--split-index")
    else:
        real.git("sparse-checkout", "set", "--cone", "--sparse-index", "nothing")
    backend = opened(adapter, real.path)
    before = fingerprint(real)
    for name, act in acts(backend, real, tmp_path).items():
        if Capability.INDEX_EXTENSIONS in backend.capabilities():
            act()
        elif not (kind == "split" and name == "add_worktree"):  # a new worktree has an index of its own
            with pytest.raises(UnsupportedOperationError, match=r"(?i)extension|sparse"):
                act()
            assert fingerprint(real) == before
    assert backend.head(real.path).oid == head(real)


def test_index_version_4(adapter, real, tmp_path):
    """An index with shortened paths (feature.manyFiles) is read and written."""
    real.git("update-index", "--index-version", "4")
    backend = opened(adapter, real.path)
    assert backend.status(real.path) == ()
    Path(real.path, "a.txt").write_text("changed\n")
    backend.stage(real.path, ["a.txt"])
    backend.commit(real.path, "changed")
    assert real.git("status", "--porcelain") == ""


def test_a_partial_clone(adapter, real, tmp_path):
    """In a partial clone missing objects are fetched, or what may need them is refused by name."""
    real.git("config", "uploadpack.allowFilter", "true")
    clone = RepositoryBuilder(str(tmp_path / "clone"), environment=real.environment)
    real.git("clone", "-q", "--filter=blob:none", "--no-checkout", f"file://{real.path}", clone.path)
    backend = opened(adapter, clone.path)
    add = WorktreeSpec(str(tmp_path / "wt"), detach=head(real))
    if Capability.PARTIAL_CLONE in backend.capabilities():
        assert Path(backend.add_worktree(add).path, "a.txt").read_text() == "one\ntwo\nthree\n"
        return
    before = fingerprint(clone)
    for act in (
        lambda: backend.add_worktree(add),
        lambda: backend.reset(clone.path, head(real), ResetMode.HARD),
        lambda: backend.checkout(clone.path, head(real)),
        lambda: backend.merge_trees(head(real), head(real)),
        lambda: backend.diff_text(None, head(real)),
    ):
        with pytest.raises(UnsupportedOperationError, match="partial clone"):
            act()
    assert fingerprint(clone) == before
    assert backend.resolve(Revision("HEAD")) == head(real)


def test_line_ends_are_converted(adapter, real, tmp_path):
    """core.autocrlf and eol attributes are honoured when files are written and when they are taken."""
    real.commit({"unix.txt": "1\n2\n", "dos.txt": "1\n2\n", ".gitattributes": "*.txt text\ndos.txt eol=crlf\n"}, "eol")
    backend = opened(adapter, real.path)
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    path = Path(info.path)
    assert (path / "dos.txt").read_bytes() == b"1\r\n2\r\n"
    assert (path / "unix.txt").read_bytes() == b"1\n2\n"
    assert backend.status(info.path) == ()
    (path / "dos.txt").write_bytes(b"1\r\n2\r\n3\r\n")
    (path / "unix.txt").write_bytes(b"1\r\n2\n")
    stash = backend.stash_create(info.path, "wip")
    assert stash is not None
    backend.reset(info.path, head(real), ResetMode.HARD)
    backend.stash_apply(info.path, stash)
    assert (path / "dos.txt").read_bytes() == b"1\r\n2\r\n3\r\n"
    backend.stage(info.path, ["."])
    made = backend.commit(info.path, "three")
    assert backend.read_blob(next(e.oid for e in backend.read_tree(made) if e.path == "dos.txt")) == b"1\n2\n3\n"
    patch = backend.diff_text(made, head(real))
    backend.apply(info.path, patch, index=True)
    assert (path / "dos.txt").read_bytes() == b"1\r\n2\r\n"
    assert backend.commit(info.path, "back")
    assert real.git("status", "--porcelain", cwd=info.path) == ""
    real.git("config", "core.autocrlf", "true")
    other = opened(adapter, real.path).add_worktree(WorktreeSpec(str(tmp_path / "crlf"), detach=head(real)))
    assert Path(other.path, "unix.txt").read_bytes() == b"1\r\n2\r\n"
    assert opened(adapter, real.path).status(other.path) == ()


def filtered(real: RepositoryBuilder) -> None:
    """Let ``*.big`` go through a filter program, as git-lfs does it: a pointer is stored, the content is written."""
    real.git("config", "filter.lfs.clean", "sed 's/^content/pointer/'")
    real.git("config", "filter.lfs.smudge", "sed 's/^pointer/content/'")
    real.git("config", "filter.lfs.required", "true")
    real.write({"x.big": "content of x\n", ".gitattributes": "*.big filter=lfs\n"})
    real.git("add", ".")
    real.git("commit", "-qm", "large files")
    assert real.git("cat-file", "blob", "HEAD:x.big") == "pointer of x"


def test_filter_programs(adapter, real, tmp_path):
    """Files that go through a filter program are converted, or what would read or write them is refused by name."""
    filtered(real)
    backend = opened(adapter, real.path)
    if Capability.FILTERS in backend.capabilities():
        info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
        assert Path(info.path, "x.big").read_text() == "content of x\n"
        assert backend.status(info.path) == ()
        return
    before = fingerprint(real)
    for act in acts(backend, real, tmp_path).values():
        with pytest.raises(UnsupportedOperationError, match="filter program 'lfs'"):
            act()
        assert fingerprint(real) == before
    assert not (tmp_path / "wt").exists()


def test_pointers_without_the_program_are_files_like_any_other(adapter, real, tmp_path):
    """Where no filter is configured (git-lfs is not installed) the pointers themselves are what is worked on."""
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    real.commit({"x.big": pointer, ".gitattributes": "*.big filter=lfs diff=lfs merge=lfs -text\n"}, "pointers")
    backend = opened(adapter, real.path)
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real)))
    assert Path(info.path, "x.big").read_text() == pointer
    assert backend.status(info.path) == ()


def test_a_configured_filter_that_no_file_uses_is_no_matter(adapter, real, tmp_path):
    """git-lfs configured for the user does not keep a repository without such files from being worked on."""
    real.git("config", "filter.lfs.clean", "git-lfs clean -- %f")
    real.git("config", "filter.lfs.smudge", "git-lfs smudge -- %f")
    backend = opened(adapter, real.path)
    for act in acts(backend, real, tmp_path).values():
        act()


def test_hooks(adapter, real, tmp_path):
    """Hooks that git would run are run, or the operation is refused, and names the hook."""
    real.branch("topic")
    log = tmp_path / "log"
    for name in ("pre-commit", "commit-msg", "post-commit", "post-checkout"):
        hook = Path(real.git_dir, "hooks", name)
        hook.parent.mkdir(exist_ok=True)
        hook.write_text(f'#!/bin/sh\necho "{name}" >> {log}\n')
        hook.chmod(0o755)
    backend = opened(adapter, real.path)
    Path(real.path, "a.txt").write_text("changed\n")
    if Capability.HOOKS in backend.capabilities():
        backend.stage(real.path, ["a.txt"])
        backend.commit(real.path, "changed")
        assert log.read_text().split() == ["pre-commit", "commit-msg", "post-commit"]
        backend.checkout(real.path, RefName.branch("topic"))
        backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), branch=MAIN))
        assert log.read_text().split()[3:] == ["post-checkout"] * 2
        return
    backend.stage(real.path, ["a.txt"])
    before = fingerprint(real)
    for act, name in (
        (lambda: backend.commit(real.path, "changed"), "pre-commit"),
        (lambda: backend.cherry_pick(real.path, head(real)), "pre-commit"),
        (lambda: backend.checkout(real.path, RefName.branch("topic")), "post-checkout"),
        (lambda: backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=head(real))), "post-checkout"),
    ):
        with pytest.raises(UnsupportedOperationError, match=name):
            act()
    assert fingerprint(real) == before
    assert not log.exists()


def test_a_hook_that_refuses_is_obeyed(adapter, real):
    """A pre-commit hook that says no keeps the commit from being made, on every backend."""
    hook = Path(real.git_dir, "hooks", "pre-commit")
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    before = fingerprint(real)
    with pytest.raises(GitOperationError):
        opened(adapter, real.path).commit(real.path, "m", allow_empty=True)
    assert fingerprint(real) == before


def test_submodules(adapter, real, tmp_path):
    """A submodule is one entry of its parent: its commit is staged and committed, its changes are seen."""
    inner = RepositoryBuilder.init(tmp_path / "inner")
    inner.commit({"i.txt": "i\n"}, "inner")
    real.git("-c", "protocol.file.allow=always", "submodule", "add", "-q", inner.path, "sub")
    real.git("commit", "-qm", "with a submodule")
    backend = opened(adapter, real.path)
    assert backend.status(real.path) == ()
    module = f"{real.path}/sub"
    Path(module, "i.txt").write_text("changed\n")
    (entry,) = backend.status(real.path)
    assert (entry.path, entry.submodule, entry.worktree.value) == ("sub", True, "M")
    env = ["-c", "user.name=n", "-c", "user.email=e"]
    real.git(*env, "commit", "-qam", "moved on", cwd=module)
    backend.stage(real.path, ["sub"])
    made = backend.commit(real.path, "submodule moved on")
    assert next(e.oid for e in backend.read_tree(made) if e.path == "sub") == real.git("rev-parse", "HEAD", cwd=module)
    info = backend.add_worktree(WorktreeSpec(str(tmp_path / "wt"), detach=made))
    assert os.listdir(f"{info.path}/sub") == []
    assert backend.status(info.path) == ()


def test_a_repository_of_another_user(adapter, real):
    """A repository that belongs to somebody else is not opened, unless the user says that it is safe."""
    if os.geteuid() != 0:
        pytest.fail("this test has to give a folder away, which only root can")
    subprocess.run(["chown", "-R", "12345", real.path], check=True)
    try:
        with pytest.raises(UnsafeRepositoryError):
            opened(adapter, real.path)
        with pytest.raises(UnsafeRepositoryError):
            backend_factory(adapter).discover(f"{real.path}/d")
        subprocess.run(["git", "config", "--global", "--add", "safe.directory", real.path], check=True)
        assert opened(adapter, real.path).head(real.path).branch == MAIN
    finally:
        subprocess.run(["chown", "-R", "0", real.path], check=True)
