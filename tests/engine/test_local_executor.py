"""The local executor: the protocol's conformance checks, and what is its own."""

from __future__ import annotations

import pytest

from arboretum.engine.local_executor import LocalExecutor
from arboretum.testing.executor_checks import EXECUTOR_CHECKS, run_executor_check


@pytest.mark.parametrize("check", EXECUTOR_CHECKS, ids=lambda check: check.__name__.removeprefix("check_"))
def test_conformance(check, tmp_path):
    """The local executor passes every check of the executor protocol."""
    run_executor_check(check, lambda repository: LocalExecutor.open(repository, jobs=3), tmp_path)
