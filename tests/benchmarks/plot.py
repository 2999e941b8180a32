"""The figures as pictures for the docs: ratios against their targets, and the curves of growth.

Each picture comes in two layouts, for wide and for narrow windows, and follows the reader's choice of a light or a
dark screen by itself. Being plain SVG with nothing but text and shapes, it needs no library and has no look of one.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Final
from xml.sax.saxutils import escape

from attrs import field, frozen

from tests.benchmarks.measure import Row

#: The headings of the areas, in the order in which they are shown; others follow under their own names.
HEADINGS: Final = {
    "create": "Files of a worktree",
    "pool": "Reuse of a slot",
    "worktrees": "Worktree records",
    "objects": "Object model",
    "process": "Processes",
    "start": "Start",
    "engine": "Each and bisect",
    "trials": "Trials",
    "orchestration": "Orchestration",
    "distributed": "Past one machine",
    "slots": "Slots",
    "runs": "Runs",
}
#: What a case may be done with, named in brackets at its end, and the mark that stands for it.
VARIANTS: Final = {"cli": "circle", "gitpython": "square", "pygit2": "diamond"}
_STYLE: Final = """
:root { --page: #ffffff; --ink: #1c2128; --soft: #59636e; --line: #d8dee4; --good: #0f766e; --bad: #c2410c;
  --a: #0f766e; --b: #6d4aa8; --c: #1d5fa8; }
@media (prefers-color-scheme: dark) {
  :root { --page: #0d1117; --ink: #e6edf3; --soft: #9aa4af; --line: #30363d; --good: #4fd1b8; --bad: #ff9a5c;
    --a: #4fd1b8; --b: #c4a7f5; --c: #79b8ff; } }
text { font: 12px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: var(--ink); }
.title { font-size: 17px; font-weight: 600 } .heading { font-size: 13.5px; font-weight: 600 }
.soft { fill: var(--soft); font-size: 11px } .bad { fill: var(--bad); font-weight: 600 } .end { text-anchor: end }
.middle { text-anchor: middle }
"""
_COLOURS: Final = ("var(--a)", "var(--b)", "var(--c)")
#: Pixels of an average letter at 12 and at 11 px, on the safe side.
_LETTER: Final = 6.5
_SMALL: Final = 5.8


def write_plots(rows: Sequence[Row], folder: Path) -> list[Path]:
    """Draw all that there is to draw.

    Args:
        rows: The figures.
        folder: Where the pictures go; it is made.

    Returns:
        The files: ``ratios.svg`` and ``growth.svg``, and each with ``-narrow`` for small windows.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in pictures(rows).items():
        (folder / name).write_text(text, encoding="utf-8")
        written.append(folder / name)
    return written


def pictures(rows: Sequence[Row]) -> dict[str, str]:
    """The text of each picture, by the name of its file."""
    drawn: dict[str, str] = {}
    for suffix, layout in (("", WIDE), ("-narrow", NARROW)):
        drawn[f"ratios{suffix}.svg"] = _ratios(rows, layout)
        drawn[f"growth{suffix}.svg"] = _growth(rows, layout)
    return drawn


@frozen(kw_only=True)
class Layout:
    """Where things stand, in pixels.

    Args:
        width: Of the picture.
        label: Of the column of names.
        track: Where the scale begins and ends.
        stacked: Whether names stand above their scale, not beside it.
        across: How many curves stand side by side.
    """

    width: int
    label: int
    track: tuple[int, int]
    stacked: bool
    across: int


WIDE: Final = Layout(width=880, label=410, track=(440, 720), stacked=False, across=4)
NARROW: Final = Layout(width=380, label=350, track=(30, 216), stacked=True, across=2)
_PAD: Final = 16


@frozen
class Case:
    """A line of the picture of ratios: one thing that was done, with as many marks as ways it was done in."""

    name: str
    baseline: str
    marks: tuple[tuple[str, Row], ...] = field(factory=tuple)


def cases(rows: Iterable[Row]) -> list[tuple[str, list[Case]]]:
    """What is judged, by area in the order of `HEADINGS`; the ways of one case are put together."""
    judged = [row for row in rows if "curve" not in row.extra and row.ratio and row.target]
    order = list(HEADINGS)
    judged.sort(key=lambda row: order.index(row.area) if row.area in HEADINGS else len(order))
    found: list[tuple[str, list[Case]]] = []
    for area, there in groupby(judged, key=lambda row: row.area):
        grouped: dict[tuple[object, ...], list[tuple[str, Row]]] = {}
        for row in there:
            stem, variant = _parted(row.case)
            own = row.baseline if not variant else ""
            grouped.setdefault((stem, own, row.target, row.at_least), []).append((variant, row))
        found.append(
            (
                HEADINGS.get(area, area.capitalize()),
                [
                    Case(str(key[0]), ", ".join(dict.fromkeys(row.baseline for _, row in marks)), tuple(marks))
                    for key, marks in grouped.items()
                ],
            )
        )
    return found


def _parted(case: str) -> tuple[str, str]:
    """The name of a case and the way it was done in, if it ends with one in brackets."""
    stem, bracket, rest = case.rpartition(" (")
    variant = rest.removesuffix(")")
    return (stem, variant) if bracket and variant in VARIANTS else (case, "")


def share(row: Row) -> float:
    """How much of the target was used: 1 is the target, less is better."""
    assert row.ratio is not None
    assert row.target is not None
    return row.target / row.ratio if row.at_least else row.ratio / row.target


# Ratios ------------------------------------------------------------------------------------------

_ENDS: Final = (0.01, 10.0)
_GRID: Final = (0.01, 0.1, 10)


def _ratios(rows: Sequence[Row], layout: Layout) -> str:
    groups = cases(rows)
    marks = [row for _, group in groups for case in group for _, row in case.marks]
    reached = sum(bool(row.reached) for row in marks)
    scale = _logarithmic(_ENDS, layout.track)
    parts: list[str] = []
    y = 30.0
    parts.append(_text(_PAD, y, "Ratios against their targets", "title"))
    said = (
        f"{reached} of {len(marks)} reached. How much of its target each figure uses: 1 is the target, left is better."
    )
    for line in textwrap.wrap(said, int((layout.width - 2 * _PAD) / _SMALL)):
        y += 18
        parts.append(_text(_PAD, y, line, "soft"))
    y += 24
    parts.append(_legend(_PAD, y))
    ticks = [_text(scale(tick), y + 20, f"{tick:g}", "soft middle") for tick in (*_GRID, 1)]
    y += 24 if layout.stacked else 0
    parts += ticks if layout.stacked else []
    top = y + 14
    y = top
    for heading, group in groups:
        y += 32
        parts.append(_text(_PAD, y, heading, "heading"))
        if not layout.stacked:
            parts += [_text(scale(tick), y, f"{tick:g}", "soft middle") for tick in (*_GRID, 1)]
        y += 6
        for case in group:
            drawn, height = _case(case, y, scale, layout)
            parts.append(drawn)
            y += height
    bottom = y + 8
    grid: list[str] = []
    if not layout.stacked:
        grid = [_line(scale(t), top + 24, scale(t), bottom, "var(--line)") for t in _GRID]
        grid.append(_line(scale(1), top + 24, scale(1), bottom, "var(--soft)", 1.5))
    return _picture(layout.width, bottom + 12, "Ratios against their targets", [*grid, *parts])


def _case(case: Case, y: float, scale: Callable[[float], float], layout: Layout) -> tuple[str, float]:
    """One case: its name, what it is held against, its marks, and the figure of the worst of them."""
    names = textwrap.wrap(_plain(case.name), int(layout.label / _LETTER)) or [""]
    beside = textwrap.shorten(f"to {_plain(case.baseline)}", int(layout.label / _SMALL), placeholder=" …")
    lines = [escape(name) for name in names]
    if len(names) == 1 and _LETTER * len(names[0]) + 8 + _SMALL * len(beside) < layout.label:
        lines[0] += f'<tspan class="soft" dx="8">{escape(beside)}</tspan>'
    else:
        lines.append(f'<tspan class="soft">{escape(beside)}</tspan>')
    parts = [f'<text x="{_PAD}" y="{y + 15 * (n + 1):.1f}">{line}</text>\n' for n, line in enumerate(lines)]
    text = 15.0 * len(lines)
    middle = y + text + 14 if layout.stacked else y + text / 2 + 4
    if layout.stacked:
        parts.append(_line(*_ended(layout.track, middle), "var(--line)"))
        parts.append(_line(scale(1), middle - 6, scale(1), middle + 6, "var(--soft)", 1.5))
    worst, row = max(case.marks, key=lambda mark: share(mark[1]))
    ends = [*(scale(share(row)) for _, row in case.marks), scale(1)]
    colour, kind = ("var(--good)", "soft") if row.reached else ("var(--bad)", "bad")
    parts.append(_line(*_ended((min(ends), max(ends)), middle), colour))
    parts += [_mark(scale(share(row)), middle, variant, good=bool(row.reached)) for variant, row in case.marks]
    which = f"{worst} " if len(case.marks) > 1 else ""
    parts.append(_text(layout.width - _PAD, middle + 4, which + figure(row), f"end {kind}"))
    return "".join(parts), text + (26 if layout.stacked else 7)


def _ended(ends: tuple[float, float], y: float) -> tuple[float, float, float, float]:
    return ends[0], y, ends[1], y


def figure(row: Row) -> str:
    """The ratio and, in brackets, its target, with as many digits as it takes to tell them apart."""
    sign = "≥" if row.at_least else "≤"
    for digits in (2, 3, 4):
        ratio, target = (f"{_rounded(value, digits):g}" for value in (row.ratio or 0.0, row.target or 0.0))
        if ratio != target:
            break
    return f"{ratio} ({sign} {target})"


def _rounded(value: float, digits: int) -> float:
    """So many digits, but never fewer than a whole number has."""
    return float(round(value)) if abs(value) >= 10 ** (digits - 1) else float(f"{value:.{digits}g}")


def _legend(x: float, y: float) -> str:
    parts = []
    for name, good in (("reached", True), ("missed", False)):
        parts += [_mark(x + 5, y - 4, "", good=good), _text(x + 15, y, name, "soft")]
        x += 74
    for variant in VARIANTS:
        parts += [_mark(x + 5, y - 4, variant, good=True), _text(x + 15, y, variant, "soft")]
        x += 34 + _SMALL * len(variant)
    return "".join(parts)


def _mark(x: float, y: float, variant: str, *, good: bool) -> str:
    """Filled where the target was reached, a ring where it was not, so that colour is not all that tells."""
    look = 'fill="var(--good)"' if good else 'fill="var(--page)" stroke="var(--bad)" stroke-width="2"'
    match VARIANTS.get(variant, "circle"):
        case "square":
            return f'<rect x="{x - 4:.1f}" y="{y - 4:.1f}" width="8" height="8" {look}/>'
        case "diamond":
            return f'<path d="M{x:.1f} {y - 5.5:.1f}l5.5 5.5l-5.5 5.5l-5.5 -5.5z" {look}/>'
        case _:
            return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4.5" {look}/>'


# Growth ------------------------------------------------------------------------------------------


@frozen
class Panel:
    """One small multiple: the curves of a case, ours first, each with its slope."""

    name: str
    unit: str
    lines: tuple[tuple[str, bool, tuple[tuple[float, float], ...], float], ...]


def panels(rows: Iterable[Row]) -> list[tuple[str, list[Panel]]]:
    """The curves by what grows; the backends of one case share a panel, and so do their baselines."""
    found: dict[str, dict[tuple[str, str], dict[str, tuple[str, bool, tuple[Any, ...], float]]]] = {}
    for row in rows:
        if "curve" not in row.extra:
            continue
        curve: Mapping[str, Any] = row.extra["curve"]  # type: ignore[assignment]  # it is made by `measure.growth`
        slopes: Mapping[str, float] = row.extra["slope"]  # type: ignore[assignment]  # the same
        stem, variant = _parted(row.case)
        lines = found.setdefault(curve["unit"], {}).setdefault((row.area, stem), {})
        for name, points in curve["lines"].items():
            ours = name == "arboretum"
            shown = (variant or name) if ours else name
            lines[shown] = (shown, ours, tuple(tuple(point) for point in points), slopes[name])
    return [
        (unit, [Panel(stem, unit, tuple(sorted(lines.values(), key=lambda line: not line[1])))
                for (_, stem), lines in cases.items()])
        for unit, cases in found.items()
    ]  # fmt: skip


def _growth(rows: Sequence[Row], layout: Layout) -> str:
    groups = panels(rows)
    parts: list[str] = []
    y = 30.0
    parts.append(_text(_PAD, y, "How it grows", "title"))
    said = (
        "Seconds over size, both logarithmic. Numbers: the slope at the large end; 0 does not grow, 1 is in "
        "proportion. Dashed and dotted: what it is held against."
    )
    for line in textwrap.wrap(said, int((layout.width - 2 * _PAD) / _SMALL)):
        y += 18
        parts.append(_text(_PAD, y, line, "soft"))
    gap = 22
    across = (layout.width - 2 * _PAD - gap * (layout.across - 1)) / layout.across
    y += 4
    flow = [("" if number else f"over {unit}", panel) for unit, group in groups for number, panel in enumerate(group)]
    for first in range(0, len(flow), layout.across):
        tallest = 0.0
        for number, (heading, panel) in enumerate(flow[first : first + layout.across]):
            x = _PAD + number * (across + gap)
            parts.append(_text(x, y + 24, heading, "heading"))
            drawn, height = _panel(panel, x, y + 30, across)
            parts.append(drawn)
            tallest = max(tallest, height + 30)
        y += tallest + 6
    return _picture(layout.width, y + 8, "How it grows", parts)


def _panel(panel: Panel, x: float, y: float, width: float) -> tuple[str, float]:
    parts = []
    title = textwrap.wrap(_plain(panel.name), int(width / _LETTER))[:3]
    for number, line in enumerate(title):
        parts.append(_text(x, y + 14 + 14 * number, line))
    top, height, left = y + 14 * len(title) + 10, 92.0, x + 34
    xs = [point[0] for line in panel.lines for point in line[2]]
    ys = [point[1] for line in panel.lines for point in line[2]]
    across = _logarithmic((min(xs), max(xs)), (left, x + width - 4))
    low, high = _decades(ys)
    up = _logarithmic((low, high), (top + height, top))
    step = max(1, round(math.log10(high / low) / 4))
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1, step):
        value = 10.0**power
        parts.append(_line(left, up(value), x + width, up(value), "var(--line)"))
        parts.append(_text(left - 5, up(value) + 4, _seconds(value), "soft end"))
    for value, anchor in ((min(xs), ""), (max(xs), " end")):
        parts.append(_text(across(value) + (4 if anchor else -4), top + height + 15, f"{value:,.0f}", "soft" + anchor))
    colours, dashes = iter(_COLOURS), iter(("3 3", "1 3"))
    under = top + height + 31
    for name, ours, points, slope in panel.lines:
        colour = next(colours, "var(--ink)") if ours else "var(--soft)"
        dash = "" if ours else f' stroke-dasharray="{next(dashes, "6 2")}"'
        path = "L".join(f"{across(size):.1f} {up(seconds):.1f}" for size, seconds in points)
        parts.append(f'<path d="M{path}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        if ours:
            parts += [
                f'<circle cx="{across(size):.1f}" cy="{up(seconds):.1f}" r="2.4" fill="{colour}"/>'
                for size, seconds in points
            ]
        parts.append(f'<path d="M{x:.1f} {under - 4:.1f}h14" stroke="{colour}" stroke-width="1.8"{dash}/>')
        label = textwrap.shorten(name, int((width - 50) / _SMALL), placeholder=" …")
        parts.append(_text(x + 19, under, label, "soft"))
        parts.append(_text(x + width, under, f"{slope:.2f}".replace("-0.00", "0.00"), "soft end"))
        under += 15
    return "".join(parts), under - y


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """The powers of ten around the values, at least two of them apart."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    while high - low < 2:
        low, high = low - (high - low), high + 1
    return 10.0**low, 10.0**high


def _seconds(value: float) -> str:
    for factor, unit in ((1, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns")):
        if value >= factor * 0.99:
            return f"{value / factor:.0f} {unit}"
    return f"{value:.0e}"


# SVG ---------------------------------------------------------------------------------------------


def _logarithmic(domain: tuple[float, float], image: tuple[float, float]) -> Callable[[float], float]:
    """Where a value stands; what lies outside of the domain stands at its end."""
    low, high = math.log(domain[0]), math.log(max(domain[1], domain[0] * 1.0001))

    def place(value: float) -> float:
        part = (min(max(math.log(max(value, 1e-12)), low), high) - low) / (high - low)
        return image[0] + part * (image[1] - image[0])

    return place


def _text(x: float, y: float, text: str, kind: str = "") -> str:
    look = f' class="{kind}"' if kind else ""
    return f'<text x="{x:.1f}" y="{y:.1f}"{look}>{escape(text)}</text>\n'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    place = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {place} stroke="{colour}" stroke-width="{width:g}"/>'


def _plain(text: str) -> str:
    return text.replace("`", "")


def _picture(width: float, height: float, title: str, parts: Iterable[str]) -> str:
    return "".join(_whole(width, height, title, parts))


def _whole(width: float, height: float, title: str, parts: Iterable[str]) -> Iterator[str]:
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:.0f}" width="{width:g}" '
    yield f'height="{height:.0f}" role="img" aria-label="{escape(title)}">\n<title>{escape(title)}</title>\n'
    yield f"<style>{_STYLE}</style>\n"
    yield f'<rect width="{width:g}" height="{height:.0f}" rx="8" fill="var(--page)"/>\n'
    yield from parts
    yield "</svg>\n"
