"""Keep what runs leave behind within bounds: outputs in the store, and the folders of old runs."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil

from arboretum.engine.journal import Journal, run_folder
from arboretum.engine.store import ResultStore
from arboretum.engine.store_records import Retention
from arboretum.errors import ArboretumError, StoreError

_log = logging.getLogger(__name__)


def keep_house(store: ResultStore, runs_dir: str, retention: Retention | None = None) -> tuple[str, ...]:
    """Drop outputs and journals that are beyond `retention`; cached results and the list of runs stay longer.

    Args:
        store: The results.
        runs_dir: The folder of the runs' own folders.
        retention: How much is kept; None for the usual.

    Returns:
        The ids of the runs whose folders were removed. A run that is going on is left alone.
    """
    removed = []
    try:
        dropped = store.apply_retention(retention or Retention())
    except StoreError as error:
        _log.warning("%s", error)
        return ()
    for run in dropped:
        with contextlib.suppress(ArboretumError):
            folder = run_folder(runs_dir, run)
            if not os.path.isdir(folder):
                continue
            with Journal.open(runs_dir, run):  # nobody writes it, and nobody begins to
                shutil.rmtree(folder, ignore_errors=True)
            removed.append(run)
    return tuple(removed)
