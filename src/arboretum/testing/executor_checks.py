"""The conformance checks of the executor protocol: what every `arboretum.engine.executor.Executor` passes.

    from arboretum.testing.executor_checks import EXECUTOR_CHECKS, run_executor_check

    for check in EXECUTOR_CHECKS:
        run_executor_check(check, make_my_executor, folder)

They need git, a POSIX shell and no pytest. Each check makes a repository of its own below the folder it is given, and
an executor for it, and raises AssertionError when a rule of the protocol does not hold.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from attrs import frozen

from arboretum.engine.executor import Executor
from arboretum.engine.model import CommandSpec, Outcome, Trial, TrialRequest
from arboretum.errors import EngineError, ExecutorError
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid

#: Makes the executor under test for a repository; its capacity should be at least 2.
MakeExecutor = Callable[[Repository], Executor]

_WAIT_SECONDS: Final = 30.0


@frozen(eq=False)
class World:
    """A repository with a little history, and the executor under test for it."""

    builder: RepositoryBuilder
    repository: Repository
    executor: Executor
    one: Oid
    two: Oid

    def request(self, script: str, *, commit: Oid | None = None, name: str = "h", **rest: Any) -> TrialRequest:
        """A request for a shell script."""
        given: dict[str, Any] = {"commit": commit or self.one, "command": _shell(script)} | rest
        return TrialRequest(run="check", hypothesis=name, attempt=1, **given)

    async def run(self, script: str, **rest: Any) -> Trial:
        """Carry out a shell script."""
        return await self.executor.execute(self.request(script, **rest))


def _shell(script: str) -> CommandSpec:
    return CommandSpec((script,), True)


ExecutorCheck = Callable[[World], Awaitable[None]]


def run_executor_check(check: ExecutorCheck, make_executor: MakeExecutor, folder: str | os.PathLike[str]) -> None:
    """Run one check with an executor of its own.

    Args:
        check: One of `EXECUTOR_CHECKS`.
        make_executor: Makes the executor.
        folder: An empty folder.

    Raises:
        AssertionError: A rule does not hold.
    """
    builder = RepositoryBuilder.init(os.path.join(os.path.abspath(folder), "repository"))
    one, two = builder.commits(
        [
            CommitSpec({"file.txt": "one\n", "keep.txt": "kept\n", ".gitignore": "cache/\n", "inputs": "1\n"}, "one"),
            CommitSpec({"file.txt": "two\n", "inputs": "2\n", "more/deep.txt": "x\n"}, "two"),
        ]
    )

    async def carry_out() -> None:
        with Repository.open(builder.path) as repository:
            executor = make_executor(repository)
            try:
                async with asyncio.timeout(10 * _WAIT_SECONDS):
                    await check(World(builder, repository, executor, one, two))
            finally:
                await executor.close()

    asyncio.run(carry_out())


async def check_outcomes(world: World) -> None:
    """What a command does is told by the outcome: its exit code, a signal, a timeout, a program that is not there."""
    cases = {
        "exit 0": (Outcome.PASSED, 0),
        "exit 1": (Outcome.FAILED, 1),
        "exit 125": (Outcome.SKIPPED, 125),
        "kill -KILL $$": (Outcome.KILLED, 137),
        "/nowhere/program": (Outcome.COMMAND_NOT_FOUND, 127),
    }
    for script, (outcome, code) in cases.items():
        trial = await world.run(script)
        assert (trial.outcome, trial.exit_code) == (outcome, code), (script, trial)
        assert trial.commit == world.one, trial
    missing = await world.executor.execute(world.request("", command=CommandSpec(("no-such-program-anywhere",))))
    assert missing.outcome is Outcome.COMMAND_NOT_FOUND, missing


async def check_timeout_ends_everything(world: World) -> None:
    """A timeout ends the command and what it has started, and is no failure."""
    marker = os.path.join(world.builder.path, "..", "marker")
    script = f"(sleep 1.5; echo late > '{marker}') & sleep 60"
    clock = time.monotonic()
    trial = await world.run(script, timeout=0.3, grace=0.2)
    assert trial.outcome is Outcome.TIMEOUT, trial
    assert time.monotonic() - clock < _WAIT_SECONDS
    await asyncio.sleep(1.8)
    assert not os.path.exists(marker), "a process of a trial went on after its timeout"


async def check_stands_at_the_commit(world: World) -> None:
    """The command runs in a worktree that stands at the request's commit, with nothing changed in it."""
    for commit, content in ((world.one, "one"), (world.two, "two"), (world.one, "one")):
        script = "cat file.txt; git rev-parse HEAD; git status --porcelain; test -e more && echo more"
        trial = await world.run(script, commit=commit)
        expected = [content, commit] + (["more"] if commit == world.two else [])
        assert trial.output_tail.split() == expected, trial


async def check_nothing_leaks_into_the_next_trial(world: World) -> None:
    """Whatever a trial changes, commits or leaves behind, the next one in its slot sees none of it."""
    vandal = (
        "echo changed > file.txt; rm keep.txt; mkdir -p new/folder empty; echo x > new/folder/file; mkdir cache;"
        "echo x > cache/c; git init -q nested; git checkout -q -b trial-branch; git add -A; git commit -q -m mine;"
        "echo more >> file.txt; touch $(git rev-parse --git-dir)/index.lock"
    )
    look = "cat file.txt keep.txt; ls -A; git status --porcelain; git rev-parse --abbrev-ref HEAD"
    for fresh in (False, True):
        for _ in range(world.executor.capacity + 1):
            await world.run(vandal + f" ; git branch -q -D trial-branch; git branch -m trial-{time.monotonic_ns()}")
            trial = await world.run(look, fresh=fresh)
            seen = [name for name in trial.output_tail.split() if name != "cache" or fresh]
            assert seen == ["one", "kept", ".git", ".gitignore", "file.txt", "inputs", "keep.txt", "HEAD"], trial


async def check_changes_are_made_first(world: World) -> None:
    """Patches are applied in their order, then edits are run, then the command; a change that fails is no failure."""
    patches = tuple(
        f"--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 @@\n-{old}\n+{new}\n".encode()
        for old, new in (("one", "uno"), ("uno", "eins"))
    )
    edit = _shell("sed -i.bak s/eins/EINS/ file.txt && rm file.txt.bak")
    trial = await world.run("cat file.txt", patches=patches, edits=(edit,))
    assert trial.output_tail.split() == ["EINS"], trial
    for change in ({"patches": patches[1:]}, {"edits": (_shell("exit 3"),)}):
        trial = await world.run("exit 0", **change)
        assert trial.outcome is Outcome.PATCH_FAILED, trial
        assert trial.message, trial


async def check_environment(world: World) -> None:
    """The command sees the request's variables, and which trial it is of."""
    script = (
        'echo "$COLOUR/$ARBORETUM_RUN/$ARBORETUM_HYPOTHESIS/$ARBORETUM_ATTEMPT/${ARBORETUM_SLOT:+slot}";'
        'echo "${GIT_DIR-none}"'
    )
    trial = await world.run(script, env={"COLOUR": "dark blue"}, name="variables")
    assert trial.output_tail == "dark blue/check/variables/1/slot\nnone", trial


async def check_setup(world: World) -> None:
    """The setup runs once per slot and per content of its inputs; one that fails says nothing of the code."""
    setup = _shell("mkdir -p cache && cat inputs >> cache/setups")
    counted = {"setup": setup, "setup_inputs": ("inputs",)}
    for commit, expected in ((world.one, "1"), (world.two, "2")):
        for _ in range(world.executor.capacity + 1):
            trial = await world.run("tail -n 1 cache/setups; wc -l < cache/setups", commit=commit, **counted)
            value, runs = trial.output_tail.split()
            assert value == expected, trial
            assert int(runs) <= 2, trial
    failing = {"setup": _shell("echo no luck; exit 4")}
    trial = await world.run("exit 1", **failing)
    assert trial.outcome is Outcome.SETUP_FAILED, trial
    assert "no luck" in trial.output_tail, trial
    assert "exit code 4" in trial.message, trial
    assert (await world.run("exit 0")).outcome is Outcome.PASSED


async def check_included_files(world: World) -> None:
    """Declared files that git does not track are in every slot as they are in the user's worktree."""
    world.builder.write({"cache/big/data": "data\n", ".env": "SECRET=1\n"})
    os.makedirs(f"{world.builder.git_dir}/info", exist_ok=True)
    with open(f"{world.builder.git_dir}/info/exclude", "w", encoding="ascii") as file:
        file.write(".env\n")
    for _ in range(world.executor.capacity + 1):
        trial = await world.run(
            "cat .env cache/big/data; echo ruined > .env; rm -r cache", include=(".env", "cache/big")
        )
        assert trial.output_tail.split() == ["SECRET=1", "data"], trial
    with open(f"{world.builder.path}/.env", encoding="ascii") as file:
        assert file.read() == "SECRET=1\n", "a trial changed the user's own file"


async def check_telling(world: World) -> None:
    """The start is told once, each line of output as it comes, and a listener that raises does no harm."""
    started: list[tuple[str, str]] = []
    lines: list[str] = []
    trial = await world.executor.execute(
        world.request("echo out; echo err >&2; printf last"),
        on_started=lambda slot, path: started.append((slot, path)),
        on_output=lambda _stream, line: lines.append(line),
    )
    assert len(started) == 1, started
    assert started[0][0] == trial.slot, (started, trial)
    assert sorted(lines) == ["err", "last", "out"], lines

    def angry(*_: object) -> None:
        raise RuntimeError("a listener failed")

    trial = await world.executor.execute(world.request("echo out"), on_started=angry, on_output=angry)
    assert trial.outcome is Outcome.PASSED, trial


async def check_cancel(world: World) -> None:
    """A cancelled trial is stopped with all its processes before the cancellation goes on, and its slot can be used."""
    marker = os.path.abspath(os.path.join(world.builder.path, "..", "cancelled"))
    for delay in (0.0, 0.01, 0.05, 0.3):
        script = f"(sleep 1.5; echo late > '{marker}') & sleep 60"
        task = asyncio.create_task(world.run(script, grace=0.2))
        await asyncio.sleep(delay)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            raise AssertionError(f"a cancelled trial returned {await task}")
    trials = [world.run("exit 0", name=f"after-{n}") for n in range(world.executor.capacity)]
    assert {trial.outcome for trial in await asyncio.gather(*trials)} == {Outcome.PASSED}
    await asyncio.sleep(1.8)
    assert not os.path.exists(marker), "a process of a trial went on after it was cancelled"


async def check_trials_at_once(world: World) -> None:
    """As many trials as there is capacity for run at once, never two in one folder, and more wait for their turn."""
    gate = os.path.abspath(os.path.join(world.builder.path, "..", "gate"))
    os.makedirs(gate)
    capacity = world.executor.capacity
    meeting = (
        f"mkdir taken || exit 9; touch '{gate}'/$ARBORETUM_HYPOTHESIS; n=0;"
        f"while [ $(ls '{gate}' | wc -l) -lt {capacity} ]; do sleep 0.02; n=$((n+1)); [ $n -lt 1000 ] || exit 8; done"
    )
    trials = await asyncio.gather(*(world.run(meeting, name=f"n{n}") for n in range(capacity)))
    assert {trial.outcome for trial in trials} == {Outcome.PASSED}, trials
    alone = "mkdir taken || exit 9; sleep 0.05; rmdir taken"
    trials = await asyncio.gather(*(world.run(alone, name=f"m{n}") for n in range(3 * capacity)))
    assert {trial.outcome for trial in trials} == {Outcome.PASSED}, trials
    assert len({trial.slot for trial in trials}) <= capacity, trials


async def check_repository_is_untouched(world: World) -> None:
    """The user's branches, HEAD, index, files, stashes and configuration are the same after trials as before."""
    world.builder.write({"keep.txt": "put away\n"})
    world.builder.git("stash", "push", "-q")
    world.builder.write({"file.txt": "uncommitted\n", "untracked": "x\n"})
    before = _portrait(world.builder)
    patch = b"--- a/file.txt\n+++ b/file.txt\n@@ -1 +1 @@\n-one\n+uno\n"
    trials = [
        world.run("echo x > file.txt; git stash list; exit 1", patches=(patch,)),
        world.run("rm -rf *", commit=world.two),
        world.run("exit 0", setup=_shell("exit 1")),
        world.run("sleep 9", timeout=0.2, grace=0.1),
    ]
    await asyncio.gather(*trials)
    assert _portrait(world.builder) == before


async def check_what_cannot_be_carried_out(world: World) -> None:
    """A commit that does not exist is an EngineError, no outcome, and the executor can still be used."""
    try:
        trial = await world.run("exit 0", commit=Oid("1" * 40))
    except EngineError:
        pass
    else:
        raise AssertionError(f"a commit that does not exist gave {trial}")
    assert (await world.run("exit 0")).outcome is Outcome.PASSED


async def check_needs(world: World) -> None:
    """Needs that nobody meets are refused or, where they say nothing, ignored: no trial waits for ever."""
    for needs in ({"labels": ("nobody-has-this",)}, {"memory": 1 << 60}, {"memory": 1}):
        try:
            async with asyncio.timeout(_WAIT_SECONDS):
                trial = await world.run("exit 0", **needs)
        except EngineError:
            continue
        assert trial.outcome is Outcome.PASSED, (needs, trial)
    assert (await world.run("exit 0")).outcome is Outcome.PASSED


async def check_close(world: World) -> None:
    """Closing stops what runs; closing twice is allowed; a closed executor says so."""
    task = asyncio.create_task(world.run("sleep 60", grace=0.2))
    await asyncio.sleep(0.3)
    clock = time.monotonic()
    await world.executor.close()
    await world.executor.close()
    assert time.monotonic() - clock < _WAIT_SECONDS
    with contextlib.suppress(asyncio.CancelledError, EngineError):
        raise AssertionError(f"a trial went on after the executor was closed: {await task}")
    try:
        await world.run("exit 0")
    except ExecutorError:
        pass
    else:
        raise AssertionError("a closed executor carried out a trial")


def _portrait(builder: RepositoryBuilder) -> dict[str, object]:
    def content(path: str) -> bytes:
        with open(path, "rb") as file:
            return file.read()

    files: dict[str, bytes] = {}
    for top, folders, names in os.walk(builder.path):
        if top == builder.path:
            folders.remove(".git")
        files |= {os.path.join(top, name): content(os.path.join(top, name)) for name in names}
    return {
        "files": files,
        "refs": builder.git("for-each-ref"),
        "stash": builder.git("stash", "list"),
        **{name: content(f"{builder.git_dir}/{name}") for name in ("HEAD", "index", "config")},
    }


EXECUTOR_CHECKS: Final[tuple[ExecutorCheck, ...]] = (
    check_outcomes,
    check_timeout_ends_everything,
    check_stands_at_the_commit,
    check_nothing_leaks_into_the_next_trial,
    check_changes_are_made_first,
    check_environment,
    check_setup,
    check_included_files,
    check_telling,
    check_cancel,
    check_trials_at_once,
    check_repository_is_untouched,
    check_what_cannot_be_carried_out,
    check_needs,
    check_close,
)
