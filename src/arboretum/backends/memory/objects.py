r"""A content-addressed object store in memory, with git's own object ids.

An object's id is the hash of ``<kind> <length>\0<content>`` (git's "object format" documentation), so
the same content has the same id here as in any real repository.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from attrs import define, field

from arboretum.backends import parsing
from arboretum.backends.trees.snapshot import Entry, File, Snapshot, path_key
from arboretum.errors import InvalidValueError, ObjectMissingError
from arboretum.values import Commit, FileMode, Oid, Signature, TreeEntry, parse_tree_path


@define(eq=False)
class ObjectStore:
    """Blobs, trees and commits by id.

    Args:
        sha256: Whether ids are SHA-256.
    """

    sha256: bool = False
    _objects: dict[Oid, tuple[str, bytes]] = field(factory=dict, init=False, repr=False)
    _snapshots: dict[Oid, Snapshot] = field(factory=dict, init=False, repr=False)
    _commits: dict[Oid, Commit] = field(factory=dict, init=False, repr=False)

    def __contains__(self, oid: object) -> bool:
        return oid in self._objects

    def __len__(self) -> int:
        return len(self._objects)

    def kind(self, oid: Oid) -> str | None:
        """``blob``, ``tree`` or ``commit``; None when it is not there."""
        found = self._objects.get(oid)
        return found[0] if found else None

    def ids(self, prefix: str) -> list[Oid]:
        """The ids that start with `prefix`."""
        return [oid for oid in self._objects if oid.startswith(prefix)]

    def forget(self, oid: Oid) -> None:
        """Lose an object, as a damaged disk does."""
        self._objects.pop(oid, None)
        self._snapshots.clear()
        self._commits.pop(oid, None)

    def copy_from(self, other: ObjectStore) -> None:
        """Take over all objects of another store with the same kind of ids."""
        self._objects.update(other._objects)

    def blob_id(self, data: bytes) -> Oid:
        """The id that `data` has as a blob; nothing is stored."""
        return self._id("blob", data)

    def put_blob(self, data: bytes) -> Oid:
        """Store a blob."""
        return self._put("blob", data)

    def blob(self, oid: Oid) -> bytes:
        """The content of a blob. Raises ObjectMissingError."""
        return self._get(oid, "blob")

    def put_tree(self, entries: Iterable[TreeEntry]) -> Oid:
        """Store the tree with exactly these full paths, and its sub-trees.

        Raises:
            InvalidValueError: A path is no path, is there twice, or is both a file and a folder.
        """
        snapshot: Snapshot = {}
        for entry in entries:
            if parse_tree_path(entry.path) in snapshot:
                raise InvalidValueError(f"a tree cannot hold {entry.path!r} twice")
            if entry.mode is not FileMode.SUBMODULE:
                self._get(entry.oid, "tree" if entry.mode is FileMode.TREE else "blob")
            snapshot[entry.path] = (entry.mode, entry.oid)
        return self.put_snapshot(snapshot)

    def put_snapshot(self, snapshot: Mapping[str, Entry]) -> Oid:
        """Store the tree that a snapshot stands for."""
        here: list[tuple[bytes, FileMode, Oid]] = []
        below: dict[str, Snapshot] = {}
        for path, entry in snapshot.items():
            name, slash, rest = path.partition("/")
            if slash:
                below.setdefault(name, {})[rest] = entry
            else:
                here.append((path_key(name), entry[0], entry[1]))
        for name, inner in below.items():
            if name in snapshot:
                raise InvalidValueError(f"a tree cannot hold {name!r} both as a file and as a folder")
            here.append((path_key(name), FileMode.TREE, self.put_snapshot(inner)))
        here.sort(key=lambda e: e[0] + b"/" if e[1] is FileMode.TREE else e[0])
        return self._put("tree", b"".join(b"%o %s\0" % (m, n) + bytes.fromhex(o) for n, m, o in here))

    def snapshot(self, oid: Oid | None) -> Snapshot:
        """All files below a tree or commit, by full path; of nothing for None. Do not change what is returned."""
        if oid is None:
            return {}
        found = self._snapshots.get(oid)
        if found is None:
            tree = self.commit(oid).tree if self.kind(oid) == "commit" else oid
            found = self._snapshots[oid] = dict(self._walk(tree, ""))
        return found

    def put_commit(
        self, *, tree: Oid, parents: Sequence[Oid], message: str, author: Signature, committer: Signature
    ) -> Oid:
        """Store a commit. Raises ObjectMissingError for a tree or parent that is not there."""
        self._get(tree, "tree")
        lines = [f"tree {tree}", *(f"parent {self.commit(p).oid}" for p in parents)]
        lines += [f"author {parsing.format_identity(author)}", f"committer {parsing.format_identity(committer)}"]
        text = "\n".join(lines) + f"\n\n{message}"
        return self._put("commit", text.encode("utf-8", "surrogateescape"))

    def commit(self, oid: Oid) -> Commit:
        """The commit. Raises ObjectMissingError."""
        found = self._commits.get(oid)
        if found is None:
            found = self._commits[oid] = parsing.parse_commit(oid, self._get(oid, "commit"))
        return found

    def file(self, entry: Entry) -> File:
        """The file that an entry of a snapshot stands for."""
        return File(self.blob(entry[1]), entry[0])

    def _walk(self, tree: Oid, prefix: str) -> Iterable[tuple[str, Entry]]:
        data = self._get(tree, "tree")
        width = 32 if self.sha256 else 20
        while data:
            head, _, rest = data.partition(b"\0")
            mode, _, name = head.partition(b" ")
            oid, data = Oid(rest[:width].hex()), rest[width:]
            path = prefix + name.decode("utf-8", "surrogateescape")
            if int(mode, 8) == FileMode.TREE:
                yield from self._walk(oid, f"{path}/")
            else:
                yield path, (FileMode(int(mode, 8)), oid)

    def _id(self, kind: str, data: bytes) -> Oid:
        hasher = hashlib.sha256 if self.sha256 else hashlib.sha1  # git's ids, not a matter of security
        return Oid(hasher(b"%s %d\0" % (kind.encode(), len(data)) + data).hexdigest())

    def _put(self, kind: str, data: bytes) -> Oid:
        oid = self._id(kind, data)
        self._objects[oid] = (kind, data)
        return oid

    def _get(self, oid: Oid, kind: str) -> bytes:
        found = self._objects.get(oid)
        if found is None or found[0] != kind:
            raise ObjectMissingError(
                f"there is no {kind} {oid} in this repository" + (f": it is a {found[0]}" if found else "")
            )
        return found[1]
