"""What `bench_objects` times: each case as arboretum does it, and as its libraries do it at their best.

"At its best" means the same result with the least work: one git command line, `Repo.git` where GitPython's own objects
are slower than that, pygit2 without anything around it. A result counts as the same when a caller could go on with
it: text and ids, not handles that would have to be asked again.
"""

from __future__ import annotations

import itertools
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import git
import pygit2
from attrs import frozen
from pygit2.enums import DiffOption, FileStatus, RepositoryOpenFlag, SortMode

from arboretum import Repository
from arboretum.values import Oid

Way = Callable[[], object]
BACKENDS: Final = ("cli", "gitpython", "pygit2")
_PLACE: Final = ("rev-parse", "--show-object-format", "--absolute-git-dir", "--show-toplevel")
_REFS: Final = ("for-each-ref", "--format=%(refname)%00%(objectname)", "refs/heads")
_LOG: Final = ("log", "-z", "--date=raw", "--format=tformat:%H%n%T%n%P%n%an%n%ae%n%ad%n%cn%n%ce%n%cd%n%B", "HEAD", "--")
_STATUS: Final = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--no-renames", "--no-ahead-behind")
_DIFF: Final = ("diff-tree", "-r", "-z", "--raw", "--find-renames")
_numbers = itertools.count()


@frozen
class Place:
    """A repository to work on: its path, two commits that differ, and a branch at each of them."""

    path: str
    old: Oid
    new: Oid


@frozen(kw_only=True)
class Case:
    """One thing to do.

    Args:
        name: Its name, for the peers too.
        ours: How arboretum does it.
        best: How each backend's library does it at its best.
        objects: How GitPython's own objects do it, when that is another way.
        calls: How often it is done for one reading.
        alone: Whether it changes the repository, so that each way needs one of its own.
        single: Whether it is a single read, of which pygit2 does twenty in the time of one process.
    """

    name: str
    ours: Callable[[Repository, Place], Way]
    best: dict[str, Callable[[Place], Way]]
    objects: Callable[[Place], Way] | None = None
    calls: int = 1
    alone: bool = False
    single: bool = False


def run_git(place: Place, *arguments: str) -> bytes:
    """One git process, its output."""
    return subprocess.run(["git", *arguments], cwd=place.path, capture_output=True, check=True).stdout


def _library(place: Place) -> Any:
    """GitPython, running git."""
    return git.Repo(place.path).git


def _bare(place: Place) -> Any:
    return pygit2.Repository(place.path, RepositoryOpenFlag.NO_SEARCH)


def _parsed_log(text: str) -> list[list[str]]:
    return [record.split("\n", 9) for record in text.split("\0")[:-1]]


def _walk_bare(place: Place) -> Way:
    repo = _bare(place)
    return lambda: [_values(commit) for commit in repo.walk(repo.head.target, SortMode.TIME)]


def _values(commit: Any) -> object:
    """All that a commit says, as text and numbers."""
    author, committer = commit.author, commit.committer
    return (
        str(commit.id), str(commit.tree_id), [str(parent) for parent in commit.parent_ids], commit.message,
        (author.name, author.email, author.time, author.offset),
        (committer.name, committer.email, committer.time, committer.offset),
    )  # fmt: skip


def _walk_objects(place: Place) -> Way:
    repo = git.Repo(place.path)
    return lambda: [
        (c.hexsha, c.message, c.author.name, c.author.email, c.authored_datetime, c.committed_datetime)
        for c in repo.iter_commits("HEAD")
    ]


def _branches_bare(place: Place) -> Way:
    repo = _bare(place)
    return lambda: [
        (ref.name, str(ref.target)) for ref in repo.references.objects if ref.name.startswith("refs/heads/")
    ]


def _diff_bare(place: Place) -> Way:
    repo = _bare(place)

    def run() -> object:
        diff = repo[place.old].tree.diff_to_tree(repo[place.new].tree, flags=DiffOption.INCLUDE_TYPECHANGE)
        diff.find_similar()
        return [(delta.status_char(), delta.old_file.path, delta.new_file.path) for delta in diff.deltas]

    return run


def _fresh_file(place: Place) -> str:
    """A file that was not there before: to commit it takes a staging and a commit."""
    name = f"new{next(_numbers)}"
    Path(place.path, name).write_text(name, encoding="utf-8")
    return name


def _commit_ours(repository: Repository, place: Place) -> Way:
    tree = repository.worktrees.main

    def run() -> object:
        tree.stage([_fresh_file(place)])
        return tree.commit("a commit")

    return run


def _commit_git(place: Place) -> Way:
    def run() -> object:
        run_git(place, "add", "--", _fresh_file(place))
        run_git(place, "commit", "-q", "-m", "a commit")
        return run_git(place, "rev-parse", "HEAD")

    return run


def _commit_library(place: Place) -> Way:
    def run() -> object:
        library = _library(place)
        library.add("--", _fresh_file(place))
        library.commit("-q", "-m", "a commit")
        return library.rev_parse("HEAD")

    return run


def _commit_objects(place: Place) -> Way:
    repo = git.Repo(place.path)

    def run() -> object:
        repo.index.add([_fresh_file(place)])
        return repo.index.commit("a commit").hexsha

    return run


def _commit_bare(place: Place) -> Way:
    repo = _bare(place)

    def run() -> object:
        index = repo.index
        index.read(False)
        index.add(_fresh_file(place))
        index.write()
        who = repo.default_signature
        return str(repo.create_commit("HEAD", who, who, "a commit\n", index.write_tree(), [repo.head.target]))

    return run


def _switch(there: Callable[[str], object]) -> Way:
    """Go to and fro between the branches ``old`` and ``new``."""
    turns = itertools.cycle(("old", "new"))
    return lambda: there(next(turns))


def _checkout_bare(place: Place) -> Way:
    repo = _bare(place)
    return _switch(lambda name: repo.checkout(f"refs/heads/{name}"))


def _clean_bare(place: Place) -> Way:
    repo = _bare(place)

    def run() -> object:
        name = _fresh_file(place)
        for path, flags in repo.status().items():
            if flags & FileStatus.WT_NEW:
                Path(place.path, path).unlink()
        return name

    return run


def _clean_ours(repository: Repository, place: Place) -> Way:
    tree = repository.worktrees.main

    def run() -> object:
        _fresh_file(place)
        return tree.clean()

    return run


def _clean_git(place: Place) -> Way:
    def run() -> object:
        _fresh_file(place)
        return run_git(place, "clean", "-ffd")

    return run


def _objects(place: Place, work: Callable[[Any], object]) -> Way:
    repo = git.Repo(place.path)
    return lambda: work(repo)


def _native(work: Callable[[Any, Place], object]) -> Callable[[Place], Way]:
    def way(place: Place) -> Way:
        repo = _bare(place)
        return lambda: work(repo, place)

    return way


def _processes(*arguments: str) -> dict[str, Callable[[Place], Way]]:
    """The same git command line, once as a process and once through GitPython."""
    return {
        "cli": lambda place: lambda: run_git(place, *_filled(arguments, place)).decode(),
        "gitpython": lambda place: lambda: _library(place).execute(["git", *_filled(arguments, place)]),
    }


def _filled(arguments: tuple[str, ...], place: Place) -> list[str]:
    return [argument.format(old=place.old, new=place.new) if "{" in argument else argument for argument in arguments]


def _opened(backend: str, place: Place) -> Way:
    return lambda: Repository.open(place.path, backend=backend).close()


CASES: Final = (
    Case(
        name="open", calls=5,
        ours=lambda repository, place: _opened(repository.backend.name, place),
        best=_processes(*_PLACE) | {"pygit2": lambda place: lambda: _bare(place).free()},
        objects=lambda place: lambda: git.Repo(place.path).close(),
    ),
    Case(
        name="current branch", calls=20, single=True,
        ours=lambda repository, _place: lambda: repository.current_branch,
        best=_processes("symbolic-ref", "--short", "HEAD") | {"pygit2": _native(lambda repo, _: repo.head.shorthand)},
        objects=lambda place: _objects(place, lambda repo: repo.active_branch.name),
    ),
    Case(
        name="branches", calls=3,
        ours=lambda repository, _place: lambda: list(repository.branches),
        best=_processes(*_REFS) | {"pygit2": _branches_bare},
        objects=lambda place: _objects(place, lambda repo: [(h.name, h.commit.hexsha) for h in repo.heads]),
    ),
    Case(
        name="walk",
        ours=lambda repository, _place: lambda: list(repository.log()),
        best={
            "cli": lambda place: lambda: _parsed_log(run_git(place, *_LOG).decode()),
            "gitpython": lambda place: lambda: _parsed_log(_library(place).execute(["git", *_LOG])),
            "pygit2": _walk_bare,
        },
        objects=_walk_objects,
    ),
    Case(
        name="walk, all dates looked at",
        ours=lambda repository, _place: lambda: [(c.author.when, c.committer.when, c) for c in repository.log()],
        best={
            "cli": lambda place: lambda: _parsed_log(run_git(place, *_LOG).decode()),
            "gitpython": lambda place: lambda: _parsed_log(_library(place).execute(["git", *_LOG])),
            "pygit2": _walk_bare,
        },
    ),
    Case(
        name="diff of names", calls=3,
        ours=lambda repository, place: lambda: repository.diff_names(place.old, place.new),
        best=_processes(*_DIFF, "{old}", "{new}") | {"pygit2": _diff_bare},
        objects=lambda place: _objects(
            place, lambda repo: [d.b_path for d in repo.commit(place.old).diff(repo.commit(place.new))]
        ),
    ),
    Case(
        name="status",
        ours=lambda repository, _place: repository.worktrees.main.status,
        best=_processes(*_STATUS) | {"pygit2": _native(lambda repo, _: repo.status())},
        objects=lambda place: _objects(
            place, lambda repo: (repo.index.diff(None), repo.index.diff("HEAD"), repo.untracked_files)
        ),
    ),
    Case(
        name="commit", alone=True, ours=_commit_ours,
        best={"cli": _commit_git, "gitpython": _commit_library, "pygit2": _commit_bare}, objects=_commit_objects,
    ),
    Case(
        name="checkout", alone=True,
        ours=lambda repository, _place: _switch(repository.worktrees.main.checkout),
        best={
            "cli": lambda place: _switch(lambda name: run_git(place, "checkout", "-q", name)),
            "gitpython": lambda place: _switch(lambda name: _library(place).checkout("-q", name)),
            "pygit2": _checkout_bare,
        },
        objects=lambda place: _switch(lambda name: git.Repo(place.path).heads[name].checkout()),
    ),
    Case(
        name="clean", alone=True, ours=_clean_ours,
        best={
            "cli": _clean_git,
            "gitpython": lambda place: lambda: (_fresh_file(place), _library(place).clean("-ffd")),
            "pygit2": _clean_bare,
        },
    ),
    Case(
        name="merge in memory", calls=3,
        ours=lambda repository, _place: lambda: repository.merge_tree("old", "side"),
        best=_processes("merge-tree", "--write-tree", "old", "side")
        | {"pygit2": _native(lambda repo, _: _merge_bare(repo))},
    ),
    Case(
        name="head", calls=20, single=True,
        ours=lambda repository, _place: lambda: repository.head.oid,
        best=_processes("rev-parse", "HEAD") | {"pygit2": _native(lambda repo, _: str(repo.head.target))},
        objects=lambda place: _objects(place, lambda repo: repo.head.commit.hexsha),
    ),
    Case(
        name="resolve", calls=20, single=True,
        ours=lambda repository, _place: lambda: repository.resolve("HEAD~3"),
        best=_processes("rev-parse", "--verify", "HEAD~3^{{commit}}")
        | {"pygit2": _native(lambda repo, _: str(repo.revparse_single("HEAD~3").id))},
        objects=lambda place: _objects(place, lambda repo: repo.rev_parse("HEAD~3").hexsha),
    ),
    Case(
        name="read commit", calls=20, single=True,
        ours=lambda repository, place: lambda: repository.backend.read_commit(place.old),
        best=_processes("cat-file", "commit", "{old}")
        | {"pygit2": _native(lambda repo, place: _values(repo[place.old]))},
        objects=lambda place: _objects(place, lambda repo: repo.commit(place.old).message),
    ),
)  # fmt: skip


def _merge_bare(repo: Any) -> str:
    merged = repo.merge_commits(repo.branches["old"].target, repo.branches["side"].target)
    return str(merged.write_tree(repo))
