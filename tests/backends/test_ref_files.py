"""Refs read from git's files, with real git as the oracle."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum.backends.ref_files import RefFiles
from arboretum.testing.builders import RepositoryBuilder
from arboretum.testing.strategies import branch_names
from arboretum.values import Oid, RefName

NAMES = st.one_of(st.sampled_from(["main", "topic", "refs/heads/topic", "heads/topic", "a/b", "a"]), branch_names())


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from(["set", "delete", "pack"]), NAMES, st.booleans()), max_size=10))
def test_a_ref_is_what_git_says_it_is(real: RepositoryBuilder, steps: list[tuple[str, str, bool]]) -> None:
    """After any changes and packings every ref, and every name that only looks like one, reads as git shows it."""
    refs = RefFiles(real.git_dir)
    tips = real.git("rev-list", "main").split()
    for step, name, first in steps:
        full = RefName.branch(name)
        if step == "pack":
            real.git("pack-refs", "--all", *(["--prune"] if first else ["--no-prune"]))
        elif step == "set" and full != "refs/heads/main" and not _collides(real, full):
            real.git("update-ref", "--", full, tips[first])
        elif step == "delete" and full != "refs/heads/main" and shown(real, full) is not None:
            real.git("update-ref", "-d", "--", full)
        for asked in {full, RefName.branch(f"refs/heads/{name}"), RefName("refs/heads/main"), RefName("HEAD")}:
            assert refs.find(asked) == shown(real, asked)


def _collides(real: RepositoryBuilder, name: str) -> bool:
    others = real.git("for-each-ref", "--format=%(refname)").split("\n")
    return any(other.startswith(f"{name}/") or name.startswith(f"{other}/") for other in others)


def shown(real: RepositoryBuilder, name: str) -> str | None:
    """The object of exactly this ref (``rev-parse`` would also try other names)."""
    if name == "HEAD":
        return real.git("rev-parse", "HEAD")
    lines = real.git("for-each-ref", "--format=%(objectname) %(refname)").split("\n")
    return next((line.split(" ", 1)[0] for line in lines if line.split(" ", 1)[1] == name), None)


def test_each_worktree_has_its_own_head_and_private_refs(real: RepositoryBuilder, tmp_path: Path) -> None:
    """HEAD and refs/worktree/ are looked up in the git directory of the worktree, branches in the common one."""
    place = str(tmp_path / "w")
    real.git("worktree", "add", "-q", "--detach", place, "HEAD~1")
    real.git("update-ref", "refs/worktree/mine", "HEAD", cwd=place)
    refs, own = RefFiles(real.git_dir), f"{real.git_dir}/worktrees/w"
    assert refs.find("HEAD", git_dir=own) == real.git("rev-parse", "main~1")
    assert refs.find("HEAD") == refs.find("refs/heads/main", git_dir=own) == real.git("rev-parse", "main")
    assert refs.find("refs/worktree/mine", git_dir=own) == real.git("rev-parse", "main~1")
    assert refs.find("refs/worktree/mine") is None


def test_symbolic_refs_are_followed_but_not_for_ever(real: RepositoryBuilder) -> None:
    """A ref that names another is told and followed; a ring of them is no ref."""
    real.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    for one, other in (("a", "b"), ("b", "a")):
        Path(real.git_dir, "refs/heads", one).write_text(f"ref: refs/heads/{other}\n")
    refs = RefFiles(real.git_dir)
    assert refs.read("refs/heads/alias") == RefName("refs/heads/main")
    assert refs.find("refs/heads/alias") == real.git("rev-parse", "main")
    assert refs.find("refs/heads/a") is None
    assert refs.find("refs/heads/alias/deeper") is None


@pytest.mark.parametrize("content", [b"", b"\n", b"nonsense\n", b"\xff\xfe\n", b"ref: \n", b"ref: ../../etc\n"])
def test_a_damaged_ref_is_none(real: RepositoryBuilder, content: bytes) -> None:
    """What stands in a ref file and is no ref is not taken for one, and nothing outside is read."""
    Path(real.git_dir, "refs/heads/bad").write_bytes(content)
    assert RefFiles(real.git_dir).find("refs/heads/bad") is None


def test_packed_refs_are_found_among_comments_and_peeled_lines(tmp_path: Path) -> None:
    """Only a line with an id in front of the whole name is the ref; the lines of tags and headers are not."""
    one, two = Oid("1" * 40), Oid("2" * 40)
    (tmp_path / "packed-refs").write_text(
        f"# pack-refs with: peeled fully-peeled sorted refs/heads/x\n{one} refs/heads/y refs/heads/x\n"
        f"{one} refs/tags/t\n^{two}\n{two} refs/heads/x\n"
    )
    refs = RefFiles(str(tmp_path))
    assert refs.find("refs/heads/x") == two
    assert refs.find("refs/tags/t") == one
    assert refs.find("refs/heads/y") is None
    assert refs.find("heads/x") is None
