"""Other ways to run a command on each commit of a range, for `bench_engine` to hold arboretum against."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue

from attrs import define

from arboretum.engine.result import EachResult, RunStatus


@define(eq=False)
class GitTest:
    """git-test's algorithm in plain git: one worktree, one commit after another, results kept as notes on trees.

    Args:
        tree: The worktree, which nothing else uses.
        environment: For git.
    """

    tree: str
    environment: Mapping[str, str]

    def run(self, oids: Sequence[str], command: str) -> int:
        """Run the command on each commit whose tree is not known to be good.

        Returns:
            How many commits it was run on.
        """
        ran = 0
        for oid in oids:
            tree = self._git("rev-parse", f"{oid}^{{tree}}").stdout.strip()
            if self._git("notes", "--ref=tests/default", "show", tree, check=False).stdout.strip() == "good":
                continue
            self._git("checkout", "-q", "--detach", oid)
            subprocess.run(["sh", "-c", command], cwd=self.tree, check=True)
            self._git("notes", "--ref=tests/default", "add", "-f", "-m", "good", tree)
            ran += 1
        return ran

    def forget(self) -> None:
        """Forget all results."""
        self._git("update-ref", "-d", "refs/notes/tests/default")

    def _git(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["git", *arguments], cwd=self.tree, env=dict(self.environment), check=check, capture_output=True, text=True
        )


def over_ready_worktrees(trees: Sequence[str], oids: Sequence[str], command: Sequence[str]) -> None:
    """Threads that check out and run, one for each worktree, and nothing else."""
    queue: SimpleQueue[str] = SimpleQueue()
    for oid in oids:
        queue.put(oid)

    def work(path: str) -> None:
        while not queue.empty():
            oid = queue.get()
            subprocess.run(["git", "checkout", "-q", "--detach", oid], cwd=path, check=True)
            subprocess.run(command, cwd=path, check=True)

    threads = [threading.Thread(target=work, args=(path,)) for path in trees]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def gnu_parallel(trees: Sequence[str], oids: Sequence[str], command: str, *, clean: bool = False) -> None:
    """GNU parallel over the same worktrees; with `clean`, what a command has left goes before the next one."""
    places = " ".join(trees)
    script = f"set -- {places}; shift $(({{%}} - 1)); cd $1 && git checkout -q --detach {{}}"
    script += f" && {'git clean -fdq && ' if clean else ''}{command}"
    subprocess.run(
        ["parallel", "--will-cite", f"-j{len(trees)}", script, ":::", *oids], check=True, capture_output=True
    )


def all_passed(result: EachResult) -> None:
    """Hold a run of ours to its end: Ctrl-C, which ends it early without an error, ends the benchmark, too."""
    if result.status is RunStatus.INTERRUPTED:
        raise KeyboardInterrupt
    assert result.exit_code == 0


@define(eq=False)
class JjRun:
    """`jj run` in a copy of the repository, which jj gets to itself.

    Args:
        path: The copy.
        environment: For jj and git.
    """

    path: str
    environment: Mapping[str, str]

    @classmethod
    def beside(cls, repository: str, path: str, environment: Mapping[str, str]) -> JjRun | None:
        """Copy the repository there; None where there is no jj."""
        if shutil.which("jj") is None:
            return None
        subprocess.run(["git", "clone", "-q", "--no-hardlinks", repository, path], env=dict(environment), check=True)
        config = Path(path).with_suffix(".toml")
        config.write_text('user.name = "Ada"\nuser.email = "ada@example.org"\n')
        made = cls(path, {**environment, "JJ_CONFIG": str(config)})
        made._jj("git", "init", "--colocate")
        return made

    def run(self, first: str, last: str, jobs: int, command: Sequence[str]) -> None:
        """Run the command on each commit after `first`, up to `last`, as often as it is asked."""
        self._jj("run", "-r", f"{first}..{last}", "-j", str(jobs), "--ignore-changes", "--", *command)

    def _jj(self, *arguments: str) -> None:
        subprocess.run(["jj", *arguments], cwd=self.path, env=dict(self.environment), check=True, capture_output=True)
