"""The longer texts beside a result: whole outputs, and the difference that each hypothesis makes."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from arboretum.engine.store import ResultStore, store_path
from arboretum.errors import ArboretumError, StoreError
from arboretum.values import Revision

if TYPE_CHECKING:
    from arboretum.engine.model import Hypothesis, Trial
    from arboretum.engine.result import RunResult
    from arboretum.repository import Repository

_log = logging.getLogger(__name__)

_STREAMS: Final = ("stdout", "stderr")
#: Bytes of one output or difference that a report shows; what is longer keeps its head and its tail.
SHOWN_BYTES: Final = 200_000
#: Bytes of outputs that a report of many trials shows in all, so that a browser can open it; but some of each.
_SHOWN_IN_ALL: Final = 20_000_000
_SHOWN_AT_LEAST: Final = 4_000
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
    by_id = {hypothesis.id: hypothesis for hypothesis in result.plan.hypotheses}
    shown = len(result.trials) + len(result.control) * len(result.judgements)  # the control stands beside each
    limit = max(_SHOWN_AT_LEAST, min(SHOWN_BYTES, _SHOWN_IN_ALL // max(1, shown)))
    with open_outputs(repository, result.run) as outputs:
        return Exhibits(
            outputs={trial.id: outputs.shown(trial, limit) for trial in result.trials},
            changes={name: _change(repository, result, hypothesis, by_id) for name, hypothesis in by_id.items()},
        )


@frozen
class Outputs:
    """What the trials of a run printed, from where it is kept: the store of results, or files.

    Args:
        run: The id of the run.
        store: The store; None where there is none.
    """

    run: str = ""
    store: ResultStore | None = None

    def streams(self, trial: Trial) -> list[Iterable[bytes]]:
        """The whole of each stream in parts, stdout first; an empty list when nothing is kept (any more)."""
        return [parts for name in _STREAMS if (parts := self._stream(trial, name)) is not None]

    def _stream(self, trial: Trial, name: str) -> Iterable[bytes] | None:
        if data := _read(trial.output_paths.get(name)):
            return (data,)
        return self.store.output(self.run, trial.hypothesis, trial.attempt, name) if self.store is not None else None

    def shown(self, trial: Trial, limit: int = SHOWN_BYTES) -> str:
        """The output for a report: head and tail of a long one; only its last lines when that is all there is."""
        texts = [_text(_shorten(parts, limit)) for parts in self.streams(trial)]
        return printable("\n".join(filter(None, texts)) or trial.output_tail)

    def whole(self, trial: Trial) -> Iterator[str]:
        """The whole output in parts, cut at line ends where there are any; nothing when it is not kept (any more)."""
        for parts in self.streams(trial):
            rest = ""
            for part in codecs.iterdecode(parts, "utf-8", "replace"):
                lines, line_end, rest = (rest + part).rpartition("\n")
                yield printable(lines + line_end)
                if len(rest) > SHOWN_BYTES:  # one endless line
                    yield printable(rest)
                    rest = ""
            yield printable(rest) + ("\n" if rest else "")


@contextlib.contextmanager
def open_outputs(repository: Repository, run: str) -> Iterator[Outputs]:
    """The outputs of `run`; where the store cannot be read that is warned of, and only their last lines are had."""
    with contextlib.ExitStack() as stack:
        store = None
        try:
            store = stack.enter_context(ResultStore.open_to_read(store_path(repository.state_dir)))
        except StoreError as error:
            _log.warning("whole outputs cannot be had: %s", error)
        yield Outputs(run, store)


def output_in(folder: str) -> str:
    """What a command printed whose whole output is kept in `folder`; empty where nothing is."""
    files = (os.path.join(folder, name + end) for name in _STREAMS for end in ("", ".gz"))
    return printable("\n".join(filter(None, (_text(_shorten((_read(file),))) for file in files))))


def _read(path: str | None) -> bytes:
    if not path:
        return b""
    try:
        return gzip.decompress(Path(path).read_bytes()) if path.endswith(".gz") else Path(path).read_bytes()
    except (OSError, EOFError):
        return b""


def _text(data: bytes) -> str:
    return data.decode("utf-8", "replace").rstrip("\n")


def _shorten(parts: Iterable[bytes], limit: int = SHOWN_BYTES) -> bytes:
    """The parts in one; of more than `limit` bytes the first and the last half. Never holds much more than that."""
    half, size = limit // 2, 0
    head, tail = bytearray(), bytearray()
    for part in parts:
        size += len(part)
        room = half - len(head)
        head += part[:room]
        tail += part[room:]
        del tail[:-half]
    left_out = size - len(head) - len(tail)
    return bytes(head + (f"\n[... {left_out} bytes left out ...]\n".encode() if left_out else b"") + tail)


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
            parts.append(_shorten((repository.backend.diff_text(result.base, commit),)).decode("utf-8", "replace"))
        except ArboretumError as error:
            parts.append(f"# {hypothesis.ref}: {error.message}")
    if hypothesis.patch is not None:
        parts.append(_shorten((hypothesis.patch,)).decode("utf-8", "replace"))
    if hypothesis.edit is not None:
        parts.append("$ " + " ".join(hypothesis.edit.argv))
    parts.extend(f"{name}={value}" for name, value in hypothesis.env.items())
    if hypothesis.command is not None:
        parts.append("command: " + " ".join(hypothesis.command.argv))
    return printable("\n".join(part.rstrip("\n") for part in parts if part))
