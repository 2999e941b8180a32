"""The states of a task."""

from __future__ import annotations

import enum


class TaskState(enum.StrEnum):
    """What has become of a task."""

    WAITING = "waiting"  # for its dependencies, for room, or to be run again after a crash
    RUNNING = "running"
    FINISHED = "finished"  # its work is on its branch and waits to be merged
    MERGED = "merged"
    UNCHANGED = "unchanged"  # it succeeded and changed nothing
    FAILED = "failed"  # its command or its verify command failed, retries included
    TIMED_OUT = "timed-out"
    OUT_OF_SCOPE = "out-of-scope"  # it changed what it may not change
    CONFLICT = "conflict"  # its work does not merge
    BREAKS_VERIFY = "breaks-verify"  # its work merges, and the combined tree does not pass
    BLOCKED = "blocked"  # a task that it depends on did not make it

    @property
    def is_good(self) -> bool:
        """Whether tasks that depend on it may run."""
        return self in {TaskState.MERGED, TaskState.UNCHANGED}

    @property
    def is_open(self) -> bool:
        """Whether something is still to come."""
        return self in {TaskState.WAITING, TaskState.RUNNING, TaskState.FINISHED}

    @property
    def is_lost(self) -> bool:
        """Whether tasks that depend on it can never run."""
        return not self.is_open and not self.is_good

    @property
    def is_kept(self) -> bool:
        """Whether its branch and worktree are kept for a person to look at."""
        return self.is_lost and self is not TaskState.BLOCKED
