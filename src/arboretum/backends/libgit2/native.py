"""What libgit2 has and pygit2 does not hand on: a few calls of its C functions, all in this one place.

`pygit2.ffi` is how pygit2 itself calls them; the attributes that lead to libgit2's own structures are pygit2's private
ones, which its releases have kept.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Final

import pygit2
from pygit2.enums import CheckoutStrategy, DiffOption
from pygit2.errors import check_error
from pygit2.ffi import C, ffi
from pygit2.utils import StrArray

_INTENT_TO_ADD: Final = 1 << 13  # GIT_INDEX_ENTRY_INTENT_TO_ADD, of the entry's extended flags
_OPTIONS_VERSION: Final = 1  # GIT_DIFF_OPTIONS_VERSION, GIT_CHECKOUT_OPTIONS_VERSION
_ITERATION_OVER: Final = -31  # GIT_ITEROVER
_OVERWRITE: Final = (
    CheckoutStrategy.FORCE | CheckoutStrategy.DISABLE_PATHSPEC_MATCH | CheckoutStrategy.DONT_UPDATE_INDEX
)
_FILES: Final = (
    DiffOption.INCLUDE_UNTRACKED
    | DiffOption.RECURSE_UNTRACKED_DIRS
    | DiffOption.INCLUDE_TYPECHANGE
    | DiffOption.DISABLE_PATHSPEC_MATCH
)


class _BytesPath:
    """A path that pygit2 takes as the bytes it is: it encodes text strictly, and file names need not be UTF-8."""

    def __init__(self, path: str) -> None:
        self._path = os.fsencode(path)

    def __fspath__(self) -> bytes:
        return self._path


def paths_of(index: pygit2.Index) -> set[str]:
    """The paths that the index has, unmerged ones too; without an object for each entry, as iterating would make."""
    native, at, text = index._index, C.git_index_get_byindex, ffi.string
    return {os.fsdecode(text(at(native, number).path)) for number in range(len(index))}


def is_intended(index: pygit2.Index, path: str) -> bool:
    """Whether the entry says only that the file is to be added some day (``git add -N``)."""
    entry = C.git_index_get_bypath(index._index, os.fsencode(path), 0)
    return bool(entry != ffi.NULL and entry.flags_extended & _INTENT_TO_ADD)


def staged_as(index: pygit2.Index, path: str) -> tuple[pygit2.Oid, int] | None:
    """The id and the mode that the index has for a path; None when it has none, or an unmerged one."""
    entry = C.git_index_get_bypath(index._index, os.fsencode(path), 0)
    if entry == ffi.NULL:
        return None
    return pygit2.Oid(raw=bytes(ffi.buffer(ffi.addressof(entry, "id"))[:])), int(entry.mode)


def changed_files(repository: pygit2.Repository, index: pygit2.Index, paths: Iterable[str]) -> pygit2.Diff:
    """What differs between the index and the files at `paths`, or below those that are folders; not what is ignored.

    A status of the whole worktree looks at every file; this looks at these, and at the names in their folders.
    """
    options, made = ffi.new("git_diff_options *"), ffi.new("git_diff **")
    check_error(C.git_diff_options_init(options, _OPTIONS_VERSION))
    options.flags = int(_FILES)
    with _strings(paths) as names:
        names.assign_to(ffi.addressof(options, "pathspec"))
        check_error(C.git_diff_index_to_workdir(made, repository._repo, index._index, options))
    return pygit2.Diff.from_c(bytes(ffi.buffer(made)[:]), repository)


def write_tree_over(repository: pygit2.Repository, tree: pygit2.Tree) -> None:
    """Bring the files and the index to `tree`, whatever is there; files that are in neither stay.

    The baseline is `tree` itself. Against the last commit, libgit2's default, files that this one has and the index has
    not are deleted, though they are untracked; and nothing is written where it has a missing thing of another kind.
    """
    options, native = ffi.new("git_checkout_options *"), ffi.new("git_object **")
    check_error(C.git_checkout_options_init(options, _OPTIONS_VERSION))
    options.checkout_strategy = int(CheckoutStrategy.FORCE)
    ffi.buffer(native)[:] = tree._pointer[:]
    options.baseline = ffi.cast("git_tree *", native[0])
    check_error(C.git_checkout_tree(repository._repo, native[0], options))


def write_files(repository: pygit2.Repository, tree: pygit2.Tree, paths: Iterable[str]) -> None:
    """Write the files that `tree` has at `paths`, whatever is there. The index is left alone.

    libgit2 weighs what to do against a baseline, the last commit by default, and does not write a file that is missing
    where that one has a folder or a link; against an empty baseline every file is a new one.
    """
    nothing = pygit2.Index()
    options, native = ffi.new("git_checkout_options *"), ffi.new("git_object **")
    check_error(C.git_checkout_options_init(options, _OPTIONS_VERSION))
    options.checkout_strategy = int(_OVERWRITE)
    options.baseline_index = nothing._index
    ffi.buffer(native)[:] = tree._pointer[:]
    with _strings(paths) as names:
        names.assign_to(ffi.addressof(options, "paths"))
        check_error(C.git_checkout_tree(repository._repo, native[0], options))


def _strings(paths: Iterable[str]) -> StrArray:
    return StrArray([_BytesPath(path) for path in paths])  # type: ignore[misc]  # its check asks for text, but it takes bytes


def configured(repository: pygit2.Repository) -> list[tuple[bytes, bytes | None]]:
    """All keys with their values, those that win last; section and name in small letters, None for a bare name.

    One pass over the files takes as long as a look at one key.
    """
    config, walk, entry = (ffi.new(f"git_config{kind} **") for kind in ("", "_iterator", "_entry"))
    check_error(C.git_repository_config(config, repository._repo))
    try:
        check_error(C.git_config_iterator_new(walk, config[0]))
        found = []
        while (code := C.git_config_next(entry, walk[0])) != _ITERATION_OVER:
            check_error(code)
            value = entry[0].value
            found.append((ffi.string(entry[0].name), None if value == ffi.NULL else ffi.string(value)))
        return found
    finally:
        C.git_config_iterator_free(walk[0])
        C.git_config_free(config[0])
