"""What lies in a worktree: tracked, untracked and ignored files, by git's ignore rules."""

from __future__ import annotations

from collections.abc import Collection, Iterator

import pathspec
from attrs import define, field

from arboretum.backends.memory.disk import Disk

_Rules = tuple[tuple[str, pathspec.GitIgnoreSpec], ...]


@define(eq=False)
class Survey:
    """The files of a worktree by kind, full paths; folders end in ``/``.

    Args:
        disk: Where the worktree is.
        root: Its path.
        tracked: The paths of its index.
        modules: Those of them that are submodules.
        exclude: The repository's own ignore rules (``info/exclude``).
    """

    disk: Disk
    root: str
    tracked: Collection[str]
    modules: Collection[str] = ()
    exclude: bytes = b""
    present: set[str] = field(factory=set, init=False)
    untracked: list[str] = field(factory=list, init=False)
    ignored: list[str] = field(factory=list, init=False)
    _folders: set[str] = field(factory=set, init=False)

    def run(self) -> Survey:
        """Walk the worktree once; then `present` (tracked files that are there), `untracked` and `ignored` tell."""
        for path in self.tracked:
            self._folders.update(_parents(path))
        self._walk("", (("", _spec(self.exclude)),), ignored=False)
        return self

    def _walk(self, prefix: str, rules: _Rules, *, ignored: bool) -> None:
        own = self.disk.read(f"{self.root}/{prefix}.gitignore")
        if own is not None:
            rules = (*rules, (prefix, _spec(own.data)))
        for name in self.disk.names(f"{self.root}/{prefix}"):
            path = prefix + name
            if name == ".git" and not prefix:
                continue
            if self.disk.is_folder(f"{self.root}/{path}"):
                self._folder(path, rules, ignored=ignored or _matches(rules, f"{path}/"))
            elif path in self.tracked:
                self.present.add(path)
            elif ignored or _matches(rules, path):
                self.ignored.append(path)
            else:
                self.untracked.append(path)

    def _folder(self, path: str, rules: _Rules, *, ignored: bool) -> None:
        if path in self.modules:
            self.present.add(path)
        elif f"{path}/" in self._folders:
            self._walk(f"{path}/", rules, ignored=ignored)
        elif ignored:
            self.ignored.append(f"{path}/")
        elif self.disk.names(f"{self.root}/{path}/.git") or self.disk.is_file(f"{self.root}/{path}/.git"):
            self.untracked.append(f"{path}/")  # a repository of its own
        else:
            self._walk(f"{path}/", rules, ignored=False)


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield f"{path}/"


def _spec(rules: bytes) -> pathspec.GitIgnoreSpec:
    text = rules.decode("utf-8", "surrogateescape")
    return pathspec.GitIgnoreSpec.from_lines(text.removeprefix("\ufeff").split("\n"))


def _matches(rules: _Rules, path: str) -> bool:
    """Whether the rules ignore the path: the deepest file that says something decides."""
    for prefix, spec in reversed(rules):
        include = spec.check_file(path[len(prefix) :]).include
        if include is not None:
            return include
    return False
