"""Whole runs, with real git and real processes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from arboretum.orchestration.board import Board
from arboretum.orchestration.orchestrator import Orchestrator, read_board
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.task_file import load_tasks
from arboretum.repository import Repository
from tests.orchestration import twelve


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARBORETUM_CACHE_DIR", str(tmp_path / "cache"))


def orchestrate(repository: Repository, plan: Any, *, slots: int = 4, **options: Any) -> Board:
    return asyncio.run(Orchestrator.start(repository, plan, Limits(slots=slots), **options).run())


def test_twelve_tasks_come_to_the_right_ends(tmp_path: Path) -> None:
    """Diamond, overlap, scope breach, semantic clash, conflict, retries, hang: each to its end, nothing lost."""
    builder = twelve.build(tmp_path / "repo")
    repository = Repository.open(builder.path)
    board = orchestrate(repository, load_tasks(twelve.TASKS))
    assert board.status == "done"
    twelve.check_end(builder, repository, board)
    assert twelve.no_process_in(tmp_path / "cache") == []
    again = read_board(repository, board.run)
    assert (again.records, again.tip, again.merged) == (board.records, board.tip, board.merged)
