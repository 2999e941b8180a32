"""The kit as a third party uses it: from another project, with another backend, from the built wheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "fixtures" / "worktree-keeper"

BACKEND = """
from arboretum.backends.memory import MemoryBackend


class ShadowBackend(MemoryBackend):
    name = "shadow"
"""
PROOF = """
import sys
from arboretum import Repository
from arboretum.bootstrap import backend_factory, backend_names
from arboretum.testing import BackendMaker, check_against_model, conformance

assert "shadow" in backend_names()
maker = BackendMaker(backend_factory("shadow"), sys.argv[1])
conformance.check_all(maker)
assert "pytest" not in sys.modules
check_against_model(maker, examples=5)
with Repository.init(sys.argv[1] + "/by-name", backend="shadow") as repo:
    assert repo.backend.name == "shadow"
    assert len(repo.worktrees) == 1
"""


def distribution(folder: Path) -> None:
    """An installed distribution with a backend in the entry point group."""
    (folder / "shadow.py").write_text(BACKEND)
    info = folder / "shadow-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shadow\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[arboretum.backends]\nshadow = shadow:ShadowBackend\n")


def run(python: str, *arguments: str, cwd: Path, path: str = "") -> None:
    """Run a Python and expect it to succeed."""
    env = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": ""}
    done = subprocess.run([python, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_example_project_passes_its_tests(tmp_path: Path) -> None:
    """A project that has one line in its conftest.py gets the fixtures, on each backend."""
    shutil.copytree(EXAMPLE, tmp_path / "project")
    run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / "project")


def test_a_backend_of_a_third_party_is_found_by_name_and_proved(tmp_path: Path) -> None:
    """A backend in the entry point group is opened by its name, and the kit proves it without pytest."""
    distribution(tmp_path)
    run(sys.executable, "-W", "error", "-c", PROOF, str(tmp_path), cwd=tmp_path, path=str(tmp_path))


@pytest.mark.slow
def test_the_kit_works_from_the_built_wheel(tmp_path: Path) -> None:
    """The wheel, installed in an environment without this source tree, has all that a third party needs."""
    pytest.importorskip("hatchling", reason="building a wheel without a network needs the build backend")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT), cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False, symlinks=True)
    site = next((tmp_path / "env" / "lib").glob("python*")) / "site-packages"
    zipfile.ZipFile(wheel).extractall(site)
    # The dependencies are those installed here; a plain line of a .pth file does not follow their own .pth files,
    # so that the editable install of this source tree is not seen.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    distribution(site)
    python = str(tmp_path / "env" / "bin" / "python")
    where = "import arboretum, sys; assert arboretum.__file__.startswith(sys.prefix), arboretum.__file__"
    run(python, "-c", where, cwd=tmp_path)
    run(python, "-c", PROOF, str(tmp_path / "proof"), cwd=tmp_path)
    shutil.copytree(EXAMPLE, tmp_path / "project")
    run(python, "-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=tmp_path / "project")
