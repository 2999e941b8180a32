"""Three-way merge of trees with rename detection. Pure, except that merged contents are stored as blobs.

It follows the outcome of git's ``ort`` strategy: which merges are clean and what tree they give, and
which paths conflict. Renames of whole folders are not inferred.
"""

from __future__ import annotations

from typing import Protocol

from attrs import define, field

from arboretum.backends.trees.lines import is_binary, merge_lines
from arboretum.backends.trees.renames import find_renames
from arboretum.backends.trees.snapshot import Entry, Snapshot, path_key
from arboretum.values import FileMode, Oid

_PLAIN = {FileMode.FILE, FileMode.EXECUTABLE}


class BlobStore(Protocol):
    """What a merge needs of a store of objects."""

    def blob(self, oid: Oid) -> bytes:
        """The content of a blob."""

    def put_blob(self, data: bytes) -> Oid:
        """Store a blob."""


@define(eq=False)
class TreeMerge:
    """One merge in progress: the merged tree so far, and the paths that conflict."""

    store: BlobStore
    base: Snapshot
    ours: Snapshot
    theirs: Snapshot
    merged: Snapshot = field(factory=dict, init=False)
    conflicts: set[str] = field(factory=set, init=False)

    def run(self) -> TreeMerge:
        """Merge; then `merged` and `conflicts` say what came out."""
        base, ours, theirs = self._follow_renames()
        for path in base.keys() | ours.keys() | theirs.keys():
            self._merge_path(path, base.get(path), ours.get(path), theirs.get(path))
        self._check_folders()
        return self

    def _follow_renames(self) -> tuple[Snapshot, Snapshot, Snapshot]:
        """The three trees with each renamed path under its new name in all of them."""
        base, ours, theirs = dict(self.base), dict(self.ours), dict(self.theirs)
        mine = self._renames(self.ours, self.theirs)
        yours = self._renames(self.theirs, self.ours)
        for old in sorted(mine.keys() | yours.keys(), key=path_key):
            here, there = mine.get(old), yours.get(old)
            if here is not None and there is not None and here != there:
                self.conflicts |= {old, here, there}
            elif here is not None and here == there:
                self._rename(base, here, old)
            elif here is not None:
                self._follow(base, theirs, old, here, ours)
            elif there is not None:
                self._follow(base, ours, old, there, theirs)
        return base, ours, theirs

    def _renames(self, side: Snapshot, other: Snapshot) -> dict[str, str]:
        """Old path -> new path on one side, for paths that the other side touched.

        Where no such path is gone, git looks for no renames at all, not even for files moved as they are.
        """
        if not any(path not in side and other.get(path) != entry for path, entry in self.base.items()):
            return {}
        found = find_renames(
            self.base, side, self.store.blob, relevant=lambda p: other.get(p) != self.base[p], empty=False)  # fmt: skip
        return {old: new for new, old in found.items()}

    def _follow(self, base: Snapshot, other: Snapshot, old: str, new: str, renamer: Snapshot) -> None:
        """One side renamed `old` to `new`: let the other side's version of it take the same way."""
        if old not in other:
            if self.base[old] != renamer[new] or new not in other:
                self.conflicts.add(new)  # renamed here, deleted there
            return
        if new in other:  # renamed here, added there: what came of the file, against what was added
            entry = self._merge_entries(new, base.pop(old, None), renamer[new], other.pop(old))
            assert entry is not None  # both sides have it
            renamer[new] = entry
            return
        if (other[old][0] in _PLAIN) != (renamer[new][0] in _PLAIN):
            self.conflicts.add(new)  # renamed here, made another kind of file there
            return
        other[new] = other.pop(old)
        self._rename(base, new, old)

    def _rename(self, base: Snapshot, new: str, old: str) -> None:
        if old in base:
            entry = base.pop(old)
            if new in base:
                self.conflicts.add(new)  # two files became one
            base[new] = entry

    def _merge_path(self, path: str, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> None:
        result = self._merge_entries(path, base, ours, theirs)
        if result is not None:
            self.merged[path] = result

    def _merge_entries(self, path: str, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
        if theirs in (ours, base):
            return ours
        return theirs if ours == base else self._merge_both(path, base, ours, theirs)

    def _merge_both(self, path: str, base: Entry | None, ours: Entry | None, theirs: Entry | None) -> Entry | None:
        """Both sides changed the path, and differently."""
        if ours is None or theirs is None:
            self.conflicts.add(path)
            return ours or theirs
        if ours[0] not in _PLAIN or theirs[0] not in _PLAIN or (base is not None and base[0] not in _PLAIN):
            self.conflicts.add(path)
            return ours
        mode = ours[0]
        if base is not None and ours[0] == base[0]:
            mode = theirs[0]
        elif base is None and ours[0] != theirs[0]:
            self.conflicts.add(path)
        before, mine, yours = (self.store.blob(entry[1]) if entry else b"" for entry in (base, ours, theirs))
        merged = merge_lines(before, mine, yours)
        # Without a base there is nothing that one binary side could have left as it was.
        if merged.conflict or (base is None and (is_binary(mine) or is_binary(yours))):
            self.conflicts.add(path)
        return mode, self.store.put_blob(merged.data)

    def _check_folders(self) -> None:
        """A file of one side where the other has a folder is a conflict."""
        for path in self.merged:
            parent = path
            while "/" in parent:
                parent = parent.rpartition("/")[0]
                if parent in self.merged:
                    self.conflicts.add(parent)
        for path in filter(self._is_folder, self.conflicts):
            self.merged.pop(path, None)

    def _is_folder(self, path: str) -> bool:
        return any(other.startswith(f"{path}/") for other in self.merged)
