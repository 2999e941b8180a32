"""After random programs through each real backend, real git agrees, and can carry on from there."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from arboretum.backends import parsing
from arboretum.backends.memory import MemoryBackend
from arboretum.testing.builders import hermetic_environment
from arboretum.testing.machine import BackendMachine, check_against_model, state_machine
from arboretum.testing.maker import BackendMaker
from arboretum.values import WorktreeInfo
from tests.conformance.makers import make

EXAMPLES = int(20 * float(os.environ.get("ARBORETUM_TEST_SCALE", "1")))


def git(cwd: str, *arguments: str) -> bytes:
    """What git says, with no configuration but the repository's."""
    done = subprocess.run(
        ["git", *arguments], cwd=cwd, env=hermetic_environment("/nonexistent"), capture_output=True, check=False
    )
    assert done.returncode == 0, (arguments, done.stderr)
    return done.stdout


class OracleMachine(BackendMachine):
    """The state machine, with real git asked when a program has ended."""

    def finish(self) -> None:
        backend, root = self.ours.backend, self.ours.root
        git(root, "fsck", "--strict", "--no-dangling")
        refs = os.fsdecode(git(root, "for-each-ref", "--format=%(objectname) %(refname)")).splitlines()
        assert [f"{ref.oid} {ref.name}" for ref in backend.list_refs()] == refs
        stashes = git(root, "log", "-g", "--format=%H", "refs/stash") if backend.stash_list() else b""
        assert [s.oid for s in backend.stash_list()] == stashes.decode().split()
        listed = self.worktrees_by_git(root)
        for info in backend.list_worktrees():
            assert listed.pop(info.path)[0] == (info.head or "0" * 40, info.branch, info.locked, bool(info.prunable))
            if not info.prunable and os.path.isdir(info.path) and not self.is_replaced(info):
                self.look_into(info)
        assert listed == {}

    def is_replaced(self, info: WorktreeInfo) -> bool:
        """Whether the folder at the path of a record is another worktree by now."""
        link = Path(info.path, ".git")
        return link.is_file() and not link.read_text().endswith(f"/{info.name}\n")

    def worktrees_by_git(self, root: str) -> dict[str, list[tuple[object, ...]]]:
        """``git worktree list`` by path; two records may claim one."""
        found: dict[str, list[tuple[object, ...]]] = {}
        for record in git(root, "worktree", "list", "--porcelain", "-z").split(b"\0\0"):
            fields = dict(os.fsdecode(line).partition(" ")[::2] for line in record.strip(b"\0").split(b"\0") if line)
            if fields:
                value = (fields.get("HEAD"), fields.get("branch"), fields.get("locked"), "prunable" in fields)
                found.setdefault(fields["worktree"], []).append(value)
        return found

    def look_into(self, info: WorktreeInfo) -> None:
        """One worktree: status, index entries, the reflog of its HEAD; and git can commit there."""
        path = info.path
        status = parsing.parse_status(
            git(path, "status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignored=matching", "--no-renames")
        )
        assert self.ours.backend.status(path, ignored=True) == status
        model = self.model.backend
        assert isinstance(model, MemoryBackend)
        entries = {}
        for line in filter(None, git(path, "ls-files", "-s", "-z").split(b"\0")):
            facts, _, name = line.partition(b"\t")
            mode, oid, stage = facts.decode().split()
            assert stage == "0"
            entries[os.fsdecode(name)] = (int(mode, 8), oid)
        assert entries == {name: (int(mode), oid) for name, (mode, oid) in model.state.record(path).index.items()}
        if info.head is not None:
            assert git(path, "reflog", "-1", "--format=%H", "HEAD", "--").decode().strip() in {info.head, ""}
        git(path, "-c", "user.name=x", "-c", "user.email=x", "commit", "--allow-empty", "-qm", "git carries on")


def oracle_machine(maker: BackendMaker) -> type[BackendMachine]:
    """The state machine of a maker with the oracle behind it."""
    made = state_machine(maker)
    return type(made.__name__, (OracleMachine, made), {})


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cli", "gitpython", "pygit2"])
def test_real_git_agrees_after_random_programs(name: str, tmp_path: Path) -> None:
    """fsck, status, worktree list, refs, stashes, reflogs and index entries are what git itself says they are."""
    check_against_model(make(name, tmp_path), examples=EXAMPLES, number=7, machine=oracle_machine)
