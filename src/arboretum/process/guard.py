"""The guard: a process that ends what a runner has left when the runner itself was killed with -9.

It is a shell that waits for a line on a pipe, about 1 MB and a millisecond to start. The runner writes the
line when it ends in good order; when the pipe just closes, the shell becomes `sweep`, which finds every
process with the runner's tag. So it costs nothing per command, and it has a session of its own: what hits
the runner's group does not hit it. (The parent-death signal would spare grandchildren, and strike
when the thread that spawned a child ends.)
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import subprocess
import sys
from typing import Final, Self

from attrs import define, field

from arboretum.process import sweep

_log = logging.getLogger(__name__)
_SCRIPT: Final = 'read -r _ && exit 0; exec "$@"'
_STOP_TIMEOUT: Final = 5.0  # seconds


@define(eq=False)
class Guard:
    """A running guard process; `Guard.start` makes one."""

    _process: subprocess.Popen[bytes] | None = field(default=None)
    _pipe: int = field(default=-1)

    @classmethod
    def start(cls, token: str) -> Self | None:
        """Start a guard for the commands whose tags begin with `token`; None, and a warning, where that fails.

        It is stopped when the interpreter ends.
        """
        # Without /proc the sweep needs psutil, so site-packages have to be found.
        python = [sys.executable, "-I", *(["-S"] if os.path.isdir("/proc/self") else [])]
        try:
            reading, writing = os.pipe()
        except OSError as error:
            return cls._unguarded(error)
        try:
            process = subprocess.Popen(
                ["/bin/sh", "-c", _SCRIPT, "arboretum-guard", *python, sweep.__file__, token],
                stdin=reading,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                start_new_session=True,
            )
        except OSError as error:
            os.close(writing)
            return cls._unguarded(error)
        finally:
            os.close(reading)
        guard = cls(process, writing)
        atexit.register(guard.stop)
        return guard

    @staticmethod
    def _unguarded(error: OSError) -> None:
        _log.warning("no guard process could be started (%s): if this process is killed, commands may stay", error)

    @property
    def pid(self) -> int | None:
        """The guard's process id; None when there is none."""
        return None if self._process is None else self._process.pid

    def stop(self) -> None:
        """Send the guard home: nothing is left that it would have to end."""
        process, self._process = self._process, None
        if process is not None:
            with contextlib.suppress(OSError):  # it was killed: then there is nobody to tell
                os.write(self._pipe, b"\n")
            os.close(self._pipe)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_TIMEOUT)

    def abandon(self) -> None:
        """Forget the guard: in the child of a fork, where it is the parent's."""
        process, self._process = self._process, None
        if process is not None:
            atexit.unregister(self.stop)
            os.close(self._pipe)
            process.returncode = 0  # not this process's child: nobody here is to wait for it
