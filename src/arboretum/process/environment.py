"""The environment of a command: what is inherited, what may never be, and the tag by which its tree is known."""

from __future__ import annotations

import os
from typing import Final

from arboretum.process.model import CommandRequest

#: What ``git rev-parse --local-env-vars`` prints: these bind a process to one repository, so a command that
#: runs in another worktree must not inherit them (a hook does export GIT_DIR). All other ``GIT_*`` stay:
#: GIT_SSL_CAINFO, GIT_SSH_COMMAND and the identity are the user's settings, not a place.
LOCAL_GIT_VARIABLES: Final = frozenset(
    {
        b"GIT_ALTERNATE_OBJECT_DIRECTORIES",
        b"GIT_COMMON_DIR",
        b"GIT_CONFIG",
        b"GIT_CONFIG_COUNT",
        b"GIT_CONFIG_PARAMETERS",
        b"GIT_DIR",
        b"GIT_GRAFT_FILE",
        b"GIT_IMPLICIT_WORK_TREE",
        b"GIT_INDEX_FILE",
        b"GIT_INTERNAL_SUPER_PREFIX",
        b"GIT_NO_REPLACE_OBJECTS",
        b"GIT_OBJECT_DIRECTORY",
        b"GIT_PREFIX",
        b"GIT_REPLACE_REF_BASE",
        b"GIT_SHALLOW_FILE",
        b"GIT_WORK_TREE",
    }
)

#: Carries the ids of the commands that a process descends from, outermost first: ``:1f2e3d4c.1:99aabbcc.7:``.
TAG_VARIABLE: Final = b"ARBORETUM_COMMAND_ID"


def child_environment(request: CommandRequest, tag: str, *, streaming: bool) -> dict[bytes, bytes]:
    """The environment of the command.

    Args:
        request: The command.
        tag: The id of the command; it is added to those of the commands that this process itself descends from.
        streaming: Whether somebody reads lines as they come; then Python children are told not to buffer.

    Raises:
        ValueError: A name is empty or has a ``=``, or a NUL is somewhere.
        TypeError: A value is no text.
    """
    env = _inherited() if request.inherit_env else {}
    for local in LOCAL_GIT_VARIABLES.intersection(env):
        del env[local]
    if streaming:
        env.setdefault(b"PYTHONUNBUFFERED", b"1")
    for name, value in request.env.items():
        key = os.fsencode(name)
        if not key or b"=" in key or b"\0" in key:
            raise ValueError(f"{name!r} is not a name of an environment variable")
        if value is None:
            env.pop(key, None)
        else:
            env[key] = os.fsencode(value)
    env[TAG_VARIABLE] = os.environb.get(TAG_VARIABLE, b":") + tag.encode() + b":"
    return env


def _inherited() -> dict[bytes, bytes]:
    # The mapping checks and converts each key and value, which takes as long as a tenth of a short command;
    # what is behind it is a plain dict of bytes already.
    data = getattr(os.environ, "_data", None)
    return dict(data) if isinstance(data, dict) else dict(os.environb)
