"""The root of the command: its groups, the options that all commands share, and how errors end it."""

from __future__ import annotations

import contextlib
import difflib
import importlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

import click
from attrs import define

from arboretum.bootstrap import DEFAULT_BACKEND
from arboretum.cli.exit_codes import ExitCode, exit_code_for
from arboretum.cli.render import Renderer
from arboretum.errors import (
    ArboretumError,
    EngineError,
    InputFileError,
    InterruptedRunError,
    RevisionNotFoundError,
    UsageError,
)

if TYPE_CHECKING:
    from arboretum.repository import Repository

#: Every command: where it is defined, and its line in the overview. A module is imported when its command is used.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "run": ("arboretum.cli.run:run", "Test hypotheses side by side, each in a worktree of its own."),
    "each": ("arboretum.cli.ranges:each", "Run a command on every commit of a range, in parallel."),
    "bisect": ("arboretum.cli.ranges:bisect", "Find the first bad commit with several trials at once."),
    "worktree": ("arboretum.cli.worktree:worktree", "List, add, remove and mend worktrees."),
    "pool": ("arboretum.cli.pool:pool", "Look at the pool of reusable worktrees, or clean it."),
    "split": ("arboretum.cli.orchestration:split", "Plan which tasks can run together without conflict."),
    "orchestrate": ("arboretum.cli.orchestration:orchestrate", "Run tasks in worktrees and merge what is good."),
    "check-conflicts": ("arboretum.cli.orchestration:check_conflicts", "Merge branches in memory and name conflicts."),
    "amend-scope": ("arboretum.cli.orchestration:amend_scope", "Accept what a task changed outside its scope."),
    "history": ("arboretum.cli.history:history", "List the runs of this repository."),
    "show": ("arboretum.cli.history:show", "Show one run again, as text, JSON, JUnit, Markdown or HTML."),
    "why": ("arboretum.cli.history:why", "Say why a result was, or was not, taken from the cache."),
    "worker": ("arboretum.cli.worker:worker", "Start a worker for runs past one machine."),
    "doctor": ("arboretum.cli.doctor:doctor", "Check git, the backends, the file system and this repository."),
    "demo": ("arboretum.cli.demo:demo", "Make a small repository with a real bug and find its cause."),
}


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one only when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name in COMMANDS if _exists(name)]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        near = difflib.get_close_matches(args[0], self.list_commands(ctx), n=1) if args else []
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            raise click.UsageError(
                f"there is no command {args[0]!r}" + (f"; did you mean {near[0]!r}?" if near else ""), ctx=ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


def _exists(name: str) -> bool:
    return importlib.util.find_spec(COMMANDS[name][0].partition(":")[0]) is not None


@define(eq=False)
class Context:
    """What every command gets: where to look for the repository, with which backend, and who prints."""

    folder: str
    backend: str
    renderer: Renderer

    @contextlib.contextmanager
    def repository(self) -> Iterator[Repository]:
        """The repository that the folder lies in; errors about a revision get the name that was probably meant.

        Raises:
            RepositoryNotFoundError: It lies in none.
        """
        from arboretum.repository import Repository

        with Repository.discover(self.folder, backend=self.backend) as repository:
            try:
                yield repository
            except ArboretumError as error:
                _suggest(error, repository)
                raise


def _suggest(error: ArboretumError, repository: Repository) -> None:
    """Put a branch or tag that is written alike into the hint of an error about a revision that is not there."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RevisionNotFoundError):
        cause = cause.__cause__
    told = cause.message if cause is not None else error.message
    named = re.search("'([^'~^:@]+).*' names no commit|there is no branch '(.+)'", told)
    if named is None:
        return
    text = named[1] or named[2]
    with contextlib.suppress(ArboretumError):  # this is about a hint only
        refs = (ref for prefix in ("refs/heads/", "refs/remotes/", "refs/tags/") for ref in repository.refs(prefix))
        near = difflib.get_close_matches(text, [ref.name.short for ref in refs], n=1)
        if near and near[0] != text:
            error.hint = f"did you mean {near[0]!r}?"
        elif is_shallow(repository):
            error.hint = "this clone is shallow, so its history is cut off; get the rest: git fetch --unshallow"


def is_shallow(repository: Repository) -> bool:
    """Whether the history of the repository is cut off (``git clone --depth``)."""
    return os.path.exists(os.path.join(repository.common_dir, "shallow"))


pass_context = click.make_pass_decorator(Context)


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  arboretum demo                                   see it work, on a repository made for it
  arboretum run hypotheses.toml                    test the hypotheses of a file
  arboretum run --ref fix/a --ref fix/b -- pytest  test two branches against HEAD
  arboretum worktree list --format json            for scripts
Shell completion: eval "$(_ARBORETUM_COMPLETE=bash_source arboretum)" (or zsh_source, fish_source).
""",
)
@click.version_option(package_name="arboretum", message="arboretum %(version)s")
@click.option(
    "-C",
    "folder",
    default=".",
    metavar="DIR",
    help="Work on the repository that DIR lies in. Worktrees are named from there, files from where you are.",
)
@click.option("--backend", default=DEFAULT_BACKEND, show_default=True, help="The library that talks to git.")
@click.option("-q", "--quiet", count=True, help="Say less: results and errors only.")
@click.option("-v", "--verbose", count=True, help="Say more; twice: everything, with the causes of errors.")
@click.pass_context
def app(ctx: click.Context, folder: str, backend: str, quiet: int, verbose: int) -> None:
    """Git worktrees side by side: hypotheses tested in parallel, tasks run without conflict."""
    renderer = Renderer.for_terminal(verbosity=verbose - quiet)
    if not os.path.isdir(folder):
        raise UsageError(f"-C {folder}: there is no such folder", hint="name a folder inside of a repository")
    ctx.obj = Context(os.path.abspath(folder), backend, renderer)
    if verbose:
        from arboretum.logs import setup_logging

        setup_logging(logging.DEBUG if verbose > 1 else logging.INFO)


def run(arguments: Sequence[str]) -> int:
    """Carry out one command line.

    Args:
        arguments: The words after ``arboretum``.

    Returns:
        The exit code. What is expected to go wrong is told in words, never by a traceback.
    """
    renderer = Renderer.for_terminal()
    verbose = any(word in {"-vv", "--verbose"} for word in arguments)
    try:
        code: Any = app.main(args=list(arguments), prog_name="arboretum", standalone_mode=False)
    except click.ClickException as error:
        renderer.usage_error(error)
        return ExitCode.USAGE
    except (click.Abort, KeyboardInterrupt):
        renderer.error(InterruptedRunError("interrupted"))
        return ExitCode.INTERRUPTED
    except ArboretumError as error:
        exit_code = exit_code_for(error)
        if exit_code is ExitCode.USAGE and not error.hint and not isinstance(error, InputFileError):
            command = next((word for word in arguments if word in COMMANDS), "")
            error.hint = f"see arboretum {command} --help".replace("  ", " ")
        renderer.error(error, causes=verbose)
        return exit_code
    except BrokenPipeError:  # somebody's `| head` has seen enough
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  (lives until the process ends)
        return ExitCode.HOLDS
    except OSError as error:
        renderer.error(_environment_error(error), causes=verbose)
        return ExitCode.ENVIRONMENT
    return code if isinstance(code, int) else ExitCode.HOLDS


def _environment_error(error: OSError) -> ArboretumError:
    """What the operating system refused, for people."""
    where = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, (str, bytes, os.PathLike)) else ""
    wrapped = EngineError(f"{where}{error.strerror or error}", hint="check permissions and free space")
    wrapped.__cause__ = error
    return wrapped
