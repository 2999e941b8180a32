"""What threads and handles may share."""

from __future__ import annotations

import threading
from collections.abc import Callable

from arboretum.errors import ArboretumError, BranchCheckedOutError
from arboretum.testing.conformance.registry import check, collected
from arboretum.testing.maker import BackendMaker
from arboretum.values import LogQuery, Oid, RefName, ResetMode, WorktreeSpec


def in_threads(number: int, work: Callable[[int], object]) -> list[object]:
    """What `work` gave (or raised) in so many threads that start at once."""
    results: list[object] = [None] * number
    gate = threading.Barrier(number)

    def run(at: int) -> None:
        gate.wait()
        try:
            results[at] = work(at)
        except BaseException as error:
            results[at] = error

    threads = [threading.Thread(target=run, args=(at,)) for at in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def must(results: list[object]) -> list[object]:
    """The results, if none is an error."""
    for failure in (result for result in results if isinstance(result, BaseException)):
        raise AssertionError(f"a thread failed: {failure!r}") from failure
    return results


@check("read_commit", "status", "list_refs", "log", "resolve")
def check_a_handle_may_be_used_from_many_threads(maker: BackendMaker) -> None:
    """One backend object answers many threads at once, and each gets its own answer."""
    bench = maker.repository()
    oids = [bench.head(), *(bench.commit({"a.txt": f"{n}\n"}, f"commit {n}") for n in range(5))]

    def work(at: int) -> None:
        for turn in range(6):
            oid = oids[(at + turn) % len(oids)]
            assert bench.backend.read_commit(oid).oid == oid
            assert next(iter(bench.backend.log(LogQuery((oid,), limit=1)))).oid == oid
            assert bench.backend.status(bench.path) == ()
            assert len(bench.backend.list_refs()) == 1

    must(in_threads(4, work))


@check("add_worktree")
def check_two_adds_of_one_branch(maker: BackendMaker) -> None:
    """Of adds of the same branch at the same moment one succeeds, and the others are told that it is taken."""
    bench = maker.repository()
    for turn in range(4):
        ref = bench.branch(f"race{turn}")

        def add(at: int, ref: RefName = ref, turn: int = turn) -> str:
            handle = maker.factory.open(bench.path)
            try:
                return handle.add_worktree(WorktreeSpec(bench.beside(f"race{turn}-{at}"), branch=ref)).path
            finally:
                handle.close()

        results = in_threads(3, add)
        assert sum(isinstance(r, str) for r in results) == 1, results
        assert sum(type(r) is BranchCheckedOutError for r in results) == 2, results
        assert [w.branch for w in bench.backend.list_worktrees()].count(ref) == 1


@check("add_worktree", "remove_worktree", "list_worktrees")
def check_worktrees_may_be_added_at_once(maker: BackendMaker) -> None:
    """Many adds and removals at the same moment all succeed, and the list is whole at every moment."""
    bench = maker.repository()
    oid = bench.head()

    def work(at: int) -> None:
        handle = maker.factory.open(bench.path)
        try:
            for turn in range(2):
                place = handle.add_worktree(WorktreeSpec(bench.beside(f"many{at}-{turn}"), detach=oid)).path
                assert place in {w.path for w in handle.list_worktrees()}
                assert handle.status(place) == ()
                if turn:
                    handle.remove_worktree(place)
        finally:
            handle.close()

    must(in_threads(8, work))
    assert len(bench.backend.list_worktrees()) == 9


@check("stash_create", "stash_store", "stash_apply", "stash_drop")
def check_sixteen_worktrees_get_their_own_stashes_back(maker: BackendMaker) -> None:
    """Stash pushes and pops in sixteen worktrees at once each give back the worktree's own work: 96 of 96."""
    bench = maker.repository()
    places = [bench.worktree(f"stash{n}") for n in range(16)]
    head = bench.head()

    def work(at: int) -> int:
        handle, place = maker.factory.open(places[at]), places[at]
        own = 0
        try:
            for turn in range(6):
                bench.write({"a.txt": f"{at} {turn}\n"}, place)
                stash = handle.stash_create(place, f"work {at}")
                assert stash is not None
                _patiently(handle.stash_store, stash, f"On x: work {at}")
                handle.reset(place, head, ResetMode.HARD)
                assert handle.status(place) == ()
                handle.stash_apply(place, stash)
                _patiently(handle.stash_drop, stash)
                own += bench.files(place)["a.txt"] == f"{at} {turn}\n".encode()
                handle.reset(place, head, ResetMode.HARD)
        finally:
            handle.close()
        return own

    results = must(in_threads(16, work))
    assert sum(r for r in results if isinstance(r, int)) == 96, results
    assert bench.backend.stash_list() == ()


def _patiently(act: Callable[..., None], *arguments: object) -> None:
    """Try again what failed for a lock that somebody else held."""
    for _ in range(200):
        try:
            return act(*arguments)
        except ArboretumError as error:
            if not error.retryable:
                raise
    raise AssertionError("the lock is never free")


@check("open", "close")
def check_closing_twice_is_allowed(maker: BackendMaker) -> None:
    """A handle may be closed twice, and closing one leaves others as they are."""
    bench = maker.repository()
    other = maker.factory.open(bench.path)
    oid: Oid | None = other.head(bench.path).oid
    other.close()
    other.close()
    assert bench.backend.head(bench.path).oid == oid


CHECKS = collected(globals())
