"""``arboretum worker``: one line to start a worker with the right resources."""

from __future__ import annotations

import os

import click

from arboretum.cli.exit_codes import ExitCode
from arboretum.errors import UsageError


@click.command(
    epilog="""\b
Examples:
  arboretum worker --scheduler tcp://10.0.0.5:8786
  arboretum worker --scheduler tcp://10.0.0.5:8786 --slots 8 --name big-host
""",
)
@click.option("--scheduler", required=True, metavar="ADDRESS", help="Where the Dask scheduler listens.")
@click.option("--slots", type=click.IntRange(1, 1024), help="Trials at once.  [default: one for each core]")
@click.option("--name", help="What it is called in reports.")
def worker(scheduler: str, slots: int | None, name: str | None) -> int:
    """Start a worker for runs past one machine; it stays until it is stopped or the scheduler goes away."""
    try:
        from distributed.cli.dask_worker import main as dask_worker
    except ImportError as error:
        raise UsageError("a worker needs dask.distributed", hint="pip install 'arboretum[distributed]'") from error
    threads = slots or os.cpu_count() or 1
    address = scheduler.replace("dask://", "tcp://", 1)
    arguments = [address, "--nworkers", "1", "--nthreads", str(threads), "--no-dashboard"]
    dask_worker.main(args=[*arguments, *(["--name", name] if name else [])], standalone_mode=False)
    return ExitCode.HOLDS
