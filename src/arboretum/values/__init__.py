"""Values: what git talks about, parsed once at the edge into types that cannot be wrong.

Nothing here does I/O. Paths are `str` in which bytes that are no UTF-8 are surrogate-escaped, as
`os.fsdecode` makes them, so every file name survives a round trip.
"""

from arboretum.values.files import ChangeKind, DiffEntry, FileMode, StatusEntry, TreeEntry
from arboretum.values.history import Commit, Head, LogQuery, MergeOutcome, Ref, Signature, StashEntry
from arboretum.values.names import Oid, RefName, Revision, parse_tree_path
from arboretum.values.text import jsonable
from arboretum.values.worktrees import ResetMode, WorktreeInfo, WorktreeSpec

__all__ = [
    "ChangeKind",
    "Commit",
    "DiffEntry",
    "FileMode",
    "Head",
    "LogQuery",
    "MergeOutcome",
    "Oid",
    "Ref",
    "RefName",
    "ResetMode",
    "Revision",
    "Signature",
    "StashEntry",
    "StatusEntry",
    "TreeEntry",
    "WorktreeInfo",
    "WorktreeSpec",
    "jsonable",
    "parse_tree_path",
]
