"""Objects through libgit2: commits, trees, blobs, comparison and merge in memory."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeVar

import pygit2
from pygit2.enums import DiffOption, ObjectType, SortMode

from arboretum.backends.base import CommitLink
from arboretum.backends.identity import plain
from arboretum.backends.libgit2 import gate, history, merging
from arboretum.backends.libgit2.faults import NATIVE_ERRORS, operation, translate
from arboretum.backends.libgit2.modes import mode_of, oid_of
from arboretum.backends.libgit2.session import Session
from arboretum.backends.trees.diffs import make_patch
from arboretum.backends.trees.patches import apply_patch
from arboretum.backends.trees.renames import find_renames
from arboretum.backends.trees.snapshot import File
from arboretum.errors import (
    GitOperationError,
    InvalidValueError,
    ObjectMissingError,
    RevisionNotFoundError,
    UnbornHeadError,
    UnsupportedOperationError,
)
from arboretum.moments import format_moment, moment
from arboretum.values import (
    ChangeKind,
    Commit,
    DiffEntry,
    FileMode,
    LogQuery,
    MergeOutcome,
    Oid,
    Revision,
    Signature,
    TreeEntry,
    parse_tree_path,
)

_Value = TypeVar("_Value")
_Loaded = dict[Oid, tuple[pygit2.Commit, tuple[Oid, ...]]]
# What libgit2's parser reads otherwise than git, or not at all.
_KINDS: Final = {kind.value: kind for kind in ChangeKind}  # a look-up takes a tenth of what the enumeration takes
_INDEX_SYNTAX: Final = re.compile(r":(?!/)")


def _signature(told: tuple[bytes, bytes, int, int]) -> Signature:
    name, email, seconds, offset = told
    return Signature(
        name.decode("utf-8", "surrogateescape"), email.decode("utf-8", "surrogateescape"), moment(seconds, offset)
    )


def _link(native: pygit2.Commit, parents: tuple[Oid, ...]) -> CommitLink:
    return CommitLink(oid_of(native.id), parents, native.commit_time)


def _parents(native: pygit2.Commit) -> tuple[Oid, ...]:
    return tuple([oid_of(parent) for parent in native.parent_ids])


def to_commit(native: pygit2.Commit, parents: tuple[Oid, ...]) -> Commit:
    """The value that stands for a commit of libgit2, and keeps nothing of it."""
    encoding = native.message_encoding
    try:
        message = native.raw_message.decode(encoding or "utf-8", "strict" if encoding else "surrogateescape")
    except (LookupError, UnicodeDecodeError):
        message = native.raw_message.decode("utf-8", "surrogateescape")
    author, committer = native.author, native.committer
    return Commit.told(
        oid_of(native.id),
        oid_of(native.tree_id),
        parents,
        message,
        sign=_signature,
        author=(author.raw_name, author.raw_email, author.time, author.offset),
        committer=(committer.raw_name, committer.raw_email, committer.time, committer.offset),
    )


def signature_line(role: str, signature: Signature) -> str:
    """The line of a commit (or, without a role, of a reflog) that says who and when."""
    return f"{role} {plain(signature.name)} <{plain(signature.email)}> {format_moment(signature.when)}"


class Objects(Session):
    """The `ObjectReader` of libgit2."""

    @operation
    def resolve(self, revision: Revision, *, worktree: str | None = None) -> Oid:
        repository = self.handles.at(worktree)
        if _INDEX_SYNTAX.match(revision):
            raise UnsupportedOperationError(
                f"libgit2 does not read '{revision}': a path of the index",
                hint='name a commit, or open the repository with backend="cli"',
            )
        try:
            found = repository.revparse_single(revision)
            return oid_of((found if isinstance(found, pygit2.Commit) else found.peel(pygit2.Commit)).id)
        except NATIVE_ERRORS as error:
            raise self._unresolved(repository, revision, error) from error

    def _unresolved(self, repository: pygit2.Repository, revision: str, error: BaseException) -> GitOperationError:
        if re.match(r"(HEAD|@)(?![\w/.-])", revision) and repository.head_is_unborn:
            return UnbornHeadError(
                f"'{revision}' names no commit: HEAD is on a branch that has none yet", hint="make a first commit"
            )
        named = self._named_object(repository, revision)
        if named is not None and named not in repository:
            return ObjectMissingError(f"'{revision}' names the object {named}, which is not in the repository")
        translated = translate(error, "resolve", subject=revision, otherwise=RevisionNotFoundError)
        if isinstance(translated, RevisionNotFoundError):
            return RevisionNotFoundError(f"'{revision}' names no commit")
        return translated

    @staticmethod
    def _named_object(repository: pygit2.Repository, revision: str) -> str | None:
        """The id that the text or the ref it stands for names, whether or not the object is there."""
        base = re.split(r"[~^]|@\{", revision, maxsplit=1)[0]
        if re.fullmatch(r"[0-9a-f]{40}", base):
            return base
        for name in (base, *(f"refs/{kind}{base}" for kind in ("", "tags/", "heads/", "remotes/"))):
            try:
                return str(repository.lookup_reference(name).resolve().target)
            except NATIVE_ERRORS:
                continue
        return None

    @operation
    def read_commit(self, oid: Oid) -> Commit:
        native = self._commit(self.handles.main(), oid)
        return to_commit(native, _parents(native))

    def _commit(self, repository: pygit2.Repository, oid: str) -> pygit2.Commit:
        found = repository.get(oid)
        if not isinstance(found, pygit2.Commit):
            kind = f": it is a {found.type_str}" if found is not None else ""
            raise ObjectMissingError(f"there is no commit {oid} in this repository{kind}")
        return found

    def log(self, query: LogQuery) -> Iterator[Commit]:
        return self._shown("log", query, to_commit)

    def links(self, query: LogQuery) -> Iterator[CommitLink]:
        return self._shown("links", query, _link)

    def _shown(
        self, operation: str, query: LogQuery, value: Callable[[pygit2.Commit, tuple[Oid, ...]], _Value]
    ) -> Iterator[_Value]:
        repository = self.handles.main()
        commits: _Loaded = {}
        try:
            for oid in (*query.include, *query.exclude):
                self._commit(repository, oid)
            walked = self._walk(repository, query, commits)
            if query.topological:
                walked = history.topological(list(walked))
            left = -1 if query.limit is None else query.limit
            for oid, step in walked:
                native, parents = commits.pop(oid) if not query.topological else commits[oid]
                if left and step.shown:
                    left -= 1
                    yield value(native, parents)
                if not left:
                    return
        except NATIVE_ERRORS as error:
            raise translate(error, operation) from error

    def _walk(
        self, repository: pygit2.Repository, query: LogQuery, commits: _Loaded
    ) -> Iterator[tuple[Oid, history.Step]]:
        """The walk of a log; `commits` collects the commits that it saw."""
        paths = tuple(query.paths)

        def load(oid: Oid) -> tuple[int, Sequence[Oid]]:
            native = self._commit(repository, oid)
            parents = _parents(native)
            commits[oid] = native, parents
            return native.commit_time, parents

        def content(oid: Oid) -> tuple[object, ...]:
            tree = self._commit(repository, oid).tree
            found = tuple(_entry_id(tree, path) for path in paths)
            return found if any(found) else ()

        if paths and query.exclude:
            walk = history.LimitedWalk(load, content, query.first_parent)
            return walk.run(query.include, query.exclude)
        members = _members(repository, query) if query.exclude else None

        def step(oid: Oid) -> history.Step:
            date, parents = load(oid)
            shown = True
            if paths:
                parents, shown = history.simplify(content(oid), parents, content, first_parent=query.first_parent)
            if query.first_parent:
                parents = parents[:1]
            if members is not None:
                parents = [parent for parent in parents if parent in members]
            return history.Step(date, parents, shown)

        return history.by_date([oid for oid in query.include if members is None or oid in members], step)

    @operation
    def merge_base(self, one: Oid, two: Oid) -> Oid | None:
        found = self.handles.main().merge_base(one, two)
        return None if found is None else oid_of(found)

    @operation
    def read_tree(self, tree: Oid) -> tuple[TreeEntry, ...]:
        repository = self.handles.main()
        return tuple(_walk_tree(repository, str(pygit2_tree(repository, tree).id), ""))

    @operation
    def read_blob(self, oid: Oid) -> bytes:
        repository = self.handles.main()
        try:
            kind, data = repository.read(oid)
        except KeyError as error:
            raise ObjectMissingError(f"there is no blob {oid} in this repository") from error
        if kind != ObjectType.BLOB:
            raise ObjectMissingError(f"there is no blob {oid} in this repository: it is another kind of object")
        return data

    @operation
    def write_blob(self, data: bytes) -> Oid:
        return oid_of(self.handles.main().create_blob(data))

    @operation
    def write_tree(self, entries: Sequence[TreeEntry]) -> Oid:
        repository = self.handles.main()
        seen: set[str] = set()
        for entry in entries:
            if parse_tree_path(entry.path) in seen:
                raise InvalidValueError(f"a tree cannot hold {entry.path!r} twice")
            seen.add(entry.path)
            if entry.mode is not FileMode.SUBMODULE and entry.oid not in repository:
                raise ObjectMissingError(f"{entry.path!r} would name {entry.oid}, which is not in this repository")
        for path in seen:
            folder = os.path.dirname(path)
            while folder:
                if folder in seen:
                    raise InvalidValueError(f"a tree cannot hold {folder!r} both as a file and as a folder")
                folder = os.path.dirname(folder)
        return write_entries(repository, entries)

    @operation
    def write_commit(
        self, *, tree: Oid, parents: Sequence[Oid], message: str, author: Signature, committer: Signature
    ) -> Oid:
        repository = self.handles.main()
        if not isinstance(repository.get(tree), pygit2.Tree):
            raise ObjectMissingError(f"there is no tree {tree} in this repository")
        if "\x00" in message:
            raise InvalidValueError("a commit message cannot hold a NUL")
        lines = [f"tree {tree}", *(f"parent {self._commit(repository, parent).id}" for parent in parents)]
        lines += [signature_line("author", author), signature_line("committer", committer)]
        text = "\n".join(lines) + f"\n\n{message}"
        return oid_of(repository.write(ObjectType.COMMIT, text.encode("utf-8", "surrogateescape")))

    @operation
    def diff_trees(self, old: Oid | None, new: Oid, *, renames: bool = True) -> tuple[DiffEntry, ...]:
        repository = self.handles.main()
        return diff_entries(repository, self._diff(repository, old, new), renames=renames)

    @operation
    def diff_text(self, old: Oid | None, new: Oid) -> bytes:
        repository = self.handles.main()
        gate.refuse_promised(self.handles.layout.common_dir, "diff_text")
        changes = merging.changes_of(self._diff(repository, old, new))
        before, after = ({p: pair[n] for p, pair in changes.items()} for n in (0, 1))
        return make_patch(
            merging.Blobs(repository), merging.existing(before), merging.existing(after), hunks=_text_hunks
        )

    def _diff(self, repository: pygit2.Repository, old: Oid | None, new: Oid) -> pygit2.Diff:
        flags = DiffOption.INCLUDE_TYPECHANGE
        tree = pygit2_tree(repository, new)
        if old is None:
            return tree.diff_to_tree(flags=flags, swap=True)
        return pygit2_tree(repository, old).diff_to_tree(tree, flags=flags)

    @operation
    def merge_trees(self, ours: Oid, theirs: Oid, *, base: Oid | None = None) -> MergeOutcome:
        repository = self.handles.main()
        gate.refuse_promised(self.handles.layout.common_dir, "merge_trees")
        if base is None:
            return merging.merge_commits(repository, self._commit(repository, ours), self._commit(repository, theirs))
        trees = [pygit2_tree(repository, oid) for oid in (base, ours, theirs)]
        return merging.merge_trees(repository, trees[0], trees[1], trees[2])

    @operation
    def apply_to_tree(self, tree: Oid, patch: bytes) -> Oid:
        repository = self.handles.main()
        entries = {entry.path: entry for entry in self.read_tree(tree)}
        changes = apply_patch(patch, lambda path: _file_of(repository, entries.get(path)))
        for path, changed in changes.items():
            entries.pop(path, None)
            if changed is not None:
                oid = oid_of(repository.create_blob(changed.data))
                entries[path] = TreeEntry(path, changed.mode, oid)
        return write_entries(repository, list(entries.values()))


def _members(repository: pygit2.Repository, query: LogQuery) -> set[str]:
    """The commits that are included and not excluded."""
    walker = repository.walk(None, SortMode.NONE)
    for oid in query.include:
        walker.push(oid)
    for oid in query.exclude:
        walker.hide(oid)
    return {str(commit.id) for commit in walker}


def pygit2_tree(repository: pygit2.Repository, oid: str) -> pygit2.Tree:
    """The tree `oid`, or that of the commit `oid`. Raises ObjectMissingError."""
    found = repository.get(oid)
    if isinstance(found, pygit2.Commit):
        return found.tree
    if not isinstance(found, pygit2.Tree):
        raise ObjectMissingError(f"there is no tree or commit {oid} in this repository")
    return found


def _entry_id(tree: pygit2.Tree, path: str) -> object:
    try:
        entry = tree[path]
    except KeyError:
        return None
    return (entry.filemode, entry.id)


def _walk_tree(repository: pygit2.Repository, tree: str, prefix: str) -> Iterator[TreeEntry]:
    r"""The files below a tree, parsed from its bytes: ``<mode> <name>\0<20 bytes>``, again and again."""
    data = repository.read(tree)[1]
    at, end = 0, len(data)
    while at < end:
        space = data.index(b" ", at)
        nul = data.index(b"\0", space)
        mode = int(data[at:space], 8)
        path = prefix + data[space + 1 : nul].decode("utf-8", "surrogateescape")
        at = nul + 21
        oid = data[nul + 1 : at].hex()
        if mode == FileMode.TREE:
            yield from _walk_tree(repository, oid, f"{path}/")
        else:
            yield TreeEntry(path, mode_of(mode), Oid(oid))


def _text_hunks(old: bytes, new: bytes) -> bytes:
    """The hunks that libgit2 makes of two texts, without the lines above them that name files."""
    text: bytes = pygit2.Patch.create_from(old, new, flag=DiffOption.FORCE_TEXT).data
    start = text.find(b"\n@@ ")
    return text[start + 1 :] if start >= 0 else b""


def _file_of(repository: pygit2.Repository, entry: TreeEntry | None) -> File | None:
    return None if entry is None else File(repository.read(entry.oid)[1], entry.mode)


def write_entries(repository: pygit2.Repository, entries: Sequence[TreeEntry]) -> Oid:
    """Store the tree that holds exactly `entries`, whose objects are there."""
    index = pygit2.Index()
    for entry in entries:
        index.add(pygit2.IndexEntry(entry.path, pygit2.Oid(hex=entry.oid), int(entry.mode)))  # type: ignore[arg-type]  # an int does
    return oid_of(index.write_tree(repository))


def diff_entries(repository: pygit2.Repository, diff: pygit2.Diff, *, renames: bool) -> tuple[DiffEntry, ...]:
    """The paths of a comparison of libgit2, with git's own idea of what a rename is."""
    found: dict[bytes, DiffEntry] = {}
    removed: dict[str, tuple[FileMode, Oid]] = {}
    added: dict[str, tuple[FileMode, Oid]] = {}
    for delta in diff.deltas:
        letter = delta.status_char()
        side = delta.old_file if letter == "D" else delta.new_file
        raw = side.raw_path
        path = raw.decode("utf-8", "surrogateescape")
        found[raw] = DiffEntry(path, _KINDS[letter])
        if letter == "D":
            removed[path] = (mode_of(side.mode), oid_of(side.id))
        elif letter == "A":
            added[path] = (mode_of(side.mode), oid_of(side.id))
    if renames and removed and added:
        pairs = find_renames(removed, added, lambda oid: repository.read(oid)[1])
        for new, old in pairs.items():
            found.pop(os.fsencode(old))
            found[os.fsencode(new)] = DiffEntry(new, ChangeKind.RENAMED, old)
    return tuple([found[raw] for raw in sorted(found)])
