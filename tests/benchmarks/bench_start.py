"""How long the package takes to be there: ``import arboretum`` and ``arboretum --version`` over bare Python."""

from __future__ import annotations

import subprocess
import sys

from tests.benchmarks.measure import Row, interleave


def _python(code: str) -> None:
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def run(scale: float) -> list[Row]:
    """Milliseconds over bare Python, as medians; the target is in milliseconds too."""
    rounds = max(3, round(25 * scale))
    times = interleave(
        {
            "python": lambda: _python("pass"),
            "import": lambda: _python("import arboretum"),
            "version": lambda: _python("import sys; sys.argv = ['arboretum', '--version']\n"
                                       "from arboretum.cli import main\nmain()"),
        },
        rounds=rounds,
    )  # fmt: skip
    return [
        _over("import arboretum", times["import"], times["python"], target_ms=40),
        _over("arboretum --version", times["version"], times["python"], target_ms=80),
    ]


def _over(case: str, ours: list[float], bare: list[float], *, target_ms: float) -> Row:
    over = sorted(1000 * (a - b) for a, b in zip(ours, bare, strict=True))[len(ours) // 2]
    return Row(
        area="start",
        case=f"{case}: ms over bare Python",
        ours=sorted(ours)[len(ours) // 2],
        baseline="python -c pass",
        theirs=sorted(bare)[len(bare) // 2],
        ratio=round(over, 1),
        target=target_ms,
        note="the figure is a difference in milliseconds, not a ratio",
    )
