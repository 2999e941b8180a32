"""The working trees of `arboretum.backends.cli`: HEAD, index and files, stashes, patches, fetch."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from arboretum.backends import parsing
from arboretum.backends.cli_refs import CliRefs
from arboretum.backends.faults import git_error
from arboretum.backends.git_command import committer_environment
from arboretum.backends.index_tree import cached_tree
from arboretum.backends.ref_files import SYMBOLIC_DEPTH
from arboretum.backends.trees.quoting import unquote_path
from arboretum.errors import (
    BranchCheckedOutError,
    ConflictError,
    DirtyWorktreeError,
    GitOperationError,
    InvalidValueError,
    NothingToCommitError,
    PatchFailedError,
    RefExistsError,
    RefNotFoundError,
    StashNotFoundError,
    UnbornHeadError,
)
from arboretum.moments import format_moment
from arboretum.values import (
    ChangeKind,
    DiffEntry,
    Head,
    Oid,
    RefName,
    ResetMode,
    Signature,
    StashEntry,
    StatusEntry,
    parse_tree_path,
)

# How git clean begins a line; its messages are asked for in English, and it quotes names as patches do.
_REMOVING: Final = b"Removing "
#: A file whose time of change is not the one in the index is written anew: that is what undoes changes of rights.
_EXACT: Final = (
    "-c", "core.trustCtime=true",
    "-c", "core.checkStat=default",
    "-c", "core.ignoreStat=false",
    "-c", "core.hooksPath=/dev/null",
)  # fmt: skip


class CliTrees(CliRefs):
    """The methods of `WorkingTree`."""

    def head(self, worktree: str) -> Head:
        """See `WorkingTree`."""
        git_dir, _ = self.place(worktree)
        name = RefName("HEAD")
        value = self.refs.read(name, git_dir=git_dir)
        for _ in range(SYMBOLIC_DEPTH):  # a branch may stand for another one
            if isinstance(value, RefName):
                name, value = value, self.refs.read(value, git_dir=git_dir)
        if isinstance(value, RefName) or (name == "HEAD" and value is None):
            raise GitOperationError(f"{worktree} has no HEAD that can be read", operation="head")
        return Head(branch=None if name == "HEAD" else name, oid=value)

    def status(
        self, worktree: str, *, untracked: bool = True, ignored: bool = False, renames: bool = False
    ) -> tuple[StatusEntry, ...]:
        """See `WorkingTree`."""
        done = self.command.output(
            "status", "--porcelain=v2", "-z", f"--untracked-files={'all' if untracked else 'no'}",
            f"--ignored={'matching' if ignored else 'no'}", "--renames" if renames else "--no-renames",
            "--ignore-submodules=none", "--no-ahead-behind", operation="status", at=self.place(worktree),
        )  # fmt: skip
        return parsing.parse_status(done.stdout)

    def stage(self, worktree: str, paths: Sequence[str]) -> None:
        """See `WorkingTree`."""
        if not paths:
            return
        for path in paths:
            if path not in {"", "."}:
                parse_tree_path(path.rstrip("/"))
        self.command.output(
            "add", "--all", "--pathspec-from-file=-", "--pathspec-file-nul", operation="stage",
            at=self.place(worktree), stdin=b"".join(os.fsencode(path or ".") + b"\0" for path in paths),
        )  # fmt: skip

    def staged_tree(self, worktree: str) -> Oid:
        """See `WorkingTree`. No git is asked where the index itself says that it equals HEAD."""
        at, head = self.place(worktree), self.head(worktree)
        if head.oid is not None:
            tree = cached_tree(_whole(os.path.join(at[0], "index")), sha256=self.sha256)
            if tree is not None and tree == self.read_commit(head.oid).tree:
                return tree
        return self._written_tree({}, at=at)

    def commit(
        self,
        worktree: str,
        message: str,
        *,
        author: Signature | None = None,
        committer: Signature | None = None,
        allow_empty: bool = False,
    ) -> Oid:
        """See `WorkingTree`."""
        env: dict[str, str] = {}
        for role, who in (("AUTHOR", author), ("COMMITTER", committer)):
            if who is not None:
                env |= committer_environment(who.name, who.email, f"@{format_moment(who.when)}", role=role)
        at = self.place(worktree)
        options = ["--allow-empty"] if allow_empty else []
        done = self.command.output(
            "commit", "--quiet", "--cleanup=whitespace", "--file=-", *options,
            operation="commit", at=at, env=env, stdin=message.encode("utf-8", "surrogateescape"), accept=(0, 1),
        )  # fmt: skip
        if done.code == 1:
            raise self._not_committed(done.said, at)
        return self._head_oid(at)

    def _head_oid(self, at: tuple[str, str]) -> Oid:
        oid = self.refs.find("HEAD", git_dir=at[0])
        if oid is None:
            raise GitOperationError(f"{at[1]} has no HEAD any more", operation="head")
        return oid

    def _not_committed(self, said: str, at: tuple[str, str]) -> GitOperationError:
        """Why a commit was not made: git is silent when nothing is staged, and so may a hook be."""
        error = git_error(["commit"], said, 1, operation="commit")
        staged = self.command.output("diff", "--cached", "--quiet", operation="commit", at=at, accept=(0, 1)).code
        if not said.strip() and not staged:
            return NothingToCommitError("nothing is staged", operation="commit", hint="stage changes first")
        return error

    def checkout(self, worktree: str, target: RefName | Oid, *, force: bool = False) -> None:
        """See `WorkingTree`."""
        at = self.place(worktree)
        options = ["--quiet", "--no-recurse-submodules", *(["--force"] if force else [])]
        if isinstance(target, Oid):
            self.command.output("checkout", *options, "--detach", target, "--", operation="checkout", at=at)
            return
        if self.tip(target) is None:
            raise RefNotFoundError(f"there is no branch {target.short!r}", operation="checkout")
        with self.admin.lock():  # two worktrees must not both find the branch free
            user = self.admin.user_of(target, but=at[1])
            if user is not None and self.head(worktree).branch != target:
                raise BranchCheckedOutError(
                    f"branch {target.short!r} is already checked out at {user}",
                    operation="checkout",
                    hint="use that worktree, or another branch",
                )
            self.command.output("checkout", *options, "--no-guess", target.short, "--", operation="checkout", at=at)

    def reset(self, worktree: str, target: Oid, mode: ResetMode, *, exact: bool = False) -> None:
        """See `WorkingTree`."""
        self._refuse_birth(self.head(worktree), "reset")
        # They do the same to index and files, but only `checkout` looks at the files in several threads.
        command = ["checkout", "--force", "--detach"] if exact else ["reset", f"--{mode}"]
        self.command.output(
            *command, "--quiet", "--no-recurse-submodules", target, "--",
            operation="reset", at=self.place(worktree), settings=_EXACT if exact else (),
        )  # fmt: skip

    def _refuse_birth(self, head: Head, operation: str) -> None:
        """Refuse to give a branch its first commit beside those that its name collides with.

        Git itself finds out last, when it has written the index and the files already.
        """
        if head.oid is None and head.branch is not None:
            for ref in self.list_refs():
                if head.branch.collides_with(ref.name):
                    raise RefExistsError(f"{head.branch} cannot be made beside {ref.name}", operation=operation)

    def clean(self, worktree: str, *, ignored: bool = False) -> tuple[str, ...]:
        """See `WorkingTree`."""
        options = ["-x"] if ignored else []
        done = self.command.output("clean", "-ff", "-d", *options, operation="clean", at=self.place(worktree))
        lines = done.stdout.removesuffix(b"\n").split(b"\n")
        gone = [unquote_path(line.removeprefix(_REMOVING)) for line in lines if line.startswith(_REMOVING)]
        return tuple(sorted(gone, key=os.fsencode))

    def apply(self, worktree: str, patch: bytes, *, index: bool = False) -> None:
        """See `WorkingTree`."""
        at = self.place(worktree)
        if not index:
            self.apply_patch(patch, operation="apply", at=at)
            return
        # git apply takes what the index remembers of files for true, and would refuse copied worktrees; and it restores
        # files that are gone before it finds out that others do not match: so look first.
        self.command.output("update-index", "-q", "--refresh", operation="apply", at=at, accept=(0, 1))
        self.apply_patch(patch, "--check", "--cached", operation="apply", at=at)
        counted = self.command.output("apply", "--numstat", "-z", "-", operation="apply", at=at, stdin=patch).stdout
        touched = {parsing.text_of(field.rpartition(b"\t")[2]) for field in counted.split(b"\0")}
        kept = {ChangeKind.UNMODIFIED, ChangeKind.DELETED}
        other = [e.path for e in self.status(worktree) if e.path in touched and e.worktree not in kept]
        if other:
            raise PatchFailedError(
                f"the patch does not apply: {other[0]!r} does not match the index", paths=other, operation="apply"
            )
        self.apply_patch(patch, "--index", operation="apply", at=at)

    def cherry_pick(self, worktree: str, commit: Oid) -> Oid:
        """See `WorkingTree`."""
        at, picked, head = self.place(worktree), self.read_commit(commit), self.head(worktree).oid
        if head is None:
            raise UnbornHeadError("there is no commit to pick on", operation="cherry_pick")
        if len(picked.parents) > 1:
            raise GitOperationError(
                f"{commit.short} is a merge", operation="cherry_pick", hint="pick its commits instead"
            )
        # In memory first: a conflict is told by its paths, and nothing has been touched.
        base = picked.parents[0] if picked.parents else self.write_tree(())
        outcome = self.merge_trees(head, commit, base=base)
        if outcome.tree is None:
            if self.command.output("diff", "--cached", "--quiet", operation="cherry_pick", at=at, accept=(0, 1)).code:
                raise DirtyWorktreeError(
                    f"picking {commit.short} would overwrite what is staged", operation="cherry_pick",
                    hint="commit or stash the changes first",
                )  # fmt: skip
            raise ConflictError(
                f"{commit.short} ({picked.subject!r}) conflicts in {', '.join(map(repr, outcome.conflicts))}",
                paths=outcome.conflicts,
                operation="cherry_pick",
            )
        try:
            self.command.output("cherry-pick", commit, operation="cherry_pick", at=at)
        except GitOperationError:
            self.command.output("cherry-pick", "--abort", operation="cherry_pick", at=at, accept=(0, 128))
            raise
        return self._head_oid(at)

    # Stashes ---------------------------------------------------------------------------------

    def stash_create(self, worktree: str, message: str, *, untracked: bool = False) -> Oid | None:
        """See `WorkingTree`."""
        at, head = self.place(worktree), self.head(worktree)
        if head.oid is None:
            raise UnbornHeadError("there is nothing to stash on before the first commit", operation="stash_create")
        base = Oid(self.command.text("rev-parse", f"{head.oid}^{{tree}}", operation="stash_create"))
        index, files, changed = self._worktree_trees(at)
        extra = self._untracked_tree(at, changed) if untracked else None
        if index == files == base and extra is None:
            return None
        where = head.branch.short if head.branch is not None else "(no branch)"
        subject = f"{where}: {head.oid[:7]} {self.read_commit(head.oid).subject}"
        parents = [head.oid, self._commit_tree(at, index, [head.oid], f"index on {subject}\n")]
        if extra is not None:
            parents.append(self._commit_tree(at, extra, [], f"untracked files on {subject}\n"))
        return self._commit_tree(at, files, parents, f"On {where}: {message}" if message else f"WIP on {subject}")

    def _commit_tree(self, at: tuple[str, str], tree: Oid, parents: Sequence[Oid], message: str) -> Oid:
        links = [option for parent in parents for option in ("-p", parent)]
        done = self.command.output(
            "commit-tree", "--no-gpg-sign", *links, tree, operation="stash_create", at=at,
            stdin=message.encode("utf-8", "surrogateescape"),
        )  # fmt: skip
        return Oid(done.stdout.decode().strip())

    def _worktree_trees(self, at: tuple[str, str]) -> tuple[Oid, Oid, frozenset[bytes]]:
        """The trees of the index and of the tracked files as they are, and the paths that HEAD has otherwise.

        The index itself is not touched.
        """
        with self._index_copy(at) as env:
            index = self._written_tree(env, at=at)
            # As git's own stash does it: also a file that was taken out of the index and is still there is kept.
            changed = self.command.output(
                "diff-index",
                "-z",
                "--name-only",
                "--no-renames",
                "HEAD",
                "--",
                operation="stash_create",
                at=at,
                env=env,
            )
            self.command.output(
                "update-index", "-z", "--add", "--remove", "--stdin", operation="stash_create", at=at, env=env,
                stdin=changed.stdout,
            )  # fmt: skip
            return index, self._written_tree(env, at=at), frozenset(parsing.zero_split(changed.stdout))

    @contextlib.contextmanager
    def _index_copy(self, at: tuple[str, str]) -> Iterator[dict[str, str]]:
        with self.private_index() as env:
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(os.path.join(at[0], "index"), env["GIT_INDEX_FILE"])
            yield env

    def _untracked_tree(self, at: tuple[str, str], tracked: frozenset[bytes]) -> Oid | None:
        """The tree of the untracked files.

        A file that was only taken out of the index is among the tracked ones: git's own stash keeps it twice, and then
        does not apply what it has kept.
        """
        listed = self.command.output(
            "ls-files", "-z", "--others", "--exclude-standard", operation="stash_create", at=at
        )
        found = parsing.zero_split(listed.stdout)
        paths = [path for path in found if path not in tracked and not path.endswith(b"/")]  # no nested repository
        if not paths:
            return None
        with self.private_index() as env:
            self.command.output(
                "update-index", "-z", "--add", "--stdin", operation="stash_create", at=at, env=env,
                stdin=b"".join(path + b"\0" for path in paths),
            )  # fmt: skip
            return self._written_tree(env, at=at)

    def stash_apply(self, worktree: str, stash: Oid, *, index: bool = False) -> None:
        """See `WorkingTree`."""
        at = self.place(worktree)
        parents = self._stash_parents(stash)
        # Git would leave conflict markers behind; the merge in memory tells first, with nothing touched.
        with self._index_copy(at) as env:
            ours = self._written_tree(env, at=at)
        outcome = self.merge_trees(ours, stash, base=parents[0])
        paths = list(outcome.conflicts)
        changes = self.diff_trees(ours, outcome.tree, renames=False) if outcome.tree is not None else ()
        paths += self._overwritten(worktree, changes)
        if len(parents) == 3:
            written = {change.path for change in changes if change.kind is not ChangeKind.DELETED}
            new = (entry.path for entry in self.read_tree(parents[2]))
            paths += [path for path in new if path in written or os.path.lexists(os.path.join(worktree, path))]
        if paths:
            raise ConflictError(
                f"the stash conflicts in {', '.join(map(repr, paths))}", paths=paths, operation="stash_apply",
                hint="commit or undo your changes to these files first",
            )  # fmt: skip
        options = ["--index"] if index else []
        try:
            self.command.output("stash", "apply", "--quiet", *options, stash, operation="stash_apply", at=at)
        except (DirtyWorktreeError, PatchFailedError) as error:
            raise ConflictError(
                f"the stash touches files with changes of their own: {error.message}", operation="stash_apply",
                hint="commit or stash these changes first",
            ) from error  # fmt: skip

    def _overwritten(self, worktree: str, changes: Iterable[DiffEntry]) -> list[str]:
        """The paths in which such changes would overwrite what is in the files."""
        changed = {entry.path for entry in changes}
        if not changed:
            return []
        kept = {ChangeKind.UNMODIFIED, ChangeKind.DELETED}
        return [e.path for e in self.status(worktree) if e.path in changed and e.worktree not in kept]

    def _stash_parents(self, stash: Oid) -> tuple[Oid, ...]:
        found = self.objects.read(stash)
        parents = parsing.parse_commit(stash, found[1]).parents if found is not None and found[0] == "commit" else ()
        if len(parents) not in {2, 3}:
            raise StashNotFoundError(f"{stash} is not a stash", operation="stash_apply", hint="list the stashes")
        return parents

    def stash_list(self) -> tuple[StashEntry, ...]:
        """See `WorkingTree`."""
        if self.tip(RefName("refs/stash")) is None:
            return ()
        done = self.command.output(
            "log", "-g", "-z", "--no-show-signature", "--format=%H%n%gs", "refs/stash", "--", operation="stash_list"
        )
        entries = []
        for record in parsing.zero_split(done.stdout):
            oid, _, message = record.partition(b"\n")
            entries.append(stash_entry(Oid(oid.decode()), parsing.text_of(message)))
        return tuple(entries)

    def stash_store(self, stash: Oid, message: str) -> None:
        """See `WorkingTree`."""
        self._stash_parents(stash)
        text = " ".join(message.split()) or "stash"
        with self.admin.lock():  # dropping the last entry removes the list, and a new one with it
            self.command.output("stash", "store", "-m", text, stash, operation="stash_store")

    def stash_drop(self, stash: Oid) -> None:
        """See `WorkingTree`."""
        with self.admin.lock():
            found = [(position, entry) for position, entry in enumerate(self.stash_list()) if entry.oid == stash]
            if not found:
                raise StashNotFoundError(f"no stash has the id {stash}", operation="stash_drop")
            position, entry = found[0]
            done = self.command.output("stash", "drop", f"stash@{{{position}}}", operation="stash_drop")
        dropped = done.stdout.decode("utf-8", "replace").rstrip().rstrip(")").rpartition("(")[2]
        if dropped != stash:  # a program that does not take our lock moved the list in between: put its entry back
            self.stash_store(Oid(dropped), entry.message)
            self.stash_drop(stash)

    def fetch(self, remote: str, refspecs: Sequence[str] = (), *, prune: bool = False) -> None:
        """See `WorkingTree`."""
        for text in (remote, *refspecs):
            if not text or text.startswith("-") or "\0" in text:
                raise InvalidValueError(f"{text!r} is not a remote or refspec")
        options = ["--prune"] if prune else []
        self.command.output(
            "fetch", "--quiet", "--no-auto-maintenance", *options, "--end-of-options", remote, *refspecs,
            operation="fetch",
        )  # fmt: skip


def stash_entry(oid: Oid, message: str) -> StashEntry:
    """An entry of the stash list; its branch is told by git's own words."""
    head, colon, _ = message.partition(": ")
    branch = head.removeprefix("WIP on ").removeprefix("On ") if colon and head.startswith(("WIP on ", "On ")) else None
    return StashEntry(oid, message, None if branch == "(no branch)" else branch)


def _whole(path: str) -> bytes:
    """All of a file that may be long; nothing when there is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            return file.read()
    except FileNotFoundError:
        return b""
