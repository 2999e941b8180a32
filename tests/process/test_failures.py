"""What can go wrong around a command, one test each."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arboretum.process import CommandRequest, FailureKind, SubprocessRunner, stopping_with_the_terminal
from arboretum.process import descendants as descendants_module
from arboretum.process.descendants import DESCENDANTS
from tests.process.conftest import living, wait_until

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))


def shell(script: str, **options: object) -> CommandRequest:
    return CommandRequest(argv=[script], shell=True, **options)  # type: ignore[arg-type]


def python(program: str, *arguments: str, **options: object) -> subprocess.CompletedProcess[str]:
    """Another Python process that runs `program`; it has to end by itself."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,  # type: ignore[call-overload]
    )


# What the command does


def test_grandchild_that_holds_the_pipe(runner: SubprocessRunner) -> None:
    """A background process with the pipe holds the caller no longer than the leak timeout, and success stays one."""
    result = runner.run(shell("sleep 60 & echo done", leak_timeout=0.05))
    assert (result.stdout, result.exit_code, result.success, result.leaked) == ("done\n", 0, True, True)
    assert result.duration < 30


def test_leaked_process_may_clean_up(runner: SubprocessRunner, tmp_path: Path) -> None:
    """What is left behind is asked to end before it is killed, so that lock files go away."""
    lock = tmp_path / "lock"
    script = f"(touch {lock}; trap 'rm {lock}; exit' TERM; while :; do sleep 0.01; done) >/dev/null 2>&1 & sleep 0.1"
    assert runner.run(shell(script, leak_timeout=5)).leaked
    assert not lock.exists()


def test_clean_up_in_the_grace_period(runner: SubprocessRunner) -> None:
    """A command that is stopped may print and choose its end within the grace period; it timed out all the same."""
    result = runner.run(shell("trap 'echo bye; exit 3' TERM; echo hi; sleep 60 & wait", timeout=1.5, grace=30))
    assert (result.stdout, result.exit_code, result.timed_out) == ("hi\nbye\n", 124, True)


def test_grace_is_for_the_whole_tree(runner: SubprocessRunner, tmp_path: Path) -> None:
    """When the leader dies of the SIGTERM at once, its children still have their grace period."""
    script = f"sh -c 'trap \"sleep 0.2; echo cleaned >{tmp_path}/log; exit\" TERM; while :; do sleep 0.01; done' & wait"
    runner.run(shell(script, timeout=1.5, grace=30))
    assert (tmp_path / "log").read_text() == "cleaned\n"


def test_stopped_command_times_out(runner: SubprocessRunner) -> None:
    """A command that is stopped by SIGSTOP is woken to be ended."""
    assert runner.run(shell("kill -STOP $$", timeout=0.2, grace=30)).timed_out


def test_exit_at_the_deadline_is_no_timeout(runner: SubprocessRunner) -> None:
    """A result is either the command's own or a timeout, never a mixture."""
    for _ in range(40):
        result = runner.run(CommandRequest(argv=["sleep", "0.02"], timeout=0.02 + random.random() / 200))
        assert (result.exit_code, result.failure_kind) in {(0, None), (124, FailureKind.TIMED_OUT)}


def test_endless_output_is_cut_off_in_time(runner: SubprocessRunner) -> None:
    """A command that prints without end is stopped by its timeout, and what it printed last is there."""
    result = runner.run(CommandRequest(argv="yes", timeout=1, max_output=1000))
    assert result.timed_out
    assert result.stdout.endswith("y\n")
    assert result.truncated_bytes > 0


def test_invalid_utf_8(runner: SubprocessRunner) -> None:
    """Bytes that are no UTF-8 are replaced, or kept as surrogates on request."""
    request = shell("printf 'a\\377\\303'")
    assert runner.run(request).stdout == "a\ufffd\ufffd"
    kept = runner.run(shell("printf 'a\\377\\303'", decode_errors="surrogateescape")).stdout
    assert os.fsencode(kept) == b"a\xff\xc3"


def test_output_in_true_order(runner: SubprocessRunner) -> None:
    """Merged streams come in the order in which they were written, also from Python, which buffers otherwise."""
    program = "import sys\nfor i in range(5): print('o', i); print('e', i, file=sys.stderr)"
    result = runner.run(CommandRequest(argv=[sys.executable, "-c", program], merge_stderr=True))
    assert result.stdout.split("\n") == [f"{s} {i}" for i in range(5) for s in "oe"] + [""]
    assert result.stderr == ""


@pytest.mark.parametrize("locale", ["C", "POSIX", "de_DE.ISO-8859-1", ""])
def test_locale_of_the_parent(locale: str) -> None:
    """Output is decoded as UTF-8 whatever the locale of this process is."""
    program = """
        from arboretum.process import CommandRequest, SubprocessRunner
        result = SubprocessRunner().run(CommandRequest(argv=["printf", "\\\\303\\\\251"]))
        assert result.stdout == "\\xe9", ascii(result)
    """
    env = {k: v for k, v in os.environ.items() if k not in {"LANG", "LC_ALL"}} | {"LC_ALL": locale, "PYTHONUTF8": "0"}
    done = python(program, env=env)
    assert (done.returncode, done.stderr) == (0, "")


def test_command_has_no_input_and_no_terminal(runner: SubprocessRunner) -> None:
    """A command does not eat this process's input, and cannot ask the terminal for a password."""
    assert runner.run(CommandRequest(argv="cat", timeout=30)).stdout == ""
    assert runner.run(shell("exec 3</dev/tty", timeout=30)).failed


def test_other_descriptors_are_not_inherited(runner: SubprocessRunner) -> None:
    """A command has its three streams and nothing else of this process."""
    reading, writing = os.pipe()
    os.set_inheritable(writing, True)
    try:
        listed = runner.run(
            CommandRequest(argv=[sys.executable, "-c", "import os; print(os.listdir('/proc/self/fd'))"])
        )
    finally:
        os.close(reading)
        os.close(writing)
    assert listed.stdout.strip() == "['0', '1', '2', '3']"


def test_result_in_words(runner: SubprocessRunner) -> None:
    """Signals are 128+n with the signal named; a plain exit code of the same number is told apart."""
    killed, exited = runner.run(shell("kill -SEGV $$")), runner.run(shell("exit 139"))
    assert (killed.exit_code, killed.signal) == (exited.exit_code, signal.SIGSEGV) == (139, signal.SIGSEGV)
    assert "SIGSEGV" in (killed.error_message or "")
    assert (exited.signal, exited.error_message) == (None, None)
    own = runner.run(shell("exit 124"))
    assert (own.exit_code, own.timed_out, own.failure_kind) == (124, False, None)


def test_peak_memory_is_the_commands_own(runner: SubprocessRunner) -> None:
    """The peak memory is told when it is the command's, and not when it may be this process's own."""
    needs = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 + 50_000_000
    program = f"b = bytearray({needs}); b[::4096] = b'x' * len(b[::4096])"
    greedy = runner.run(CommandRequest(argv=[sys.executable, "-c", program]))
    assert greedy.max_rss is not None
    assert greedy.max_rss > needs
    assert runner.run(CommandRequest(argv="true")).max_rss is None


def test_secrets_are_not_shown(runner: SubprocessRunner) -> None:
    """A secret is redacted wherever the command is shown."""
    request = CommandRequest(argv=["false", "--token=hunter2"], secrets=("hunter2", ""))
    result = runner.run(request)
    assert "hunter2" not in repr(request.display()) + result.command
    assert "***" in result.command


# Starting it


def test_bad_interpreter(runner: SubprocessRunner, tmp_path: Path) -> None:
    """A script whose interpreter does not exist is not executable; the message names the interpreter."""
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter -x\n")
    script.chmod(0o755)
    result = runner.run(CommandRequest(argv=[str(script)]))
    assert (result.exit_code, result.failure_kind) == (126, FailureKind.BAD_INTERPRETER)
    assert "/no/such/interpreter" in (result.error_message or "")


def test_no_program_at_all(runner: SubprocessRunner, tmp_path: Path) -> None:
    """A file that is neither a program nor has a #! line is not executable."""
    script = tmp_path / "script"
    script.write_text("echo hi\n")
    script.chmod(0o755)
    result = runner.run(CommandRequest(argv=[str(script)]))
    assert (result.exit_code, result.failure_kind) == (126, FailureKind.NOT_EXECUTABLE)


def test_path_of_the_command(runner: SubprocessRunner, tmp_path: Path) -> None:
    """A program is looked up in the PATH that the command gets, from the folder that it runs in."""
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\necho found\n")
    refused = runner.run(CommandRequest(argv="tool", env={"PATH": "bin"}, cwd=tmp_path))
    assert (refused.exit_code, refused.failure_kind) == (126, FailureKind.NOT_EXECUTABLE)
    tool.chmod(0o755)
    assert runner.run(CommandRequest(argv="tool", env={"PATH": "/nowhere:bin"}, cwd=tmp_path)).stdout == "found\n"
    assert runner.run(CommandRequest(argv="./bin/tool", cwd=tmp_path)).stdout == "found\n"
    assert runner.run(CommandRequest(argv="true", env={"PATH": None})).success


@pytest.mark.parametrize("kind", ["missing", "a file", "removed under this process"])
def test_folder_to_run_in_is_gone(
    runner: SubprocessRunner, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder that cannot be used is told as such, not as a missing command."""
    gone = tmp_path / "gone"
    cwd: Path | None = gone
    if kind == "a file":
        gone.write_text("")
    elif kind == "removed under this process":
        gone.mkdir()
        monkeypatch.chdir(gone)
        gone.rmdir()
        cwd = None
    result = runner.run(CommandRequest(argv="true", cwd=cwd))
    assert (result.exit_code, result.failure_kind) == (125, FailureKind.CWD_MISSING)


def test_folder_is_removed_while_it_runs(runner: SubprocessRunner, tmp_path: Path) -> None:
    """A command whose folder goes away meanwhile runs to its end."""
    folder = tmp_path / "folder"
    folder.mkdir()
    assert runner.run(shell(f"rmdir {folder}; exit 5", cwd=folder)).exit_code == 5


@pytest.mark.parametrize("before", ["a command", ""])
def test_out_of_descriptors(before: str) -> None:
    """Without free descriptors a command fails with what to do, none leaks, and it works again afterwards."""
    program = """
        import os, resource, sys
        from arboretum.process import CommandRequest, SubprocessRunner
        runner = SubprocessRunner()
        if len(sys.argv) > 1:
            assert runner.run(CommandRequest(argv="true")).success
        resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
        for spare in range(9):
            held = []
            try:
                while True:
                    held.append(os.open("/dev/null", os.O_RDONLY))
            except OSError:
                for fd in held[:spare]:
                    os.close(fd)
            result = runner.run(CommandRequest(argv="true"))
            for fd in held[spare:]:
                os.close(fd)
            print(spare, result.exit_code, result.failure_kind, result.error_message)
            refused = (result.exit_code, result.failure_kind) == (125, "limits")
            assert result.success or (refused and "ulimit -n" in result.error_message), result
        assert runner.run(CommandRequest(argv="true")).success
        assert len(os.listdir("/proc/self/fd")) < 20, os.listdir("/proc/self/fd")
    """
    done = python(program, *([before] if before else []))
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert " 125 limits" in done.stdout


def test_descriptors_that_come_free_in_time() -> None:
    """More commands at once than descriptors allow wait for each other instead of failing."""
    program = """
        import asyncio, resource
        from arboretum.process import CommandRequest, SubprocessRunner
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        runner = SubprocessRunner()
        async def main():
            slots = asyncio.Semaphore(12)
            async def one():
                async with slots:
                    return await runner.run_async(CommandRequest(argv=["sleep", "0.01"]))
            return await asyncio.gather(*(one() for _ in range(40)))
        assert all(result.success for result in asyncio.run(main()))
    """
    done = python(program)
    assert (done.returncode, done.stderr) == (0, "")


def test_scripts_that_were_just_written(runner: SubprocessRunner, tmp_path: Path) -> None:
    """A script that another thread's child still has open for writing is tried again (ETXTBSY)."""

    def one(number: int) -> int:
        script = tmp_path / f"script{number}"
        script.write_text("#!/bin/true\n")
        script.chmod(0o755)
        return runner.run(CommandRequest(argv=[str(script)])).exit_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(one, range(200))) == {0}


def test_blocked_signals_are_not_inherited(runner: SubprocessRunner) -> None:
    """A thread that blocks SIGTERM runs commands that can be asked to end, and blocks it still afterwards."""
    seen: list[object] = []

    def work() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        seen.append(runner.run(CommandRequest(argv="sleep 60", timeout=0.1, grace=30)))
        seen.append(signal.pthread_sigmask(signal.SIG_BLOCK, ()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[0].signal == signal.SIGTERM  # type: ignore[attr-defined]
    assert seen[1] == {signal.SIGTERM}


# What others do to this process


def test_clock_that_jumps(runner: SubprocessRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither timeouts nor durations follow the wall clock."""
    jumps = iter(range(0, 10**9, 3600))
    monkeypatch.setattr(time, "time", lambda: next(jumps))
    result = runner.run(CommandRequest(argv="sleep 0.1", timeout=60))
    assert result.success
    assert result.duration < 50


def test_ignored_sigchld() -> None:
    """Where somebody ignores SIGCHLD the exit code cannot be known: that is told, and never taken for success."""
    program = """
        import signal
        from arboretum.process import CommandRequest, SubprocessRunner
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        runner = SubprocessRunner()
        for argv in ("true", "false", "sleep 0.05"):
            result = runner.run(CommandRequest(argv=argv))
            assert (result.exit_code, result.failure_kind, result.success) == (125, "lost", False), result
        result = runner.run(CommandRequest(argv=["setsid sleep 60 & sleep 60"], shell=True, timeout=0.1, grace=0.1))
        assert result.timed_out and not result.survivors, result
    """
    done = python(program)
    assert (done.returncode, done.stderr) == (0, "")


def test_foreign_wait() -> None:
    """Where something else reaps the child its exit code is told as lost, and never taken for success."""
    program = """
        import os, threading, time
        from arboretum.process import CommandRequest, SubprocessRunner
        runner, over = SubprocessRunner(), False
        runner.run(CommandRequest(argv="true"))
        def thief():
            while not over:
                try:
                    os.waitpid(-1, os.WNOHANG)
                except ChildProcessError:
                    pass
        threading.Thread(target=thief, daemon=True).start()
        results = [runner.run(CommandRequest(argv=["sh", "-c", "exit 7"])) for _ in range(30)]
        over = True
        assert {(r.exit_code, r.failure_kind) for r in results} <= {(7, None), (125, "lost")}, results
        print(sum(r.exit_code == 125 for r in results))
    """
    done = python(program)
    assert (done.returncode, done.stderr) == (0, "")


def test_children_of_others_are_left_alone(runner: SubprocessRunner, mark: str) -> None:
    """Processes that this process started otherwise are neither ended nor reaped, daemons included."""
    tail = f"60.{int(mark[5:17], 16)}"
    own = subprocess.Popen(["sh", "-c", "exit 9"])
    daemon = subprocess.Popen(["sh", "-c", f"setsid sleep {tail} & sleep 0.05"], start_new_session=True)
    for _ in range(10):
        runner.run(shell("setsid sleep 59 & true", leak_timeout=0))
    assert own.wait() == 9
    assert daemon.wait() == 0
    runner.run(shell("setsid sleep 59 & true", leak_timeout=0))
    (pid,) = living(f"sleep\0{tail}")
    os.kill(pid, signal.SIGKILL)


def test_suspended_time_does_not_count(runner: SubprocessRunner, tmp_path: Path) -> None:
    """Time in which the runner's process was stopped does not use up a timeout."""
    program = """
        import sys
        from arboretum.process import CommandRequest, SubprocessRunner
        result = SubprocessRunner().run(CommandRequest(argv=["sh", "-c", "echo up; sleep 4.5"], timeout=3),
                                        on_line=lambda *_: open(sys.argv[1], "w").close())
        print(result.exit_code, result.timed_out)
    """
    up = tmp_path / "up"
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), str(up)], stdout=subprocess.PIPE)
    assert wait_until(up.exists)
    time.sleep(0.3)  # so that it is waiting for the command, and no longer calling the listener
    process.send_signal(signal.SIGSTOP)
    time.sleep(3.5)  # longer than the timeout, and shorter than the command
    process.send_signal(signal.SIGCONT)
    assert process.communicate(timeout=60)[0] == b"0 False\n"


@pytest.mark.parametrize("asks", ["arboretum.process.stopping_with_the_terminal", "arboretum.cli.signals"])
def test_ctrl_z_stops_the_commands_too(mark: str, asks: str) -> None:
    """Where a program asks for it, Ctrl-Z stops every descendant, escaped ones too, and fg lets them go on."""
    tail = f"60.{int(mark[5:17], 16)}"
    program = """
        import contextlib, sys
        from arboretum.cli.signals import suspend_commands_too
        from arboretum.process import CommandRequest, SubprocessRunner, stopping_with_the_terminal
        with stopping_with_the_terminal() if "process" in sys.argv[2] else contextlib.nullcontext():
            if "cli" in sys.argv[2]:
                suspend_commands_too()
            script = f"setsid sleep {sys.argv[1]} & sleep {sys.argv[1]}"
            SubprocessRunner().run(CommandRequest(argv=[script], shell=True))
    """

    def states() -> set[str]:
        pids = [*living(f"sleep\0{tail}"), process.pid]
        return {Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] for pid in pids}

    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), tail, asks])
    assert wait_until(lambda: len(living(f"sleep\0{tail}")) == 2)
    process.send_signal(signal.SIGTSTP)
    assert wait_until(lambda: states() == {"T"})
    process.send_signal(signal.SIGCONT)
    assert wait_until(lambda: "T" not in states())
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert wait_until(lambda: not living(tail))


def test_suspension_gives_the_handler_back() -> None:
    """The handler of SIGTSTP that was there before is there afterwards."""
    before = signal.getsignal(signal.SIGTSTP)
    with stopping_with_the_terminal():
        assert signal.getsignal(signal.SIGTSTP) != before
    assert signal.getsignal(signal.SIGTSTP) == before


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_runner_that_is_ended_leaves_nothing(mark: str, number: signal.Signals) -> None:
    """A runner that dies of a signal in the middle of several commands leaves none of their processes."""
    tail = f"60.{int(mark[5:17], 16)}"
    program = """
        import asyncio, sys
        from arboretum.process import CommandRequest, SubprocessRunner
        async def main():
            script = f"trap '' TERM HUP; (setsid sleep {sys.argv[1]} &); sleep {sys.argv[1]}"
            request = CommandRequest(argv=[script], shell=True)
            await asyncio.gather(*(SubprocessRunner().run_async(request) for _ in range(8)))
        asyncio.run(main())
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), tail], start_new_session=True)
    assert wait_until(lambda: len(living(f"sleep\0{tail}")) == 16)
    os.killpg(process.pid, number)
    process.wait()
    assert wait_until(lambda: not living(tail))


def test_interpreter_ends_before_its_commands(mark: str) -> None:
    """Commands that nobody waits for end with the interpreter, quickly and without a message."""
    tail = f"60.{int(mark[5:17], 16)}"
    program = """
        import sys
        from arboretum.process import CommandRequest, SubprocessRunner
        for _ in range(3):
            request = CommandRequest(argv=["sh", "-c", f"trap '' TERM; setsid sleep {sys.argv[1]} & wait"], grace=1000)
            assert SubprocessRunner().start(request).pid
    """
    done = python(program, tail)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert living(tail) == []


def test_forked_process_is_a_runner_of_its_own(mark: str) -> None:
    """A fork neither ends its parent's commands nor keeps its parent's guard waiting, and can run commands."""
    tail = f"60.{int(mark[5:17], 16)}"
    program = """
        import os, sys, time
        from arboretum.process import CommandRequest, SubprocessRunner
        runner = SubprocessRunner()
        command = runner.start(CommandRequest(argv=["sleep", sys.argv[1]]))
        assert command.pid
        if os.fork() == 0:
            assert runner.run(CommandRequest(argv="true")).success
            sys.exit(0)
        assert os.wait()[1] == 0
        assert command.poll() is None
        if os.fork() == 0:
            time.sleep(20)
            os._exit(0)
        print("ready", flush=True)
        time.sleep(60)
    """
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program), tail],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == b"ready\n"
    process.kill()
    process.wait()
    process.stdout.close()
    assert wait_until(lambda: not living(f"sleep\0{tail}"))
    os.killpg(process.pid, signal.SIGKILL)


def test_killed_runner_inside_a_command(runner: SubprocessRunner, mark: str) -> None:
    """When a command is itself a runner and is killed, what its commands left is known and ended."""
    tail = f"60.{int(mark[5:17], 16)}"
    program = """
        import sys
        from arboretum.process import CommandRequest, SubprocessRunner
        script = f"trap '' TERM; setsid sleep {sys.argv[1]} & sleep {sys.argv[1]}"
        SubprocessRunner().run(CommandRequest(argv=[script], shell=True))
    """
    request = CommandRequest(argv=[sys.executable, "-c", textwrap.dedent(program), tail], timeout=1.5, grace=0)
    result = runner.run(request)
    assert (result.timed_out, result.survivors) == (True, ())
    assert living(tail) == []


def test_runner_inside_a_command_leaks_nothing(runner: SubprocessRunner) -> None:
    """A command that is itself a runner and ends in good order is not said to have leaked its guard."""
    program = """
        from arboretum.process import CommandRequest, SubprocessRunner
        SubprocessRunner().run(CommandRequest(argv="true"))
    """
    result = runner.run(CommandRequest(argv=[sys.executable, "-c", textwrap.dedent(program)]))
    assert (result.exit_code, result.stderr, result.leaked) == (0, "", False)


def test_guard_that_is_killed_does_no_harm() -> None:
    """Without its guard a runner goes on, and ends without a message."""
    program = """
        import os, signal
        from arboretum.process import CommandRequest, SubprocessRunner
        from arboretum.process.descendants import DESCENDANTS
        runner = SubprocessRunner()
        runner.run(CommandRequest(argv="true"))
        os.kill(DESCENDANTS._guard.pid, signal.SIGKILL)
        assert runner.run(CommandRequest(argv="true")).success
    """
    done = python(program)
    assert (done.returncode, done.stderr) == (0, "")


# Other systems


@pytest.mark.parametrize("end", ["returns", "times out", "is stopped"])
@pytest.mark.parametrize("lacking", ["subreaper", "children file", "pidfd", "all"])
def test_systems_that_lack_something(
    runner: SubprocessRunner, mark: str, monkeypatch: pytest.MonkeyPatch, lacking: str, end: str
) -> None:
    """Without subreapers, /proc/.../children or pidfds, no descendant survives either."""
    tail = f"60.{int(mark[5:17], 16)}"
    if lacking in {"subreaper", "all"}:
        monkeypatch.setattr(DESCENDANTS, "adopts", False)
    if lacking == "children file":
        monkeypatch.setattr(descendants_module, "_set_subreaper", lambda: True)
        monkeypatch.setattr(type(DESCENDANTS), "_open_children", lambda self: False)
        monkeypatch.setattr(DESCENDANTS, "adopts", None)
    if lacking in {"pidfd", "all"}:
        monkeypatch.delattr(os, "pidfd_open")
    if lacking == "all":
        monkeypatch.delattr(os, "waitid")
        monkeypatch.delattr(os, "eventfd")
    script = (
        f"(setsid sleep {tail} &); setsid sleep {tail} >/dev/null 2>&1 & sleep {'0.1' if end == 'returns' else '60'}"
    )
    command = runner.start(shell(script, timeout=0.3 if end == "times out" else None, grace=0.1))
    if end == "is stopped":
        assert wait_until(lambda: len(living(f"sleep\0{tail}")) == 2)
        command.stop()
    result = command.wait(60)
    assert living(f"sleep\0{tail}") == []
    assert result.exit_code == {"returns": 0, "times out": 124, "is stopped": 143}[end]
    assert result.survivors == ()


# Interruption at any moment

INTERRUPTED = """
    import random, signal, sys, threading
    from arboretum.process import CommandRequest, SubprocessRunner
    runner, random = SubprocessRunner(), random.Random(int(sys.argv[2]))
    runner.run(CommandRequest(argv="true"))
    script = f"trap '' TERM; (setsid sleep {sys.argv[1]} &); sleep {sys.argv[1]}"
    def interrupt(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, interrupt)
    for _ in range(int(sys.argv[3])):
        try:
            signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00002, 0.004))
            try:
                runner.run(CommandRequest(argv=[script], shell=True, grace=0))
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
        except KeyboardInterrupt:
            pass
    print(threading.active_count())
"""


def test_keyboard_interrupt_at_any_moment(mark: str) -> None:
    """Wherever an interrupt strikes, in the start, the run or the clean-up, no process is left."""
    tail = f"60.{int(mark[5:17], 16)}"
    done = python(INTERRUPTED, tail, "1", str(int(60 * SCALE)))
    assert (done.returncode, done.stdout) == (0, "1\n"), done.stderr
    assert living(f"sleep\0{tail}") == []


def test_cancel_at_any_moment(runner: SubprocessRunner, mark: str) -> None:
    """Wherever a cancellation strikes, no process is left when it has been seen."""
    tail = f"60.{int(mark[5:17], 16)}"
    script = f"trap '' TERM; (setsid sleep {tail} &); sleep {tail}"
    rng = random.Random(2)

    async def one() -> None:
        task = asyncio.create_task(runner.run_async(shell(script, grace=0)))
        await asyncio.sleep(rng.uniform(0, 0.01))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def main() -> None:
        for _ in range(int(40 * SCALE)):
            await one()
            assert living(tail) == []
        await asyncio.gather(*(one() for _ in range(20)))
        assert living(tail) == []

    asyncio.run(main())


# Many


def test_cost_per_command_does_not_grow(runner: SubprocessRunner) -> None:
    """Hundreds of commands at once, again and again, leave neither descriptors, threads, zombies nor objects."""
    others = set(threading.enumerate())  # left by libraries that other tests of this process have used

    def footprint() -> tuple[int, int]:
        children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
        return len(os.listdir("/proc/self/fd")), len(children)

    def quiet() -> bool:
        return set(threading.enumerate()) <= others

    async def main() -> None:
        requests = [shell("setsid sleep 60 & true", leak_timeout=0), CommandRequest(argv="true")] * 50
        results = await asyncio.gather(*(runner.run_async(request) for request in requests))
        assert all(result.success for result in results)

    asyncio.run(main())
    assert wait_until(quiet, 30), threading.enumerate()
    before = footprint()
    for _ in range(3):
        asyncio.run(main())
    assert wait_until(quiet, 30), threading.enumerate()
    assert wait_until(lambda: all(now <= then for now, then in zip(footprint(), before, strict=True)), 30), (
        before,
        footprint(),
    )


@pytest.mark.slow
def test_memory_stays_bounded_whatever_is_printed(tmp_path: Path) -> None:
    """Output of any size costs a few megabytes, and all of it is on disk where that was asked for."""
    program = """
        import os, sys
        from arboretum.process import CommandRequest, SubprocessRunner
        def peak():  # not ru_maxrss, which starts with the peak of the process that has spawned this one
            with open("/proc/self/status") as file:
                return next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        size, runner = int(sys.argv[1]), SubprocessRunner()
        runner.run(CommandRequest(argv="true", output_dir=sys.argv[2]))
        before = peak()
        lines = []
        result = runner.run(
            CommandRequest(argv=f"head -c {size} /dev/zero", output_dir=sys.argv[2]),
            on_line=lambda _, line: lines.append(len(line)),
        )
        assert peak() - before < 16 * 1024, peak() - before
        assert os.path.getsize(result.output_paths["stdout"]) == sum(lines) == size
        assert result.truncated_bytes == size - 2 * 1024 * 1024
    """
    done = python(program, str(int(200_000_000 * SCALE)), str(tmp_path))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_sixty_stubborn_trees(runner: SubprocessRunner, mark: str) -> None:
    """Sixty trees that ignore SIGTERM and hold their pipes, 16 at a time, are all ended by their timeouts."""
    tail = f"60.{int(mark[5:17], 16)}"
    script = f"trap '' TERM; (setsid sleep {tail} &); sleep {tail} & sleep {tail}"
    request = shell(script, timeout=0.3, grace=0.1)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: runner.run(request), range(60)))
    assert living(tail) == []
    assert {(result.exit_code, result.survivors) for result in results} == {(124, ())}
