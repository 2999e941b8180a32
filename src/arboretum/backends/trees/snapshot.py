"""Whole trees as mappings, and what one path of them holds."""

from __future__ import annotations

from attrs import frozen

from arboretum.values import FileMode, Oid

#: What a tree or an index says of one path.
Entry = tuple[FileMode, Oid]
#: A whole tree or index, by full path.
Snapshot = dict[str, Entry]


def path_key(path: str) -> bytes:
    """The bytes by which git orders paths."""
    return path.encode("utf-8", "surrogateescape")


@frozen
class File:
    """What one path holds: bytes, and whether it is executable or a symbolic link.

    Args:
        data: The content; for a link, its target.
        mode: FILE, EXECUTABLE or SYMLINK.
    """

    data: bytes
    mode: FileMode = FileMode.FILE

    @classmethod
    def of(cls, content: FileContent) -> File:
        """Text and bytes make a plain file; a `File` is itself."""
        if isinstance(content, File):
            return content
        return cls(content if isinstance(content, bytes) else content.encode("utf-8", "surrogateescape"))


#: What may be given as the content of a file.
FileContent = File | bytes | str
