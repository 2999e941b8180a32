"""Kills a process at each step of a removal, lets git and another process come after it, and says what was lost.

    python removal_harness.py FOLDER BACKEND

A step is an audit event of the interpreter for something that writes, in any thread. Each life is a fork. The last line
of output is the result, as JSON.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
AUDITED = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "fcntl.flock", "subprocess.Popen"}


class Steps:
    """Counts steps, and kills the process at one of them."""

    def __init__(self, crash_at: int) -> None:
        self.crash_at, self.count, self.active = crash_at, 0, False
        self.lock = threading.RLock()

    def __call__(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.active:
            return
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITES
        if writes or event in AUDITED:
            with self.lock:
                self.count += 1
                if self.count == self.crash_at:
                    os.kill(os.getpid(), signal.SIGKILL)


def make(template: Path) -> RepositoryBuilder:
    """A repository with a worktree that holds a commit of its own, a change and an untracked file."""
    builder = RepositoryBuilder.init(str(template / "repo"))
    builder.commits([CommitSpec({"a.txt": "1\n", "d/b.txt": "1\n", ".gitignore": "*.o\n"}, "one\n")])
    builder.git("worktree", "add", "-q", "--detach", str(template / "w"))
    tree = template / "w"
    (tree / "committed").write_text("precious\n")
    builder.git("add", "committed", cwd=str(tree))
    builder.git("commit", "-q", "-m", "only here", cwd=str(tree))
    (tree / "a.txt").write_text("changed\n")
    (tree / "untracked").write_text("new\n")
    (tree / "x.o").write_text("ignored\n")
    return builder


def live(root: str, tree: str, backend: str, crash_at: int, log: str) -> int:
    """Remove the worktree in a process of its own, which dies at step `crash_at` (0: nowhere). How it ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            steps = Steps(crash_at)
            sys.addaudithook(steps)
            with Repository.open(root, backend=backend) as repository:
                steps.active = True
                repository.worktrees.get(tree).remove(force=True)
            steps.active = False
            Path(log).write_text(str(steps.count))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def problems(builder: RepositoryBuilder, folder: Path, backend: str) -> Iterator[str]:
    """What is lost or left when git has cleaned up, and then we."""
    git, tree = builder.git, str(folder / "w")
    git("worktree", "prune", "--expire", "now")
    git("gc", "-q", "--prune=now")
    with Repository.open(builder.path, backend=backend) as repository:
        repository.worktrees.prune()
        listed = {info.path for info in repository.worktrees.infos()}
    told = git("worktree", "list", "--porcelain")
    if ("prunable" in told) or ("locked" in told) or (f"worktree {tree}\n" in f"{told}\n") != (tree in listed):
        yield f"listed: {told}"
    if left := [name for name in os.listdir(folder) if name not in {"repo", "w"}]:
        yield f"left beside: {left}"
    own = f"{builder.git_dir}/arboretum"
    left = [
        name for part in ("removed", "tmp") if os.path.isdir(f"{own}/{part}") for name in os.listdir(f"{own}/{part}")
    ]
    if left:
        yield f"left in the git directory: {left}"
    git("fsck", "--strict", "--no-dangling")
    if tree in listed:
        status = git("status", "--porcelain", cwd=tree).split("\n")
        if status != [" M a.txt", "?? untracked"] or git("log", "-1", "--format=%s", cwd=tree) != "only here":
            yield f"the worktree is not as it was: {status}"
        if not os.path.exists(f"{tree}/x.o"):
            yield "the worktree lacks an ignored file"
        return
    if os.path.lexists(tree):
        yield f"no worktree any more, but there: {os.listdir(tree)}"
    refs = git("for-each-ref", "--format=%(refname)", "refs/arboretum/salvage/").split()
    stashes = [ref for ref in refs if git("rev-list", "--parents", "-1", ref).count(" ") == 3]
    if not stashes:
        yield f"nothing was kept: {refs}"
        return
    kept = [git("show", f"{stashes[0]}{name}") for name in (":a.txt", "^1:committed", "^3:untracked")]
    if kept != ["changed", "precious", "new"]:
        yield f"kept: {kept}"


def one_case(template: Path, folder: Path, backend: str, crash_at: int) -> tuple[int, list[str]]:
    """Die at one step; the number of steps (where it did not die) and the problems found."""
    shutil.copytree(template, folder, symlinks=True)
    builder = RepositoryBuilder(str(folder / "repo"))
    (folder / "w" / ".git").write_text(f"gitdir: {builder.git_dir}/worktrees/w\n")
    Path(builder.git_dir, "worktrees", "w", "gitdir").write_text(f"{folder}/w/.git\n")
    log = str(folder) + ".log"
    code = live(builder.path, str(folder / "w"), backend, crash_at, log)
    found = [] if code in {0, -signal.SIGKILL} else [f"it ended with {code}"]
    found += problems(builder, folder, backend)
    shutil.rmtree(folder)
    return int(Path(log).read_text()) if code == 0 else 0, found


def main() -> None:
    folder, backend = Path(sys.argv[1]), sys.argv[2]
    make(folder / "template")
    steps, found = one_case(folder / "template", folder / "0", backend, 0)
    failures = {0: found} if found else {}
    for number in range(1, steps + 1):
        if bad := one_case(folder / "template", folder / str(number), backend, number)[1]:
            failures[number] = bad
    print(json.dumps({"steps": steps, "failures": failures}))


if __name__ == "__main__":
    main()
