"""Bounded buffers and lines, as properties."""

from __future__ import annotations

import logging
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arboretum.process.capture import MAX_LINE, BoundedBuffer, LineFeed, StreamCapture

chunks = st.lists(st.binary(max_size=40), max_size=30)


@given(chunks=chunks, limit=st.none() | st.integers(0, 100))
def test_buffer_keeps_head_and_tail(chunks: list[bytes], limit: int | None) -> None:
    """A buffer holds all bytes up to its limit, else the first and last halves, and counts what it left out."""
    buffer = BoundedBuffer(limit)
    for chunk in chunks:
        buffer.write(chunk)
    whole = b"".join(chunks)
    text, left_out = buffer.text("surrogateescape")
    assert len(buffer._head) + len(buffer._tail) <= (2 * limit if limit is not None else len(whole))
    if limit is None or len(whole) <= limit:
        assert (text.encode("utf-8", "surrogateescape"), left_out) == (whole, 0)
    else:
        assert left_out == len(whole) - limit
        head, tail = whole[: limit // 2], whole[len(whole) - (limit - limit // 2) :]
        shown_head, _, shown_tail = text.partition(f"\n[... {left_out} bytes left out ...]\n")
        assert head.startswith(shown_head.encode("utf-8", "surrogateescape"))
        assert tail.endswith(shown_tail.encode("utf-8", "surrogateescape"))
        assert len(shown_head.encode("utf-8", "surrogateescape")) > len(head) - 4


@given(text=st.text(), limit=st.integers(8, 50), size=st.integers(1, 7))
def test_no_character_is_shown_in_half(text: str, limit: int, size: int) -> None:
    """Where valid text is cut, no replacement character appears."""
    data = text.encode()
    buffer = BoundedBuffer(limit)
    for start in range(0, len(data), size):
        buffer.write(data[start : start + size])
    shown, _ = buffer.text("replace")
    assert shown.count("\ufffd") <= text.count("\ufffd")


@given(text=st.text(st.characters(codec="utf-8")), sizes=st.lists(st.integers(1, 9), min_size=1))
def test_lines_do_not_depend_on_chunks(text: str, sizes: list[int]) -> None:
    """However the bytes are cut, the lines are those of the text, without their ends."""
    seen: list[str] = []
    feed = LineFeed("stdout", "replace", lambda _, line: seen.append(line))
    data, position = text.encode(), 0
    for index in range(len(data)):
        size = sizes[index % len(sizes)]
        feed.feed(data[position : position + size])
        position += size
    feed.feed(data[position:], final=True)
    expected = [line.removesuffix("\r") for line in text.split("\n")]
    assert seen == (expected[:-1] if text.endswith("\n") or not text else expected)


def test_long_lines_come_in_pieces() -> None:
    """A line of megabytes without an end reaches the listener in bounded pieces, and in time."""
    seen: list[str] = []
    feed = LineFeed("stdout", "replace", lambda _, line: seen.append(line))
    for _ in range(5_000):
        feed.feed(b"x" * 1000)
    assert len(seen) >= 5_000_000 // MAX_LINE - 1
    feed.feed(b"", final=True)
    assert "".join(seen) == "x" * 5_000_000
    assert max(map(len, seen)) <= MAX_LINE


def test_listener_that_raises_is_dropped(caplog: pytest.LogCaptureFixture) -> None:
    """A listener that raises is logged once and not called again."""
    calls: list[str] = []

    def listener(_: str, line: str) -> None:
        calls.append(line)
        raise RuntimeError("broken")

    feed = LineFeed("stdout", "replace", listener)
    feed.feed(b"a\nb\nc\n", final=True)
    assert calls == ["a"]
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs a device that is always full")
def test_full_disk(caplog: pytest.LogCaptureFixture) -> None:
    """A full disk ends the copy on disk, says so, and claims no file; what is in memory stays."""
    reading, writing = os.pipe()
    capture = StreamCapture("stdout", reading, BoundedBuffer(None), None)
    capture._spill, capture.path = os.open("/dev/full", os.O_WRONLY), "/dev/full"
    os.write(writing, b"hello")
    os.close(writing)
    while capture.read():
        pass
    assert (capture.buffer.text("replace")[0], capture.path, capture.is_open) == ("hello", None, False)
    assert "No space left" in caplog.text
