"""Running commands: cost of one, throughput of many, a gigabyte of output, stubborn trees, a killed runner."""

from __future__ import annotations

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from arboretum.process import CommandRequest, SubprocessRunner
from tests.benchmarks.curves import LINEAR, Curves, sizes_of
from tests.benchmarks.measure import Row, compare, interleave

TRUE = "/bin/true"
WIDTH = 32


def run(scale: float) -> list[Row]:
    """All comparisons."""
    return [
        *sequential(scale),
        *at_once(scale),
        batches(scale),
        *grown(scale),
        *gigabyte(scale),
        *stubborn(scale),
        *killed(scale),
    ]


# One after another


def _spawn(count: int) -> None:
    for _ in range(count):
        pid = os.posix_spawn(TRUE, [TRUE], os.environ)
        os.waitpid(pid, 0)


def sequential(scale: float) -> list[Row]:
    """500 runs of ``true`` one after another, in rounds of 25, output captured."""
    runner, request, count = SubprocessRunner(), CommandRequest(argv=[TRUE]), 25

    def ours() -> None:
        for _ in range(count):
            assert runner.run(request).exit_code == 0

    def theirs(**options: object) -> None:
        for _ in range(count):
            assert subprocess.run([TRUE], capture_output=True, check=False, **options).returncode == 0  # type: ignore[call-overload]

    ways = {
        "ours": ours,
        "subprocess.run": theirs,
        "subprocess.run, text and timeout": lambda: theirs(text=True, timeout=60),
        "os.posix_spawn, nothing captured": lambda: _spawn(count),
    }
    times = interleave(ways, rounds=max(5, round(20 * scale)))
    case = "25 x true, one after another"
    return [
        compare("process", case, times, ours="ours", baseline="subprocess.run", target=1.15),
        compare("process", case, times, ours="ours", baseline="subprocess.run, text and timeout"),
        compare("process", case, times, ours="ours", baseline="os.posix_spawn, nothing captured", note="the floor"),
    ]


# Many at once


async def _with_asyncio(count: int) -> None:
    slots = asyncio.Semaphore(WIDTH)

    async def one() -> None:
        async with slots:
            pipe = asyncio.subprocess.PIPE
            process = await asyncio.create_subprocess_exec(TRUE, stdout=pipe, stderr=pipe)
            await process.communicate()

    await asyncio.gather(*(one() for _ in range(count)))


async def _with_run_async(count: int) -> None:
    runner, request, slots = SubprocessRunner(), CommandRequest(argv=[TRUE]), asyncio.Semaphore(WIDTH)

    async def one() -> None:
        async with slots:
            await runner.run_async(request)

    await asyncio.gather(*(one() for _ in range(count)))


def at_once(scale: float) -> list[Row]:
    """Short commands, 32 at once, output captured by us and not by xargs."""
    runner, request = SubprocessRunner(), CommandRequest(argv=[TRUE])
    count = max(64, round(320 * scale))
    numbers = "\n".join(map(str, range(count))).encode()

    def threads() -> None:
        with ThreadPoolExecutor(WIDTH) as pool:
            assert all(result.success for result in pool.map(lambda _: runner.run(request), range(count)))

    def spawn_threads() -> None:
        with ThreadPoolExecutor(WIDTH) as pool:
            list(pool.map(lambda _: _spawn(1), range(count)))

    ways = {
        "threads": threads,
        "run_async": lambda: asyncio.run(_with_run_async(count)),
        "xargs": lambda: subprocess.run(["xargs", f"-P{WIDTH}", "-n1", TRUE], input=numbers, check=True),
        "asyncio": lambda: asyncio.run(_with_asyncio(count)),
        "posix_spawn": spawn_threads,
    }
    times = interleave(ways, rounds=max(3, round(11 * scale)))
    case = f"{count} x true, {WIDTH} at once, by "
    rows = []
    for ours in ("threads", "run_async"):
        for baseline, name, target in (
            ("xargs", f"xargs -P{WIDTH}, nothing captured", 1.0),
            ("asyncio", "asyncio.create_subprocess_exec, pipes", 2.0),
            ("posix_spawn", "os.posix_spawn in threads, nothing captured", None),
        ):
            row = compare("process", case + ours, times, ours=ours, baseline=baseline, target=target, at_least=True)
            rows.append(_named(row, name))
    return rows


def _named(row: Row, baseline: str) -> Row:
    import attrs

    return attrs.evolve(row, baseline=baseline)


def batches(scale: float) -> Row:
    """Two hundred commands at once, again and again: the cost of the last batches over that of the first."""
    runner, request = SubprocessRunner(), CommandRequest(argv=[TRUE])

    async def batch() -> None:
        await asyncio.gather(*(runner.run_async(request) for _ in range(200)))

    seconds = []
    asyncio.run(batch())
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    for _ in range(max(4, round(20 * scale))):
        begin = time.perf_counter()
        asyncio.run(batch())
        seconds.append(time.perf_counter() - begin)
    after = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    quarter = max(1, len(seconds) // 4)
    first, last = sorted(seconds[:quarter])[quarter // 2], sorted(seconds[-quarter:])[quarter // 2]
    return Row(
        area="process",
        case="200 x true, 200 at once, again and again",
        ours=last,
        baseline="the first batches",
        theirs=first,
        ratio=last / first,
        note=f"{len(seconds)} batches; descriptors {before} before, {after} after",
    )


def grown(scale: float) -> Iterator[Row]:
    """Curves: up to 1,000 commands, 32 at once; a child that prints up to 1 GiB."""
    runner, request = SubprocessRunner(), CommandRequest(argv=[TRUE])

    def ours(count: int) -> None:
        with ThreadPoolExecutor(WIDTH) as pool:
            assert all(result.success for result in pool.map(lambda _: runner.run(request), range(count)))

    def spawned(count: int) -> None:
        with ThreadPoolExecutor(WIDTH) as pool:
            list(pool.map(lambda _: _spawn(1), range(count)))

    curves = Curves("process", "commands")
    for count in sizes_of(scale, (1, 10, 100, 1000)):
        curves.add(count, {"true, 32 at once": partial(ours, count), "os.posix_spawn": partial(spawned, count)})
    yield from curves.rows({"true, 32 at once": ("os.posix_spawn", LINEAR)})

    def printed(size: int) -> None:
        result = runner.run(CommandRequest(argv=["head", "-c", str(size), "/dev/zero"]))
        assert len(result.stdout) + result.truncated_bytes >= size

    def whole(size: int) -> None:
        done = subprocess.run(["head", "-c", str(size), "/dev/zero"], capture_output=True, check=True)
        assert len(done.stdout) == size

    curves = Curves("process", "MiB")
    for count in sizes_of(scale, (1, 10, 100, 1000)):
        size = count * 2**20
        curves.add(count, {"a child that prints": partial(printed, size), "subprocess.run": partial(whole, size)})
    yield from curves.rows({"a child that prints": ("subprocess.run", LINEAR)})


# A gigabyte

_OUTPUT = """
import json, resource, subprocess, sys, time
way, size = sys.argv[1], sys.argv[2]
command = ["head", "-c", size, "/dev/zero"]
def peak():
    # Not ru_maxrss where it can be had otherwise: that starts with the peak of whoever has spawned this process.
    try:
        with open("/proc/self/status") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
if way == "ours":
    from arboretum.process import CommandRequest, SubprocessRunner
    runner = SubprocessRunner()
    runner.run(CommandRequest(argv="true"))
    before, begin = peak(), time.perf_counter()
    result = runner.run(CommandRequest(argv=command))
    assert len(result.stdout) + result.truncated_bytes >= int(size)
else:
    subprocess.run(["true"], capture_output=True)
    before, begin = peak(), time.perf_counter()
    assert len(subprocess.run(command, capture_output=True).stdout) == int(size)
print(json.dumps([time.perf_counter() - begin, (peak() - before) / 2**20]))
"""


def gigabyte(scale: float) -> list[Row]:
    """A child that prints 1 GiB: time, and growth of the parent's memory in MiB."""
    size = round(2**30 * min(1.0, scale))
    memory: dict[str, list[float]] = {"ours": [], "subprocess.run": []}

    def way(name: str) -> float:
        done = subprocess.run([sys.executable, "-c", _OUTPUT, name, str(size)], capture_output=True, check=True)
        seconds, grown = json.loads(done.stdout)
        memory[name].append(grown)
        return float(seconds)

    ways = {name: lambda name=name: way(name) for name in memory}  # type: ignore[misc]
    times = interleave(ways, rounds=max(3, round(5 * scale)), warmup=0)
    case = f"a child that prints {size / 2**20:.0f} MiB"
    grown = {name: sorted(values)[len(values) // 2] for name, values in memory.items()}
    return [
        compare("process", case, times, ours="ours", baseline="subprocess.run", target=1.0),
        Row(
            area="process",
            case=f"{case}: MiB that the parent grows by",
            baseline="subprocess.run",
            ratio=grown["ours"],
            target=16,
            note=f"the figure is in MiB; subprocess.run grows by {grown['subprocess.run']:.0f}",
        ),
    ]


# Trees


def _script(seconds: str) -> str:
    """A tree of four that ignores SIGTERM and holds its pipes, one of it in a session of its own."""
    return f"trap '' TERM; (setsid sleep {seconds} &); sleep {seconds} & sleep {seconds}"


def _left(seconds: str) -> int:
    found = subprocess.run(["ps", "-eo", "stat,args"], capture_output=True, text=True, check=True).stdout
    return sum(f"sleep {seconds}" in line and not line.startswith("Z") for line in found.splitlines())


def stubborn(scale: float) -> list[Row]:
    """60 trees that ignore SIGTERM and hold their pipes, 16 at a time, each timed out."""
    count, width, timeout, grace = max(16, round(60 * min(1.0, scale))), 16, 0.5, 0.25
    seconds = f"77.{os.getpid()}"
    runner = SubprocessRunner()
    request = CommandRequest(argv=[_script(seconds)], shell=True, timeout=timeout, grace=grace)
    ideal = math.ceil(count / width) * (timeout + grace)
    took, left = [], 0
    for _ in range(max(1, round(3 * scale))):
        begin = time.perf_counter()
        with ThreadPoolExecutor(width) as pool:
            results = list(pool.map(lambda _: runner.run(request), range(count)))
        took.append(time.perf_counter() - begin)
        left += _left(seconds)
        assert all(result.timed_out and not result.survivors for result in results)
    median = sorted(took)[len(took) // 2]
    case = f"{count} stubborn trees of 4, {width} at a time, timed out"
    return [
        Row(
            area="process", case=case, ours=median, baseline="the ideal", theirs=ideal,
            ratio=median / ideal, target=1.5,
        ),
        Row(area="process", case=f"{case}: processes left", ratio=float(left), target=0, note="a count"),
    ]  # fmt: skip


_RUNNER = """
import asyncio, sys
from arboretum.process import CommandRequest, SubprocessRunner
async def main():
    runner, request = SubprocessRunner(), CommandRequest(argv=[sys.argv[1]], shell=True)
    await asyncio.gather(*(runner.run_async(request) for _ in range(16)))
asyncio.run(main())
"""


def killed(scale: float) -> list[Row]:
    """A runner of 16 stubborn trees that is killed with -9 in the middle: what is left, and for how long."""
    seconds, rounds, waits, left = f"78.{os.getpid()}", max(2, round(5 * scale)), [], 0
    for _ in range(rounds):
        process = subprocess.Popen([sys.executable, "-c", _RUNNER, _script(seconds)], start_new_session=True)
        while _left(seconds) < 48:
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait()
        begin = time.perf_counter()
        while (now := _left(seconds)) and time.perf_counter() - begin < 10:
            time.sleep(0.02)
        waits.append(time.perf_counter() - begin)
        left += now
    case = "a runner of 16 stubborn trees, killed with -9: processes left"
    note = f"a count, over {rounds} rounds; all gone after {max(waits):.2f} s at the latest"
    return [Row(area="process", case=case, ratio=float(left), target=0, note=note)]
