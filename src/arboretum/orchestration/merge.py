"""Merging in memory: a task's work into the integration branch, pairs of branches against each other.

Everything here blocks and touches no ref and no file; the objects it writes are reached by nothing until the
orchestrator moves the integration branch.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Final

from attrs import define, field, frozen

from arboretum.backends.base import GitBackend
from arboretum.orchestration.board import TaskRecord
from arboretum.orchestration.states import TaskState
from arboretum.orchestration.tasks import Task
from arboretum.orchestration.work import Committer
from arboretum.values import LogQuery, Oid

if TYPE_CHECKING:
    from arboretum.repository import Repository

#: The trailers by which a commit says which run and task made it.
RUN_TRAILER: Final = "Arboretum-Run"
TASK_TRAILER: Final = "Arboretum-Task"
_TASK_LINE: Final = re.compile(rf"^{TASK_TRAILER}: (\S+)$", re.MULTILINE)
_SUBJECT_WIDTH: Final = 72


def work_message(task: Task, run: str, attempt: int) -> str:
    """The message of the commit that holds a task's work."""
    first, _, rest = (task.description or f"Carry out {task.id}").strip().partition("\n")
    subject = first if len(first) <= _SUBJECT_WIDTH else first[: _SUBJECT_WIDTH - 1] + "…"
    body = f"{first}\n{rest}".strip() if subject != first else rest.strip()
    trailers = f"{RUN_TRAILER}: {run}\n{TASK_TRAILER}: {task.id}\nArboretum-Attempt: {attempt}\n"
    return f"{subject}\n\n" + (f"{body}\n\n" if body else "") + trailers


def merge_message(task: Task, run: str) -> str:
    """The message of the commit that merges a task's work."""
    first = (task.description or task.id).strip().partition("\n")[0]
    subject = f"Merge task {task.id}: {first}" if first != task.id else f"Merge task {task.id}"
    subject = subject if len(subject) <= _SUBJECT_WIDTH else subject[: _SUBJECT_WIDTH - 1] + "…"
    return f"{subject}\n\n{RUN_TRAILER}: {run}\n{TASK_TRAILER}: {task.id}\n"


@frozen(kw_only=True)
class Refusal:
    """Why a task's work is not merged."""

    state: TaskState
    message: str
    others: tuple[str, ...] = ()
    files: tuple[str, ...] = ()


@define(eq=False)
class Integration:
    """Merges the work of one run's tasks, one after the other, onto a chain of commits.

    Args:
        backend: The repository.
        committer: Knows who stands in a commit.
        run: The id of the run.
        base: Where the integration branch began.
    """

    backend: GitBackend
    committer: Committer
    run: str
    base: Oid
    _trees: dict[Oid, Oid] = field(factory=dict, init=False)
    _before: dict[Oid, Oid] = field(
        factory=dict, init=False
    )  # of the commits made here: onto what, and with whose work
    _added: dict[Oid, str] = field(factory=dict, init=False)
    _told: dict[Oid, tuple[str, ...]] = field(factory=dict, init=False)

    def merge(self, tip: Oid, task: Task, records: Mapping[str, TaskRecord]) -> Oid | Refusal:
        """A commit that has the work of `task` on top of `tip`, or why there is none.

        The scope is checked here a third time, on what the merge really changes.
        """
        record = records[task.id]
        assert record.commit is not None
        if record.start == tip:  # nothing to merge: the tree and the changes are those that were checked after the task
            tree, changed = self.tree_of(record.commit), record.changed
        else:
            base = record.start if self._is_plain(tip, record) else None
            outcome = self.backend.merge_trees(tip, record.commit, base=base)
            if outcome.tree is None:
                return self._conflict(tip, task, records, outcome.conflicts)
            tree = outcome.tree
            changed = tuple(entry.path for entry in self.backend.diff_trees(tip, tree, renames=False))
        outside = task.allowed.outside(changed)
        if outside:
            return Refusal(
                state=TaskState.OUT_OF_SCOPE,
                message=f"the merge of {task.id} would change {_named(outside)}, outside its scope ({task.allowed})",
                files=outside,
            )
        return self._commit(tip, record.commit, tree, task)

    def _is_plain(self, tip: Oid, record: TaskRecord) -> bool:
        """Whether the start of the work is the one merge base for sure.

        The tip is known to come from it, and the work is one commit on it. Where that is told, most merges need no
        process; where it is not, git finds the merge base by itself.
        """
        assert record.commit is not None
        if record.start is None or self.backend.read_commit(record.commit).parents != (record.start,):
            return False
        at: Oid | None = tip
        while at is not None and at != record.start:
            at = self._before.get(at)
        return at == record.start

    def _commit(self, tip: Oid, work: Oid, tree: Oid, task: Task) -> Oid:
        author, committer = self.committer.identities()
        message = merge_message(task, self.run)
        made = self.backend.write_commit(
            tree=tree, parents=(tip, work), message=message, author=author, committer=committer
        )
        self._trees[made], self._before[made], self._added[made] = tree, tip, task.id
        return made

    def _conflict(self, tip: Oid, task: Task, records: Mapping[str, TaskRecord], files: tuple[str, ...]) -> Refusal:
        """Name the tasks that changed the conflicting files since this one started."""
        start = records[task.id].start
        before = set(self.tasks_in(start)) if start is not None else set()
        since = [name for name in self.tasks_in(tip) if name not in before]
        others = tuple(name for name in since if not set(files).isdisjoint(records[name].changed))
        said = "; ".join(
            f"{file} with {' and '.join(n for n in others if file in records[n].changed) or 'the branch'}"
            for file in files
        )
        return Refusal(state=TaskState.CONFLICT, message=f"{task.id} conflicts in {said}", others=others, files=files)

    def tasks_in(self, commit: Oid) -> tuple[str, ...]:
        """The tasks of this run whose work `commit` holds, in the order of merging."""
        added = []
        while commit in self._before:
            added.append(self._added[commit])
            commit = self._before[commit]
        return (*self._told_by(commit), *reversed(added))

    def _told_by(self, commit: Oid) -> tuple[str, ...]:
        """The tasks of this run that a commit of somebody else's, or of before a resume, holds by its history."""
        if commit == self.base:
            return ()
        if commit not in self._told:
            query = LogQuery(include=(commit,), exclude=(self.base,), first_parent=True)
            found = [_TASK_LINE.search(c.message) for c in self.backend.log(query) if self._is_ours(c.message)]
            self._told[commit] = tuple(match.group(1) for match in reversed(found) if match)
        return self._told[commit]

    def _is_ours(self, message: str) -> bool:
        return f"{RUN_TRAILER}: {self.run}\n" in message

    def chain(self, start: Oid, tip: Oid) -> tuple[Oid, ...]:
        """The commits of the integration branch from `start` (included) to `tip`, oldest first."""
        query = LogQuery(include=(tip,), exclude=(start,), first_parent=True)
        return (start, *reversed([commit.oid for commit in self.backend.log(query)]))

    def tree_of(self, commit: Oid) -> Oid:
        """The tree of a commit."""
        if commit not in self._trees:
            self._trees[commit] = self.backend.read_commit(commit).tree
        return self._trees[commit]


def _named(files: Sequence[str], most: int = 5) -> str:
    more = f" and {len(files) - most} more" if len(files) > most else ""
    return ", ".join(files[:most]) + more


# --- branches against each other ---


@frozen(kw_only=True)
class BranchPair:
    """What two branches would do to each other.

    Args:
        one: The first branch.
        two: The second.
        conflicts: Files that do not merge.
        both: Files that both change against their merge base; a merge may be clean and wrong there.
        related: Whether they have a common ancestor.
    """

    one: str
    two: str
    conflicts: tuple[str, ...]
    both: tuple[str, ...]
    related: bool = True

    @property
    def is_clean(self) -> bool:
        """Whether they merge without a conflict."""
        return not self.conflicts


def check_conflicts(repository: Repository, branches: Iterable[str]) -> tuple[BranchPair, ...]:
    """Merge every pair of `branches` in memory.

    Args:
        repository: The repository; nothing of it is touched.
        branches: Revisions, in the order in which pairs are told.

    Raises:
        RevisionNotFoundError: A branch does not exist.
    """
    tips = {name: repository.resolve(name) for name in branches}
    backend, pairs = repository.backend, []
    for one, two in itertools.combinations(tips, 2):
        base = backend.merge_base(tips[one], tips[two])
        outcome = backend.merge_trees(tips[one], tips[two])
        changed = [
            {path for e in backend.diff_trees(base, tips[name]) for path in (e.path, e.old_path) if path is not None}
            for name in (one, two)
        ]
        pairs.append(
            BranchPair(
                one=one,
                two=two,
                conflicts=outcome.conflicts,
                both=tuple(sorted(changed[0] & changed[1])),
                related=base is not None,
            )
        )
    return tuple(pairs)
