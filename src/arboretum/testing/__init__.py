"""For tests: conformance checks, strategies, builders, a scripted runner, a pytest plugin.

- `BackendMaker` and `conformance`: prove a backend of your own; no test framework needed.
- `check_against_model`: random programs on a backend and on the in-memory one (needs hypothesis).
- `strategies`: file trees, histories, ref names, contents for Hypothesis.
- `RepositoryBuilder`: real repositories in a hermetic environment.
- `ScriptedRunner`, `RecordingRunner`, `replayed`: commands that are not run.
- ``pytest_plugins = ["arboretum.testing.plugin"]``: ``repo``, ``fake_repo`` and ``backend`` as fixtures.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from arboretum.testing.builders import CommitSpec, RepositoryBuilder, hermetic_environment
from arboretum.testing.maker import BackendMaker, Bench, MemoryFactory
from arboretum.testing.observation import observe
from arboretum.testing.scripted import RecordingRunner, ScriptedRunner, answer, replayed

if TYPE_CHECKING:
    from arboretum.testing import conformance as conformance
    from arboretum.testing import strategies as strategies
    from arboretum.testing.machine import check_against_model as check_against_model
    from arboretum.testing.machine import state_machine as state_machine

#: Loaded when they are asked for: they need hypothesis, or take a moment.
_LATE = {
    "check_against_model": "arboretum.testing.machine",
    "conformance": "arboretum.testing.conformance",
    "state_machine": "arboretum.testing.machine",
    "strategies": "arboretum.testing.strategies",
}


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module 'arboretum.testing' has no attribute {name!r}")
    module = importlib.import_module(_LATE[name])
    return module if _LATE[name].endswith(f".{name}") else getattr(module, name)


__all__ = [
    "BackendMaker", "Bench", "CommitSpec", "MemoryFactory", "RecordingRunner", "RepositoryBuilder", "ScriptedRunner",
    "answer", "check_against_model", "conformance", "hermetic_environment", "observe", "replayed", "state_machine",
    "strategies",
]  # fmt: skip
