"""The tables in the documentation of the backends are what the code says."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arboretum.backends import matrix
from arboretum.backends.base import Capability, GitBackend
from arboretum.backends.memory import MemoryBackend
from arboretum.bootstrap import backend_factory
from tests.backends.oracle import ADAPTERS, opened

PAGE = Path(__file__).parents[2] / "docs/reference/backends.md"
NAMES = (*ADAPTERS, "memory")


def tables(real, folder: Path) -> dict[str, str]:
    classes = {name: backend_factory(name) for name in NAMES}
    backends: dict[str, GitBackend] = {name: opened(name, real.path) for name in ADAPTERS}
    backends["memory"] = MemoryBackend.init(str(folder / "memory"))
    return {"operations": matrix.operation_table(classes), "features": matrix.capability_table(backends)}


def test_the_tables_of_the_backends_are_those_of_the_code(real, tmp_path):
    """The page has the tables that the code makes; ``WRITE_DOCS=1`` writes them."""
    text = PAGE.read_text(encoding="utf-8")
    wanted = text
    for name, table in tables(real, tmp_path).items():
        begin, end = f"<!--- {name}: begin -->\n", f"<!--- {name}: end -->"
        head, _, rest = wanted.partition(begin)
        wanted = f"{head}{begin}{table}{end}{rest.partition(end)[2]}"
    if os.environ.get("WRITE_DOCS"):
        PAGE.write_text(wanted, encoding="utf-8")
    assert text == wanted


def test_no_backend_lacks_an_operation(real, tmp_path):
    """Every operation of the port is there on every backend: what differs between them is which formats they know."""
    assert "| no |" not in tables(real, tmp_path)["operations"]


@pytest.mark.parametrize("capability", Capability)
def test_every_capability_has_its_row(capability, real, tmp_path):
    """Each capability is explained in the table of features."""
    assert matrix._MEANING[capability] in tables(real, tmp_path)["features"]
