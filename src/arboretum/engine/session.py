"""What run, each and bisect share: an id, a store, a journal, an executor, and an orderly end whatever happens."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypedDict, TypeVar

from attrs import define, field

from arboretum.engine.cache_key import shared_fields
from arboretum.engine.dispatcher import Dispatcher
from arboretum.engine.events import RunFinished, RunStarted, RunStopping
from arboretum.engine.executor import Executor
from arboretum.engine.housekeeping import keep_house
from arboretum.engine.journal import Journal, JournalContents, new_run_id, read_journal, runs_folder
from arboretum.engine.model import CommandSpec, Plan, Trial
from arboretum.engine.result import NOT_KEPT, RunStatus
from arboretum.engine.search import Strategy
from arboretum.engine.signals import on_signals
from arboretum.engine.store import ResultStore, store_path
from arboretum.engine.store_records import RunRecord
from arboretum.engine.variants import Variant
from arboretum.errors import StoreError
from arboretum.events import Observer, Observers
from arboretum.process.model import CommandRequest
from arboretum.values import Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class RunOptions(TypedDict, total=False):
    """How a run is carried out; all of these may be left out.

    - executor: Who runs the trials; None for this machine, with a pool of worktrees. It is closed only if made here.
    - jobs: How many trials at once at most; None for the executor's own number.
    - observers: Told of every event of the run.
    - cache: Take known results from the store and let later runs take this one's (the default).
    - refresh: Run everything, and let the new results replace the stored ones.
    - resume: The id of an interrupted run to go on with; its finished trials are not repeated.
    """

    executor: Executor | None
    jobs: int | None
    observers: Iterable[Observer]
    cache: bool
    refresh: bool
    resume: str | None


@define(eq=False)
class Session:
    """One run of the engine against one repository; an async context manager.

    Args:
        run: The id of the run.
        repository: Where it takes place.
        options: How it is carried out.
        executor: Who runs the trials.
        observers: The caller's observers, and the journal.
        store: Where trials are kept; None when it cannot be used (then `notes` says why).
        restored: The finished trials of the run that is gone on with.
        notes: What a reader of the result should know of the run as a whole.
    """

    run: str
    repository: Repository
    options: RunOptions
    executor: Executor
    observers: Observers
    store: ResultStore | None
    restored: tuple[Trial, ...] = ()
    notes: list[str] = field(factory=list)
    _journal: Journal | None = field(default=None, alias="journal")
    _signals: contextlib.ExitStack = field(factory=contextlib.ExitStack, init=False, repr=False)
    _dispatcher: Dispatcher | None = field(default=None, init=False, repr=False)
    _stopped: bool = field(default=False, init=False)
    _owns_executor: bool = field(default=False, alias="owns_executor")

    @classmethod
    def open(cls, repository: Repository, options: RunOptions) -> Self:
        """Start a session, or go on with the interrupted one that `options` names.

        A store or journal that cannot be written does not keep the run from being made; `notes` tells of it.

        Raises:
            StoreError: There is no such run to go on with, or it is going on in another process.
            EngineError: The executor for this machine cannot be made.
        """
        resume, executor, jobs = options.get("resume"), options.get("executor"), options.get("jobs")
        run = resume or new_run_id()
        runs_dir = runs_folder(repository.state_dir)
        notes: list[str] = []
        restored: tuple[Trial, ...] = ()
        if resume:
            known = read_journal(runs_dir, run)
            restored, options = tuple(known.trials.values()), _as_before(options, known)
        journal = Journal.open(runs_dir, run) if resume else _optional(lambda: Journal.open(runs_dir, run), notes)
        told = Observers.of(options.get("observers", ()))
        if journal is not None:
            told.add(journal)
        store = _optional(lambda: ResultStore.open(store_path(repository.state_dir)), notes)
        try:
            chosen = executor or make_executor(repository, jobs=jobs, observers=told)
        except BaseException:
            if store is not None:
                store.close()
            if journal is not None:
                journal.close()
            raise
        return cls(
            run=run,
            repository=repository,
            options=options,
            executor=chosen,
            observers=told,
            store=store,
            restored=restored,
            notes=notes,
            journal=journal,
            owns_executor=executor is None,
        )

    def dispatcher(self, plan: Plan, strategy: Strategy, variants: Mapping[str, Variant]) -> Dispatcher:
        """The dispatcher that carries out `strategy` over `variants` as the options say."""
        cache, refresh = self.options.get("cache", True), self.options.get("refresh", False)
        return Dispatcher(
            run=self.run,
            plan=plan,
            strategy=strategy,
            variants=variants,
            executor=self.executor,
            observers=self.observers,
            capacity=self.options.get("jobs"),
            store=self.store,
            key_fields=shared_fields(plan, self.repository.runner, folder=self.repository.path),
            reuse=cache and not refresh,
            keep=cache,
        )

    async def carry_out(
        self,
        dispatcher: Dispatcher,
        *,
        title: str,
        base: Oid,
        command: CommandSpec,
        subjects: Sequence[str],
        trials: int,
    ) -> RunStatus:
        """Run `dispatcher` to its end, by itself or by a signal, and keep and tell how it began and ended.

        Args:
            dispatcher: What is to be run; the trials of an interrupted run are restored into it.
            title: The question.
            base: The commit of the control.
            command: What the trials run.
            subjects: The ids of what is tried, in the order of trying.
            trials: How many trials there will be at most.

        Raises:
            EngineError: The run could not be carried out.
        """
        text = CommandRequest(argv=command.argv, shell=command.shell).display()
        capacity = self.executor.capacity if dispatcher.capacity is None else dispatcher.capacity
        self._keep(lambda store: store.begin_run(RunRecord(id=self.run, title=title, base=base, command=text)))
        self.observers(
            RunStarted(
                run=self.run,
                title=title,
                base=base,
                command=text,
                hypotheses=tuple(subjects),
                trials=trials,
                jobs=capacity,
                cache=self.options.get("cache", True),
                refresh=self.options.get("refresh", False),
            )
        )
        status, clock = RunStatus.FAILED, time.monotonic()
        try:
            self._dispatcher = dispatcher
            if self._stopped:
                dispatcher.stop()
            dispatcher.restore(self.restored)
            status = await dispatcher.dispatch()
        except asyncio.CancelledError:
            status = RunStatus.INTERRUPTED
            raise
        finally:
            self.observers(RunFinished(run=self.run, status=status.value, duration=time.monotonic() - clock))
            self._keep(lambda store: store.end_run(self.run, status.value))
        return status

    def stop(self) -> None:
        """End the run in order; a second call does not wait for anything. Signals come here."""
        first, self._stopped = not self._stopped, True
        if self._dispatcher is not None:
            self._dispatcher.stop()
        if first:
            self.observers(RunStopping(run=self.run))

    async def __aenter__(self) -> Self:
        self._signals.enter_context(on_signals(self.stop))
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        with self._signals:  # until all is given back a signal must not end the process
            try:
                if self._owns_executor:
                    await self.executor.close()
            finally:
                if self.store is not None:
                    keep_house(self.store, runs_folder(self.repository.state_dir))
                    self.store.close()
                if self._journal is not None:
                    self._journal.close()

    def _keep(self, action: Callable[[ResultStore], None]) -> None:
        if self.store is not None:
            try:
                action(self.store)
            except StoreError as error:
                _log.warning("the run %s is not kept: %s", self.run, error)


def _as_before(options: RunOptions, known: JournalContents) -> RunOptions:
    """The options of a resumed run: what it was told of the cache when it began still holds."""
    begun = next((event for event in known.events if isinstance(event, RunStarted)), None)
    if begun is None:
        return options
    return {
        **options,
        "cache": options.get("cache", True) and begun.cache,
        "refresh": options.get("refresh", False) or begun.refresh,
    }


def _optional(make: Callable[[], _T], notes: list[str]) -> _T | None:
    try:
        return make()
    except StoreError as error:
        _log.warning("%s", error)
        notes.append(f"{NOT_KEPT}: {error.message}")
        return None


def make_executor(repository: Repository, *, jobs: int | None, observers: Observers) -> Executor:
    """The executor for this machine: real processes in a pool of worktrees."""
    from arboretum.engine.local_executor import LocalExecutor

    return LocalExecutor.open(repository, jobs=jobs, observers=observers)
