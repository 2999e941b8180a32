"""Operations as values: what a random program does to a repository, with no id or path in it.

An operation names worktrees, branches, commits and paths by small numbers that are looked up in the
state it finds, so that the same sequence can run on any backend and every shorter one makes sense too.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Callable, Sequence
from typing import Any, Final

from attrs import define, field, frozen
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from arboretum.backends.base import GitBackend
from arboretum.backends.memory import Disk
from arboretum.backends.trees.snapshot import File
from arboretum.testing.builders import EPOCH, IDENTITY
from arboretum.values import FileMode, Oid, RefName, ResetMode, Signature, WorktreeSpec

#: The files that random programs touch; few, so that they meet. One is ignored, one has bytes that are no UTF-8.
PATHS: Final = ("a", "b", "lib/c", "lib/d e", "lib/deep/\udcff", "out.o", "new")
CONTENTS: Final = (
    b"1\n2\n3\n4\n5\n6\n7\n8\n9\n", b"1\n2\n3\n4\n5\n6\n7\n8\nnine\n", b"one\n2\n3\n4\n5\n6\n7\n8\n9\n", b"", b"x",
    b"\x00\x01binary", b"1\n2\n3\n4\nfive\n6\n7\n8\n9\n",
)  # fmt: skip
BRANCHES: Final = ("main", "topic", "fix/one", "fix/two", "fix")
PLACES: Final = ("w1", "w2", "w 3", "deep/w1")


@define(eq=False)
class World:
    """One backend with a repository, and what a program has seen of it so far.

    Args:
        backend: The backend.
        root: The main worktree.
        disk: Where files are.
        commits: Every commit that was made or seen, in the order of making: operations name them by number.
        stashes: The same for stashes.
    """

    backend: GitBackend
    root: str
    disk: Disk
    commits: list[Oid] = field(factory=list)
    stashes: list[Oid] = field(factory=list)
    clock: int = EPOCH + 1_000_000

    def worktree(self, number: int) -> str:
        """The path of a worktree that is there."""
        paths = [w.path for w in self.backend.list_worktrees() if not w.bare]
        return paths[number % len(paths)]

    def commit(self, number: int) -> Oid:
        """A commit, the latest at 0."""
        return self.commits[-1 - number % len(self.commits)]

    def place(self, number: int) -> str:
        """A path for a worktree."""
        return f"{os.path.dirname(self.root)}/{PLACES[number % len(PLACES)]}"

    def signature(self) -> Signature:
        """Somebody, at the next moment."""
        self.clock += 60
        when = dt.datetime.fromtimestamp(self.clock, dt.UTC)
        return Signature(IDENTITY["GIT_AUTHOR_NAME"], IDENTITY["GIT_AUTHOR_EMAIL"], when)

    def made(self, oid: Oid) -> Oid:
        """Note a commit that was made."""
        self.commits.append(oid)
        return oid


def path_of(number: int) -> str:
    """A path in a worktree."""
    return PATHS[number % len(PATHS)]


def branch_of(number: int) -> RefName:
    """A branch, there or not."""
    return RefName.branch(BRANCHES[number % len(BRANCHES)])


@frozen
class Operation:
    """Something that a program does: the name of a function of `OPERATIONS`, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()

    def run(self, world: World) -> Any:
        """Do it. Returns what the backend returned; raises what it raised."""
        return OPERATIONS[self.name][0](world, *self.arguments)


def write(world: World, tree: int, path: int, content: int, mode: FileMode) -> None:
    """Write a file by hand."""
    place = f"{world.worktree(tree)}/{path_of(path)}"
    data = b"a" if mode is FileMode.SYMLINK else CONTENTS[content % len(CONTENTS)]
    world.disk.write(place, File(data, mode))


def delete(world: World, tree: int, path: int) -> None:
    """Remove a file by hand."""
    world.disk.remove(f"{world.worktree(tree)}/{path_of(path)}")


def stage(world: World, tree: int, paths: Sequence[int]) -> None:
    """Stage some paths, or all."""
    place = world.worktree(tree)
    there = {e.path for e in world.backend.status(place) if not e.is_ignored}
    chosen = [path_of(p) for p in paths if path_of(p) in there]
    world.backend.stage(place, chosen or ["."])


def commit(world: World, tree: int, allow_empty: bool) -> Oid:
    """Commit what is staged."""
    who = world.signature()
    message = f"change {len(world.commits)}\n\n  body  \n\n\n"
    oid = world.backend.commit(world.worktree(tree), message, author=who, committer=who, allow_empty=allow_empty)
    return world.made(oid)


def checkout_branch(world: World, tree: int, branch: int, force: bool) -> None:
    """Switch to a branch."""
    world.backend.checkout(world.worktree(tree), branch_of(branch), force=force)


def checkout_commit(world: World, tree: int, number: int, force: bool) -> None:
    """Switch to a commit."""
    world.backend.checkout(world.worktree(tree), world.commit(number), force=force)


def reset(world: World, tree: int, number: int, mode: ResetMode) -> None:
    """Move HEAD."""
    world.backend.reset(world.worktree(tree), world.commit(number), mode)


def clean(world: World, tree: int, ignored: bool) -> tuple[str, ...]:
    """Remove untracked files."""
    return world.backend.clean(world.worktree(tree), ignored=ignored)


def create_branch(world: World, branch: int, number: int) -> None:
    """Make a branch."""
    world.backend.update_ref(branch_of(branch), world.commit(number), None, message="made")


def move_branch(world: World, branch: int, seen: int, number: int) -> None:
    """Move a branch by compare-and-set, the seen value right or wrong."""
    world.backend.update_ref(branch_of(branch), world.commit(number), world.commit(seen), message="moved")


def delete_branch(world: World, branch: int) -> None:
    """Delete a branch that no worktree is on, by compare-and-set."""
    name = branch_of(branch)
    ref = world.backend.read_ref(name)
    if ref is not None and all(w.branch != name for w in world.backend.list_worktrees()):
        world.backend.update_ref(name, None, ref.oid)


def rename_branch(world: World, old: int, new: int) -> None:
    """Rename a branch."""
    if branch_of(old) != branch_of(new):
        world.backend.rename_branch(branch_of(old), branch_of(new))


def add_on_branch(world: World, place: int, branch: int, checkout: bool, force: bool) -> Any:
    """Add a worktree on a branch."""
    spec = WorktreeSpec(world.place(place), branch=branch_of(branch), checkout=checkout, force=force)
    return world.backend.add_worktree(spec)


def add_detached(world: World, place: int, number: int, lock: str | None) -> Any:
    """Add a worktree at a commit."""
    return world.backend.add_worktree(WorktreeSpec(world.place(place), detach=world.commit(number), lock=lock))


def add_orphan(world: World, place: int, branch: int) -> Any:
    """Add a worktree on a branch without commits."""
    return world.backend.add_worktree(WorktreeSpec(world.place(place), orphan=branch_of(branch)))


def remove_worktree(world: World, place: int, force: bool) -> Any:
    """Remove a worktree; by force it is discarded, with a look at what is in it before each step."""
    if not force:
        return world.backend.remove_worktree(world.place(place))
    looker = _Looker(world.backend)
    world.backend.discard_worktree(world.place(place), looker, force=True)()
    return tuple(looker.seen)


@define(eq=False)
class _Looker:
    """A keeper that only looks."""

    backend: GitBackend
    seen: list[Any] = field(factory=list)

    def before(self, path: str) -> None:
        self.seen.append(self.backend.head(path).oid)

    def behind(self, path: str) -> None:
        self.seen.append(self.backend.status(path))


def move_worktree(world: World, old: int, new: int) -> Any:
    """Move a worktree."""
    return world.backend.move_worktree(world.place(old), world.place(new))


def lock_worktree(world: World, place: int, reason: str) -> None:
    """Lock a worktree."""
    world.backend.lock_worktree(world.place(place), reason=reason)


def unlock_worktree(world: World, place: int) -> None:
    """Unlock a worktree."""
    world.backend.unlock_worktree(world.place(place))


def lose_folder(world: World, place: int) -> None:
    """Remove the folder of a worktree by hand."""
    world.disk.remove(world.place(place))


def move_folder(world: World, old: int, new: int, repair: bool) -> None:
    """Move the folder of a worktree by hand, and mend it or not.

    Not to where another one was: over real git it would be worked on there, by the folder's own link, which the
    in-memory backend does not follow.
    """
    source, target = world.place(old), world.place(new)
    link = world.disk.read(f"{source}/.git") if world.disk.is_file(f"{source}/.git") else None
    if link is None or world.disk.is_folder(target):
        return
    others = [w.path for w in world.backend.list_worktrees() if not link.data.endswith(f"/{w.name}\n".encode())]
    if repair or target not in others:
        world.disk.move(source, target)
        if repair:
            world.backend.repair_worktrees([target])


def prune(world: World, dry_run: bool) -> Any:
    """Remove the records of lost worktrees."""
    return world.backend.prune_worktrees(dry_run=dry_run)


def stash_push(world: World, tree: int, untracked: bool) -> Oid | None:
    """Put the changes away: what `arboretum.stashes` does, in its primitives."""
    place, backend = world.worktree(tree), world.backend
    head = backend.head(place).oid
    oid = backend.stash_create(place, f"work {len(world.stashes)}", untracked=untracked)
    if oid is None or head is None:
        return None
    backend.stash_store(oid, f"On somewhere: work {len(world.stashes)}")
    backend.reset(place, head, ResetMode.HARD)
    if untracked:
        backend.clean(place)
    world.stashes.append(oid)
    return oid


def stash_apply(world: World, tree: int, number: int, index: bool) -> None:
    """Get changes back."""
    if world.stashes:
        stash = world.stashes[number % len(world.stashes)]
        world.backend.stash_apply(world.worktree(tree), stash, index=index)


def stash_drop(world: World, number: int) -> None:
    """Forget a stash, wherever it stands."""
    if world.stashes:
        world.backend.stash_drop(world.stashes[number % len(world.stashes)])


def cherry_pick(world: World, tree: int, number: int) -> Oid:
    """Pick a commit."""
    return world.made(world.backend.cherry_pick(world.worktree(tree), world.commit(number)))


def apply_patch(world: World, tree: int, one: int, two: int, index: bool) -> None:
    """Apply the difference of two commits to the files."""
    patch = world.backend.diff_text(world.commit(one), world.commit(two))
    world.backend.apply(world.worktree(tree), patch, index=index)


def merge(world: World, one: int, two: int) -> Any:
    """Merge two commits in memory; a clean result is committed, so that histories get merges."""
    ours, theirs = world.commit(one), world.commit(two)
    outcome = world.backend.merge_trees(ours, theirs)
    if outcome.tree is None:
        return outcome
    who = world.signature()
    made = world.backend.write_commit(
        tree=outcome.tree, parents=[ours, theirs], message="merge\n", author=who, committer=who
    )
    world.made(made)
    return outcome


_N: Final = st.integers(0, 5)
_BOOL: Final = st.booleans()
_RARELY: Final = st.sampled_from([False, False, False, True])
_MODE: Final = st.sampled_from([FileMode.FILE, FileMode.FILE, FileMode.FILE, FileMode.EXECUTABLE, FileMode.SYMLINK])
_PLACE: Final = st.integers(0, len(PLACES) - 1)
_BRANCH: Final = st.integers(0, len(BRANCHES) - 1)
_PATH: Final = st.integers(0, len(PATHS) - 1)
_CONTENT: Final = st.integers(0, len(CONTENTS) - 1)

#: Every operation: how to do it, and where its arguments come from.
OPERATIONS: Final[dict[str, tuple[Callable[..., Any], tuple[SearchStrategy[Any], ...]]]] = {
    "write": (write, (_N, _PATH, _CONTENT, _MODE)),
    "delete": (delete, (_N, _PATH)),
    "stage": (stage, (_N, st.lists(_PATH, max_size=3))),
    "commit": (commit, (_N, _RARELY)),
    "checkout_branch": (checkout_branch, (_N, _BRANCH, _RARELY)),
    "checkout_commit": (checkout_commit, (_N, _N, _RARELY)),
    "reset": (reset, (_N, _N, st.sampled_from(list(ResetMode)))),
    "clean": (clean, (_N, _BOOL)),
    "create_branch": (create_branch, (_BRANCH, _N)),
    "move_branch": (move_branch, (_BRANCH, _N, _N)),
    "delete_branch": (delete_branch, (_BRANCH,)),
    "rename_branch": (rename_branch, (_BRANCH, _BRANCH)),
    "add_on_branch": (add_on_branch, (_PLACE, _BRANCH, st.sampled_from([True, True, False]), _RARELY)),
    "add_detached": (add_detached, (_PLACE, _N, st.sampled_from([None, None, "", "a reason"]))),
    "add_orphan": (add_orphan, (_PLACE, _BRANCH)),
    "remove_worktree": (remove_worktree, (_PLACE, _BOOL)),
    "move_worktree": (move_worktree, (_PLACE, _PLACE)),
    "lock_worktree": (lock_worktree, (_PLACE, st.sampled_from(["", "on a\nUSB disk"]))),
    "unlock_worktree": (unlock_worktree, (_PLACE,)),
    "lose_folder": (lose_folder, (_PLACE,)),
    "move_folder": (move_folder, (_PLACE, _PLACE, _BOOL)),
    "prune": (prune, (_BOOL,)),
    "stash_push": (stash_push, (_N, _BOOL)),
    "stash_apply": (stash_apply, (_N, _N, _RARELY)),
    "stash_drop": (stash_drop, (_N,)),
    "cherry_pick": (cherry_pick, (_N, _N)),
    "apply_patch": (apply_patch, (_N, _N, _N, _BOOL)),
    "merge": (merge, (_N, _N)),
}


def operations(*names: str) -> SearchStrategy[Operation]:
    """One operation of these names, or of all."""
    chosen = [name for name in OPERATIONS if not names or name in names]
    return st.one_of([st.builds(Operation, st.just(name), st.tuples(*OPERATIONS[name][1])) for name in chosen])


def operation_sequences(*names: str, max_size: int = 30) -> SearchStrategy[list[Operation]]:
    """A random program."""
    return st.lists(operations(*names), max_size=max_size)


__all__ = ["BRANCHES", "CONTENTS", "OPERATIONS", "PATHS", "PLACES", "Operation", "World", "operation_sequences",
           "operations"]  # fmt: skip
