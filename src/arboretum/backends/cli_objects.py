"""The objects of `arboretum.backends.cli`: reading, comparing, merging in memory, writing."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
from binascii import hexlify
from collections.abc import Iterator, Sequence
from typing import Final

from arboretum.backends import parsing
from arboretum.backends.base import CommitLink
from arboretum.backends.cli_session import CliSession
from arboretum.backends.scratch import scratch_folder
from arboretum.backends.trees.disjoint_merge import Entries, merge_disjoint, parse_tree
from arboretum.errors import (
    GitOperationError,
    GitPermissionError,
    ObjectMissingError,
    PatchFailedError,
    RepositoryBusyError,
    RevisionNotFoundError,
    UnbornHeadError,
)
from arboretum.values import (
    Commit,
    DiffEntry,
    LogQuery,
    MergeOutcome,
    Oid,
    RefName,
    Revision,
    Signature,
    TreeEntry,
    parse_tree_path,
)

_EMPTY_TREE: Final = {
    False: "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
    True: "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
}
_FAILED_PATH: Final = re.compile(r"error: patch failed: (.+?):\d+(?= error: |\Z)")
_FULL_ID: Final = re.compile(r"(?:[0-9a-f]{40}|[0-9a-f]{64})\Z")
_HEAD_OR_BEFORE: Final = re.compile(r"HEAD(?:[~^][0-9]*)*\Z")
_TIPS_ON_THE_LINE: Final = 1000
_WRITE_COMMITS: Final = ("hash-object", "-t", "commit", "-w", "--literally", "--no-filters", "--stdin-paths")
_DIFF_TREES: Final = (
    "diff-tree", "-r", "-z", "--raw", "--no-ext-diff", "--no-textconv", "--ignore-submodules=none",
)  # fmt: skip
_NOBODY: Final = b"arboretum <> 0 +0000"


class CliObjects(CliSession):
    """The methods of `ObjectReader`."""

    def resolve(self, revision: Revision, *, worktree: str | None = None) -> Oid:
        """See `ObjectReader`."""
        elsewhere = worktree is not None and worktree != self.command.worktree
        at = self.place(worktree) if worktree is not None and elsewhere else None
        name = self._seen_from(at[0], revision) if at is not None else revision
        found = self.objects.find(f"{name}^{{commit}}") if name is not None else None
        if found is not None:
            return found[0]
        done = self.command.output(
            "rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}",
            operation="resolve", at=at, accept=(0, 1, 128),
        )  # fmt: skip
        if done.code == 0:
            return Oid(done.stdout.decode().strip())
        raise self._unresolved(revision, at)

    def _seen_from(self, git_dir: str, revision: Revision) -> str | None:
        """How another worktree's revision is called here (gitrevisions(7), "worktrees/"); None: ask git over there."""
        if _FULL_ID.match(revision):
            return revision
        if _HEAD_OR_BEFORE.match(revision):
            shared = git_dir == self.common_dir
            return f"{'main-worktree' if shared else f'worktrees/{os.path.basename(git_dir)}'}/{revision}"
        return None

    def _unresolved(self, revision: Revision, at: tuple[str, str] | None) -> RevisionNotFoundError | ObjectMissingError:
        base = revision.split("~")[0].split("^")[0].split("@")[0] or "HEAD"
        if base == "HEAD":
            head = self.command.output(
                "symbolic-ref", "--quiet", "HEAD", operation="resolve", at=at, accept=(0, 1, 128)
            )
            branch = parsing.text_of(head.stdout).strip()
            if head.code == 0 and branch and self._loose_tip(RefName(branch)) is None:
                return UnbornHeadError(
                    f"'{revision}': the branch {RefName(branch).short!r} has no commit yet",
                    operation="resolve",
                    hint="make a first commit",
                )
        named = self.command.output(
            "rev-parse", "--verify", "--quiet", "--end-of-options", str(revision),
            operation="resolve", at=at, accept=(0, 1, 128),
        )  # fmt: skip
        text = named.stdout.decode().strip()
        if named.code == 0 and text and self.objects.find(text) is None:
            return ObjectMissingError(
                f"'{revision}' names {text}, which is not in the repository",
                operation="resolve",
                hint="fetch it, or run git fsck",
            )
        return RevisionNotFoundError(
            f"'{revision}' names no commit", operation="resolve", hint="check the name; fetch it if it is a remote's"
        )

    def _loose_tip(self, name: RefName) -> str | None:
        done = self.command.output("rev-parse", "--verify", "--quiet", name, operation="resolve", accept=(0, 1, 128))
        return done.stdout.decode().strip() or None

    def read_commit(self, oid: Oid) -> Commit:
        """See `ObjectReader`."""
        found = self.objects.read(oid)
        if found is None or found[0] != "commit":
            raise ObjectMissingError(
                f"there is no commit {oid}" if found is None else f"{oid} is a {found[0]}, not a commit",
                operation="read_commit",
            )
        return parsing.parse_commit(oid, found[1])

    def log(self, query: LogQuery) -> Iterator[Commit]:
        """See `ObjectReader`."""
        records = self._walk(query, parsing.LOG_FORMAT, operation="log")
        return (parsing.parse_log(record) for record in records)  # no map: who leaves early can close this

    def links(self, query: LogQuery) -> Iterator[CommitLink]:
        """See `ObjectReader`."""
        return map(parsing.parse_link, self._walk(query, parsing.LINK_FORMAT, operation="links"))

    def _walk(self, query: LogQuery, form: str, *, operation: str) -> Iterator[bytes]:
        if not query.include:
            return  # git would start from HEAD
        options = ["--no-show-signature", "--no-color", "--no-decorate", "--no-patch", "--no-notes", "--no-mailmap"]
        options += ["--date=raw", "-z", f"--format=tformat:{form}"]
        if query.first_parent:
            options.append("--first-parent")
        if query.topological:
            options.append("--topo-order")
        if query.limit is not None:
            options.append(f"--max-count={query.limit}")
        tips = [*query.include, *(f"^{oid}" for oid in query.exclude)]
        # A command line takes some 30,000 ids; all beyond a few are read from the input, before the paths are.
        fed = "".join(f"{tip}\n" for tip in tips) if len(tips) > _TIPS_ON_THE_LINE else ""
        named = ["--stdin"] if fed else ["--end-of-options", *tips]
        with self.command.stream(
            "log", *options, *named, "--", *query.paths, operation=operation, stdin=fed.encode()
        ) as records:
            yield from records

    def merge_base(self, one: Oid, two: Oid) -> Oid | None:
        """See `ObjectReader`."""
        done = self.command.output("merge-base", "--end-of-options", one, two, operation="merge_base", accept=(0, 1))
        text = done.stdout.decode().strip()
        return Oid(text) if text else None

    def read_tree(self, tree: Oid) -> tuple[TreeEntry, ...]:
        """See `ObjectReader`."""
        done = self.command.output("ls-tree", "-r", "-z", "--full-tree", tree, operation="read_tree")
        return parsing.parse_tree(done.stdout)

    def read_blob(self, oid: Oid) -> bytes:
        """See `ObjectReader`."""
        found = self.objects.read(oid)
        if found is None or found[0] != "blob":
            raise ObjectMissingError(f"there is no blob {oid}", operation="read_blob")
        return found[1]

    def write_blob(self, data: bytes) -> Oid:
        """See `ObjectReader`."""
        return self._hash("blob", data)

    def _hash(self, kind: str, data: bytes) -> Oid:
        if kind == "commit":
            with tempfile.NamedTemporaryFile(prefix="arboretum-") as file:
                file.write(data)
                file.flush()
                path = os.fsencode(file.name) + b"\n"
                answer = self.servers(*_WRITE_COMMITS).ask_lines(path, 1)
            if answer is not None:
                return Oid(answer[0].decode())
        done = self.command.output(
            "hash-object", "-t", kind, "-w", "--stdin", "--literally", operation=f"write_{kind}", stdin=data
        )
        return Oid(done.stdout.decode().strip())

    def write_tree(self, entries: Sequence[TreeEntry]) -> Oid:
        """See `ObjectReader`."""
        for entry in entries:
            parse_tree_path(entry.path)
        lines = (b"%06o %s\t%s" % (entry.mode, entry.oid.encode(), os.fsencode(entry.path)) for entry in entries)
        with self.private_index() as env:
            self.command.output(
                "update-index", "-z", "--index-info", operation="write_tree", env=env, stdin=b"".join(
                    line + b"\0" for line in lines
                ),
            )  # fmt: skip
            return self._written_tree(env)

    def _written_tree(self, env: dict[str, str], *, at: tuple[str, str] | None = None) -> Oid:
        done = self.command.output("write-tree", operation="write_tree", env=env, at=at)
        return Oid(done.stdout.decode().strip())

    @contextlib.contextmanager
    def private_index(self) -> Iterator[dict[str, str]]:
        """The variables that give git an index of our own, which is gone afterwards."""
        with scratch_folder(os.path.join(self.common_dir, "arboretum", "tmp")) as folder:
            yield {"GIT_INDEX_FILE": os.path.join(folder, "index")}

    def write_commit(
        self, *, tree: Oid, parents: Sequence[Oid], message: str, author: Signature, committer: Signature
    ) -> Oid:
        """See `ObjectReader`."""
        lines = [f"tree {tree}", *(f"parent {parent}" for parent in parents)]
        lines += [f"author {parsing.format_identity(author)}", f"committer {parsing.format_identity(committer)}"]
        text = "\n".join(lines) + "\n\n" + message
        return self._hash("commit", text.encode("utf-8", "surrogateescape"))

    def diff_trees(self, old: Oid | None, new: Oid, *, renames: bool = True) -> tuple[DiffEntry, ...]:
        """See `ObjectReader`."""
        options = (*_DIFF_TREES, "--find-renames" if renames else "--no-renames")
        trees = [self.objects.find(f"{treeish}^{{tree}}") for treeish in (self._before(old), new)]
        if trees[0] is not None and trees[1] is not None:
            question = f"{trees[0][0]} {trees[1][0]}\n".encode()
            answer = self.servers(*options, "--stdin").ask_until_echo(question)
            if answer is not None and answer.startswith(question):  # it says nothing of trees that it cannot read
                return parsing.parse_raw_diff(answer.removeprefix(question))
        done = self.command.output(*options, "--end-of-options", self._before(old), new, operation="diff_trees")
        return parsing.parse_raw_diff(done.stdout)

    def _before(self, old: Oid | None) -> str:
        return old if old is not None else _EMPTY_TREE[self.sha256]

    def diff_text(self, old: Oid | None, new: Oid) -> bytes:
        """See `ObjectReader`."""
        return self.command.output(
            "diff-tree", "-r", "-p", "--binary", "--full-index", "--no-renames", "--no-color", "--no-ext-diff",
            "--no-textconv", "--submodule=short", "--src-prefix=a/", "--dst-prefix=b/", "--end-of-options",
            self._before(old), new, operation="diff_text",
        ).stdout  # fmt: skip

    def merge_trees(self, ours: Oid, theirs: Oid, *, base: Oid | None = None) -> MergeOutcome:
        """See `ObjectReader`."""
        if base is not None:
            trees = [self._tree(treeish) for treeish in (base, ours, theirs)]
            merged = merge_disjoint(*trees, read=self._entries, write=self._write_entries)
            if merged is not None:
                return MergeOutcome(merged)
            if not self._is_merge_base(base, ours, theirs):
                ours, theirs = self._with_base(ours, theirs, base)
        done = self.command.output(
            "merge-tree", "--write-tree", "-z", "--name-only", "--no-messages", "--allow-unrelated-histories",
            "--end-of-options", ours, theirs, operation="merge_trees", accept=(0, 1),
        )  # fmt: skip
        tree, *paths = parsing.zero_split(done.stdout)
        if done.code == 0:
            return MergeOutcome(Oid(tree.decode()))
        return MergeOutcome(None, tuple(sorted({parsing.text_of(path) for path in paths if path}, key=os.fsencode)))

    def _is_merge_base(self, base: Oid, ours: Oid, theirs: Oid) -> bool:
        """Whether git would take `base`, and no other, by itself. Then it names the sides of a conflict as they are."""
        done = self.command.output("merge-base", "--all", ours, theirs, operation="merge_trees", accept=(0, 1, 128))
        return done.code == 0 and done.stdout.split() == [base.encode()]

    def _with_base(self, ours: Oid, theirs: Oid, base: Oid) -> tuple[Oid, Oid]:
        """Two commits with the same trees and `base` as their only merge base (git 2.40 has an option for it)."""
        root = self._stand_in(base, ())
        return self._stand_in(ours, (root,)), self._stand_in(theirs, (root,))

    def _stand_in(self, treeish: Oid, parents: Sequence[Oid]) -> Oid:
        lines = [f"tree {self._tree(treeish)}".encode(), *(f"parent {parent}".encode() for parent in parents)]
        return self._hash("commit", b"\n".join([*lines, b"author " + _NOBODY, b"committer " + _NOBODY, b"", b""]))

    def _tree(self, treeish: Oid) -> Oid:
        found = self.objects.find(f"{treeish}^{{tree}}")
        if found is None:
            raise ObjectMissingError(f"there is no tree in {treeish}", operation="merge_trees")
        return found[0]

    def _entries(self, tree: Oid) -> Entries:
        found = self.objects.read(tree)
        if found is None or found[0] != "tree":
            raise ObjectMissingError(f"there is no tree {tree}", operation="merge_trees")
        return parse_tree(found[1], sha256=self.sha256)

    def _write_entries(self, entries: Entries) -> Oid:
        kinds = {b"40000": b"tree", b"160000": b"commit"}
        lines = [
            b"%s %s %s\t%s\0" % (mode, kinds.get(mode, b"blob"), hexlify(oid), name)
            for name, (mode, oid) in entries.items()
        ]
        question = b"".join(lines) + b"\0"
        answer = self.servers("mktree", "-z", "--missing", "--batch").ask_lines(question, 1)
        if answer is None:
            answer = [
                self.command.output(
                    "mktree", "-z", "--missing", "--batch", operation="write_tree", stdin=question
                ).stdout
            ]
        return Oid(answer[0].decode().strip())

    def apply_to_tree(self, tree: Oid, patch: bytes) -> Oid:
        """See `ObjectReader`."""
        with self.private_index() as env:
            self.command.output("read-tree", tree, operation="apply_to_tree", env=env)
            self.apply_patch(patch, "--cached", operation="apply_to_tree", env=env)
            return self._written_tree(env)

    def apply_patch(
        self, patch: bytes, *options: str, operation: str, at: tuple[str, str] | None = None,
        env: dict[str, str] | None = None,
    ) -> None:  # fmt: skip
        """Let git apply a patch. Raises PatchFailedError with the paths that git names."""
        if not patch.strip():
            raise PatchFailedError("the patch is empty", operation=operation)
        try:
            self.command.output(
                "apply", "--binary", "--whitespace=nowarn", *options, "-", operation=operation, at=at, env=env,
                stdin=patch,
            )  # fmt: skip
        except (GitPermissionError, RepositoryBusyError):
            raise
        except GitOperationError as error:
            paths = tuple(dict.fromkeys(_FAILED_PATH.findall(error.message)))
            raise PatchFailedError(error.message, paths=paths, operation=operation, hint=error.hint) from error
