"""Who commits, and how a message is tidied: git's rules, for backends whose library has others. Pure."""

from __future__ import annotations

import datetime as dt
import email.utils
import re
from collections.abc import Callable, Mapping
from typing import Literal

from arboretum.errors import IdentityMissingError
from arboretum.moments import moment, parse_offset
from arboretum.values import Signature

Role = Literal["author", "committer"]
_RAW_DATE = re.compile(r"@?(\d+)(?: ([+-]\d{4}))?\Z")


def identity(
    role: Role, environ: Mapping[str, str], config: Callable[[str], tuple[str, ...]], *, now: dt.datetime | None = None
) -> Signature:
    """The author or committer of a commit that is made now (git-commit-tree(1), "Commit Information").

    Args:
        role: ``author`` or ``committer``.
        environ: Where ``GIT_AUTHOR_NAME`` and its kin are looked up.
        config: Gives all values of a configuration key.
        now: The moment when the environment names none; None for the clock.

    Raises:
        IdentityMissingError: No name or no e-mail address is known.
    """
    prefix = f"GIT_{role.upper()}"

    def first(variable: str, *keys: str) -> str:
        values = [environ.get(variable, "").strip(), *(config(key)[-1:] for key in keys)]
        return next((v if isinstance(v, str) else v[0] for v in values if v), "")

    name = first(f"{prefix}_NAME", f"{role}.name", "user.name")
    address = first(f"{prefix}_EMAIL", f"{role}.email", "user.email") or environ.get("EMAIL", "")
    if not name or not address:
        raise IdentityMissingError(
            f"a commit needs the name and e-mail address of its {role}", operation="commit",
            hint="git config user.name 'Your Name'; git config user.email you@example.org",
        )  # fmt: skip
    date = environ.get(f"{prefix}_DATE", "")
    when = parse_date(date) if date else (now or dt.datetime.now().astimezone())
    return Signature(plain(name), plain(address), when.replace(microsecond=0))


def plain(text: str) -> str:
    """Without what git takes off names: angle brackets, line breaks, and punctuation at the ends."""
    return re.sub(r"[<>\n]", "", text.strip("".join(map(chr, range(33))) + ".,:;<>\"\\'"))


def parse_date(text: str) -> dt.datetime:
    """A moment as ``GIT_AUTHOR_DATE`` may have it: seconds with offset, ISO 8601 or RFC 2822.

    Raises:
        IdentityMissingError: It is none of them.
    """
    if match := _RAW_DATE.match(text.strip()):
        return moment(int(match[1]), parse_offset(match[2] or "+0000"))
    # git writes ISO dates with a blank before the offset; Python does not read that one.
    iso = re.sub(r"\s+(?=[+-]\d{2}:?\d{2}\Z)", "", text.strip())
    for parse, form in ((dt.datetime.fromisoformat, iso), (email.utils.parsedate_to_datetime, text.strip())):
        try:
            when = parse(form)
        except ValueError:
            continue
        return when if when.tzinfo else when.astimezone()
    raise IdentityMissingError(f"{text!r} is not a date that git takes", operation="commit")


def tidy_message(message: str) -> str:
    """A message as ``git commit -m`` stores it: no blanks at line ends, no blank lines at the ends or in rows."""
    lines = [line.rstrip(" \t\r\v\f") for line in message.split("\n")]
    text = re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip("\n")
    return f"{text}\n" if text else ""
