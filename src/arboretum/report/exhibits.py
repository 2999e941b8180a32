"""The longer texts beside a result: whole outputs, and the difference that each hypothesis makes."""

from __future__ import annotations

import gzip
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from arboretum.errors import ArboretumError
from arboretum.values import Revision

if TYPE_CHECKING:
    from arboretum.engine.model import Hypothesis, Trial
    from arboretum.engine.result import RunResult
    from arboretum.repository import Repository

#: Bytes of one output or difference that a report shows; what is longer keeps its head and its tail.
SHOWN_BYTES: Final = 200_000
_ESCAPE_SEQUENCES: Final = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)|[@-_])")
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")


@frozen(kw_only=True)
class Exhibits:
    """Texts to show beside the verdicts.

    Args:
        outputs: What each trial printed, by the trial's id.
        changes: The difference that each hypothesis makes to the base, by the hypothesis' id.
    """

    outputs: Mapping[str, str] = field(factory=dict)
    changes: Mapping[str, str] = field(factory=dict)


def collect_exhibits(repository: Repository, result: RunResult) -> Exhibits:
    """Gather what a report shows of `result`.

    Args:
        repository: Where the commits of the run are; it is only read.
        result: The run.

    Returns:
        The outputs that are still kept (else their last lines) and the changes that can still be told.
    """
    trials = [*result.control, *(trial for judgement in result.judgements for trial in judgement.trials)]
    by_id = {hypothesis.id: hypothesis for hypothesis in result.plan.hypotheses}
    return Exhibits(
        outputs={trial.id: output_of(trial) for trial in trials},
        changes={name: _change(repository, result, hypothesis, by_id) for name, hypothesis in by_id.items()},
    )


def output_of(trial: Trial) -> str:
    """What `trial` printed: its kept output, or its last lines where the files are gone."""
    parts = [text for name in ("stdout", "stderr") if (text := _read(trial.output_paths.get(name)))]
    return printable("\n".join(parts) if parts else trial.output_tail)


def output_in(folder: str) -> str:
    """What a command printed whose whole output is kept in `folder`; empty where nothing is."""
    files = (os.path.join(folder, name + end) for name in ("stdout", "stderr") for end in ("", ".gz"))
    return printable("\n".join(filter(None, map(_read, files))))


def _read(path: str | None) -> str:
    if not path:
        return ""
    try:
        data = gzip.decompress(Path(path).read_bytes()) if path.endswith(".gz") else Path(path).read_bytes()
    except (OSError, EOFError):
        return ""
    return _shorten(data).decode("utf-8", "replace").rstrip("\n")


def _shorten(data: bytes) -> bytes:
    if len(data) <= SHOWN_BYTES:
        return data
    half = SHOWN_BYTES // 2
    return data[:half] + f"\n[... {len(data) - 2 * half} bytes left out ...]\n".encode() + data[-half:]


def printable(text: str) -> str:
    """`text` without terminal escape sequences and without characters that XML and HTML cannot carry."""
    return _CONTROL.sub("\ufffd", _ESCAPE_SEQUENCES.sub("", text).replace("\r\n", "\n").replace("\r", "\n"))


def _change(repository: Repository, result: RunResult, hypothesis: Hypothesis, by_id: Mapping[str, Hypothesis]) -> str:
    """The change in words or as a patch; combined hypotheses one after the other."""
    members = [by_id[name] for name in hypothesis.combine if name in by_id]
    parts = [f"# {member.id}\n{_change(repository, result, member, by_id)}" for member in members]
    if hypothesis.ref is not None:
        try:
            commit = repository.resolve(Revision(hypothesis.ref))
            parts.append(_shorten(repository.backend.diff_text(result.base, commit)).decode("utf-8", "replace"))
        except ArboretumError as error:
            parts.append(f"# {hypothesis.ref}: {error.message}")
    if hypothesis.patch is not None:
        parts.append(_shorten(hypothesis.patch).decode("utf-8", "replace"))
    if hypothesis.edit is not None:
        parts.append("$ " + " ".join(hypothesis.edit.argv))
    parts.extend(f"{name}={value}" for name, value in hypothesis.env.items())
    if hypothesis.command is not None:
        parts.append("command: " + " ".join(hypothesis.command.argv))
    return printable("\n".join(part.rstrip("\n") for part in parts if part))
