"""Whole runs: real git, real processes, real signals."""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from arboretum import Repository
from arboretum.engine.bisect import run_bisect
from arboretum.engine.each import run_each
from arboretum.engine.events import RunFinished, RunStarted, TrialFinished, TrialStarted, VerdictReached
from arboretum.engine.model import CommandSpec, Expectation, Hypothesis, Outcome, Plan
from arboretum.engine.result import RunStatus
from arboretum.engine.run import run_plan
from arboretum.errors import UsageError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.engine.trials import plan

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
CHECK = CommandSpec((sys.executable, "-c", "import code_under_test as c; raise SystemExit(c.answer != 42)"))


@pytest.fixture
def builder(tmp_path: Path) -> RepositoryBuilder:
    made = RepositoryBuilder.init(tmp_path / "repo")
    made.commits(
        [
            CommitSpec({"code_under_test.py": "answer = 42\n", "test_empty.py": "", ".gitignore": "__pycache__/\n"}),
            CommitSpec({"code_under_test.py": "answer = 41\n"}, "break it"),
            CommitSpec({"code_under_test.py": "answer = 42\n"}, branch="right", parents=["main"]),
            CommitSpec({"code_under_test.py": "answer = 43\n"}, branch="wrong", parents=["main"]),
        ]
    )
    return made


@pytest.fixture
def repository(builder: RepositoryBuilder) -> Iterator[Repository]:
    with Repository.open(builder.path) as opened:
        yield opened


def marked(marker: str) -> list[psutil.Process]:
    """The processes whose command line has `marker`."""
    found = []
    for process in psutil.process_iter():
        try:
            if marker in " ".join(process.cmdline()) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


def gone(marker: str, *, within: float = 10.0) -> bool:
    deadline = time.monotonic() + within
    while marked(marker):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def test_the_right_hypothesis_is_supported(repository: Repository) -> None:
    """A run ends with the right verdicts, tells all of it as events, and says what to do next."""
    events = []
    result = run_plan(
        repository,
        plan(
            Hypothesis(id="right", ref="right"),
            Hypothesis(id="wrong", ref="wrong"),
            Hypothesis(id="same", expect=Expectation.FAIL),
            base="main",
            command=CHECK,
            timeout=60.0,
        ),
        jobs=2,
        observers=[events.append],
    )
    assert {j.hypothesis: (j.verdict.value, j.reason.value) for j in result.judgements} == {
        "right": ("supported", "as-predicted"),
        "wrong": ("falsified", "contradicted"),
        "same": ("inconclusive", "control-agrees"),
    }
    assert result.exit_code == 0
    assert "Work on right" in result.recommendation
    kinds = [type(event) for event in events]
    assert kinds[0] is RunStarted
    assert kinds[-1] is RunFinished
    assert kinds.count(TrialStarted) == kinds.count(TrialFinished) == 4
    assert kinds.count(VerdictReached) == 3
    assert all(t.slot and t.tree and t.duration > 0 for j in result.judgements for t in j.trials)


@pytest.mark.parametrize("asked", [{"refresh": True}, {"cache": False}], ids=str)
def test_a_resumed_run_keeps_to_what_it_was_told_of_the_cache(repository: Repository, asked: dict[str, bool]) -> None:
    """What was to be run in spite of known results is run after an interruption, too, without being asked again."""
    a_plan = plan(Hypothesis(id="right", ref="right"), base="main", command=CHECK)
    run_plan(repository, a_plan, jobs=1)
    run = run_plan(repository, a_plan, jobs=1, **asked).run
    journal = Path(repository.state_dir, "runs", run, "events.jsonl")
    journal.write_bytes(journal.read_bytes().splitlines(keepends=True)[0])  # killed right after it had begun
    events = []
    run_plan(repository, a_plan, jobs=1, resume=run, observers=[events.append])
    assert [type(event) for event in events].count(TrialStarted) == 2


def test_a_second_run_runs_nothing(repository: Repository) -> None:
    """Known passes and fails come from the store, whatever the hypotheses are called; refresh runs them again."""
    a_plan = plan(Hypothesis(id="right", ref="right"), base="main", command=CHECK)
    first = run_plan(repository, a_plan, jobs=2)
    renamed = plan(Hypothesis(id="other-name", ref="right"), base="main", command=CHECK)
    second = run_plan(repository, renamed, jobs=2)
    assert [t.cached for t in second.control + second.judgements[0].trials] == [True, True]
    assert second.judgements[0].confidence == first.judgements[0].confidence
    third = run_plan(repository, a_plan, jobs=2, refresh=True)
    assert not any(t.cached for t in third.control)
    assert not any(t.cached for t in run_plan(repository, a_plan, jobs=2, cache=False).control)


@pytest.mark.slow
def test_eight_ways_to_go_wrong(builder: RepositoryBuilder, tmp_path: Path) -> None:
    """Each way a command can go wrong has its verdict and reason; the parent stays small and no process is left."""
    marker = f"31{random.randrange(10**9):09d}"  # seconds to sleep, told from all others
    floods = 1024 if SCALE > 1 else 128
    script = textwrap.dedent(
        f"""
        import json, sys
        from arboretum import Repository
        from arboretum.engine.model import CommandSpec as C, Hypothesis as H, Plan
        from arboretum.engine.run import run_plan
        sh = lambda text: C((text,), shell=True)
        plan = Plan(base="main", command=C(("false",)), timeout=60, grace=0.2, hypotheses=(
            H(id="hangs", command=sh("setsid sleep {marker} & sleep {marker}"), timeout=1.0),
            H(id="floods", command=sh("head -c {floods}M /dev/zero")),
            H(id="binary", command=sh("printf '\\\\377\\\\376 x'")),
            H(id="suicide", command=sh("kill -KILL $$")),
            H(id="missing", command=C(("no-such-command-here",))),
            H(id="empty", command=C((sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_empty.py"))),
            H(id="background", command=sh("sleep {marker} & true")),
            H(id="skips", command=sh("exit 125")),
        ))
        result = run_plan(Repository.open({builder.path!r}), plan, jobs=2)
        print(json.dumps({{
            "verdicts": {{j.hypothesis: [j.verdict, j.reason] for j in result.judgements}},
            "flags": {{j.hypothesis: sorted(j.flags) for j in result.judgements}},
            # Not ru_maxrss: that counts the test's own process, too, from the moment before exec.
            "memory": int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]),
        }}))
        """
    )
    import json

    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["verdicts"] == {
        "hangs": ["inconclusive", "timeout"],
        "floods": ["supported", "as-predicted"],
        "binary": ["supported", "as-predicted"],
        "suicide": ["inconclusive", "killed"],
        "missing": ["inconclusive", "command-not-found"],
        "empty": ["inconclusive", "nothing-ran"],
        "background": ["supported", "as-predicted"],
        "skips": ["inconclusive", "skipped"],
    }
    assert "leaked" in said["flags"]["background"]
    assert said["memory"] < 200 * 1024  # kilobytes
    assert gone(marker, within=1.0)


def test_reported_numbers_are_compared_with_the_control(repository: Repository) -> None:
    """Numbers from the output, a JSON file and a JUnit file reach the verdict, and a proven difference is noted."""
    script = (
        "n=${SIZE:-10}; echo size=$n.$ARBORETUM_ATTEMPT; echo '{\"disk\": {\"used\": '$n'}}' > numbers.json; "
        "echo '<testsuite><testcase name=\"t\" time=\"'$n'\"/></testsuite>' > report.xml; test $n -gt 10"
    )
    result = run_plan(
        repository,
        plan(
            Hypothesis(id="large", env={"SIZE": "30"}),
            base="main",
            command=CommandSpec((script,), shell=True),
            repeats=4,
            metrics=r"^(?P<name>\w+)=(?P<value>[\d.]+)$",
            metrics_file="numbers.json",
            junit="report.xml",
        ),
        jobs=2,
    )
    (judgement,) = result.judgements
    assert judgement.verdict.value == "supported"
    assert judgement.trials[0].metrics == {
        "size": 30.1, "disk.used": 30.0, "test:t": 30.0, "junit.tests": 1.0, "junit.time": 30.0,
    }  # fmt: skip
    noted = " ".join(note for note in judgement.notes if note.startswith("changed:"))
    for name in ("size", "disk.used", "test:t", "junit.time"):
        assert f"changed: {name} is 3 times the control" in noted
    assert "junit.tests" not in noted


def test_the_first_supported_ends_the_run_at_once(repository: Repository) -> None:
    """With stop-on supported the others are stopped, what has not begun never starts, and nothing is left running."""
    marker = f"35{random.randrange(10**9):09d}"
    slow = CommandSpec((f"sleep {marker}",), shell=True)
    hypotheses = [
        Hypothesis(id="endless", command=slow, probability=0.9),
        Hypothesis(id="right", ref="right", probability=0.8),
        Hypothesis(id="never", command=slow, probability=0.1),
    ]
    result = run_plan(repository, plan(*hypotheses, base="main", command=CHECK), jobs=2, stop_on_supported=True)
    assert [(j.hypothesis, j.reason.value) for j in result.judgements] == [
        ("right", "as-predicted"), ("endless", "cancelled"), ("never", "cancelled"),
    ]  # fmt: skip
    assert result.judgement("never").trials == ()
    assert result.exit_code == 0
    assert gone(marker, within=1.0)


# --- the user's repository is left alone ---


def fingerprint(folder: str) -> dict[str, str]:
    """The content of all files of a repository but those that belong to arboretum and the worktrees' records."""
    found = {}
    for top, folders, files in os.walk(folder):
        relative = os.path.relpath(top, folder)
        folders[:] = [f for f in folders if os.path.join(relative, f) not in OURS and f != "objects"]
        for name in files:
            path = os.path.join(top, name)
            data = os.readlink(path).encode() if os.path.islink(path) else Path(path).read_bytes()
            found[os.path.join(relative, name)] = hashlib.sha256(data).hexdigest()
    return found


OURS = {f"{prefix}{name}" for prefix in ("", "./", ".git/", "./.git/") for name in ("arboretum", "worktrees")}


def uncommitted(builder: RepositoryBuilder) -> str:
    builder.write({"code_under_test.py": "answer = 'mine'\n", "new.txt": "mine"})
    builder.git("add", "new.txt")
    builder.write({"untracked.txt": "mine"})
    builder.write({"stashed.txt": "x"})
    builder.git("stash", "push", "-q", "-u", "stashed.txt")
    return builder.path


def detached(builder: RepositoryBuilder) -> str:
    builder.git("checkout", "-q", "--detach", "wrong")
    return builder.path


def unborn(builder: RepositoryBuilder) -> str:
    builder.git("checkout", "-q", "--orphan", "nothing-yet")
    return builder.path


def linked(builder: RepositoryBuilder) -> str:
    builder.git("worktree", "add", "-q", f"{builder.path}-linked", "wrong")
    builder.git("worktree", "add", "-q", "--lock", f"{builder.path}-locked", "right")
    return f"{builder.path}-linked"


def subfolder(builder: RepositoryBuilder) -> str:
    builder.write({"deep/er/file": "x"})
    return f"{builder.path}/deep/er"


@pytest.mark.parametrize("situation", [uncommitted, detached, unborn, linked, subfolder])
def test_the_users_repository_is_never_changed(builder: RepositoryBuilder, situation) -> None:
    """HEAD, index, files, branches, stash and configuration are byte-equal before and after, wherever one stands."""
    place = situation(builder)
    # git itself refreshes the index when asked for the status; that is done before.
    builder.git("status")
    before = fingerprint(builder.path), builder.git("stash", "list"), builder.git("for-each-ref")
    with Repository.discover(place) as repository:
        result = run_plan(repository, plan(Hypothesis(id="r", ref="right"), base="main", command=CHECK), jobs=2)
    assert result.supported
    assert (fingerprint(builder.path), builder.git("stash", "list"), builder.git("for-each-ref")) == before


def test_a_bare_repository_is_never_changed(builder: RepositoryBuilder, tmp_path: Path) -> None:
    """A bare repository serves as well, and its own files stay as they are."""
    bare = str(tmp_path / "bare.git")
    builder.git("clone", "-q", "--bare", builder.path, bare)
    before = fingerprint(bare)
    with Repository.open(bare) as repository:
        assert repository.is_bare
        assert run_plan(repository, plan(Hypothesis(id="r", ref="right"), base="main", command=CHECK), jobs=2).supported
    assert fingerprint(bare) == before


def test_bad_input_leaves_nothing_behind(builder: RepositoryBuilder, tmp_path: Path) -> None:
    """A plan that cannot be meant is refused before a file, a slot or a run is made."""
    before = sorted(os.listdir(builder.git_dir))
    with Repository.open(builder.path) as repository, pytest.raises(UsageError):
        run_plan(repository, plan(Hypothesis(id="r", ref="nonesuch"), base="main", command=CHECK))
    assert sorted(os.listdir(builder.git_dir)) == before
    assert not list(tmp_path.rglob("pools"))


# --- signals and kills ---

CHILD = """
import signal, sys
signal.signal(signal.SIGTERM, lambda *_: sys.exit(130))  # before and after the run
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup it would stay ignored, as it should
from arboretum import Repository
from arboretum.engine.model import CommandSpec, Hypothesis, Plan
from arboretum.engine.run import run_plan
hypotheses = tuple(Hypothesis(id=f"h{{n}}", env={{"N": str(n)}}) for n in range(8))
plan = Plan(base="main", command=CommandSpec(({command!r},), shell=True), grace=60, hypotheses=hypotheses)
def tell(event):
    if event.type in {{"trial-started", "trial-finished", "run-started", "run-finished"}}:
        print(event.type, event.run, flush=True)
result = run_plan(Repository.open({path!r}), plan, jobs=2, observers=[tell], resume={resume!r})
print("trials", sum(t.outcome.is_evidence for t in result.control) + sum(
    t.outcome.is_evidence for j in result.judgements for t in j.trials), flush=True)
raise SystemExit(result.exit_code)
"""


def child(path: str, command: str, *, resume: str | None = None) -> subprocess.Popen[str]:
    code = CHILD.format(path=path, command=command, resume=resume)
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], word: str, times: int = 1) -> str:
    assert process.stdout is not None
    for line in process.stdout:
        times -= line.startswith(word)
        if not times:
            return line.split()[-1]
    raise AssertionError(f"{word} did not come: {process.stderr.read() if process.stderr else ''}")


def no_slot_is_leased(repository: Repository) -> bool:
    result = run_plan(
        repository, plan(Hypothesis(id="r", ref="right"), base="main", command=CHECK), jobs=2, cache=False
    )
    return bool(result.supported)


def test_the_callers_signal_handlers_come_back(repository: Repository) -> None:
    """After a run, and after one that is refused, each signal is handled as before it."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def mine(*_: object) -> None:
        pass

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        signal.signal(signal.SIGTERM, mine)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        run_plan(repository, plan(Hypothesis(id="r", ref="right"), base="main", command=CHECK), jobs=1)
        with pytest.raises(UsageError):
            run_plan(repository, plan(Hypothesis(id="r", ref="nonesuch"), base="main", command=CHECK), jobs=1)
        assert signal.getsignal(signal.SIGINT) is before[signal.SIGINT]
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_run_needs_no_main_thread(repository: Repository) -> None:
    """Outside the main thread, where no signal can be taken, a run goes as anywhere."""
    with ThreadPoolExecutor(1) as threads:
        a_plan = plan(Hypothesis(id="r", ref="right"), base="main", command=CHECK)
        assert threads.submit(run_plan, repository, a_plan, jobs=2).result(60).supported


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_run_in_order(builder: RepositoryBuilder, repository: Repository, number) -> None:
    """One signal: the trials are stopped, the run says 130 and can be resumed, nothing is left running or leased."""
    marker = f"32{random.randrange(10**9):09d}"
    process = child(builder.path, f"sleep {marker}")
    run = wait_for(process, "trial-started", 2)
    process.send_signal(number)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "trials 0" in out
    assert gone(marker, within=1.0)
    assert no_slot_is_leased(repository)
    resumed = child(builder.path, "true", resume=run)
    out, err = resumed.communicate(timeout=60)
    assert "trials 9" in out, err


@pytest.mark.slow
def test_a_second_signal_kills_at_once(builder: RepositoryBuilder) -> None:
    """A command that ignores SIGTERM is given its grace period, and loses it when a second signal comes."""
    marker = f"33{random.randrange(10**9):09d}"
    process = child(builder.path, f"trap '' TERM; while :; do sleep 0.{marker}; done")
    wait_for(process, "trial-started", 2)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0.5)  # the grace period is a minute
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert gone(marker, within=1.0)


@pytest.mark.slow
def test_a_signal_at_any_moment(builder: RepositoryBuilder, repository: Repository) -> None:
    """Wherever the run is when the signals come, it ends with 130 or done, and nothing is left."""
    luck = random.Random(7)
    before = fingerprint(builder.path)
    for _ in range(max(3, min(60, round(4 * SCALE)))):
        marker = f"34{random.randrange(10**9):09d}"
        process = child(builder.path, f"sleep 0.0{marker}")
        wait_for(process, "run-started")
        time.sleep(luck.uniform(0, 1.0))
        process.send_signal(luck.choice([signal.SIGINT, signal.SIGTERM]))
        if luck.random() < 0.5:
            time.sleep(luck.uniform(0, 0.05))
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        # Before and after the run its handlers do not hold: then it must have been over.
        killed = process.returncode in {-signal.SIGINT, -signal.SIGTERM} and "run-finished" in out
        assert killed or process.returncode in {130, 1, 3}, err
        assert gone(marker, within=2.0)
    assert fingerprint(builder.path) == before
    assert no_slot_is_leased(repository)


@pytest.mark.slow
def test_a_killed_run_goes_on_where_it_was(builder: RepositoryBuilder) -> None:
    """After kill -9 the finished trials are in the journal; the resumed run repeats none of them."""
    log = Path(builder.path).parent / "ran"
    process = child(builder.path, f"echo $ARBORETUM_HYPOTHESIS >> {log}; sleep 0.3")
    run = wait_for(process, "trial-finished", 4)
    process.kill()
    process.communicate()
    finished = set(log.read_text().split())
    resumed = child(builder.path, f"echo $ARBORETUM_HYPOTHESIS >> {log}; sleep 0.3", resume=run)
    out, err = resumed.communicate(timeout=60)
    assert "trials 9" in out, err
    ran = log.read_text().split()
    repeated = {name for name in ran if ran.count(name) > 1}
    assert len(finished) >= 4
    assert len(repeated) <= 2, "only those that were running at the moment of the kill"
    assert set(ran) == {"control", *(f"h{n}" for n in range(8))}


# --- commits ---


def test_each_commit_of_a_range(builder: RepositoryBuilder, repository: Repository) -> None:
    """Every commit has its outcome, oldest first; equal trees share one trial; a second time all is known."""
    builder.git("commit", "-q", "--allow-empty", "-m", "nothing changes")
    oids = builder.git("rev-list", "--reverse", "main").split()
    result = run_each(repository, "main", Plan(command=CHECK), jobs=2)
    assert [c.oid for c in result.commits] == oids
    assert [c.outcome for c in result.commits] == [Outcome.PASSED, Outcome.FAILED, Outcome.FAILED]
    assert [c.exit_code for c in result.commits] == [0, 1, 1]
    assert result.commits[1].trial == result.commits[2].trial
    assert result.exit_code == 1
    again = run_each(repository, "main~2..main", Plan(command=CHECK), jobs=2)
    assert [c.cached for c in again.commits] == [True, True]
    assert again.status is RunStatus.DONE


@pytest.mark.parametrize(
    ("revisions", "options", "subjects"),
    [
        ("main..right", {}, ["a commit"]),
        ("right...wrong", {}, ["a commit", "a commit"]),
        ("main^!", {}, ["break it"]),
        ("main", {"paths": ("test_empty.py",)}, ["a commit"]),
        ("right wrong ^main~1", {}, ["break it", "a commit", "a commit"]),
    ],
)
def test_ranges_and_filters(repository: Repository, revisions: str, options, subjects) -> None:
    """Ranges, symmetric differences, single commits and path filters name the commits that git names."""
    result = run_each(repository, revisions, Plan(command=CommandSpec(("true",))), jobs=2, **options)
    assert [c.subject for c in result.commits] == subjects


@pytest.mark.parametrize("revisions", ["", "main..main", "^main"])
def test_an_empty_range_is_refused(repository: Repository, revisions: str) -> None:
    """A range without commits is a usage error."""
    with pytest.raises(UsageError):
        run_each(repository, revisions, Plan(command=CHECK))


def test_bisect_with_real_processes(builder: RepositoryBuilder, repository: Repository) -> None:
    """The first bad commit is found by real trials in real worktrees."""
    oids = builder.commits([CommitSpec({"code_under_test.py": f"answer = {42 if n < 9 else n}\n"}) for n in range(20)])
    result = run_bisect(repository, oids[0], "main", Plan(command=CHECK), jobs=2)
    assert result.first_bad == oids[9]
    assert result.exit_code == 0
    assert len(result.trials) < 12
