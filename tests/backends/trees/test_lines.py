"""Merges of lines against git merge-file."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum.backends.trees.lines import merge_lines
from arboretum.testing import strategies as gits


@settings(
    deadline=None, max_examples=int(60 * float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))), derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)  # fmt: skip
@given(data=st.data(), base=gits.lines(), alphabet=st.sampled_from(["ABCDEFGHIJKLMNOPQRSTUVWXYZ", "abc"]))
def test_line_merges_agree_with_git(tmp_path: Path, data: st.DataObject, base: bytes, alphabet: str) -> None:
    """A three-way merge of lines is clean where git's is, and gives the same text."""
    ours, theirs = (data.draw(gits.edited(base, alphabet=alphabet)) for _ in range(2))
    names = []
    for name, text in (("ours", ours), ("base", base), ("theirs", theirs)):
        (tmp_path / name).write_bytes(text)
        names.append(str(tmp_path / name))
    done = subprocess.run(["git", "merge-file", "-p", *names], capture_output=True, check=False)
    merged = merge_lines(base, ours, theirs)
    assert (not merged.conflict) == (done.returncode == 0)
    if not merged.conflict:
        assert merged.data == done.stdout
