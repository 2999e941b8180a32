"""A rule-based state machine that holds a backend against the in-memory one.

The same random program runs on both; after every step the two must agree on what the step gave (or
on the class of its error) and on everything that can be seen: worktrees with their locks and prunable ones,
refs, HEADs, status with ignored files, the files themselves with modes and links, and the stashes.

Ids of commits made by the clock (cherry-picks, stashes) differ; they are paired as they come up and
compared by what they hold.
"""

from __future__ import annotations

import inspect
import re
import shutil
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
from attrs import define, field, frozen
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from arboretum.backends.memory import MemoryDisk, RealDisk
from arboretum.backends.trees.snapshot import File
from arboretum.errors import ArboretumError, RepositoryNotFoundError
from arboretum.testing.builders import CommitSpec
from arboretum.testing.maker import BackendMaker, Bench, MemoryFactory
from arboretum.testing.observation import observe
from arboretum.testing.operations import OPERATIONS, Operation, World
from arboretum.values import Commit, Oid, WorktreeInfo

#: What every example starts from: two branches, a tag, an ignore file.
START = (
    CommitSpec({"a": b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", "lib/c": "c\n", ".gitignore": "*.o\n"}, "first\n"),
    CommitSpec({"b": "b\n"}, "second\n"),
    CommitSpec({"a": b"1\n2\n3\n4\n5\n6\n7\n8\nnine\n", "lib/c": None}, "aside\n", branch="topic", parents=[":1"]),
)
_HEX = re.compile(r"\b[0-9a-f]{7,64}\b")


@frozen
class Failure:
    """An operation raised: the class of the error is all that backends have to agree on."""

    error: str


def attempt(operation: Operation, world: World) -> Any:
    """What an operation gave, or the `Failure`; errors that are not arboretum's own go through."""
    try:
        return operation.run(world)
    except ArboretumError as error:
        return Failure(type(error).__name__)


@define(eq=False)
class Pairs:
    """Which commit of one world is which of the other.

    Args:
        ours: The backend under test.
        model: The in-memory one.
    """

    ours: World
    model: World
    _pairs: dict[Oid, Oid] = field(factory=dict, init=False)

    def translate(self, value: Any) -> Any:
        """The value with our ids replaced by the model's."""
        if isinstance(value, Oid):
            return self._pairs.get(value, value)
        if isinstance(value, (str, bytes, int, File)) or value is None:
            return value
        if isinstance(value, dict):
            return {key: self.translate(inner) for key, inner in value.items()}
        if isinstance(value, (tuple, list)):
            return tuple(self.translate(inner) for inner in value)
        if attrs.has(type(value)):
            changed = {f.name: self.translate(getattr(value, f.name)) for f in attrs.fields(type(value))}
            return attrs.evolve(value, **changed)
        return value

    def pair(self, ours: Oid, model: Oid) -> None:
        """Take two commits for the same, having compared what they hold."""
        if ours == model or self._pairs.get(ours) == model:
            return
        one, two = self.ours.backend.read_commit(ours), self.model.backend.read_commit(model)
        assert len(one.parents) == len(two.parents), f"parents differ: {one} and in the model {two}"
        for mine, yours in zip(one.parents, two.parents, strict=True):
            self.pair(mine, yours)
        assert one.tree == two.tree, f"trees differ: {self._trees(one.tree, two.tree)}"
        assert _say(one) == _say(two), f"commits differ: {one} and in the model {two}"
        self._pairs[ours] = model

    def _trees(self, ours: Oid, model: Oid) -> str:
        return f"{self.ours.backend.read_tree(ours)} and in the model {self.model.backend.read_tree(model)}"

    def compare_results(self, operation: Operation, ours: Any, model: Any) -> None:
        """Both gave the same, or failed in the same way."""
        if isinstance(ours, Oid) and isinstance(model, Oid):
            self.pair(ours, model)
        mine, yours = self.translate(ours), _plain(model)
        assert _plain(mine) == yours, f"{operation} gave {mine!r}; the model {yours!r}"

    def compare_states(self) -> None:
        """Everything that can be seen is the same."""
        ours, model = self.translate(_seen(self.ours)), _seen(self.model)
        for key in sorted(ours.keys() | model.keys()):
            assert _plain(ours.get(key)) == _plain(model.get(key)), (
                f"{key}:\n  {self.ours.backend.name}: {ours.get(key)!r}\n  model: {model.get(key)!r}"
            )


def _say(commit: Commit) -> tuple[str, str, str]:
    """What a commit says that does not depend on the clock; ids in messages do."""
    return _HEX.sub("#", commit.message), commit.author.name, commit.author.email


def _seen(world: World) -> dict[str, Any]:
    return observe(world.backend, world.disk)


def _plain(value: Any) -> Any:
    """Lists as tuples; a record's folder name and the exact words of a reason are not compared."""
    if isinstance(value, WorktreeInfo):
        return attrs.evolve(value, name="", prunable=None if value.prunable is None else "prunable")
    if isinstance(value, (list, tuple)):
        return tuple(_plain(inner) for inner in value)
    return value


@define(eq=False)
class Template:
    """The repository that examples start from, made once and copied."""

    maker: BackendMaker
    _bench: Bench | None = field(default=None, init=False)
    _copies: bool = field(default=True, init=False)

    def world(self) -> World:
        """A fresh copy; made anew where a repository is more than its folder."""
        bench = self._copy() if self._copies and isinstance(self.maker.disk, RealDisk) else self._made()
        log = [ref.oid for ref in bench.backend.list_refs("refs/heads/")]
        first = bench.backend.merge_base(*log)
        assert first is not None
        return World(bench.backend, bench.path, bench.disk, [first, *log])

    def _made(self) -> Bench:
        bench = self.maker.empty()
        bench.replay(START)
        return bench

    def _copy(self) -> Bench:
        if self._bench is None:
            self._bench = self._made()
        try:
            return self.maker.copy(self._bench)
        except RepositoryNotFoundError:
            self._copies = False
            return self._made()


def model_of(world: World) -> World:
    """An in-memory world with the same start at the same paths."""
    factory = MemoryFactory(MemoryDisk())
    maker = BackendMaker(factory, world.root.rpartition("/")[0], factory.disk)
    backend = factory.init(world.root)
    bench = Bench(maker, backend, world.root)
    for key in ("user.name", "user.email"):
        for value in world.backend.get_config(key):
            backend.set_config(key, value)
    bench.replay(START)
    return World(backend, world.root, factory.disk, list(world.commits))


class BackendMachine(RuleBasedStateMachine):
    """The state machine; `state_machine` makes a class of it for one maker."""

    template: ClassVar[Template]

    @initialize()
    def start(self) -> None:
        """Make both worlds."""
        self.ours = self.template.world()
        self.model = model_of(self.ours)
        self.pairs = Pairs(self.ours, self.model)

    def step(self, operation: Operation) -> None:
        """One operation on both."""
        ours, model = attempt(operation, self.ours), attempt(operation, self.model)
        self.pairs.compare_results(operation, ours, model)

    @invariant()
    def agree(self) -> None:
        """Nothing that can be seen differs."""
        if hasattr(self, "pairs"):
            self.pairs.compare_states()

    def teardown(self) -> None:
        """Give the backend's handles and folder back."""
        if hasattr(self, "ours"):
            self.finish()
            self.ours.backend.close()
            if isinstance(self.ours.disk, RealDisk):
                shutil.rmtree(self.ours.root.rpartition("/")[0], ignore_errors=True)

    def finish(self) -> None:
        """What a subclass wants to look at when a program has ended."""


def _rule(name: str) -> Callable[..., None]:
    """The rule that takes one operation as a step."""

    def take(self: BackendMachine, **arguments: Any) -> None:
        self.step(Operation(name, tuple(arguments[n] for n in names)))

    function, strategies = OPERATIONS[name]
    take.__name__, take.__doc__ = name, function.__doc__
    names = list(inspect.signature(function).parameters)[1:]
    given: dict[str, Any] = dict(zip(names, strategies, strict=True))
    make: Callable[[Callable[..., None]], Callable[..., None]] = rule(**given)
    return make(take)


def state_machine(maker: BackendMaker) -> type[BackendMachine]:
    """A state machine class for one backend, with a rule for each operation."""
    rules = {name: _rule(name) for name in OPERATIONS}
    return type(f"{maker.name.title()}Machine", (BackendMachine,), {"template": Template(maker), **rules})


def check_against_model(
    maker: BackendMaker,
    *,
    examples: int = 200,
    steps: int = 30,
    number: int | None = 0,
    shrink: bool = True,
    machine: Callable[[BackendMaker], type[BackendMachine]] = state_machine,
) -> None:
    """Run random programs on a backend and on the in-memory one.

    Args:
        maker: Makes the repositories.
        examples: How many programs.
        steps: How many operations each has at most.
        number: The programs are the same each time for the same number; None for new ones each time.
        shrink: Whether to look for the shortest program that fails.
        machine: Makes the state machine class.

    Raises:
        AssertionError: They disagree; the message has the program and both views.
    """
    phases = [Phase.generate, *([Phase.shrink] if shrink else [])]
    made = machine(maker)
    if number is not None:
        made = seed(number)(made)
    run_state_machine_as_test(
        made,
        settings=settings(
            max_examples=examples, stateful_step_count=steps, deadline=None, database=None, phases=phases,
            suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
        ),
    )  # fmt: skip


__all__ = ["BackendMachine", "Pairs", "check_against_model", "state_machine"]
