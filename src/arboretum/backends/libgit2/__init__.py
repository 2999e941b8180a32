"""The pygit2 adapter: git through libgit2, without the git executable."""

from arboretum.backends.libgit2.backend import Pygit2Backend

__all__ = ["Pygit2Backend"]
