"""Reading task files: what they state, and where exactly they are wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from arboretum.engine.model import CommandSpec
from arboretum.errors import InputFileError
from arboretum.orchestration.task_file import load_tasks, parse_size
from arboretum.orchestration.tasks import MergeOrder, fill

GOOD = """\
title = "Tidy the parser"
base = "main"
command = "agent --task {prompt}"
verify = "pytest -q"
verify_timeout = "10m"
merge = "plan"
jobs = 4
retries = 1
env = {MODE = "fast", X = "1"}

[[task]]
id = "lexer"
description = "split the lexer"
scope = ["src/lexer/**", "!src/lexer/gen/"]
shared = ["CHANGELOG.md"]
reads = ["docs/"]
estimate = "5m"
timeout = "10m"
cpus = 2
memory = "512M"
labels = ["gpu"]
exclusive = ["port:5432"]
verify = ["pytest", "tests/lexer"]
env = {X = "2"}

[[task]]
id = "parser"
command = {shell = "make parser && ./check {id}"}
depends_on = ["lexer"]
scope = ["src/parser/**"]
retries = 3
"""


def _write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "tasks.toml"
    path.write_text(text)
    return path


def test_a_good_file_is_read_as_it_says(tmp_path: Path) -> None:
    """Every key of the format arrives in the plan; what the top says holds for tasks that do not say it."""
    plan = load_tasks(_write(tmp_path, GOOD))
    lexer, parser = plan.tasks
    assert (plan.title, plan.base, plan.merge, plan.jobs) == ("Tidy the parser", "main", MergeOrder.PLAN, 4)
    assert plan.verify == CommandSpec(("pytest", "-q"))
    assert plan.verify_timeout == 600
    assert lexer.command == CommandSpec(("agent", "--task", "{prompt}"))
    assert lexer.scope.texts == ("src/lexer/**", "!src/lexer/gen/")
    assert "CHANGELOG.md" in lexer.allowed
    assert "CHANGELOG.md" not in lexer.scope
    assert (lexer.estimate, lexer.timeout, lexer.cpus, lexer.memory) == (300, 600, 2.0, 512 * 2**20)
    assert lexer.labels == ("gpu",)
    assert lexer.exclusive == ("port:5432",)
    assert lexer.env == {"MODE": "fast", "X": "2"}
    assert (lexer.retries, parser.retries) == (1, 3)
    assert parser.command == CommandSpec(("make parser && ./check {id}",), shell=True)
    assert parser.depends_on == ("lexer",)


@pytest.mark.parametrize(
    ("old", "new", "key", "says"),
    [
        ('depends_on = ["lexer"]', 'depends_on = ["lexr"]', "task[1].depends_on", "did you mean 'lexer'"),
        ('depends_on = ["lexer"]', 'depends_on = ["parser"]', "task[1].depends_on", "parser needs parser"),
        ('scope = ["src/parser/**"]', "scope = []", "task[1].scope", "empty"),
        ('scope = ["src/parser/**"]', "", "task[1]", "no scope"),
        ('scope = ["src/parser/**"]', 'scope = ["../x"]', "task[1].scope", "can match nothing"),
        ('id = "parser"', 'id = "LEXER"', "task[1].id", "is taken"),
        ('id = "parser"', 'id = "../up"', "task[1].id", "cannot be"),
        ('id = "parser"', 'id = "integration"', "task[1].id", "integration branch"),
        ("retries = 3", "retrys = 3", "task[1].retrys", "did you mean 'retries'"),
        ("retries = 3", "retries = -1", "task[1].retries", "0 to 100"),
        ('memory = "512M"', 'memory = "lots"', "task[0].memory", "not a size"),
        ('labels = ["gpu"]', 'labels = ["a gpu"]', "task[0].labels", "cannot be a label"),
        ('labels = ["gpu"]', 'labels = ["memory"]', "task[0].labels", "cannot be a label"),
        ("cpus = 2", "cpus = 0", "task[0].cpus", "above 0"),
        ('timeout = "10m"\ncpus = 2', 'timeout = "0s"\ncpus = 2', "task[0].timeout", "zero"),
        ('merge = "plan"', 'merge = "random"', "merge", "finish"),
        ('base = "main"', 'base = "--upload-pack=x"', "base", "dash"),
        ('verify = "pytest -q"', 'verify = "pytest \'x"', "verify", "quot"),
        ('exclusive = ["port:5432"]', 'exclusive = ["a", "a"]', "task[0].exclusive", "twice"),
        ('command = "agent --task {prompt}"', "", "task[0]", "no command"),
        ("jobs = 4", "version = 2", "version", "not known"),
    ],
)
def test_an_error_names_file_line_and_key(tmp_path: Path, old: str, new: str, key: str, says: str) -> None:
    """What is wrong is said with its file, its line, its key and what to do."""
    text = GOOD.replace(old, new, 1)
    lines = text.splitlines()
    tables = [number for number, line in enumerate(lines, 1) if line == "[[task]]"]
    line = lines.index(new.splitlines()[0]) + 1 if new else tables[int(key[5])]
    assert old in GOOD
    with pytest.raises(InputFileError) as caught:
        load_tasks(_write(tmp_path, text))
    assert (caught.value.line, caught.value.key) == (line, key)
    assert says in str(caught.value)
    assert "tasks.toml" in str(caught.value)


def test_a_cycle_is_named_in_full(tmp_path: Path) -> None:
    """All tasks of a cycle are named, in the order in which they wait; every knot is named."""
    text = 'command = "true"\n' + "".join(
        f'[[task]]\nid = "{name}"\nscope = ["{name}/"]\ndepends_on = {json.dumps(needs)}\n'
        for name, needs in {"a": ["c"], "b": ["a"], "c": ["b"], "free": [], "x": ["y"], "y": ["x", "free"]}.items()
    )
    with pytest.raises(InputFileError) as caught:
        load_tasks(_write(tmp_path, text))
    assert "a needs c needs b needs a" in str(caught.value)
    assert "x needs y needs x" in str(caught.value)
    assert caught.value.line == 5


@pytest.mark.parametrize(("text", "size"), [(7, 7), ("7", 7), ("1K", 1024), ("1.5 GiB", 3 * 2**29), ("2mb", 2**21)])
def test_sizes(text: object, size: int) -> None:
    """A size is bytes or a number with a binary unit."""
    assert parse_size(text) == size


def test_placeholders_are_filled_and_other_braces_stay() -> None:
    """Known placeholders are replaced, awk's braces are not, and a shell gets quoted values."""
    values = {"prompt": "it's; rm -rf x", "id": "a"}
    assert fill(CommandSpec(("run", "{prompt}", "{id}-{id}", "{print $1}", "{base}")), values) == CommandSpec(
        ("run", "it's; rm -rf x", "a-a", "{print $1}", "{base}")
    )
    shell = fill(CommandSpec(("say {prompt} | awk '{print $1}'",), shell=True), values)
    assert shell.argv == ("say 'it'\"'\"'s; rm -rf x' | awk '{print $1}'",)
