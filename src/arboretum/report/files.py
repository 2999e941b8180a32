"""Put a report into a file: the whole of it, or nothing."""

from __future__ import annotations

import contextlib
import os
import secrets

from arboretum.errors import EngineError


def write_report_file(path: str, text: str) -> None:
    """Write `text` to `path`. What was there stays until the new text is whole; a link or device is written through.

    Raises:
        EngineError: It cannot be written; no half of it is left.
    """
    in_place = os.path.lexists(path) and (os.path.islink(path) or not os.path.isfile(path))
    aside = path if in_place else f"{path}.{secrets.token_hex(4)}"
    try:
        try:
            with open(aside, "w", encoding="utf-8") as file:
                file.write(text)
            if not in_place:
                os.replace(aside, path)
        except OSError:
            if not in_place:
                with contextlib.suppress(OSError):
                    os.unlink(aside)
            raise
    except OSError as error:
        raise EngineError(
            f"cannot write the report {path}: {error.strerror}", hint="check the permissions and the free space"
        ) from error
