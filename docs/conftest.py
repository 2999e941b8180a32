"""The Python examples of the documentation are run as tests, each page from top to bottom, by Sybil.

Each page starts in the root of a small repository of its own (branches ``main`` and ``feature``, two commits),
with a HOME of its own. An example says what holds by ``assert``. One that cannot be run is preceded by
``<!--- skip: next -->``.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from typing import Any

from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from arboretum.testing.builders import hermetic_environment

_PRIVATE = "_docs_state"


def _enter(namespace: dict[str, Any]) -> None:
    import subprocess

    folder = tempfile.mkdtemp(prefix="arboretum-docs-")
    root = logging.getLogger()
    namespace[_PRIVATE] = (folder, os.getcwd(), dict(os.environ), list(root.handlers), root.level)
    os.environ.update(hermetic_environment(f"{folder}/home"))
    os.makedirs(f"{folder}/home")
    os.makedirs(f"{folder}/project")
    os.chdir(f"{folder}/project")

    def git(*arguments: str) -> None:
        subprocess.run(["git", *arguments], check=True, capture_output=True)

    git("init", "-q", "-b", "main")
    for number in ("one", "two"):
        with open("parser.py", "a", encoding="utf-8") as file:
            file.write(f"# {number}\n")
        git("add", ".")
        git("commit", "-qm", number)
        if number == "one":
            git("branch", "feature")


def _leave(namespace: dict[str, Any]) -> None:
    folder, before, environ, handlers, level = namespace[_PRIVATE]
    os.chdir(before)
    os.environ.clear()
    os.environ.update(environ)
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if handler not in handlers]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)
    shutil.rmtree(folder)


pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(), SkipParser()],
    patterns=["**/*.md", "*.md"],
    setup=_enter,
    teardown=_leave,
).pytest()
