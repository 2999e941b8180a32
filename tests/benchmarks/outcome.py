"""What was measured: kept area by area, shown as a table, written and read as JSON."""

from __future__ import annotations

import importlib.metadata
import json
import platform
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import attrs
from attrs import define, field
from rich.table import Table

from tests.benchmarks.measure import Row

SCHEMA: Final = "arboretum/benchmarks/2"
#: Libraries that arboretum itself needs and is held against.
_LIBRARIES: Final = ("GitPython", "pygit2")


@define
class Outcome:
    """The figures so far.

    Args:
        rows: One for each figure, in the order of their areas.
        areas: Of each area when it was measured, how long that took, at which scale, and what went wrong, if anything.
        versions: What was measured with: programs and libraries.
    """

    rows: list[Row] = field(factory=list)
    areas: dict[str, dict[str, object]] = field(factory=dict)
    versions: dict[str, str] = field(factory=dict)

    @property
    def failed(self) -> list[str]:
        """The areas that ended with an error."""
        return [name for name, area in self.areas.items() if "error" in area]

    def took(self, area: str, seconds: float, scale: float, error: str | None = None) -> None:
        """Note that an area is done, or how it ended."""
        made = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        self.areas[area] = {"made": made, "seconds": round(seconds, 1), "scale": scale}
        if error is not None:
            self.areas[area]["error"] = error

    def joined(self, older: Self) -> Outcome:
        """These figures, and an older outcome's in the areas that are not here, or that failed here; sorted by area."""
        kept = {area for area in older.areas if "error" in self.areas.get(area, {"error": "not measured"})}
        rows = [row for row in self.rows if row.area not in kept] + [row for row in older.rows if row.area in kept]
        areas = {name: older.areas[name] if name in kept else self.areas[name] for name in older.areas | self.areas}
        return Outcome(
            sorted(rows, key=lambda row: row.area), dict(sorted(areas.items())), older.versions | self.versions
        )

    def document(self) -> dict[str, object]:
        """The figures as plain data, with what is needed to judge them."""
        return {
            "schema": SCHEMA,
            "system": f"{platform.system()} {platform.machine()}",
            "versions": self.versions,
            "areas": self.areas,
            "rows": [attrs.asdict(row) | {"reached": row.reached} for row in self.rows],
        }

    def write(self, path: Path) -> None:
        """Put the document there, whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        half = path.with_suffix(".half")
        half.write_text(json.dumps(self.document(), indent=1, default=str, ensure_ascii=False) + "\n", encoding="utf-8")
        half.replace(path)

    @classmethod
    def read(cls, path: Path) -> Self:
        """What `write` has written."""
        document: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        rows = [Row(**{name: value for name, value in row.items() if name != "reached"}) for row in document["rows"]]
        return cls(rows, dict(document["areas"]), dict(document["versions"]))


def versions(peers: Mapping[str, str]) -> dict[str, str]:
    """Of Python, git, the libraries and the peers."""
    git = subprocess.run(["git", "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    libraries = {name: importlib.metadata.version(name) for name in _LIBRARIES}
    return {"Python": platform.python_version(), "git": git, **libraries, **peers}


def version_of(program: str) -> str:
    """The first line that it says about itself."""
    path = shutil.which(program) or program
    said = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    return (said.splitlines() or [""])[0].strip()


def table(rows: list[Row]) -> Table:
    """The figures as a table for people."""
    shown = Table(title="arboretum, side by side (medians; ratio of ours to the baseline)")
    for name in ("area", "case", "ours s", "baseline", "its s", "ratio", "target", ""):
        shown.add_column(name, justify="right" if name in {"ours s", "its s", "ratio", "target"} else "left")
    for row in rows:
        sign = "≥" if row.at_least else "≤"
        shown.add_row(
            row.area, row.case, _number(row.ours), row.baseline, _number(row.theirs), _number(row.ratio),
            f"{sign} {row.target:.3g}" if row.target is not None else "",
            {True: "reached", False: "MISSED", None: ""}[row.reached] + (f" ({row.note})" if row.note else ""),
        )  # fmt: skip
    return shown


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
