"""What people write to name several commits (``main~20..main``), resolved."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from arboretum.errors import UsageError
from arboretum.values import Commit, LogQuery, Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository


def commits_of(
    repository: Repository, revisions: str, *, first_parent: bool = False, paths: Iterable[str] = ()
) -> tuple[Commit, ...]:
    """The commits that `revisions` names, parents before children.

    Args:
        repository: Where to look.
        revisions: One or more of: ``B`` (all that B reaches), ``A..B`` (all of B that A does not reach), ``A...B``
            (all that only one of them reaches), ``A^!`` (A alone), ``^A`` (nothing that A reaches), with spaces.
        first_parent: Follow only the first parent of a merge.
        paths: Only commits that touch these paths.

    Raises:
        UsageError: No commit is named, or the text cannot be meant.
        RevisionNotFoundError: A revision names no commit.
    """
    include: list[Oid] = []
    exclude: list[Oid] = []
    for word in revisions.split():
        _add(repository, word, include, exclude)
    if not include:
        raise UsageError(f"{revisions!r} names no commits", hint="write a range such as main~20..main")
    query = LogQuery(
        include=tuple(include), exclude=tuple(exclude), first_parent=first_parent, paths=tuple(paths), topological=True
    )
    found = tuple(repository.backend.log(query))[::-1]
    if not found:
        raise UsageError(f"the range {revisions!r} is empty", hint="the older end comes first: OLD..NEW")
    return found


def _add(repository: Repository, word: str, include: list[Oid], exclude: list[Oid]) -> None:
    if word.startswith("^"):
        exclude.append(repository.resolve(word[1:]))
    elif word.endswith("^!"):
        commit = repository.commit(word.removesuffix("^!"))
        include.append(commit.oid)
        exclude.extend(commit.parents)
    elif "..." in word:
        one, two = (repository.resolve(end or "HEAD") for end in word.split("...", 1))
        base = repository.backend.merge_base(one, two)
        include.extend((one, two))
        exclude.extend([base] if base else [])
    elif ".." in word:
        old, new = (repository.resolve(end or "HEAD") for end in word.split("..", 1))
        include.append(new)
        exclude.append(old)
    else:
        include.append(repository.resolve(word))
