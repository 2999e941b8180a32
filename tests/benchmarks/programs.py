"""Programs that arboretum is held against: GNU parallel and jj, from the machine or from Debian's packages.

What is not on the PATH is downloaded as packages and unpacked in the user's cache folder: nothing is installed in the
system, and no right beyond the user's own is needed. Programs that are new need a new C library; they get the one of
their own release, through its own loader.
"""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from attrs import frozen

#: The release that packages are taken from: jj is in no older one.
_RELEASE: Final = "sid"
_MACHINE: Final = f"{platform.machine()}-linux-gnu"
_LOADERS: Final = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}


@frozen
class Program:
    """A program to be had.

    Args:
        name: Its command.
        package: The Debian package that holds it.
        compiled: Whether it needs its libraries beside it; else it is a Perl script.
    """

    name: str
    package: str
    compiled: bool


PROGRAMS: Final = (Program("parallel", "parallel", compiled=False), Program("jj", "jujutsu", compiled=True))


def provide(cache: Path, programs: Iterable[Program] = PROGRAMS) -> dict[str, str]:
    """Let the programs be found on the PATH of this process from now on.

    Args:
        cache: Where packages are unpacked; kept for the next run.
        programs: Which ones.

    Returns:
        Why each one that could not be had is left out.
    """
    commands = cache / "bin"
    os.environ["PATH"] = os.pathsep.join([os.environ.get("PATH", os.defpath), str(commands)])
    missing: dict[str, str] = {}
    for program in programs:
        if shutil.which(program.name) is None:
            try:
                _unpack(program, cache)
            except (OSError, subprocess.CalledProcessError) as error:
                missing[program.name] = _reason(error)
    shutil.rmtree(cache / "apt", ignore_errors=True)
    return missing


def _reason(error: OSError | subprocess.CalledProcessError) -> str:
    said = (error.stderr or "").strip().splitlines() if isinstance(error, subprocess.CalledProcessError) else []
    return said[-1] if said else str(error)


def _unpack(program: Program, cache: Path) -> None:
    """Fetch its package and those that it depends on, and write a command that starts it from where they lie."""
    root = cache / program.package
    shutil.rmtree(root, ignore_errors=True)
    apt = _private_apt(cache / "apt")
    names = [program.package]
    if program.compiled:
        no = ("recommends", "suggests", "conflicts", "breaks", "replaces", "enhances")
        tree = _said(["apt-cache", *apt, "depends", "--recurse", *(f"--no-{n}" for n in no), program.package])
        names = sorted({line for line in tree.splitlines() if line[:1].isalnum()})
    root.mkdir(parents=True)
    _said(["apt-get", *apt, "download", *names], cwd=root)
    for package in root.glob("*.deb"):
        _said(["dpkg-deb", "-x", str(package), str(root)])
        package.unlink()
    start = [str(root / "usr/bin" / program.name)]
    if program.compiled:
        libraries = root / "usr/lib" / _MACHINE
        loader = libraries / _LOADERS.get(platform.machine(), "ld.so")
        start = [str(loader), "--library-path", str(libraries), *start]
    _write_command(cache / "bin" / program.name, start if program.compiled else ["perl", *start])


def _private_apt(state: Path) -> list[str]:
    """Options that let apt look at that release alone, with lists of its own, where the system's packages come from."""
    places = _said(["apt-get", "indextargets", "--format", "$(ORIGIN) $(REPO_URI)", "Created-By: Packages"])
    mirrors = [line.split()[1] for line in places.splitlines() if line.startswith("Debian ")]
    if not mirrors:
        raise OSError("no source of Debian packages is set up")
    (state / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "archives" / "partial").mkdir(parents=True, exist_ok=True)
    (state / "status").touch()
    key = "/usr/share/keyrings/debian-archive-keyring.gpg"
    (state / "sources.list").write_text(f"deb [signed-by={key}] {mirrors[0]} {_RELEASE} main\n")
    settings = {
        "Dir::Etc::SourceList": state / "sources.list",
        "Dir::Etc::SourceParts": "-",
        "Dir::State": state,
        "Dir::State::Status": state / "status",
        "Dir::Cache": state,
        "APT::Sandbox::User": "",
        "Debug::NoLocking": "true",
    }
    apt = [part for name, value in settings.items() for part in ("-o", f"{name}={value}")]
    _said(["apt-get", *apt, "update"])
    return apt


def _said(command: Sequence[str], cwd: Path | None = None) -> str:
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout


def _write_command(path: Path, start: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nexec {shlex.join(start)} "$@"\n')
    path.chmod(0o755)
