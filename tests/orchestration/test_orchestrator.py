"""Whole runs, with real git and real processes."""

from __future__ import annotations

import asyncio
import itertools
import os
from pathlib import Path
from typing import Any

import pytest

from arboretum.engine.model import CommandSpec
from arboretum.errors import DirtyWorktreeError, EngineError, RefNotFoundError, StoreError, UsageError
from arboretum.events import Event
from arboretum.orchestration import events
from arboretum.orchestration.board import Board, branch_of
from arboretum.orchestration.orchestrator import Orchestrator, amend_scope, read_board
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.scopes import Scope
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.task_file import load_tasks
from arboretum.orchestration.tasks import MergeOrder, Task, TaskPlan
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.orchestration import twelve


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "cache"))


def shell(text: str) -> CommandSpec:
    return CommandSpec((text,), shell=True)


def make(name: str, command: str, scope: str | tuple[str, ...], **values: Any) -> Task:
    patterns = (scope,) if isinstance(scope, str) else scope
    return Task(id=name, command=shell(command), scope=Scope(patterns), **values)


def orchestrate(repository: Repository, plan: TaskPlan, *, slots: int = 4, **options: Any) -> Board:
    return asyncio.run(Orchestrator.start(repository, plan, Limits(slots=slots), **options).run())


def resume(repository: Repository, run: str, *, slots: int = 4, retry: tuple[str, ...] = ()) -> Board:
    return asyncio.run(Orchestrator.resume(repository, run, Limits(slots=slots), retry=retry).run())


def states(board: Board) -> dict[str, str]:
    return {name: record.state.value for name, record in board.records.items()}


# --- the fixture ---


def test_twelve_tasks_come_to_the_right_ends(tmp_path: Path) -> None:
    """Diamond, overlap, scope breach, semantic clash, conflict, retries, hang: each to its end, nothing lost."""
    builder = twelve.build(tmp_path / "repo")
    repository = Repository.open(builder.path)
    told: list[Event] = []
    board = orchestrate(repository, load_tasks(twelve.TASKS), observers=[told.append])
    assert board.status == "done"
    twelve.check_end(builder, repository, board)
    check_rules(told, board)
    if os.path.isdir("/proc"):
        assert twelve.no_process_in(tmp_path / "cache") == []
    again = read_board(repository, board.run)
    assert (again.records, again.tip, again.merged) == (board.records, board.tip, board.merged)


def check_rules(told: list[Event], board: Board) -> None:
    """What really ran, by the events: no two with meeting scopes, dependencies merged before, never too many."""
    running: set[str] = set()
    merged: set[str] = set()
    tasks = board.plan.by_id
    for event in told:
        match event:
            case events.TaskStarted() if event.attempt == 1:
                assert all(not tasks[event.task].scope.meets(tasks[other].scope) for other in running)
                assert merged.issuperset(tasks[event.task].depends_on)
                assert event.task not in running
                running.add(event.task)
                assert len(running) <= board.slots
            case events.TaskEnded():
                running.remove(event.task)
                merged |= {event.task} if event.state is TaskState.UNCHANGED else set()
            case events.TasksMerged():
                merged.update(event.tasks)
    starts = [e.task for e in told if isinstance(e, events.TaskStarted) and e.attempt == 1]
    assert sorted(starts) == sorted(set(starts)), "every task was started once"


# --- merging ---


def test_a_batch_that_fails_is_bisected_to_the_pair_at_fault(
    builder: RepositoryBuilder, repository: Repository
) -> None:
    """Of eight tasks merged together two do not get along: the later one is set aside, named with the other."""
    verify = shell("test ! -e src/t2.txt || test ! -e src/t5.txt")
    go = "while ! test -e ../../go; do sleep 0.02; done; "  # all end together, so that they are one batch
    tasks = tuple(make(f"t{i}", f"{go}echo {i} > src/t{i}.txt", f"/src/t{i}.txt") for i in range(8))
    told: list[Event] = []
    started = 0

    def observe(event: Event) -> None:
        nonlocal started
        told.append(event)
        if isinstance(event, events.TaskStarted):
            started += 1
            if started == 8:
                Path(event.path, "../../go").resolve().touch()

    plan = TaskPlan(tasks=tasks, verify=verify, merge=MergeOrder.PLAN)
    board = orchestrate(repository, plan, slots=8, observers=[observe])
    expected = {f"t{i}": "merged" for i in range(8)} | {"t5": "breaks-verify"}
    assert states(board) == expected
    assert board.records["t5"].others == ("t2",)
    assert builder.git("show", f"{branch_of(board.run, 't5')}:src/t5.txt") == "5"
    names = builder.git("ls-tree", "-r", "--name-only", board.integration).split()
    assert {f"src/t{i}.txt" for i in range(8) if i != 5} <= set(names)
    assert "src/t5.txt" not in names


def test_a_task_that_breaks_verify_alone_is_named_alone(repository: Repository) -> None:
    """A task at fault by itself is set aside without naming another one."""
    plan = TaskPlan(
        tasks=(make("good", "echo x > src/good.txt", "/src/good.txt"), make("bad", "echo x > bad.txt", "/bad.txt")),
        verify=shell("test ! -e bad.txt"),
    )
    board = orchestrate(repository, plan)
    assert states(board) == {"good": "merged", "bad": "breaks-verify"}
    assert board.records["bad"].others == ()


def test_a_verify_command_that_fails_on_the_base_judges_nothing(repository: Repository) -> None:
    """When the base itself does not pass, no task is blamed: the run ends with an error and can be resumed."""
    plan = TaskPlan(tasks=(make("a", "echo x > a.txt", "/a.txt"),), verify=shell("test -e never"))
    orchestrator = Orchestrator.start(repository, plan, Limits(slots=2))
    with pytest.raises(EngineError, match="before any of the work is added"):
        asyncio.run(orchestrator.run())
    assert read_board(repository, orchestrator.board.run).records["a"].state is TaskState.FINISHED


def test_the_verify_of_a_task_runs_on_its_tree_and_on_the_combined_one(repository: Repository) -> None:
    """A task whose own verify fails is failed before any merge; one that another task breaks stays out."""
    plan = TaskPlan(
        merge=MergeOrder.PLAN,
        tasks=(
            make("own", "echo x > own.txt", "/own.txt", verify=shell("false")),
            make("first", "echo x > first.txt", "/first.txt", verify=shell("test ! -e second.txt")),
            make("second", "echo x > second.txt", "/second.txt"),
        ),
    )
    board = orchestrate(repository, plan)
    assert states(board) == {"own": "failed", "first": "merged", "second": "breaks-verify"}
    assert board.records["second"].others == ("first",)


def test_what_depends_on_a_failed_task_is_blocked(repository: Repository) -> None:
    """A task waits for its dependencies to be merged; when one fails, all that wait for it are told why."""
    plan = TaskPlan(
        tasks=(
            make("bad", "exit 3", "/bad"),
            make("child", "echo x > child.txt", "/child.txt", depends_on=("bad",)),
            make("grandchild", "echo x > g.txt", "/g.txt", depends_on=("child",)),
            make("free", "true", "/free"),
        )
    )
    board = orchestrate(repository, plan)
    assert states(board) == {"bad": "failed", "child": "blocked", "grandchild": "blocked", "free": "unchanged"}
    assert "exit code 3" in board.records["bad"].reason
    assert board.records["grandchild"].others == ("child",)


def test_a_program_that_commits_by_itself_is_welcome(builder: RepositoryBuilder, repository: Repository) -> None:
    """Commits that a task makes are kept as they are, with what it left uncommitted on top; all of it is merged."""
    command = "echo 1 > src/one.txt && git add -A && git commit -qm 'my own words' && echo 2 > src/two.txt"
    board = orchestrate(repository, TaskPlan(tasks=(make("a", command, "/src/*.txt", description="Do it"),)))
    assert states(board) == {"a": "merged"}
    subjects = builder.git("log", "--format=%s", board.integration).splitlines()
    assert subjects == ["Merge task a: Do it", "Do it", "my own words", "a commit"]
    message = builder.git("log", "-1", "--format=%B", f"{board.integration}^2")
    assert f"Arboretum-Run: {board.run}\nArboretum-Task: a\n" in message


def test_a_task_is_on_its_own_branch_and_sees_its_placeholders(repository: Repository) -> None:
    """The worktree is on the task's branch; placeholders and variables tell the program where it is."""
    command = (
        "git branch --show-current > out.txt; test {worktree} = $PWD && "
        "echo {id} {attempt} {prompt} $ARBORETUM_TASK $MODE >> out.txt"
    )
    task = make("a", command, "/out.txt", prompt="say 'hi'", env={"MODE": "fast"})
    board = orchestrate(repository, TaskPlan(tasks=(task,)))
    assert states(board) == {"a": "merged"}
    assert twelve.files_of(repository, board.integration)["out.txt"] == (
        f"{branch_of(board.run, 'a')}\na 1 say 'hi' a fast\n"
    )


def test_somebody_else_moves_the_integration_branch(builder: RepositoryBuilder, repository: Repository) -> None:
    """A commit that a person puts on the integration branch during the run is kept; the work goes on top of it."""

    def intrude(event: Event) -> None:
        if isinstance(event, events.TaskEnded) and event.task == "a":
            tree = builder.git("rev-parse", "HEAD^{tree}")
            commit = builder.git("commit-tree", tree, "-p", "HEAD", "-m", "by hand")
            builder.git("update-ref", f"refs/heads/{branch_of(event.run, 'integration')}", commit)

    plan = TaskPlan(tasks=(make("a", "echo x > a.txt", "/a.txt"), make("b", "sleep 0.3; echo x > b.txt", "/b.txt")))
    board = orchestrate(repository, plan, observers=[intrude])
    assert states(board) == {"a": "merged", "b": "merged"}
    subjects = builder.git("log", "--format=%s", "--first-parent", board.integration).splitlines()
    assert "by hand" in subjects


# --- programs that misbehave ---


def test_a_task_that_removes_its_own_worktree_harms_nobody(repository: Repository) -> None:
    """A worktree that is gone fails its task and no other, and the pool goes on."""
    plan = TaskPlan(
        tasks=(make("gone", 'rm -rf "$PWD"', "/x"), make("fine", "sleep 0.2; echo x > y.txt", "/y.txt")), base="main"
    )
    for _ in range(2):
        board = orchestrate(repository, plan, slots=1)
        assert states(board) == {"gone": "failed", "fine": "merged"}
        assert board.records["gone"].path == ""


def test_work_on_a_branch_of_the_tasks_own_making_is_found(builder: RepositoryBuilder, repository: Repository) -> None:
    """A program that switches to another branch and commits there has its work merged, or kept on the task's branch."""
    command = "git checkout -q -b mine-{id} && echo x > {id}.txt && git add -A && git commit -qm mine"
    board = orchestrate(repository, TaskPlan(tasks=(make("in", command, "/in.txt"), make("out", command, "/docs/"))))
    assert states(board) == {"in": "merged", "out": "out-of-scope"}
    assert twelve.files_of(repository, board.integration)["in.txt"] == "x\n"
    assert twelve.files_of(repository, branch_of(board.run, "out"))["out.txt"] == "x\n"


def test_unmerged_files_are_never_committed(builder: RepositoryBuilder, repository: Repository) -> None:
    """A task that leaves a merge half-done fails, with its worktree kept; no conflict marker is merged."""
    builder.branch("other")
    builder.commits([CommitSpec(files={"README.md": b"theirs\n"}, branch="other")])
    command = "echo ours > README.md && git commit -qam ours && { git merge other; true; }"
    board = orchestrate(repository, TaskPlan(tasks=(make("a", command, "/README.md"),), base="main"))
    assert states(board) == {"a": "failed"}
    assert "left README.md unmerged" in board.records["a"].reason
    assert "<<<<<<<" in Path(board.records["a"].path, "README.md").read_text()


def test_odd_file_names_survive(repository: Repository) -> None:
    """Names with blanks, line breaks, quotes and bytes that are no UTF-8 are committed, checked, merged, journalled."""
    command = r"""printf x > "$(printf 'a b\nc"d')"; printf x > "$(printf 'z\377')" """
    board = orchestrate(repository, TaskPlan(tasks=(make("a", command, "**"),)))
    assert states(board) == {"a": "merged"}
    assert set(board.records["a"].changed) == {'a b\nc"d', "z\udcff"}
    assert read_board(repository, board.run).records == board.records


@pytest.mark.parametrize("backend", ["pygit2", "gitpython"])
def test_the_twelve_tasks_on_another_backend(tmp_path: Path, backend: str) -> None:
    """The library that talks to git decides nothing: the same ends."""
    builder = twelve.build(tmp_path / "repo")
    with Repository.open(builder.path, backend=backend) as repository:
        board = orchestrate(repository, load_tasks(twelve.TASKS))
        twelve.check_end(builder, repository, board)


def test_a_bare_repository_is_fine(builder: RepositoryBuilder, tmp_path: Path) -> None:
    """Nothing needs a main worktree."""
    builder.git("clone", "-q", "--bare", ".", str(tmp_path / "bare.git"))
    with Repository.open(tmp_path / "bare.git") as repository:
        board = orchestrate(repository, TaskPlan(tasks=(make("a", "echo x > a.txt", "/a.txt"),)), into="main")
        assert (states(board), board.moved) == ({"a": "merged"}, "main")
        assert "a.txt" in twelve.files_of(repository, "main")


# --- the user's branches ---


def test_into_moves_the_checked_out_branch_and_its_files(builder: RepositoryBuilder, repository: Repository) -> None:
    """With --into the branch and the clean worktree that is on it stand at the result; without it nothing moves."""
    plan = TaskPlan(tasks=(make("a", "echo x > a.txt", "/a.txt"),))
    before = builder.git("rev-parse", "main")
    orchestrate(repository, plan)
    assert builder.git("rev-parse", "main") == before
    board = orchestrate(repository, plan, into="main")
    assert board.moved == "main"
    assert builder.git("rev-parse", "main") == board.tip
    assert Path(builder.path, "a.txt").read_text() == "x\n"
    assert builder.git("status", "--porcelain", "--branch") == "## main"


def test_into_merges_with_what_has_moved_on(builder: RepositoryBuilder, repository: Repository) -> None:
    """A branch that moved during the run gets a merge of both; when they conflict it stays, and this is said."""

    def move(files: dict[str, bytes]) -> Any:
        def intrude(event: Event) -> None:
            if isinstance(event, events.TaskEnded):
                builder.commits([CommitSpec(files=files, message="meanwhile")])

        return intrude

    plan = TaskPlan(tasks=(make("a", "echo x > a.txt", "/a.txt"),))
    board = orchestrate(repository, plan, into="main", observers=[move({"other.txt": b"o\n"})])
    assert board.moved == "main"
    assert {"a.txt", "other.txt"} <= set(builder.git("ls-tree", "--name-only", "main").split())

    plan = TaskPlan(tasks=(make("b", "echo y > a.txt", "/a.txt"),))
    board = orchestrate(repository, plan, into="main", observers=[move({"a.txt": b"z\n"})])
    assert board.moved is None
    assert "conflicts with the result in a.txt" in board.message
    assert builder.git("show", "main:a.txt") == "z"
    assert states(board) == {"b": "merged"}


def test_into_refuses_at_once_what_it_could_not_do(builder: RepositoryBuilder, repository: Repository) -> None:
    """A branch that does not exist, or whose worktree has changes, is refused before anything runs."""
    plan = TaskPlan(tasks=(make("a", "echo x > a.txt", "/a.txt"),))
    with pytest.raises(RefNotFoundError):
        orchestrate(repository, plan, into="nowhere")
    Path(builder.path, "README.md").write_text("changed\n")
    with pytest.raises(DirtyWorktreeError):
        orchestrate(repository, plan, into="main")
    assert [b.name for b in repository.branches] == ["main"]


def test_the_work_of_the_users_worktree_is_never_touched(builder: RepositoryBuilder, repository: Repository) -> None:
    """Uncommitted and untracked files of the user are as they were after a run."""
    Path(builder.path, "README.md").write_text("changed\n")
    Path(builder.path, "new.txt").write_text("new\n")
    before = builder.git("status", "--porcelain")
    orchestrate(repository, TaskPlan(tasks=(make("a", "echo x > README.md", "/README.md"),)))
    assert builder.git("status", "--porcelain") == before
    assert Path(builder.path, "README.md").read_text() == "changed\n"


# --- scope ---


def test_a_breach_that_is_accepted_is_merged_on_resume(builder: RepositoryBuilder, repository: Repository) -> None:
    """amend-scope widens the scope by the breaching files; a resumed run merges the work and runs what waited."""
    plan = TaskPlan(
        tasks=(
            make("a", "echo x > docs/a.md; echo x > src/side.txt", "/docs/"),
            make("b", "cat docs/a.md > b.txt", "/b.txt", depends_on=("a",)),
        )
    )
    board = orchestrate(repository, plan)
    assert states(board) == {"a": "out-of-scope", "b": "blocked"}
    with pytest.raises(UsageError, match="b is blocked"):
        amend_scope(repository, board.run, "b")
    with pytest.raises(UsageError, match="has no task 'x'"):
        amend_scope(repository, board.run, "x")
    added, _ = amend_scope(repository, board.run, "a")
    assert added == ("/src/side.txt",)
    board = resume(repository, board.run)
    assert states(board) == {"a": "merged", "b": "merged"}
    assert {"docs/a.md", "src/side.txt", "b.txt"} <= set(twelve.files_of(repository, board.integration))
    left = [b.name for b in repository.branches]
    assert left == [branch_of(board.run, "integration"), "main"]
    assert len(repository.worktrees) == 1 + len(list(Path(os.environ["ARBORETUM_CACHE_DIR"]).glob("pools/*/slots/*")))


def test_the_scope_is_checked_again_at_the_merge(builder: RepositoryBuilder, repository: Repository) -> None:
    """A rename on the integration branch that carries a task's change outside its scope is refused at the merge."""
    old = "".join(f"line {i}\n" for i in range(30))
    builder.commits([CommitSpec(files={"lib/old.txt": old.encode()})])

    def rename(event: Event) -> None:
        if isinstance(event, events.TaskEnded) and event.task == "a":
            builder.git("checkout", "-q", "--detach")
            builder.git("mv", "lib/old.txt", "src/renamed.txt")
            builder.git("commit", "-qm", "rename")
            builder.git("update-ref", f"refs/heads/{branch_of(event.run, 'integration')}", "HEAD")
            builder.git("checkout", "-q", "main")

    plan = TaskPlan(tasks=(make("a", "echo more >> lib/old.txt", "/lib/"),))
    board = orchestrate(repository, plan, observers=[rename])
    assert states(board) == {"a": "out-of-scope"}
    assert board.records["a"].files == ("src/renamed.txt",)
    assert "the merge of a would change" in board.records["a"].reason


# --- stopping and going on ---


@pytest.mark.parametrize("order", list(MergeOrder))
def test_a_stopped_run_goes_on_where_it_was(repository: Repository, order: MergeOrder) -> None:
    """A run that is stopped leaves nothing running, repeats no finished task, and ends as an undisturbed one."""
    counter = Path(os.environ["ARBORETUM_CACHE_DIR"]).parent / "count"
    command = f"echo {{id}} >> {counter}; sleep 0.2; echo x > {{id}}.txt"
    tasks = tuple(make(f"t{i}", command, f"/t{i}.txt") for i in range(6))
    orchestrator = Orchestrator.start(repository, TaskPlan(tasks=tasks, merge=order), Limits(slots=2))

    async def run_and_stop() -> Board:
        running = asyncio.create_task(orchestrator.run())
        while orchestrator.board.in_state(TaskState.MERGED) == ():
            await asyncio.sleep(0.01)
        orchestrator.stop()
        return await running

    board = asyncio.run(run_and_stop())
    assert board.status == "interrupted"
    over = set(board.in_state(TaskState.MERGED, TaskState.FINISHED))
    assert 0 < len(over) < 6
    board = resume(repository, board.run, slots=2)
    assert set(states(board).values()) == {"merged"}
    ran = counter.read_text().split()
    assert all(ran.count(name) == 1 for name in over)


def test_what_a_person_has_mended_is_taken_up(tmp_path: Path) -> None:
    """Conflicts and breakage that a person resolves on the kept branches are merged; what hung runs anew."""
    builder = twelve.build(tmp_path / "repo")
    repository = Repository.open(builder.path)
    board = orchestrate(repository, load_tasks(twelve.TASKS))
    run = board.run
    clash, caller = board.records["clash"].path, board.records["old-caller"].path
    integration = branch_of(run, "integration")
    with pytest.raises(AssertionError):
        builder.git("merge", "-q", integration, cwd=clash)
    Path(clash, "CHANGELOG.md").write_text("# Changes\n\n- first (api, clash)\n")
    with pytest.raises(UsageError, match="is merged"):
        resume(repository, run, retry=("api",))
    builder.git("commit", "-qam", "both", cwd=clash)
    builder.git("merge", "-q", "--no-edit", integration, cwd=caller)
    Path(caller, "uses/two.txt").write_text("new\n")
    builder.git("commit", "-qm", "wip", "--allow-empty", cwd=caller)
    with pytest.raises(DirtyWorktreeError, match="not committed"):
        resume(repository, run, retry=("old-caller",))
    builder.git("commit", "-qam", "the new name", cwd=caller)
    board = resume(repository, run, retry=("clash", "old-caller", "hangs"))
    ends = twelve.ENDS | {"clash": TaskState.MERGED, "old-caller": TaskState.MERGED}
    assert {name: record.state for name, record in board.records.items()} == ends
    files = twelve.files_of(repository, integration)
    assert (files["CHANGELOG.md"], files["uses/two.txt"]) == ("# Changes\n\n- first (api, clash)\n", "new\n")
    assert Path(board.records["hangs"].path, "src/half.txt").read_text() == "half\n"
    assert not os.path.exists(clash)


def test_a_run_that_goes_on_cannot_be_resumed_twice(repository: Repository) -> None:
    """The journal's lock keeps two processes from carrying out one run; an unknown run is refused by name."""
    orchestrator = Orchestrator.start(
        repository, TaskPlan(tasks=(make("a", "true", "/a"),)), Limits(slots=1), run="20260101-000000-aaaaaa"
    )
    with pytest.raises(StoreError, match="is going on in another process"):
        Orchestrator.resume(repository, "20260101-000000-aaaaaa", Limits(slots=1))
    asyncio.run(orchestrator.run())
    with pytest.raises(UsageError, match="there is no orchestration"):
        Orchestrator.resume(repository, "nothing", Limits(slots=1))


def test_a_deleted_integration_branch_is_told(builder: RepositoryBuilder, repository: Repository) -> None:
    """A branch that somebody deletes during the run ends it with how to bring it back; --resume brings it back."""

    def delete(event: Event) -> None:
        if isinstance(event, events.TaskEnded):
            builder.git("update-ref", "-d", f"refs/heads/{branch_of(event.run, 'integration')}")

    plan = TaskPlan(tasks=(make("a", "echo x > a.txt", "/a.txt"),))
    orchestrator = Orchestrator.start(repository, plan, Limits(slots=1), observers=[delete])
    with pytest.raises(EngineError, match="is gone"):
        asyncio.run(orchestrator.run())
    assert states(resume(repository, orchestrator.board.run)) == {"a": "merged"}


@pytest.mark.parametrize(("slots", "order"), list(itertools.product((1, 4), MergeOrder)))
def test_the_end_does_not_depend_on_slots_or_order(repository: Repository, slots: int, order: MergeOrder) -> None:
    """Tasks that do not meddle with each other end the same on one slot and on four, in either order of merging."""
    tasks = tuple(
        make(
            f"t{i}",
            "cat *.log > t{id}.out 2>/dev/null; echo {id} > {id}.log",
            (f"/t{i}.log", f"/tt{i}.out"),
            depends_on=needs,
        )
        for i, needs in enumerate([(), ("t0",), ("t0",), ("t1", "t2"), ()])
    )
    board = orchestrate(repository, TaskPlan(tasks=tasks, merge=order), slots=slots)
    assert set(states(board).values()) == {"merged"}
    files = twelve.files_of(repository, board.integration)
    assert {f"t{i}.log": f"t{i}\n" for i in range(5)}.items() <= files.items()
    assert set(files["tt3.out"].split()) >= {"t0", "t1", "t2"}
