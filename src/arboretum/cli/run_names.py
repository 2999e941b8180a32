"""Which run a word means, and how to go on with one that was interrupted: one rule for all commands.

A run is named by its id, by the beginning of its id where no other begins so, or by ``last``, the newest one.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from arboretum.engine.archive import has_plan
from arboretum.engine.journal import iter_runs, last_status, runs_folder
from arboretum.errors import StoreError, UsageError
from arboretum.orchestration.orchestrator import orchestrations_folder, read_board

if TYPE_CHECKING:
    from arboretum.repository import Repository

LAST: Final = "last"
NO_RUN: Final = "there is no run yet in this repository"
_HISTORY: Final = "list the runs with: arboretum history"


def find_run(text: str | None, *folders: str) -> tuple[str, str]:
    """The folder and the id of the run that `text` names; for None of the last one.

    Raises:
        UsageError: No run, or several.
    """
    runs = [(run, folder) for folder in folders for run in iter_runs(folder)]
    if text is None or text == LAST:
        if not runs:
            raise UsageError(NO_RUN, hint="begin one with: arboretum run, each, bisect or orchestrate")
        found, what = sorted(runs)[-1:], ""
    else:
        found = [(run, folder) for run, folder in runs if run.startswith(text)]
        what = f"{len(found) or 'no'} runs start with {text!r}"
    if len(found) != 1:
        raise UsageError(what, hint=_HISTORY)
    return found[0][1], found[0][0]


def run_to_resume(repository: Repository, text: str | None) -> str:
    """The run that ``run --resume`` goes on with; without a name the newest that was interrupted.

    Raises:
        UsageError: There is none, or it is of another kind.
    """
    folder = runs_folder(repository.state_dir)
    if text is None:
        for run in iter_runs(folder):
            if has_plan(folder, run) and last_status(folder, run) not in {"done", "running"}:
                return run
        raise UsageError("there is no interrupted run to go on with", hint=_HISTORY)
    found, run = find_run(text, folder, orchestrations_folder(repository))
    if found != folder or not has_plan(folder, run):
        raise UsageError(f"{run} is no run of hypotheses", hint=how_to_go_on(repository, found, run))
    return run


def orchestration_named(repository: Repository, text: str) -> str:
    """The orchestration of that name. Raises UsageError when there is none."""
    return find_run(text, orchestrations_folder(repository))[1]


def how_to_go_on(repository: Repository, folder: str, run: str) -> str:
    """What to type to go on with an interrupted run, in words."""
    if folder == orchestrations_folder(repository):
        return f"go on with: arboretum orchestrate --resume {run}"
    if has_plan(folder, run):
        return f"go on with: arboretum run --resume {run}"
    return "give the same command again: what it found so far is known"


def interruption(repository: Repository) -> str | None:
    """That the newest run was interrupted and how to go on with it; None when it was not."""
    tested, orchestrated = runs_folder(repository.state_dir), orchestrations_folder(repository)
    newest = [(run, folder) for folder in (tested, orchestrated) for run in islice(iter_runs(folder), 1)]
    if not newest:
        return None
    run, folder = max(newest)
    try:
        status = last_status(folder, run) if folder == tested else read_board(repository, run).status
    except StoreError:
        return None
    if status != "interrupted":
        return None
    return f"run {run} was interrupted; {how_to_go_on(repository, folder, run)}"
