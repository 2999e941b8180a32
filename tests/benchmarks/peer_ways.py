"""The ways of dulwich and scmrepo, run by the Python of their own environment; see `peers`.

One JSON request a line: ``prepare`` makes a way ready (and tries it), ``run`` does it and tells the seconds of a call.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Way = Callable[[], object]
_numbers = itertools.count()


def _one_file(path: str, commit: Callable[[str], object]) -> Way:
    def run() -> object:
        name = f"peer-{os.getpid()}-{next(_numbers)}"
        with open(f"{path}/{name}", "w", encoding="utf-8") as file:
            file.write(name)
        return commit(name)

    return run


def dulwich(case: str, path: str, options: dict[str, Any]) -> Way:
    """The way of dulwich."""
    from dulwich import porcelain
    from dulwich.objectspec import parse_commit
    from dulwich.repo import Repo

    repo = Repo(path)
    old, new = (options.get(side, "HEAD").encode() for side in ("old", "new"))

    def commit(name: str) -> object:
        repo.get_worktree().stage([name])
        return porcelain.commit(repo, message=b"a commit")

    return {
        "open": lambda: Repo(path).close(),
        "current branch": lambda: porcelain.active_branch(repo),
        "branches": lambda: repo.refs.as_dict(b"refs/heads/"),
        "walk": lambda: [(e.commit.id, e.commit.author, e.commit.message) for e in repo.get_walker()],
        "diff of names": lambda: list(repo.object_store.tree_changes(repo[old].tree, repo[new].tree)),
        "status": lambda: porcelain.status(repo, untracked_files="all"),
        "commit": _one_file(path, commit),
        "head": repo.head,
        "resolve": lambda: parse_commit(repo, b"main").id,
        "read commit": lambda: repo[old].message,
    }[case]


def scmrepo(case: str, path: str, options: dict[str, Any]) -> Way:
    """The way of scmrepo's own choosing among its three libraries."""
    from scmrepo.git import Git

    repo = Git(path)

    def commit(name: str) -> object:
        repo.add(name)
        return repo.commit("a commit")

    return {
        "open": lambda: Git(path).close(),
        "current branch": repo.active_branch,
        "branches": lambda: [(ref, repo.get_ref(ref)) for ref in repo.iter_refs("refs/heads/")],
        "walk": lambda: [repo.resolve_commit(oid) for oid in repo.list_all_commits()],
        "status": lambda: repo.status(untracked_files="all"),
        "commit": _one_file(path, commit),
        "head": repo.get_rev,
        "resolve": lambda: repo.resolve_rev("HEAD~3"),
        "read commit": lambda: repo.resolve_commit(options["old"]),
    }[case]


def _seconds(way: Way, calls: int) -> float:
    begin = time.perf_counter()
    for _ in range(calls):
        way()
    return (time.perf_counter() - begin) / calls


def main() -> None:
    """Answer requests until the input ends."""
    answers, sys.stdout = sys.stdout, sys.stderr
    ready: dict[str, tuple[Way, int]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        try:
            with contextlib.redirect_stdout(sys.stderr):
                if "prepare" in request:
                    name = request["prepare"]
                    library, _, case = name.partition(" ")
                    way = {"dulwich": dulwich, "scmrepo": scmrepo}[library](case, request["path"], request["options"])
                    ready[name] = (way, request["options"].get("calls", 1))
                    seconds = _seconds(way, 1)
                else:
                    seconds = _seconds(*ready[request["run"]])
            answer: dict[str, object] = {"seconds": seconds}
        except Exception as error:  # whatever a peer cannot do is told, and it is left out
            answer = {"error": repr(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
