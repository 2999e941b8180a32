"""One suite, four backends: every check of the kit, on each."""

from __future__ import annotations

from pathlib import Path

import pytest

from arboretum.testing.conformance import CHECKS, Check
from tests.conformance.makers import BACKENDS, make


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.name)
@pytest.mark.parametrize("name", BACKENDS)
def test_conformance(name: str, check: Check, tmp_path: Path) -> None:
    """Each backend follows each rule of the conformance suite that its capabilities call for."""
    check(make(name, tmp_path))
