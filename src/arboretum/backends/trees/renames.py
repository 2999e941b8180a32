"""Rename detection between two trees, as git does it. Pure.

Equal contents are paired first, then similar ones: by base name with a higher threshold, then by the
full matrix. The similarity is git's own estimate (``diffcore-delta``): the bytes of lines, cut
after at most 64 bytes, that the source and the destination have in common, against the larger size.
"""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from attrs import frozen

from arboretum.backends.trees.lines import is_binary, split_lines
from arboretum.backends.trees.snapshot import Entry, Snapshot, path_key
from arboretum.values import ChangeKind, DiffEntry, FileMode, Oid

MAX_SCORE = 60_000
MIN_SCORE = MAX_SCORE // 2
#: What two files of the same base name need to be paired without a look at the others.
BASENAME_SCORE = MIN_SCORE + (MAX_SCORE - MIN_SCORE) // 2
_CHUNK = 64

ReadBlob = Callable[[Oid], bytes]


def _chunks(data: bytes) -> Counter[bytes]:
    """How many bytes of the content each distinct chunk makes up."""
    text = not is_binary(data)
    found: Counter[bytes] = Counter()
    for line in split_lines(data):
        whole = line.replace(b"\r\n", b"\n") if text else line
        for at in range(0, len(whole), _CHUNK):
            piece = whole[at : at + _CHUNK]
            found[piece] += len(piece)
    return found


def similarity(old: bytes, new: bytes) -> int:
    """How alike two contents are, from 0 to `MAX_SCORE`."""
    largest, smallest = max(len(old), len(new)), min(len(old), len(new))
    if not smallest or (largest - smallest) * MAX_SCORE > (MAX_SCORE - MIN_SCORE) * largest:
        return 0
    before, after = _chunks(old), _chunks(new)
    copied = sum(min(size, after[chunk]) for chunk, size in before.items() if chunk in after)
    return copied * MAX_SCORE // largest


def _is_plain(entry: Entry) -> bool:
    return entry[0] in {FileMode.FILE, FileMode.EXECUTABLE}


@frozen
class _Candidates:
    """Removed and added paths that still want a partner."""

    removed: dict[str, Entry]
    added: dict[str, Entry]

    def pair(self, pairs: dict[str, str], new: str, old: str) -> None:
        pairs[new] = old
        del self.removed[old], self.added[new]


def find_renames(
    old: Snapshot,
    new: Snapshot,
    read: ReadBlob,
    *,
    relevant: Callable[[str], bool] | None = None,
    empty: bool = True,
) -> dict[str, str]:
    """The renames between two trees, as new path -> old path.

    Args:
        old: The tree before.
        new: The tree after.
        read: Where contents come from.
        relevant: Whether an old path matters to the caller; others are paired by equal content only
            (a merge asks for those that the other side touched, as git's does).
        empty: Whether files without content are paired (git's diff does, its merge does not).
    """

    def counts(entry: Entry) -> bool:
        return entry[0] is not FileMode.SUBMODULE and (empty or bool(read(entry[1])))

    rest = _Candidates(
        {p: e for p, e in old.items() if p not in new and counts(e)},
        {p: e for p, e in new.items() if p not in old and counts(e)},
    )
    pairs: dict[str, str] = {}
    _pair_equal(rest, pairs)
    if relevant is not None:
        for path in [p for p in rest.removed if not relevant(p)]:
            del rest.removed[path]
    if rest.removed and rest.added:
        scores = _Scores(rest, read)
        _pair_basenames(rest, pairs, scores)
        _pair_similar(rest, pairs, scores)
    return pairs


def _pair_equal(rest: _Candidates, pairs: dict[str, str]) -> None:
    by_oid: dict[Oid, list[str]] = {}
    for path in sorted(rest.removed, key=path_key):
        by_oid.setdefault(rest.removed[path][1], []).append(path)
    for path in sorted(rest.added, key=path_key):
        entry = rest.added[path]
        sources = [
            p for p in by_oid.get(entry[1], ()) if p in rest.removed and _same_type(rest.removed[p], entry)
        ]  # fmt: skip
        if sources:
            name = posixpath.basename(path)
            rest.pair(pairs, path, next((p for p in sources if posixpath.basename(p) == name), sources[0]))


def _same_type(one: Entry, two: Entry) -> bool:
    return one[0] == two[0] or (_is_plain(one) and _is_plain(two))


class _Scores:
    """Similarities of removed and added files, each content read and cut once."""

    def __init__(self, rest: _Candidates, read: ReadBlob) -> None:
        self._rest, self._read = rest, read

    def of(self, old: str, new: str) -> int:
        before, after = self._rest.removed[old], self._rest.added[new]
        if not (_is_plain(before) and _is_plain(after)):
            return 0
        return similarity(self._read(before[1]), self._read(after[1]))


def _pair_basenames(rest: _Candidates, pairs: dict[str, str], scores: _Scores) -> None:
    """Pair files whose base name is unique on both sides and that are alike enough."""
    removed, added = _unique_basenames(rest.removed), _unique_basenames(rest.added)
    for name, old in sorted(removed.items()):
        new = added.get(name)
        if new is not None and scores.of(old, new) >= BASENAME_SCORE:
            rest.pair(pairs, new, old)


def _unique_basenames(paths: Iterable[str]) -> dict[str, str]:
    found: dict[str, str | None] = {}
    for path in paths:
        name = posixpath.basename(path)
        found[name] = None if name in found else path
    return {name: path for name, path in found.items() if path is not None}


def _pair_similar(rest: _Candidates, pairs: dict[str, str], scores: _Scores) -> None:
    matrix: list[tuple[int, bool, int, str, str]] = []
    for new in sorted(rest.added, key=path_key):
        for old in sorted(rest.removed, key=path_key):
            score = scores.of(old, new)
            if score >= MIN_SCORE:
                same_name = posixpath.basename(old) == posixpath.basename(new)
                matrix.append((-score, not same_name, len(matrix), old, new))
    for _, _, _, old, new in sorted(matrix):
        if old in rest.removed and new in rest.added:
            rest.pair(pairs, new, old)


def diff(old: Snapshot, new: Snapshot, read: ReadBlob, *, renames: bool) -> tuple[DiffEntry, ...]:
    """Which paths differ, sorted by (new) path."""
    pairs = find_renames(old, new, read) if renames else {}
    gone = set(pairs.values())
    found = [DiffEntry(path, ChangeKind.RENAMED, source) for path, source in pairs.items()]
    for path in old.keys() | new.keys():
        if path not in gone and path not in pairs:
            kind = change_kind(old.get(path), new.get(path))
            if kind is not ChangeKind.UNMODIFIED:
                found.append(DiffEntry(path, kind))
    return tuple(sorted(found, key=lambda entry: path_key(entry.path)))


def change_kind(old: Entry | None, new: Entry | None) -> ChangeKind:
    """What happened to one path between two snapshots."""
    if old == new:
        return ChangeKind.UNMODIFIED
    if old is None:
        return ChangeKind.ADDED
    if new is None:
        return ChangeKind.DELETED
    return ChangeKind.MODIFIED if _same_type(old, new) else ChangeKind.TYPE_CHANGED


def paths_of(snapshots: Iterable[Mapping[str, object]]) -> list[str]:
    """All paths of several snapshots, in git's order."""
    return sorted({path for snapshot in snapshots for path in snapshot}, key=path_key)
