"""Hypothesis strategies for what git repositories are made of.

Every strategy gives what git takes (unless its name says otherwise), ugly things included: names
with spaces, quotes, line breaks, leading dashes, Unicode in both normal forms and bytes that are no UTF-8.
Text is surrogate-escaped, as everywhere in arboretum.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from arboretum.backends.trees.snapshot import File
from arboretum.errors import InvalidValueError
from arboretum.testing.builders import CommitSpec
from arboretum.values import FileMode, RefName, parse_tree_path

#: Components that have made trouble somewhere.
UGLY_COMPONENTS = (
    "a b", " lead", "trail ", "-x", "--help", "new\nline", "tab\t", 'quo"te', "it's", "back\\slash", "*", "[a]", "?",
    "ä", "a\u0308", "日本", "\udcff\udcfe", "\udce9", "#hash", "!bang", "~", "$HOME", "%41", ":colon", "@{u}", "COM1",
    "a.lock", ".hidden", "...", "x" * 100,
)  # fmt: skip
_WORDS = ("a", "b", "c", "lib", "src", "README.md", "test_x.py", "Makefile", "data.bin", "x.txt")


def _is_path(text: str) -> bool:
    try:
        parse_tree_path(text)
    except InvalidValueError:
        return False
    return True


def path_components(*, ugly: bool = True) -> SearchStrategy[str]:
    """One component of a path in a tree."""
    plain = st.sampled_from(_WORDS)
    if not ugly:
        return plain
    anything = st.binary(min_size=1, max_size=12).map(lambda b: b.decode("utf-8", "surrogateescape"))
    fit = anything.filter(lambda t: "/" not in t and _is_path(t) and ".git" not in t.lower())
    return st.one_of(plain, st.sampled_from(UGLY_COMPONENTS), fit)


def tree_paths(*, ugly: bool = True, max_depth: int = 3) -> SearchStrategy[str]:
    """A path in a tree, of one to `max_depth` components."""
    return st.lists(path_components(ugly=ugly), min_size=1, max_size=max_depth).map("/".join)


def branch_names(*, ugly: bool = True) -> SearchStrategy[str]:
    """A short name of a branch that git takes."""

    def fits(name: str) -> bool:
        try:
            RefName.branch(name)
        except InvalidValueError:
            return False
        return True

    plain = st.sampled_from(["topic", "fix/tail", "fix/head", "release/1.0", "x"])
    if not ugly:
        return plain
    pieces = st.one_of(path_components(), st.sampled_from(["HEAD", "refs", "heads", "0123456", "feature"]))
    return st.one_of(plain, st.lists(pieces, min_size=1, max_size=3).map("/".join)).filter(fits)


def ref_texts() -> SearchStrategy[str]:
    """Texts that may or may not be ref names: what a parser of ref names has to tell apart."""
    parts = st.sampled_from(
        ["a", "B", "0", "/", ".", "..", "@", "{", "@{", "-", ".lock", "lock", "*", "?", "[", "]", "\\", "~", "^", ":",
         " ", "\t", "\x7f", "ä", "\udcff", "refs/", "heads", "HEAD", "//", "_"]
    )  # fmt: skip
    return st.one_of(st.lists(parts, max_size=6).map("".join), branch_names()).map(lambda t: f"refs/heads/{t}")


def lines(*, alphabet: Sequence[str] = "abcdefghijklmnopqrstuvwxyz", max_size: int = 12) -> SearchStrategy[bytes]:
    """Text made of short lines; the last one may lack its line feed."""
    body = st.lists(st.sampled_from(list(alphabet)), max_size=max_size).map(lambda ls: "".join(f"{x}\n" for x in ls))
    return st.tuples(body, st.sampled_from(["", "", "end"])).map(lambda t: "".join(t).encode())


def contents() -> SearchStrategy[bytes]:
    """The content of a file: text, text with CRLF, no UTF-8, binary, empty."""
    return st.one_of(
        lines(),
        st.sampled_from([b"", b"\n", b"a\r\nb\r\n", b"\x00\x01\x02", b"\xff\xfe latin\n", b"no newline"]),
        st.binary(max_size=60),
    )


@st.composite
def files(draw: DrawFn) -> File:
    """A file: plain, executable, or a link (its target may lead anywhere)."""
    mode = draw(st.sampled_from([FileMode.FILE, FileMode.FILE, FileMode.EXECUTABLE, FileMode.SYMLINK]))
    if mode is FileMode.SYMLINK:
        return File(draw(st.sampled_from([b"a", b"../b", b"/etc/hosts", b"missing", b"caf\xc3\xa9"])), mode)
    return File(draw(contents()), mode)


@st.composite
def file_trees(draw: DrawFn, *, ugly: bool = True, max_files: int = 6) -> dict[str, File]:
    """A whole tree: full path to file; no path is both a file and a folder."""
    chosen: dict[str, File] = {}
    for path in draw(st.lists(tree_paths(ugly=ugly), max_size=max_files, unique=True)):
        if not any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in chosen):
            chosen[path] = draw(files())
    return chosen


@st.composite
def edited(draw: DrawFn, data: bytes, *, alphabet: Sequence[str] = "ABCDEFGHIJKLMNOPQRSTUVWXYZ") -> bytes:
    """What may become of a text: some lines changed, added and removed."""
    found = data.splitlines(keepends=True)
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(found)))
        new = draw(st.sampled_from(list(alphabet))).encode() + b"\n"
        action = draw(st.sampled_from(["insert", "change", "remove"]))
        if action == "insert":
            found.insert(at, new)
        else:
            found[at : at + 1] = [new] if action == "change" else []
    return b"".join(found)


@st.composite
def edited_trees(draw: DrawFn, tree: dict[str, File]) -> dict[str, File]:
    """What may become of a tree: files edited, renamed, removed, added."""
    result = dict(tree)
    for path in draw(st.lists(st.sampled_from(sorted(tree)), max_size=3, unique=True)) if tree else []:
        file = result[path]
        action = draw(st.sampled_from(["edit", "edit", "remove", "rename", "chmod"]))
        if action == "edit" and file.mode is not FileMode.SYMLINK:
            result[path] = File(draw(edited(file.data)), file.mode)
        elif action == "remove":
            del result[path]
        elif action == "rename":
            target = draw(st.sampled_from(["moved.txt", "there/moved.py", "there/README.md"]))
            if not any(other == target or other.startswith(f"{target}/") for other in result) and "there" not in result:
                result[target] = result.pop(path)
        elif action == "chmod" and file.mode is FileMode.FILE:
            result[path] = File(file.data, FileMode.EXECUTABLE)
    for path, file in draw(file_trees(ugly=False, max_files=1)).items():
        if not any(path.startswith(f"{other}/") or other.startswith(f"{path}/") for other in result):
            result[path] = file
    return result


@st.composite
def histories(draw: DrawFn, *, max_commits: int = 8, ugly: bool = False) -> tuple[CommitSpec, ...]:
    """A history for `arboretum.testing.builders.RepositoryBuilder.commits`: branches, merges, a second root."""
    trees = [draw(file_trees(ugly=ugly))]
    specs = [CommitSpec(dict(trees[0]), "commit 1", parents=[])]
    for number in range(2, draw(st.integers(1, max_commits)) + 1):
        parent = draw(st.integers(1, number - 1))
        merged = draw(st.one_of(st.none(), st.none(), st.integers(1, number - 1)))
        parents = [parent, *([merged] if merged not in {None, parent} else [])]
        tree = draw(edited_trees(trees[parent - 1]))
        before = trees[parent - 1]
        changes: dict[str, File | None] = {p: None for p in before if p not in tree}
        changes |= {p: f for p, f in tree.items() if before.get(p) != f}
        branch = draw(st.sampled_from(["main", "topic", "fix/tail"]))
        specs.append(CommitSpec(changes, f"commit {number}", branch, parents=[f":{p}" for p in parents]))
        trees.append(tree)
    return tuple(specs)


__all__ = [
    "UGLY_COMPONENTS", "branch_names", "contents", "edited", "edited_trees", "file_trees", "files", "histories",
    "lines", "path_components", "ref_texts", "tree_paths",
]  # fmt: skip
