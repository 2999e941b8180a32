"""What backends do with arguments that were made to do harm."""

from __future__ import annotations

from arboretum.errors import ArboretumError, InvalidValueError, PatchFailedError
from arboretum.testing.conformance.registry import check, collected
from arboretum.testing.maker import BackendMaker
from arboretum.testing.observation import observe
from arboretum.values import FileMode, RefName, Revision, TreeEntry, WorktreeSpec

#: Texts that some git command takes for an option, or a shell for a command.
INJECTIONS = (
    "--upload-pack=touch PWNED", "-x", "--help", "--output=PWNED", "-c core.pager=touch PWNED", "--exec=touch PWNED",
    "$(touch PWNED)", "`touch PWNED`", "; touch PWNED", "| touch PWNED", "a\nb", "a\0b",
)  # fmt: skip


@check("resolve", "update_ref", "stage", "fetch", "get_config", "set_config", "list_refs", "add_worktree", "clone")
def check_arguments_are_never_options(maker: BackendMaker) -> None:
    """Texts that look like options or commands do nothing but name what is not there, through every argument."""
    bench = maker.repository()
    backend = bench.backend
    before = observe(backend, bench.disk)
    for text in INJECTIONS:
        for act in (
            lambda t: backend.resolve(Revision(t)),
            lambda t: backend.update_ref(RefName.branch(t), bench.head(), None),
            lambda t: backend.update_ref(RefName(t), bench.head(), None),
            lambda t: backend.stage(bench.path, [t]),
            backend.fetch,
            lambda t: backend.fetch("origin", [t]),
            backend.get_config,
            lambda t: backend.set_config(t, "x"),
            lambda t: maker.factory.clone(t, maker.path("clone")),
            maker.factory.open,
            lambda t: backend.add_worktree(WorktreeSpec(t, detach=bench.head())),
            backend.lock_worktree,
            backend.status,
        ):
            try:
                act(text)
            except ArboretumError:
                continue
            except (ValueError, TypeError) as error:
                raise AssertionError(f"{text!r} raised {error!r}, which is no error of arboretum's") from error
            ref = f"refs/heads/{text}"
            made = [r for r in backend.list_refs("refs/heads/") if r.name == ref]
            for found in made:  # an ugly but good name of a branch is a branch, and no more
                backend.update_ref(found.name, None, found.oid)
        assert backend.list_refs(text) == ()
    assert observe(backend, bench.disk) == before
    assert "PWNED" not in bench.files()


@check("commit", "stash_create", "lock_worktree", "set_config", "update_ref")
def check_free_text_is_kept_as_it_is(maker: BackendMaker) -> None:
    """Messages, reasons and values may be any text, and stay text."""
    bench = maker.repository()
    place = bench.worktree()
    for text in ("--amend", "-m", "-F/etc/passwd", "$(touch PWNED)", "# comment", "--author=x"):
        oid = bench.commit({"a.txt": text}, text)
        assert bench.backend.read_commit(oid).message == f"{text}\n"
        bench.backend.lock_worktree(place, reason=text)
        assert text in {info.locked for info in bench.backend.list_worktrees()}
        bench.backend.unlock_worktree(place)
        bench.backend.set_config("section.key", text)
        assert bench.backend.get_config("section.key") == (text,)
        bench.write({"a.txt": "changed"})
        stash = bench.backend.stash_create(bench.path, text)
        assert stash is not None
        bench.backend.stash_store(stash, text)
        bench.backend.update_ref(RefName.branch("x"), oid, None, message=text)
        bench.backend.update_ref(RefName.branch("x"), None, oid)


@check("write_tree", "stage", "apply", "apply_to_tree")
def check_paths_stay_inside_the_tree(maker: BackendMaker) -> None:
    """No path with ``..``, ``.git`` or a leading slash enters a tree, an index or a worktree."""
    bench = maker.repository()
    blob = bench.backend.write_blob(b"x")
    before = observe(bench.backend, bench.disk)
    for path in ("../out", "a/../../out", "/etc/out", ".git/config", "a/.git/x", ".GIT/x", "", "a//b", "./a", "a/."):
        try:
            bench.backend.write_tree([TreeEntry(path, FileMode.FILE, blob)])
        except InvalidValueError:
            pass
        else:
            raise AssertionError(f"a tree took the path {path!r}")
        if path in {"", "a//b", "./a", "a/."}:
            continue  # untidy, but it leads nowhere else
        patch = f"--- /dev/null\n+++ b/{path}\n@@ -0,0 +1 @@\n+x\n".encode()
        for act in (
            lambda p=patch: bench.backend.apply(bench.path, p),
            lambda p=patch: bench.backend.apply_to_tree(bench.head(), p),
        ):
            try:
                act()
            except PatchFailedError:
                continue
            raise AssertionError(f"a patch to {path!r} was applied")
        try:
            bench.backend.stage(bench.path, [path])
        except ArboretumError:
            continue
        raise AssertionError(f"{path!r} was staged")
    assert observe(bench.backend, bench.disk) == before


@check("apply", "checkout", "reset", "stash_apply")
def check_links_do_not_lead_out(maker: BackendMaker) -> None:
    """A link in a worktree is a file: nothing is written or read through it."""
    from arboretum.backends.memory import File

    bench = maker.repository({"a.txt": "1\n"})
    outside = bench.beside("outside")
    bench.write({"victim": "safe\n"}, outside)
    through = bench.loose_commit({"a.txt": "1\n", "link/victim": "owned\n"}, [bench.head()])
    patch = bench.backend.diff_text(bench.head(), through)
    bench.write({"link": File(b"../outside", FileMode.SYMLINK)})
    for act in (
        lambda: bench.backend.apply(bench.path, patch),
        lambda: bench.backend.checkout(bench.path, through),
        lambda: bench.backend.cherry_pick(bench.path, through),
    ):
        try:
            act()
        except ArboretumError:
            continue
        raise AssertionError("an untracked link was written through or over")
    bench.backend.checkout(bench.path, through, force=True)
    assert dict(bench.files(outside)) == {"victim": b"safe\n"}
    assert bench.files()["link/victim"] == b"owned\n"


CHECKS = collected(globals())
