"""``python -m tests.benchmarks [AREA ...]``: every comparison side by side, as a table, as JSON and as plots."""

from __future__ import annotations

import pkgutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import click
import platformdirs
from rich.console import Console

import tests.benchmarks as package
from tests.benchmarks.apart import AreaError, rows_apart, rows_here, said_shortly
from tests.benchmarks.measure import Row
from tests.benchmarks.outcome import Outcome, table, version_of, versions
from tests.benchmarks.plot import write_plots
from tests.benchmarks.programs import PROGRAMS, provide

INTERRUPTED: Final = 130


def areas() -> list[str]:
    """The areas there are: one for each module ``bench_<area>``."""
    return sorted(
        m.name.removeprefix("bench_") for m in pkgutil.iter_modules(package.__path__) if m.name[:6] == "bench_"
    )


def measure(
    area: str,
    scale: float,
    outcome: Outcome,
    told: Callable[[Row], object] = lambda _: None,
    rows: Callable[[str, float], Iterable[Row]] = rows_here,
) -> None:
    """Add the figures of an area, each as soon as it is known; an error in one area is noted, and leaves the others be.

    Args:
        area: Its name.
        scale: 1 is the full form.
        outcome: What is added to.
        told: Called for each figure when it is there.
        rows: What measures.

    Raises:
        KeyboardInterrupt: The user has had enough; what is measured is in the outcome.
    """
    begin, error = time.perf_counter(), None
    try:
        for row in rows(area, scale):
            outcome.rows.append(row)
            told(row)
    except KeyboardInterrupt:
        error = "interrupted"
        raise
    except Exception as problem:  # whatever one area has run into, the figures of the others are worth having
        if not isinstance(problem, AreaError):  # that one has been told in full
            traceback.print_exc()
        error = said_shortly(problem)
        outcome.rows.append(Row(area=area, case="failed", note=error))
    finally:
        outcome.took(area, time.perf_counter() - begin, scale, error)


@click.command()
@click.argument("chosen", nargs=-1, type=click.Choice(areas()))
@click.option("--scale", default=1.0, show_default=True, help="1 is the full form, 0.05 a check that all of it works.")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=Path(".benchmarks"),
              show_default=True, help="The folder for figures.json and the plots.")  # fmt: skip
@click.option("--join", is_flag=True, help="Keep the figures there of areas that are not chosen now.")
@click.option("--draw", is_flag=True, help="Measure nothing: draw the plots anew from the figures there.")
def main(chosen: tuple[str, ...], scale: float, out: Path, join: bool, draw: bool) -> None:
    """Run the comparisons of the chosen areas (all by default), side by side, in one run.

    Each area has a process and, where one may be mounted, an ext4 of its own, and begins with the disk at rest.

    Ctrl-C ends it and keeps what is measured; the exit code is 130 then, and 1 where an area has failed.
    """
    figures = out / "figures.json"
    older = Outcome.read(figures) if draw or (join and figures.exists()) else Outcome()
    if draw:
        write_plots(older.rows, out)
        return
    outcome, interrupted = Outcome(), False
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what is measured is kept then, too
    try:
        _provide(outcome)
        for area in chosen or areas():
            click.echo(f"… {area}", err=True)
            measure(area, scale, outcome, lambda _: outcome.joined(older).write(figures), rows_apart)
            outcome.joined(older).write(figures)
            click.echo(f"  {outcome.areas[area]['seconds']} s", err=True)
    except KeyboardInterrupt:
        interrupted = True
        click.echo("interrupted: what is measured is kept", err=True)
    Console(width=None if sys.stdout.isatty() else 200).print(table(outcome.rows))
    whole = outcome.joined(older)
    whole.write(figures)
    write_plots(whole.rows, out)
    click.echo(f"figures and plots: {out}", err=True)
    sys.exit(INTERRUPTED if interrupted else 1 if outcome.failed else 0)


def _provide(outcome: Outcome) -> None:
    """Get the programs that we are held against; those that cannot be had are left out by name."""
    begin = time.perf_counter()
    missing = provide(Path(platformdirs.user_cache_dir("arboretum")) / "benchmarks")
    for name, why in missing.items():
        outcome.rows.append(Row(area="peers", case=f"beside {name}", baseline=name, note=f"left out: {why}"))
    outcome.took("peers", time.perf_counter() - begin, 1.0)
    outcome.versions = versions({p.name: version_of(p.name) for p in PROGRAMS if p.name not in missing})


if __name__ == "__main__":
    main()
