"""The nouns of the engine: what is asked (plan, hypothesis), what is run (trial), what is concluded (verdict)."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence

from attrs import field, frozen
from attrs.converters import optional

from arboretum.errors import InvalidValueError
from arboretum.process.model import CommandRequest, CommandResult
from arboretum.values import Oid

#: The id that stands for the base itself under the same command.
CONTROL = "control"
#: What can make a hypothesis different from the base; one has at most one of these.
SOURCES = ("ref", "patch", "edit", "env", "command", "combine")


@frozen
class CommandSpec:
    """A command as a plan states it: an argument list, or one text for a shell."""

    argv: tuple[str, ...]
    shell: bool = False


def command_spec(value: CommandSpec | str | Sequence[str]) -> CommandSpec:
    """The command that a text (split as a shell would split it) or a list of arguments stands for.

    Raises:
        InvalidValueError: It is empty, or has unbalanced quotes.
    """
    return value if isinstance(value, CommandSpec) else CommandSpec(CommandRequest(argv=value).argv)


class Expectation(enum.StrEnum):
    """What a hypothesis predicts of its trials."""

    PASS = "pass"  # noqa: S105  (not a password: the prediction)
    FAIL = "fail"


def expectation(value: Expectation | str) -> Expectation:
    """The prediction that a word stands for. Raises InvalidValueError when it is neither pass nor fail."""
    try:
        return Expectation(value)
    except ValueError as error:
        raise InvalidValueError(f'"pass" or "fail" is wanted, not {value!r}') from error


def hypothesis_id(text: str) -> str:
    """Check that `text` can name a hypothesis. Raises InvalidValueError when it cannot."""
    if check_identifier(text) == CONTROL:
        raise InvalidValueError(f"{CONTROL!r} is the name of the base itself under the same command")
    return text


def _patch(value: bytes | str) -> bytes:
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


def _hypotheses(values: Iterable[Hypothesis]) -> tuple[Hypothesis, ...]:
    return tuple(values)


def _strings(values: Sequence[str]) -> tuple[str, ...]:
    return (values,) if isinstance(values, str) else tuple(values)


@frozen(kw_only=True)
class Hypothesis:
    """A change and a prediction.

    Args:
        id: Its name within the plan: letters, digits, ``.``, ``_`` and ``-``, not starting with ``.`` or ``-``.
        description: One sentence for people.
        ref: The commit to run on instead of the base.
        patch: A unified patch to apply first.
        edit: A command that changes the files first; a text or a list will do, as for `command`.
        env: Variables to set for the command.
        command: The command instead of the plan's.
        combine: Ids of two or more hypotheses whose changes are made together.
        expect: What it predicts.
        probability: How likely one thinks it is, 0 to 1.
        impact: How much it would explain or mend, 0 to 1.
        complexity: How much work it would be, 0 to 1.
        timeout: Seconds for a trial; None for the plan's.
        fresh: Whether its trials get a slot without ignored files.
        memory: Bytes that a worker must have for a trial; 0 for the plan's.
        labels: What else a worker must have (``gpu``), besides the plan's.
        tags: Words to group by.

    Raises:
        InvalidValueError: The id cannot be one, it has several of `SOURCES`, or predicts neither pass nor fail.
    """

    id: str = field(converter=hypothesis_id)
    description: str = ""
    ref: str | None = None
    patch: bytes | None = field(default=None, converter=optional(_patch))
    edit: CommandSpec | None = field(default=None, converter=optional(command_spec))
    env: Mapping[str, str] = field(factory=dict)
    command: CommandSpec | None = field(default=None, converter=optional(command_spec))
    combine: tuple[str, ...] = field(default=(), converter=_strings)
    expect: Expectation = field(default=Expectation.PASS, converter=expectation)
    probability: float = 0.5
    impact: float = 0.5
    complexity: float = 0.5
    timeout: float | None = None
    fresh: bool = False
    memory: int = 0
    labels: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def __attrs_post_init__(self) -> None:
        sources = [name for name in SOURCES if getattr(self, name)]
        if len(sources) > 1:
            raise InvalidValueError(
                f"a hypothesis has one source of change, and this one has {' and '.join(sources)}",
                hint='make a hypothesis of each, and a third with combine = ["one", "other"]',
            )

    @property
    def priority(self) -> float:
        """The order of trying: ``0.5 probability + 0.3 impact - 0.2 complexity``, higher first."""
        return 0.5 * self.probability + 0.3 * self.impact - 0.2 * self.complexity


@frozen(kw_only=True)
class Plan:
    """What a run is to find out.

    Args:
        title: The question.
        base: The revision that the control runs on.
        command: What every trial runs: a `CommandSpec`, a text (split as a shell would split it) or a list.
        timeout: Seconds for a trial; None for never.
        auto_timeout: Derive the timeout from the control's time instead.
        grace: Seconds between SIGTERM and SIGKILL.
        repeats: How many trials each hypothesis (and the control) gets.
        setup: Run once per slot and content of `setup_inputs`, before the first trial there.
        setup_inputs: Tracked paths whose content decides whether the setup has to be run again.
        include: Files that git does not track and every slot gets a copy of (paths in the user's worktree).
        env: Variables to set for every command.
        cache_env: Names of inherited variables that are part of a result's identity.
        cache_versions: Commands whose output is part of a result's identity (``python --version``).
        nothing_ran: A pattern; output that matches it means that the command tested nothing.
        junit: Path (in the slot) of a JUnit XML file that the command writes.
        metrics: A pattern with the groups ``name`` and ``value`` that finds numbers in the output.
        metrics_file: Path (in the slot) of a JSON object of numbers that the command writes.
        confidence: Stop repeating a hypothesis once its trials alone decide it with this probability.
        stop_on_supported: End the run at the first hypothesis that is supported.
        memory: Bytes that a worker must have for a trial; it says something only past one machine, as `labels` does.
        labels: What else a worker must have (``gpu``).
        hypotheses: What is to be tested, in the order of the file.
        path: The plan file, for messages.
        lines: The line of each key of the plan file (``hypothesis[2].ref``), for messages.

    Raises:
        InvalidValueError: Two hypotheses have one id, a combination cannot be made, or there is nothing to repeat.
    """

    title: str = ""
    base: str = "HEAD"
    command: CommandSpec = field(converter=command_spec)
    timeout: float | None = None
    auto_timeout: bool = False
    grace: float = 5.0
    repeats: int = 1
    setup: CommandSpec | None = field(default=None, converter=optional(command_spec))
    setup_inputs: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    env: Mapping[str, str] = field(factory=dict)
    cache_env: tuple[str, ...] = ()
    cache_versions: tuple[CommandSpec, ...] = ()
    nothing_ran: str | None = None
    junit: str | None = None
    metrics: str | None = None
    metrics_file: str | None = None
    confidence: float = 0.99
    stop_on_supported: bool = False
    memory: int = 0
    labels: tuple[str, ...] = ()
    hypotheses: tuple[Hypothesis, ...] = field(default=(), converter=_hypotheses)
    path: str | None = None
    lines: Mapping[str, int] = field(factory=dict, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        if self.repeats < 1:
            raise InvalidValueError(f"a plan has 1 repeat or more, not {self.repeats}")
        names = [hypothesis.id for hypothesis in self.hypotheses]
        if twice := sorted({name for name in names if names.count(name) > 1} if len(names) > len(set(names)) else ()):
            raise InvalidValueError(f"two hypotheses have the id {twice[0]!r}", hint="ids are unique within a plan")
        for hypothesis, error in wrong_combinations(self.hypotheses):
            raise InvalidValueError(f"hypothesis {hypothesis.id!r}: {error.message}", hint=error.hint) from error


def wrong_combinations(hypotheses: Sequence[Hypothesis]) -> Iterator[tuple[Hypothesis, InvalidValueError]]:
    """The combinations among `hypotheses` that cannot be made, each with why."""
    by_id = {hypothesis.id: hypothesis for hypothesis in hypotheses}
    for hypothesis in hypotheses:
        try:
            _check_combination(hypothesis.combine, by_id)
        except InvalidValueError as error:
            yield hypothesis, error


def _check_combination(combine: tuple[str, ...], by_id: Mapping[str, Hypothesis]) -> None:
    if combine and len(set(combine)) < max(2, len(combine)):
        raise InvalidValueError("a combination names two or more different hypotheses")
    for name in combine:
        if name not in by_id:
            raise InvalidValueError(f"there is no hypothesis {name!r} to combine")
        if by_id[name].combine:
            raise InvalidValueError(f"{name!r} is a combination itself", hint="name its parts instead")
    parts = [by_id[name] for name in combine]
    with_command = [part.id for part in parts if part.command is not None]
    if len(with_command) > 1:
        raise InvalidValueError(f"{' and '.join(with_command)} have a command each, and only one can be run")
    env: dict[str, str] = {}
    for part in parts:
        for name, value in part.env.items():
            if env.setdefault(name, value) != value:
                raise InvalidValueError(f"the variable {name} would have to be both {env[name]!r} and {value!r}")


class Outcome(enum.StrEnum):
    """How one trial ended."""

    PASSED = "passed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    KILLED = "killed"  # by a signal that arboretum did not send
    COMMAND_NOT_FOUND = "command-not-found"  # also: found and not executable
    NOTHING_RAN = "nothing-ran"  # the command succeeded or failed without testing anything
    SKIPPED = "skipped"  # exit code 125
    SETUP_FAILED = "setup-failed"
    PATCH_FAILED = "patch-failed"  # patch or edit command
    CANCELLED = "cancelled"  # no longer needed, or the run was stopped
    ERROR = "error"  # the slot, the disk or the executor failed

    @property
    def is_evidence(self) -> bool:
        """Whether it says anything about the hypothesis."""
        return self in {Outcome.PASSED, Outcome.FAILED}


@frozen(kw_only=True)
class TrialRequest:
    """One trial, with all that an executor on any machine needs to carry it out.

    It is picklable and holds no handle. The executor gets a slot, resets it to `commit`, copies `include`,
    runs the setup if it is due, applies `patch`, runs `edit`, then `command`.

    Args:
        run: The id of the run.
        hypothesis: The id of the hypothesis, or `CONTROL`.
        attempt: 1 for the first repeat.
        commit: The commit to stand at.
        setup_env: Variables to set for the setup: the plan's alone, so that one setup serves all hypotheses.
        other: see `Hypothesis` and `Plan` for the rest.
    """

    run: str
    hypothesis: str
    attempt: int
    commit: Oid
    command: CommandSpec
    patches: tuple[bytes, ...] = ()
    edits: tuple[CommandSpec, ...] = ()
    env: Mapping[str, str] = field(factory=dict)
    timeout: float | None = None
    grace: float = 5.0
    setup: CommandSpec | None = None
    setup_inputs: tuple[str, ...] = ()
    setup_env: Mapping[str, str] = field(factory=dict)
    include: tuple[str, ...] = ()
    fresh: bool = False
    nothing_ran: str | None = None
    junit: str | None = None
    metrics: str | None = None
    metrics_file: str | None = None
    memory: int = 0
    labels: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """The name of the trial within its run."""
        return f"{self.hypothesis}#{self.attempt}"


@frozen(kw_only=True)
class Trial:
    """One trial that is over.

    Args:
        hypothesis: The id of the hypothesis, or `CONTROL`.
        attempt: 1 for the first repeat.
        outcome: How it ended.
        exit_code: The command's; None when it was not run.
        duration: Seconds the command took.
        slot: The name of the slot (and worker) it ran in; empty for a cached one.
        commit: What it stood at.
        tree: The tree it ran on, with patch and edit applied when they are known.
        started: Seconds since the epoch.
        message: Why, in one line, when the outcome needs a reason.
        output_tail: The last lines of the output, for people.
        output_paths: Where the whole output is kept, by stream.
        metrics: Numbers the trial reported.
        cached: Whether the result was taken from the cache.
        leaked: Whether a process was still running when the command had ended.
    """

    hypothesis: str
    attempt: int
    outcome: Outcome
    exit_code: int | None = None
    duration: float = 0.0
    slot: str = ""
    commit: Oid | None = None
    tree: Oid | None = None
    started: float = 0.0
    message: str = ""
    output_tail: str = ""
    output_paths: Mapping[str, str] = field(factory=dict)
    metrics: Mapping[str, float] = field(factory=dict)
    cached: bool = False
    leaked: bool = False

    @property
    def id(self) -> str:
        """The name of the trial within its run."""
        return f"{self.hypothesis}#{self.attempt}"


class Verdict(enum.StrEnum):
    """What the trials say of a hypothesis."""

    SUPPORTED = "supported"
    FALSIFIED = "falsified"
    INCONCLUSIVE = "inconclusive"


class Reason(enum.StrEnum):
    """Why the verdict is what it is."""

    AS_PREDICTED = "as-predicted"
    CONTRADICTED = "contradicted"
    CONTROL_AGREES = "control-agrees"
    CONTROL_UNSTABLE = "control-unstable"
    FLAKY = "flaky"
    TIMEOUT = "timeout"
    SETUP_FAILED = "setup-failed"
    PATCH_FAILED = "patch-failed"
    COMMAND_NOT_FOUND = "command-not-found"
    KILLED = "killed"
    NOTHING_RAN = "nothing-ran"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    ERROR = "error"


@frozen(kw_only=True)
class Judgement:
    """A verdict with its evidence.

    Args:
        hypothesis: The id of the hypothesis.
        verdict: What the trials say.
        reason: Why.
        confidence: Posterior probability that the stated verdict would hold up, 0 to 1; see the docs.
        trials: The hypothesis' trials.
        notes: What else a reader should know (``passes, but 3.1 times slower than the control``).
    """

    hypothesis: str
    verdict: Verdict
    reason: Reason
    confidence: float
    trials: tuple[Trial, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def flags(self) -> frozenset[str]:
        """Words for machines drawn from the notes: the part before the first colon (``slower``)."""
        return frozenset(note.split(":", 1)[0] for note in self.notes if ":" in note)


def outcome_of(result: CommandResult) -> Outcome:
    """How a trial ended, judged by its command's result alone (exit codes as the design states them)."""
    if result.timed_out:
        return Outcome.TIMEOUT
    if result.exit_code in {126, 127}:
        return Outcome.COMMAND_NOT_FOUND
    if result.signal is not None:
        return Outcome.KILLED
    if result.error_message is not None:
        return Outcome.ERROR
    if result.exit_code == 125:
        return Outcome.SKIPPED
    return Outcome.PASSED if result.exit_code == 0 else Outcome.FAILED


def check_identifier(text: str, *, what: str = "id") -> str:
    """Check that `text` can name a hypothesis, task or slot: it becomes part of file and branch names.

    Raises:
        InvalidValueError: It is empty, longer than 100 characters or has anything but letters, digits, ``.``,
            ``_`` and ``-``; or starts with ``.`` or ``-``; or ends with ``.`` or ``.lock``; or has ``..``.
    """
    body = text.replace("_", "").replace("-", "").replace(".", "")
    if (
        not 0 < len(text) <= 100
        or (body and not (body.isascii() and body.isalnum()))
        or not body
        or text[0] in ".-"
        or text.endswith((".", ".lock"))
        or ".." in text
    ):
        raise InvalidValueError(
            f"{text!r} cannot be {'an' if what[0] in 'aeiou' else 'a'} {what}",
            hint="use letters, digits, '.', '_' and '-', not starting with '.' or '-'",
        )
    return text
