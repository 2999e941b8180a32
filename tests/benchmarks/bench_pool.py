"""The pool: moving a slot beside `git checkout`, and beside a fresh worktree."""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path

from arboretum import Repository
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from arboretum.values import Oid
from tests.benchmarks.measure import Row, compare, interleave, workplace


def run(scale: float) -> list[Row]:
    """A slot of 5,000 files moved to and fro."""
    rounds = max(1, round(5 * scale))
    with workplace() as folder:
        return _moved(folder, rounds, files=5000 if scale >= 1 else 500)


def _moved(folder: Path, rounds: int, *, files: int) -> list[Row]:
    builder = RepositoryBuilder.init(folder / "moved")
    content: dict[str, str] = {f"folder{n % 100}/file{n}": f"{n}\n" * 30 for n in range(files)}
    changes = [{f"folder{n % 100}/file{n}": f"{m}\n" * 30 for n in range(m * 7, m * 7 + 7)} for m in range(51)]
    oids = builder.commits([CommitSpec(content), *(CommitSpec(dict(change)) for change in changes)])
    ends = (oids[1], oids[51])
    tree = str(folder / "plain")
    builder.git("worktree", "add", "-q", "--detach", tree, ends[0])
    with Repository.open(builder.path) as repository:
        pool = WorktreePool.open(repository, size=1)

        def move(oid: Oid) -> None:
            lease = pool.try_acquire(Want(commit=oid))
            assert lease is not None
            pool.release(lease)

        def checkout(oid: Oid) -> None:
            subprocess.run(["git", "checkout", "-q", "--detach", oid], cwd=tree, check=True)

        numbers = itertools.count()

        def fresh() -> None:
            for oid in ends:  # left where they are: ext4 makes files slowly where many have just been deleted
                path = str(folder / f"fresh{next(numbers)}")
                subprocess.run(["git", "worktree", "add", "-q", "--detach", path, oid], cwd=builder.path, check=True)

        move(ends[0])
        times = interleave(
            {
                "ours": lambda: [move(oid) for oid in reversed(ends)] and None,
                "checkout": lambda: [checkout(oid) for oid in reversed(ends)] and None,
                "same": lambda: [move(ends[0]) for _ in ends] and None,
                "fresh": fresh,
            },
            rounds=rounds,
            warmup=1,
        )
    return [
        compare("pool", f"a slot of {files} files moved by 50 commits, and proven clean", times, ours="ours",
                baseline="checkout", target=1.1, note="baseline: `git checkout --detach`, which proves nothing"),
        compare("pool", f"a slot of {files} files taken again at its commit, and proven clean", times, ours="same",
                baseline="checkout", target=1.0),
        compare("pool", f"a slot of {files} files moved by 50 commits, and proven clean", times, ours="ours",
                baseline="fresh", target=4.0 if files >= 5000 else None, at_least=True,
                note="baseline: a fresh `git worktree add`"),
    ]  # fmt: skip
