"""Worktrees that stand clean, and new ones without files, made by git."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hypothesis import settings

from arboretum.testing.builders import RepositoryBuilder
from arboretum.values import Oid
from arboretum.worktree_files.model import Sibling, Target

SCALE = float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))
settings.register_profile("copies", deadline=None, max_examples=int(25 * SCALE) or 1)
settings.load_profile("copies")


def admin_of(tree: Path) -> str:
    return os.path.realpath((tree / ".git").read_text().removeprefix("gitdir: ").strip())


def warm(builder: RepositoryBuilder, tree: Path, *, index_version: int = 2) -> Sibling:
    """A worktree that git has checked out."""
    builder.git("-c", f"index.version={index_version}", "worktree", "add", "-q", "--detach", str(tree))
    return sibling_of(builder, tree)


def sibling_of(builder: RepositoryBuilder, tree: Path) -> Sibling:
    index = Path(admin_of(tree), "index")
    commit = Oid(builder.git("rev-parse", "HEAD", cwd=str(tree)))
    return Sibling(path=str(tree), index=index.read_bytes(), settled=index.stat().st_mtime_ns, commit=commit)


def empty(builder: RepositoryBuilder, tree: Path, *, sha256: bool = False) -> Target:
    builder.git("worktree", "add", "-q", "--detach", "--no-checkout", str(tree))
    return Target(path=str(tree), admin=admin_of(tree), sha256=sha256)


def portrait(tree: Path) -> dict[bytes, tuple[int, bytes]]:
    """Everything in a worktree but ``.git``: rights and content by name; folders without content."""
    found: dict[bytes, tuple[int, bytes]] = {}
    root = os.fsencode(tree)
    for folder, folders, names in os.walk(root):
        if folder == root and b".git" in folders:
            folders.remove(b".git")
        for name in [*folders, *names]:
            path = os.path.join(folder, name)
            if path == root + b"/.git":
                continue
            mode = os.lstat(path).st_mode
            if stat.S_ISLNK(mode):
                content = os.readlink(path)
            else:
                content = Path(os.fsdecode(path)).read_bytes() if stat.S_ISREG(mode) else b""
            found[path[len(root) :]] = (mode, content)
    return found


def entries(builder: RepositoryBuilder, tree: Path) -> bytes:
    """What the index says without stat data."""
    return builder.git_bytes("ls-files", "-z", "--stage", "-v", cwd=str(tree))


def is_fresh(builder: RepositoryBuilder, tree: Path) -> bool:
    """Whether git, asked not to look into files, finds no entry that differs from its file's stat data."""
    return builder.git_bytes("diff-files", "-z", cwd=str(tree)) == b""
