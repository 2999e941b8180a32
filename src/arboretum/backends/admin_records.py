"""Worktree admin folders (``$GIT_COMMON_DIR/worktrees/<name>/``) as they are read. See gitrepository-layout(5)."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Final

from attrs import define, field, frozen

from arboretum.backends.atomic_files import exists, opened_folder, path_bytes, read_bytes, read_text
from arboretum.errors import GitPermissionError, WorktreeNotFoundError
from arboretum.values import Oid, RefName, WorktreeInfo

#: Where a branch that is being rebased or bisected is named, below the git directory of its worktree.
_BRANCH_IN_PROGRESS: Final = ("rebase-merge/head-name", "rebase-apply/head-name", "BISECT_START")
_CORE_SECTION: Final = re.compile(r"\s*\[(?P<section>[^]]*)\]\s*(?P<rest>.*)", re.DOTALL)
_OWN_KEY: Final = re.compile(r"\s*(?:bare|worktree)\s*(?:=|\Z)", re.IGNORECASE)
_DANGLING: Final = "gitdir file points to non-existent location"
RefReader = Callable[[RefName], Oid | None]


@frozen
class AdminRecord:
    """One admin folder.

    Args:
        name: The name of the folder.
        folder: Its absolute path.
        link: The worktree's ``.git`` file as the record has it; None when that cannot be read.
        head: The content of HEAD: a branch or an id.
        locked: The reason it is locked; None when it is not.
        path: The worktree's folder.
    """

    name: str
    folder: str
    link: str | None
    head: RefName | Oid | None
    locked: str | None
    path: str | None = field(init=False)

    @path.default
    def _folder_of_link(self) -> str | None:
        return _worktree_of(self.link) if self.link is not None else None

    def prunable(self) -> str | None:
        """Why git would prune the record; None when it would not."""
        if self.locked is not None:
            return None
        if self.link is None:
            return "gitdir file does not exist"
        return None if exists(self.link) else _DANGLING

    def is_still(self) -> bool:
        """Whether the folder's own link leads back to this record."""
        target = read_link(self.link) if self.link is not None else None
        return target is not None and os.path.realpath(target) == os.path.realpath(self.folder)


@define(eq=False)
class AdminRecords:
    """Reads the worktree records of one repository.

    Args:
        common_dir: The git directory that all worktrees share.
        main_path: The main worktree; None for a bare repository.
        read_ref: Looks up the commit of a branch.
    """

    common_dir: str
    main_path: str | None
    read_ref: RefReader

    base: str = field(init=False)  # the folder of all admin folders

    @base.default
    def _folder_of_all(self) -> str:
        return f"{self.common_dir}/worktrees"

    def names(self) -> list[str]:
        """The names of all admin folders, in no order."""
        try:
            return os.listdir(self.base)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def records(self) -> Iterator[AdminRecord]:
        """All admin folders, in no order."""
        for name in self.names():
            record = self.record(name)
            if record is not None:
                yield record

    def paths(self) -> Iterator[str]:
        """Where the linked worktrees are, or were."""
        with opened_folder(self.base) as base:
            for name in os.listdir(base) if base is not None else ():
                link = self._link_of(name, base)
                if link is not None:
                    yield _worktree_of(link)

    def record(self, name: str) -> AdminRecord | None:
        """The admin folder of this name; None when there is none."""
        folder = f"{self.base}/{name}"
        head, link, locked = self._files_of(name)
        if head is None and link is None and not os.path.isdir(folder):
            return None
        return AdminRecord(name, folder, link, parse_head(head), locked)

    def infos(self) -> tuple[WorktreeInfo, ...]:
        """What there is to know of all worktrees: the main one first, then the linked ones sorted by path."""
        linked: list[WorktreeInfo] = []
        with opened_folder(self.base) as base:
            for name in os.listdir(base) if base is not None else ():
                info = self._linked_info(name, base)
                if info is not None:
                    linked.append(info)
        return (self.main_info(), *sorted(linked, key=lambda info: path_bytes(info.path)))

    def _linked_info(self, name: str, base: int | None = None) -> WorktreeInfo | None:
        """`info` of the record of this name without the record between: there may be thousands of them."""
        head, link, locked = self._files_of(name, base)
        if link is None:
            return None
        branch, oid = self._stand(parse_head(head))
        prunable = None if locked is not None or exists(link) else _DANGLING
        return WorktreeInfo(_worktree_of(link), oid, branch, False, False, locked, prunable, name)

    def _files_of(self, name: str, base: int | None = None) -> tuple[str | None, str | None, str | None]:
        """What an admin folder says: the text of its HEAD, the worktree's ``.git`` file, and why it is locked.

        Args:
            name: The name of the folder.
            base: The folder of all admin folders, if it is open.
        """
        folder = name if base is not None else f"{self.base}/{name}"
        head, link = read_text(f"{folder}/HEAD", base), self._link_of(name, base)
        # Hardly any is locked: asking first is cheaper than an exception.
        held = f"{folder}/locked"
        locked = read_text(held, base) if os.access(held, os.F_OK, dir_fd=base) else None
        return head, link, locked.removesuffix("\n") if locked is not None else None

    def _link_of(self, name: str, base: int | None) -> str | None:
        """The worktree's ``.git`` file as its record has it; None when that cannot be read."""
        text = read_text(f"{name}/gitdir" if base is not None else f"{self.base}/{name}/gitdir", base)
        link = text.rstrip("\n") if text is not None else ""
        # Most links are absolute and plain, and normpath takes as long as reading one.
        if link.startswith("/") and "/." not in link.removesuffix("/.git") and "//" not in link:
            return link
        return os.path.normpath(os.path.join(self.base, name, link)) if link.strip() else None

    def main_info(self) -> WorktreeInfo:
        """What there is to know of the main worktree, or the bare repository."""
        if self.main_path is None:
            return WorktreeInfo(self.common_dir, None, None, is_main=True, bare=True)
        branch, oid = self._stand(self._main_head())
        return WorktreeInfo(self.main_path, oid, branch, is_main=True)

    def info(self, record: AdminRecord) -> WorktreeInfo:
        """What there is to know of a linked worktree."""
        branch, oid = self._stand(record.head)
        return WorktreeInfo(
            record.path or record.folder, oid, branch,
            name=record.name, locked=record.locked, prunable=record.prunable(),
        )  # fmt: skip

    def _main_head(self) -> RefName | Oid | None:
        return parse_head(read_text(os.path.join(self.common_dir, "HEAD")))

    def _stand(self, head: RefName | Oid | None) -> tuple[RefName | None, Oid | None]:
        branch = head if isinstance(head, RefName) else None
        oid = self.read_ref(head) if isinstance(head, RefName) else head
        return branch, None if oid is not None and oid.is_null else oid

    def info_at(self, path: str) -> WorktreeInfo | None:
        """The one of `infos` whose path is `path`, or else where `path` leads; None when there is none.

        The folder's own link names its record, so the others are read only where it does not: the worktree was moved
        by hand, or is missing. Of several records with one path it is the one that the folder belongs to.
        """
        if "\0" in path:
            return None
        real = os.path.realpath(path)
        for place in dict.fromkeys((path, real)):
            info = self._info_by_link(place)
            if info is not None:
                return info
        infos = self.infos()
        return next((info for place in (path, real) for info in infos if info.path == place), None)

    def _info_by_link(self, place: str) -> WorktreeInfo | None:
        """What there is to know of the worktree at `place`, where its own link and its record name each other."""
        if place == (self.main_path or self.common_dir):
            return self.main_info()
        name = self._name_by_link(place)
        info = self._linked_info(name) if name is not None else None
        return info if info is not None and info.path == place else None

    def _name_by_link(self, path: str) -> str | None:
        """The admin folder that a folder's own link leads to, whatever that says; None when it leads to none."""
        try:
            target = read_link(os.path.join(path, ".git"))
        except (OSError, GitPermissionError):  # a closed folder, a loop of links: the records may still know it
            return None
        if target is None:
            return None
        base, name = os.path.split(target)
        return name if base == self.base or os.path.realpath(base) == os.path.realpath(self.base) else None

    def find(self, path: str) -> AdminRecord:
        """The record of the worktree at `path`; in one step when the folder's own link is right.

        Raises:
            WorktreeNotFoundError: There is none.
        """
        wanted = {os.path.normpath(path), os.path.realpath(path)}
        name = self._name_by_link(path)
        if name is not None:
            record = self.record(name)
            if record is not None and (record.path in wanted or os.path.realpath(record.path or "/") in wanted):
                return record
        known = list(self.records())
        for record in known:
            if record.path in wanted:
                return record
        for record in known:  # a record may have another way to the same place
            if record.path is not None and os.path.realpath(record.path) in wanted:
                return record
        raise WorktreeNotFoundError(
            f"{path} is not a linked worktree of {self.common_dir}", hint="list, prune or repair the worktrees"
        )

    def user_of(self, branch: RefName, *, but: str | None = None) -> str | None:
        """The worktree that is on `branch` (also in the middle of a rebase or bisect of it), other than `but`."""
        wanted = os.fsencode(branch)
        if self.main_path not in {None, but} and _uses(self.common_dir, wanted):
            return self.main_path
        with opened_folder(self.base) as base:
            for name in os.listdir(base) if base is not None else ():
                if _uses(name, wanted, base):
                    record = self.record(name)
                    if record is not None and record.path not in {None, but}:
                        return record.path
        return None


def _worktree_of(link: str) -> str:
    return link.rpartition("/")[0] or "/"


def _uses(git_dir: str, branch: bytes, base: int | None = None) -> bool:
    """Whether the worktree with this git directory is on the branch, or will come back to it.

    Git has no index of who is on a branch, and any program may change a HEAD at any time; so an add on a branch looks
    at all of them. It is therefore kept to the fewest system calls: one file where there is a branch.
    """
    head = read_bytes(f"{git_dir}/HEAD", base)
    if head is not None and head.startswith(b"ref:"):
        return branch in head and head[4:].strip() == branch
    for name in _BRANCH_IN_PROGRESS:  # a rebase or bisect is at work on a detached HEAD
        path = f"{git_dir}/{name}"
        if os.access(path, os.F_OK, dir_fd=base) and _named_branch(path, base) == branch:
            return True
    return False


def _named_branch(path: str, base: int | None) -> bytes:
    """The full name of the branch that a file of a rebase or bisect names."""
    name = (read_bytes(path, base) or b"").strip()
    return name if name.startswith(b"refs/") else b"refs/heads/" + name


def parse_head(text: str | None) -> RefName | Oid | None:
    """What a HEAD file says: the branch (or other ref), the commit, or None when it cannot be read."""
    if text is None:
        return None
    text = text.strip()
    try:
        return RefName(text[4:].strip()) if text.startswith("ref:") else Oid(text)
    except ValueError:
        return None


def read_link(path: str) -> str | None:
    """The git directory that the ``.git`` file at `path` leads to (absolute); None when it is no such file."""
    text = read_text(path)
    if text is None or not text.startswith("gitdir: "):
        return None
    return os.path.normpath(os.path.join(os.path.dirname(path), text[8:].rstrip("\n")))


def sanitised_name(text: str) -> str:
    """A name for an admin folder, made of the basename of a path as git does: fit to be part of a ref name."""
    name = re.sub(r"[\x00-\x20\x7f~^:?*\[\\/]", "-", text)
    name = re.sub(r"\.\.", ".-", re.sub(r"@\{", "@-", name))
    name = re.sub(r"\A\.", "-", name)
    name = re.sub(r"(?:\.lock)+\Z", "", name)
    return re.sub(r"\.\Z", "-", name) or "worktree"


def without_own_keys(config: str) -> str:
    """A ``config.worktree`` as another worktree may have it: without ``core.bare`` and ``core.worktree``."""
    kept: list[str] = []
    section, dropping = "", False
    for line in config.splitlines(keepends=True):
        if dropping:  # the continuation of a value that is left out
            dropping = line.rstrip("\r\n").endswith("\\")
            continue
        match = _CORE_SECTION.match(line)
        entry = line
        if match is not None:
            section, entry = match["section"].strip().lower(), match["rest"]
        if section == "core" and _OWN_KEY.match(entry.rstrip("\r\n")):
            dropping = line.rstrip("\r\n").endswith("\\")
            kept += ["[core]\n"] if match is not None else []
            continue
        kept.append(line)
    return "".join(kept)
