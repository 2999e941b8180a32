"""The documentation names what there is, and its links lead somewhere."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from arboretum.engine import plan_file

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_every_key_of_a_plan_is_in_the_reference() -> None:
    """The reference of the plan file has a row for each key that the parser takes, and none for another."""
    text = (ROOT / "docs/reference/plan-file.md").read_text()
    plan, hypothesis = text.split("## `[[hypothesis]]`")
    row = re.compile(r"^\| `(\w+)` \|", re.MULTILINE)
    assert set(row.findall(plan)) == {*plan_file._PLAN, "version", "timeout"}
    assert set(row.findall(hypothesis)) == set(plan_file._HYPOTHESIS)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link of a page names a file or folder that exists."""
    for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", page.read_text()):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("part", ["tutorial", "how-to", "reference", "explanation"])
def test_every_page_is_in_the_index(part: str) -> None:
    """Each page of the documentation can be reached from its first page."""
    linked = set(re.findall(r"\]\(([^)#\s]+)\)", (ROOT / "docs/index.md").read_text()))
    assert {f"{part}/{page.name}" for page in (ROOT / "docs" / part).glob("*.md")} <= linked
