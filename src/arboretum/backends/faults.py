"""What git says on its error stream, as errors: one table for every adapter that runs git."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from arboretum.errors import (
    BranchCheckedOutError,
    ConfigKeyError,
    ConflictError,
    DirtyWorktreeError,
    GitOperationError,
    GitPermissionError,
    IdentityMissingError,
    NothingToCommitError,
    ObjectMissingError,
    PatchFailedError,
    PathOccupiedError,
    RefChangedError,
    RefExistsError,
    RefLockedError,
    RefNotFoundError,
    RemoteError,
    RepositoryBusyError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
    UnsafeRepositoryError,
    UnsupportedOperationError,
)

# The first row that matches decides; more special rows stand before more general ones. Git runs with LC_ALL=C.
_TABLE: Final[tuple[tuple[str, type[GitOperationError], str], ...]] = (
    (r"dubious ownership|unsafe repository", UnsafeRepositoryError, "it belongs to another user; see safe.directory"),
    (
        r"[Uu]nknown (?:repository|ref) extension|unknown repository extensions? found|Expected git repo version",
        UnsupportedOperationError,
        "a newer git is needed for this repository's format",
    ),
    (
        r"not a git repository|invalid gitfile format|cannot chdir|No such file or directory.*chdir",
        RepositoryNotFoundError,
        "check the path, or make a repository there",
    ),
    (
        r"Unable to create '[^']*\.lock': (?:Permission denied|Read-only|No space|Operation not)",
        GitPermissionError,
        "check the permissions and the free space",
    ),
    (
        (
            r"Unable to create '[^']*(?:config|index|HEAD|shallow|packed-refs)\.lock': File exists"
            r"|could not lock config file"
        ),
        RepositoryBusyError,
        "another git command is at work here; try again when it is done",
    ),
    (
        r"Unable to create '[^']*\.lock': File exists|cannot lock ref[^\n]*File exists",
        RefLockedError,
        "another git command is at work on this ref; try again when it is done",
    ),
    (
        r"failed to read [^\n]*commondir|could not open '[^']*(?:gitdir|locked)|bad object worktrees/",
        RepositoryBusyError,
        "another program is adding a worktree; try again",
    ),
    (
        (
            r"reference already exists|' exists; cannot create '|cannot process '[^']*' and '"
            r"|[Aa] branch named .* already exists"
        ),
        RefExistsError,
        "choose another name",
    ),
    (r"with nonexistent object", ObjectMissingError, "a ref can only name an object that is there"),
    (r"pathspec '[^']*' did not match any file", GitOperationError, "check the path"),
    (
        r"is at [0-9a-f]+ but expected|but expected|unable to resolve reference|cannot lock ref",
        RefChangedError,
        "somebody changed it in between: look again",
    ),
    (
        r"already (?:checked out at|used by worktree)|is already checked out",
        BranchCheckedOutError,
        "use that worktree, or another branch",
    ),
    (
        (
            r"would be (?:overwritten|removed)|local changes"
            r"|contains modified or untracked|not uptodate|not up to date|cannot stash"
        ),
        DirtyWorktreeError,
        "commit or stash the changes first",
    ),
    (
        r"Committing is not possible because you have unmerged|unmerged|needs merge",
        ConflictError,
        "resolve the conflicts first",
    ),
    (r"nothing to commit|nothing added to commit|no changes added to commit|is now empty", NothingToCommitError, ""),
    (
        (
            r"Please tell me who you are|empty ident name|unable to auto-detect email|no (?:email|name) was given"
            r"|invalid ident"
        ),
        IdentityMissingError,
        "set user.name and user.email, or GIT_AUTHOR_NAME and the like",
    ),
    (
        (
            r"patch does not apply|patch failed|corrupt patch|No valid patches|does not exist in index"
            r"|already exists in (?:index|working directory)|unrecognized input"
            r"|does not match index|patch fragment|cannot apply binary"
        ),
        PatchFailedError,
        "make the patch against this commit",
    ),
    (r"key does not contain|invalid key|bad config|invalid section", ConfigKeyError, "keys look like section.name"),
    (r"already exists and is not an empty", PathOccupiedError, "choose another path"),
    (
        (
            r"[Cc]ould not read from remote|does not appear to be a git repository|unable to access"
            r"|repository '[^']*' does not|couldn't find remote ref|transport '[^']*' not allowed"
            r"|[Aa]uthentication failed|Could not resolve host"
            r"|[Cc]onnection refused|early EOF|protocol error|No such remote"
        ),
        RemoteError,
        "check its address and your access",
    ),
    (
        (
            r"unable to read (?:tree|sha1|object)|missing (?:blob|tree|object)|bad object|could not parse object"
            r"|invalid object|not a valid object|not a tree(?: object|: )|loose object [^\n]* corrupt"
            r"|[Nn]ot a valid commit name|unable to find [0-9a-f]+"
        ),
        ObjectMissingError,
        "the repository lacks an object; fetch it, or run git fsck",
    ),
    (
        (
            r"unknown revision|ambiguous argument|[Nn]eeded a single revision|invalid reference|not a valid ref"
            r"|bad revision|invalid upstream"
        ),
        RevisionNotFoundError,
        "check the name; fetch it if it is a remote's",
    ),
    (r"branch '[^']*' not found|[Nn]o branch named|did not match any|not found", RefNotFoundError, "check the name"),
    (
        (
            r"[Pp]ermission denied|Read-only file system|insufficient permission|Operation not permitted|No space left"
            r"|unable to (?:write|create) file|[Uu]nable to write new index"
        ),
        GitPermissionError,
        "check the permissions and the free space",
    ),
)
_COMPILED: Final = tuple((re.compile(pattern), error, hint) for pattern, error, hint in _TABLE)
_TRANSIENT: Final = re.compile(
    r"failed to read [^\n]*commondir|could not open '[^']*worktrees/[^']*(?:gitdir|locked)|bad object worktrees/"
    r"|could not lock config file|Unable to create '[^']*config\.lock'"
)


def is_transient(stderr: str) -> bool:
    """Whether git only saw another program half-way through a change, so that trying again helps."""
    return _TRANSIENT.search(stderr) is not None


def git_error(argv: Sequence[str], stderr: str, code: int, *, operation: str) -> GitOperationError:
    """The error for a git command that failed.

    Args:
        argv: The git command, without ``git`` and its global options.
        stderr: What it said.
        code: Its exit code.
        operation: The operation of the backend port.
    """
    said = " ".join(line.strip() for line in stderr.strip().splitlines()[:6]) or f"exit code {code}"
    message = f"git {argv[0] if argv else ''} failed: {said}"
    for pattern, error, hint in _COMPILED:
        if pattern.search(stderr):
            return error(message, operation=operation, hint=hint)
    return GitOperationError(message, operation=operation)
