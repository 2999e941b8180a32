"""Help, reference, completion and start-up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from arboretum.cli.app import COMMANDS, app
from arboretum.cli.reference import command_reference
from arboretum.testing.builders import RepositoryBuilder
from tests.cli.conftest import Arboretum

ROOT = Path(__file__).resolve().parents[2]


def commands(
    command: click.Command = app, path: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            member = command.get_command(context, name)
            assert member is not None
            yield from commands(member, (*path, name))


@pytest.mark.parametrize(
    ("path", "command"), [pytest.param(p, c, id=" ".join(p) or "arboretum") for p, c in commands()]
)
def test_help_teaches_by_example(path: tuple[str, ...], command: click.Command) -> None:
    """Every command says in a sentence what it does, describes each option, and gives an example that uses it."""
    assert command.help
    assert command.help.strip().split("\n")[0].endswith(".")
    for param in command.params:
        assert not isinstance(param, click.Option) or param.help, param.name
    assert command.epilog is not None
    assert "Example" in command.epilog
    assert f"  {' '.join(('arboretum', *path))}" in command.epilog


def test_the_reference_is_up_to_date() -> None:
    """docs/reference/command-line.md is what the code says: python -m arboretum.cli.reference writes it."""
    assert (ROOT / "docs/reference/command-line.md").read_text() == command_reference()


def test_every_command_answers_help(arboretum: Arboretum) -> None:
    """-h and --help of the root list every command with one line."""
    for flag in ("-h", "--help"):
        done = arboretum(flag)
        assert done.code == 0
        assert all(f"  {name} " in done.out for name in ("run", "worktree", "demo", "doctor"))


def test_version_is_one_line(arboretum: Arboretum) -> None:
    """--version says name and version, alone or with other options."""
    from arboretum import __version__

    assert arboretum("--version").out == f"arboretum {__version__}\n"
    assert arboretum("-q", "--version").out == f"arboretum {__version__}\n"


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        (["--version"], ["click", "attr", "rich", "git", "pygit2", "sqlite3", "asyncio", "jinja2"]),
        (["--help"], ["rich", "git", "pygit2", "sqlite3", "asyncio", "jinja2", "psutil"]),
    ],
)
def test_little_is_imported_to_start(words: list[str], forbidden: list[str]) -> None:
    """Start-up imports neither a git library nor anything that the answer does not need."""
    code = (
        f"import sys\nsys.argv = ['arboretum', *{words!r}]\nfrom arboretum.cli import main\n"
        f"try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"print([m for m in {forbidden!r} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


def test_the_package_imports_no_library() -> None:
    """`import arboretum` imports no git library, no terminal library and no database."""
    code = (
        "import sys, arboretum\n"
        "print([m for m in ('git', 'pygit2', 'rich', 'sqlite3', 'click', 'asyncio') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(arboretum: Arboretum, shell: str) -> None:
    """The script for each shell is written on request."""
    done = arboretum(_ARBORETUM_COMPLETE=f"{shell}_source")
    assert "_ARBORETUM_COMPLETE" in done.out


def complete(arboretum: Arboretum, line: str, cwd: str | None = None) -> list[str]:
    words = line.split(" ")
    done = arboretum(cwd=cwd, _ARBORETUM_COMPLETE="bash_complete", COMP_WORDS=line, COMP_CWORD=str(len(words) - 1))
    return [item.split(",", 1)[1] for item in done.out.split()]


def test_completion(arboretum: Arboretum, builder: RepositoryBuilder) -> None:
    """Commands, options, choices and the branches of the repository are completed."""
    assert complete(arboretum, "arboretum ru") == ["run"]
    assert set(complete(arboretum, "arboretum ")) <= set(COMMANDS)
    assert "--dry-run" in complete(arboretum, "arboretum run --d")
    assert complete(arboretum, "arboretum run --format j") == ["json"]
    assert complete(arboretum, "arboretum run --ref ri", builder.path) == ["right"]
    assert complete(arboretum, "arboretum run --ref x", "/") == []
