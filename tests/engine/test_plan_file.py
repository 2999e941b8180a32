"""The plan file: what it can say, and one clear error for all that it cannot."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.engine.model import CommandSpec, Expectation
from arboretum.engine.plan_file import load_plan, plan_for_refs
from arboretum.errors import InputFileError, InvalidValueError, UsageError
from arboretum.toml_document import TomlDocument, show_key

FULL = '''\
version = 1
title = "Why does the parser drop the last line?"
base = "main"
command = "pytest -q 'tests/test parser.py'"
timeout = "5m"
grace = 1
repeats = 3
confidence = 0.95
setup = ["python", "-m", "pip", "install", "-e", "."]
setup_inputs = ["pyproject.toml"]
include = [".env", "./data/"]
cache_env = ["LANG"]
cache_versions = ["python --version"]
nothing_ran = "no tests? ran"
metrics = '^(?P<name>\\w+)=(?P<value>[\\d.]+)$'
[env]
MODE = "test"

[[hypothesis]]
id = "off-by-one"
description = "the slice end in read_tail is exclusive"
ref = "fix/off-by-one"
expect = "pass"
probability = 0.6

[[hypothesis]]
id = "inline"
patch = """
--- a/x
+++ b/x
@@ -1 +1 @@
-[a]
+b
"""

[[hypothesis]]
id = "edited"
edit = {shell = "sed -i s/a/b/ x && true"}
expect = "fail"
timeout = 90
fresh = true

[[hypothesis]]
id = "environment"
[hypothesis.env]
DEBUG = "1"

[[hypothesis]]
id = "both"
combine = ["off-by-one", "edited"]
'''


def write(folder: Path, text: str | bytes) -> Path:
    path = folder / "hypotheses.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(folder: Path, text: str | bytes) -> InputFileError:
    with pytest.raises(InputFileError) as caught:
        load_plan(write(folder, text))
    return caught.value


def test_everything_a_plan_can_say(tmp_path: Path) -> None:
    """Each key ends up in its field of the model."""
    plan = load_plan(write(tmp_path, FULL))
    assert plan.command == CommandSpec(("pytest", "-q", "tests/test parser.py"))
    assert (plan.timeout, plan.grace, plan.repeats, plan.confidence) == (300, 1, 3, 0.95)
    assert plan.include == (".env", "data")
    assert plan.env == {"MODE": "test"}
    first, inline, edited, environment, both = plan.hypotheses
    assert (first.ref, first.expect, first.probability) == ("fix/off-by-one", Expectation.PASS, 0.6)
    assert inline.patch is not None
    assert inline.patch.startswith(b"--- a/x\n")
    assert edited.edit == CommandSpec(("sed -i s/a/b/ x && true",), shell=True)
    assert (edited.expect, edited.timeout, edited.fresh) == (Expectation.FAIL, 90, True)
    assert environment.env == {"DEBUG": "1"}
    assert both.combine == ("off-by-one", "edited")


def test_a_patch_can_be_a_file_beside_the_plan(tmp_path: Path) -> None:
    """A patch of one line names a file, relative to the plan."""
    (tmp_path / "fix.patch").write_bytes(b"--- a/x\n+++ b/x\n\xff")
    plan = load_plan(write(tmp_path, 'command = "true"\n[[hypothesis]]\nid = "a"\npatch = "fix.patch"\n'))
    assert plan.hypotheses[0].patch == b"--- a/x\n+++ b/x\n\xff"


def test_timeout_auto(tmp_path: Path) -> None:
    """`timeout = "auto"` derives it from the control."""
    plan = load_plan(write(tmp_path, 'command = "true"\ntimeout = "auto"\n[[hypothesis]]\nid = "a"\n'))
    assert plan.auto_timeout
    assert plan.timeout is None


HEAD = 'command = "true"\n'
ONE = HEAD + '[[hypothesis]]\nid = "a"\n'


@pytest.mark.parametrize(
    ("text", "line", "key", "says"),
    [
        ("command = ", 1, None, "not valid TOML"),
        ('command = "true"\n\n[[hypothesis]\n', 3, None, "not valid TOML"),
        ('command = "a"\ncommand = "b"\n', 2, None, "not valid TOML"),
        (b'command = "\xff"\n', 1, None, "not UTF-8"),
        ("", 1, "command", "no command"),
        (HEAD, 1, "hypothesis", "no hypothesis"),
        (HEAD + "hypothesis = 3\n", 2, "hypothesis", "[[hypothesis]]"),
        (HEAD + "hypothesis = [3]\n", 2, "hypothesis[0]", "a table"),
        (HEAD + "[[hypothesis]]\n", 2, "hypothesis[0]", "no id"),
        (ONE + "probabilty = 0.5\n", 4, "hypothesis[0].probabilty", "did you mean 'probability'?"),
        ('comand = "true"\n' + ONE, 1, "comand", "did you mean 'command'?"),
        ("zzz = 1\n" + ONE, 1, "zzz", "known keys: base"),
        ("version = 2\n" + ONE, 1, "version", "version 2"),
        (ONE + '\n[[hypothesis]]\nid = "A"\n', 6, "hypothesis[1].id", "is taken: the hypothesis on line 3"),
        (ONE + 'ref = "x"\npatch = "y"\n', 5, "hypothesis[0].patch", "one source of change"),
        (ONE + 'ref = "x"\nenv = {A = "b"}\n', 5, "hypothesis[0].env", "combine"),
        (ONE + "timeout = -1\n", 4, "hypothesis[0].timeout", "negative"),
        ('timeout = "-5m"\n' + ONE, 1, "timeout", "not a duration"),
        ("timeout = 0\n" + ONE, 1, "timeout", "zero"),
        ('timeout = "soon"\n' + ONE, 1, "timeout", "or 'auto'"),
        ("grace = -1\n" + ONE, 1, "grace", "negative"),
        (ONE + "probability = 1.5\n", 4, "hypothesis[0].probability", "from 0 to 1"),
        (ONE + "probability = true\n", 4, "hypothesis[0].probability", "from 0 to 1"),
        (ONE + "impact = nan\n", 4, "hypothesis[0].impact", "from 0 to 1"),
        (ONE + 'ref = "--upload-pack=x"\n', 4, "hypothesis[0].ref", "starts with a dash"),
        ('base = "-x"\n' + ONE, 1, "base", "starts with a dash"),
        (HEAD + '[[hypothesis]]\nid = "../x"\n', 3, "hypothesis[0].id", "cannot be an id"),
        (HEAD + '[[hypothesis]]\nid = "control"\n', 3, "hypothesis[0].id", "the base itself"),
        (HEAD + "[[hypothesis]]\nid = 3\n", 3, "hypothesis[0].id", "a text is wanted"),
        ("repeats = 0\n" + ONE, 1, "repeats", "whole number from 1"),
        ("repeats = 2.0\n" + ONE, 1, "repeats", "whole number"),
        ("repeats = true\n" + ONE, 1, "repeats", "whole number"),
        ("confidence = 1.0\n" + ONE, 1, "confidence", "between 0.5 and 1"),
        ('command = ""\n', 1, "command", "empty"),
        ("command = []\n", 1, "command", "empty"),
        ('command = "a \'b"\n', 1, "command", "cannot split"),
        ("command = [1]\n", 1, "command", "a text is wanted"),
        ('command = {sh = "x"}\n', 1, "command", '"shell"'),
        ('command = {shell = " "}\n', 1, "command", "empty"),
        ('command = "a\\u0000b"\n', 1, "command", "NUL"),
        (ONE + 'expect = "maybe"\n', 4, "hypothesis[0].expect", '"pass" or "fail"'),
        (ONE + "fresh = 1\n", 4, "hypothesis[0].fresh", "true or false"),
        (ONE + "tags = 3\n", 4, "hypothesis[0].tags", "a list"),
        (ONE + 'patch = "gone.patch"\n', 4, "hypothesis[0].patch", "No such file"),
        (ONE + 'combine = ["c", "b"]\n', 4, "hypothesis[0].combine", "no hypothesis 'c'"),
        (ONE + 'combine = ["b"]\n', 4, "hypothesis[0].combine", "two or more"),
        (ONE + 'combine = ["a", "b"]\n[[hypothesis]]\nid = "b"\n', 4, "hypothesis[0].combine", "combination itself"),
        ('env = {"A=B" = "x"}\n' + ONE, 1, "env", "name of a variable"),
        ("env = {A = 1}\n" + ONE, 1, "env", "put it in quotes"),
        ('nothing_ran = "("\n' + ONE, 1, "nothing_ran", "regular expression"),
        ('metrics = "x"\n' + ONE, 1, "metrics", "group 'name'"),
        ('include = ["../../etc/passwd"]\n' + ONE, 1, "include", "not a path inside a tree"),
        ('junit = "/tmp/x.xml"\n' + ONE, 1, "junit", "not a path inside a tree"),
    ],
)  # fmt: skip
def test_bad_input_is_told_with_file_line_and_key(tmp_path: Path, text, line, key, says) -> None:
    """Every mistake is one error that names the file, the line and the key."""
    error = refusal(tmp_path, text)
    assert (error.line, error.key or None) == (line, key)
    assert says in str(error)
    assert str(error).startswith(f"{tmp_path}/hypotheses.toml:{line}: ")


def test_parts_of_a_combination_must_fit_together(tmp_path: Path) -> None:
    """Two commands, or two values for a variable, cannot be combined."""
    text = (
        ONE + 'command = "x"\n[[hypothesis]]\nid = "b"\ncommand = "y"\n[[hypothesis]]\nid = "c"\ncombine = ["a", "b"]\n'
    )
    assert "only one can be run" in str(refusal(tmp_path, text))
    assert "both 'x' and 'y'" in str(
        refusal(tmp_path, text.replace('command = "x"', 'env = {A = "x"}').replace('command = "y"', 'env = {A = "y"}'))
    )


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.symlink_to(p)])
def test_a_plan_that_cannot_be_read(tmp_path: Path, make) -> None:
    """A missing file, a folder and a link to itself are one clear error each."""
    path = tmp_path / "plan.toml"
    make(path)
    with pytest.raises(InputFileError) as caught:
        load_plan(path)
    assert str(path) in str(caught.value)


def test_revisions_from_the_command_line() -> None:
    """`--ref A --ref B` makes a hypothesis of each, with ids that can be file names, all different."""
    plan = plan_for_refs(("fix/tail", "fix-tail", "HEAD~3", "control"), CommandSpec(("true",)), repeats=2)
    ids = [h.id for h in plan.hypotheses]
    assert ids == ["fix-tail", "fix-tail-2", "HEAD-3", "control-2"]
    assert plan.repeats == 2
    with pytest.raises(UsageError):
        plan_for_refs(("a", "a"), CommandSpec(("true",)))
    with pytest.raises(InvalidValueError):
        plan_for_refs(("--upload-pack=x",), CommandSpec(("true",)))


@given(st.text(min_size=1).filter(lambda t: t.strip() and not t.startswith("-") and not set(t) & set("\x00\n\r")))
def test_any_revision_gives_an_id(ref: str) -> None:
    """Whatever a revision looks like, its hypothesis has a valid id."""
    assert plan_for_refs((ref,), CommandSpec(("true",))).hypotheses[0].id


# --- lines ---

KEYS = st.sampled_from(["a", "b_1", '"x y"', "'q.r'", "k-2"])
VALUES = st.sampled_from(
    [
        "1", "-0.5", '"text # no comment"', "'[['", "true", "[1, 2]", "[\n  1,\n  # a comment ]\n  2,\n]",
        '"""\nmany\nlines [x]\n"""', "'''\n]]\n\n'''", '["""\n]\n""", \'\'\'\n\'\'\']', "{x = 1, y = [1,\n2]}",
        '"""a \\\n  b"""', "1979-05-27T07:32:00Z", "[]", "[[1],\n[2]]",
    ]
)  # fmt: skip


@st.composite
def documents(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """A TOML text, and the line on which each of its keys was written."""
    lines: list[str] = []
    expected: dict[str, int] = {}

    def pairs(prefix: str) -> None:
        for key in draw(st.lists(KEYS, max_size=3, unique=True)):
            lines.extend(draw(st.lists(st.sampled_from(["", "# comment [a]", "   "]), max_size=2)))
            name = next(iter(tomllib.loads(f"{key} = 1")))
            expected[f"{prefix}.{name}" if prefix else name] = len(lines) + 1
            lines.extend(f"{draw(st.sampled_from(['', '  ']))}{key} = {draw(VALUES)}".split("\n"))

    pairs("")
    for index in range(draw(st.integers(0, 3))):
        expected[f"tables[{index}]"] = len(lines) + 1
        expected.setdefault("tables", len(lines) + 1)
        lines.append("[[tables]]")
        pairs(f"tables[{index}]")
        if draw(st.booleans()):
            expected[f"tables[{index}].inner"] = len(lines) + 1
            lines.append("[tables.inner] # ]]")
            pairs(f"tables[{index}].inner")
    return "\n".join(lines), expected


@given(documents(), st.sampled_from(["\n", "\r\n"]))
def test_every_key_is_found_on_its_line(document: tuple[str, dict[str, int]], end: str) -> None:
    """The line of each key is the line on which its statement starts, whatever stands in the values before it."""
    text, expected = document
    found = TomlDocument.parse(text.replace("\n", end), path="x.toml").lines
    assert {key: found.get(key) for key in expected} == expected


@given(st.text(alphabet="ab=[]\"'#\n.1 ,{}", max_size=60))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """Whatever stands in the file, it is parsed with a line for each top-level key, or refused with a line."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        with pytest.raises(InputFileError) as caught:
            TomlDocument.parse(text, path="x.toml")
        assert caught.value.line in range(1, text.count("\n") + 2)
    else:
        document = TomlDocument.parse(text, path="x.toml")
        assert document.data == data
        assert set(data) <= set(document.lines)


def test_keys_are_shown_as_people_write_them() -> None:
    """Names are joined by dots, positions stand in brackets."""
    assert show_key(("hypothesis", 2, "timeout")) == "hypothesis[2].timeout"
