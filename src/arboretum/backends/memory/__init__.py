"""The in-memory backend: a model of git for tests, with the whole port and git's own object ids.

How scripts read and write the files of a worktree:

- By default they are real files: ``MemoryBackend.init("/tmp/x")`` makes the folder, worktrees are
  folders, commands run in them. Only what git keeps for itself is in memory.
- With ``disk=MemoryDisk()`` nothing at all is outside the process: ``backend.files(worktree)`` is a
  mapping from path to bytes, ``backend.disk`` the file system itself.
"""

from __future__ import annotations

from arboretum.backends.memory.backend import MemoryBackend
from arboretum.backends.memory.disk import Disk, MemoryDisk, RealDisk, WorktreeFiles
from arboretum.backends.trees.snapshot import File, FileContent

__all__ = ["Disk", "File", "FileContent", "MemoryBackend", "MemoryDisk", "RealDisk", "WorktreeFiles"]
