"""The backends that the conformance suite runs over, by name."""

from __future__ import annotations

from pathlib import Path

from arboretum.backends.memory import MemoryBackend
from arboretum.bootstrap import backend_factory
from arboretum.testing.maker import BackendMaker

#: The four backends; the in-memory one on a disk in memory, and once more on real folders.
BACKENDS = ("cli", "gitpython", "pygit2", "memory", "memory-on-disk")


def make(name: str, folder: Path) -> BackendMaker:
    """A maker for the backend of this name."""
    if name == "memory":
        return BackendMaker.in_memory()
    if name == "memory-on-disk":
        return BackendMaker(MemoryBackend, str(folder))
    return BackendMaker(backend_factory(name), str(folder))
