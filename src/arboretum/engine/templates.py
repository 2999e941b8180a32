"""The template of a pool: a snapshot of a slot that was just proven, of which new slots are snapshots.

There is at most one, of the commit at which a slot was last made, and only where the file system has snapshots. It is
no worktree: git does not know of it. Nothing keeps anybody from changing it, so that it can be deleted like any folder;
but the kernel tells that it was changed, and then it is a template no more.

What lies in the folder and is not named by the record is nothing: what its maker has left who died, or deletes now.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from typing import Any, Final

from attrs import asdict, define

from arboretum.engine.leases import new_lease_id, try_lock
from arboretum.engine.slot_files import SlotFiles
from arboretum.engine.slots import Slot
from arboretum.engine.steps import Step
from arboretum.errors import PoolError
from arboretum.values import Oid
from arboretum.worktree_files.btrfs import Subvolume, allow_changes
from arboretum.worktree_files.copying import index_for_a_copy
from arboretum.worktree_files.index_format import IndexFormatError
from arboretum.worktree_files.model import Sibling
from arboretum.worktree_files.snapshots import make_template

_FOLDER: Final = "template"


@define(eq=False)
class Templates:
    """Keeps the template of a pool.

    Args:
        files: The folder of the pool.
    """

    _files: SlotFiles
    _step: Step

    def find(self) -> Sibling | None:
        """The template, if there is one and nobody has changed it."""
        try:
            record = self._record()
            path = self._path(record["name"])
            with open(f"{path}.index", "rb") as file:
                index = file.read()
            if not index.endswith(bytes.fromhex(record["index"])):
                return None
            found = Sibling(
                path=path,
                index=index,
                settled=record["settled"],
                commit=Oid(record["commit"]),
                files=record["files"],
                sparse=record["sparse"],
                state=Subvolume(**record["state"]),
            )
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return found if Subvolume.of(path) == found.state else None

    def make(self, slot: Slot, *, sha256: bool) -> None:
        """Make a template of a slot that was just made and proven, and in which nobody has been yet.

        That may fail, or somebody else may be at it: then there is none of this slot.
        """
        with self._alone() as alone, contextlib.suppress(OSError, IndexFormatError):
            if alone:
                self._make(slot, sha256=sha256)
                self._tidy()

    def drop(self) -> None:
        """Let there be no template; the trash has to be emptied afterwards."""
        with self._alone() as alone, contextlib.suppress(OSError):
            if alone:
                self._step("template.forget")
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._files.template_record)
                self._tidy()

    def tidy(self) -> None:
        """Discard what is left of templates that were not finished, or are none any more."""
        if os.path.isdir(self._folder):
            with self._alone() as alone, contextlib.suppress(OSError):
                if alone:
                    self._tidy()

    def leftovers(self) -> list[str]:
        """What `tidy` would discard."""
        if not os.path.isdir(self._folder):
            return []
        with self._alone() as alone:
            return [os.path.join(self._folder, name) for name in self._useless()] if alone else []

    def _make(self, slot: Slot, *, sha256: bool) -> None:
        name, index = new_lease_id(), os.path.join(slot.admin, "index")
        with open(index, "rb") as file:
            data, settled = file.read(), os.fstat(file.fileno()).st_mtime_ns
        if not slot.index or not data.endswith(bytes.fromhex(slot.index)):
            return
        os.makedirs(self._folder, exist_ok=True)
        path = self._path(name)
        self._step("template.index")
        copied = index_for_a_copy(data, sha256=sha256)
        with open(f"{path}.index", "xb") as file:
            file.write(copied)
        self._step("template.snapshot")
        if (state := make_template(slot.path, path)) is None:
            return
        record = {
            "name": name, "commit": slot.commit, "files": slot.files, "settled": settled, "sparse": dict(slot.sparse),
            "index": copied[-20:].hex(), "state": asdict(state),
        }  # fmt: skip
        self._step("template.record")
        self._files.replace(self._files.template_record, json.dumps(record).encode("ascii"))

    def _tidy(self) -> None:
        for name in self._useless():
            path = os.path.join(self._folder, name)
            if os.path.isdir(path):
                allow_changes(path)
                self._files.discard(path)
            else:
                os.unlink(path)

    def _useless(self) -> list[str]:
        """Everything in the folder that is not of a template that holds."""
        found = self.find()
        kept = {os.path.basename(found.path), f"{os.path.basename(found.path)}.index"} if found else set()
        try:
            return [name for name in os.listdir(self._folder) if name not in kept]
        except FileNotFoundError:
            return []

    @contextlib.contextmanager
    def _alone(self) -> Iterator[bool]:
        """Whether nobody else makes or removes templates meanwhile; nobody waits for that."""
        try:
            lock = try_lock(self._files.template_lock)
        except PoolError:
            lock = None
        try:
            yield lock is not None
        finally:
            if lock is not None:
                lock.release()

    def _record(self) -> dict[str, Any]:
        with open(self._files.template_record, "rb") as file:
            found = json.load(file)
        if not isinstance(found, dict):
            raise TypeError("the record of the template is damaged")
        return found

    @property
    def _folder(self) -> str:
        return os.path.join(self._files.root, _FOLDER)

    def _path(self, name: str) -> str:
        if os.path.basename(name) != name or name in {"", ".", ".."}:
            raise ValueError(f"{name!r} is no name of a template")
        return os.path.join(self._folder, name)
