"""What a command prints: bounded in memory, whole on disk, line by line to who asks."""

from __future__ import annotations

import codecs
import logging
import os
import sys
from typing import Final

from attrs import define, field

from arboretum.process.model import OutputLine, StreamName

_log = logging.getLogger(__name__)

READ_SIZE: Final = 64 * 1024  # what a pipe holds; larger reads measured no faster
MAX_LINE: Final = 64 * 1024  # characters; a longer line reaches the listener in pieces


@define(eq=False)
class BoundedBuffer:
    """Keeps the first and the last part of a stream of bytes in constant memory.

    Args:
        limit: Bytes to keep, half of them from the start; None for all.
    """

    limit: int | None
    total: int = field(default=0, init=False)
    _head: bytearray = field(factory=bytearray, init=False)
    _tail: bytearray = field(factory=bytearray, init=False)

    def write(self, data: bytes) -> None:
        """Take the next bytes."""
        self.total += len(data)
        room = self._head_limit - len(self._head)
        if room > 0:
            self._head += data[:room]
            data = data[room:]
        keep = self._tail_limit
        if data and keep:
            self._tail += data[-keep:]
            if len(self._tail) > 2 * keep:  # cut rarely: each byte is moved once on average
                del self._tail[:-keep]

    def text(self, errors: str) -> tuple[str, int]:
        """What was kept, decoded as UTF-8, and the number of bytes left out in its middle.

        Where something was left out, a line says how much, and no character is shown in half.
        """
        if not self.total:
            return "", 0
        tail = self._tail[-self._tail_limit :] if self._tail_limit else self._tail[:0]
        if len(self._head) + len(tail) == self.total:
            return (self._head + tail).decode("utf-8", errors), 0
        head = codecs.getincrementaldecoder("utf-8")(errors).decode(self._head)
        torn = next((i for i, byte in enumerate(tail[:4]) if byte & 0xC0 != 0x80), 0)
        left_out = self.total - len(self._head) - len(tail)
        return f"{head}\n[... {left_out} bytes left out ...]\n{tail[torn:].decode('utf-8', errors)}", left_out

    @property
    def _head_limit(self) -> int:
        return sys.maxsize if self.limit is None else self.limit // 2

    @property
    def _tail_limit(self) -> int:
        return 0 if self.limit is None else self.limit - self.limit // 2


@define(eq=False)
class LineFeed:
    """Turns chunks of bytes into calls of a listener, one for each line.

    A listener that raises is logged and not called again; the command goes on.
    """

    stream: StreamName
    errors: str
    listener: OutputLine | None
    _decoder: codecs.IncrementalDecoder = field(init=False)
    _pending: str = field(default="", init=False)

    def __attrs_post_init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(self.errors)

    def feed(self, data: bytes, *, final: bool = False) -> None:
        """Take the next bytes; `final` gives out an unfinished last line, too."""
        if self.listener is None:
            return
        *lines, self._pending = (self._pending + self._decoder.decode(data, final)).split("\n")
        self._emit(lines)
        if len(self._pending) >= MAX_LINE or (final and self._pending):
            rest, self._pending = self._pending, ""
            self._emit([rest])

    def _emit(self, lines: list[str]) -> None:
        # A command may print millions of short lines: the loop does no more than it must for each.
        listener, stream = self.listener, self.stream
        if listener is None:
            return
        try:
            for line in lines:
                text = line.removesuffix("\r")
                if len(text) <= MAX_LINE:
                    listener(stream, text)
                else:
                    for start in range(0, len(text), MAX_LINE):
                        listener(stream, text[start : start + MAX_LINE])
        except Exception:
            _log.exception("the listener %r of %s failed and is dropped", listener, stream)
            self.listener = None


@define(eq=False)
class StreamCapture:
    """One output stream of a command: the reading end of its pipe and the places its bytes go to.

    Args:
        name: Which stream.
        fd: The reading end; closed at the end of the stream.
        buffer: What is kept in memory.
        lines: Who is told of lines; None for nobody.
    """

    name: StreamName
    fd: int
    buffer: BoundedBuffer
    lines: LineFeed | None
    path: str | None = field(default=None, init=False)
    _spill: int | None = field(default=None, init=False)

    def keep_in(self, path: str) -> None:
        """Keep the whole stream in a file, too; its folder is made if need be."""
        os.makedirs(os.path.dirname(path), exist_ok=True)
        self._spill = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        self.path = path

    @property
    def is_open(self) -> bool:
        """Whether more may come."""
        return self.fd >= 0

    def read(self) -> bool:
        """Take what is there now.

        Returns:
            False when there is nothing (more): the stream has ended, or, without blocking, nothing came.
        """
        try:
            data = os.read(self.fd, READ_SIZE)
        except BlockingIOError:
            return False
        if not data:
            self.close()
            return False
        self.buffer.write(data)
        if self._spill is not None:
            self._write_spill(data)
        if self.lines is not None:
            self.lines.feed(data)
        return True

    def close(self) -> None:
        """Close the pipe and the file, and give out an unfinished last line."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
            if self.lines is not None:
                self.lines.feed(b"", final=True)
        self._close_spill()

    def _write_spill(self, data: bytes) -> None:
        assert self._spill is not None
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(self._spill, view) :]
        except OSError as error:  # a full disk must not stop the command, nor pass for the whole output
            _log.warning("cannot keep the whole %s in %s: %s", self.name, self.path, error)
            self._close_spill()
            self.path = None

    def _close_spill(self) -> None:
        if self._spill is not None:
            os.close(self._spill)
            self._spill = None
