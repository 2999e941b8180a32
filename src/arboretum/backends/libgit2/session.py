"""What all parts of the backend share: the handles, and where the repository lies."""

from __future__ import annotations

from contextlib import AbstractContextManager

from attrs import define

from arboretum.backends.admin_files import AdminFiles
from arboretum.backends.libgit2.handles import Handles


@define(eq=False)
class Session:
    """One repository, opened by libgit2.

    Args:
        handles: The handles of this repository, one per thread and process and worktree.
    """

    handles: Handles

    def lock(self) -> AbstractContextManager[None]:
        """The one lock for changes of worktrees, configuration and stashes, against all threads and processes."""
        return AdminFiles(self.handles.layout.common_dir, None, lambda _name: None).lock()
