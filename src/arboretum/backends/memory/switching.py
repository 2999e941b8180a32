"""Two-way switches of a worktree: what has to be written and removed, and what stands in the way.

`plan` is the table of git-read-tree(1) ("Two Tree Merge"): a path that both trees have alike keeps
its index entry and file; one that differs is taken from the target, if index and file are as HEAD has them.
"""

from __future__ import annotations

from collections.abc import Callable, Container

from attrs import field, frozen

from arboretum.backends.memory.disk import Disk
from arboretum.backends.memory.objects import ObjectStore
from arboretum.backends.memory.survey import Survey
from arboretum.backends.trees.snapshot import Entry, Snapshot, path_key
from arboretum.values import FileMode


@frozen
class Switch:
    """What is to be done to an index and the files.

    Args:
        index: The index afterwards.
        writes: The files to write.
        removes: The files to remove.
        blocked: The paths whose local changes (or untracked files) stand in the way; sorted.
    """

    index: Snapshot
    writes: dict[str, Entry] = field(factory=dict)
    removes: tuple[str, ...] = ()
    blocked: tuple[str, ...] = ()


@frozen
class WorkView:
    """A worktree's files, compared with an index.

    Args:
        store: The objects.
        disk: Where the files are.
        root: The worktree.
        survey: What lies there.
    """

    store: ObjectStore
    disk: Disk
    root: str
    survey: Survey

    def entry(self, path: str) -> Entry | None:
        """What the index would say of the file, if it were staged; None when there is none."""
        if path not in self.survey.present:
            return None
        return self.entry_on_disk(path)

    def entry_on_disk(self, path: str) -> Entry | None:
        """The same for any path, tracked or not; None for a folder."""
        file = self.disk.read(f"{self.root}/{path}")
        return None if file is None else (file.mode, self.store.blob_id(file.data))

    def is_unchanged(self, path: str, entry: Entry) -> bool:
        """Whether the file is as `entry` has it, or gone (git takes that for no loss)."""
        if entry[0] is FileMode.SUBMODULE:
            return True
        return self.entry(path) in {None, entry} and not (
            path not in self.survey.present and self.disk.is_folder(f"{self.root}/{path}") and self._holds(path)
        )

    def in_the_way(self, path: str, leaving: Callable[[str], bool]) -> bool:
        """Whether an untracked file would be lost if `path` were written; ignored ones do not count."""
        parent = path
        while "/" in parent:
            parent = parent.rpartition("/")[0]
            if self.disk.is_file(f"{self.root}/{parent}"):
                return parent in self.survey.untracked
        if self.disk.is_file(f"{self.root}/{path}"):
            return path in self.survey.untracked
        inside = f"{path}/"
        return any(u.startswith(inside) for u in self.survey.untracked) or any(
            p.startswith(inside) and not leaving(p) for p in self.survey.present
        )

    def _holds(self, path: str) -> bool:
        return any(u.startswith(f"{path}/") for u in self.survey.untracked)


def plan(head: Snapshot, index: Snapshot, target: Snapshot, view: WorkView) -> Switch:
    """How to go from `head` to `target`, local changes kept."""
    result: Snapshot = dict(index)
    writes: Snapshot = {}
    removes: list[str] = []
    blocked: list[str] = []

    def leaving(path: str) -> bool:
        return path in head and path not in target

    for path in sorted(head.keys() | target.keys(), key=path_key):
        old, new, now = head.get(path), target.get(path), index.get(path)
        if new == old or (new == now and new is not None):
            continue  # the same in both trees, or there already
        if now is None:
            stands = (old is not None and new is not None) or view.in_the_way(path, leaving)
        else:
            stands = now != old or not view.is_unchanged(path, now)
        if stands:
            blocked.append(path)
        elif new is None:
            if now is not None:
                del result[path]
                removes.append(path)
        else:
            result[path] = writes[path] = new
    return Switch(result, writes, tuple(removes), tuple(blocked))


def force(index: Snapshot, target: Snapshot) -> Switch:
    """How to make everything tracked as `target` has it, whatever is there."""
    return Switch(dict(target), dict(target), tuple(p for p in index if p not in target))


def carry_out(switch: Switch, store: ObjectStore, disk: Disk, root: str) -> None:
    """Write and remove the files of a switch."""
    for path in switch.removes:
        if not below_link(disk, root, path):
            remove_file(disk, root, path)
    for path, entry in switch.writes.items():
        write_entry(disk, root, path, entry, store)


def below_link(disk: Disk, root: str, path: str, leaving: Container[str] = ()) -> bool:
    """Whether something on the way to `path` is no folder, and not `leaving` either."""
    while "/" in path:
        path = path.rpartition("/")[0]
        if disk.is_file(f"{root}/{path}"):
            return path not in leaving
    return False


def remove_file(disk: Disk, root: str, path: str) -> None:
    """Remove a file (or an empty submodule folder), and the folders that are empty then."""
    if disk.is_folder(f"{root}/{path}"):
        disk.remove_empty_folder(f"{root}/{path}")
    else:
        disk.remove(f"{root}/{path}")
    while "/" in path:
        path = path.rpartition("/")[0]
        if not disk.remove_empty_folder(f"{root}/{path}"):
            return


def write_entry(disk: Disk, root: str, path: str, entry: Entry, store: ObjectStore) -> None:
    """Write the file of an entry in the place of whatever is there."""
    parent = path
    while "/" in parent:
        parent = parent.rpartition("/")[0]
        if disk.is_file(f"{root}/{parent}"):
            disk.remove(f"{root}/{parent}")
    if entry[0] is FileMode.SUBMODULE:
        disk.make_folder(f"{root}/{path}")
        return
    file = store.file(entry)
    if disk.read(f"{root}/{path}") == file:
        return
    if disk.is_folder(f"{root}/{path}"):
        disk.remove(f"{root}/{path}")
    disk.write(f"{root}/{path}", file)
