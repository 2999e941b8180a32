"""The command: options in, exit codes out. `render` is the only printer."""

from __future__ import annotations

import sys


def main() -> None:
    """Run ``arboretum`` with the arguments of this process, and exit with its exit code."""
    if sys.argv[1:] == ["--version"]:  # answered without a parser: scripts ask for it often
        from arboretum import __version__

        sys.stdout.write(f"arboretum {__version__}\n")
        sys.exit(0)
    import signal

    from arboretum.cli.signals import suspend_commands_too, take_signals_as_interrupts

    try:
        take_signals_as_interrupts()
        suspend_commands_too()
        from arboretum.cli.app import run

        code = run(sys.argv[1:])
    except KeyboardInterrupt:  # while modules were imported: nothing had been begun
        code = 130
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):  # all is done: the code is not to be lost any more
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)
