"""Keep what a forced removal would discard: uncommitted work, and commits that only a detached HEAD reaches.

Both go under ``refs/arboretum/salvage/``. Ignored files and nested repositories are not kept.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from arboretum.backends.base import GitBackend
from arboretum.errors import GitOperationError, UnsupportedOperationError
from arboretum.values import ChangeKind, FileMode, Head, LogQuery, Oid, Ref, RefName, Revision, Signature, TreeEntry

if TYPE_CHECKING:
    from arboretum.worktree import Worktree

#: Below it every salvaged commit has a ref of its own.
SALVAGE: Final = "refs/arboretum/salvage/"


def salvage(tree: Worktree) -> RefName | None:
    """Keep what only this worktree holds. Its files stay as they are.

    Changes and untracked files become a stash commit, which ``git stash apply <ref>`` brings back. Where git can
    make no stash (no commit yet, or unmerged paths), they become a plain commit of all files.

    Args:
        tree: The worktree.

    Returns:
        The ref under which it is kept; None if there is nothing that is not kept elsewhere.
    """
    backend = tree.repository.backend
    head = backend.head(tree.path)
    work = _work(backend, tree.path, head)
    if work is None and not _only_here(backend, head):
        return None
    kept = work or head.oid
    assert kept is not None
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    ref = RefName(f"{SALVAGE}{stamp}-{secrets.token_hex(4)}")
    backend.update_ref(ref, kept, None, message=_message(tree.path))
    return ref


def _message(path: str) -> str:
    return f"salvaged from {os.path.basename(path)}"


def _work(backend: GitBackend, path: str, head: Head) -> Oid | None:
    """A commit of the uncommitted state; None if there is none."""
    status = backend.status(path)
    if not status:
        return None
    if not head.is_unborn and not any(entry.is_conflict for entry in status):
        try:
            return backend.stash_create(path, _message(path), untracked=True)
        except (UnsupportedOperationError, FileNotFoundError):
            raise
        except GitOperationError:
            pass  # whatever state it is in, its files are there to be kept
    return _snapshot(backend, path, head)


def _snapshot(backend: GitBackend, path: str, head: Head) -> Oid | None:
    """A plain commit on HEAD of all files as they are, the ignored ones left out."""
    entries = {entry.path: entry for entry in backend.read_tree(head.oid)} if head.oid is not None else {}
    for entry in backend.status(path):
        entries.pop(entry.path, None)
        if entry.index is not ChangeKind.UNTRACKED or not entry.path.endswith("/"):
            entries.update((found.path, found) for found in _read(backend, path, entry.path))
    if not entries:
        return None
    author = Signature.now("arboretum", "arboretum@localhost")
    return backend.write_commit(
        tree=backend.write_tree(tuple(entries.values())),
        parents=(head.oid,) if head.oid is not None else (),
        message=f"{_message(path)}\n",
        author=author,
        committer=author,
    )


def _read(backend: GitBackend, root: str, name: str) -> Iterator[TreeEntry]:
    """The file of this name as an entry of a tree; nothing for one that is gone, or a folder."""
    place = os.path.join(root, name)
    try:
        mode = os.lstat(place).st_mode
    except OSError:
        return
    if stat.S_ISLNK(mode):
        yield TreeEntry(name, FileMode.SYMLINK, backend.write_blob(os.fsencode(os.readlink(place))))
    elif stat.S_ISREG(mode):
        with open(place, "rb") as file:
            kind = FileMode.EXECUTABLE if mode & stat.S_IXUSR else FileMode.FILE
            yield TreeEntry(name, kind, backend.write_blob(file.read()))


def _only_here(backend: GitBackend, head: Head) -> bool:
    """Whether a detached HEAD stands at a commit that no ref reaches."""
    if head.oid is None or not head.is_detached:
        return False
    refs = backend.list_refs()
    if any(ref.oid == head.oid for ref in refs):
        return False
    tags = [ref for ref in refs if ref.name.startswith("refs/tags/")]
    tips = {ref.oid for ref in refs if ref.name.startswith(("refs/heads/", "refs/remotes/", SALVAGE))}
    if not _reaches_more(backend, head.oid, tips):
        return False
    # Tags have to be peeled one by one, and some name no commit at all: only when nothing else helps.
    return not tags or _reaches_more(backend, head.oid, tips | set(_peeled(backend, tags)))


def _reaches_more(backend: GitBackend, commit: Oid, tips: set[Oid]) -> bool:
    query = LogQuery((commit,), exclude=tuple(sorted(tips)), limit=1)
    return next(iter(backend.log(query)), None) is not None


def _peeled(backend: GitBackend, tags: Iterable[Ref]) -> Iterator[Oid]:
    for tag in tags:
        with contextlib.suppress(GitOperationError):
            yield backend.resolve(Revision(tag.name))
