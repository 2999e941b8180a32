"""What git keeps of one slot (its folder in the common git directory), and what a trial may have left there.

Only files of slots are touched, by the owner of the lease, when nothing else runs in the slot.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from arboretum.engine.steps import Step
from arboretum.values import Oid

#: What a worktree at rest has; everything else is a lock, or an operation half done (merge, rebase, bisect, ...).
_AT_REST: Final = frozenset(
    {
        "HEAD", "ORIG_HEAD", "FETCH_HEAD", "commondir", "gitdir", "index", "logs", "locked", "modules",
        "config.worktree", "info", "arboretum-slot", "reftable", "COMMIT_EDITMSG", "lfs", "annex",
    }
)  # fmt: skip
#: The marks of an operation half done.
_HALF_DONE: Final = frozenset(
    {
        "MERGE_HEAD",
        "MERGE_MSG",
        "MERGE_MODE",
        "CHERRY_PICK_HEAD",
        "REVERT_HEAD",
        "rebase-merge",
        "rebase-apply",
        "sequencer",
    }
)
#: What says which files of the commit are to be there at all.
_SPARSE: Final = ("config.worktree", "info/sparse-checkout")
_INDEX_HEADER: Final = 12
#: The newest version of the index that has no flag by which a file can be hidden from a reset.
_PLAIN_VERSION: Final = 2


@frozen
class IndexState:
    """The index, without reading its entries.

    Args:
        version: Its format; 0 for a missing or unreadable one.
        files: How many entries it has.
        checksum: Its last bytes, which change with any entry.
    """

    version: int = 0
    files: int = 0
    checksum: str = ""

    def is_trusted(self, checksum: str) -> bool:
        """Whether no trial can have told git to look away from a file, given the checksum at the last proof.

        Versions above 2 have flags by which a file is left out (skip-worktree); the trial may have set them.
        """
        return self.version == _PLAIN_VERSION or (self.version > 0 and self.checksum == checksum)


def read_index(admin: str) -> IndexState:
    """The state of the index of the worktree with this folder."""
    with contextlib.suppress(OSError), open(os.path.join(admin, "index"), "rb") as file:
        header = file.read(_INDEX_HEADER)
        if header[:4] == b"DIRC" and len(header) == _INDEX_HEADER:
            file.seek(-20, os.SEEK_END)
            return IndexState(
                int.from_bytes(header[4:8], "big"), int.from_bytes(header[8:12], "big"), file.read(20).hex()
            )
    return IndexState()


def forget_index(admin: str, step: Step) -> None:
    """Remove the index, so that the next reset trusts nothing and writes every file anew."""
    step("reset.forget-index")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(admin, "index"))


def read_sparse(admin: str) -> dict[str, str]:
    """The worktree's own configuration and sparse patterns, by file name; files that are not there are left out."""
    found = {}
    for name in _SPARSE:
        with contextlib.suppress(OSError), open(os.path.join(admin, name), "rb") as file:
            found[name] = os.fsdecode(file.read())
    return found


def restore_sparse(admin: str, wanted: Mapping[str, str], step: Step) -> bool:
    """Put the worktree's own configuration and sparse patterns back.

    Returns:
        Whether they had been changed.
    """
    if (found := read_sparse(admin)) == wanted:
        return False
    for name in _SPARSE:
        if found.get(name) != wanted.get(name):
            step("reset.sparse")
            path = os.path.join(admin, name)
            if name in wanted:
                os.makedirs(os.path.dirname(path), exist_ok=True)
                with open(path, "wb") as file:
                    file.write(os.fsencode(wanted[name]))
            else:
                os.unlink(path)
    return True


def tidy(admin: str, step: Step) -> None:
    """Remove stale locks and the marks of operations half done; refs of the worktree's own go, too."""
    for entry in list(os.scandir(admin)):
        if entry.name == "refs":
            for private in list(os.scandir(entry.path)):
                _remove(private, step)
        elif entry.name not in _AT_REST:
            _remove(entry, step)


def tidy_submodule(git_dir: str, step: Step) -> None:
    """The same for the git directory of a submodule, of which only what is known to be left over is removed."""
    for entry in list(os.scandir(git_dir)):
        if entry.name in _HALF_DONE or entry.name in {"index.lock", "HEAD.lock"}:
            _remove(entry, step)


def _remove(entry: os.DirEntry[str], step: Step) -> None:
    step("reset.tidy")
    if entry.is_dir(follow_symlinks=False):
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        os.unlink(entry.path)


def uses_reftable(admin: str) -> bool:
    """Whether the refs of the worktree, HEAD among them, are no files."""
    return os.path.isdir(os.path.join(admin, "reftable"))


def detach(admin: str, commit: Oid, step: Step) -> None:
    """Let HEAD stand at `commit` on no branch, so that a reset can never move a branch that a trial switched to."""
    if head_of(admin) is not None:
        return
    step("reset.detach")
    temporary = os.path.join(admin, "HEAD.arboretum")
    with open(temporary, "w", encoding="ascii") as file:
        file.write(f"{commit}\n")
    os.replace(temporary, os.path.join(admin, "HEAD"))


def head_of(admin: str) -> Oid | None:
    """The commit that HEAD stands at; None when it is on a branch or unreadable."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(admin, "HEAD"), encoding="ascii") as file:
        return Oid(file.read().strip())
    return None
