"""``arboretum pool``: the reusable worktrees of a repository."""

from __future__ import annotations

import click

from arboretum.cli.app import Context, pass_context
from arboretum.cli.exit_codes import ExitCode
from arboretum.cli.options import format_option
from arboretum.engine.pool import WorktreePool


@click.group(
    epilog="""\b
Examples:
  arboretum pool status
  arboretum pool clean
"""
)
def pool() -> None:
    """Look at the pool of reusable worktrees, or clean it."""


@pool.command(
    epilog="""\b
Examples:
  arboretum pool status
  arboretum pool status --format json | jq '.slots | length'
"""
)
@format_option
@pass_context
def status(context: Context, output: str) -> int:
    """List the slots, where they stand and who has them; exit code 1 if something is wrong with the pool."""
    with context.repository() as repository:
        opened = WorktreePool.open(repository)
        slots, problems, root = opened.slots(), opened.check(), opened.root
    if output == "json":
        context.renderer.json(
            {
                "schema": "arboretum/pool/1",
                "root": root,
                "problems": list(problems),
                "slots": [
                    {
                        "name": slot.name,
                        "path": slot.path,
                        "state": slot.state.value,
                        "commit": slot.commit or None,
                        "run": slot.run or None,
                        "trials": slot.trials,
                        "bytes": slot.bytes,
                    }
                    for slot in slots
                ],
            }
        )
    else:
        context.renderer.note(root)
        rows = [
            (s.name, s.state.value, str(s.commit or "–")[:10], str(s.trials), s.run or "–", s.reason) for s in slots
        ]
        context.renderer.table("", ("slot", "state", "commit", "trials", "run", ""), rows)
        for problem in problems:
            context.renderer.warning(problem)
    return ExitCode.DOES_NOT_HOLD if problems else ExitCode.HOLDS


@pool.command(
    epilog="""\b
Example:
  arboretum pool clean                            the next run makes its slots anew
"""
)
@pass_context
def clean(context: Context) -> int:
    """Remove every slot that nobody uses. What arboretum did not make is left alone."""
    with context.repository() as repository:
        removed = WorktreePool.open(repository).clean()
    context.renderer.note(f"removed {len(removed)} slots")
    return ExitCode.HOLDS
