"""The worktree admin files that we write, with real git as the oracle."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from arboretum.backends.admin_files import AdminFiles
from arboretum.backends.admin_records import parse_head, sanitised_name, without_own_keys
from arboretum.backends.ref_files import RefFiles
from arboretum.errors import (
    BranchCheckedOutError,
    DirtyWorktreeError,
    GitOperationError,
    PathOccupiedError,
    RefNotFoundError,
    WorktreeLockedError,
    WorktreeNotFoundError,
)
from arboretum.testing.builders import RepositoryBuilder
from arboretum.testing.strategies import UGLY_COMPONENTS
from arboretum.values import Oid, RefName, WorktreeSpec

WHO = "Carl Committer <carl@example.org> 1700000000 +0100"


@pytest.fixture
def admin(real: RepositoryBuilder) -> AdminFiles:
    refs = RefFiles(real.git_dir)
    return AdminFiles(real.git_dir, real.path, refs.find, committer=lambda: WHO)


@pytest.fixture
def head(real: RepositoryBuilder) -> Oid:
    return Oid(real.git("rev-parse", "HEAD"))


def listed(real: RepositoryBuilder) -> list[dict[str, str]]:
    """What git lists, one dictionary a worktree."""
    text = real.git("worktree", "list", "--porcelain", "-z")
    records = [record for record in text.split("\0\0") if record.strip("\0")]
    return [
        {key: value for key, _, value in (line.partition(" ") for line in record.split("\0") if line)}
        for record in records
    ]


def tree_of(folder: str) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text()
        for path in Path(folder).rglob("*")
        if path.is_file() and path.name != "index"
    }


def test_an_admin_folder_is_what_git_makes(real: RepositoryBuilder, admin: AdminFiles, tmp_path: Path) -> None:
    """Every file of an admin folder has what git writes for the same add, paths, times and reflog texts aside."""
    real.branch("ours")
    real.branch("theirs")
    real.git("worktree", "add", "-q", "--lock", "--reason", "why not", str(tmp_path / "git"), "theirs")
    record = admin.add(WorktreeSpec(str(tmp_path / "our"), branch=RefName("refs/heads/ours"), lock="why not"))
    expected, found = tree_of(f"{real.git_dir}/worktrees/git"), tree_of(record.folder)
    git_log, our_log = expected.pop("logs/HEAD").splitlines(), found.pop("logs/HEAD").splitlines()
    assert our_log == [f"{'0' * 40} {found['ORIG_HEAD'].strip()} {WHO}"]
    assert our_log[0].split(" Carl")[0] == git_log[0].split(" Carl")[0]
    rename = {"theirs": "ours", str(tmp_path / "git"): str(tmp_path / "our")}
    for old, new in rename.items():
        expected = {name: text.replace(old, new) for name, text in expected.items()}
    assert found == expected
    assert (tmp_path / "our" / ".git").read_text() == f"gitdir: {real.git_dir}/worktrees/our\n"


def test_git_lists_what_we_list(real: RepositoryBuilder, admin: AdminFiles, head: Oid, tmp_path: Path) -> None:
    """Main, branch, detached, locked with and without reason, lost and bare: git's list and ours say the same."""
    real.branch("topic")
    admin.add(WorktreeSpec(str(tmp_path / "z"), branch=RefName("refs/heads/topic")))
    for name, lock in (("m", None), ("b", ""), ("c", "two\nlines"), ("lost", None), ("lost and locked", "usb")):
        admin.add(WorktreeSpec(str(tmp_path / name), detach=head, lock=lock))
    admin.add(WorktreeSpec(str(tmp_path / "o"), orphan=RefName("refs/heads/orphan")))
    for name in ("lost", "lost and locked"):
        os.unlink(tmp_path / name / ".git")
        os.rmdir(tmp_path / name)
    ours = [
        {
            "worktree": info.path,
            **({"HEAD": info.head or "0" * 40} if not info.bare else {"bare": ""}),
            **({"branch": info.branch} if info.branch else {} if info.bare else {"detached": ""}),
            **({"locked": info.locked} if info.locked is not None else {}),
            **({"prunable": info.prunable} if info.prunable is not None else {}),
        }
        for info in admin.infos()
    ]
    assert ours == listed(real)
    assert {e["worktree"]: e.get("prunable", "") for e in ours}[str(tmp_path / "lost")]


@pytest.mark.parametrize("name", [n for n in UGLY_COMPONENTS if n not in {"~", "..."}], ids=ascii)
def test_records_are_named_as_git_names_them(
    real: RepositoryBuilder, admin: AdminFiles, head: Oid, tmp_path: Path, name: str
) -> None:
    """The record of a worktree at an ugly path has git's name for it, and git works in the worktree."""
    (tmp_path / "g").mkdir()
    real.git("worktree", "add", "-q", "--detach", "--no-checkout", f"{tmp_path}/g/{name}")
    (git_name,) = os.listdir(f"{real.git_dir}/worktrees")
    assert sanitised_name(name) == git_name
    record = admin.add(WorktreeSpec(f"{tmp_path}/o/{name}", detach=head))
    assert record.name == f"{git_name}1"
    assert real.git("rev-parse", "HEAD", cwd=record.path) == head
    assert f"{tmp_path}/o/{name}" in {entry["worktree"] for entry in listed(real)}
    admin.remove(f"{tmp_path}/o/{name}")
    assert admin.find(f"{tmp_path}/g/{name}").name == git_name


def test_git_carries_on_from_what_we_do(real: RepositoryBuilder, admin: AdminFiles, head: Oid, tmp_path: Path) -> None:
    """Git locks, moves, repairs, removes and prunes what we made, and we what git made."""
    ours, theirs = str(tmp_path / "ours"), str(tmp_path / "theirs")
    admin.add(WorktreeSpec(ours, detach=head))
    real.git("reset", "-q", "--hard", cwd=ours)
    real.git("worktree", "add", "-q", "--detach", theirs)
    real.git("worktree", "lock", "--reason", "git's", ours)
    admin.lock_worktree(theirs, "ours")
    assert {info.path: info.locked for info in admin.infos()[1:]} == {ours: "git's", theirs: "ours"}
    admin.unlock_worktree(ours)
    real.git("worktree", "unlock", theirs)
    real.git("worktree", "move", ours, f"{ours} 2")
    admin.move(theirs, f"{theirs} 2")
    assert real.git("status", "--porcelain", cwd=f"{theirs} 2") == ""
    os.rename(f"{ours} 2", f"{ours} 3")
    os.rename(f"{theirs} 2", f"{theirs} 3")
    admin.repair([f"{ours} 3"])
    real.git("worktree", "repair", f"{theirs} 3")
    assert [info.path for info in admin.infos()[1:]] == [f"{ours} 3", f"{theirs} 3"]
    real.git("worktree", "remove", f"{ours} 3")
    admin.remove(f"{theirs} 3")
    admin.add(WorktreeSpec(ours, detach=head))
    os.unlink(f"{ours}/.git")
    os.rmdir(ours)
    real.git("worktree", "prune")
    assert len(listed(real)) == 1
    assert os.listdir(f"{real.git_dir}/arboretum/tmp") == []
    real.git("fsck", "--strict")


def test_a_worktree_that_holds_another_is_not_taken_away(
    real: RepositoryBuilder, admin: AdminFiles, head: Oid, tmp_path: Path
) -> None:
    """Neither removal nor move takes a worktree, or the repository itself, along inside another worktree."""
    admin.add(WorktreeSpec(str(tmp_path / "outer"), detach=head))
    admin.add(WorktreeSpec(str(tmp_path / "outer" / "inner"), detach=head))
    for act in (admin.remove, lambda path: admin.move(path, str(tmp_path / "elsewhere"))):
        with pytest.raises(DirtyWorktreeError, match="inner lies inside"):
            act(str(tmp_path / "outer"))
    admin.remove(str(tmp_path / "outer" / "inner"))
    admin.remove(str(tmp_path / "outer"))
    assert not (tmp_path / "outer").exists()


def test_claims_on_a_path_are_respected(real: RepositoryBuilder, admin: AdminFiles, head: Oid, tmp_path: Path) -> None:
    """The path of a lost worktree is taken only by force, that of a lost and locked one never."""
    place = tmp_path / "w"
    spec = WorktreeSpec(str(place), detach=head)
    for number in range(3):  # the claim may be that of any record of the name
        admin.add(WorktreeSpec(str(tmp_path / str(number) / "w"), detach=head))
    admin.add(spec)
    admin.remove(str(tmp_path / "1" / "w"))
    os.unlink(place / ".git")
    place.rmdir()
    with pytest.raises(PathOccupiedError, match="missing"):
        admin.add(spec)
    forced = WorktreeSpec(str(place), detach=head, force=True)
    admin.add(forced)
    admin.lock_worktree(str(place), "usb")
    os.unlink(place / ".git")
    place.rmdir()
    with pytest.raises(WorktreeLockedError, match="usb"):
        admin.add(forced)
    assert len([entry for entry in listed(real) if entry["worktree"] == str(place)]) == 1


def test_a_refused_add_leaves_no_trace(real: RepositoryBuilder, admin: AdminFiles, tmp_path: Path) -> None:
    """After a refusal there is neither folder, parent nor record, and what stood at the path still does."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    wanted = {
        RefNotFoundError: WorktreeSpec(str(tmp_path / "a/b/c"), branch=RefName("refs/heads/none")),
        BranchCheckedOutError: WorktreeSpec(str(tmp_path / "a/b/c"), branch=RefName("refs/heads/main")),
    }
    for error, spec in wanted.items():
        with pytest.raises(error):
            admin.add(spec)
    for name in ("file", "link"):
        with pytest.raises(PathOccupiedError):
            admin.add(WorktreeSpec(str(tmp_path / name), orphan=RefName("refs/heads/new")))
    assert not (tmp_path / "a").exists()
    assert (tmp_path / "file").read_text() == "mine"
    assert admin.names() == []
    for path in (real.path, str(tmp_path), str(tmp_path / "none")):
        with pytest.raises(GitOperationError):
            admin.remove(path)
    with pytest.raises(WorktreeNotFoundError):
        admin.repair([str(tmp_path)])


def test_an_interrupted_add_leaves_no_trace(
    admin: AdminFiles, head: Oid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An exception at any step of an add, Ctrl-C too, leaves neither folder nor record nor a file of ours."""
    from arboretum.backends import admin_files

    for step in ("write_new", "write_text", "rename_new", "make_folders"):
        with monkeypatch.context() as patch:
            patch.setattr(admin_files, step, _interrupt)
            with pytest.raises(KeyboardInterrupt):
                admin.add(WorktreeSpec(str(tmp_path / "a" / "b"), detach=head))
        assert not (tmp_path / "a").exists(), step
        assert admin.names() == []
        assert os.listdir(f"{admin.common_dir}/arboretum/tmp") == [] if step != "make_folders" else True
    admin.add(WorktreeSpec(str(tmp_path / "a" / "b"), detach=head))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_name_that_is_used_again_is_not_taken_away(
    real: RepositoryBuilder, admin: AdminFiles, head: Oid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that another program made in the moment of a removal, under the same name, stays."""
    place = str(tmp_path / "w")
    admin.add(WorktreeSpec(place, detach=head))

    def others_are_at_work(_seconds: float) -> None:
        real.git("worktree", "prune", "--expire", "now")
        real.git("worktree", "add", "-q", "--detach", place)

    monkeypatch.setattr(time, "sleep", others_are_at_work)
    admin.remove(place)
    assert [entry["worktree"] for entry in listed(real)] == [real.path, place]
    assert real.git("status", "--porcelain", cwd=place) == ""


def test_a_record_is_never_seen_half_made(real: RepositoryBuilder, admin: AdminFiles, head: Oid) -> None:
    """A reader that looks as often as it can finds every admin folder complete, while others come and go."""
    base, stop, broken = Path(real.git_dir, "worktrees"), threading.Event(), []

    def watch() -> None:
        while not stop.is_set():
            for name in admin.names():
                found = {file for file in ("HEAD", "commondir", "gitdir") if (base / name / file).exists()}
                # A folder that is on its way out loses its link first; a new one has all three from the start.
                if found and "gitdir" in found and len(found) < 3 and (base / name / "gitdir").exists():
                    broken.append((name, found))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        for number in range(40):
            admin.add(WorktreeSpec(f"{real.path}-{number}", detach=head))
            if number % 2:
                admin.remove(f"{real.path}-{number}")
    finally:
        stop.set()
        watcher.join()
    assert broken == []


def test_the_lock_holds_against_threads_and_processes(admin: AdminFiles) -> None:
    """Who asks for the lock while another process has it waits; when that process is killed it is free."""
    program = (
        "import sys, time\nfrom arboretum.backends.admin_files import AdminFiles\n"
        "with AdminFiles(sys.argv[1], None, lambda n: None).lock():\n"
        "    print('held', flush=True)\n    time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, admin.common_dir], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        got = threading.Event()

        def ask() -> None:
            with admin.lock():
                got.set()

        asker = threading.Thread(target=ask)
        asker.start()
        assert not got.wait(0.2)
        holder.kill()
        assert got.wait(30)
        asker.join()


def _heads() -> Iterator[tuple[str | None, object]]:
    yield None, None
    yield "", None
    yield "ref: refs/heads/main\n", RefName("refs/heads/main")
    yield "ref:refs/heads/main", RefName("refs/heads/main")
    yield "ref: refs/heads/.invalid\n", None
    yield f"{'a' * 40}\n", Oid("a" * 40)
    yield "\x00\x01", None


@pytest.mark.parametrize(("text", "expected"), list(_heads()))
def test_a_head_file_is_a_branch_a_commit_or_unreadable(text: str | None, expected: object) -> None:
    """Whatever stands in a HEAD file, it is understood or None."""
    assert parse_head(text) == expected


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["core", "CORE", "extensions", 'remote "core"']),
            st.sampled_from(["bare", "Bare", "worktree", "sparseCheckout", "barely", "url"]),
            st.sampled_from([" = true", "", "=/x # y", ' = "a b"']),
            st.booleans(),
        )
    )
)
def test_a_copied_configuration_lacks_only_what_says_where_the_files_are(
    tmp_path: Path, entries: list[tuple[str, str, str, bool]]
) -> None:
    """Git reads a filtered config.worktree as the same, but for core.bare and core.worktree."""
    text = "".join(f"[{section}]{' ' if inline else chr(10)}{key}{value}\n" for section, key, value, inline in entries)
    assert read_config(tmp_path, without_own_keys(text)) == [
        line for line in read_config(tmp_path, text) if line.partition(b"\n")[0] not in {b"core.bare", b"core.worktree"}
    ]


def read_config(folder: Path, text: str) -> list[bytes]:
    (folder / "config").write_text(text)
    done = subprocess.run(
        ["git", "config", "-z", "--file", str(folder / "config"), "--list"], capture_output=True, check=True
    )
    return done.stdout.split(b"\0")


class LookUp(RuleBasedStateMachine):
    """Worktrees made, moved, lost and confused by git and by hand; one looked up is what the whole list says."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.root = os.path.realpath(self.folder.name)
        self.real = RepositoryBuilder.init(f"{self.root}/r0")
        self.real.commit({"a": "1"})
        self.admin = AdminFiles(self.real.git_dir, self.real.path, RefFiles(self.real.git_dir).find)
        self.places = [f"{self.root}/{name}" for name in ("w1", "w2", "w3", "d/w1", "d/w2", "r0", "r0/a", "nothing")]

    def teardown(self) -> None:
        self.folder.cleanup()

    def quietly(self, *arguments: str) -> None:
        """What git refuses is left undone."""
        environment = dict(self.real.environment)
        subprocess.run(["git", *arguments], cwd=self.real.path, env=environment, capture_output=True, check=False)

    @rule(at=st.integers(0, 4), detach=st.booleans(), relative=st.booleans())
    def add(self, at: int, detach: bool, relative: bool) -> None:
        place = self.places[at]
        self.quietly("worktree", "add", "--force", "--force", *(["--detach"] if detach else []), place)
        link = Path(place, ".git")
        if relative and link.is_file():
            link.write_text(f"gitdir: {os.path.relpath(link.read_text()[8:].strip(), place)}\n")

    @rule(at=st.integers(0, 4), to=st.integers(0, 4), by_git=st.booleans())
    def move(self, at: int, to: int, by_git: bool) -> None:
        old, new = self.places[at], self.places[to]
        if by_git:
            self.quietly("worktree", "move", old, new)
        elif os.path.isdir(old) and not os.path.islink(old) and not os.path.lexists(new):
            os.renames(old, new)

    @rule(at=st.integers(0, 4), how=st.sampled_from(["lose", "break", "lock", "unlink"]))
    def damage(self, at: int, how: str) -> None:
        place = self.places[at]
        if how == "lose":
            shutil.rmtree(place, ignore_errors=True)
        elif how == "lock":
            self.quietly("worktree", "lock", place)
        elif not os.path.isfile(f"{place}/.git"):
            return  # nothing there, or a way to the main worktree
        elif how == "break":
            Path(place, ".git").write_text("gitdir: /nowhere\n")
        else:
            os.unlink(f"{place}/.git")

    @rule(at=st.integers(0, 4), to=st.integers(0, 7))
    def link(self, at: int, to: int) -> None:
        if not os.path.lexists(self.places[at]) and os.path.isdir(os.path.dirname(self.places[at])):
            os.symlink(self.places[to], self.places[at])

    @invariant()
    def one_is_what_the_list_says(self) -> None:
        infos = self.admin.infos()
        known = [record.get("worktree") for record in listed(self.real)]
        for place in self.places:
            found = self.admin.info_at(place)
            named = [info for info in infos if info.path in {place, os.path.realpath(place)}]
            if found is None:
                assert not named
                assert place not in known
                continue
            assert found in named
            if not os.path.islink(place):  # several records with ways to one folder: the folder's own counts
                assert found.path == place or place not in {info.path for info in infos}
            if len(named) == 1:
                assert found == named[0]
            assert found.path in known


TestLookUp = LookUp.TestCase
TestLookUp.settings = settings(
    deadline=None, max_examples=int(15 * float(os.environ.get("ARBORETUM_TEST_SCALE", "1"))), stateful_step_count=12,
    suppress_health_check=[HealthCheck.too_slow],
)  # fmt: skip


@pytest.mark.parametrize("path", ["/nul\0", "/" + "x" * 300, "/loop"])
def test_paths_that_cannot_be_are_no_worktrees(admin: AdminFiles, tmp_path: Path, path: str) -> None:
    """What no file system takes is looked up and not found."""
    (tmp_path / "loop").symlink_to("loop")
    assert admin.info_at(f"{tmp_path}{path}") is None
