"""``arboretum worktree``: list, add, remove, move, lock, unlock, prune, repair."""

from __future__ import annotations

import os
from typing import Any

import click

from arboretum.cli.app import Context, pass_context
from arboretum.cli.exit_codes import ExitCode
from arboretum.cli.options import format_option
from arboretum.values import WorktreeInfo


@click.group(
    epilog="""\b
Examples:
  arboretum worktree list
  arboretum worktree add ../review --new-branch review
  arboretum worktree remove ../review
"""
)
def worktree() -> None:
    """List, add, remove and mend worktrees. Safe against any number of processes that do the same."""


def document(info: WorktreeInfo) -> dict[str, Any]:
    """One worktree as plain data."""
    return {
        "path": info.path,
        "head": info.head,
        "branch": info.branch.short if info.branch is not None else None,
        "detached": info.detached,
        "bare": info.bare,
        "locked": info.locked,
        "prunable": info.prunable,
        "main": info.is_main,
    }


@worktree.command(
    "list",
    epilog="""\b
Examples:
  arboretum worktree list
  arboretum worktree list --format json | jq -r '.worktrees[] | select(.locked != null).path'
""",
)
@format_option
@pass_context
def list_(context: Context, output: str) -> int:
    """List the worktrees of the repository, the main one first."""
    with context.repository() as repository:
        infos = repository.worktrees.infos()
    if output == "json":
        context.renderer.json({"schema": "arboretum/worktrees/1", "worktrees": [document(info) for info in infos]})
    else:
        context.renderer.table("", ("path", "head", "branch", "state"), [_row(info) for info in infos])
    return ExitCode.HOLDS


def _row(info: WorktreeInfo) -> tuple[str, str, str, str]:
    states = []
    if info.locked is not None:
        states.append(f"locked: {info.locked}" if info.locked else "locked")
    if info.prunable is not None:
        states.append(f"prunable: {info.prunable}")
    branch = "(bare)" if info.bare else info.branch.short if info.branch is not None else "(detached)"
    return info.path, info.head[:10] if info.head else "–", branch, ", ".join(states)


@worktree.command(
    epilog="""\b
Examples:
  arboretum worktree add ../review --new-branch review --start origin/main
  arboretum worktree add ../fix --branch fix/tail
  arboretum worktree add ../old --detach v1.0
""",
)
@click.argument("path")
@click.option("-b", "--new-branch", metavar="NAME", help="Make this branch and check it out.")
@click.option("--branch", metavar="NAME", help="Check out this existing branch.")
@click.option("--detach", metavar="REV", help="Stand at this revision, on no branch.")
@click.option("--orphan", metavar="NAME", help="Stand on a new branch without commits.")
@click.option("--start", default="HEAD", show_default=True, metavar="REV", help="Where the new branch starts.")
@click.option("--no-checkout", is_flag=True, help="Write no files.")
@click.option("--lock", metavar="REASON", help="Lock it from its first moment.")
@click.option("--force", is_flag=True, help="Take the path although a missing worktree's record claims it.")
@format_option
@pass_context
def add(
    context: Context,
    path: str,
    new_branch: str | None,
    branch: str | None,
    detach: str | None,
    orphan: str | None,
    start: str,
    no_checkout: bool,
    lock: str | None,
    force: bool,
    output: str,
) -> int:
    """Make a worktree at PATH."""
    if branch is new_branch is detach is orphan is None:
        detach = "HEAD"
    with context.repository() as repository:
        tree = repository.worktrees.add(
            os.path.join(context.folder, path), branch=branch, new_branch=new_branch, detach=detach, orphan=orphan,
            start=start, checkout=not no_checkout, lock=lock, force=force,
        )  # fmt: skip
        info = tree.info
    if output == "json":
        context.renderer.json({"schema": "arboretum/worktree/1", "worktree": document(info)})
    else:
        where = info.branch.short if info.branch is not None else f"{(info.head or 'nothing')[:10]} (detached)"
        context.renderer.note(f"made {info.path} at {where}")
    return ExitCode.HOLDS


@worktree.command(
    epilog="""\b
Examples:
  arboretum worktree remove ../review
  arboretum worktree remove ../review --force     its uncommitted work is kept under a salvage ref
"""
)
@click.argument("path")
@click.option("--force", is_flag=True, help="Although it holds changes; these are kept under refs/arboretum/salvage/.")
@pass_context
def remove(context: Context, path: str, force: bool) -> int:
    """Remove the worktree at PATH."""
    with context.repository() as repository:
        tree = repository.worktrees.get(os.path.join(context.folder, path))
        removal = tree.remove(force=force)
        removal.wait()
    context.renderer.note(f"removed {tree.path}")
    if removal.kept is not None:
        context.renderer.note(f"its uncommitted work is kept; bring it back with: git stash apply {removal.kept}")
    return ExitCode.HOLDS


@worktree.command(
    epilog="""\b
Example:
  arboretum worktree move ../review ../review-of-tail
"""
)
@click.argument("path")
@click.argument("new_path")
@pass_context
def move(context: Context, path: str, new_path: str) -> int:
    """Move the worktree at PATH to NEW_PATH."""
    with context.repository() as repository:
        tree = repository.worktrees.get(os.path.join(context.folder, path))
        tree.move(os.path.join(context.folder, new_path))
    context.renderer.note(f"moved to {tree.path}")
    return ExitCode.HOLDS


@worktree.command(
    epilog="""\b
Example:
  arboretum worktree lock ../review --reason "on a USB disk"
"""
)
@click.argument("path")
@click.option("--reason", default="", help="Why, for whoever finds it locked.")
@pass_context
def lock(context: Context, path: str, reason: str) -> int:
    """Lock the worktree at PATH against removal, move and prune."""
    with context.repository() as repository:
        repository.worktrees.get(os.path.join(context.folder, path)).lock(reason)
    return ExitCode.HOLDS


@worktree.command(
    epilog="""\b
Example:
  arboretum worktree unlock ../review
"""
)
@click.argument("path")
@pass_context
def unlock(context: Context, path: str) -> int:
    """Unlock the worktree at PATH."""
    with context.repository() as repository:
        repository.worktrees.get(os.path.join(context.folder, path)).unlock()
    return ExitCode.HOLDS


@worktree.command(
    epilog="""\b
Examples:
  arboretum worktree prune --dry-run
  arboretum worktree prune
"""
)
@click.option("--dry-run", is_flag=True, help="Only say what would be removed.")
@format_option
@pass_context
def prune(context: Context, dry_run: bool, output: str) -> int:
    """Remove the records of worktrees whose folders are gone; locked ones stay."""
    with context.repository() as repository:
        gone = repository.worktrees.prune(dry_run=dry_run)
    if output == "json":
        documents = [document(info) for info in gone]
        context.renderer.json({"schema": "arboretum/pruned/1", "dry_run": dry_run, "worktrees": documents})
    else:
        for info in gone:
            context.renderer.note(f"{'would prune' if dry_run else 'pruned'} {info.path}: {info.prunable}")
    return ExitCode.HOLDS


@worktree.command(
    epilog="""\b
Examples:
  arboretum worktree repair                       after the repository was moved
  arboretum worktree repair ../moved-by-hand
"""
)
@click.argument("paths", nargs=-1)
@pass_context
def repair(context: Context, paths: tuple[str, ...]) -> int:
    """Mend the links between records and folders; PATHS are worktrees that were moved by hand."""
    with context.repository() as repository:
        repository.worktrees.repair([os.path.join(context.folder, path) for path in paths])
    return ExitCode.HOLDS
