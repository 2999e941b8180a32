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

from attrs import define, field

from arboretum.backends.base import ANY, GitBackend
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
    kept = Salvage(tree.repository.backend, os.path.basename(tree.path))
    kept.everything(tree.path)
    return kept.ref


@define(eq=False)
class Salvage:
    """Keeps the work in one worktree, as a `Keeper`: in two steps, since most of the time goes into its files.

    The commits and what is staged are in the git directory, and git protects them only while the worktree is listed.
    The files are in its folder until it is deleted.

    Args:
        backend: Whose worktree it is.
        name: The worktree's, for the messages.
        ref: The ref under which its work is kept; None while there is none.
        is_done: Whether all of it is kept.
    """

    _backend: GitBackend
    _name: str
    ref: RefName | None = field(default=None, init=False)
    is_done: bool = field(default=False, init=False)

    def everything(self, path: str) -> None:
        """Keep all there is."""
        head = self._backend.head(path)
        work = self._work(path, head)
        if work is None and _only_here(self._backend, head):
            work = head.oid
        if work is not None:
            self._keep(work)
        self.is_done = True

    def before(self, path: str) -> None:
        """See `Keeper`. The commits of a detached HEAD; everything where there is no commit, or something is staged."""
        if self.is_done:
            return
        head = self._backend.head(path)
        if head.oid is None or self._is_staged(path, head.oid):
            self.everything(path)
        elif _only_here(self._backend, head):
            self._keep(head.oid)

    def behind(self, path: str) -> None:
        """See `Keeper`."""
        if not self.is_done:
            work = self._work(path, self._backend.head(path))
            if work is not None:
                self._keep(work)
            self.is_done = True

    def undo(self) -> None:
        """Forget what was kept: the worktree stays."""
        if self.ref is not None:
            with contextlib.suppress(GitOperationError):
                self._backend.update_ref(self.ref, None, ANY)
            self.ref = None

    def _keep(self, commit: Oid) -> None:
        """Let the ref name `commit`; one that it names already is an ancestor of it."""
        if self.ref is not None:
            self._backend.update_ref(self.ref, commit, ANY)
            return
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        ref = RefName(f"{SALVAGE}{stamp}-{secrets.token_hex(4)}")
        self._backend.update_ref(ref, commit, None, message=self._message)
        self.ref = ref

    @property
    def _message(self) -> str:
        return f"salvaged from {self._name}"

    def _is_staged(self, path: str, commit: Oid) -> bool:
        """Whether the index may hold anything that the commit does not."""
        try:
            return self._backend.staged_tree(path) != self._backend.read_commit(commit).tree
        except UnsupportedOperationError:
            raise
        except GitOperationError:  # unmerged, or damaged
            return True

    def _work(self, path: str, head: Head) -> Oid | None:
        """A commit of the uncommitted state; None if there is none."""
        status = self._backend.status(path)
        if not status:
            return None
        if not head.is_unborn and not any(entry.is_conflict for entry in status):
            try:
                return self._backend.stash_create(path, self._message, untracked=True)
            except (UnsupportedOperationError, FileNotFoundError):
                raise
            except GitOperationError:
                pass  # whatever state it is in, its files are there to be kept
        return self._snapshot(path, head)

    def _snapshot(self, path: str, head: Head) -> Oid | None:
        """A plain commit on HEAD of all files as they are, the ignored ones left out."""
        entries = {entry.path: entry for entry in self._backend.read_tree(head.oid)} if head.oid is not None else {}
        for entry in self._backend.status(path):
            entries.pop(entry.path, None)
            if entry.index is not ChangeKind.UNTRACKED or not entry.path.endswith("/"):
                entries.update((found.path, found) for found in _read(self._backend, path, entry.path))
        if not entries:
            return None
        author = Signature.now("arboretum", "arboretum@localhost")
        return self._backend.write_commit(
            tree=self._backend.write_tree(tuple(entries.values())),
            parents=(head.oid,) if head.oid is not None else (),
            message=f"{self._message}\n",
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
