"""Let pytest explain the plain assertions of the conformance checks."""

from __future__ import annotations

import pytest

pytest.register_assert_rewrite("arboretum.testing")
