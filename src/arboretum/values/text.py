"""Text of git, which need not be Unicode, in JSON, which has to be."""

from __future__ import annotations

from typing import Any


def jsonable(value: Any) -> Any:
    r"""Text that JSON can carry: surrogate escapes become ``\xNN``, so that no writer ever fails on a path."""
    if isinstance(value, str) and not value.isascii():
        try:
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        except UnicodeEncodeError:  # a surrogate that stands for no byte
            return value.encode("utf-8", "backslashreplace").decode("utf-8")
    return value
