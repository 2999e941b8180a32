"""``python -m tests.benchmarks [AREA ...]``: every comparison side by side, as a table, JSON and an SVG plot."""

from __future__ import annotations

import importlib
import json
import pkgutil
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

import attrs
import click
from rich.console import Console
from rich.table import Table

import tests.benchmarks as package
from tests.benchmarks.measure import Row

if TYPE_CHECKING:
    from matplotlib.axes import Axes

#: How many curves stand side by side in the plot.
_ACROSS: Final = 4


def areas() -> list[str]:
    """The areas there are: one for each module ``bench_<area>``."""
    return sorted(
        m.name.removeprefix("bench_") for m in pkgutil.iter_modules(package.__path__) if m.name[:6] == "bench_"
    )


def table(rows: list[Row]) -> Table:
    """The figures as a table for people."""
    shown = Table(title="arboretum, side by side (medians; ratio of ours to the baseline)")
    for name in ("area", "case", "ours s", "baseline", "its s", "ratio", "target", ""):
        shown.add_column(name, justify="right" if name in {"ours s", "its s", "ratio", "target"} else "left")
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        shown.add_row(
            row.area, row.case, _number(row.ours), row.baseline, _number(row.theirs), _number(row.ratio),
            f"{sign} {row.target:g}" if row.target is not None else "",
            {True: "reached", False: "MISSED", None: ""}[row.reached] + (f" ({row.note})" if row.note else ""),
        )  # fmt: skip
    return shown


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"


def document(rows: list[Row], scale: float) -> dict[str, object]:
    """The figures as plain data, with what is needed to judge them."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return {
        "schema": "arboretum/benchmarks/1",
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "scale": scale,
        "python": platform.python_version(),
        "git": git,
        "system": f"{platform.system()} {platform.machine()}",
        "rows": [attrs.asdict(row) | {"reached": row.reached} for row in rows],
    }


def draw(rows: list[Row], path: Path) -> None:
    """The ratios that have a target as bars (the share of the target, 1 is the target), the curves of growth below."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    curves = [row for row in rows if "curve" in row.extra]
    judged = [row for row in rows if "curve" not in row.extra and row.ratio and row.target]
    heights = [0.32 * len(judged) + 1.2, 2.4 * -(-len(curves) // _ACROSS)]
    shown = [height if part else 0.0 for height, part in zip(heights, (judged, curves), strict=True)]
    figure = plt.figure(figsize=(10, max(1.0, sum(shown))), layout="constrained")
    parts = iter(
        figure.subfigures(sum(map(bool, shown)) or 1, height_ratios=[h for h in shown if h] or [1], squeeze=False)[:, 0]
    )
    if judged:
        _draw_bars(next(parts).subplots(), judged)
    if curves:
        grid = next(parts).subplots(-(-len(curves) // _ACROSS), _ACROSS, squeeze=False).flat
        for axes, row in zip(grid, curves, strict=False):
            _draw_curve(axes, row)
        for axes in list(grid)[len(curves) :]:
            axes.set_visible(False)
    figure.savefig(path, metadata={"Date": None})


def _draw_bars(axes: Axes, judged: list[Row]) -> None:
    shares = [row.target / row.ratio if row.at_least else row.ratio / row.target for row in judged]  # type: ignore[operator]  # they have both
    axes.barh(
        [f"{r.area}: {r.case}" for r in judged], shares, color=["#1a6b3c" if s <= 1 else "#9c2b2b" for s in shares]
    )
    axes.axvline(1.0, color="black", linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("share of the target that was used (1 = the target, less is better)")


def _draw_curve(axes: Axes, row: Row) -> None:
    """One small multiple: seconds over size, both logarithmic, so that the slope is the exponent of the growth."""
    curve = cast("Mapping[str, Any]", row.extra["curve"])
    slopes = cast("Mapping[str, float]", row.extra["slope"])
    for (name, points), colour in zip(curve["lines"].items(), ("#1a6b3c", "#7a7a7a", "#b5762a"), strict=False):
        sizes, seconds = zip(*points, strict=True)
        axes.loglog(
            sizes, seconds, marker="o", markersize=2.5, linewidth=1, color=colour, label=f"{name} {slopes[name]:.2f}"
        )
    axes.set_title(row.case, fontsize=7)
    axes.set_xlabel(curve["unit"], fontsize=6)
    axes.set_ylabel("seconds", fontsize=6)
    axes.tick_params(labelsize=6)
    axes.legend(fontsize=6, title="slope", title_fontsize=6)


@click.command()
@click.argument("chosen", nargs=-1, type=click.Choice(areas()))
@click.option("--scale", default=1.0, show_default=True, help="1 is the full form, 0.1 a quick look.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the figures here.")
@click.option("--svg", "svg_path", type=click.Path(path_type=Path), help="Draw them here (needs matplotlib).")
def main(chosen: tuple[str, ...], scale: float, json_path: Path | None, svg_path: Path | None) -> None:
    """Run the comparisons of the chosen areas (all by default), side by side, in one run."""
    rows: list[Row] = []
    for area in chosen or areas():
        click.echo(f"… {area}", err=True)
        rows += importlib.import_module(f"tests.benchmarks.bench_{area}").run(scale)
    Console(width=None if sys.stdout.isatty() else 200).print(table(rows))
    if json_path:
        json_path.write_text(json.dumps(document(rows, scale), indent=2, default=str) + "\n", encoding="utf-8")
    if svg_path:
        draw(rows, svg_path)


if __name__ == "__main__":
    main()
