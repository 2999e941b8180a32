"""Thousands of trials cost what the first ones did: memory, descriptors, threads, disk and steps stay flat."""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import time

import psutil
import pytest

from arboretum.engine.local_executor import LocalExecutor
from arboretum.engine.model import CommandSpec, Outcome, TrialRequest
from arboretum.engine.pool import WorktreePool
from arboretum.engine.survey import size_on_disk

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
TRIALS = 2000 if SCALE > 1 else 160
JOBS = 4
MIB = 1 << 20


@pytest.mark.soak
def test_soak(ground, capsys):
    """After a quarter of the trials nothing grows any more: memory, descriptors, threads, disk, steps per trial."""
    steps = []
    pool = WorktreePool.open(ground.repository, size=JOBS, step=steps.append)
    commits = (ground.one, ground.two, ground.three)
    process, looks = psutil.Process(), []
    threads_before = process.num_threads()

    def look() -> dict[str, float]:
        gc.collect()
        memory = process.memory_info().rss
        disk = size_on_disk(pool.root) + size_on_disk(ground.builder.git_dir)
        taken = len(steps)
        steps.clear()
        return {
            "memory": memory, "descriptors": process.num_fds(), "threads": process.num_threads(), "disk": disk,
            "children": len(process.children(recursive=True)), "steps": taken, "cpu": time.process_time(),
        }  # fmt: skip

    async def carry_out() -> None:
        executor = LocalExecutor(pool, JOBS, output_root=os.path.join(ground.repository.state_dir, "runs"))
        script = CommandSpec(
            ("echo line; echo x > untracked; mkdir -p build; echo y > build/cache; test -e a.txt",), True
        )

        async def one(number: int) -> None:
            trial = await executor.execute(
                TrialRequest(run="soak", hypothesis=f"h{number}", attempt=1, commit=commits[number % 3], command=script)
            )
            assert trial.outcome is Outcome.PASSED, trial
            for path in trial.output_paths.values():  # what the store does
                os.unlink(path)
                os.rmdir(os.path.dirname(path))

        for quarter in range(4):
            numbers = range(quarter * TRIALS // 4, (quarter + 1) * TRIALS // 4)
            await asyncio.gather(*(one(number) for number in numbers))
            looks.append(look())
        await executor.close()

    asyncio.run(carry_out())
    first, last = looks[0], looks[-1]
    with capsys.disabled():
        cost = [round((b["cpu"] - a["cpu"]) / (TRIALS // 4) * 1000, 2) for a, b in itertools.pairwise(looks)]
        print(f"\n  {TRIALS} trials: first quarter {first}\n  last quarter {last}")
        print(f"  own CPU ms per trial, by quarter: {cost}")
    assert last["memory"] - first["memory"] < 16 * MIB
    assert last["descriptors"] <= first["descriptors"] + 2
    # Both caches of threads fill as they are needed: one for a job, one more to release a slot or watch a command.
    assert last["threads"] <= threads_before + 2 * (JOBS + 1)
    assert last["children"] <= first["children"]
    assert last["disk"] - first["disk"] < MIB // 4
    assert last["steps"] <= 1.2 * looks[1]["steps"]  # which trials find a slot that stands at their commit is chance
    assert pool.check() == ()
