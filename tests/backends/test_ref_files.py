"""Refs read from git's files, with real git as the oracle."""

from __future__ import annotations

import os
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
        for prefix in ("refs/", "refs/heads/", "refs/heads/a", "refs/heads/a/", f"{full}", f"{full}/"):
            assert listed(refs, prefix) == [ref for ref in all_of(real) if ref[0].startswith(prefix)]


def all_of(real: RepositoryBuilder, cwd: str | None = None) -> list[tuple[str, str, str | None]]:
    """What git lists, in its order."""
    form = "--format=%(refname)%00%(objectname)%00%(symref)"
    lines = real.git("for-each-ref", form, cwd=cwd).split("\n")
    return [(name, oid, target or None) for name, oid, target in (line.split("\0") for line in lines if line)]


def listed(refs: RefFiles, prefix: str = "refs/", git_dir: str | None = None) -> list[tuple[str, str, str | None]]:
    """What we list, in that order."""
    found = [(str(ref.name), str(ref.oid), ref.target and str(ref.target)) for ref in refs.all(prefix, git_dir=git_dir)]
    return sorted(found, key=lambda ref: os.fsencode(ref[0]))


def test_a_list_of_refs_is_gits(real: RepositoryBuilder, tmp_path: Path) -> None:
    """Symbolic, linked, damaged and dangling refs, rings, locks, odd names, missing objects, refs of one worktree."""
    place, one = str(tmp_path / "w"), real.git("rev-parse", "main~1")
    real.git("worktree", "add", "-q", "--detach", place)
    real.git("symbolic-ref", "refs/heads/alias", "refs/heads/main")
    real.git("symbolic-ref", "refs/heads/dangling", "refs/heads/nothing")
    for name, at in (("mine", None), ("its", place)):
        real.git("update-ref", f"refs/worktree/{name}", one, cwd=at)
        real.git("update-ref", f"refs/bisect/{name}", one, cwd=at)
    for name in ("heads/packed", "tags/t", "heads/hidden", "heads/f\u00f6/\u00e4"):
        real.git("update-ref", f"refs/{name}", one)
    real.git("tag", "-a", "-m", "why", "annotated")
    real.git("pack-refs", "--all")
    heads = Path(real.git_dir, "refs/heads")
    heads.mkdir(exist_ok=True)
    for name, text in (
        ("a", "ref: refs/heads/b\n"), ("b", "ref: refs/heads/a\n"), ("hidden", "nonsense\n"), ("x.lock", f"{one}\n"),
        ("missing", "1" * 40 + "\n"), ("null", "0" * 40 + "\n"), ("bad..name", f"{one}\n"), ("empty", ""),
    ):  # fmt: skip
        (heads / name).write_text(text)
    (heads / "folder").mkdir()
    (heads / "link").symlink_to(Path(real.git_dir, "refs/bisect"))
    refs = RefFiles(real.git_dir)
    assert listed(refs) == all_of(real)
    assert listed(refs, git_dir=f"{real.git_dir}/worktrees/w") == all_of(real, place)
    assert [name for name, _, _ in listed(refs, "refs/bisect/")] == ["refs/bisect/mine"]
    for hostile in ("/", "refs/../refs/", "refs//heads/", "refs/./heads/", "nul\0", "refs/he\0ads/", "../"):
        assert listed(refs, hostile) == []
    assert listed(refs, "r") == listed(refs, "") == listed(refs)


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
