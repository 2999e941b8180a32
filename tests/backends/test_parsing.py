"""The parsers of git's machine-readable output."""

from __future__ import annotations

import copy
import datetime as dt
import os
import pickle
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from arboretum import Repository
from arboretum.backends import parsing
from arboretum.errors import GitOperationError
from arboretum.moments import moment
from arboretum.testing.builders import RepositoryBuilder
from arboretum.testing.strategies import tree_paths
from arboretum.values import ChangeKind, Commit, FileMode, LogQuery, Oid, Signature

A, B = "a" * 40, "b" * 40
MOMENTS = st.builds(
    lambda seconds, minutes: dt.datetime.fromtimestamp(seconds, dt.timezone(dt.timedelta(minutes=minutes))),
    st.integers(-(2**33), 2**36),
    st.integers(-1439, 1439),
)
NAMES = st.text(st.characters(blacklist_characters="<>\n\0", blacklist_categories=("Cs",)), max_size=20).map(str.strip)


@given(st.builds(Signature, NAMES, NAMES, MOMENTS))
def test_an_identity_survives_being_written_and_read(who: Signature) -> None:
    """What is written into a commit as its author is read back the same."""
    assert Signature.parse(parsing.format_identity(who)) == who


@given(st.text(max_size=30))
def test_no_identity_breaks_the_lines_of_a_commit(text: str) -> None:
    """Whatever a name is, its line stays one line with one pair of brackets."""
    when = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    line = parsing.format_identity(Signature(text, text, when))
    assert "\n" not in line
    assert "\0" not in line
    assert (line.count("<"), line.count(">")) == (1, 1)


@given(st.text(alphabet="aB <>@+-019.", max_size=30) | st.text(max_size=30))
def test_any_text_is_read_as_some_identity(text: str) -> None:
    """An identity that git would not write today is read as far as it goes, and never raises."""
    assert Signature.parse(text).when.tzinfo is not None


@pytest.mark.parametrize("encoding", ["", "encoding ISO-8859-1\n", "encoding nobody-knows\n"])
@pytest.mark.parametrize(
    "identity",
    [
        "", "no brackets", "A <a@b> soon +0000", "A <a@b>", "A<a@b> 12 +0100", "A <b> <c@d> 12 +0100",
        " A  < y > 1 -0530", "A <b@c>> 12 +0100", " <> 5 +0000", "x <y> 5 +99999", "x <y> 5 +01",
        "\u00e4\udcff <\udce4@b> 7 +0130", "C <c@d> 1 +0000",
    ],
)  # fmt: skip
def test_identities_are_read_as_git_reads_them(real: RepositoryBuilder, identity: str, encoding: str) -> None:
    """Broken or not, a commit is the same in a log as alone, and names whom git names."""
    tree = real.git("rev-parse", "HEAD^{tree}")
    raw = os.fsencode(f"tree {tree}\nauthor {identity}\ncommitter C <c@d> 1 +0000\n{encoding}\nwhy\n")
    path = Path(real.path, "raw")
    path.write_bytes(raw)
    oid = Oid(real.git("hash-object", "-t", "commit", "-w", "--literally", str(path)))
    with Repository.open(real.path, backend="cli") as repository:
        alone, [listed] = repository.backend.read_commit(oid), repository.backend.log(LogQuery((oid,), limit=1))
    assert alone == listed
    name, email, date = real.git_bytes("log", "-1", "--date=raw", "--format=%an%n%ae%n%ad", oid).split(b"\n")[:3]
    assert (os.fsencode(alone.author.name), os.fsencode(alone.author.email)) == (name, email)
    assert alone.author.when.timestamp() == int(date.split()[0] if date else 0)


@given(st.integers(-(2**70), 2**70), st.integers(-(2**20), 2**20))
def test_moments_beyond_python_are_brought_in_range(seconds: int, offset: int) -> None:
    """Any number of seconds and any offset gives some moment."""
    assert moment(seconds, offset).tzinfo is not None


def test_a_commit_with_a_signature_and_an_encoding_is_read() -> None:
    """Headers of several lines are skipped, and the text is decoded as the commit says."""
    raw = (
        f"tree {A}\nparent {A}\nparent {B}\nauthor \u00e4 <x@y> 0 +0130\ncommitter c <z@y> 1 -0500\n"
        "encoding ISO-8859-1\ngpgsig -----BEGIN\n parent of nothing\n author nobody\n\nsubj\u00e9ct\n\nbody\n"
    ).encode("latin-1")
    commit = parsing.parse_commit(Oid(A), raw)
    assert commit.parents == (A, B)
    assert commit.author.name == "ä"
    assert commit.subject == "subjéct"
    assert commit.author.when.utcoffset() == dt.timedelta(minutes=90)


def test_what_names_no_tree_is_no_commit() -> None:
    """A broken object is refused by name."""
    with pytest.raises(GitOperationError, match="names no tree"):
        parsing.parse_commit(Oid(A), b"nothing\n")


@given(st.builds(Signature, NAMES, NAMES, MOMENTS), st.builds(Signature, NAMES, NAMES, MOMENTS), st.text(max_size=20))
def test_a_commit_that_was_told_is_the_value_that_it_stands_for(one: Signature, two: Signature, why: str) -> None:
    """However its signatures come about: equal, with the same hash and text, changed, copied and pickled alike."""

    def told() -> Commit:
        author, committer = (parsing.format_identity(who) for who in (one, two))
        return Commit.told(
            Oid(A), Oid(B), (Oid(B),), why, sign=Signature.parse, author=author, committer=committer
        )  # fmt: skip

    made = Commit(Oid(A), Oid(B), (Oid(B),), one, two, why)
    assert told() == made
    assert made == told()
    assert hash(told()) == hash(made)
    assert repr(told()) == repr(made)
    assert attrs.asdict(told()) == attrs.asdict(made)
    assert attrs.evolve(told(), message="") == attrs.evolve(made, message="")
    assert copy.deepcopy(told()) == copy.copy(told()) == pickle.loads(pickle.dumps(told())) == made
    commit = told()
    assert commit.committer is commit.committer
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        commit.author = two  # type: ignore[misc]  # that is what is tried
    with pytest.raises(AttributeError, match="nothing"):
        _ = commit.nothing  # type: ignore[attr-defined]  # that is what is tried


@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(tree_paths(max_depth=2), min_size=1, max_size=6))
def test_status_and_trees_have_every_name_as_it_is(real: RepositoryBuilder, names: set[str]) -> None:
    """Whatever a file is called, its name comes out of status and ls-tree byte for byte."""
    real.git("reset", "-q", "--hard")
    real.git("clean", "-ffdxq")
    written: set[str] = set()
    for name in sorted(names, key=len):
        if not any(other.startswith(f"{name}/") or name.startswith(f"{other}/") for other in written | {"d/b.txt"}):
            real.write({name: "x"})
            written.add(name)
    found = parsing.parse_status(real.git_bytes("status", "--porcelain=v2", "-z", "-uall"))
    assert {e.path for e in found} == written - {"a.txt", "d/b.txt", "d/c.txt"} | ({"a.txt"} & written)
    real.git("add", "-A")
    tree = real.git("write-tree")
    paths = [entry.path for entry in parsing.parse_tree(real.git_bytes("ls-tree", "-r", "-z", tree))]
    assert set(paths) == written | {"a.txt", "d/b.txt", "d/c.txt"}
    assert paths == sorted(paths, key=os.fsencode)


def test_every_kind_of_status_record_is_understood() -> None:
    """Ordinary, renamed, unmerged, untracked and ignored records, headers and submodules."""
    data = (
        b"# branch.oid abc\0"
        b"1 .M N... 100644 100644 100644 " + A.encode() + b" " + A.encode() + b" a b\0"
        b"2 R. N... 100644 100644 100644 " + A.encode() + b" " + A.encode() + b" R100 new name\0old name\0"
        b"u UU N... 100644 100644 100644 100644 " + b" ".join([A.encode()] * 3) + b" both\0"
        b"1 .M S..U 160000 160000 160000 " + A.encode() + b" " + A.encode() + b" sub\0"
        b"? new\nline\0! x.o\0"
    )
    entries = {entry.path: entry for entry in parsing.parse_status(data)}
    assert list(entries) == ["a b", "both", "new\nline", "new name", "sub", "x.o"]
    assert entries["new name"].old_path == "old name"
    assert entries["both"].is_conflict
    assert entries["sub"].submodule
    assert entries["new\nline"].is_untracked
    assert entries["x.o"].is_ignored
    with pytest.raises(GitOperationError, match="not known"):
        parsing.parse_status(b"9 something from the future\0")


def test_raw_differences_name_both_ends_of_a_rename() -> None:
    """A rename has its old path, everything else one path; all sorted by the bytes of the path."""
    null = "0" * 40
    data = (
        f":100644 100644 {A} {B} R090\0z old\0b new\0:000000 100644 {null} {A} A\0a\0:120000 100644 {A} {B} T\0l\0"
    ).encode()
    assert [(e.path, e.kind, e.old_path) for e in parsing.parse_raw_diff(data)] == [
        ("a", ChangeKind.ADDED, None),
        ("b new", ChangeKind.RENAMED, "z old"),
        ("l", ChangeKind.TYPE_CHANGED, None),
    ]


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        (0o100664, FileMode.FILE),
        (0o100755, FileMode.EXECUTABLE),
        (0o100700, FileMode.EXECUTABLE),
        (0o120000, FileMode.SYMLINK),
    ],
)
def test_modes_of_old_histories_are_todays(mode: int, kind: FileMode) -> None:
    """A mode that git would not write today is read as the one that it would."""
    assert parsing.file_mode(mode) is kind
