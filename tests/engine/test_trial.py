"""What is done around a trial's command: setup, included files, changes, stale traces, what is read afterwards."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.engine.events import SlotChanged
from arboretum.engine.includes import clone_file, copy_includes
from arboretum.engine.leases import LEASE_VARIABLE
from arboretum.engine.local_executor import LocalExecutor
from arboretum.engine.model import CommandSpec, Outcome, Trial, TrialRequest
from arboretum.engine.slots import Want
from arboretum.engine.trial import remove_stale_bytecode, setup_digest
from arboretum.errors import InvalidValueError, PoolError
from arboretum.events import Observers
from arboretum.testing.builders import CommitSpec


def shell(script: str) -> CommandSpec:
    return CommandSpec((script,), True)


def request(commit: str, script: str, **rest) -> TrialRequest:
    given_ = {"run": "run", "hypothesis": "h", "attempt": 1} | rest
    return TrialRequest(commit=commit, command=shell(script), **given_)


def run_all(ground, *requests: TrialRequest, jobs: int = 1, **options) -> list[Trial]:
    """Carry out requests one after another."""

    async def carry_out() -> list[Trial]:
        executor = LocalExecutor.open(ground.repository, jobs=jobs, **options)
        try:
            return [await executor.execute(each) for each in requests]
        finally:
            await executor.close()

    return asyncio.run(carry_out())


# --- setup ----------------------------------------------------------------------------------------------------


def test_a_setup_runs_once_for_each_content_of_its_inputs(ground, tmp_path):
    """The setup runs for the first trial of a slot, and again only when its inputs (or itself) have changed."""
    log = tmp_path / "setups"
    asked = [
        request(commit, "test -e build/done", setup=shell(f"{prefix}echo x >> {log}; mkdir -p build; touch build/done"),
                setup_inputs=("dir", "a.txt") if prefix else ("dir",))
        for prefix, commit in [
            ("", ground.one), ("", ground.one), ("", ground.two), ("", ground.three), ("", ground.three),
            (":;", ground.three), (":;", ground.three), (":;", ground.two),
        ]
    ]  # fmt: skip
    counts = []
    for each in asked:
        [trial] = run_all(ground, each)
        assert trial.outcome is Outcome.PASSED, trial
        counts.append(len(log.read_text().splitlines()))
    assert counts == [1, 1, 1, 2, 2, 3, 3, 4]


def test_a_fresh_trial_gets_its_setup_anew(ground, tmp_path):
    """A trial that wants no ignored file gets a setup of its own."""
    log = tmp_path / "setups"
    setup = shell(f"echo x >> {log}; mkdir -p build; touch build/done")
    plain = request(ground.one, "test -e build/done", setup=setup)
    fresh = request(
        ground.one, "test -e build/done && ls build | grep -v done && exit 1; exit 0", setup=setup, fresh=True
    )
    assert {t.outcome for t in run_all(ground, plain, fresh, plain)} == {Outcome.PASSED}
    assert len(log.read_text().splitlines()) == 2


def test_a_failed_setup_is_no_failure_of_the_code_and_leaves_nothing(ground):
    """A setup that fails makes the trial inconclusive, with its output; the next trial sees nothing that it left."""
    bad = request(ground.one, "exit 1", setup=shell("mkdir build; echo half > build/half; echo sorry; exit 3"))
    slow = request(ground.one, "exit 1", setup=shell("mkdir build; echo half > build/half; sleep 30"))
    look = request(ground.one, "test ! -e build")
    trials = run_all(ground, bad, look, slow, look, setup_timeout=0.3)
    assert [t.outcome for t in trials] == [Outcome.SETUP_FAILED, Outcome.PASSED, Outcome.SETUP_FAILED, Outcome.PASSED]
    assert "sorry" in trials[0].output_tail
    assert "exit code 3" in trials[0].message
    assert "timed out" in trials[2].message


def test_a_setup_whose_owner_died_is_not_trusted(ground):
    """What a setup had made when its process was killed is wiped before the next trial."""
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one, setup="digest"))
    pool.note_setup(lease, "")
    (Path(lease.path) / "build").mkdir()
    (Path(lease.path) / "build" / "half").write_text("x")
    lease.unlock()  # what the kernel does when a process dies
    lease = pool.try_acquire(Want(commit=ground.one, setup="digest"))
    assert not os.path.exists(f"{lease.path}/build")
    assert lease.slot.setup == ""


def test_a_setup_whose_products_are_not_kept_runs_each_time(ground, tmp_path):
    """A setup that makes files which the next reset removes is not taken for done."""
    log = tmp_path / "setups"
    asked = request(ground.one, "test -e product", setup=shell(f"echo x >> {log}; touch product"))
    assert {t.outcome for t in run_all(ground, asked, asked, asked)} == {Outcome.PASSED}
    assert len(log.read_text().splitlines()) == 3


def test_the_slot_with_the_setup_is_preferred(ground, tmp_path):
    """Of several slots a trial gets the one in which its setup has been done."""
    log = tmp_path / "setups"
    first = request(ground.one, "exit 0", setup=shell(f"echo a >> {log}"))
    second = request(ground.two, "exit 0", setup=shell(f"echo b >> {log}; true"))

    async def carry_out() -> None:
        executor = LocalExecutor.open(ground.repository, jobs=2)
        await asyncio.gather(executor.execute(first), executor.execute(second))
        for each in (second, first, first, second):
            assert (await executor.execute(each)).outcome is Outcome.PASSED
        await executor.close()

    asyncio.run(carry_out())
    assert sorted(log.read_text().split()) == ["a", "b"]


def test_the_digest_of_a_setup_changes_with_what_it_depends_on(ground):
    """The digest is the same for the same inputs, and differs with command, variables, inputs and included files."""
    base = {"setup": shell("x"), "setup_inputs": ("dir/b.txt",)}
    backend = ground.repository.backend

    def digest(commit, **rest) -> str:
        return setup_digest(request(commit, "", **base | rest), backend)

    assert digest(ground.one) == digest(ground.two)
    assert digest(ground.one, env={"A": "1"}) == digest(ground.one)
    others = [
        digest(ground.three), digest(ground.one, setup=shell("y")), digest(ground.one, setup=CommandSpec(("x",))),
        digest(ground.one, setup_env={"A": "1"}), digest(ground.one, setup_inputs=("dir/b.txt", "a.txt")),
        digest(ground.one, include=(".env",)), digest(ground.one, setup_inputs=()),
    ]  # fmt: skip
    assert len({digest(ground.one), *others}) == 1 + len(others)
    assert setup_digest(request(ground.one, ""), backend) == ""
    with pytest.raises(InvalidValueError):
        digest(ground.one, setup_inputs=("../x",))


# --- included files -------------------------------------------------------------------------------------------


names = st.text("abc", min_size=1, max_size=2)
trees = st.recursive(st.binary(max_size=20), lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=6)


def make_tree(path: Path, tree) -> None:
    if isinstance(tree, bytes):
        path.write_bytes(tree)
    else:
        path.mkdir()
        for name, inner in tree.items():
            make_tree(path / name, inner)


def content(path: Path) -> object:
    if path.is_symlink():
        return ("link", os.readlink(path))
    if path.is_dir():
        return {child.name: content(child) for child in path.iterdir()}
    return path.read_bytes()


@given(st.dictionaries(names, trees, min_size=1, max_size=3), st.dictionaries(names, trees, max_size=3))
def test_included_files_are_as_in_the_source_whatever_was_there(tmp_path_factory, wanted, found):
    """After copying, each included file is as in the source; a second time none is copied; the source is unchanged."""
    folder = tmp_path_factory.mktemp("include")
    make_tree(folder / "source", wanted)
    make_tree(folder / "slot", found)
    copy_includes(str(folder / "source"), str(folder / "slot"), sorted(wanted))
    for name, tree in wanted.items():
        now = content(folder / "slot" / name)
        if isinstance(tree, bytes):
            assert now == tree
    assert copy_includes(str(folder / "source"), str(folder / "slot"), sorted(wanted)) == 0
    assert content(folder / "source") == wanted


def test_included_files_keep_their_kind_and_never_lead_out(tmp_path):
    """Links stay links, rights and times are kept, a pipe is left out, and no link in the slot is followed."""
    source, slot, outside = tmp_path / "source", tmp_path / "slot", tmp_path / "outside"
    for folder in (source / "sub", slot, outside):
        folder.mkdir(parents=True)
    (source / "sub" / "tool").write_text("#!/bin/sh\n")
    os.chmod(source / "sub" / "tool", 0o750)
    os.utime(source / "sub" / "tool", ns=(10**18, 10**18))
    os.symlink("tool", source / "sub" / "link")
    os.mkfifo(source / "sub" / "pipe")
    os.symlink(outside, slot / "sub")
    assert copy_includes(str(source), str(slot), ["sub/tool", "sub"]) == 2
    assert list(outside.iterdir()) == []
    assert sorted(os.listdir(slot / "sub")) == ["link", "tool"]
    assert os.readlink(slot / "sub" / "link") == "tool"
    assert os.stat(slot / "sub" / "tool").st_mode & 0o777 == 0o750
    assert os.stat(slot / "sub" / "tool").st_mtime_ns == 10**18
    (slot / "sub" / "tool").write_text("changed by a trial")
    assert copy_includes(str(source), str(slot), ["sub"]) == 1
    assert (source / "sub" / "tool").read_text() == "#!/bin/sh\n"
    for bad in ("../x", "/etc/passwd", ".git/config"):
        with pytest.raises(InvalidValueError):
            copy_includes(str(source), str(slot), [bad])
    shutil.rmtree(source / "sub")
    copy_includes(str(source), str(slot), ["sub"])
    assert not (slot / "sub").exists()


def test_an_included_file_that_cannot_be_copied_is_a_clear_error(tmp_path):
    """An error names the included path."""
    for name in ("source", "slot"):
        (tmp_path / name).mkdir()
    (tmp_path / "source" / "file").write_text("x")

    def full(step: str) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(PoolError, match=r"included file file: .*No space"):
        copy_includes(str(tmp_path / "source"), str(tmp_path / "slot"), ["file"], step=full)


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_files_are_cloned_where_the_file_system_can(tmp_path, kind):
    """On a file system with reflinks a copy shares its blocks until one side is written; elsewhere it is plain."""
    image, folder = tmp_path / "image", tmp_path / "disk"
    folder.mkdir()
    with image.open("wb") as file:
        file.truncate(400 << 20)
    maker = shutil.which(f"mkfs.{kind}")
    made = (
        maker is not None
        and subprocess.run([maker, "-q", str(image)], check=False, capture_output=True).returncode == 0
    )
    mounted = made and subprocess.run(
        ["mount", "-o", "loop", str(image), str(folder)], check=False, capture_output=True
    ).returncode == 0  # fmt: skip
    try:
        (folder / "origin").write_bytes(os.urandom(1 << 20))
        shared = clone_file(str(folder / "origin"), str(folder / "copy"))
        assert (folder / "copy").read_bytes() == (folder / "origin").read_bytes()
        assert shared or not mounted
        with (folder / "copy").open("r+b") as file:
            file.write(b"changed")
        assert not (folder / "origin").read_bytes().startswith(b"changed")
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


# --- traces ---------------------------------------------------------------------------------------------------


def test_python_never_runs_the_code_of_another_commit(ground):
    """Two versions of a module of the same length, tested within a second in one slot, both run their own code."""
    versions = ground.builder.commits(
        [CommitSpec({"module.py": f"VALUE = {n}\n", ".gitignore": "__pycache__/\n"}) for n in range(4)]
    )
    script = "python3 -c 'import module, sys; print(module.VALUE)'"
    writes = {"PYTHONDONTWRITEBYTECODE": ""}
    asked = [request(commit, script, env=writes) for commit in versions]
    for _ in range(2):
        assert [trial.output_tail for trial in run_all(ground, *asked)] == ["0", "1", "2", "3"]
    patch = b"--- a/module.py\n+++ b/module.py\n@@ -1 +1 @@\n-VALUE = 0\n+VALUE = 9\n"
    patched = request(versions[0], script, patches=(patch,), env=writes)
    edited = request(versions[0], script, edits=(shell("echo 'VALUE = 8' > module.py"),), env=writes)
    assert [t.output_tail for t in run_all(ground, asked[0], patched, asked[0], edited, asked[0])] == [
        "0",
        "9",
        "0",
        "8",
        "0",
    ]


def test_only_doubtful_bytecode_is_removed(tmp_path):
    """Compiled files younger than their source stay; older ones, and those without a source, go."""
    cache = tmp_path / "__pycache__"
    cache.mkdir()
    for name, source_time, compiled_time in (("old", 20, 10), ("same", 10, 10), ("good", 10, 20), ("lost", None, 20)):
        (cache / f"{name}.cpython-311.pyc").write_bytes(b"x")
        os.utime(cache / f"{name}.cpython-311.pyc", (compiled_time, compiled_time))
        if source_time is not None:
            (tmp_path / f"{name}.py").write_text("x")
            os.utime(tmp_path / f"{name}.py", (source_time, source_time))
    (cache / "other").write_text("x")
    remove_stale_bytecode(f"{cache}/")
    assert sorted(os.listdir(cache)) == ["good.cpython-311.pyc", "other"]
    remove_stale_bytecode(str(tmp_path / "nowhere"))


def test_reports_of_an_earlier_trial_are_not_read(ground):
    """A JUnit file or a file of numbers that the command did not write itself says nothing."""
    junit = '<testsuite><testcase classname="c" name="n" time="1.5"/></testsuite>'
    script = f"mkdir -p build; echo '{junit}' > build/j.xml; echo '{{\"speed\": 3}}' > build/m.json"
    writes = request(ground.one, script, junit="build/j.xml", metrics_file="build/m.json")
    silent = request(ground.one, "test ! -e build/j.xml", junit="build/j.xml", metrics_file="build/m.json")
    first, second = run_all(ground, writes, silent)
    assert first.metrics["speed"] == 3.0
    assert first.metrics["junit.tests"] == 1.0
    assert second.outcome is Outcome.PASSED
    assert second.metrics == {}


def test_whole_outputs_are_kept_in_the_runs_folder(ground):
    """The whole of each stream is in the run's own folder; an empty one leaves no file."""
    [trial] = run_all(ground, request(ground.one, "seq 1 100000"))
    assert set(trial.output_paths) == {"stdout"}
    path = Path(trial.output_paths["stdout"])
    assert path.is_relative_to(Path(ground.repository.state_dir) / "runs" / "run")
    assert path.read_text().split()[-1] == "100000"
    assert trial.output_tail.splitlines()[-1] == "100000"
    assert len(trial.output_tail) < 10_000
    assert [p.name for p in path.parent.iterdir()] == ["stdout"]


def test_every_change_of_a_slot_is_told(ground):
    """Observers hear of each state of a slot, with the run and the lease, in order."""
    heard = []
    run_all(ground, request(ground.one, "exit 0"), observers=Observers.of([heard.append]))
    changes = [event for event in heard if isinstance(event, SlotChanged)]
    assert [(e.previous, e.state) for e in changes] == [
        ("", "reserved"), ("reserved", "preparing"), ("preparing", "leased"), ("leased", "dirty"),
    ]  # fmt: skip
    assert {event.run for event in changes} == {"run"}
    assert len({event.lease for event in changes}) == 1


@pytest.mark.parametrize("leases", ["{}", "another {} third"])
def test_processes_of_a_dead_owner_are_ended_before_its_slot_is_used(ground, leases):
    """What still runs for a lease whose owner was killed is ended when the slot is taken again."""
    pool = ground.pool(size=1)
    lease = pool.try_acquire(Want(commit=ground.one))
    stray = subprocess.Popen(
        ["sleep", "600"], env={**os.environ, LEASE_VARIABLE: leases.format(lease.id)}, cwd=lease.path,
        start_new_session=True,
    )  # fmt: skip
    other = subprocess.Popen(["sleep", "600"], cwd=lease.path)
    try:
        lease.unlock()
        again = pool.try_acquire(Want(commit=ground.one))
        assert again.path == lease.path
        assert stray.wait(timeout=30) == -9
        assert other.poll() is None, "a process that is not ours was ended"
    finally:
        for process in (stray, other):
            process.kill()
            process.wait()
