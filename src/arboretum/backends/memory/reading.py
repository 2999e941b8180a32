"""The object part of the in-memory backend."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from attrs import define

from arboretum.backends.base import CommitLink
from arboretum.backends.memory import graph
from arboretum.backends.memory.merging import merge_snapshots, virtual_base
from arboretum.backends.memory.refs import PRIVATE, LogEntry
from arboretum.backends.memory.revisions import RevisionParser
from arboretum.backends.memory.state import HEAD, Handle, WorktreeRecord, exclusive
from arboretum.backends.trees.diffs import make_patch
from arboretum.backends.trees.patches import apply_patch
from arboretum.backends.trees.renames import diff
from arboretum.backends.trees.snapshot import Entry, File, Snapshot, path_key
from arboretum.values import (
    Commit,
    DiffEntry,
    FileMode,
    LogQuery,
    MergeOutcome,
    Oid,
    RefName,
    Revision,
    Signature,
    TreeEntry,
)


@define(eq=False)
class MemoryObjects(Handle):
    """`arboretum.backends.base.ObjectReader` in memory."""

    @exclusive
    def resolve(self, revision: Revision, *, worktree: str | None = None) -> Oid:
        """See `ObjectReader`."""
        record = self.opened if worktree is None else self.state.record(worktree)
        return self._parser(record).resolve(revision)

    @exclusive
    def read_commit(self, oid: Oid) -> Commit:
        """See `ObjectReader`."""
        return self.state.store.commit(oid)

    @exclusive
    def log(self, query: LogQuery) -> Iterator[Commit]:
        """See `ObjectReader`."""
        read = self.state.store.commit
        hidden = graph.reachable(read, query.exclude)
        parents = self._parents_of(query)
        commits = list(graph.by_date(read, query.include, hidden, parents))
        if query.paths:
            commits = [c for c in commits if self._is_shown(c, query)]
        if query.topological:
            follow = _through(parents, read, {c.oid for c in commits}) if query.paths else parents
            commits = list(graph.topological(commits, follow))
        return iter(commits[: query.limit])

    def links(self, query: LogQuery) -> Iterator[CommitLink]:
        """See `ObjectReader`."""
        return (CommitLink(c.oid, c.parents, int(c.committer.when.timestamp())) for c in self.log(query))

    @exclusive
    def merge_base(self, one: Oid, two: Oid) -> Oid | None:
        """See `ObjectReader`."""
        bases = graph.merge_bases(self.state.store.commit, one, two)
        return bases[0] if bases else None

    @exclusive
    def read_tree(self, tree: Oid) -> tuple[TreeEntry, ...]:
        """See `ObjectReader`."""
        snapshot = self.state.store.snapshot(tree)
        return tuple(TreeEntry(path, *snapshot[path]) for path in sorted(snapshot, key=path_key))

    @exclusive
    def read_blob(self, oid: Oid) -> bytes:
        """See `ObjectReader`."""
        return self.state.store.blob(oid)

    @exclusive
    def write_blob(self, data: bytes) -> Oid:
        """See `ObjectReader`."""
        return self.state.store.put_blob(data)

    @exclusive
    def write_tree(self, entries: Sequence[TreeEntry]) -> Oid:
        """See `ObjectReader`."""
        return self.state.store.put_tree(entries)

    @exclusive
    def write_commit(
        self, *, tree: Oid, parents: Sequence[Oid], message: str, author: Signature, committer: Signature
    ) -> Oid:
        """See `ObjectReader`."""
        return self.state.store.put_commit(
            tree=tree, parents=parents, message=message, author=author, committer=committer
        )

    @exclusive
    def diff_trees(self, old: Oid | None, new: Oid, *, renames: bool = True) -> tuple[DiffEntry, ...]:
        """See `ObjectReader`."""
        store = self.state.store
        return diff(store.snapshot(old), store.snapshot(new), store.blob, renames=renames)

    @exclusive
    def diff_text(self, old: Oid | None, new: Oid) -> bytes:
        """See `ObjectReader`."""
        store = self.state.store
        return make_patch(store, store.snapshot(old), store.snapshot(new))

    @exclusive
    def merge_trees(self, ours: Oid, theirs: Oid, *, base: Oid | None = None) -> MergeOutcome:
        """See `ObjectReader`."""
        store = self.state.store
        if base is None:
            bases = graph.merge_bases(store.commit, ours, theirs)
            below = virtual_base(store, bases) if bases else {}
        else:
            below = store.snapshot(base)
        return merge_snapshots(store, below, store.snapshot(ours), store.snapshot(theirs))

    @exclusive
    def apply_to_tree(self, tree: Oid, patch: bytes) -> Oid:
        """See `ObjectReader`."""
        store = self.state.store
        return store.put_snapshot(self.patched(store.snapshot(tree), patch))

    def patched(self, snapshot: Snapshot, patch: bytes) -> Snapshot:
        """What a patch makes of a tree. Raises PatchFailedError."""
        store, result = self.state.store, dict(snapshot)
        for path, file in apply_patch(patch, lambda p: self._file(snapshot.get(p))).items():
            if file is None:
                result.pop(path, None)
            elif file.mode is FileMode.SUBMODULE:
                result[path] = (file.mode, Oid(file.data.split()[-1].decode()))
            else:
                result[path] = (file.mode, store.put_blob(file.data))
        return result

    def _file(self, entry: Entry | None) -> File | None:
        if entry is None:
            return None
        if entry[0] is FileMode.SUBMODULE:
            return File(f"Subproject commit {entry[1]}\n".encode(), entry[0])
        return self.state.store.file(entry)

    def _parser(self, record: WorktreeRecord) -> RevisionParser:
        state = self.state

        def oid_of(name: RefName) -> Oid | None:
            return state.head(record).oid if name == HEAD else state.table(name, record).oid(name)

        def log_of(name: RefName) -> list[LogEntry]:
            return (record.private if name == HEAD else state.table(name, record)).logs.get(name, [])

        def tips() -> list[Oid]:
            refs = [ref.oid for ref in state.refs.all("refs/") if not ref.name.startswith(PRIVATE)]
            head = state.head(record).oid
            return [*refs, *([head] if head else [])]

        return RevisionParser(state.store, state.head(record), oid_of, log_of, self._upstream_of, tips)

    def _upstream_of(self, branch: RefName) -> RefName | None:
        config = self.state.config_values
        remote, merge = config(f"branch.{branch.short}.remote"), config(f"branch.{branch.short}.merge")
        if not remote or not merge:
            return None
        return RefName(merge[-1] if remote[-1] == "." else f"refs/remotes/{remote[-1]}/{RefName(merge[-1]).short}")

    def _parents_of(self, query: LogQuery) -> Callable[[Commit], Sequence[Oid]]:
        """Which parents a walk goes on to; with paths, a merge that is as one parent is left for that parent."""

        def parents(commit: Commit) -> Sequence[Oid]:
            all_of = commit.parents[:1] if query.first_parent else commit.parents
            if query.paths:
                same = [p for p in all_of if self._is_same(commit, p, query.paths)]
                return same[:1] or all_of
            return all_of

        return parents

    def _is_shown(self, commit: Commit, query: LogQuery) -> bool:
        parents = commit.parents[:1] if query.first_parent else commit.parents
        if not parents:
            return not self._is_same(commit, None, query.paths)
        return not any(self._is_same(commit, parent, query.paths) for parent in parents)

    def _is_same(self, commit: Commit, parent: Oid | None, paths: Sequence[str]) -> bool:
        store = self.state.store
        before, after = store.snapshot(parent), store.snapshot(commit.oid)
        changed = (path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
        return not any(path == p or path.startswith(f"{p}/") for path in changed for p in paths)


def _through(
    parents: Callable[[Commit], Sequence[Oid]], read: Callable[[Oid], Commit], shown: set[Oid]
) -> Callable[[Commit], Sequence[Oid]]:
    """The nearest shown ancestors instead of the parents: history without the commits that are left out."""

    def nearest(commit: Commit) -> Sequence[Oid]:
        found: dict[Oid, None] = {}
        pending, seen = list(parents(commit))[::-1], set[Oid]()
        while pending:
            oid = pending.pop()
            if oid in shown:
                found[oid] = None
            elif oid not in seen:
                seen.add(oid)
                pending += reversed(parents(read(oid)))
        return tuple(found)

    return nearest
