"""``arboretum worker``: one line to start a worker with the right resources."""

from __future__ import annotations

import os

import click

from arboretum.cli.exit_codes import ExitCode
from arboretum.cli.options import LabelType, SizeType
from arboretum.engine.needs import MEMORY, total_memory
from arboretum.errors import UsageError


@click.command(
    epilog="""\b
Examples:
  arboretum worker --scheduler tcp://10.0.0.5:8786
  arboretum worker --scheduler tcp://10.0.0.5:8786 --slots 8 --name big-host
  arboretum worker --scheduler tcp://10.0.0.5:8786 --memory 64G --label gpu --label cuda:12
""",
)
@click.option("--scheduler", required=True, metavar="ADDRESS", help="Where the Dask scheduler listens.")
@click.option("--slots", type=click.IntRange(1, 1024), help="Trials at once.  [default: one for each core]")
@click.option("--name", help="What it is called in reports.")
@click.option("--memory", type=SizeType(), help="What its trials may use together.  [default: all there is]")
@click.option("--label", "labels", type=LabelType(), multiple=True, help="What it has, for trials that ask for it.")
def worker(scheduler: str, slots: int | None, name: str | None, memory: int | None, labels: tuple[str, ...]) -> int:
    """Start a worker for runs past one machine; it stays until it is stopped or the scheduler goes away."""
    try:
        from distributed.cli.dask_worker import main as dask_worker
    except ImportError as error:
        raise UsageError("a worker needs dask.distributed", hint="pip install 'arboretum[distributed]'") from error
    threads = slots or os.cpu_count() or 1
    address = scheduler.replace("dask://", "tcp://", 1)
    # A label is a resource of which each slot may take one.
    resources = {MEMORY: memory or total_memory()} | dict.fromkeys(labels, threads)
    words = " ".join(f"{key}={amount}" for key, amount in resources.items())
    arguments = [address, "--nworkers", "1", "--nthreads", str(threads), "--no-dashboard", "--resources", words]
    dask_worker.main(args=[*arguments, *(["--name", name] if name else [])], standalone_mode=False)
    return ExitCode.HOLDS
