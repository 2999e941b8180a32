"""The table of operations and backends tells the truth, and the page is made of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from arboretum.testing import BackendMaker
from arboretum.testing.conformance import CHECKS
from arboretum.testing.support import BACKENDS, GAPS, SINCE, declared, operations, page
from tests.conformance.makers import make

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "backends.md"


def test_the_page_is_up_to_date() -> None:
    """The committed page is what the code makes (`python -m arboretum.testing.support docs/reference/backends.md`)."""
    assert PAGE.read_text(encoding="utf-8") == page()


def test_every_operation_is_checked() -> None:
    """Each operation of the port has a conformance check, and no check names an operation that is none."""
    known = {name for _, name in operations()}
    named = {name for check in CHECKS for name in check.operations}
    assert known - named == set()
    assert named - known == {"close"}


def test_gaps_are_few_and_name_what_there_is() -> None:
    """There are at most five gaps, each with a reason, about backends and operations that exist."""
    assert len(GAPS) <= 5
    known = {name for _, name in operations()}
    for gap in GAPS:
        assert gap.backend in BACKENDS
        assert set(gap.operations) <= known
        assert gap.reason.endswith(".")


@pytest.mark.parametrize("name", BACKENDS)
def test_backends_answer_as_declared(name: str, tmp_path: Path) -> None:
    """On a plain repository a backend answers what the table says, versions of git apart."""
    maker: BackendMaker = make(name, tmp_path)
    bench = maker.empty()
    able = bench.backend.capabilities()
    assert able - SINCE.keys() == declared()[name] - SINCE.keys()
    assert able <= declared()[name]
