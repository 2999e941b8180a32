"""The git CLI backend: how git is run, what it is asked, and what it may not do to us."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from attrs import define, field

from arboretum import Repository
from arboretum.backends import cli
from arboretum.backends.cli import CliBackend, git_version
from arboretum.backends.faults import git_error, is_transient
from arboretum.backends.git_command import GitMissingError, GitOutput, git_environment, run_process
from arboretum.errors import (
    GitOperationError,
    InvalidValueError,
    RefExistsError,
    RepositoryBusyError,
    RepositoryNotFoundError,
    UnsafeRepositoryError,
    UnsupportedOperationError,
)
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import LogQuery, Oid, RefName, ResetMode, Revision, WorktreeSpec


@pytest.fixture
def backend(real: RepositoryBuilder) -> Iterator[CliBackend]:
    opened = CliBackend.open(real.path)
    yield opened
    opened.close()


@define(eq=False)
class Recorder:
    """Runs git and notes what was run; fails as told."""

    calls: list[list[str]] = field(factory=list)
    environments: list[Mapping[str, str]] = field(factory=list)
    failures: list[bytes] = field(factory=list)

    def __call__(self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: bytes | None) -> GitOutput:
        self.calls.append(list(argv))
        self.environments.append(env)
        if self.failures:
            return GitOutput(128, b"", self.failures.pop(0))
        return run_process(argv, cwd=cwd, env=env, stdin=stdin)

    def start(
        self, argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: int, stderr: int
    ) -> subprocess.Popen[bytes]:
        self.calls.append(list(argv))
        return subprocess.Popen(argv, cwd=cwd, env=env, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr)


@pytest.fixture
def recorder(monkeypatch: pytest.MonkeyPatch) -> Recorder:
    recorder = Recorder()
    monkeypatch.setattr(CliBackend, "process", classmethod(lambda _cls: recorder))
    git_version(recorder)
    recorder.calls.clear()
    return recorder


def test_git_never_sees_the_variables_of_another_repository(
    real: RepositoryBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a hook, or wherever GIT_DIR and its kin are set, every answer is about the repository that was opened."""
    other = RepositoryBuilder.init(tmp_path / "other")
    other.commit({"x": "x"})
    for name, value in {
        "GIT_DIR": other.git_dir,
        "GIT_WORK_TREE": other.path,
        "GIT_INDEX_FILE": f"{other.git_dir}/index",
        "GIT_OBJECT_DIRECTORY": f"{other.git_dir}/objects",
        "GIT_COMMON_DIR": other.git_dir,
        "GIT_NAMESPACE": "",
        "GIT_PREFIX": "sub/",
        "LC_ALL": "de_DE.UTF-8",
        "LANGUAGE": "de",
    }.items():
        monkeypatch.setenv(name, value)
    with Repository.open(real.path) as repo:
        tree = repo.worktrees.add(tmp_path / "w", detach="HEAD")
        Path(tree.path, "new").write_text("x")
        tree.stage(["new"])
        tree.commit("three")
        assert [commit.subject for commit in repo.log(tree.head.oid or "")] == ["three", "two", "one"]
    assert other.git("--git-dir", other.git_dir, "log", "--format=%s", "--all") == "a commit"
    env = git_environment()
    assert {"GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"}.isdisjoint(env)
    assert (env["LC_ALL"], env["GIT_TERMINAL_PROMPT"], env["GIT_OPTIONAL_LOCKS"]) == ("C", "0", "0")


def test_the_repository_is_always_named_outright(recorder: Recorder, real: RepositoryBuilder, tmp_path: Path) -> None:
    """After it was opened, no command is left to find a repository by itself, and texts stand behind the options."""
    with Repository.open(real.path) as repo:
        recorder.calls.clear()
        tree = repo.worktrees.add(tmp_path / "w", new_branch="topic")
        tree.status()
        tree.clean(ignored=True)
        tree.reset("HEAD~1")
        repo.diff_names("main", "topic")
        repo.merge_tree("main", "topic")
        tree.remove()
    assert recorder.calls
    assert all(call[1].startswith("--git-dir=/") for call in recorder.calls)


def test_common_questions_cost_no_process(recorder: Recorder, real: RepositoryBuilder, tmp_path: Path) -> None:
    """Opening is one process; heads, branches by name, resolving and reading commits are none but one long-lived."""
    repo = Repository.open(real.path)
    assert len(recorder.calls) == 1
    tree = repo.worktrees.add(tmp_path / "w", new_branch="topic")
    recorder.calls.clear()
    for _ in range(3):
        repo.resolve("HEAD~1")
        repo.commit("main")
        repo.branches.get("topic")
        assert repo.current_branch == "main"
        assert tree.branch == "topic"
        tree.resolve("HEAD")
        tree.resolve("HEAD~1")
        list(repo.worktrees)
    assert [call[-2:] for call in recorder.calls] in ([["cat-file", "--batch-command"]], [])
    repo.close()


def test_half_made_worktrees_of_others_are_waited_for(
    recorder: Recorder, real: RepositoryBuilder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A known message of git about somebody's half-made worktree is tried again, a bounded number of times."""
    with Repository.open(real.path) as repo:
        seen = b"fatal: failed to read .git/worktrees/x/commondir: Success\n"
        recorder.failures += [seen, b"error: could not lock config file .git/config: File exists\n"]
        assert repo.worktrees.main.status() == ()
        monkeypatch.setattr("time.sleep", lambda _: None)
        recorder.failures += [seen] * 100
        before = len(recorder.calls)
        with pytest.raises(RepositoryBusyError) as caught:
            repo.worktrees.main.status()
        assert len(recorder.calls) - before < 20
        assert caught.value.retryable
        recorder.failures.clear()


@pytest.mark.parametrize("version", ["2.37.9", "2.20.1", "1.8.3"])
def test_an_old_git_is_refused_by_name(
    real: RepositoryBuilder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """A git that lacks what is needed is refused when a repository is opened, with what to do."""
    fake, true = tmp_path / "bin" / "git", _which("git")
    fake.parent.mkdir()
    fake.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo "git version {version}" && exit\nexec {true} "$@"\n')
    fake.chmod(0o755)
    monkeypatch.setattr(cli, "_versions", {})
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(UnsupportedOperationError, match=version) as caught:
        CliBackend.open(real.path)
    assert "2.38" in caught.value.hint


def _which(program: str) -> str:
    import shutil

    found = shutil.which(program)
    assert found is not None
    return found


@pytest.mark.parametrize("text", ["git version 2.55.0", "git version 2.39.5 (Apple Git-154)", "git version 2.41.0.rc1"])
def test_versions_are_read_from_any_build(text: str) -> None:
    """Vendors add words and numbers to git's version."""

    def process(argv: Sequence[str], *, cwd: str, env: Mapping[str, str], stdin: bytes | None) -> GitOutput:
        return GitOutput(0, f"{text}\n".encode(), b"")

    assert git_version(process)[:2] >= (2, 39)  # type: ignore[arg-type]  # nothing is started here


def test_a_missing_git_is_told(real: RepositoryBuilder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a git executable the error names what is missing and the backend that needs none."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GitMissingError) as caught:
        CliBackend.open(real.path)
    assert "pygit2" in caught.value.hint


def test_a_bare_repository_that_came_with_files_is_not_discovered(real: RepositoryBuilder) -> None:
    """A repository embedded in somebody's worktree, whose configuration may run programs, has to be named outright."""
    inner = RepositoryBuilder.init(f"{real.path}/docs/embedded", bare=True, config={"core.fsmonitor": "touch PWNED"})
    with pytest.raises(UnsafeRepositoryError, match="embedded"):
        CliBackend.discover(inner.path)
    with pytest.raises(UnsafeRepositoryError):
        CliBackend.discover(f"{inner.path}/objects")
    assert CliBackend.open(inner.path).is_bare
    alone = RepositoryBuilder.init(f"{real.path}-alone.git", bare=True)
    assert CliBackend.discover(f"{alone.path}/refs").is_bare
    assert not list(Path(real.path).rglob("PWNED"))


@pytest.mark.parametrize(
    "link",
    ["gitdir: /nowhere\n", "gitdir: \n", "nonsense", "", "gitdir: ../..\n", "gitdir: --upload-pack=x\n", "\0" * 100],
)
def test_a_hostile_link_in_a_parent_is_refused(tmp_path: Path, link: str) -> None:
    """A `.git` file that leads nowhere, in circles or to an option is refused; nothing above it is taken."""
    (tmp_path / "deep").mkdir()
    (tmp_path / ".git").write_text(link)
    for act in (CliBackend.discover, CliBackend.open):
        with pytest.raises(GitOperationError):
            act(str(tmp_path / "deep"))


def test_a_folder_that_is_no_worktree_any_more_is_not_taken_for_the_repository_above(
    backend: CliBackend, real: RepositoryBuilder
) -> None:
    """Inside another worktree a worktree that lost its link is refused: git by itself would act on the outer one."""
    place = f"{real.path}/nested"
    backend.add_worktree(WorktreeSpec(place, detach=backend.resolve(Revision("HEAD"))))
    os.unlink(f"{place}/.git")
    Path(real.path, "untracked").write_text("mine")
    for act in (
        lambda: backend.clean(place),
        lambda: backend.reset(place, backend.resolve(Revision("HEAD~1")), ResetMode.HARD),
        lambda: backend.status(place),
    ):
        with pytest.raises(GitOperationError):
            act()
    assert Path(real.path, "untracked").exists()
    assert real.git("rev-list", "--count", "HEAD") == "2"


def test_an_exact_path_is_not_searched_upwards(backend: CliBackend, real: RepositoryBuilder) -> None:
    """Open takes the root or the git directory only; discover goes up."""
    with pytest.raises(RepositoryNotFoundError, match="not its root"):
        CliBackend.open(f"{real.path}/d")
    assert CliBackend.discover(f"{real.path}/d").worktree_path == real.path
    assert CliBackend.open(real.git_dir).worktree_path == real.path
    for text in ("", "-x", "a\0b"):
        with pytest.raises(InvalidValueError):
            CliBackend.open(text)


@pytest.mark.parametrize("name", ["new\nline", "a b", "-x", "\udcff\udcfe", "sha1"], ids=ascii)
def test_repositories_may_be_anywhere(tmp_path: Path, name: str) -> None:
    """A repository, bare or not, opens and works below any name."""
    for bare in (False, True):
        path = f"{tmp_path}/{name}/{'bare.git' if bare else 'r'}"
        CliBackend.init(path, bare=bare).close()
    with Repository.open(f"{tmp_path}/{name}/r") as repo:
        assert repo.path == f"{tmp_path}/{name}/r"
        assert repo.head.is_unborn
        Path(repo.path, "x").write_text("x")
        repo.worktrees.main.stage(["x"])
        oid = repo.worktrees.main.commit("one")
        with repo.worktrees.temporary(oid) as tree:
            assert tree.is_clean()
            assert Repository.open(tree.path).worktrees.main.path == repo.path


def test_threads_have_answers_of_their_own(backend: CliBackend, real: RepositoryBuilder) -> None:
    """One handle answers many threads at once, each rightly, and closing ends every child that they needed."""
    oids = real.commits([CommitSpec({"n": str(n)}, f"number {n}\n") for n in range(20)])
    wrong: list[object] = []

    def ask(start: int) -> None:
        for turn in range(60):
            number = (start + turn) % len(oids)
            if backend.read_commit(oids[number]).subject != f"number {number}":
                wrong.append(number)

    threads = [threading.Thread(target=ask, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    backend.close()
    assert _children("cat-file", real.git_dir) == []
    assert backend.read_commit(oids[3]).subject == "number 3"


def _children(*words: str) -> list[str]:
    if sys.platform != "linux":
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().decode("utf-8", "replace").replace("\0", " ")
            except OSError:
                continue
            if all(word in line for word in words):
                found.append(line)
    return found


def test_a_fork_shares_no_child(backend: CliBackend, real: RepositoryBuilder) -> None:
    """After a fork parent and child each get right answers, and the child's end leaves the parent's server alone."""
    oids = real.commits([CommitSpec({"n": str(n)}, f"number {n}\n") for n in range(6)])
    assert backend.read_commit(oids[0]).subject == "number 0"
    child = os.fork() if hasattr(os, "fork") else -1
    if child == 0:
        right = all(backend.read_commit(oid).subject == f"number {n}" for n, oid in enumerate(oids) for _ in range(50))
        backend.close()
        os._exit(0 if right else 1)
    for number, oid in enumerate(oids * 50):
        assert backend.read_commit(oid).subject == f"number {number % len(oids)}"
    if child > 0:
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_open_and_close_leak_nothing(real: RepositoryBuilder) -> None:
    """After a thousand handles were used and closed there are as many descriptors and children as before."""
    rounds = round(120 * float(os.environ.get("ARBORETUM_TEST_SCALE", "1")))
    CliBackend.open(real.path).close()
    before = _descriptors()
    for _ in range(min(rounds, 1000)):
        opened = CliBackend.open(real.path)
        opened.read_commit(opened.resolve(Revision("HEAD")))
        opened.close()
    assert _descriptors() <= before
    assert _children("cat-file", real.git_dir) == []


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if sys.platform == "linux" else 0


def test_a_server_that_was_killed_is_started_again(backend: CliBackend) -> None:
    """When the long-lived child dies between or under questions, the next answer is right all the same."""
    head = backend.resolve(Revision("HEAD"))
    for _ in range(3):
        child = backend.objects._local.child
        child.process.kill()
        child.process.wait()
        assert backend.read_commit(head).subject == "two"


def test_a_log_that_is_left_early_ends_its_git(backend: CliBackend, real: RepositoryBuilder) -> None:
    """Who takes only the first commit of a long history leaves no process behind, and no failure."""
    real.commits([CommitSpec({"n": str(n)}, "x" * 3000) for n in range(200)])
    walk = backend.log(LogQuery((backend.resolve(Revision("HEAD")),)))
    assert next(walk).parents
    walk.close()  # type: ignore[attr-defined]  # it is a generator
    assert _children(" log ", real.git_dir) == []


def test_many_tips_do_not_overflow_a_command_line(backend: CliBackend) -> None:
    """A walk may start from and leave out tens of thousands of commits."""
    head = backend.resolve(Revision("HEAD"))
    query = LogQuery((head,) * 30_000, exclude=(backend.resolve(Revision("HEAD~1")),) * 30_000)
    assert [commit.oid for commit in backend.log(query)] == [head]


def test_a_folder_that_may_not_be_written_is_told(backend: CliBackend, real: RepositoryBuilder, tmp_path: Path) -> None:
    """What the operating system refuses is an error of ours that names the file, and leaves no branch or record."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(GitOperationError, match="file"):
        backend.add_worktree(WorktreeSpec(f"{tmp_path}/file/w", detach=backend.resolve(Revision("HEAD"))))
    assert backend.worktree_names() == ()
    hook = Path(real.git_dir, "hooks", "pre-commit")
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho Permission denied >&2; exit 1\n")
    hook.chmod(hook.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(GitOperationError):
        backend.commit(real.path, "x", allow_empty=True)


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("fatal: Unable to create '/r/.git/index.lock': File exists.", "repository-busy"),
        ("fatal: cannot lock ref 'refs/heads/x': Unable to create '/r/x.lock': File exists.", "ref-locked"),
        ("fatal: detected dubious ownership in repository at '/r'", "unsafe-repository"),
        ("fatal: 'main' is already checked out at '/r'", "branch-checked-out"),
        ("fatal: 'main' is already used by worktree at '/r'", "branch-checked-out"),  # since git 2.42
        ("fatal: unknown repository extension found:\n\trelativeworktrees", "unsupported"),
        ("error: something that nobody has seen yet", "git"),
    ],
)  # fmt: skip
def test_words_of_git_are_told_as_classes(said: str, kind: str) -> None:
    """What git says, in the wordings of several versions, is told by a class of error; the words are kept."""
    error = git_error(["x"], said, 128, operation="test")
    assert error.kind == kind
    assert said.split("\n", maxsplit=1)[0] in error.message


def test_only_others_half_done_work_is_waited_for() -> None:
    """A failure that is our own is never tried again."""
    assert is_transient("fatal: failed to read .git/worktrees/a/commondir: Success")
    assert is_transient("fatal: bad object worktrees/w1/HEAD")
    assert not is_transient("fatal: not a git repository")
    assert not is_transient("fatal: 'x' is already checked out at '/y'")


def test_null_ids_and_private_names_are_refs(backend: CliBackend) -> None:
    """Compare-and-set from nothing makes a ref once; the second time it is told that it exists."""
    head, name = backend.resolve(Revision("HEAD")), RefName("refs/arboretum/test/x")
    backend.update_ref(name, head, None)
    with pytest.raises(GitOperationError) as caught:
        backend.update_ref(name, head, None)
    assert caught.value.kind == "ref-exists"
    assert backend.read_ref(name) is not None
    assert Oid.null().is_null


def test_a_refused_birth_writes_no_file(backend: CliBackend, tmp_path: Path) -> None:
    """A hard reset that cannot make its branch, because of the name of another, is refused; no file is written."""
    head = backend.resolve(Revision("HEAD"))
    path = backend.add_worktree(WorktreeSpec(str(tmp_path / "w"), orphan=RefName.branch("fix"))).path
    backend.update_ref(RefName.branch("fix/one"), head, None)
    (name,) = [entry.path for entry in backend.read_tree(head)][:1]
    Path(path, name).write_text("mine\n")
    with pytest.raises(RefExistsError):
        backend.reset(path, head, ResetMode.HARD)
    assert Path(path, name).read_text() == "mine\n"
    assert sorted(os.listdir(path)) == [".git", name]
