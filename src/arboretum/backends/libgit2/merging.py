"""Three-way merges in memory, over libgit2's objects.

libgit2's own merge pairs renames by another measure than git and names other paths in conflict (one
merge in fourteen of random ones with renames came out otherwise than git's), so only the comparison
of the trees is left to it; the merge of what differs is the one that the in-memory backend has, too.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import pygit2
from attrs import frozen
from pygit2.enums import DeltaStatus, DiffOption, SortMode

from arboretum.backends.libgit2.modes import mode_of, oid_of
from arboretum.backends.trees.merge import TreeMerge
from arboretum.backends.trees.snapshot import Entry, Snapshot, path_key
from arboretum.values import MergeOutcome, Oid

_FLAGS: Final = DiffOption.INCLUDE_TYPECHANGE


@frozen
class Blobs:
    """What a merge needs of a store of objects."""

    repository: pygit2.Repository
    sha256: bool = False

    def blob(self, oid: Oid) -> bytes:
        """The content of a blob."""
        return self.repository.read(oid)[1]

    def put_blob(self, data: bytes) -> Oid:
        """Store a blob."""
        return oid_of(self.repository.create_blob(data))


def merge_commits(repository: pygit2.Repository, ours: pygit2.Commit, theirs: pygit2.Commit) -> MergeOutcome:
    """Merge two commits over their merge base, or over the merge of their merge bases."""
    return merge_trees(repository, _base_tree(repository, ours, theirs), ours.tree, theirs.tree)


def merge_trees(
    repository: pygit2.Repository, base: pygit2.Tree, ours: pygit2.Tree, theirs: pygit2.Tree
) -> MergeOutcome:
    """Merge two trees over a base: the merged tree, stored, or the conflicts."""
    done = _merge(repository, base, ours, theirs)
    if done.conflicts:
        return MergeOutcome(None, tuple(sorted(done.conflicts, key=path_key)))
    return MergeOutcome(oid_of(_stored(repository, ours, done)))


def _merge(repository: pygit2.Repository, base: pygit2.Tree, ours: pygit2.Tree, theirs: pygit2.Tree) -> TreeMerge:
    """Merge what differs: paths at which all three trees agree need no thought."""
    mine, yours = (changes_of(base.diff_to_tree(tree, flags=_FLAGS)) for tree in (ours, theirs))
    before = {path: old for changes in (mine, yours) for path, (old, _new) in changes.items()}
    return TreeMerge(
        Blobs(repository), existing(before), existing(_after(before, mine)), existing(_after(before, yours))
    ).run()  # fmt: skip


def changes_of(diff: pygit2.Diff) -> dict[str, tuple[Entry | None, Entry | None]]:
    """What each differing path holds in the old and in the new tree."""
    found = {}
    for delta in diff.deltas:
        path = delta.new_file.raw_path.decode("utf-8", "surrogateescape")
        before = None if delta.status == DeltaStatus.ADDED else _entry(delta.old_file)
        after = None if delta.status == DeltaStatus.DELETED else _entry(delta.new_file)
        found[path] = (before, after)
    return found


def _entry(side: pygit2.DiffFile) -> Entry:
    return mode_of(side.mode), oid_of(side.id)


def _after(
    before: dict[str, Entry | None], changes: dict[str, tuple[Entry | None, Entry | None]]
) -> dict[str, Entry | None]:
    return before | {path: new for path, (_old, new) in changes.items()}


def existing(entries: dict[str, Entry | None]) -> Snapshot:
    """The entries that there are."""
    return {path: entry for path, entry in entries.items() if entry is not None}


def _stored(repository: pygit2.Repository, ours: pygit2.Tree, done: TreeMerge) -> pygit2.Oid:
    """Store the merged tree: ours, with what differed replaced by what came of it."""
    index = pygit2.Index()
    index.read_tree(ours)
    for path in done.ours.keys() - done.merged.keys():
        index.remove(path)
    for path, (mode, oid) in done.merged.items():
        index.add(pygit2.IndexEntry(path, pygit2.Oid(hex=oid), int(mode)))  # type: ignore[arg-type]  # an int does
    return index.write_tree(repository)


def _base_tree(repository: pygit2.Repository, ours: pygit2.Commit, theirs: pygit2.Commit) -> pygit2.Tree:
    bases = merge_bases(repository, ours.id, theirs.id)
    if not bases:
        empty = repository[pygit2.Index().write_tree(repository)]
        assert isinstance(empty, pygit2.Tree)
        return empty
    return _merged_bases(repository, bases)


def _merged_bases(repository: pygit2.Repository, bases: list[pygit2.Commit]) -> pygit2.Tree:
    """The merge of several merge bases, conflicts and all, as git's recursive merge makes it."""
    first, *others = bases
    tree = first.tree
    for other in others:
        inner = _base_tree(repository, first, other)
        done = _merge(repository, inner, tree, other.tree)
        merged = repository[_stored(repository, tree, done)]
        assert isinstance(merged, pygit2.Tree)
        tree = merged
    return tree


def merge_bases(repository: pygit2.Repository, one: pygit2.Oid, two: pygit2.Oid) -> list[pygit2.Commit]:
    """All best common ancestors, the one that libgit2 finds first, then by date and id."""
    best = repository.merge_base(one, two)
    if best is None:
        return []
    found = [_commit(repository, best)]
    # Others are common, not reachable from the first one, and not reachable from each other.
    left = _reachable(repository, [one], [best]) & _reachable(repository, [two], [best])
    commits = sorted((_commit(repository, oid) for oid in left), key=lambda c: (-c.commit_time, str(c.id)))
    below = {parent for commit in commits for parent in commit.parent_ids}
    return found + [commit for commit in commits if commit.id not in below]


def _reachable(
    repository: pygit2.Repository, tips: Iterable[pygit2.Oid], hidden: Iterable[pygit2.Oid]
) -> set[pygit2.Oid]:
    walker = repository.walk(None, SortMode.NONE)
    for oid in tips:
        walker.push(oid)
    for oid in hidden:
        walker.hide(oid)
    return {commit.id for commit in walker}


def _commit(repository: pygit2.Repository, oid: pygit2.Oid) -> pygit2.Commit:
    found = repository[oid]
    assert isinstance(found, pygit2.Commit)
    return found
