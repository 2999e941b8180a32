"""Run by a test: takes and gives back slots of a shared pool, and writes down every change of a slot's state.

python share_worker.py REPOSITORY SIZE LEASES LOG SEED
"""

import json
import os
import random
import sys
import time

from arboretum.engine.events import SlotChanged
from arboretum.engine.pool import WorktreePool
from arboretum.engine.slots import Want
from arboretum.events import Event, Observers
from arboretum.repository import Repository


def main() -> None:
    path, size, leases, log_path, seed = sys.argv[1:]
    chance = random.Random(int(seed))
    log = os.open(log_path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(event: Event) -> None:
        if isinstance(event, SlotChanged):
            entry = [time.monotonic_ns(), os.getpid(), event.slot, event.previous, event.state, event.lease]
            os.write(log, json.dumps(entry).encode() + b"\n")

    repository = Repository.open(path)
    commits = [commit.oid for commit in repository.log()]
    pool = WorktreePool.open(repository, size=int(size), observers=Observers.of([note]))
    done = 0
    while done < int(leases):
        lease = pool.try_acquire(Want(commit=chance.choice(commits)), run=seed)
        if lease is None:
            time.sleep(chance.uniform(0.001, 0.02))
            continue
        mine = os.open(f"{lease.path}/mine", os.O_CREAT | os.O_EXCL | os.O_WRONLY)  # fails if anyone else is in there
        os.close(mine)
        time.sleep(chance.uniform(0, 0.005))
        pool.release(lease)
        done += 1


main()
