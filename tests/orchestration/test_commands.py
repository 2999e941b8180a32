"""The commands split, orchestrate, check-conflicts and amend-scope, and the reports."""

from __future__ import annotations

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum.cli.app import run
from arboretum.orchestration.merge import check_conflicts
from arboretum.orchestration.orchestrator import orchestrations_folder, read_board
from arboretum.orchestration.report import gantt, render_html, render_markdown
from arboretum.orchestration.states import TaskState
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.orchestration import twelve

TASKS = """
title = "Two things <b>&"
command = {shell = "echo {id} > {id}.txt"}
[[task]]
id = "one"
scope = ["/one.txt"]
estimate = 1
[[task]]
id = "two"
scope = ["/two.txt"]
estimate = 2
depends_on = ["one"]
"""


@pytest.fixture
def tasks(tmp_path: Path) -> str:
    path = tmp_path / "tasks.toml"
    path.write_text(TASKS)
    return str(path)


@pytest.fixture
def command(builder: RepositoryBuilder, capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs the command in the repository; gives its exit code and both outputs."""

    def call(*words: str) -> tuple[int, str, str]:
        code = run(["-C", builder.path, *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


# --- split ---


def test_split_prints_table_json_and_mermaid(command: Any, tasks: str) -> None:
    """The same split in three forms; JSON has at least the promised keys."""
    code, out, _ = command("split", tasks, "--jobs", "2")
    assert code == 0
    assert "one *" in out
    assert "measured here" in out
    code, out, _ = command("split", tasks, "--format", "json", "--no-measure")
    document = json.loads(out)
    assert document["order"] == ["one", "two"]
    assert [task["id"] for task in document["tasks"]] == ["one", "two"]
    assert document["conflicts"] == []
    assert document["estimate"]["sequential_s"] == 3
    assert document["estimate"]["overhead_measured"] is False
    code, out, _ = command("split", tasks, "--format", "mermaid")
    assert out.startswith("flowchart LR\n")
    assert "t0 --> t1" in out


def test_split_describes_where_a_file_is_wrong(command: Any, tmp_path: Path) -> None:
    """A bad file ends with exit code 2 and names file, line and key; nothing is made."""
    path = tmp_path / "bad.toml"
    path.write_text(TASKS.replace('["one"]', '["oen"]'))
    code, out, err = command("split", str(path))
    assert (code, out) == (2, "")
    assert "bad.toml:12: task[1].depends_on: there is no task 'oen'" in err
    assert "did you mean 'one'" in err
    assert command("split")[0] == 2
    assert command("split", str(tmp_path / "none.toml"))[0] == 2


def test_a_wrong_value_is_told_without_a_hint_that_leads_nowhere(command: Any, tmp_path: Path) -> None:
    """A mistake in a file is not sent to the help of the command, which says nothing of files."""
    path = tmp_path / "wrong.toml"
    path.write_text('command = "true"\n[[task]]\nid = "a/b"\nscope = ["/a"]\n')
    assert "cannot be a task id" in command("orchestrate", str(path))[2]
    path.write_text('merge = "maybe"\ncommand = "true"\n[[task]]\nid = "a"\nscope = ["/a"]\n')
    code, _, said = command("orchestrate", str(path))
    assert (code, "--help" in said) == (2, False)
    assert "wrong.toml:1: merge" in said


def test_one_big_task_is_decomposed_and_can_be_orchestrated(
    command: Any, builder: RepositoryBuilder, tmp_path: Path
) -> None:
    """--describe groups the files, --output keeps a task file, and that file runs."""
    target = tmp_path / "plan.json"
    code, out, _ = command(
        "split", "--describe", "add a line", "--task-command", "sh -c 'mkdir z && echo {id} > z/{id}'",
        "--max-tasks", "3",
        "--output", str(target), "--format", "json", "--no-measure",
    )  # fmt: skip
    assert code == 0
    document = json.loads(out)
    assert 1 < len(document["tasks"]) <= 3
    assert document["conflicts"] == []
    assert [t["id"] for t in json.loads(target.read_text())["task"]] == [t["id"] for t in document["tasks"]]
    code, out, _ = command("orchestrate", str(target), "--format", "json")
    assert code == 1, "what they write is outside their scopes"
    assert {task["status"] for task in json.loads(out)["tasks"]} == {"out-of-scope"}


def test_a_planner_with_overlapping_scopes_is_refused(command: Any, tmp_path: Path) -> None:
    """--with checks the answer like a task file and says why it is refused."""
    planner = tmp_path / "planner.py"
    answer = {"task": [{"id": "a", "scope": ["src/"]}, {"id": "b", "scope": ["*.py"]}]}
    planner.write_text(f"import sys; sys.stdin.read(); print({json.dumps(answer)!r})")
    words = ("split", "--describe", "x", "--task-command", "true", "--with", f"{sys.executable} {planner}")
    code, _, err = command(*words)
    assert code == 2
    assert "scopes overlap: a and b can both change 'src/.py'" in err
    assert command("split", "--describe", "x")[0] == 2


# --- orchestrate ---


def test_a_dry_run_changes_nothing(command: Any, builder: RepositoryBuilder, tasks: str) -> None:
    """--dry-run shows the split and makes no branch and no worktree."""
    code, out, _ = command("orchestrate", tasks, "--dry-run", "--format", "json")
    assert code == 0
    assert json.loads(out)["schema"] == "arboretum/split/1"
    assert builder.git("branch", "--format=%(refname:short)") == "main"
    assert len(builder.git("worktree", "list").splitlines()) == 1


def test_orchestrate_reports_and_tells_by_its_exit_code(
    command: Any, builder: RepositoryBuilder, tasks: str, tmp_path: Path
) -> None:
    """All good: exit code 0, JSON with tasks and integration, and a report in each form."""
    reports = [tmp_path / f"r.{form}" for form in ("html", "markdown", "json")]
    words = [word for path in reports for word in ("--report", f"{path.suffix[1:]}:{path}")]
    lines = tmp_path / "events.jsonl"
    code, out, err = command("orchestrate", tasks, "--into", "main", "--format", "json", "--events", str(lines), *words)
    document = json.loads(out)
    assert code == 0
    assert [(t["id"], t["status"], t["branch"]) for t in document["tasks"]] == [
        ("one", "merged", None),
        ("two", "merged", None),
    ]
    assert builder.git("rev-parse", document["integration"]["branch"]) == document["integration"]["tip"]
    assert builder.git("rev-parse", "main") == document["integration"]["tip"]
    assert "merged one" in err
    html, markdown, data = (path.read_text() for path in reports)
    assert "Two things &lt;b&gt;&amp;" in html
    assert "<b>&" not in html
    assert 'class="bar supported"' in html
    assert "```mermaid\ngantt" in markdown
    assert json.loads(data) == document
    assert command("orchestrate", tasks, "--report", "pdf:x.pdf")[0] == 2
    told = [json.loads(line)["type"] for line in lines.read_text().splitlines()]
    assert told[0] == "orchestration-started"
    assert told[-1] == "orchestration-finished"
    assert told.count("tasks-merged") == 2


def test_a_failed_task_is_exit_code_one_and_says_what_next(
    command: Any, builder: RepositoryBuilder, tasks: str, tmp_path: Path
) -> None:
    """Not all good: exit code 1; amend-scope and --resume lead to a good end."""
    path = Path(tasks)
    path.write_text(TASKS.replace('scope = ["/one.txt"]', 'scope = ["/src/"]'))
    code, out, _ = command("orchestrate", tasks, "--format", "json")
    assert code == 1
    document = json.loads(out)
    assert [t["status"] for t in document["tasks"]] == ["out-of-scope", "blocked"]
    assert "amend-scope" in document["tasks"][0]["next"]
    assert Path(document["tasks"][0]["worktree"], "one.txt").read_text() == "one\n"
    name = document["run"]
    assert command("amend-scope", name, "two")[0] == 2
    code, out, _ = command("amend-scope", name, "one", "--format", "json")
    assert (code, json.loads(out)["added"]) == (0, ["/one.txt"])
    code, out, _ = command("orchestrate", "--resume", name, "--format", "json")
    assert code == 0
    assert [t["status"] for t in json.loads(out)["tasks"]] == ["merged", "merged"]
    assert command("orchestrate", "--resume", "nothing")[0] == 2
    assert command("orchestrate", tasks, "--resume", name)[0] == 2


def test_ctrl_c_stops_in_order_and_resume_goes_on(builder: RepositoryBuilder, tmp_path: Path) -> None:
    """SIGINT: exit code 130, no process left, and --resume brings the run to its end."""
    path = tmp_path / "tasks.toml"
    path.write_text(
        'command = {shell = "echo x > {id}.txt; while ! test -e ' + str(tmp_path / "go") + '; do sleep 0.05; done"}\n'
        '[[task]]\nid = "a"\nscope = ["/a.txt"]\n[[task]]\nid = "b"\nscope = ["/b.txt"]\n'
    )
    words = [sys.executable, "-m", "arboretum", "-C", builder.path, "orchestrate"]
    process = subprocess.Popen([*words, str(path), "--jobs", "2"], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    lines = []
    while len([line for line in lines if "started" in line]) < 2:
        lines.append(process.stderr.readline())
        assert lines[-1], "".join(lines)
    process.send_signal(signal.SIGINT)
    process.stderr.read()
    assert process.wait(20) == 130
    process.stderr.close()
    if sys.platform == "linux":
        deadline = time.monotonic() + 5
        while twelve.no_process_in(tmp_path / "cache") and time.monotonic() < deadline:
            time.sleep(0.05)
        assert twelve.no_process_in(tmp_path / "cache") == []
    match = re.search(r"run (\S+):", lines[0])
    assert match is not None
    (tmp_path / "go").touch()
    done = subprocess.run([*words, "--resume", match[1], "--format", "json"], capture_output=True, check=True)
    assert {t["status"] for t in json.loads(done.stdout)["tasks"]} == {"merged"}


# --- check-conflicts ---


def test_check_conflicts_names_files_and_pairs(command: Any, builder: RepositoryBuilder) -> None:
    """Every pair is merged in memory; conflicts and files that both touch are told apart; nothing is changed."""
    text = [f"line {i}\n" for i in range(20)]

    def changed(at: int, word: str) -> bytes:
        return "".join([*text[:at], f"{word}\n", *text[at + 1 :]]).encode()

    builder.commits([CommitSpec(files={"f.txt": "".join(text).encode()})])
    for name, files in {
        "top": {"f.txt": changed(0, "top")},
        "end": {"f.txt": changed(19, "end")},
        "top2": {"f.txt": changed(0, "other")},
        "away": {"g.txt": b"g\n"},
    }.items():
        builder.branch(name)
        builder.commits([CommitSpec(files=files, branch=name)])
    before = builder.git("for-each-ref"), builder.git("status", "--porcelain")
    code, out, _ = command("check-conflicts", "top", "end", "top2", "away", "--format", "json")
    assert code == 1
    pairs = {tuple(p["branches"]): (p["conflicts"], p["both_touch"]) for p in json.loads(out)["pairs"]}
    assert len(pairs) == 6
    assert pairs["top", "end"] == ([], ["f.txt"])
    assert pairs["top", "top2"] == (["f.txt"], ["f.txt"])
    assert pairs["end", "away"] == ([], [])
    assert (builder.git("for-each-ref"), builder.git("status", "--porcelain")) == before
    code, out, _ = command("check-conflicts", "top", "end")
    assert code == 0
    assert "clean" in out
    assert command("check-conflicts", "top")[0] == 2
    assert command("check-conflicts", "top", "nowhere")[0] == 2


lines = st.lists(st.sampled_from(["a", "b", "c"]), min_size=3, max_size=6)
contents = st.dictionaries(st.sampled_from(["x", "y", "d/z"]), lines, min_size=1)


@given(contents, st.lists(contents, min_size=2, max_size=3))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_check_conflicts_agrees_with_git_merge(
    tmp_path_factory: pytest.TempPathFactory, base: dict[str, list[str]], sides: list[dict[str, list[str]]]
) -> None:
    """A pair is called clean exactly when ``git merge`` merges it, and the conflicting files are git's own."""
    builder = RepositoryBuilder.init(str(tmp_path_factory.mktemp("merge") / "repo"))

    def files(content: dict[str, list[str]]) -> dict[str, bytes]:
        return {name: "".join(f"{line}\n" for line in text).encode() for name, text in content.items()}

    builder.commits([CommitSpec(files=files(base))])
    names = [f"side{i}" for i in range(len(sides))]
    for name, side in zip(names, sides, strict=True):
        builder.branch(name)
        builder.commits([CommitSpec(files=files(side), branch=name)])
    with Repository.open(builder.path) as repository:
        pairs = check_conflicts(repository, names)
    assert [(p.one, p.two) for p in pairs] == list(itertools.combinations(names, 2))
    for pair in pairs:
        builder.git("checkout", "-q", "--detach", pair.one)
        merged = subprocess.run(
            ["git", "merge", "-q", "--no-edit", pair.two],
            cwd=builder.path,
            env=dict(builder.environment),
            capture_output=True,
            check=False,
        )
        conflicts = builder.git("diff", "--name-only", "--diff-filter=U").split()
        assert list(pair.conflicts) == sorted(conflicts)
        assert pair.is_clean is (merged.returncode == 0)
        builder.git("reset", "-q", "--hard")


# --- the report ---


def test_the_report_of_the_twelve_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Gantt has every attempt within the run, and no two bars of a slot overlap; the page needs no network."""
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "cache"))
    builder = twelve.build(tmp_path / "repo")
    run(["-C", builder.path, "-q", "orchestrate", str(twelve.TASKS)])
    with Repository.open(builder.path) as repository:
        (name,) = os.listdir(Path(repository.state_dir, "orchestrations"))
        board = read_board(repository, name)
    bars = [bar for _, lane in gantt(board) for bar in lane]
    assert len(bars) == 14, "twelve tasks, two retries"
    for _, lane in gantt(board):
        for bar, after in itertools.pairwise(lane):
            assert bar.left + bar.width <= after.left + 1e-6
        assert all(bar.left >= 0 and bar.left + bar.width <= 100 + 1e-6 for bar in lane)
    html = render_html(board)
    assert "http" not in html.replace("http-equiv", "")
    for record in board.records.values():
        assert record.id in html
        if record.state is not TaskState.MERGED:
            assert record.reason.split("`")[0].strip() in html.replace("&#39;", "'")
    assert render_markdown(board).count("ms\n") == 14


# --- what earlier runs did ---


def test_history_lists_orchestrations_and_show_shows_them_again(command: Any, tasks: str, tmp_path: Path) -> None:
    """An orchestration is among the runs; it is shown again by the beginning of its id, with report and output."""
    code, out, _ = command("orchestrate", tasks, "--format", "json")
    assert code == 0
    first = json.loads(out)
    listed = json.loads(command("history", "--format", "json")[1])["runs"]
    assert [(r["run"], r["kind"], r["status"], r["good"], r["tasks"]) for r in listed] == [
        (first["run"], "orchestration", "done", 2, 2)
    ]
    assert "2/2 good" in command("history")[1]
    page = tmp_path / "again.html"
    code, out, _ = command("show", first["run"][:-1], "--format", "json", "--report", f"html:{page}")
    assert (code, json.loads(out)) == (0, first)
    assert first["run"] in page.read_text()
    assert command("show", "--format", "json")[1] == out, "the last one"
    code, _, said = command("show", "--trial", "three")
    assert code == 2
    assert "one, two" in said
    assert command("show", "--report", f"junit:{page}")[0] == 2


def test_what_a_task_printed_is_shown(command: Any, tmp_path: Path) -> None:
    """The output of a task, also of an earlier attempt, is shown by the task's id."""
    path = tmp_path / "noisy.toml"
    line = 'command = {shell = "echo attempt {attempt}; test {attempt} = 2"}\n'
    path.write_text(line + '[[task]]\nid = "a"\nscope = ["/a"]\nretries = 1\n')
    command("orchestrate", str(path))
    assert command("show", "--trial", "a")[1].strip() == "attempt 2"
    assert command("show", "--trial", "a#1")[1].strip() == "attempt 1"


def test_a_task_that_printed_nothing_says_why(command: Any, tmp_path: Path) -> None:
    """Of a task without output it is said that there is none, and what became of the task."""
    path = tmp_path / "silent.toml"
    path.write_text('command = "no-such-program"\n[[task]]\nid = "a"\nscope = ["/a"]\n')
    assert command("orchestrate", str(path))[0] == 1
    code, out, said = command("show", "--trial", "a")
    assert (code, out) == (0, "")
    assert "a printed nothing: its command `no-such-program` failed" in said


def test_what_resume_does_not_take_is_said(command: Any, tasks: str) -> None:
    """--resume names the arguments that it does not take, and what to do instead."""
    command("orchestrate", tasks)
    code, _, said = command("orchestrate", "--resume", "last", "--into", "main")
    assert code == 2
    assert "takes no --into" in said
    assert "merged by hand" in said


def test_a_shared_file_at_the_top_keeps_nobody_apart(command: Any, tmp_path: Path) -> None:
    """`split` says how to share a file at the top alone, and so written it keeps no tasks apart."""
    path = tmp_path / "shared.toml"
    text = 'command = "true"\n[[task]]\nid = "a"\nscope = ["/a.py"]\nshared = ["LOG.md"]\n'
    text += '[[task]]\nid = "b"\nscope = ["/b.py"]\n'
    path.write_text(text)
    code, out, said = command("split", str(path), "--no-measure")
    assert (code, "a × b" in out) == (0, True)
    assert "write /CHANGELOG.md for the one at the top" in said
    path.write_text(text.replace("LOG.md", "/LOG.md"))
    assert "a × b" not in command("split", str(path), "--no-measure")[1]


def test_a_killed_orchestration_is_told_as_interrupted(command: Any, tasks: str, repository: Repository) -> None:
    """A run whose process died is interrupted, not running; one of which there is no event is left out."""
    run = json.loads(command("orchestrate", tasks, "--format", "json")[1])["run"]
    folder = Path(orchestrations_folder(repository))
    journal = folder / run / "events.jsonl"
    journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    (folder / "20990101-000000-aaaaaa").mkdir()
    (folder / "20990101-000000-aaaaaa" / "events.jsonl").touch()
    assert [row["status"] for row in json.loads(command("history", "--format", "json")[1])["runs"]] == ["interrupted"]
    assert command("show", run)[0] == 130
