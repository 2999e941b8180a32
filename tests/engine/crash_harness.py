"""Kills a process at each step that does I/O, then lets another one recover, and says what it found.

    python crash_harness.py FOLDER [short]

A step is a call of the failpoint collaborator (`arboretum.engine.steps.Step`), or an audit event of the interpreter for
something that writes: a file opened for writing, a rename, a lock, a folder made or removed, a program started, a
database opened. So the code of the backend and of the libraries is covered, too. Every life is a fork of this process,
which has everything imported already. The last line of output is the result, as JSON.
"""

from __future__ import annotations

import asyncio
import collections
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from hashlib import sha256

from attrs import define, field, frozen

from arboretum.engine.events import RunFinished, RunStarted, TrialFinished, TrialStarted
from arboretum.engine.journal import Journal, read_journal
from arboretum.engine.local_executor import LocalExecutor
from arboretum.engine.model import CommandSpec, Outcome, Trial, TrialRequest
from arboretum.engine.pool import WorktreePool
from arboretum.engine.store import ResultStore
from arboretum.engine.store_records import RunRecord
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
AUDITED = {
    "os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.symlink", "os.truncate", "os.chmod", "os.utime", "os.link",
    "fcntl.flock", "subprocess.Popen", "sqlite3.connect", "shutil.rmtree", "os.kill",
}  # fmt: skip


@define(eq=False)
class Steps:
    """Counts steps, and kills the process at one of them."""

    crash_at: int = 0
    names: list[str] = field(factory=list)
    active: bool = False
    _lock: threading.RLock = field(factory=threading.RLock)

    def __call__(self, name: str) -> None:
        if self.active:
            with self._lock:
                self.names.append(name)
                if len(self.names) == self.crash_at:
                    self.active = False
                    os.kill(os.getpid(), signal.SIGKILL)

    def audit(self, event: str, arguments: tuple[object, ...]) -> None:
        if not self.active:
            return
        if event == "open":
            path, _mode, flags = arguments
            if isinstance(flags, int) and flags & WRITES and not str(path).startswith(("/dev", "/proc")):
                self("audit.open")
        elif event in AUDITED:
            self(f"audit.{event}")


STEPS = Steps()


@frozen
class Key:
    fields: dict[str, str]

    @property
    def digest(self) -> str:
        return sha256(json.dumps(self.fields, sort_keys=True).encode()).hexdigest()


@define(eq=False)
class World:
    folder: str
    builder: RepositoryBuilder
    commits: tuple[Oid, ...]

    def requests(self) -> list[TrialRequest]:
        patch = b"--- a/file\n+++ b/file\n@@ -1 +1 @@\n-1\n+patched\n"
        common = {
            "run": "run", "attempt": 1, "timeout": 30.0, "include": (".env",), "setup_inputs": ("inputs",),
            "setup": CommandSpec(("mkdir -p cache; cp inputs cache/done",), True), "grace": 0.2,
        }  # fmt: skip
        script = CommandSpec(("cat file .env cache/done; echo x > file; mkdir -p new/empty; echo y > new/file",), True)
        one, two = self.commits
        return [
            TrialRequest(hypothesis="first", commit=one, command=script, patches=(patch,), **common),
            TrialRequest(hypothesis="second", commit=two, command=script, fresh=True, **common),
            TrialRequest(hypothesis="third", commit=one, command=script, **common),
        ]

    def expected_output(self) -> dict[str, str]:
        return {"first": "patched\nsecret\n1", "second": "2\nsecret\n2", "third": "1\nsecret\n1"}


def make_world(folder: str) -> World:
    builder = RepositoryBuilder.init(f"{folder}/project")
    commits = builder.commits(
        [
            CommitSpec({"file": "1\n", "inputs": "1\n", ".gitignore": "cache/\n.env\n"}),
            CommitSpec({"file": "2\n", "inputs": "2\n"}),
        ]
    )
    builder.write({".env": "secret\n", "file": "the user's own change\n"})
    return World(folder, builder, commits)


async def live(world: World, finished_log: str) -> None:
    """One life: go on with the run where it was, as a run of the engine does, and note what has been finished."""
    with Repository.open(world.builder.path) as repository:
        runs = os.path.join(repository.state_dir, "runs")
        journal = Journal.open(runs, "run", step=STEPS)
        done = read_journal(runs, "run").trials
        store = ResultStore.open(os.path.join(repository.state_dir, "results.sqlite3"), step=STEPS)
        pool = WorktreePool.open(repository, size=1, step=STEPS)
        executor = LocalExecutor(pool, 1, output_root=runs, include_from=repository.path)
        names = tuple(request.hypothesis for request in world.requests())
        store.begin_run(RunRecord(id="run"))
        journal(RunStarted(run="run", title="", base=world.commits[0], command="", hypotheses=names, trials=3, jobs=1))
        for request in world.requests():
            if request.id in done:
                continue
            journal(TrialStarted(run="run", hypothesis=request.hypothesis, attempt=1, slot="", path=""))
            trial = await executor.execute(request)
            assert trial.outcome is Outcome.PASSED, trial
            trial = store.record_trial("run", trial, key=Key({"command": "c", "tree": request.commit}))
            store.put(Key({"command": "c", "tree": request.commit, "h": request.hypothesis}), trial, run="run")
            journal(TrialFinished(run="run", trial=trial))
            STEPS.active, active = False, STEPS.active
            with open(finished_log, "a", encoding="ascii") as file:
                file.write(f"{request.id}\n")
            STEPS.active = active
        await executor.close()
        journal(RunFinished(run="run", status="done", duration=0.0))
        store.end_run("run", "done")
        store.close()
        journal.close()


def problems(world: World, finished_log: str) -> Iterator[str]:
    """What is not as it should be after the recovery."""
    with Repository.open(world.builder.path) as repository:
        contents = read_journal(os.path.join(repository.state_dir, "runs"), "run")
        if contents.status != "done":
            yield f"the run is {contents.status}"
        counts = collections.Counter(e.trial.id for e in contents.events if isinstance(e, TrialFinished))
        if counts != {"first#1": 1, "second#1": 1, "third#1": 1}:
            yield f"trials finished: {dict(counts)}"
        with open(finished_log, encoding="ascii") as file:
            logged = collections.Counter(file.read().split())
        if any(count > 1 for count in logged.values()):
            yield f"a finished trial was repeated: {dict(logged)}"
        for trial in contents.trials.values():
            yield from wrong_output(world, trial)
        with ResultStore.open(os.path.join(repository.state_dir, "results.sqlite3")) as store:
            yield from store.check()
            if store.set_aside:
                yield "the store was set aside"
            if {trial.id for trial in store.trials("run")} != set(contents.trials):
                yield "the store lacks a trial"
            for trial in store.trials("run"):
                kept = b"".join(store.output("run", trial.hypothesis, 1) or ()).decode()
                if kept.strip() != world.expected_output()[trial.hypothesis]:
                    yield f"the output of {trial.id} is kept as {kept!r}"
        outputs = os.path.join(repository.state_dir, "runs", "run", "outputs")
        left = [name for _top, _folders, names in os.walk(outputs) for name in names]
        if left:
            yield f"raw outputs are left: {left}"
        pool = WorktreePool.open(repository, size=1)
        yield from pool.check()
        yield from git_problems(world, slots=1)
        pool.clean()
        yield from pool.check()
        yield from git_problems(world, slots=0)
        rest = {name for name in os.listdir(repository.state_dir) if not name.endswith((".lock", "-wal", "-shm"))}
        if rest - {"runs", "results.sqlite3", "tmp"} or os.listdir(f"{repository.state_dir}/tmp"):
            yield f"left in the git directory: {sorted(rest)}"


def wrong_output(world: World, trial: Trial) -> Iterator[str]:
    if trial.output_tail != world.expected_output()[trial.hypothesis]:
        yield f"{trial.id} said {trial.output_tail!r}"


def git_problems(world: World, *, slots: int) -> Iterator[str]:
    builder = world.builder
    trees = builder.git("worktree", "list", "--porcelain")
    if trees.count("worktree ") != 1 + slots or "prunable" in trees:
        yield f"worktrees: {trees}"
    if builder.git("for-each-ref", "--format=%(refname)") != "refs/heads/main":
        yield f"refs: {builder.git('for-each-ref')}"
    if builder.git("status", "--porcelain") != " M file":
        yield "the user's worktree has changed"
    builder.git("fsck", "--strict", "--no-dangling")


def in_a_life_of_its_own(work: Callable[[], None], log: str) -> int:
    """Carry `work` out in a fork; how that ended."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with open(log, "w", encoding="utf-8") as file:
                os.dup2(file.fileno(), 1)
                os.dup2(file.fileno(), 2)
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def text_of(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.read()


def one_case(folder: str, crash_at: int) -> tuple[list[str], list[str]]:
    """Crash at step `crash_at` (0: nowhere), recover; the names of the steps taken, and the problems found."""
    os.makedirs(folder)
    os.environ["ARBORETUM_CACHE_DIR"] = f"{folder}/cache"
    world, log = make_world(folder), f"{folder}/finished"
    open(log, "w", encoding="ascii").close()

    def first_life() -> None:
        STEPS.crash_at, STEPS.active = crash_at, True
        sys.addaudithook(STEPS.audit)
        asyncio.run(live(world, log))
        STEPS.active = False
        with open(f"{folder}/steps", "w", encoding="ascii") as file:
            file.write("\n".join(STEPS.names))

    def check() -> None:
        found = list(problems(world, log))
        if found:
            raise SystemExit("\n".join(found))

    code = in_a_life_of_its_own(first_life, f"{folder}/first.log")
    found = []
    # A life that was quicker has a step or two less (the journal's sync is by time): it has no step to die at.
    if code not in {0, -signal.SIGKILL} or (code and not crash_at):
        found.append(f"the first life ended with {code}: {text_of(f'{folder}/first.log')}")
    if crash_at and in_a_life_of_its_own(lambda: asyncio.run(live(world, log)), f"{folder}/second.log"):
        found.append(f"the recovery failed: {text_of(f'{folder}/second.log')}")
    if in_a_life_of_its_own(check, f"{folder}/check.log"):
        found.append(text_of(f"{folder}/check.log"))
    names = text_of(f"{folder}/steps").split("\n") if not crash_at else []
    return names, found


def chosen(names: list[str], *, short: bool) -> list[int]:
    """The numbers of all steps; in the short form of the first step of each name."""
    return [n for n, name in enumerate(names, 1) if not short or name not in names[: n - 1]]


def main() -> None:
    folder, short = sys.argv[1], "short" in sys.argv[2:]
    names, found = one_case(f"{folder}/0", 0)
    failures = {0: found} if found else {}
    numbers = chosen(names, short=short)
    for number in numbers if not found else ():
        if bad := one_case(f"{folder}/{number}", number)[1]:
            failures[number] = [names[number - 1], *bad]
    kinds = sorted(set(names))
    print(json.dumps({"steps": len(names), "covered": len(numbers), "kinds": kinds, "failures": failures}))


if __name__ == "__main__":
    main()
