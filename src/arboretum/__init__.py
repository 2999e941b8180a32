"""Arboretum: git worktrees as objects, hypotheses tested in parallel, tasks orchestrated without conflict.

The public names below are resolved when they are first used, so that ``import arboretum`` imports
no git library, no terminal library and no database.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from arboretum.engine.bisect import run_bisect as run_bisect
    from arboretum.engine.each import run_each as run_each
    from arboretum.engine.executor_faces import AsyncTestExecutor as AsyncTestExecutor
    from arboretum.engine.executor_faces import TestExecutor as TestExecutor
    from arboretum.engine.model import CommandSpec as CommandSpec
    from arboretum.engine.model import Hypothesis as Hypothesis
    from arboretum.engine.model import Plan as Plan
    from arboretum.engine.orchestrator import WorktreeOrchestrator as WorktreeOrchestrator
    from arboretum.engine.plan_file import load_plan as load_plan
    from arboretum.engine.run import run_plan as run_plan
    from arboretum.errors import ArboretumError as ArboretumError
    from arboretum.errors import GitOperationError as GitOperationError
    from arboretum.process import CommandRequest as CommandRequest
    from arboretum.process import CommandResult as CommandResult
    from arboretum.repository import Repository as Repository
    from arboretum.worktree import Worktree as Worktree

_PUBLIC = {
    "run_bisect": "arboretum.engine.bisect",
    "run_each": "arboretum.engine.each",
    "AsyncTestExecutor": "arboretum.engine.executor_faces",
    "TestExecutor": "arboretum.engine.executor_faces",
    "CommandSpec": "arboretum.engine.model",
    "Hypothesis": "arboretum.engine.model",
    "Plan": "arboretum.engine.model",
    "WorktreeOrchestrator": "arboretum.engine.orchestrator",
    "load_plan": "arboretum.engine.plan_file",
    "run_plan": "arboretum.engine.run",
    "ArboretumError": "arboretum.errors",
    "GitOperationError": "arboretum.errors",
    "CommandRequest": "arboretum.process",
    "CommandResult": "arboretum.process",
    "Repository": "arboretum.repository",
    "Worktree": "arboretum.worktree",
}

__all__ = ["__version__", *_PUBLIC]  # noqa: PLE0604  (the names are strings; ruff cannot see through the star)

logging.getLogger("arboretum").addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    try:
        module = _PUBLIC[name]
    except KeyError:
        raise AttributeError(f"module 'arboretum' has no attribute {name!r}") from None
    return getattr(importlib.import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
