"""The commands of tasks run on a cluster, and everything else of an orchestration comes to the same end as here."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum import Repository
from arboretum.distributed.changes import collect, restore
from arboretum.distributed.site import DaskSite
from arboretum.errors import ConflictError, EngineError
from arboretum.orchestration.board import Board
from arboretum.orchestration.orchestrator import Orchestrator
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.task_file import load_tasks
from arboretum.testing.builders import CommitSpec, File, RepositoryBuilder
from arboretum.testing.strategies import edited_trees, file_trees
from arboretum.values import FileMode
from distributed import Client
from tests.distributed.conftest import Cluster, kill_group
from tests.distributed.processes import command, during, running, until
from tests.orchestration import twelve

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RepositoryBuilder:
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "cache"))
    made = RepositoryBuilder.init(str(tmp_path / "repo"))
    made.commits([CommitSpec({"a.txt": "a\n", "b.txt": "b\n", ".gitignore": "*.log\n"}, "first\n")])
    return made


@pytest.fixture
def client(three_workers: Cluster) -> Iterator[Client]:
    with Client(three_workers.address, timeout=60, set_as_default=False) as made:
        made.wait_for_workers(3, timeout=120)
        yield made


def orchestrate(repository: Repository, client: Client, tasks: Path) -> Board:
    site = DaskSite(client, repository)
    try:
        return asyncio.run(Orchestrator.start(repository, load_tasks(tasks), Limits(slots=3), site=site).run())
    finally:
        site.close()


def tasks_file(tmp_path: Path, *tables: str) -> Path:
    path = tmp_path / "tasks.toml"
    path.write_text("".join(f"[[task]]\n{table}\n" for table in tables))
    return path


def test_twelve_tasks_come_to_the_right_ends_on_a_cluster(client: Client, tmp_path: Path) -> None:
    """Every end that a task can have is the same on a cluster, and what is kept of those that fail is here."""
    builder = twelve.build(tmp_path / "repo")
    with Repository.open(builder.path) as repository:
        board = orchestrate(repository, client, twelve.TASKS)
        twelve.check_end(builder, repository, board)


def test_a_program_that_commits_by_itself(builder: RepositoryBuilder, client: Client, tmp_path: Path) -> None:
    """Commits that the command makes come back with their authors: git on the worker knows the user."""
    builder.git("config", "user.name", "Ada Lovelace")
    builder.git("config", "user.email", "ada@example.org")
    script = "test -f {worktree}/.git; echo 2 >> a.txt; git commit -qam mine; echo 3 >> b.txt"
    file = tasks_file(tmp_path, f'id = "t"\ncommand = {{shell = "{script}"}}\nscope = ["**"]')
    with Repository.open(builder.path) as repository:
        board = orchestrate(repository, client, file)
        assert board.records["t"].state is TaskState.MERGED, board.records["t"]
        assert twelve.files_of(repository, board.integration) == {
            "a.txt": "a\n2\n", "b.txt": "b\n3\n", ".gitignore": "*.log\n",
        }  # fmt: skip
    log = builder.git("log", "--format=%s by %an <%ae>", board.integration)
    assert "mine by Ada Lovelace <ada@example.org>" in log


def test_a_command_that_leaves_a_merge_half_done(builder: RepositoryBuilder, client: Client, tmp_path: Path) -> None:
    """Unmerged paths fail a task by name on a cluster, too: markers are never taken for work."""
    script = (
        "git checkout -q -b one && echo 1 > a.txt && git commit -qam one && git checkout -q -b two HEAD~1 &&"
        " echo 2 > a.txt && git commit -qam two && (git merge -q one || true)"
    )
    file = tasks_file(tmp_path, f'id = "t"\ncommand = {{shell = "{script}"}}\nscope = ["**"]')
    with Repository.open(builder.path) as repository:
        board = orchestrate(repository, client, file)
    record = board.records["t"]
    assert (record.state, "a.txt unmerged" in record.reason) == (TaskState.FAILED, True), record


def test_a_task_of_a_lost_worker_is_done_by_another(
    builder: RepositoryBuilder, cluster: Cluster, tmp_path: Path
) -> None:
    """A worker killed with -9 in the middle of a task: another one does it from the beginning, and it counts once."""
    doomed = cluster.start_worker()
    begun = tmp_path / "begun"
    script = f"echo x >> {begun}; sleep 1; echo more >> a.txt"
    file = tasks_file(tmp_path, f'id = "t"\ncommand = {{shell = "{script}"}}\nscope = ["a.txt"]')

    def replace() -> None:
        cluster.start_worker()
        kill_group(doomed)

    with Client(cluster.address, timeout=60, set_as_default=False) as made, Repository.open(builder.path) as repository:
        made.wait_for_workers(1, timeout=120)
        killer = during(replace, begun.exists)
        board = orchestrate(repository, made, file)
        killer.join()
        assert board.records["t"].state is TaskState.MERGED
        assert twelve.files_of(repository, board.integration)["a.txt"] == "a\nmore\n"
    assert begun.read_text() == "x\nx\n"


def test_an_interrupted_orchestration_leaves_nothing_and_goes_on(
    builder: RepositoryBuilder, cluster: Cluster, tmp_path: Path
) -> None:
    """Ctrl-C ends the commands on the workers before the command returns; --resume comes to the end."""
    cluster.start_worker(slots=2)
    folder = tmp_path / "pids"
    folder.mkdir()
    script = f"echo $$ > {folder}/$ARBORETUM_TASK.pid; test -e {tmp_path}/go || sleep 1000; echo x > $ARBORETUM_TASK"
    table = f'command = {{{{shell = "{script}"}}}}\nid = "{{0}}"\nscope = ["/{{0}}"]'
    file = tasks_file(tmp_path, table.format("one"), table.format("two"))
    with Client(cluster.address, timeout=60, set_as_default=False) as made:
        made.wait_for_workers(1, timeout=120)
    with Repository.open(builder.path) as repository:
        first = command(repository, "orchestrate", str(file), "--executor", cluster.address, "--format", "json")
        until(lambda: len(running(folder)) == 2 or first.poll() is not None, "both tasks run")
        first.send_signal(signal.SIGINT)
        out, said = first.communicate(timeout=60)
        assert running(folder) == []
        assert first.returncode == 130, said
        (tmp_path / "go").touch()
        again = command(
            repository, "orchestrate", "--resume", json.loads(out)["run"], "--executor", cluster.address,
            "--format", "json",
        )  # fmt: skip
        out, said = again.communicate(timeout=60)
    assert {task["id"]: task["status"] for task in json.loads(out)["tasks"]} == {"one": "merged", "two": "merged"}, said


def test_what_no_worker_has_is_told_before_anything_begins(
    builder: RepositoryBuilder, three_workers: Cluster, tmp_path: Path
) -> None:
    """A task that asks for what no worker has is an error that names it, and no run is begun."""
    file = tasks_file(tmp_path, 'id = "t"\ncommand = "true"\nscope = ["**"]\nlabels = ["gpu"]')
    with Repository.open(builder.path) as repository:
        done = command(repository, "orchestrate", str(file), "--executor", three_workers.address)
        _, said = done.communicate(timeout=60)
        assert (done.returncode, "'gpu'" in said) == (4, True), said
        assert not os.path.exists(os.path.join(repository.state_dir, "orchestrations"))


# --- what travels ---


def write(root: Path, tree: dict[str, File]) -> None:
    """Make the files of a worktree those of `tree`."""
    for entry in root.iterdir():
        if entry.name != ".git":
            shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    for name, file in tree.items():
        path = os.path.join(os.fsencode(root), os.fsencode(name))
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if file.mode is FileMode.SYMLINK:
            os.symlink(file.data, path)
            continue
        with open(path, "wb") as target:
            target.write(file.data)
        os.chmod(path, 0o755 if file.mode is FileMode.EXECUTABLE else 0o644)


def git(root: Path, *arguments: str) -> bytes:
    return subprocess.run(
        ["git", "-c", "user.name=T", "-c", "user.email=t@example.org", *arguments],
        cwd=root, check=True, capture_output=True,
    ).stdout  # fmt: skip


def portrait(root: Path) -> tuple[bytes, ...]:
    """All that git and the file system say of a worktree."""
    listed = git(root, "ls-files", "-z", "--cached", "--others")
    files = []
    for name in sorted(set(listed.split(b"\0")) - {b""}):
        path = os.path.join(os.fsencode(root), name)
        if os.path.islink(path):
            files.append(name + b" -> " + os.readlink(path))
        elif os.path.isfile(path):
            with open(path, "rb") as file:
                files.append(name + b" %o " % (os.stat(path).st_mode & 0o100) + file.read())
    status = git(root, "status", "--porcelain=v1", "-z", "--untracked-files=all", "--no-renames")
    return (git(root, "rev-parse", "HEAD"), git(root, "symbolic-ref", "HEAD"), status, *files)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_worktree_comes_back_as_it_is(data: st.DataObject) -> None:
    """Whatever was committed and left uncommitted there is so here: HEAD, branch, status and every file."""
    base = data.draw(file_trees())
    committed = data.draw(st.one_of(st.none(), edited_trees(base)))
    left = data.draw(edited_trees(base if committed is None else committed))
    with tempfile.TemporaryDirectory() as folder:
        builder = RepositoryBuilder.init(f"{folder}/repo")
        builder.commits([CommitSpec(dict(base), "base\n")])
        for name in ("there", "here"):
            git(Path(folder), "clone", "-q", "repo", name)
        there, here = Path(folder, "there"), Path(folder, "here")
        with Repository.open(there) as far, Repository.open(here) as near:
            start = near.resolve("HEAD")
            if committed is not None:
                write(there, committed)
                git(there, "add", "--all")
                git(there, "commit", "-q", "--allow-empty", "-m", "by the program")
            write(there, left)
            before = portrait(there)
            restore(near, str(here), collect(far, str(there), start))
            assert portrait(here) == before


def test_unmerged_paths_are_not_brought_back(tmp_path: Path) -> None:
    """A worktree with unmerged paths is refused by their names."""
    builder = RepositoryBuilder.init(str(tmp_path / "repo"))
    specs = [
        CommitSpec({"f": "0\n"}, "0\n"),
        CommitSpec({"f": "1\n"}, "1\n"),
        CommitSpec({"f": "2\n"}, "2\n", "o", parents=[":1"]),
    ]
    first, *_ = builder.commits(specs)
    git(Path(builder.path), "checkout", "-q", "--force", "main")
    subprocess.run(["git", "merge", "-q", "o"], cwd=builder.path, check=False, capture_output=True)
    with Repository.open(builder.path) as repository, pytest.raises(ConflictError, match="f unmerged"):
        collect(repository, builder.path, first)


def test_a_full_disk_here_is_no_end_of_a_task(tmp_path: Path) -> None:
    """Objects that cannot be taken in are an error of the run, never a task that did nothing."""
    builder = RepositoryBuilder.init(str(tmp_path / "repo"))
    builder.commits([CommitSpec({"f": "0\n"}, "0\n")])
    with Repository.open(builder.path) as repository:
        (tmp_path / "repo" / "f").write_text("1\n")
        changes = collect(repository, builder.path, repository.resolve("HEAD"))
        shutil.rmtree(tmp_path / "repo" / ".git" / "objects")
        with pytest.raises(EngineError):
            restore(repository, builder.path, changes)
