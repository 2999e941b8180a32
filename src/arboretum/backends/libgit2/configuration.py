"""Configuration through libgit2, from the files that git would read in this environment."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Mapping, Sequence
from typing import Final, Self

import pygit2
from attrs import frozen
from pygit2.enums import ConfigLevel

from arboretum.backends.libgit2.native import configured
from arboretum.errors import ConfigKeyError

# git-config(1): "only alphanumeric characters and -", a variable starts with a letter; a subsection is free.
_KEY: Final = re.compile(r"[A-Za-z0-9-]+\.(?:[^\n\x00]*\.)?[A-Za-z][A-Za-z0-9-]*\Z", re.DOTALL)
_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_SEARCH_PATH_LOCK: Final = threading.Lock()


def follow_environment() -> None:
    """Point libgit2 at the configuration files that the environment names now.

    libgit2 looks HOME up once, when it is loaded, for the whole process. So that a changed HOME,
    ``XDG_CONFIG_HOME``, ``GIT_CONFIG_GLOBAL`` or ``GIT_CONFIG_NOSYSTEM`` is seen, its search paths are
    brought up to date before a repository is opened, and only when they differ.
    """
    home = os.environ.get("HOME", "")
    global_file = os.environ.get("GIT_CONFIG_GLOBAL")
    xdg = os.environ.get("XDG_CONFIG_HOME") or os.path.join(home, ".config")
    if global_file is None:
        wanted = {ConfigLevel.GLOBAL: home, ConfigLevel.XDG: os.path.join(xdg, "git")}
    else:
        folder, name = os.path.split(global_file)
        wanted = {ConfigLevel.GLOBAL: folder if name == ".gitconfig" else "", ConfigLevel.XDG: ""}
    wanted[ConfigLevel.SYSTEM] = "" if _is_true(os.environ.get("GIT_CONFIG_NOSYSTEM", "")) else "/etc"
    with _SEARCH_PATH_LOCK:
        for level, path in wanted.items():
            if pygit2.settings.search_path[level] != path:
                pygit2.settings.search_path[level] = path


def _is_true(text: str) -> bool:
    return text.lower() in _TRUE


def check_key(key: str) -> str:
    """The key, if it is one by git's rules. Raises ConfigKeyError."""
    if not _KEY.match(key):
        raise ConfigKeyError(
            f"{key!r} is not a configuration key", hint="keys look like section.name or section.sub section.name"
        )
    return key


@frozen
class Settings:
    """The configuration of a repository as it was at one moment.

    ``GIT_CONFIG_COUNT`` and its kin belong to one git command and are not looked at, on any backend.

    Args:
        repository: The handle that read it.
        values: The values of each key, those that win last; None for a name without a value.
    """

    repository: pygit2.Repository
    values: Mapping[str, Sequence[str | None]]

    @classmethod
    def of(cls, repository: pygit2.Repository) -> Self:
        """The configuration now."""
        found: dict[str, list[str | None]] = {}
        for key, value in configured(repository):
            found.setdefault(os.fsdecode(key), []).append(None if value is None else os.fsdecode(value))
        return cls(repository, found)

    def all(self, key: str) -> tuple[str, ...]:
        """All values of `key`, those that win last. Raises ConfigKeyError."""
        found = [value or "" for value in self.values.get(_plain(check_key(key)), ())]
        return (*_global_file_values(key), *found)

    def last(self, key: str) -> str | None:
        """The value of `key` that wins; None where there is none."""
        found = self.values.get(_plain(key), ())
        return (found[-1] or "") if found else None

    def flag(self, key: str) -> bool:
        """Whether the last value of `key` is a true one; an unset key is not."""
        found = self.values.get(_plain(key), ())
        return bool(found) and (found[-1] is None or _is_true(found[-1]))


def _plain(key: str) -> str:
    """The key as libgit2 tells it: section and name in small letters, a subsection as it is."""
    section, _, rest = key.partition(".")
    subsection, dot, name = rest.rpartition(".")
    return f"{section.lower()}.{subsection}{dot}{name.lower()}"


def _global_file_values(key: str) -> list[str]:
    """The values in a ``GIT_CONFIG_GLOBAL`` file whose name libgit2 cannot be pointed at."""
    path = os.environ.get("GIT_CONFIG_GLOBAL", "")
    if not path or os.path.basename(path) == ".gitconfig" or not os.path.isfile(path):
        return []
    return [value or "" for value in pygit2.Config(path).get_multivar(key)]


def write_value(common_dir: str, key: str, value: str | None) -> None:
    """Give `key` this one value in the repository's own file; None removes it, which may have been done already."""
    if value is not None and "\x00" in value:
        raise ConfigKeyError(f"the value of {key} has a NUL")
    file = pygit2.Config(os.path.join(common_dir, "config"))
    present = len(list(file.get_multivar(check_key(key))))
    if present > 1 or (present and value is None):
        file.delete_multivar(key, ".*")
    if value is not None:
        file[key] = value  # set_multivar, which would do both, does not escape quotation marks
