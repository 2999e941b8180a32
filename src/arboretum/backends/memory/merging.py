"""Merges of commits and trees of the in-memory store."""

from __future__ import annotations

from collections.abc import Iterable

from arboretum.backends.memory import graph
from arboretum.backends.memory.objects import ObjectStore
from arboretum.backends.trees.merge import TreeMerge
from arboretum.backends.trees.snapshot import Snapshot, path_key
from arboretum.values import MergeOutcome, Oid


def merge_snapshots(store: ObjectStore, base: Snapshot, ours: Snapshot, theirs: Snapshot) -> MergeOutcome:
    """Merge two trees over a base, in memory."""
    done = TreeMerge(store, base, ours, theirs).run()
    if done.conflicts:
        return MergeOutcome(None, tuple(sorted(done.conflicts, key=path_key)))
    return MergeOutcome(store.put_snapshot(done.merged))


def virtual_base(store: ObjectStore, bases: Iterable[Oid]) -> Snapshot:
    """The merge of several merge bases, conflicts and all, as git's recursive merge makes it."""
    first, *others = bases
    snapshot, done = store.snapshot(first), first
    for other in others:
        inner = graph.merge_bases(store.commit, done, other)
        base = virtual_base(store, inner) if inner else {}
        snapshot = TreeMerge(store, base, snapshot, store.snapshot(other)).run().merged
    return snapshot
