"""Nothing runs on: after Ctrl-C, kill -9 of the client, a cancel in Dask, the loss of the scheduler."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.distributed.dask import DaskExecutor
from arboretum.engine.each import run_each
from arboretum.engine.model import CommandSpec, Plan, TrialRequest
from arboretum.errors import EngineError
from distributed import Client, Future
from tests.distributed.conftest import Cluster, kill_group
from tests.distributed.processes import command, during, running, until

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
#: Says which process it is, and goes on for ever, in a child of its own that has left its session.
ENDLESS = "echo $$ > '{folder}'/$ARBORETUM_HYPOTHESIS.pid; setsid sleep 1000 & echo $! >> '{folder}'/child.pid; wait"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "pids"
    made.mkdir()
    return made


def endless_run(repo: Repository, cluster: Cluster, folder: Path, trials: int) -> subprocess.Popen[str]:
    """A run of trials that never end, all of them begun."""
    with Client(cluster.address, timeout=60, set_as_default=False) as waiting:
        waiting.wait_for_workers(1, timeout=60)
    script = ENDLESS.format(folder=folder)
    client = command(
        repo, "each", f"main~{trials}..main", "--executor", cluster.address, "--", "sh", "-c", script,
        DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="3s",
    )  # fmt: skip
    until(lambda: len(running(folder)) == 2 * trials or client.poll() is not None, "the trials run")
    assert client.poll() is None, client.communicate()
    return client


def test_nothing_is_left_once_an_interrupted_command_has_returned(
    repo: Repository, cluster: Cluster, folder: Path
) -> None:
    """After Ctrl-C the command says 130, and by then nothing of its trials runs on any worker."""
    cluster.start_worker(slots=2)
    client = endless_run(repo, cluster, folder, 2)
    client.send_signal(signal.SIGINT)
    _, said = client.communicate(timeout=120)
    assert running(folder) == []
    assert client.returncode == 130, said


def test_trials_of_a_killed_client_are_ended(repo: Repository, cluster: Cluster, folder: Path) -> None:
    """A client that is killed with -9 leaves nothing behind: its trials end, and the worker is free for others."""
    cluster.start_worker(slots=2)
    client = endless_run(repo, cluster, folder, 2)
    kill_group(client)
    until(lambda: running(folder) == [], "the trials of the killed client are ended")
    other = command(repo, "each", "main~3..main", "--executor", cluster.address, "--format", "json", "--", "true")
    out, said = other.communicate(timeout=60)
    assert [commit["outcome"] for commit in json.loads(out)["commits"]] == ["passed"] * 3, said


def test_trials_end_with_their_scheduler(repo: Repository, cluster: Cluster, folder: Path) -> None:
    """When the scheduler is killed with -9, the command says so, and nothing of the run goes on anywhere."""
    cluster.start_worker(slots=2)
    client = endless_run(repo, cluster, folder, 2)
    assert cluster.scheduler is not None
    kill_group(cluster.scheduler)
    until(lambda: running(folder) == [], "the trials are ended")
    _, said = client.communicate(timeout=120)
    assert client.returncode == 4
    assert "cluster is lost" in said


def test_a_run_outlives_a_restart_of_the_scheduler(repo: Repository, cluster: Cluster, folder: Path) -> None:
    """A scheduler killed with -9 that is soon there again costs no verdict: the trials that it lost are repeated."""
    cluster.start_worker()
    plan = Plan(command=CommandSpec((f"touch {folder}/$ARBORETUM_HYPOTHESIS; sleep 0.5; test $(cat n) != 2",), True))
    restarter = during(cluster.restart, lambda: len(list(folder.iterdir())) == 2)
    with Client(cluster.address, timeout=60, set_as_default=False) as client:
        client.wait_for_workers(1, timeout=60)
        result = run_each(repo, "main", plan, executor=DaskExecutor(client, repo), cache=False)
        restarter.join()
    assert [commit.outcome.value for commit in result.commits] == ["passed", "passed", "failed", "passed"]


PLAN = """\
command = {{shell = "echo $ARBORETUM_HYPOTHESIS >> {folder}/begun; sleep $PAUSE; test $(cat n) != 2"}}
env = {{PAUSE = "0"}}
[[hypothesis]]
id = "first"
ref = "main~1"
expect = "fail"
[[hypothesis]]
id = "second"
probability = 0.1
env = {{PAUSE = "{pause}"}}
"""


def test_a_run_that_has_lost_its_scheduler_is_resumed(repo: Repository, cluster: Cluster, folder: Path) -> None:
    """A scheduler that stays away is an error of its own (exit code 4); --resume ends with the right verdicts."""
    cluster.start_worker()
    file = folder / "plan.toml"
    file.write_text(PLAN.format(folder=folder, pause=5))
    begun = folder / "begun"
    with Client(cluster.address, timeout=60, set_as_default=False) as waiting:
        waiting.wait_for_workers(1, timeout=60)
    run = command(repo, "run", str(file), "--executor", cluster.address, DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="2s")
    until(lambda: (begun.exists() and "second" in begun.read_text()) or run.poll() is not None, "two trials are over")
    assert cluster.scheduler is not None
    kill_group(cluster.scheduler)
    _, said = run.communicate(timeout=120)
    assert (run.returncode, "cluster is lost" in said) == (4, True), said
    cluster.restart()
    with Client(cluster.address, timeout=60, set_as_default=False) as waiting:
        waiting.wait_for_workers(1, timeout=60)
    again = command(repo, "run", "--resume", "--executor", cluster.address, "--format", "json")
    out, said = again.communicate(timeout=120)
    verdicts = {h["id"]: (h["verdict"], h["reason"]) for h in json.loads(out)["hypotheses"]}
    assert verdicts == {"first": ("supported", "as-predicted"), "second": ("inconclusive", "control-agrees")}, said
    assert sorted(begun.read_text().split()) == ["control", "first", "second", "second"]


def test_a_cancel_in_dask_ends_the_trial(repo: Repository, cluster: Cluster, folder: Path) -> None:
    """Somebody cancels the task in Dask itself: its process tree is ended, and the trial is no verdict."""
    cluster.start_worker()

    async def cancelled() -> None:
        with Client(cluster.address, timeout=60, set_as_default=False) as client:
            client.wait_for_workers(1, timeout=120)
            executor = DaskExecutor(client, repo)
            script = CommandSpec((ENDLESS.format(folder=folder),), True)
            request = TrialRequest(run="r", hypothesis="h", attempt=1, commit=repo.resolve("main"), command=script)
            trial = asyncio.create_task(executor.execute(request))
            await asyncio.to_thread(until, lambda: len(running(folder)) == 2, "the trial runs")
            for key in list(client.futures):
                Future(key, client).cancel(force=True)
            with pytest.raises(EngineError):
                await trial
            await asyncio.to_thread(until, lambda: running(folder) == [], "the trial is ended")
            await executor.close()

    asyncio.run(cancelled())
