"""Removals whose end goes on behind: the worktree is out of sight, its work is being kept and its space given back."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from attrs import define, field

from arboretum.errors import GitOperationError
from arboretum.salvage import Salvage
from arboretum.values import RefName

if TYPE_CHECKING:
    from arboretum.repository import Repository

#: To delete is to wait for the kernel; more threads than that only get into each other's way.
_THREADS: Final = 2

_log = logging.getLogger(__name__)


@define(eq=False)
class Removal:
    """A worktree that is being removed: neither folder nor record is to be seen any more.

    Its end goes on behind and is waited for when the repository is closed, or the process ends.

    Args:
        path: Where it was.
    """

    path: str
    _kept: Future[RefName | None] = field(factory=Future, repr=False)
    _end: Future[None] = field(factory=Future, repr=False)

    @property
    def kept(self) -> RefName | None:
        """The ref of what only it held, None if that was nothing; waits until it is known.

        Raises:
            GitOperationError: Its work could not be kept, so the worktree was put back.
        """
        return self._kept.result()

    def wait(self) -> None:
        """Wait until its space is given back.

        Raises:
            GitOperationError: Its work could not be kept, so the worktree was put back; or something in it could not
                be deleted: the next removal or prune tries again.
        """
        self._end.result()

    def carry_on(self, salvage: Salvage, finish: Callable[[], None]) -> None:
        """Keep the work and delete the files. Whoever waits is told of a failure, and the log in any case."""
        try:
            finish()
        except BaseException as error:
            _log.warning("the removal of %s could not be finished: %s", self.path, error)
            if salvage.is_done:
                self._kept.set_result(salvage.ref)
            else:
                self._kept.set_exception(error)
            self._end.set_exception(error)
        else:
            self._kept.set_result(salvage.ref)
            self._end.set_result(None)


@define(eq=False)
class Removals:
    """The removals of one repository that are going on.

    Args:
        repository: Whose worktrees they are.
    """

    _repository: Repository = field(repr=False)
    _threads: ThreadPoolExecutor | None = field(default=None, init=False)
    _owner: int = field(default=0, init=False)

    def begin(self, path: str, *, force: bool) -> Removal:
        """Take the worktree at `path` out of sight, and let the rest follow behind. Errors as `Worktree.remove`."""
        backend = self._repository.backend
        salvage = Salvage(backend, os.path.basename(path))
        try:
            finish = backend.discard_worktree(path, salvage, force=force)
        except BaseException:
            if os.path.lexists(path):
                salvage.undo()
            raise
        removal = Removal(path)
        self._start(lambda: self._carry_on(removal, salvage, finish))
        return removal

    def sweep(self) -> tuple[RefName, ...]:
        """Put in order what removals of processes that died have left. Returns the refs of what was kept of it."""
        backend = self._repository.backend
        kept: list[RefName] = []

        def keep(path: str) -> None:
            salvage = Salvage(backend, os.path.basename(path))
            salvage.everything(path)
            if salvage.ref is not None:
                kept.append(salvage.ref)
                _log.info("the work in %s, whose removal was cut short, is kept as %s", path, salvage.ref)

        backend.sweep_discarded(keep)
        return tuple(kept)

    def close(self) -> None:
        """Wait for all of them."""
        if self._threads is not None and self._owner == os.getpid():
            self._threads.shutdown()
            self._threads = None

    def _carry_on(self, removal: Removal, salvage: Salvage, finish: Callable[[], None]) -> None:
        removal.carry_on(salvage, finish)
        with contextlib.suppress(GitOperationError, OSError):
            self.sweep()

    def _start(self, work: Callable[[], None]) -> None:
        """Run it in a thread of ours; here, when the process is about to end and starts no more threads."""
        if self._threads is None or self._owner != os.getpid():  # threads do not survive a fork
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="arboretum-removal")
            self._owner = os.getpid()
        try:
            self._threads.submit(work)
        except RuntimeError:
            work()
