"""What a way of giving a new worktree its files is handed, and what it tells."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar, Protocol

from attrs import field, frozen

from arboretum.values import Oid
from arboretum.worktree_files.btrfs import Subvolume


@frozen(kw_only=True)
class Sibling:
    """A folder that was a clean worktree at a commit, and of which each file that has not changed since can be copied.

    Args:
        path: Its folder.
        index: The bytes of its index, as they were when it was proven clean.
        settled: When that index was written, in nanoseconds since the epoch.
        commit: The commit.
        files: How many files the index has.
        sparse: The worktree's own configuration, by file name.
        state: The state in which nothing is in it but what the index says; None where that may be otherwise.
    """

    path: str
    index: bytes
    settled: int
    commit: Oid
    files: int = 0
    sparse: Mapping[str, str] = field(factory=dict)
    state: Subvolume | None = None


@frozen(kw_only=True)
class Target:
    """A new worktree without files.

    Args:
        path: Its folder, which holds nothing but the ``.git`` file. The same path with ``.new`` is free for making
            things in.
        admin: Its folder in the common git directory, without an index.
        sha256: Whether object ids have 64 digits.
        environment: What helper processes get besides, so that they are found if this process dies; a helper that works
            for several targets gets all their values, with blanks between them.
    """

    path: str
    admin: str
    sha256: bool = False
    environment: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True)
class Filled:
    """A worktree that has files and an index now.

    Args:
        files: How many files were copied, each proven to be what the index says.
        left: How many were not, because they are not what the index says, or could not be read: for git to write.
    """

    files: int
    left: int = 0


class FileSource(Protocol):
    """One way in which a new worktree gets its files and its index from a sibling.

    - Nothing in the sibling is changed, and no later change of a file there changes one here: never hard links.
    - Nothing gets into the new worktree that is not in the index, and the bytes of what does are proven to be those.
    - The index tells the truth about the files, or makes git look for itself.
    - What cannot be done raises nothing: it says so by None, and leaves no file or only such as git overwrites.
    """

    #: What people and logs call it.
    name: ClassVar[str]

    def fill(self, sibling: Sibling, target: Target) -> Filled | None:
        """Give `target` the files of `sibling`; None when that cannot be done."""
