"""Paths as git prints them in patches: quoted like C strings where they have to be. Pure."""

from __future__ import annotations

import re
from typing import Final

_ESCAPES: Final = {b"a": b"\a", b"b": b"\b", b"t": b"\t", b"n": b"\n", b"v": b"\v", b"f": b"\f", b"r": b"\r"}
_NAMES: Final = {value: b"\\" + name for name, value in _ESCAPES.items()} | {b'"': b'\\"', b"\\": b"\\\\"}
_UGLY: Final = re.compile(rb'[\x00-\x1f\x7f-\xff"\\]')


def quote_path(path: str) -> bytes:
    """A path in quotes and with escapes if it has control characters, quotes, backslashes or bytes above 127."""
    raw = path.encode("utf-8", "surrogateescape")
    if not _UGLY.search(raw):
        return raw
    return b'"' + _UGLY.sub(lambda match: _NAMES.get(match[0]) or b"\\%03o" % match[0][0], raw) + b'"'


def unquote_path(raw: bytes) -> str:
    """What `quote_path` took."""

    def plain(match: re.Match[bytes]) -> bytes:
        code = match[1]
        return bytes([int(code, 8) & 0xFF]) if code.isdigit() else _ESCAPES.get(code, code)

    if raw.startswith(b'"'):
        raw = re.sub(rb"\\([0-7]{3}|.)", plain, raw[1:-1])
    return raw.decode("utf-8", "surrogateescape")
