"""The fixture of twelve tasks: a repository for it, and the end that it has to have."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from arboretum.orchestration.board import Board
from arboretum.orchestration.states import TaskState
from arboretum.repository import Repository
from arboretum.testing.builders import CommitSpec, RepositoryBuilder

FIXTURE = Path(__file__).parents[2] / "fixtures" / "orchestration"
TASKS = FIXTURE / "twelve-tasks.toml"

ENDS = {
    "api": TaskState.MERGED,
    "left": TaskState.MERGED,
    "right": TaskState.MERGED,
    "join": TaskState.MERGED,
    "overlap-one": TaskState.MERGED,
    "overlap-two": TaskState.MERGED,
    "breaks-scope": TaskState.OUT_OF_SCOPE,
    "rename": TaskState.MERGED,
    "old-caller": TaskState.BREAKS_VERIFY,
    "clash": TaskState.CONFLICT,
    "flaky": TaskState.MERGED,
    "hangs": TaskState.TIMED_OUT,
}
#: What the integration branch has to hold, besides what the base holds unchanged.
CHANGED = {
    "CHANGELOG.md": "# Changes\n\n- first (api)\n",
    "core/name.txt": "NAME=new\n",
    "lib/common.txt": "common\none\ntwo\n",
    "lib/new.txt": "new\n",
    "src/api.txt": "api\n",
    "src/flaky.txt": "attempt 3\n",
    "src/join.txt": "left\nright\n",
    "src/left.txt": "left\n",
    "src/right.txt": "right\n",
    "uses/one.txt": "new\n",
}
#: What the branches of the tasks that did not make it have to hold.
KEPT_ON_BRANCH = {
    "breaks-scope": {"docs/guide.md": "# Guide\nbetter\n", "src/secret.txt": "changed\n"},
    "old-caller": {"uses/two.txt": "old\n"},
    "clash": {"src/clash.txt": "clash\n", "CHANGELOG.md": "# Changes\n\n- first (clash)\n"},
}


def base_files() -> dict[str, str]:
    folder = FIXTURE / "base"
    return {str(p.relative_to(folder)): p.read_text() for p in sorted(folder.rglob("*")) if p.is_file()}


def build(path: Path) -> RepositoryBuilder:
    builder = RepositoryBuilder.init(str(path))
    builder.commits([CommitSpec(files={name: text.encode() for name, text in base_files().items()})])
    return builder


def files_of(repository: Repository, revision: str) -> dict[str, str]:
    backend = repository.backend
    return {e.path: backend.read_blob(e.oid).decode() for e in backend.read_tree(repository.resolve(revision))}


def check_end(builder: RepositoryBuilder, repository: Repository, board: Board) -> None:
    """The right end for each task, exactly the good work on the integration branch, nothing of the others lost."""
    assert {name: record.state for name, record in board.records.items()} == ENDS
    assert files_of(repository, board.integration) == base_files() | CHANGED
    assert repository.resolve(board.integration) == board.tip
    with repository.worktrees.temporary(board.integration, detach=True) as tree:
        assert subprocess.run(["sh", "check.sh"], cwd=tree.path, check=False).returncode == 0
    records = board.records
    assert records["old-caller"].others == ("rename",)
    assert records["clash"].others == ("api",)
    assert records["clash"].files == ("CHANGELOG.md",)
    assert records["breaks-scope"].files == ("src/secret.txt",)
    assert records["flaky"].attempts == 3
    for name, files in KEPT_ON_BRANCH.items():
        branch = f"arboretum/{board.run}/{name}"
        assert files.items() <= files_of(repository, branch).items()
        assert repository.worktrees.get(records[name].path).branch == branch
    assert Path(records["hangs"].path, "src/half.txt").read_text() == "half\n"
    # The user's own branch and files are as they were, and git finds nothing odd.
    assert builder.git("status", "--porcelain") == ""
    assert files_of(repository, "main") == base_files()
    builder.git("fsck", "--strict", "--no-dangling")
    left = {branch.name for branch in repository.branches if branch.name.startswith("arboretum/")}
    assert left == {f"arboretum/{board.run}/{n}" for n in [*KEPT_ON_BRANCH, "hangs", "integration"]}


def no_process_in(folder: Path) -> list[str]:
    """The processes whose current directory is below `folder`."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                cwd = os.readlink(f"/proc/{entry}/cwd")
            except OSError:
                continue
            if cwd.startswith(str(folder)):
                found.append(f"{entry} {cwd}")
    return found
