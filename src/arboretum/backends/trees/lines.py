"""Line-level difference and three-way merge of file contents. Pure.

The difference is E. W. Myers' greedy algorithm ("An O(ND) Difference Algorithm and Its Variations", 1986),
which finds a shortest edit script, as git's own diff does; changes that could slide are slid down, as
git's are. The merge treats changes that touch or overlap as one region and calls it a conflict
unless both sides agree or one left it alone: what git does at its default level.

The one published package for three-way merges in Python (merge3) is licensed under the GPL, which
this package is not; and its difference is not minimal, so it conflicts where git does not.
"""

from __future__ import annotations

from collections.abc import Sequence

from attrs import frozen

#: How far into a content git looks for a NUL to call it binary.
BINARY_PROBE = 8000


def is_binary(data: bytes) -> bool:
    """Whether git takes the content for binary: a NUL among its first 8,000 bytes."""
    return b"\0" in data[:BINARY_PROBE]


def split_lines(data: bytes) -> list[bytes]:
    """The lines with their line feeds; only a line feed ends a line."""
    lines = data.split(b"\n")
    last = lines.pop()
    return [line + b"\n" for line in lines] + ([last] if last else [])


@frozen
class Change:
    """Lines ``old[start:stop]`` became ``new[new_start:new_stop]``."""

    start: int
    stop: int
    new_start: int
    new_stop: int


def changes(old: Sequence[bytes], new: Sequence[bytes]) -> list[Change]:
    """A shortest edit script from `old` to `new`, in order."""
    removed, added = [False] * len(old), [False] * len(new)
    low = 0
    while low < min(len(old), len(new)) and old[low] == new[low]:
        low += 1
    high_old, high_new = len(old), len(new)
    while high_old > low and high_new > low and old[high_old - 1] == new[high_new - 1]:
        high_old, high_new = high_old - 1, high_new - 1
    for x in range(low, high_old):
        removed[x] = True
    for y in range(low, high_new):
        added[y] = True
    for x, y in _matches(old[low:high_old], new[low:high_new]):
        removed[low + x] = added[low + y] = False
    _slide(old, removed, added)
    _slide(new, added, removed)
    return _collect(removed, added)


def _matches(old: Sequence[bytes], new: Sequence[bytes]) -> list[tuple[int, int]]:
    """The pairs of equal lines that a shortest edit script keeps (Myers' forward search, then back)."""
    best = {1: 0}
    trace: list[dict[int, int]] = []
    for depth in range(len(old) + len(new) + 1):
        trace.append(best.copy())
        for k in range(-depth, depth + 1, 2):
            down = k == -depth or (k != depth and best[k - 1] < best[k + 1])
            x = best[k + 1] if down else best[k - 1] + 1
            while x < len(old) and x - k < len(new) and old[x] == new[x - k]:
                x += 1
            best[k] = x
            if x >= len(old) and x - k >= len(new):
                return _walk_back(trace, len(old), len(new))
    return []


def _walk_back(trace: list[dict[int, int]], x: int, y: int) -> list[tuple[int, int]]:
    pairs = []
    for depth in range(len(trace) - 1, -1, -1):
        best, k = trace[depth], x - y
        down = k == -depth or (k != depth and best[k - 1] < best[k + 1])
        before_k = k + 1 if down else k - 1
        before_x = best[before_k] if depth else 0
        before_y = before_x - before_k if depth else 0
        while x > before_x and y > before_y:
            x, y = x - 1, y - 1
            pairs.append((x, y))
        x, y = before_x, before_y
    return pairs


def _slide(lines: Sequence[bytes], changed: list[bool], other: Sequence[bool]) -> None:
    """Slide each group of changed lines to where git would show it.

    That is level with a group of the other side where there is one in reach, and else as far down as the
    lines allow; groups that meet become one.
    """
    level = _gaps(other)
    start = 0
    while start < len(lines):
        if not changed[start]:
            start += 1
            continue
        stop, kept = _end(changed, start), changed[:start].count(False)
        while True:
            size = stop - start
            while start and lines[start - 1] == lines[stop - 1]:
                start, stop, kept = start - 1, stop - 1, kept - 1
                changed[start], changed[stop] = True, False
                while start and changed[start - 1]:
                    start -= 1
            earliest, match = stop, stop if level[kept] else None
            while stop < len(lines) and lines[start] == lines[stop]:
                changed[start], changed[stop] = False, True
                start, stop, kept = start + 1, _end(changed, stop + 1), kept + 1
                match = stop if level[kept] else match
            if stop - start == size:
                break
        if match is not None and stop != earliest:
            while not level[kept]:
                start, stop, kept = start - 1, stop - 1, kept - 1
                changed[start], changed[stop] = True, False
        start = stop


def _end(changed: Sequence[bool], at: int) -> int:
    while at < len(changed) and changed[at]:
        at += 1
    return at


def _gaps(changed: Sequence[bool]) -> list[bool]:
    """Whether lines are changed in front of each kept line, and behind the last one."""
    gaps = [False]
    for is_changed in changed:
        if is_changed:
            gaps[-1] = True
        else:
            gaps.append(False)
    return gaps


def _collect(removed: Sequence[bool], added: Sequence[bool]) -> list[Change]:
    found = []
    x = y = 0
    while x < len(removed) or y < len(added):
        x0, y0 = x, y
        while x < len(removed) and removed[x]:
            x += 1
        while y < len(added) and added[y]:
            y += 1
        if (x0, y0) != (x, y):
            found.append(Change(x0, x, y0, y))
        x, y = x + 1, y + 1
    return found


@frozen
class TextMerge:
    """The result of a three-way merge: the content (with markers where it conflicts), and whether it does."""

    data: bytes
    conflict: bool


def merge_lines(base: bytes, ours: bytes, theirs: bytes, *, labels: tuple[str, str] = ("ours", "theirs")) -> TextMerge:
    """Merge what became of `base` on two sides.

    Args:
        base: The common ancestor's content; empty when both sides added the file.
        ours: One side.
        theirs: The other side.
        labels: What the conflict markers call the sides.
    """
    if theirs in (ours, base):
        return TextMerge(ours, conflict=False)
    if ours == base:
        return TextMerge(theirs, conflict=False)
    if is_binary(base) or is_binary(ours) or is_binary(theirs):
        return TextMerge(ours, conflict=True)
    lines, mine, yours = split_lines(base), split_lines(ours), split_lines(theirs)
    result: list[bytes] = []
    conflict = False
    position = 0
    for region in _regions(changes(lines, mine), changes(lines, yours)):
        result += lines[position : region.start]
        position = region.stop
        old, one = lines[region.start : region.stop], mine[slice(*region.ours)]
        two = yours[slice(*region.theirs)]
        if two in (one, old):
            result += one
        elif one == old:
            result += two
        else:
            conflict = True
            result += _marked(one, two, labels)
    return TextMerge(b"".join(result + lines[position:]), conflict)


def _marked(one: list[bytes], two: list[bytes], labels: tuple[str, str]) -> list[bytes]:
    def closed(lines: list[bytes]) -> list[bytes]:
        return [*lines[:-1], lines[-1].removesuffix(b"\n") + b"\n"] if lines else []

    return [
        b"<<<<<<< %s\n" % labels[0].encode(), *closed(one), b"=======\n", *closed(two),
        b">>>>>>> %s\n" % labels[1].encode(),
    ]  # fmt: skip


@frozen
class _Region:
    """A stretch of the base that some side changed, and what it is on both sides."""

    start: int
    stop: int
    ours: tuple[int, int]
    theirs: tuple[int, int]


def _regions(ours: list[Change], theirs: list[Change]) -> list[_Region]:
    """Group the changes of both sides: those that touch or overlap make one region."""
    pending = sorted([(c.start, c.stop, 0, c) for c in ours] + [(c.start, c.stop, 1, c) for c in theirs],
                     key=lambda item: item[:3])  # fmt: skip
    offsets = [0, 0]  # new position less base position, behind the changes that were passed
    regions: list[_Region] = []
    at = 0
    while at < len(pending):
        start, stop = pending[at][:2]
        group = [pending[at]]
        at += 1
        while at < len(pending) and pending[at][0] <= stop:
            stop = max(stop, pending[at][1])
            group.append(pending[at])
            at += 1
        starts = [start + offsets[0], start + offsets[1]]
        for _, _, side, change in group:
            offsets[side] = change.new_stop - change.stop
        regions.append(
            _Region(start, stop, (starts[0], stop + offsets[0]), (starts[1], stop + offsets[1]))
        )  # fmt: skip
    return regions
