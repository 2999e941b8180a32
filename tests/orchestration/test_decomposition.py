"""Decomposing one big task, with a program and without; what history says changes together; the machine's limits."""

from __future__ import annotations

import itertools
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from arboretum.engine.model import CommandSpec
from arboretum.errors import CommandError, InputFileError
from arboretum.orchestration.co_change import pairs_that_change_together, read_history
from arboretum.orchestration.decomposition import ask_program, check_answer, decompose, request_for
from arboretum.orchestration.machine import get_existing_worktrees, machine_limits, measure_overhead
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.splitter import find_conflicts
from arboretum.orchestration.task_file import load_tasks
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

TRUE = CommandSpec(("true",))
names = st.sampled_from(["a", "b", "c", "x y", "s*r", "[z]", "integration"])
file_sets = st.sets(st.lists(names, min_size=1, max_size=4).map("/".join), min_size=1, max_size=30).map(
    # a path that is a file cannot be a folder too
    lambda paths: tuple(sorted(p for p in paths if not any(q.startswith(p + "/") for q in paths)))
)


@given(file_sets, st.integers(1, 6), st.data())
@settings(max_examples=100, deadline=None)
def test_the_deterministic_splitter_gives_each_file_to_one_task(
    files: tuple[str, ...], max_tasks: int, data: st.DataObject
) -> None:
    """Every file is in exactly one scope, no two scopes can meet, and there are at most as many tasks as asked for."""
    pairs = st.tuples(st.sampled_from(files), st.sampled_from(files)).filter(lambda p: p[0] < p[1])
    together = data.draw(st.dictionaries(pairs, st.integers(3, 9), max_size=5)) if len(files) > 1 else {}
    plan = decompose("tidy up", files=files, together=together, command=TRUE, max_tasks=max_tasks)
    assert 1 <= len(plan.tasks) <= max_tasks
    for file in files:
        assert sum(file in task.scope for task in plan.tasks) == 1
    assert find_conflicts(plan.tasks) == ()
    assert plan == decompose("tidy up", files=files, together=together, command=TRUE, max_tasks=max_tasks)
    assert len({task.id.casefold() for task in plan.tasks}) == len(plan.tasks)


def test_files_that_change_together_stay_together() -> None:
    """Of four folders, the two that history ties are one task when there is room."""
    files = [f"{folder}/{i}.py" for folder in "abcd" for i in range(2)]
    plan = decompose("tidy", files=files, together={("a/0.py", "d/1.py"): 5}, command=TRUE, max_tasks=2)
    assert [sorted({f[0] for f in files if f in task.scope}) for task in plan.tasks] == [["a", "d"], ["b", "c"]]


def _answer(program: str, tmp_path: Path) -> CommandSpec:
    script = tmp_path / "planner.py"
    script.write_text(program)
    return CommandSpec((sys.executable, str(script)))


def test_a_program_gets_the_request_and_its_answer_is_a_plan(repository: Repository, tmp_path: Path) -> None:
    """The program reads description, structure, recent changes and limits as JSON and answers a checked plan."""
    program = _answer(
        "import json, sys\n"
        "q = json.load(sys.stdin)\n"
        "assert q['schema'] == 'arboretum.decompose/1' and q['description'] == 'big' and q['limits']['slots'] == 2\n"
        "assert q['recent_changes'][0]['subject'] == 'a commit'\n"
        "tasks = [{'id': f['path'].replace('/', '-') or 'top', 'scope': ['/' + f['path'] + '/*']}\n"
        "         for f in q['repository']['folders'] if f['path']]\n"
        "print(json.dumps({'title': q['description'], 'task': tasks}))\n",
        tmp_path,
    )
    files = [entry.path for entry in repository.backend.read_tree(repository.resolve("HEAD"))]
    request = request_for(repository, "big", files=files, together={}, limits=Limits(slots=2), max_tasks=4)
    plan = ask_program(repository, program, request, command=TRUE)
    assert [task.id for task in plan.tasks] == ["docs", "src", "src-core", "src-web"]
    assert all(task.command == TRUE for task in plan.tasks)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("hello", "no JSON"),
        ("[]", "no JSON object"),
        ("{}", "no task"),
        ('{"task": [{"id": "a", "scope": ["/x/"]}, {"id": "a", "scope": ["/y/"]}]}', "is taken"),
        ('{"task": [{"id": "a", "scope": []}]}', "empty"),
        (
            '{"task": [{"id": "a", "scope": ["/src/"]}, {"id": "b", "scope": ["/src/core/*.py"]}]}',
            "a and b can both change 'src/core/.py'",
        ),
    ],
)
def test_a_bad_answer_is_refused_with_reasons(answer: str, says: str) -> None:
    """An answer is checked like any task file, and refused when tasks side by side could change the same file."""
    with pytest.raises(InputFileError) as caught:
        check_answer(answer, source="the answer", command=TRUE)
    assert says in str(caught.value)


def test_overlapping_scopes_are_fine_when_one_waits_for_the_other() -> None:
    """A dependency puts two tasks in order, so both may change the same file."""
    text = '{"task": [{"id": "a", "scope": ["/src/"]}, {"id": "b", "scope": ["/src/x"], "depends_on": ["a"]}]}'
    assert len(check_answer(text, source="the answer", command=TRUE).tasks) == 2


def test_a_program_that_fails_is_told(repository: Repository, tmp_path: Path) -> None:
    """A planner that ends with an error is an error that shows what it said."""
    with pytest.raises(CommandError, match="no model"):
        ask_program(repository, _answer("raise SystemExit('no model')", tmp_path), {}, command=TRUE)


def test_a_json_task_file_is_read_like_a_toml_one(tmp_path: Path) -> None:
    """What a planner answered can be kept as a file and orchestrated later."""
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps({"command": "true", "task": [{"id": "a", "scope": ["x/"]}]}))
    assert load_tasks(path).tasks[0].id == "a"
    path.write_text("{")
    with pytest.raises(InputFileError, match=r"tasks.json:1: not valid JSON"):
        load_tasks(path)


def test_history_is_read_once_and_then_from_the_cache(builder: RepositoryBuilder, repository: Repository) -> None:
    """The log gives pairs that change together; a second reading compares no commit that was compared before."""
    for number in range(4):
        builder.commits(
            [CommitSpec(files={"src/main.py": f"m = {number}\n".encode(), "docs/guide.md": f"{number}\n".encode()})]
        )
    pairs = pairs_that_change_together(read_history(repository))
    assert pairs == {("docs/guide.md", "src/main.py"): 5}

    compared = []
    original = repository.backend.diff_trees

    def counting(*arguments: object, **options: object) -> object:
        compared.append(arguments)
        return original(*arguments, **options)  # type: ignore[arg-type]

    repository.backend.diff_trees = counting  # type: ignore[method-assign,assignment]
    assert pairs_that_change_together(read_history(repository)) == pairs
    assert compared == []
    builder.commits([CommitSpec(files={"README.md": b"more\n"})])
    read_history(repository)
    assert len(compared) == 1


def test_a_damaged_cache_is_read_anew(repository: Repository) -> None:
    """The cache is only a cache: anything in it that cannot be meant is as if it were not there."""
    first = read_history(repository)
    for text in ("", "[]", '{"v": 1, "commits": {"zz": []}}', '{"v": 1}'):
        Path(repository.state_dir, "co-change.json").write_text(text)
        assert read_history(repository) == first


@given(st.lists(st.sets(st.sampled_from("abcd"), max_size=3).map(tuple), max_size=12))
def test_pairs_are_counted_as_brute_force_counts_them(history: list[tuple[str, ...]]) -> None:
    """A pair is there exactly when it changed together often enough, absolutely and for the rarer file."""
    found = pairs_that_change_together(history, commits=2, share=0.5)
    for one, two in itertools.combinations("abcd", 2):
        both = sum(one in c and two in c for c in history)
        rarer = min(sum(one in c for c in history), sum(two in c for c in history))
        assert ((one, two) in found) == (both >= 2 and both >= 0.5 * rarer)


def test_existing_worktrees_are_seen_with_what_they_change(
    builder: RepositoryBuilder, repository: Repository, tmp_path: Path
) -> None:
    """A linked worktree is listed with its branch, its committed and its uncommitted changes."""
    base = repository.resolve("HEAD")
    tree = repository.worktrees.add(tmp_path / "w", new_branch="wip")
    Path(tree.path, "src/main.py").write_text("main = 2\n")
    tree.stage()
    tree.commit("work")
    Path(tree.path, "new.txt").write_text("new\n")
    (found,) = get_existing_worktrees(repository, base)
    assert (found.branch, found.changes, found.in_use) == ("wip", ("new.txt", "src/main.py"), False)
    limits = machine_limits(repository, base, jobs=3, worktrees=(found,), folder=str(tmp_path))
    assert limits.slots == 3
    assert "3 jobs asked for" in limits.reasons


def test_the_overhead_is_measured_and_leaves_nothing(repository: Repository) -> None:
    """Measuring makes a real worktree and takes it away again."""
    assert measure_overhead(repository, repository.resolve("HEAD")) > 0
    assert len(repository.worktrees) == 1
