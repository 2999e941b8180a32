"""Real repositories for tests, made with the git executable in a hermetic environment.

Nothing here touches the environment of this process: every git child gets one of its own. The
histories of whole repositories go through one `git fast-import`, so building one costs a few
milliseconds whatever its length.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from attrs import define, field, frozen

from arboretum.backends.trees.snapshot import File, FileContent
from arboretum.values import FileMode, Oid

#: Who commits, unless a test says otherwise.
IDENTITY: Final = {
    "GIT_AUTHOR_NAME": "Ada Author",
    "GIT_AUTHOR_EMAIL": "ada@example.org",
    "GIT_COMMITTER_NAME": "Carl Committer",
    "GIT_COMMITTER_EMAIL": "carl@example.org",
}
#: The moment of the first commit of a built history (2024-01-01 00:00:00 UTC); each next one is a minute later.
EPOCH: Final = 1_704_067_200
#: Configuration of every built repository: an identity that libraries see too, and no background work.
CONFIG: Final = {
    "user.name": "Carl Committer",
    "user.email": "carl@example.org",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "commit.gpgSign": "false",
}


@frozen
class CommitSpec:
    """A commit to be imported.

    Args:
        files: What changes against the first parent; None removes the path.
        message: The commit message.
        branch: The branch that it goes on.
        parents: Names (branches, tags, ids) or ``:N`` for the N-th commit of this import (from 1);
            None stands for the tip of its branch, an empty sequence for a commit without parents.
        when: Seconds since the epoch; None lets each commit be a minute after the one before.
    """

    files: Mapping[str, FileContent | None] = field(factory=dict)
    message: str = "a commit"
    branch: str = "main"
    parents: Sequence[str] | None = None
    when: int | None = None


def hermetic_environment(home: str, *, inherit: Mapping[str, str] | None = None) -> dict[str, str]:
    """An environment in which git sees no configuration but the repository's, and has an identity.

    Args:
        home: A folder for HOME and the XDG folders; it need not exist.
        inherit: Where PATH and the like come from; None for the environment of this process.

    Returns:
        The whole environment for a child; nothing of this process is changed.
    """
    source = os.environ if inherit is None else inherit
    kept = {n: v for n, v in source.items() if not n.startswith(("GIT_", "XDG_", "ARBORETUM_"))}
    return kept | {
        "HOME": home,
        "XDG_CONFIG_HOME": f"{home}/.config",
        "XDG_CACHE_HOME": f"{home}/.cache",
        "XDG_STATE_HOME": f"{home}/.state",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_TERMINAL_PROMPT": "0",
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        **IDENTITY,
    }


@define(eq=False)
class RepositoryBuilder:
    """A real repository, built step by step.

    Args:
        path: Its worktree, or its git directory when bare.
        bare: Whether it has no worktree.
        environment: The environment of every git child.
    """

    path: str
    bare: bool = False
    environment: Mapping[str, str] = field(factory=dict, repr=False)
    _commits: int = field(default=0, init=False)

    @classmethod
    def init(
        cls,
        path: str | os.PathLike[str],
        *,
        bare: bool = False,
        initial_branch: str = "main",
        object_format: str = "sha1",
        config: Mapping[str, str] | None = None,
    ) -> RepositoryBuilder:
        """Make an empty repository at `path` (its parents are made).

        Args:
            path: Where.
            bare: Without a worktree.
            initial_branch: The branch that HEAD names.
            object_format: ``sha1`` or ``sha256``.
            config: Configuration on top of `CONFIG`.
        """
        location = os.path.abspath(path)
        builder = cls(location, bare, hermetic_environment(f"{location}.home"))
        os.makedirs(location, exist_ok=True)
        builder.git(
            "init", "-q", f"--initial-branch={initial_branch}", f"--object-format={object_format}", "--template=",
            *(["--bare"] if bare else []), cwd=location,
        )  # fmt: skip
        with open(f"{builder.git_dir}/config", "a", encoding="utf-8") as file:
            file.write(_config_text({**CONFIG, **(config or {})}))
        return builder

    @property
    def git_dir(self) -> str:
        """Its git directory."""
        return self.path if self.bare else f"{self.path}/.git"

    def git_bytes(self, *arguments: str, stdin: bytes = b"", cwd: str | None = None) -> bytes:
        """Run git in the repository and return its output.

        Raises:
            AssertionError: git failed; the message has its error output.
        """
        done = subprocess.run(
            ["git", *arguments], input=stdin, cwd=cwd or self.path, env=dict(self.environment),
            capture_output=True, check=False,
        )  # fmt: skip
        if done.returncode:
            raise AssertionError(
                f"git {' '.join(arguments)} said {done.returncode}: {done.stderr.decode('utf-8', 'replace')}"
            )
        return done.stdout

    def git(self, *arguments: str, stdin: bytes = b"", cwd: str | None = None) -> str:
        """The same as text, without its last line break."""
        return os.fsdecode(self.git_bytes(*arguments, stdin=stdin, cwd=cwd)).removesuffix("\n")

    def write(self, files: Mapping[str, FileContent | None], *, worktree: str | None = None) -> None:
        """Write (or with None remove) files of a worktree; nothing is staged."""
        for name, content in files.items():
            write_file(f"{worktree or self.path}/{name}", None if content is None else File.of(content))

    def commit(
        self, files: Mapping[str, FileContent | None] | None = None, message: str = "a commit", *, branch: str = "main"
    ) -> Oid:
        """Add one commit on `branch`; the worktree follows when it is on that branch.

        Returns:
            The id of the commit.
        """
        return self.commits([CommitSpec(files or {}, message, branch)])[0]

    def commits(self, specs: Iterable[CommitSpec]) -> tuple[Oid, ...]:
        """Add a whole history in one go; the worktree (if on one of the branches) is updated at the end.

        Returns:
            The ids of the commits, in the order given.
        """
        specs = tuple(specs)
        marks = f"{self.git_dir}/arboretum-marks"
        self.git("fast-import", "--quiet", "--force", f"--export-marks={marks}", stdin=self._stream(specs))
        with open(marks, encoding="ascii") as file:
            by_mark = dict(line.split() for line in file)
        os.unlink(marks)
        self._commits += len(specs)
        if not self.bare:
            self.git("reset", "-q", "--hard")
        return tuple(Oid(by_mark[f":{number}"]) for number in range(1, len(specs) + 1))

    def branch(self, name: str, start: str = "HEAD") -> Oid:
        """Make (or move) the branch `name` without touching the worktree.

        Returns:
            The commit that it names.
        """
        oid = self.git("rev-parse", "--verify", f"{start}^{{commit}}")
        self.git("update-ref", f"refs/heads/{name}", oid)
        return Oid(oid)

    def _stream(self, specs: Sequence[CommitSpec]) -> bytes:
        stored = set(self.git("for-each-ref", "--format=%(refname)").splitlines())
        made: set[str] = set()
        commands = []
        for number, spec in enumerate(specs, 1):
            commands.append(_commit_command(spec, number, EPOCH + 60 * (self._commits + number), stored - made, made))
            made.add(f"refs/heads/{spec.branch}")
        return b"".join(commands)


def write_file(path: str, file: File | None) -> None:
    """Make `path` hold `file`, whatever was there (a folder only if it is empty); None removes it."""
    if os.path.lexists(path) and (os.path.islink(path) or not os.path.isdir(path)):
        os.unlink(path)
    if file is None:
        return
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if file.mode is FileMode.SYMLINK:
        os.symlink(file.data, os.fsencode(path))
        return
    with open(path, "wb") as handle:
        handle.write(file.data)
    os.chmod(path, 0o755 if file.mode is FileMode.EXECUTABLE else 0o644)


def _config_text(values: Mapping[str, str]) -> str:
    lines = []
    for key, value in values.items():
        section, _, rest = key.partition(".")
        sub, _, name = rest.rpartition(".")
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        quoted = f' "{sub}"' if sub else ""
        lines.append(f'[{section}{quoted}]\n\t{name} = "{escaped}"\n')
    return "".join(lines)


def _commit_command(spec: CommitSpec, mark: int, when: int, stored: set[str], made: set[str]) -> bytes:
    """One ``commit`` command of a fast-import stream.

    `stored` are the refs that the repository has and the stream has not touched, `made` those that it has.
    """
    ref = f"refs/heads/{spec.branch}"
    moment = spec.when if spec.when is not None else when
    message = spec.message.encode("utf-8", "surrogateescape")
    lines = [
        f"commit {ref}".encode(),
        f"mark :{mark}".encode(),
        f"author {IDENTITY['GIT_AUTHOR_NAME']} <{IDENTITY['GIT_AUTHOR_EMAIL']}> {moment} +0000".encode(),
        f"committer {IDENTITY['GIT_COMMITTER_NAME']} <{IDENTITY['GIT_COMMITTER_EMAIL']}> {moment} +0000".encode(),
        b"data %d\n%s" % (len(message), message),
        *_parent_lines(spec, stored, made),
    ]
    for path, content in spec.files.items():
        if content is None:
            lines.append(b"D " + _quoted(path))
            continue
        file = File.of(content)
        lines.append(b"M %o inline %s\ndata %d\n%s" % (file.mode, _quoted(path), len(file.data), file.data))
    reset = b"" if spec.parents is None or spec.parents else f"reset {ref}\n\n".encode()
    return reset + b"\n".join(lines) + b"\n\n"


def _parent_lines(spec: CommitSpec, stored: set[str], made: set[str]) -> list[bytes]:
    parents: Sequence[str] = [] if spec.parents is None else spec.parents
    if spec.parents is None and f"refs/heads/{spec.branch}" in stored:
        parents = [spec.branch]  # a branch that the stream has made goes on from its tip by itself
    lines = []
    for position, parent in enumerate(parents):
        ref = f"refs/heads/{parent}"
        name = f"{ref}^0" if ref in stored else ref if ref in made else parent
        lines.append(f"{'merge' if position else 'from'} {name}".encode())
    return lines


def _quoted(path: str) -> bytes:
    raw = path.encode("utf-8", "surrogateescape")
    return b'"' + raw.replace(b"\\", b"\\\\").replace(b'"', b'\\"').replace(b"\n", b"\\n") + b'"'


__all__ = [
    "CONFIG", "EPOCH", "IDENTITY", "CommitSpec", "File", "FileContent", "RepositoryBuilder", "hermetic_environment",
    "write_file",
]  # fmt: skip
