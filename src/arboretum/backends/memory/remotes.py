"""Clone and fetch between repositories in memory."""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

from arboretum.backends.memory.graph import reachable
from arboretum.backends.memory.state import MemoryState
from arboretum.errors import RemoteError
from arboretum.values import Oid, RefName


@frozen
class Transfer:
    """Brings objects and refs from one repository to another.

    Args:
        source: Where they come from.
        target: Where they go.
    """

    source: MemoryState
    target: MemoryState

    def clone(self, url: str, *, bare: bool) -> None:
        """Take all branches and tags of the source, as git clone does; no file is written."""
        self._objects()
        self.target.config["remote.origin.url"] = [url]
        head = self.source.main.head
        for ref in self.source.refs.all("refs/"):
            if ref.name.startswith("refs/tags/") or (bare and ref.name.is_branch):
                self.target.refs.set(ref.name, ref.oid, f"clone: from {url}")
        if isinstance(head, str) and not isinstance(head, RefName):
            self.target.main.head = head
        if bare:
            return
        self.target.config["remote.origin.fetch"] = ["+refs/heads/*:refs/remotes/origin/*"]
        self.fetch(self.target.config["remote.origin.fetch"], prune=False)
        if isinstance(head, RefName):
            self.target.main.head = head
            self.target.refs.values[RefName("refs/remotes/origin/HEAD")] = RefName(f"refs/remotes/origin/{head.short}")
            oid = self.source.refs.oid(head)
            if oid is not None:
                self.target.refs.set(head, oid, f"clone: from {url}")
                self.target.config[f"branch.{head.short}.remote"] = ["origin"]
                self.target.config[f"branch.{head.short}.merge"] = [str(head)]

    def fetch(self, refspecs: Sequence[str], *, prune: bool) -> None:
        """Take what the refspecs name. Raises RemoteError for one that names nothing or is malformed."""
        wanted: dict[RefName, tuple[Oid, bool]] = {}
        for refspec in refspecs:
            wanted.update(self._matching(refspec))
        self._objects()
        for name, (oid, forced) in wanted.items():
            if not forced and not self._is_forward(name, oid):
                raise RemoteError(f"{name} was not updated: it is not a fast-forward", operation="fetch")
            self.target.refs.set(name, oid, "fetch")
        if prune:
            self._prune(refspecs, set(wanted))

    def _objects(self) -> None:
        if self.source.store.sha256 != self.target.store.sha256:
            raise RemoteError("the repositories have different kinds of object ids", operation="fetch")
        self.target.store.copy_from(self.source.store)

    def _matching(self, refspec: str) -> dict[RefName, tuple[Oid, bool]]:
        """The refs that a refspec makes here, with their values and whether they may be forced."""
        forced, plain = refspec.startswith("+"), refspec.removeprefix("+")
        left, _, right = plain.partition(":")
        found: dict[RefName, tuple[Oid, bool]] = {}
        if "*" not in left:
            full = left if left.startswith("refs/") or left == "HEAD" else f"refs/heads/{left}"
            head = self.source.head(self.source.main).oid
            oid = head if full == "HEAD" else self.source.refs.oid(RefName(full))
            if oid is None:
                raise RemoteError(f"the remote has no ref {left}", operation="fetch")
            if right:
                found[RefName(right if right.startswith("refs/") else f"refs/heads/{right}")] = (oid, forced)
            return found
        before, _, after = left.partition("*")
        for ref in self.source.refs.all(before):
            if ref.name.endswith(after) and right:
                middle = ref.name[len(before) : len(ref.name) - len(after)]
                found[RefName(right.replace("*", middle, 1))] = (ref.oid, forced)
        return found

    def _is_forward(self, name: RefName, oid: Oid) -> bool:
        old = self.target.refs.oid(name)
        return old is None or old in reachable(self.source.store.commit, [oid])

    def _prune(self, refspecs: Sequence[str], kept: set[RefName]) -> None:
        """Remove what the refspecs would have made if the source still had it."""
        for refspec in refspecs:
            right = refspec.partition(":")[2]
            if "*" not in right:
                continue
            before, _, after = right.partition("*")
            for ref in list(self.target.refs.all(before)):
                if ref.name.endswith(after) and ref.name not in kept and ref.target is None:
                    self.target.refs.set(ref.name, None, "")
