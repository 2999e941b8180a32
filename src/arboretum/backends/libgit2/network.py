"""Clone and fetch through libgit2: local paths, ``file://``, ``http(s)://``, ``git://`` and ``ssh://``."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from typing import Final

import pygit2
from pygit2.enums import FetchPrune

from arboretum.backends.libgit2.configuration import follow_environment
from arboretum.backends.libgit2.faults import operation, translated
from arboretum.backends.libgit2.session import Session
from arboretum.errors import InvalidValueError, PathOccupiedError, RemoteError

#: ``<transport>::<address>`` runs a helper program in git (git-remote-<transport>); libgit2 has none.
_HELPER: Final = re.compile(r"[A-Za-z0-9_.+-]+::")


def check_url(url: str) -> str:
    """The URL or path, if it can be one. Raises InvalidValueError, RemoteError."""
    if not url or url.startswith("-") or "\x00" in url or "\n" in url:
        raise InvalidValueError(f"{url!r} is no URL and no path of a repository")
    if _HELPER.match(url):
        raise RemoteError(f"{url!r} names a remote helper, and libgit2 runs none", hint='use backend="cli"')
    return url


def clone_into(url: str, path: str, *, bare: bool) -> None:
    """Clone `url` to `path`; after a failure nothing is left there.

    Raises:
        PathOccupiedError: `path` is there and is not an empty folder.
        RemoteError: The other side cannot be reached or refuses.
    """
    check_url(url)
    follow_environment()
    was_there = os.path.isdir(path)
    if os.path.lexists(path) and (not was_there or os.listdir(path)):
        raise PathOccupiedError(f"{path} exists and is not an empty folder")
    source = os.path.abspath(url) if os.path.isdir(url) else url
    try:
        with translated("clone", subject=url, otherwise=RemoteError):
            os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
            if bare:
                _mirror_branches(source, path)
            else:
                pygit2.clone_repository(source, path)
    except BaseException:
        if not was_there:
            shutil.rmtree(path, ignore_errors=True)
        raise


def _mirror_branches(url: str, path: str) -> None:
    """Clone without files: branches and tags under their own names, as git has them, and not as a remote's."""
    repository = pygit2.init_repository(path, bare=True)
    repository.config["remote.origin.url"] = url
    remote = repository.remotes.create_anonymous(url)
    head = next((head for head in remote.list_heads() if head.name == "HEAD"), None)
    remote.fetch(["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"])
    if head is not None and head.symref_target:
        repository.create_reference_symbolic("HEAD", head.symref_target, True)
    elif head is not None:
        repository.create_reference_direct("HEAD", head.oid, True)


class Network(Session):
    """Fetching."""

    @operation
    def fetch(self, remote: str, refspecs: Sequence[str] = (), *, prune: bool = False) -> None:
        repository = self.handles.main()
        check_url(remote)
        for refspec in refspecs:
            if not refspec or refspec.startswith("-") or "\n" in refspec or "\x00" in refspec:
                raise InvalidValueError(f"{refspec!r} is not a refspec")
        with translated("fetch", subject=remote, otherwise=RemoteError):
            source = self._remote(repository, remote)
            self._refuse_absent(source, refspecs)
            source.fetch(list(refspecs) or None, prune=FetchPrune.PRUNE if prune else FetchPrune.NO_PRUNE)

    @staticmethod
    def _refuse_absent(source: pygit2.Remote, refspecs: Sequence[str]) -> None:
        """Raise RemoteError when the remote lacks a ref that is asked for by name: libgit2 passes over it."""
        wanted = [refspec.lstrip("+").partition(":")[0] for refspec in refspecs]
        named = [name for name in wanted if name and "*" not in name and not re.fullmatch(r"[0-9a-f]{40}", name)]
        if not named:
            return
        there = {head.name for head in source.list_heads()}
        for name in named:
            if there.isdisjoint((name, *(f"refs/{kind}{name}" for kind in ("", "tags/", "heads/", "remotes/")))):
                raise RemoteError(f"the remote has no ref {name}")

    @staticmethod
    def _remote(repository: pygit2.Repository, remote: str) -> pygit2.Remote:
        if remote in repository.remotes.names():
            return repository.remotes[remote]
        if not re.search(r"[/:\\]", remote) and not os.path.isdir(remote):
            raise RemoteError(f"there is no remote {remote!r}", hint="git remote -v lists the remotes")
        return repository.remotes.create_anonymous(remote)
