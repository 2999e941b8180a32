"""What a cluster costs: sleeping trials on 1, 2, 4 and 8 workers, and the bytes that a second run sends."""

from __future__ import annotations

import tempfile
import time
import warnings

from arboretum.engine.each import run_each
from arboretum.engine.model import CommandSpec, Plan
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.benchmarks.measure import Row, cache_folder

#: Seconds of a trial: short for a real one, and on two cores eight workers share what it costs besides.
NAP = 1.0


def run(scale: float) -> list[Row]:
    """Efficiency: the ideal time of the naps over the time taken; 1 is perfect, 0.9 at eight workers is the target."""
    try:
        from arboretum.distributed.dask import DaskExecutor
        from distributed import Client, LocalCluster
    except ImportError:
        return [Row(area="distributed", case="left out", note="the extra 'distributed' is not installed")]
    warnings.simplefilter("ignore")
    each_worker = max(4, round(8 * scale))
    rows = []
    with tempfile.TemporaryDirectory() as folder, cache_folder(f"{folder}/cache"):
        builder = RepositoryBuilder.init(f"{folder}/repo")
        builder.commits([CommitSpec({"n": f"{n}\n"}, f"commit {n}\n") for n in range(each_worker * 8)])
        plan = Plan(command=CommandSpec(("sleep", str(NAP))))
        with Repository.open(f"{folder}/repo") as repository:
            for workers in (1, 2, 4, 8):
                span = f"main~{each_worker * workers}..main" if workers < 8 else "main"
                with (
                    LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,
                    Client(cluster, set_as_default=False) as client,
                ):
                    first = DaskExecutor(client, repository)
                    warm = Plan(command=CommandSpec(("sleep", "0.2")))
                    run_each(repository, span, warm, executor=first, cache=False)  # slots and mirror are made
                    second = DaskExecutor(client, repository)
                    begin = time.perf_counter()
                    result = run_each(repository, span, plan, executor=second, cache=False)
                    took = time.perf_counter() - begin
                count = len(result.commits)
                ideal = NAP * count / workers
                sent = {"sent_first": first.sent_bytes, "sent_second": second.sent_bytes}
                case = f"{count} naps of {NAP} s on {workers} workers: efficiency"
                target = 0.9 if workers == 8 else None
                rows.append(
                    Row(area="distributed", case=case, ours=took, baseline="ideal", theirs=ideal,
                        ratio=round(ideal / took, 3), target=target, at_least=True, extra=sent)
                )  # fmt: skip
    return rows
