"""Runs past one machine give what runs on one machine give, whatever happens to workers and scheduler."""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import arboretum
from arboretum import Repository
from arboretum.distributed.dask import DaskExecutor
from arboretum.distributed.mirror import make_pack
from arboretum.engine.each import run_each
from arboretum.engine.model import CommandSpec, Plan
from arboretum.engine.plan_file import plan_for_refs
from arboretum.engine.result import EachResult
from arboretum.engine.run import run_plan
from arboretum.errors import EngineError, ExecutorError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.testing.executor_checks import EXECUTOR_CHECKS, ExecutorCheck, run_executor_check
from distributed import Client
from tests.distributed.conftest import Cluster, kill_group

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
COMMITS = 24 if SCALE < 2 else 200
#: Fails on some commits, kills itself on others, is skipped on one: nothing that only a cluster does.
SCRIPT = "n=$(cat n); test $n != 7 || exit 125; test $((n % 5)) != 3 || kill -9 $$; test $((n % 4)) != 1"


@pytest.fixture
def repo(tmp_path: Path) -> Iterator[Repository]:
    builder = RepositoryBuilder.init(str(tmp_path / "repo"))
    builder.commits([CommitSpec({"n": f"{n}\n", f"d/f{n}": "x" * 100}, f"commit {n}\n") for n in range(COMMITS)])
    with Repository.open(tmp_path / "repo") as repository:
        yield repository


def connect(cluster: Cluster, workers: int, *, timeout: float = 60) -> Client:
    client = Client(cluster.address, timeout=timeout, set_as_default=False)
    client.wait_for_workers(workers, timeout=120)
    return client


@pytest.fixture
def client(three_workers: Cluster) -> Iterator[Client]:
    with connect(three_workers, 3) as made:
        yield made


@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__)
def test_it_keeps_the_executors_contract(check: ExecutorCheck, client: Client, tmp_path: Path) -> None:
    """Each rule of the executor protocol holds on a cluster as it does on one machine."""
    run_executor_check(check, lambda repository: DaskExecutor(client, repository), tmp_path)


def seen(result: EachResult) -> list[tuple[str, str, int | None]]:
    return [(commit.oid, commit.outcome.value, commit.exit_code) for commit in result.commits]


def each(repo: Repository, executor: DaskExecutor | None, script: str = SCRIPT) -> EachResult:
    plan = Plan(command=CommandSpec((script,), True), timeout=60.0)
    return run_each(repo, "main", plan, executor=executor, cache=False, jobs=None)


def test_each_is_equal_trial_by_trial_and_travels_once(repo: Repository, client: Client) -> None:
    """`each` gives the same outcome and exit code for every commit, and the second run sends next to nothing."""
    executor = DaskExecutor(client, repo)
    assert seen(each(repo, executor)) == seen(each(repo, None))
    first = executor.sent_bytes
    again = DaskExecutor(client, repo)
    result = each(repo, again)
    assert len(result.commits) == COMMITS
    assert first > 0
    assert again.sent_bytes < first / 4, (first, again.sent_bytes)  # a host that had not seen the newest commits yet
    third = DaskExecutor(client, repo)
    each(repo, third)
    print(f"sent: {first}, {again.sent_bytes}, {third.sent_bytes} bytes")
    slots = {commit.trial.slot.rpartition("/")[0] for commit in result.commits if commit.trial}
    assert len(slots) >= 2, "one worker did everything"


def test_the_fixture_gets_the_same_verdicts(client: Client, tmp_path: Path) -> None:
    """A run over the cluster and one on this machine come to the same verdicts."""
    from arboretum.cli.demo import make_repository

    make_repository(str(tmp_path / "tailreader"))
    command = CommandSpec((sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_last_line.py"))
    plan = plan_for_refs(("fix/slice-end", "fix/strip-text"), command, base="main", timeout=300.0)
    with Repository.open(tmp_path / "tailreader") as repository:
        far = run_plan(repository, plan, executor=DaskExecutor(client, repository), cache=False)
        near = run_plan(repository, plan, cache=False)
    assert [(j.hypothesis, j.verdict, j.reason) for j in far.judgements] == [
        (j.hypothesis, j.verdict, j.reason) for j in near.judgements
    ]
    assert [t.outcome for t in far.control] == [t.outcome for t in near.control]


def during(action: Callable[[], object], started: Path) -> threading.Thread:
    """Do something once the first trial has made the file `started`."""

    def wait() -> None:
        deadline = time.monotonic() + 120
        while not started.exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        action()

    thread = threading.Thread(target=wait)
    thread.start()
    return thread


def test_a_lost_worker_costs_no_verdict(repo: Repository, cluster: Cluster, tmp_path: Path) -> None:
    """A worker that is killed with -9 in the middle: its trials are carried out by the other one."""
    doomed = cluster.start_worker()
    cluster.start_worker()
    started = tmp_path / "started"
    with connect(cluster, 2) as client:
        killer = during(lambda: kill_group(doomed), started)
        result = each(repo, DaskExecutor(client, repo), f"touch {started}; sleep 0.3; {SCRIPT}")
        killer.join()
    assert doomed.poll() is not None
    assert seen(result) == seen(each(repo, None))


def test_a_lost_scheduler_is_told(repo: Repository, cluster: Cluster, tmp_path: Path) -> None:
    """When the scheduler dies the run ends with an error that says so: no verdict is made up."""
    cluster.start_worker()
    started = tmp_path / "started"
    scheduler = cluster.scheduler
    assert scheduler is not None
    with connect(cluster, 1, timeout=5) as client:
        killer = during(lambda: kill_group(scheduler), started)
        with pytest.raises(EngineError, match="cluster is lost"):
            each(repo, DaskExecutor(client, repo), f"touch {started}; sleep 0.5; true")
        killer.join()


def test_a_worker_that_joins_late_helps(repo: Repository, cluster: Cluster, tmp_path: Path) -> None:
    """A worker that comes in the middle gets what it lacks of the repository, and trials."""
    cluster.start_worker()
    started = tmp_path / "started"
    with connect(cluster, 1) as client:
        helper = during(cluster.start_worker, started)
        executor = DaskExecutor(client, repo)
        plan = Plan(command=CommandSpec((f"touch {started}; sleep 1",), True))
        result = run_each(repo, "main", plan, executor=executor, cache=False, jobs=COMMITS)
        helper.join()
    hosts = {c.trial.slot.rpartition("/")[0] for c in result.commits if c.trial}
    assert {c.outcome.value for c in result.commits} == {"passed"}
    assert len(hosts) == 2, hosts


def test_a_worker_without_space_is_passed_over(repo: Repository, cluster: Cluster, tmp_path: Path) -> None:
    """A worker that cannot keep a mirror (its cache folder is a file) is left out; the other one does the work."""
    (tmp_path / "in-the-way").write_text("not a folder")
    cluster.start_worker(ARBORETUM_CACHE_DIR=str(tmp_path / "in-the-way" / "cache"))
    cluster.start_worker()
    with connect(cluster, 2) as client:
        result = each(repo, DaskExecutor(client, repo))
    assert seen(result) == seen(each(repo, None))


def test_another_arboretum_is_refused_by_name(repo: Repository, cluster: Cluster, tmp_path: Path) -> None:
    """A worker with another version is named, with both versions, before any trial is sent."""
    source = Path(arboretum.__file__).parent
    shutil.copytree(source, tmp_path / "other" / "arboretum", symlinks=False)
    init = tmp_path / "other" / "arboretum" / "__init__.py"
    init.write_text(init.read_text().replace(arboretum.__version__, "0.0.1"))
    cluster.start_worker(PYTHONPATH=str(tmp_path / "other"))
    with connect(cluster, 1) as client, pytest.raises(ExecutorError, match=r"0\.0\.1.*" + arboretum.__version__):
        DaskExecutor(client, repo)


def test_no_worker_is_told(repo: Repository, cluster: Cluster) -> None:
    """A cluster without workers is an error that says how to start one."""
    with (
        Client(cluster.address, timeout=60, set_as_default=False) as client,
        pytest.raises(ExecutorError, match="worker"),
    ):
        DaskExecutor(client, repo)


def test_large_outputs_stay_and_can_be_fetched(repo: Repository, client: Client) -> None:
    """A small output travels whole, a large one stays on its worker and is fetched on demand."""

    async def run() -> None:
        from arboretum.engine.model import TrialRequest

        executor = DaskExecutor(client, repo)
        request = TrialRequest(
            run="r1", hypothesis="h", attempt=1, commit=repo.resolve("main"),
            command=CommandSpec(("yes abc | head -c 1000000; echo small >&2",), True),
        )  # fmt: skip
        trial = await executor.execute(request)
        assert Path(trial.output_paths["stderr"]).read_text() == "small\n"
        assert not os.path.exists(trial.output_paths["stdout"])
        assert executor.fetch_output(trial) == b"abc\n" * 250_000
        await executor.close()

    asyncio.run(run())


def test_a_flood_of_output_comes_back_bounded(repo: Repository, client: Client) -> None:
    """Of a million lines some are shown as they come, each cut to its beginning; the whole is there on demand."""
    from arboretum.engine.model import TrialRequest

    lines: list[str] = []

    async def run() -> None:
        executor = DaskExecutor(client, repo)
        flood = "yes $(printf '%01000d' 7) | head -n 100000; sleep 0.3; echo the last"
        request = TrialRequest(
            run="r2", hypothesis="h", attempt=1, commit=repo.resolve("main"), command=CommandSpec((flood,), True)
        )
        trial = await executor.execute(request, on_output=lambda _stream, line: lines.append(line))
        assert len(executor.fetch_output(trial, limit=1 << 30)) == 100_000 * 1001 + len("the last\n")
        assert trial.output_tail.endswith("the last")
        await executor.close()

    asyncio.run(run())
    assert lines[-1] == "the last"
    assert len(lines) < 20_000
    assert max(map(len, lines)) <= 500


def test_a_pack_holds_only_what_is_lacking(repo: Repository) -> None:
    """A pack against a known parent is a small part of the whole, and empty of objects against the commit itself."""
    tip, parent = repo.resolve("main"), repo.resolve("main~1")
    whole, thin = make_pack(repo, (tip,), ()), make_pack(repo, (tip,), (parent,))
    assert len(thin) * 4 < len(whole)
