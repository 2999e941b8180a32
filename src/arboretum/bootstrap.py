"""The composition root: a backend by name or instance, the runner, the observers.

The backend is chosen once. A name is looked up among the built-in ones and then in the entry points of the group
``arboretum.backends``, so that a third party's backend is found like ours. Nothing ever falls back to another one.
"""

from __future__ import annotations

import difflib
import importlib
from typing import TYPE_CHECKING, Final, cast

from arboretum.errors import UsageError

if TYPE_CHECKING:
    from arboretum.backends.base import BackendFactory
    from arboretum.process.model import CommandRunner

#: The entry point group in which a third party's backend is registered.
BACKEND_GROUP: Final = "arboretum.backends"
DEFAULT_BACKEND: Final = "cli"
# Looked up without reading the metadata of every installed distribution, which takes longer than opening a repository.
_BUILT_IN: Final = {
    "cli": "arboretum.backends.cli:CliBackend",
    "gitpython": "arboretum.backends.gitpython:GitPythonBackend",
    "pygit2": "arboretum.backends.libgit2:Pygit2Backend",
    "memory": "arboretum.backends.memory:MemoryBackend",
}


def backend_names() -> tuple[str, ...]:
    """The names that `backend_factory` knows: the built-in ones and those of installed third parties."""
    from importlib.metadata import entry_points  # late: it takes longer to import than this package

    return tuple(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=BACKEND_GROUP))}))


def backend_factory(name: str) -> BackendFactory:
    """The class of the backend with this name.

    Raises:
        UsageError: No backend has the name, or its library is not installed.
    """
    try:
        if name in _BUILT_IN:
            module, _, attribute = _BUILT_IN[name].partition(":")
            return cast("BackendFactory", getattr(importlib.import_module(module), attribute))
        from importlib.metadata import entry_points

        for point in entry_points(group=BACKEND_GROUP, name=name):
            return cast("BackendFactory", point.load())
    except ImportError as error:
        raise UsageError(f"the backend {name!r} cannot be loaded: {error}", hint="install its library") from error
    known = backend_names()
    near = difflib.get_close_matches(name, known, n=1)
    raise UsageError(
        f"there is no backend {name!r}",
        hint=(f"did you mean {near[0]!r}? " if near else "") + f"known backends: {', '.join(known)}",
    )


def default_runner() -> CommandRunner:
    """The runner that starts real processes."""
    from arboretum.process import SubprocessRunner

    return SubprocessRunner()
