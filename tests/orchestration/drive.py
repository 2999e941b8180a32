"""A process that starts or resumes a run, for tests that kill it: ``python -m tests.orchestration.drive REPO RUN [N]``.

With N the process kills itself with SIGKILL when the N-th event of this process has been written (N > 0), or just
before it is (N < 0).
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

from arboretum.engine.journal import Journal, run_folder
from arboretum.events import Event
from arboretum.orchestration.orchestrator import Orchestrator, orchestrations_folder
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.task_file import load_tasks
from arboretum.repository import Repository
from tests.orchestration import twelve


def main(path: str, run: str, at: int) -> None:
    count = 0

    def die() -> None:
        nonlocal count
        count += 1
        if count == abs(at):
            os.kill(os.getpid(), signal.SIGKILL)

    if at < 0:
        write = Journal.write

        def dying_write(journal: Journal, event: object) -> None:
            die()
            write(journal, event)  # type: ignore[arg-type]

        Journal.write = dying_write  # type: ignore[method-assign,assignment]

    def observe(_event: Event) -> None:
        if at > 0:
            die()

    repository, limits = Repository.open(path), Limits(slots=4)
    journal = os.path.join(run_folder(orchestrations_folder(repository), run), "events.jsonl")
    if os.path.exists(journal) and os.path.getsize(journal):  # else the first one died before it began
        orchestrator = Orchestrator.resume(repository, run, limits, observers=[observe])
    else:
        orchestrator = Orchestrator.start(repository, load_tasks(twelve.TASKS), limits, run=run, observers=[observe])
    asyncio.run(orchestrator.run())


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 0)
