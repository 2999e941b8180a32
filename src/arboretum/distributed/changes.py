"""What the command of a task has changed on a worker, brought back into the task's own worktree at the client.

Everything that git sees comes back as it was: the commits that the command made, and on top of them what it has not
committed, which travels as a commit of its own and is taken apart again at the client. So scope, commit, verification
and merge go on there as if the command had run there.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from attrs import evolve, frozen

from arboretum.distributed.mirror import make_pack, run_git, take_pack
from arboretum.engine.threads import Threads
from arboretum.errors import ConflictError, GitOperationError
from arboretum.orchestration.sites import LocalSite, Work
from arboretum.process.model import CommandResult, OutputLine
from arboretum.values import Oid, Signature

if TYPE_CHECKING:
    from arboretum.engine.executor import TrialStart
    from arboretum.orchestration.workspaces import Workspaces
    from arboretum.repository import Repository


@frozen(kw_only=True)
class Changes:
    """What a worktree holds more than the commit that it stood at.

    Args:
        head: The commit that it stands at now.
        files: A commit of its files as they are, on top of `head`; `head` itself when nothing is uncommitted.
        pack: The objects of both.
    """

    head: Oid
    files: Oid
    pack: bytes


@frozen(kw_only=True)
class WorkDone:
    """A command that is over, on the worker where it ran.

    Args:
        result: What became of it.
        changes: What it has changed; None when that cannot be told, which the result says.
    """

    result: CommandResult
    changes: Changes | None


async def do_work(
    work: Work, workspaces: Workspaces, threads: Threads, *, on_started: TrialStart, on_line: OutputLine
) -> WorkDone:
    """Run the command of `work` in a slot of this machine, and collect what it has changed.

    Args:
        work: The command.
        workspaces: The slots of the run.
        threads: What blocks goes there.
        on_started: Told of the slot.
        on_line: Told of each line of output.
    """
    lease = await threads.acquire(lambda: workspaces.acquire(work.commit), workspaces.release)
    try:
        await threads(lambda: workspaces.attach(lease, work.task, work.commit))
        on_started(lease.slot.name, lease.path)
        result = await LocalSite(workspaces.repository.runner).run(work, lease, on_line=on_line)
        return await threads(lambda: _collected(workspaces.repository, lease.path, work.commit, result))
    finally:
        await threads(lambda: workspaces.release(lease))
        with contextlib.suppress(GitOperationError):
            await threads(lambda: workspaces.drop(work.task, None))


def _collected(repository: Repository, path: str, start: Oid, result: CommandResult) -> WorkDone:
    try:
        return WorkDone(result=result, changes=collect(repository, path, start))
    except (GitOperationError, OSError) as error:
        why = f"its work cannot be brought back: {getattr(error, 'message', error)}"
        failed = evolve(result, exit_code=result.exit_code or 1, error_message=result.error_message or why)
        return WorkDone(result=failed, changes=None)


def collect(repository: Repository, path: str, start: Oid) -> Changes:
    """What the worktree `path` holds more than the commit `start`.

    Raises:
        GitOperationError: It is broken, or has paths that are not merged.
        ExecutorError: The objects cannot be read.
    """
    backend = repository.backend
    changes = backend.status(path)
    unmerged = tuple(entry.path for entry in changes if entry.is_conflict)
    if unmerged:
        raise ConflictError(f"it left {', '.join(unmerged)} unmerged", paths=unmerged, operation="commit")
    head = backend.head(path).oid
    if head is None:
        raise GitOperationError("its worktree stands on a branch without commits", operation="head")
    files = head
    if changes:
        backend.stage(path, (".",))
        tree = Oid(run_git(["-C", path, "write-tree"], path).decode("ascii").strip())
        who = Signature.now("arboretum", "arboretum@localhost")
        files = backend.write_commit(tree=tree, parents=(head,), message="as it is\n", author=who, committer=who)
    return Changes(head=head, files=files, pack=b"" if files == start else make_pack(repository, (files,), (start,)))


def restore(repository: Repository, path: str, changes: Changes) -> None:
    """Let the clean worktree `path` hold what `collect` found: its branch at `head`, the rest uncommitted.

    Raises:
        ExecutorError: git cannot do it (a full disk).
    """
    if not changes.pack:
        return
    take_pack(repository, changes.pack)
    run_git(["-C", path, "read-tree", "-u", "--reset", changes.files], path)
    run_git(["-C", path, "reset", "--quiet", "--mixed", changes.head], path)
