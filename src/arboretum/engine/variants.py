"""What a hypothesis comes to on a repository: the commit to stand at, the tree to expect, what to apply and to run.

Patches and combinations are tried in memory first. One that does not apply is known before a slot is taken,
with the hunk or the paths named, and the tree of one that does apply is part of a result's identity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, evolve, field, frozen

from arboretum.engine.model import CONTROL, CommandSpec, Hypothesis, Plan, TrialRequest
from arboretum.errors import PatchFailedError
from arboretum.values import Commit, Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository


_HUNK: Final = re.compile(r"@@ -(?P<start>\d+)(?:,\d+)? \+\d+(?:,\d+)? @@")
_FAILED_AT: Final = re.compile(r"patch failed: (?P<path>.+?):(?P<line>\d+)")


@frozen(kw_only=True)
class Variant:
    """One side of a comparison, ready to be tried any number of times.

    Args:
        id: The id of the hypothesis, or `CONTROL`.
        commit: The commit to stand at.
        tree: The tree that is tested: the commit's, with the patches applied; edits come on top of it.
        command: What to run.
        patches: To be applied on top of the commit, in this order.
        edits: Commands that change the files after that.
        env: Variables to set for the command, the plan's included.
        timeout: Seconds; None for the plan's.
        fresh: Whether its slot must have no ignored files.
        memory: Bytes that a worker must have.
        labels: What else a worker must have.
        problem: Why it cannot be made, when a patch or a combination does not apply; else empty.
    """

    id: str
    commit: Oid
    tree: Oid
    command: CommandSpec
    patches: tuple[bytes, ...] = ()
    edits: tuple[CommandSpec, ...] = ()
    env: Mapping[str, str] = field(factory=dict)
    timeout: float | None = None
    fresh: bool = False
    memory: int = 0
    labels: tuple[str, ...] = ()
    problem: str = ""


def make_variants(plan: Plan, repository: Repository) -> tuple[Variant, ...]:
    """The control's variant, then one for each hypothesis in the order of the plan. Reads the repository only.

    Objects may be written to the object store (the trees of patched variants); no ref and no file changes.

    Raises:
        GitOperationError: The base or a `ref` names no commit (see `plan_file.validate`).
    """
    base = repository.commit(plan.base)
    control = _plain(plan, CONTROL, base)
    by_id = {h.id: h for h in plan.hypotheses}
    found = [control]
    for hypothesis in plan.hypotheses:
        parts = [by_id[name] for name in hypothesis.combine] or [hypothesis]
        start = evolve(control, id=hypothesis.id, timeout=hypothesis.timeout, fresh=hypothesis.fresh)
        try:
            found.append(_apply(parts, start, repository))
        except PatchFailedError as error:
            patches = [part.patch for part in parts if part.patch is not None]
            found.append(evolve(start, problem=_name_hunk(error.message, patches)))
    return tuple(found)


def _name_hunk(message: str, patches: Sequence[bytes]) -> str:
    """Put the hunk that failed first before `message`, when it names file and line: ``hunk 2 of a.py (@@ ... @@)``."""
    place = _FAILED_AT.search(message)
    if place is None:
        return message
    path, line = place["path"], int(place["line"])
    for patch in patches:
        hunks = _hunks_of(patch.decode("utf-8", "surrogateescape"), path)
        for number, (start, header) in enumerate(hunks, 1):
            if start == line:
                return f"hunk {number} of {path} ({header}) does not apply: {message}"
    return message


def _hunks_of(patch: str, path: str) -> list[tuple[int, str]]:
    """The first old line and the header of each hunk for the file `path`."""
    found: list[tuple[int, str]] = []
    current = ""
    for line in patch.splitlines():
        if line.startswith(("--- ", "+++ ")):
            current = line[4:].split("\t")[0].split("/", 1)[-1]
        elif (header := _HUNK.match(line)) and current == path:
            found.append((int(header["start"]), header[0]))
    return found


@define(eq=False)
class CommitVariants(Mapping[str, Variant]):
    """A variant for each commit, with the commit's id as its own: the plan's command as it is.

    Args:
        plan: What they share.
        oids: The commits.
        read: Reads one, when it is asked for first: of a long history only few are tried.
    """

    plan: Plan
    oids: Collection[Oid]
    read: Callable[[Oid], Commit]
    _made: dict[str, Variant] = field(factory=dict, init=False)

    def __getitem__(self, name: str) -> Variant:
        if name not in self._made:
            if name not in self.oids:
                raise KeyError(name)
            self._made[name] = _plain(self.plan, name, self.read(Oid(name)))
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return name in self.oids

    def __iter__(self) -> Iterator[str]:
        return iter(self.oids)

    def __len__(self) -> int:
        return len(self.oids)


def _plain(plan: Plan, name: str, commit: Commit) -> Variant:
    return Variant(
        id=name,
        commit=commit.oid,
        tree=commit.tree,
        command=plan.command,
        env=dict(plan.env),
        memory=plan.memory,
        labels=plan.labels,
    )


def _apply(parts: Sequence[Hypothesis], variant: Variant, repository: Repository) -> Variant:
    refs = [part.ref for part in parts if part.ref is not None]
    if refs:
        commit = repository.commit(refs[0])
        variant = evolve(variant, commit=commit.oid, tree=commit.tree)
    for ref in refs[1:]:
        variant = _merge(ref, variant, repository)
    for part in parts:
        if part.patch is not None:
            tree = repository.backend.apply_to_tree(variant.tree, part.patch)
            variant = evolve(variant, tree=tree, patches=(*variant.patches, part.patch))
        variant = evolve(
            variant,
            edits=variant.edits if part.edit is None else (*variant.edits, part.edit),
            env={**variant.env, **part.env},
            command=part.command or variant.command,
            fresh=variant.fresh or part.fresh,
            memory=max(variant.memory, part.memory) if len(parts) > 1 else part.memory or variant.memory,
            labels=tuple(dict.fromkeys((*variant.labels, *part.labels))),
        )
    return variant


def _merge(ref: str, variant: Variant, repository: Repository) -> Variant:
    # The merge is carried out in memory and handed on as a patch, so no commit has to be made for it.
    merged = repository.backend.merge_trees(variant.commit, repository.commit(ref).oid)
    if merged.tree is None:
        raise PatchFailedError(
            f"the two revisions cannot be combined: conflicts in {', '.join(merged.conflicts[:5])}",
            paths=merged.conflicts,
        )
    if merged.tree == variant.tree:
        return variant
    patch = repository.backend.diff_text(variant.tree, merged.tree)
    return evolve(variant, tree=merged.tree, patches=(*variant.patches, patch))


def trial_request(plan: Plan, variant: Variant, *, run: str, attempt: int, timeout: float | None) -> TrialRequest:
    """The request for one trial of `variant`, with `timeout` seconds unless the variant has its own."""
    return TrialRequest(
        run=run,
        hypothesis=variant.id,
        attempt=attempt,
        commit=variant.commit,
        command=variant.command,
        patches=variant.patches,
        edits=variant.edits,
        env=variant.env,
        timeout=timeout if variant.timeout is None else variant.timeout,
        grace=plan.grace,
        setup=plan.setup,
        setup_inputs=plan.setup_inputs,
        setup_env=dict(plan.env),
        include=plan.include,
        fresh=variant.fresh,
        nothing_ran=plan.nothing_ran,
        junit=plan.junit,
        metrics=plan.metrics,
        metrics_file=plan.metrics_file,
        memory=variant.memory,
        labels=variant.labels,
    )
