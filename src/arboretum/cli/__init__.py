"""The command: options in, exit codes out. `render` is the only printer."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``arboretum`` with the arguments of this process, and exit with its exit code."""
    if sys.argv[1:] == ["--version"]:  # answered without a parser: scripts ask for it often
        from arboretum import __version__

        sys.stdout.write(f"arboretum {__version__}\n")
        sys.exit(0)
    from arboretum.cli.app import run

    sys.exit(run(sys.argv[1:]))
