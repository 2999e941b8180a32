"""Which files history says change together, from the log; what each commit changed is cached."""

from __future__ import annotations

import itertools
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from arboretum.backends.base import GitBackend
from arboretum.values import Commit, Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository

#: How far back the log is read, in commits.
DEPTH: Final = 300
#: A commit that changes more files than this (a rename of everything, a new licence header) says nothing.
MANY_FILES: Final = 40
_CACHE: Final = "co-change.json"
_VERSION: Final = 1

#: For each pair of files (sorted) how many commits changed both.
Together = Mapping[tuple[str, str], int]


def read_history(repository: Repository, revision: str = "HEAD", *, depth: int = DEPTH) -> tuple[tuple[str, ...], ...]:
    """The paths that each of the last commits changed, newest first; merges and very large commits left out.

    What a commit changed never changes, so it is kept in the repository's state folder; only commits that
    were not seen before are compared with their parents.

    Args:
        repository: The repository.
        revision: Where the log starts.
        depth: How many commits are read at most.
    """
    path = os.path.join(repository.state_dir, _CACHE)
    known = _load(path)
    commits = [c for c in repository.log(revision, limit=depth) if len(c.parents) <= 1]
    missing = [commit for commit in commits if commit.oid not in known]
    for commit in missing:
        known[commit.oid] = _changed(repository.backend, commit)
    if missing:
        _store(path, {commit.oid: known[commit.oid] for commit in commits})
    return tuple(tuple(known[commit.oid]) for commit in commits if known[commit.oid])


def _changed(backend: GitBackend, commit: Commit) -> list[str]:
    parent = commit.parents[0] if commit.parents else None
    paths = [entry.path for entry in backend.diff_trees(parent, commit.oid, renames=False)]
    return paths if len(paths) <= MANY_FILES else []


def _load(path: str) -> dict[Oid, list[str]]:
    try:
        with open(path, encoding="utf-8") as file:
            data = json.load(file)
        return {Oid(oid): list(map(str, paths)) for oid, paths in data["commits"].items()} if data["v"] == 1 else {}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return {}  # it is only a cache


def _store(path: str, commits: Mapping[Oid, Sequence[str]]) -> None:
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump({"v": _VERSION, "commits": commits}, file)
        os.replace(temporary, path)
    except OSError:
        return  # a repository that cannot be written is read again next time


def pairs_that_change_together(
    history: Iterable[Sequence[str]], *, commits: int = 3, share: float = 0.5
) -> dict[tuple[str, str], int]:
    """The pairs of files that often change in one commit.

    Args:
        history: The paths that each commit changed.
        commits: In how many commits a pair has to change together at least.
        share: And in which part of the commits that change the rarer one of the two (its confidence).

    Returns:
        The number of commits by pair, each pair sorted.
    """
    single: Counter[str] = Counter()
    both: Counter[tuple[str, str]] = Counter()
    for paths in history:
        names = sorted(set(paths))
        single.update(names)
        both.update(itertools.combinations(names, 2))
    return {
        (one, two): count
        for (one, two), count in both.items()
        if count >= commits and count >= share * min(single[one], single[two])
    }
