"""Memory and labels choose the worker; TLS, another Python and a full disk change no verdict."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from arboretum import Repository
from arboretum.distributed import worker as remote
from arboretum.distributed.dask import DaskExecutor
from arboretum.distributed.orders import Needs
from arboretum.engine.each import run_each
from arboretum.engine.model import CommandSpec, Hypothesis, Plan
from arboretum.engine.run import run_plan
from arboretum.errors import ExecutorError
from distributed import Client
from tests.distributed.conftest import Cluster
from tests.distributed.processes import command

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
SCRIPT = CommandSpec(("test $(cat n) != 2",), True)
OUTCOMES = ["passed", "passed", "failed", "passed"]


def connect(cluster: Cluster, workers: int) -> Client:
    client = Client(cluster.address, timeout=60, set_as_default=False)
    client.wait_for_workers(workers, timeout=60)
    return client


def test_trials_go_where_their_label_is(repo: Repository, cluster: Cluster) -> None:
    """A hypothesis that asks for a label runs on a worker that has it, the others anywhere."""
    cluster.start_worker(slots=2)
    cluster.start_worker("--label", "gpu", slots=2)
    hypotheses = (Hypothesis(id="h", command=CommandSpec(("true",)), labels=("gpu",)),)
    plan = Plan(command=CommandSpec(("false",)), hypotheses=hypotheses, repeats=6, confidence=0.999999)
    with connect(cluster, 2) as client:
        names = {address: info["name"] for address, info in client.scheduler_info()["workers"].items()}
        result = run_plan(repo, plan, executor=DaskExecutor(client, repo), cache=False)
    (judgement,) = result.judgements
    assert {names[trial.slot.rpartition("/")[0]] for trial in judgement.trials} == {"w1"}
    assert judgement.verdict.value == "supported"


def test_trials_at_once_share_the_memory_of_a_worker(repo: Repository, cluster: Cluster, tmp_path: Path) -> None:
    """Trials that need more than half of a worker's memory run there one after the other, whatever its slots."""
    cluster.start_worker("--memory", "4G", slots=4)
    script = f"mkdir {tmp_path}/alone || exit 1; sleep 0.1; rmdir {tmp_path}/alone"
    plan = Plan(command=CommandSpec((script,), True), memory=3 << 30)
    with connect(cluster, 1) as client:
        result = run_each(repo, "main", plan, executor=DaskExecutor(client, repo), cache=False)
    assert [commit.outcome.value for commit in result.commits] == ["passed"] * 4


@pytest.mark.parametrize(
    ("option", "value", "names"),
    [("--label", "gpu", "'gpu'"), ("--memory", "100000T", "memory")],
    ids=["label", "memory"],
)
def test_what_no_worker_has_is_an_error(
    repo: Repository, three_workers: Cluster, option: str, value: str, names: str
) -> None:
    """A trial that asks for what no worker has is an error that says what there is; nobody waits for ever."""
    connect(three_workers, 3).close()
    run = command(repo, "each", "main", "--executor", three_workers.address, option, value, "--", "true")
    _, said = run.communicate(timeout=60)
    assert (run.returncode, "no worker has" in said, names in said, "GiB of memory" in said) == (4, True, True, True), (
        said
    )
    assert "inconclusive" not in said


def test_a_worker_that_never_comes_back_is_waited_for_only_so_long(repo: Repository, cluster: Cluster) -> None:
    """When all workers are lost the run ends with an error after a while, and the scheduler is still there."""
    from tests.distributed.conftest import kill_group
    from tests.distributed.processes import during

    worker = cluster.start_worker()
    begun = Path(repo.path).parent / "begun"
    plan = Plan(command=CommandSpec((f"touch {begun}; sleep 1000",), True))
    with connect(cluster, 1) as client:
        executor = DaskExecutor(client, repo, patience=1.0)
        killer = during(lambda: kill_group(worker), begun.exists)
        with pytest.raises(ExecutorError, match="no worker"):
            run_each(repo, "main", plan, executor=executor, cache=False)
        killer.join()


def test_needs_are_met_by_what_is_there() -> None:
    """A worker meets needs when it has each label, and as much memory."""
    needs = Needs(100, ("gpu",))
    assert needs.met_by({"MEMORY": 100.0, "gpu": 2.0})
    assert not needs.met_by({"MEMORY": 99.0, "gpu": 2.0})
    assert not needs.met_by({"MEMORY": 200.0})
    assert Needs().met_by({})


@pytest.mark.parametrize("address", ["dask://nonsense", "dask://", "tls://127.0.0.1:1", "dask-local:none"])
def test_what_is_no_address_is_told_at_once(repo: Repository, address: str) -> None:
    """An address that cannot be meant is one error and a hint, with nothing of Dask's own around it."""
    _, said = (run := command(repo, "each", "main", "--executor", address, "--", "true")).communicate(timeout=60)
    assert run.returncode == 4
    assert [line.split(":")[0].strip() for line in said.splitlines()] in (["error", "hint"], ["error"])


# --- TLS, Pythons, disks ---


def test_trials_travel_by_tls(repo: Repository, tmp_path: Path) -> None:
    """Scheduler, worker and client speak TLS with a certificate of their own; a client without one is refused."""
    pem, key = str(tmp_path / "cert.pem"), str(tmp_path / "key.pem")
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl to make a certificate with")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out", pem, "-days", "2",
         "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True,
    )  # fmt: skip
    tls = {f"DASK_DISTRIBUTED__COMM__TLS__{who}__{what}": file
           for who in ("CLIENT", "WORKER", "SCHEDULER") for what, file in (("CERT", pem), ("KEY", key))}  # fmt: skip
    tls |= {"DASK_DISTRIBUTED__COMM__TLS__CA_FILE": pem, "DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "True"}
    (tmp_path / "cluster").mkdir()
    cluster = Cluster(tmp_path / "cluster")
    try:
        cluster.start_scheduler(protocol="tls", **tls)
        assert cluster.address.startswith("tls://")
        cluster.start_worker(**tls)
        script = ["--format", "json", "--", "sh", "-c", "test $(cat n) != 2"]
        outcomes = run_when_ready(repo, cluster, *script, **tls)
        assert outcomes == OUTCOMES
        plain = command(repo, "each", "main", "--executor", cluster.address, "--", "true",
                        DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT="2s")  # fmt: skip
        _, said = plain.communicate(timeout=60)
        assert (plain.returncode, "certificate" in said, "Traceback" in said) == (4, True, False), said
    finally:
        cluster.stop()


def run_when_ready(repo: Repository, cluster: Cluster, *words: str, **env: str) -> list[str]:
    """What ``each`` says once the first worker is there; the client has the environment `env`."""
    for _ in range(30):
        run = command(repo, "each", "main", "--no-cache", "--executor", cluster.address, *words, **env)
        out, said = run.communicate(timeout=60)
        if "has no worker" not in said:
            assert out, said
            return [commit["outcome"] for commit in json.loads(out)["commits"]]
    raise AssertionError("the worker did not come")


def interpreter(version: str) -> str | None:
    """Another Python of this machine; a name on PATH may be a shim that stands for nothing."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    for place in (shutil.which(f"python{version}"), *sorted(pyenv.glob(f"versions/{version}.*/bin/python"))):
        if place and subprocess.run([place, "-c", ""], check=False, capture_output=True).returncode == 0:
            return str(place)
    return None


@pytest.mark.parametrize("version", ["3.12", "3.13"])
def test_a_worker_with_another_python(repo: Repository, cluster: Cluster, version: str) -> None:
    """A worker with another Python comes to the same outcomes: what travels is plain values."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} on PATH or in pyenv")
    import attrs

    import arboretum

    # Its own libraries would have to be downloaded; the pure Python parts of ours do, and few have others.
    places = [str(Path(arboretum.__file__).parents[1]), str(Path(attrs.__file__).parents[1])]
    probe = subprocess.run(
        [python, "-c", "import distributed, arboretum.distributed.worker"], check=False, capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(places)},
    )  # fmt: skip
    if probe.returncode:
        pytest.skip(f"Python {version} cannot use these libraries: {probe.stderr.splitlines()[-1]}")
    cluster.start_worker(python=python, PYTHONPATH=os.pathsep.join(places))
    with connect(cluster, 1) as client:
        found = client.run(remote.describe)
        assert [answer["python"].rpartition(".")[0] for answer in found.values()] == [version]
        executor = DaskExecutor(client, repo)
        result = run_each(repo, "main", Plan(command=SCRIPT), executor=executor, cache=False)
    assert [commit.outcome.value for commit in result.commits] == OUTCOMES


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)], check=False, capture_output=True
    )
    if done.returncode:
        pytest.skip("a small file system cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_worker_with_a_full_disk_is_passed_over(repo: Repository, cluster: Cluster, small_disk: Path) -> None:
    """A worker whose disk is full is left out with a warning, and the other one comes to the right outcomes."""
    (small_disk / "filler").write_bytes(b"x" * (1 << 20))
    cluster.start_worker(ARBORETUM_CACHE_DIR=str(small_disk / "cache"))
    cluster.start_worker()
    with connect(cluster, 2) as client:
        result = run_each(repo, "main", Plan(command=SCRIPT), executor=DaskExecutor(client, repo), cache=False)
    assert [commit.outcome.value for commit in result.commits] == OUTCOMES


def test_when_all_disks_are_full_it_is_said(
    repo: Repository, cluster: Cluster, small_disk: Path, tmp_path: Path
) -> None:
    """A disk that fills up with the repository, and no other worker: an error that names the worker, no verdict."""
    (tmp_path / "repo" / "big").write_bytes(os.urandom(2 << 20))
    who = ["-c", "user.name=T", "-c", "user.email=t@example.org"]
    for words in (["add", "big"], [*who, "commit", "-qm", "big"]):
        subprocess.run(["git", *words], cwd=repo.path, check=True)
    cluster.start_worker(ARBORETUM_CACHE_DIR=str(small_disk / "cache"))
    with connect(cluster, 1) as client, pytest.raises(ExecutorError, match="fit to carry out"):
        run_each(repo, "main", Plan(command=SCRIPT), executor=DaskExecutor(client, repo), cache=False)
