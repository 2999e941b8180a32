"""What processes that died in the middle of a change have left in the common git directory's own subfolder."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from typing import TYPE_CHECKING, Final

from arboretum.engine.steps import Step

if TYPE_CHECKING:
    from arboretum.repository import Repository

#: How old a temporary folder has to be: nothing that makes one lives for so long. Seconds.
_OLD: Final = 86400.0


def remove_asides(repository: Repository, step: Step) -> None:
    """Put in order what is left of half-made worktree records, and of removals that were cut short."""
    repository.removals.sweep()
    folder = os.path.join(repository.common_dir, "arboretum", "tmp")
    if not os.path.isdir(folder) or not os.listdir(folder):
        return
    with repository.lock("worktrees"):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            if _age(path) > _OLD:
                step("sweep.aside")
                shutil.rmtree(path, ignore_errors=True)


def _age(path: str) -> float:
    with contextlib.suppress(OSError):
        return time.time() - os.lstat(path).st_mtime
    return 0.0
