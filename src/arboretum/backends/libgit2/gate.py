"""What libgit2 cannot do on the repository at hand, found out before anything is touched.

Repository formats (SHA-256, reftable, unknown extensions) are refused by libgit2 when it opens a
repository, index extensions when it reads the index; what it would quietly do otherwise than git is
refused here: sparse checkouts, filter programs, hooks, promised objects, signatures.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import Final

import pygit2

from arboretum.backends.base import Capability
from arboretum.backends.libgit2.configuration import Settings
from arboretum.errors import UnsupportedOperationError

#: What the adapter does as git does, on every repository that libgit2 opens.
CAPABILITIES: Final = frozenset({Capability.FETCH, Capability.SUBMODULES, Capability.RELATIVE_WORKTREES})

_DRIVER: Final = re.compile(r"filter\.(.+)\.(?:clean|smudge|process)\Z", re.DOTALL)
COMMIT_HOOKS: Final = ("pre-commit", "prepare-commit-msg", "commit-msg", "post-commit")


def refusal(operation: str, what: str) -> UnsupportedOperationError:
    """The error that says what stands in the way, and which backend can do it."""
    return UnsupportedOperationError(
        f"{operation}: the pygit2 backend cannot do this here: {what}",
        operation=operation,
        hint='open the repository with backend="cli", which leaves it to git itself',
    )


def refuse_hooks(settings: Settings, common_dir: str, operation: str, *names: str) -> None:
    """Refuse `operation` when git would run one of the hooks `names`: libgit2 runs none."""
    configured = settings.last("core.hooksPath")
    folder = os.path.join(common_dir, "hooks")
    if configured:
        base = settings.repository.workdir or settings.repository.path
        folder = os.path.join(base, os.path.expanduser(configured))
    for name in names:
        path = os.path.join(folder, name)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            raise refusal(operation, f"git would run the hook {path}, and libgit2 runs no hooks")


def refuse_signing(settings: Settings, operation: str) -> None:
    """Refuse to make a commit that git would sign."""
    if settings.flag("commit.gpgSign"):
        raise refusal(operation, "commit.gpgSign is set, and libgit2 does not sign")


def refuse_sparse(settings: Settings, operation: str) -> None:
    """Refuse to touch or to compare the files of a sparse checkout: libgit2 takes the absent ones for deleted."""
    if settings.flag("core.sparseCheckout"):
        raise refusal(operation, "it is a sparse checkout (core.sparseCheckout)")


def refuse_promised(common_dir: str, operation: str) -> None:
    """Refuse what may need objects that a partial clone has not fetched: libgit2 does not fetch them."""
    packs = os.path.join(common_dir, "objects", "pack")
    if os.path.isdir(packs) and any(name.endswith(".promisor") for name in os.listdir(packs)):
        raise refusal(operation, "it is a partial clone, and libgit2 does not fetch what is missing")


def refuse_filters(settings: Settings, common_dir: str, operation: str, attributes: Iterable[bytes] = ()) -> None:
    """Refuse to convert files that a configured filter program (git-lfs, ...) takes care of.

    Args:
        settings: The configuration.
        common_dir: The shared git directory.
        operation: The operation, for the message.
        attributes: The contents of ``.gitattributes`` files that are about to apply, besides those in the
            worktree and the index.
    """
    drivers = {match[1] for key in settings.values if (match := _DRIVER.match(key))}
    if not drivers:
        return
    for text in (*_attribute_texts(settings, common_dir), *attributes):
        for driver in drivers:
            if re.search(rb"(?m)^[^#\n]*\sfilter=" + re.escape(os.fsencode(driver)) + rb"(\s|\Z)", text):
                raise refusal(operation, f"files here go through the filter program {driver!r}, which libgit2 ignores")


def _attribute_texts(settings: Settings, common_dir: str) -> Iterable[bytes]:
    repository = settings.repository
    files = [os.path.join(common_dir, "info", "attributes")]
    configured = settings.last("core.attributesFile")
    config_home = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    files.append(f"{config_home}/git/attributes" if configured is None else os.path.expanduser(configured))
    if repository.workdir is not None:
        tracked = (entry for entry in repository.index if os.path.basename(entry.path) == ".gitattributes")
        for entry in tracked:
            files.append(os.path.join(repository.workdir, entry.path))
            blob = repository.get(entry.id)
            if isinstance(blob, pygit2.Blob):
                yield blob.data
        files.append(os.path.join(repository.workdir, ".gitattributes"))
    for path in files:
        try:
            with open(path, "rb") as file:
                yield file.read()
        except OSError:
            continue


def tree_attributes(repository: pygit2.Repository, tree: pygit2.Tree) -> Iterable[bytes]:
    """The contents of all ``.gitattributes`` below a tree."""
    for entry in tree:
        if isinstance(entry, pygit2.Tree):
            yield from tree_attributes(repository, entry)
        elif isinstance(entry, pygit2.Blob) and entry.raw_name == b".gitattributes":
            yield entry.data
