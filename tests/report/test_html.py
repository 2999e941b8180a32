"""The HTML report: one file, safe against what it shows, and working in a real browser."""

from __future__ import annotations

import html.parser
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from arboretum.engine.result import RunResult
from arboretum.report import Exhibits, ReportFormat, render_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (.ci/run installs one where it may)")


class _Reader(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture
def page(result: RunResult, exhibits: Exhibits) -> str:
    return render_report(result, ReportFormat.HTML, exhibits=exhibits)


def test_the_page_needs_no_network(page: str) -> None:
    """No tag of the page loads anything from elsewhere, and its policy forbids it."""
    reader = _Reader()
    reader.feed(page)
    assert not [tag for tag, attrs in reader.tags if attrs.get("src") or tag in {"link", "iframe", "img", "object"}]
    assert all((attrs.get("href") or "#").startswith("#") for tag, attrs in reader.tags if tag == "a")
    assert "default-src 'none'" in page


def test_hostile_text_stays_text(page: str) -> None:
    """A title, description or output with mark-up in it adds no tag to the page."""
    reader = _Reader()
    reader.feed(page)
    assert [tag for tag, _ in reader.tags].count("script") == 1
    assert "alert(1)" in page


def browse(page: str, folder: Path, script: str = "") -> str:
    """The page's DOM after a real browser has run its script, and then `script`."""
    assert CHROMIUM
    path = folder / "report.html"
    path.write_text(page.replace("</body>", f"<script>{script}</script></body>"), encoding="utf-8")
    done = subprocess.run(
        [
            CHROMIUM,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            f"--user-data-dir={folder / 'profile'}",
            "--virtual-time-budget=2000",
            "--dump-dom",
            path.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=True,
        env={**os.environ, "HOME": str(folder)},
    )
    return done.stdout.decode("utf-8", "replace")


@pytest.mark.slow
@needs_browser
def test_search_works_in_a_real_browser(page: str, tmp_path: Path) -> None:
    """Typing in the search field marks the hits, hides what has none and opens what has some."""
    script = """
      const field = document.getElementById('search');
      field.value = 'NEEDLE';
      field.dispatchEvent(new Event('input'));
      document.body.dataset.marks = document.querySelectorAll('#control mark').length;
      document.body.dataset.hits = document.getElementById('hits').textContent;
      document.body.dataset.open = document.getElementById('control').open;
      document.body.dataset.overflow = document.documentElement.scrollWidth > innerWidth;
    """
    dom = browse(page, tmp_path, script)
    assert 'data-marks="1"' in dom
    # The control stands in its own exhibit and beside each of the five hypotheses.
    assert 'data-hits="6 found"' in dom
    assert 'data-open="true"' in dom
    assert 'data-overflow="false"' in dom


@pytest.mark.slow
@needs_browser
def test_the_browser_shows_every_verdict(page: str, tmp_path: Path, result: RunResult) -> None:
    """Each hypothesis has a row with its verdict, and nothing of its text was run as a script."""
    script = (
        "document.body.dataset.rows = [...document.querySelectorAll('tbody tr .pill')].map(p => p.className).join()"
    )
    dom = browse(page, tmp_path, script)
    assert f'data-rows="{",".join("pill " + j.verdict for j in result.judgements)}"' in dom
