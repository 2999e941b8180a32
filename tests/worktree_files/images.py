"""File systems of their own in image files, where they may be mounted."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def mounted(folder: Path, kind: str, *, mebibytes: int = 512) -> Iterator[str]:
    """A new file system of this kind at `folder`; yields why there is none, or nothing.

    Args:
        folder: Where it is mounted.
        kind: ``btrfs``, ``xfs`` or ``ext4``.
        mebibytes: Its size; the image is sparse.
    """
    folder.mkdir(parents=True, exist_ok=True)
    program, image = shutil.which(f"mkfs.{kind}", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"), f"{folder}.img"
    if program is None:
        yield f"there is no mkfs.{kind}"
        return
    try:
        with open(image, "xb") as file:
            file.truncate(mebibytes << 20)
        options = ["-F"] if kind == "ext4" else ["-f"]
        made = subprocess.run([program, "-q", *options, image], capture_output=True, check=False)
        done = made if made.returncode else subprocess.run(
            ["mount", "-o", "loop", image, str(folder)], capture_output=True, check=False
        )  # fmt: skip
        if done.returncode:
            yield f"{kind} cannot be mounted here: {done.stderr.decode('utf-8', 'replace').strip()}"
            return
        try:
            yield ""
        finally:
            subprocess.run(["umount", "-l", str(folder)], check=True)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(image)
