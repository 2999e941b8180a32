"""The seam at which tests make a process die or a disk fill up: a call before every step that does I/O."""

from __future__ import annotations

from collections.abc import Callable

#: Called with the name of a step (``"store.commit"``) just before it is taken. It may raise, or never return.
Step = Callable[[str], None]


def no_step(_name: str) -> None:
    """Take no notice: what every production object is made with."""
