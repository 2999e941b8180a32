"""What git keeps of one slot (its folder in the common git directory), and what a trial may have left there.

Only files of slots are touched, by the owner of the lease, when nothing else runs in the slot.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import struct
from collections.abc import Mapping
from typing import Final

from attrs import frozen

from arboretum.engine.steps import Step
from arboretum.values import Oid, RefName
from arboretum.worktree_files.index_format import hides, walk

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
_INDEX_HEADER: Final = struct.Struct(">4sII")
_MAX_REFLOG_BYTES: Final = 16384
_LINK_WITHIN: Final = 4096


@frozen
class IndexState:
    """The index of a worktree, without its names.

    Args:
        files: How many entries it has.
        checksum: Its last bytes, which change with any entry; empty for a missing or unreadable one, and for one that
            git was told to write without (``index.skipHash``).
        written: When it was written, in nanoseconds since the epoch.
        hides: Whether an entry tells git to look away from its file (assume-unchanged, skip-worktree), or may do so.
    """

    files: int = 0
    checksum: str = ""
    written: int = 0
    hides: bool = True


def read_index(admin: str, *, trusted: str | None = "", sha256: bool = False) -> IndexState:
    """The state of the index of the worktree with this folder.

    Args:
        admin: The folder.
        trusted: The checksum of an index whose entries need no look; None where no index's do.
        sha256: Whether object ids have 64 digits.
    """
    digest = 32 if sha256 else 20
    try:
        with open(os.path.join(admin, "index"), "rb") as file:
            data, written = file.read(), os.fstat(file.fileno()).st_mtime_ns
        magic, _version, files = _INDEX_HEADER.unpack_from(data)
        if magic != b"DIRC" or len(data) < _INDEX_HEADER.size + digest:
            return IndexState()
        checksum = _checksum(data[-digest:])
        known = trusted is None or (bool(checksum) and checksum == trusted)
        return IndexState(files, checksum, written, not known and _hides(data, sha256=sha256))
    except (OSError, struct.error, IndexError, ValueError):
        return IndexState()


def index_checksum(admin: str, *, sha256: bool = False) -> str | None:
    """The checksum alone, without reading the entries; None where there is none."""
    digest = 32 if sha256 else 20
    try:
        with open(os.path.join(admin, "index"), "rb") as file:
            file.seek(-digest, os.SEEK_END)
            return _checksum(file.read()) or None
    except OSError:
        return None


def _checksum(tail: bytes) -> str:
    return tail.hex() if any(tail) else ""


def _hides(data: bytes, *, sha256: bool) -> bool:
    """Whether any entry has a flag by which git looks away."""
    if b"link" in data[-_LINK_WITHIN:]:
        return True  # a split index: most of the entries are elsewhere
    return any(hides(flags, more) for _start, _end, _name, flags, more in walk(data, sha256=sha256))


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
    _trim_reflog(os.path.join(admin, "logs", "HEAD"), step)


def _trim_reflog(path: str, step: Step) -> None:
    """Empty the reflog now and then: it would grow with every trial, and hold on to what trials have committed."""
    with contextlib.suppress(FileNotFoundError):
        if os.stat(path).st_size > _MAX_REFLOG_BYTES:
            step("reset.trim-reflog")
            os.truncate(path, 0)


def is_half_done(admin: str) -> bool:
    """Whether a merge, a rebase or the like has begun in the worktree and has not come to its end."""
    return any(os.path.lexists(os.path.join(admin, name)) for name in _HALF_DONE)


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


def attach(admin: str, branch: RefName, step: Step) -> None:
    """Put HEAD on `branch`, which has to stand at the commit that HEAD stands at: no file and no index changes."""
    step("slot.attach")
    temporary = os.path.join(admin, "HEAD.arboretum")
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(f"ref: {branch}\n")
    os.replace(temporary, os.path.join(admin, "HEAD"))


def head_of(admin: str) -> Oid | None:
    """The commit that HEAD stands at; None when it is on a branch or unreadable."""
    with contextlib.suppress(OSError, ValueError), open(os.path.join(admin, "HEAD"), encoding="ascii") as file:
        return Oid(file.read().strip())
    return None
