"""``arboretum run`` as people run it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest

from arboretum.report.document import load_schema
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.cli.conftest import CHECK, Arboretum
from tests.engine.test_hazards import read_only

PLAN = """
version = 1
base = "main"
command = "grep -qx 42 answer.txt"
[[hypothesis]]
id = "right"
ref = "right"
[[hypothesis]]
id = "wrong"
ref = "wrong"
"""


def entries(builder: RepositoryBuilder) -> list[str]:
    return sorted(os.listdir(builder.git_dir))


# --- verdicts and exit codes ---


@pytest.mark.parametrize(
    ("refs", "command", "code"),
    [
        (["right", "wrong"], CHECK, 0),
        (["wrong"], CHECK, 1),
        (["right"], ("true",), 3),
        (["right"], ("no-such-command-here",), 3),
        (["right"], ("sh", "-c", "exit 125"), 3),
    ],
)
def test_the_exit_code_says_what_came_out(
    builder: RepositoryBuilder, arboretum: Arboretum, refs: list[str], command: tuple[str, ...], code: int
) -> None:
    """0: one is supported; 1: all are falsified; 3: some are undecided."""
    words = [word for ref in refs for word in ("--ref", ref)]
    done = arboretum("run", *words, "--", *command, cwd=builder.path)
    assert done.code == code, done.err


def test_json_is_one_object_that_the_schema_describes(builder: RepositoryBuilder, arboretum: Arboretum) -> None:
    """With --format json stdout is one JSON object of the published schema; everything else is on stderr."""
    done = arboretum("run", "--ref", "right", "--ref", "wrong", "--format", "json", "--", *CHECK, cwd=builder.path)
    jsonschema.validate(done.json, load_schema("run-1"))
    assert {h["id"]: h["verdict"] for h in done.json["hypotheses"]} == {"right": "supported", "wrong": "falsified"}
    assert "right" in done.err


def test_a_plan_file_and_its_reports(builder: RepositoryBuilder, arboretum: Arboretum, tmp_path: Path) -> None:
    """A run writes the reports that were asked for, and `show` writes the same ones from what was kept."""
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    names = {"json": "r.json", "junit": "r.xml", "markdown": "r.md", "html": "r.html"}
    wanted = [word for kind, name in names.items() for word in ("--report", f"{kind}:{tmp_path / name}")]
    done = arboretum("-C", builder.path, "run", plan, *wanted, "--events", tmp_path / "events.jsonl")
    assert done.code == 0, done.err
    first = {name: (tmp_path / name).read_text() for name in names.values()}
    assert all("right" in text for text in first.values())
    types = [json.loads(line)["type"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert (types[0], types[-1]) == ("run-started", "run-finished")
    again = arboretum("-C", builder.path, "show", *wanted)
    assert (again.code, again.out) == (0, done.out)
    assert {name: (tmp_path / name).read_text() for name in names.values()} == first


def test_show_of_commits(builder: RepositoryBuilder, arboretum: Arboretum, tmp_path: Path) -> None:
    """What `each` and `bisect` found is shown again, the same, with what was printed at each commit."""
    oids = builder.commits([CommitSpec({"number": f"{n}\n"}) for n in range(8)])
    command = ("--", "sh", "-c", "echo number $(cat number); test $(cat number) -lt 5")
    for words in (("each", f"{oids[0]}..{oids[7]}"), ("bisect", oids[0], oids[7])):
        for output in ((), ("--format", "json")):
            first = arboretum("-C", builder.path, words[0], *output, *words[1:], *command)
            again = arboretum("-C", builder.path, "show", *output)
            assert (again.code, again.out) == (first.code, first.out)
        printed = arboretum("-C", builder.path, "show", "--trial", oids[5][:8])
        assert (printed.code, printed.out.strip()) == (0, "number 5"), printed.err
        other = arboretum("-C", builder.path, "show", "--trial", "0000")
        assert other.code == 2
        assert oids[5][:10] in other.err
        report = arboretum("-C", builder.path, "show", "--report", f"html:{tmp_path / 'r.html'}")
        assert report.code == 2
        assert not (tmp_path / "r.html").exists()


def test_the_whole_output_is_shown(builder: RepositoryBuilder, arboretum: Arboretum, tmp_path: Path) -> None:
    """`show --trial` and the reports give all that a trial printed, also of a result that was taken from the cache."""
    script = "printf 'first \\033[31mline\\033[0m\\n'; seq 3000; echo to stderr >&2"
    for cached in ("", "cached"):
        done = arboretum("-C", builder.path, "run", "--ref", "right", "--", "sh", "-c", script)
        assert cached in done.out
        shown = arboretum("-C", builder.path, "show", "--trial", "right")
        assert shown.out.splitlines() == ["first line", *map(str, range(1, 3001)), "to stderr"]
    arboretum("-C", builder.path, "show", "--report", f"html:{tmp_path / 'r.html'}")
    assert "first line\n1\n2\n" in (tmp_path / "r.html").read_text()


def test_many_long_outputs_still_make_a_page_that_opens(
    builder: RepositoryBuilder, arboretum: Arboretum, tmp_path: Path
) -> None:
    """The control's output stands beside each hypothesis: of many long ones each is cut to what a page bears."""
    plan, page = tmp_path / "many.toml", tmp_path / "r.html"
    tables = "".join(f'[[hypothesis]]\nid = "h{n}"\nenv = {{ N = "{n}" }}\n' for n in range(150))
    plan.write_text(f'version = 1\ncommand = "seq 40000"\n{tables}')
    done = arboretum("-C", builder.path, "run", plan, "--report", f"html:{page}")
    assert done.code == 3, done.err
    text = page.read_text()
    assert len(text) < 25_000_000
    assert text.count("\n40000") == 301


def test_what_is_not_kept_is_said(builder: RepositoryBuilder, arboretum: Arboretum) -> None:
    """Of an output that is not kept any more `show --trial` gives the last lines, and says so."""
    arboretum("-C", builder.path, "run", "--ref", "right", "--", "seq", "3000")
    with sqlite3.connect(Path(builder.git_dir, "arboretum", "results.sqlite3")) as db:
        db.execute("DELETE FROM outputs")
    shown = arboretum("-C", builder.path, "show", "--trial", "right")
    assert shown.out.splitlines()[-1] == "3000"
    assert "these are the last lines" in shown.err
    arboretum("-C", builder.path, "run", "--ref", "right", "--", "true")
    silent = arboretum("-C", builder.path, "show", "--trial", "right")
    assert (silent.out, "printed nothing" in silent.err) == ("", True)


def test_what_was_found_can_be_read_where_nothing_can_be_written(
    builder: RepositoryBuilder, arboretum: Arboretum, tmp_path: Path
) -> None:
    """`history`, `show` and `why` work on a read-only disk."""
    ran = arboretum("-C", builder.path, "run", "--ref", "right", "--ref", "wrong", "--", *CHECK)
    with read_only(Path(builder.path)) as mounted:
        if not mounted:
            pytest.skip("nothing may be mounted here")
        assert "grep" in arboretum("-C", builder.path, "history").out
        again = arboretum("-C", builder.path, "show", "--report", f"html:{tmp_path / 'r.html'}")
        assert (again.code, again.out) == (0, ran.out)
        assert arboretum("-C", builder.path, "why", "last", "right").code == 0


def test_the_demo_leaves_nothing_behind(arboretum: Arboretum, tmp_path: Path) -> None:
    """Neither its repository nor what its tests make in the folder for temporary files stays."""
    (tmp_path / "temporary").mkdir()
    done = arboretum("demo", "--repeats", "1", TMPDIR=str(tmp_path / "temporary"))
    assert done.code in {0, 1, 3}, done.err
    assert "slice-end" in done.out
    assert os.listdir(tmp_path / "temporary") == []


def test_dry_run_makes_nothing(builder: RepositoryBuilder, arboretum: Arboretum, tmp_path: Path) -> None:
    """--dry-run checks the plan and lists what would be tried, in order, and leaves no trace."""
    plan = tmp_path / "plan.toml"
    plan.write_text(PLAN)
    before = entries(builder)
    done = arboretum("run", plan, "--dry-run", "--format", "json", cwd=builder.path)
    assert done.json["hypotheses"] == ["right", "wrong"]
    assert (done.code, entries(builder)) == (0, before)


def test_quiet_says_results_only(builder: RepositoryBuilder, arboretum: Arboretum) -> None:
    """-q leaves stderr empty and stdout as it is; -vv tells what the parts do."""
    words = ("run", "--ref", "right", "--no-cache", "--", *CHECK)
    quiet, loud = (arboretum(flag, *words, cwd=builder.path) for flag in ("-q", "-vv"))
    assert quiet.err == ""
    assert "supported" in quiet.out
    assert "DEBUG" in loud.err


def test_a_reader_that_has_seen_enough(builder: RepositoryBuilder) -> None:
    """A closed pipe on stdout ends the command quietly."""
    words = [sys.executable, "-m", "arboretum", "-C", builder.path, "worktree", "list", "--format", "json"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.stderr.close()
    process.wait(30)
    assert said == b""


# --- bad command lines: one clear error ---


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run",), "nothing to test"),
        (("run", "nonesuch.toml"), "nonesuch.toml"),
        (("run", "."), "."),
        (("run", "--ref", "nonesuch", "--", "true"), "nonesuch"),
        (("run", "--ref", "right"), "no command"),
        (("run", "--ref", "right", "--ref", "right", "--", "true"), "twice"),
        (("run", "--ref", "--upload-pack=x", "--", "true"), "--upload-pack=x"),
        (("run", "--ref", "right", "--timeout", "-3", "--", "true"), "-3"),
        (("run", "--ref", "right", "--timeout", "soon", "--", "true"), "soon"),
        (("run", "--ref", "right", "--jobs", "0", "--", "true"), "0"),
        (("run", "--ref", "right", "--repeats", "0", "--", "true"), "0"),
        (("run", "--ref", "right", "--report", "pdf:x", "--", "true"), "pdf:x"),
        (("run", "--ref", "right", "--report", "html:/no/such/folder/x.html", "--", "true"), "/no/such/folder"),
        (("run", "--ref", "right", "--executor", "nonesuch", "--", "true"), "nonesuch"),
        (("run", "--ref", "right", "--", "echo 'unbalanced"), "quot"),
        (("run", "--ref", "right", "--events", "/no/such/folder/x", "--", "true"), "/no/such/folder"),
        (("run", "--ref", "right", "--events", ".", "--", "true"), "cannot be written"),
        (("bisect", "right", "main", "--log", "/no/such/folder/x", "--", "true"), "/no/such/folder"),
        (("-C", "/no/such/folder", "worktree", "list"), "/no/such/folder"),
        (("run", "--resume"), "no interrupted run"),
        (("show", "-q"), "arboretum -q show"),
        (("worktree", "list", "--verbose"), "arboretum --verbose worktree list"),
        (("show", "--nonesuch"), "see arboretum show --help"),
        (("orchestrate", "--resume", "last", "--into", "main", "--base", "x"), "no --into and no --base"),
        (("--backend", "nonesuch", "run", "--ref", "right", "--", "true"), "nonesuch"),
        (("runn",), "did you mean 'run'"),
        (("run", "--reff", "x"), "--ref"),
        (("each", "right..right", "--", "true"), "empty"),
        (("bisect", "main", "nonesuch", "--", "true"), "nonesuch"),
        (("show", "nonesuch"), "nonesuch"),
        (("why", "nonesuch", "x"), "nonesuch"),
    ],
)
def test_a_bad_command_line_gets_one_clear_error(
    builder: RepositoryBuilder, arboretum: Arboretum, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    """What was wrong is named, the exit code is 2, and nothing is run."""
    done = arboretum(*words, cwd=builder.path)
    assert (done.code, done.out) == (2, ""), done.err
    assert said in done.err
    assert "hint:" in done.err
    assert not list(tmp_path.rglob("pools"))
