"""The dispatcher: sole owner of the state of a run. It asks the strategy what should run, and makes it so."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Protocol

from attrs import define, evolve, field

from arboretum.engine.cache_key import CacheKey, cache_key
from arboretum.engine.events import TrialFinished, TrialOutput, TrialStarted, VerdictReached
from arboretum.engine.executor import Executor
from arboretum.engine.model import CONTROL, Outcome, Plan, Trial, TrialRequest
from arboretum.engine.result import RunStatus
from arboretum.engine.search import Strategy, TrialKey
from arboretum.engine.variants import Variant, trial_request
from arboretum.engine.verdict import AUTO_TIMEOUT_CONTROL, AUTO_TIMEOUT_FLOOR, auto_timeout
from arboretum.errors import ArboretumError, EngineError, ExecutorError
from arboretum.events import Observers

_log = logging.getLogger(__name__)

#: So many trials in a row that the machinery (not the code) failed end the run.
MAX_ERRORS: Final = 3
#: Never wait longer than this for results that are about to come, in seconds.
_MAX_SETTLE: Final = 0.25
#: Of the output of one trial at most one line in so many seconds is told.
_OUTPUT_INTERVAL: Final = 0.05


class TrialStore(Protocol):
    """Where finished trials are kept and known results are found (`arboretum.engine.store.ResultStore`)."""

    def get_many(self, keys: Iterable[CacheKey]) -> Mapping[str, Trial]:
        """The known results among `keys`, by digest."""

    def put(self, key: CacheKey, trial: Trial, *, run: str = "") -> None:
        """Keep a result for later runs; what is neither a pass nor a fail is not kept."""

    def record_trial(self, run: str, trial: Trial, *, key: CacheKey | None = None) -> Trial:
        """Keep a trial of this run, and take over its whole output. Returns the trial as it is kept."""

    def batch(self) -> contextlib.AbstractContextManager[None]:
        """Make all changes in the block one."""


@define(eq=False, kw_only=True)
class Dispatcher:
    """Carries out a strategy.

    Args:
        run: The id of the run.
        plan: Timeouts and the rest of what a request states.
        strategy: What to run next.
        variants: How to make each subject the strategy names.
        executor: Who runs the trials.
        observers: Told of every trial's start, output and end, and of every verdict.
        capacity: How many trials at once; None for the executor's number.
        store: Where trials are kept; None for nowhere.
        key_fields: The fields of a result's identity that all trials share.
        reuse: Take known results from the store.
        keep: Let later runs take this run's results from the store.
    """

    run: str
    plan: Plan
    strategy: Strategy
    variants: Mapping[str, Variant]
    executor: Executor
    observers: Observers = field(factory=Observers)
    capacity: int | None = None
    store: TrialStore | None = None
    key_fields: Mapping[str, str] = field(factory=dict)
    reuse: bool = True
    keep: bool = True
    trials: list[Trial] = field(factory=list, init=False)
    rounds: int = field(default=0, init=False)
    _tasks: dict[TrialKey, asyncio.Task[Trial]] = field(factory=dict, init=False)
    _cancelling: set[TrialKey] = field(factory=set, init=False)
    _retried: set[TrialKey] = field(factory=set, init=False)
    _looked_up: set[TrialKey] = field(factory=set, init=False)
    _keys: dict[TrialKey, CacheKey] = field(factory=dict, init=False)  # of those looked up and not yet finished
    _own: set[str] = field(factory=set, init=False)  # digests of results of this run: no evidence a second time
    _errors: int = field(default=0, init=False)
    _failure: BaseException | None = field(default=None, init=False)
    _stop: asyncio.Event = field(factory=asyncio.Event, init=False)

    def __repr__(self) -> str:
        return f"<Dispatcher {self.run}: {len(self._tasks)} running, {len(self.trials)} finished>"

    def stop(self) -> None:
        """End the run: what runs is stopped and cleaned up, nothing new is started. A second call kills at once."""
        if self._stop.is_set():
            for task in self._tasks.values():
                task.cancel()
        self._stop.set()

    def restore(self, trials: Iterable[Trial]) -> None:
        """Take trials of an earlier part of the same run as finished; no event is emitted for them."""
        for trial in trials:
            if trial.hypothesis in self.variants and trial.outcome not in {Outcome.CANCELLED, Outcome.ERROR}:
                self.trials.append(trial)
                self.strategy.record(trial)

    async def dispatch(self) -> RunStatus:
        """Run until the strategy wants nothing more, or until `stop`.

        Raises:
            EngineError: `MAX_ERRORS` trials in a row could not be carried out.
            ExecutorError: The executor cannot carry out any trial.
        """
        try:
            while not self._stop.is_set() and self._failure is None:
                if not self._reconcile():
                    break
                await self._next_results()
        finally:
            await self._cancel(self._tasks)
        if isinstance(self._failure, ExecutorError):
            raise self._failure
        if self._failure is not None:
            raise EngineError(
                f"{MAX_ERRORS} trials in a row could not be carried out; the last one: {self._failure}",
                hint="`arboretum doctor` checks the environment",
            ) from self._failure
        return RunStatus.INTERRUPTED if self._stop.is_set() else RunStatus.DONE

    def _reconcile(self) -> bool:
        """Make what runs what is wanted. Returns whether anything is running."""
        limit = max(1, self.executor.capacity if self.capacity is None else self.capacity)
        while True:
            wanted = self.strategy.wanted(self._tasks.keys() - self._cancelling, limit)
            known = self._known([key for key in wanted if key not in self._tasks])
            if not known:
                break
            self._finish(*known)
        for key in self._tasks.keys() - self._cancelling - set(wanted):
            self._cancelling.add(key)
            self._tasks[key].cancel()
        for key in wanted:
            if len(self._tasks) >= limit:  # those being stopped still hold their slots
                break
            if key not in self._tasks:
                self._tasks[key] = asyncio.create_task(self._execute(key), name=f"{key[0]}#{key[1]}")
        return bool(self._tasks)

    async def _execute(self, key: TrialKey) -> Trial:
        subject, attempt = key
        last_shown = 0.0

        def on_started(slot: str, path: str) -> None:
            self.observers(TrialStarted(run=self.run, hypothesis=subject, attempt=attempt, slot=slot, path=path))

        def on_output(stream: str, line: str) -> None:
            # For eyes only: a command that prints a million lines a second must not drown the observers.
            nonlocal last_shown
            now = time.monotonic()
            if now - last_shown >= _OUTPUT_INTERVAL:
                last_shown = now
                self.observers(TrialOutput(run=self.run, hypothesis=subject, attempt=attempt, stream=stream, line=line))

        return await self.executor.execute(self._request(key), on_started=on_started, on_output=on_output)

    async def _next_results(self) -> None:
        running = list(self._tasks.values())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait([*running, stopped], return_when=asyncio.FIRST_COMPLETED)
            self.rounds += 1
            done = [task for task in running if task.done()]
            patience = self.strategy.settle * max(map(_duration, done), default=0.0)
            if patience and not stopped.done() and len(done) < len(running):
                await asyncio.wait(running, timeout=min(patience, _MAX_SETTLE))
        finally:
            stopped.cancel()
        self._collect()

    def _collect(self) -> None:
        for key, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[key]
                cancelled = key in self._cancelling
                self._cancelling.discard(key)
                self._take(key, task, was_unwanted=cancelled)

    def _take(self, key: TrialKey, task: asyncio.Task[Trial], *, was_unwanted: bool) -> None:
        error = None if task.cancelled() else task.exception()
        if task.cancelled():
            self._finish(self._trial(key, Outcome.CANCELLED, "no longer needed" if was_unwanted else "interrupted"))
        elif error is None:
            self._errors = 0
            self._finish(task.result())
        elif not isinstance(error, Exception):
            raise error
        elif isinstance(error, ExecutorError):  # it cannot carry out any: no use to try again
            self._failure = error
        elif key not in self._retried and isinstance(error, ArboretumError) and not was_unwanted:
            _log.warning("trial %s#%s could not be carried out and is tried again: %s", *key, error)
            self._retried.add(key)
        else:
            _log.error("trial %s#%s could not be carried out", *key, exc_info=error)
            self._errors += 1
            if self._errors >= MAX_ERRORS:
                self._failure = error
            self._finish(self._trial(key, Outcome.ERROR, str(error)))

    def _finish(self, *trials: Trial) -> None:
        """Keep trials that are over, in one go; then judge and tell each."""
        for trial in self._keep([self._with_tree(trial) for trial in trials]):
            self.trials.append(trial)
            judgements = self.strategy.record(trial)
            self.observers(TrialFinished(run=self.run, trial=trial))
            for judgement in judgements:
                self.observers(VerdictReached(run=self.run, judgement=judgement))

    def _with_tree(self, trial: Trial) -> Trial:
        variant = self.variants[trial.hypothesis]
        return evolve(trial, tree=variant.tree) if trial.tree is None and not variant.edits else trial

    def _keep(self, trials: Sequence[Trial]) -> list[Trial]:
        if self.store is None:
            return list(trials)
        try:
            with self.store.batch():
                return [self._keep_one(self.store, trial) for trial in trials]
        except ArboretumError as error:  # a result that cannot be kept is still a result
            _log.warning("%s not kept: %s", ", ".join(trial.id for trial in trials), error)
            return list(trials)

    def _keep_one(self, store: TrialStore, trial: Trial) -> Trial:
        place = (trial.hypothesis, trial.attempt)
        key = self._keys.pop(place, None) or self._key(place)
        kept = store.record_trial(self.run, trial, key=key)
        if self.keep and not trial.cached:
            self._own.add(key.digest)
            store.put(key, kept, run=self.run)
        return kept

    def _known(self, keys: Sequence[TrialKey]) -> list[Trial]:
        """The results of those of `keys` that are known without running anything."""
        found = [
            self._trial(key, Outcome.PATCH_FAILED, self.variants[key[0]].problem)
            for key in keys
            if self.variants[key[0]].problem
        ]
        unknown = {
            key: self._key(key) for key in keys if not self.variants[key[0]].problem and key not in self._looked_up
        }
        self._looked_up.update(unknown)
        if self.store is None:
            return found
        self._keys.update(unknown)
        if not self.reuse or not unknown:
            return found
        try:
            stored = self.store.get_many(unknown.values())
        except ArboretumError as error:
            _log.warning("known results cannot be read: %s", error)
            return found
        for key, identity in unknown.items():
            if identity.digest in stored and identity.digest not in self._own:
                found.append(self._as_cached(key, stored[identity.digest]))
        return found

    def _as_cached(self, key: TrialKey, stored: Trial) -> Trial:
        commit = self.variants[key[0]].commit
        return evolve(stored, hypothesis=key[0], attempt=key[1], commit=commit, slot="", output_paths={}, cached=True)

    def _trial(self, key: TrialKey, outcome: Outcome, message: str) -> Trial:
        variant = self.variants[key[0]]
        return Trial(
            hypothesis=key[0],
            attempt=key[1],
            outcome=outcome,
            commit=variant.commit,
            started=time.time(),
            message=message,
        )

    def _key(self, key: TrialKey) -> CacheKey:
        return cache_key(self.key_fields, self.variants[key[0]], attempt=key[1])

    def _request(self, key: TrialKey) -> TrialRequest:
        timeout = self.plan.timeout
        if self.plan.auto_timeout:
            control = [t for t in self.trials if t.hypothesis == CONTROL]
            timeout = AUTO_TIMEOUT_CONTROL if key[0] == CONTROL else auto_timeout(control) or AUTO_TIMEOUT_FLOOR
        return trial_request(self.plan, self.variants[key[0]], run=self.run, attempt=key[1], timeout=timeout)

    async def _cancel(self, tasks: Mapping[TrialKey, asyncio.Task[Trial]]) -> None:
        for task in tasks.values():
            task.cancel()
        cancelled: asyncio.CancelledError | None = None
        while any(not task.done() for task in tasks.values()):
            try:
                await asyncio.wait(list(tasks.values()))
            except asyncio.CancelledError as error:  # our own task's: the trials are waited for first
                cancelled = error
        self._collect()
        if cancelled is not None:
            raise cancelled


def _duration(task: asyncio.Task[Trial]) -> float:
    return task.result().duration if not task.cancelled() and task.exception() is None else 0.0
