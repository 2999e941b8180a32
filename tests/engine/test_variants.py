"""What hypotheses come to on a repository, and the identity of their results."""

from __future__ import annotations

from pathlib import Path

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from arboretum import Repository
from arboretum.engine.cache_key import CacheKey, cache_key, shared_fields
from arboretum.engine.model import CONTROL, CommandSpec, Hypothesis, Plan
from arboretum.engine.plan_file import validate
from arboretum.engine.variants import CommitVariants, Variant, make_variants, trial_request
from arboretum.errors import InputFileError, UsageError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder
from tests.engine.trials import oid, plan

PATCH = b"--- a/a.txt\n+++ b/a.txt\n@@ -1,3 +1,3 @@\n one\n-two\n+TWO\n three\n"
OTHER = b"--- a/b.txt\n+++ b/b.txt\n@@ -1 +1 @@\n-b\n+B\n"


@pytest.fixture
def builder(tmp_path: Path) -> RepositoryBuilder:
    made = RepositoryBuilder.init(tmp_path / "repo")
    made.commits(
        [
            CommitSpec({"a.txt": "one\ntwo\nthree\n", "b.txt": "b\n"}),
            CommitSpec({"a.txt": "one\ntwo\nTHREE\n"}, branch="end", parents=["main"]),
            CommitSpec({"b.txt": "BB\n"}, branch="other", parents=["main"]),
            CommitSpec({"a.txt": "one\n2\nthree\n"}, branch="middle", parents=["main"]),
        ]
    )
    return made


def made(builder: RepositoryBuilder, *hypotheses: Hypothesis, **settings: object) -> dict[str, Variant]:
    with Repository.open(builder.path) as repository:
        return {v.id: v for v in make_variants(plan(*hypotheses, base="main", **settings), repository)}


def content(builder: RepositoryBuilder, variant: Variant, path: str) -> str:
    return builder.git("show", f"{variant.tree}:{path}")


def test_the_control_is_the_base_as_it_is(builder: RepositoryBuilder) -> None:
    """The control stands at the base, runs the plan's command under the plan's variables, and comes first."""
    variants = made(builder, Hypothesis(id="h"), env={"A": "1"})
    control = variants[CONTROL]
    assert next(iter(variants)) == CONTROL
    assert control.commit == builder.git("rev-parse", "main")
    assert control.tree == builder.git("rev-parse", "main^{tree}")
    assert control.env == {"A": "1"}
    assert evolve(variants["h"], id=CONTROL) == control


def test_each_source_of_change(builder: RepositoryBuilder) -> None:
    """A ref, a patch, an edit, variables and a command each change what they are about and nothing else."""
    edit, command = CommandSpec(("sed",)), CommandSpec(("other",))
    variants = made(
        builder,
        Hypothesis(id="ref", ref="end"),
        Hypothesis(id="patch", patch=PATCH),
        Hypothesis(id="edit", edit=edit, timeout=7.0),
        Hypothesis(id="env", env={"A": "2", "B": "3"}),
        Hypothesis(id="command", command=command, fresh=True),
        env={"A": "1"},
    )
    control = variants[CONTROL]
    assert variants["ref"].commit == builder.git("rev-parse", "end")
    assert content(builder, variants["ref"], "a.txt").endswith("THREE")
    assert variants["patch"].commit == control.commit
    assert content(builder, variants["patch"], "a.txt") == "one\nTWO\nthree"
    assert variants["edit"] == evolve(control, id="edit", edits=(edit,), timeout=7.0)
    assert variants["env"].env == {"A": "2", "B": "3"}
    assert variants["command"] == evolve(control, id="command", command=command, fresh=True)


def test_a_patch_that_does_not_apply_is_known_before(builder: RepositoryBuilder) -> None:
    """A patch against other content is a problem of its hypothesis alone, and the message names file and hunk."""
    second = b"--- a/c.txt\n+++ b/c.txt\n@@ -1,4 +1,4 @@\n-1\n+one\n 2\n 3\n 4\n@@ -20,3 +20,3 @@\n 20\n-xx\n+21\n 22\n"
    builder.commit({"c.txt": "".join(f"{n}\n" for n in range(1, 30))})
    variants = made(
        builder,
        Hypothesis(id="broken", patch=PATCH.replace(b"-two", b"-zwei")),
        Hypothesis(id="second-hunk", patch=second),
        Hypothesis(id="fine", patch=PATCH),
        Hypothesis(id="together", combine=("fine", "second-hunk")),
    )
    assert "a.txt" in variants["broken"].problem
    for name in ("second-hunk", "together"):
        assert variants[name].problem.startswith("hunk 2 of c.txt (@@ -20,3 +20,3 @@) does not apply: ")
    assert not variants["fine"].problem


def test_combinations(builder: RepositoryBuilder) -> None:
    """The changes of both parts are made together: two revisions are merged, patches and edits follow."""
    edit = CommandSpec(("sed",))
    parts = [
        Hypothesis(id="end", ref="end"),
        Hypothesis(id="other", ref="other"),
        Hypothesis(id="middle", ref="middle"),
        Hypothesis(id="patch", patch=OTHER),
        Hypothesis(id="edit", edit=edit),
        Hypothesis(id="env", env={"X": "1"}),
    ]
    variants = made(
        builder,
        *parts,
        Hypothesis(id="both-refs", combine=("end", "other")),
        Hypothesis(id="ref-and-patch", combine=("patch", "end")),
        Hypothesis(id="all", combine=("end", "patch", "edit", "env")),
        Hypothesis(id="conflict", combine=("other", "patch")),
        Hypothesis(id="same-lines", combine=("end", "middle")),
    )
    both = variants["both-refs"]
    assert content(builder, both, "a.txt").endswith("THREE")
    assert content(builder, both, "b.txt") == "BB"
    assert both.commit == variants["end"].commit
    assert len(both.patches) == 1
    assert content(builder, variants["ref-and-patch"], "b.txt") == "B"
    assert content(builder, variants["ref-and-patch"], "a.txt").endswith("THREE")
    everything = variants["all"]
    assert (everything.patches, everything.edits, everything.env) == ((OTHER,), (edit,), {"X": "1"})
    assert "b.txt" in variants["conflict"].problem
    assert "conflicts in a.txt" in variants["same-lines"].problem


def test_a_request_has_all_that_an_executor_needs(builder: RepositoryBuilder) -> None:
    """The request carries plan and variant; the variant's own timeout wins."""
    a_plan = plan("h", base="main", setup=CommandSpec(("make",)), setup_inputs=("x",), include=(".env",), grace=1.0)
    a_plan = evolve(a_plan, env={"A": "1"}, junit="j.xml", metrics_file="m.json", nothing_ran="none")
    variant = evolve(made(builder, Hypothesis(id="h", patch=PATCH))["h"], env={"A": "2"})
    request = trial_request(a_plan, variant, run="r", attempt=3, timeout=60.0)
    assert request.id == "h#3"
    assert (request.commit, request.patches, request.timeout) == (variant.commit, (PATCH,), 60.0)
    assert (request.env, request.setup_env) == ({"A": "2"}, {"A": "1"})
    assert (request.junit, request.metrics_file, request.nothing_ran) == ("j.xml", "m.json", "none")
    assert trial_request(a_plan, evolve(variant, timeout=5.0), run="r", attempt=1, timeout=60.0).timeout == 5.0


def test_unknown_revisions_are_told_with_their_line(builder: RepositoryBuilder) -> None:
    """A revision that names nothing is an error with file, line and key, or with the hypothesis without a file."""
    with Repository.open(builder.path) as repository:
        validate(plan(Hypothesis(id="h", ref="end"), base="main"), repository)
        bad = plan(Hypothesis(id="h"), Hypothesis(id="i", ref="nonesuch"), base="main")
        with pytest.raises(UsageError, match=r"hypothesis 'i': .*nonesuch"):
            validate(bad, repository)
        with pytest.raises(InputFileError, match=r"plan.toml:7: hypothesis\[1\].ref: .*nonesuch") as caught:
            validate(evolve(bad, path="plan.toml", lines={"hypothesis[1].ref": 7}), repository)
        assert (caught.value.line, caught.value.key) == (7, "hypothesis[1].ref")
        with pytest.raises(UsageError, match=r"base: .*gone"):
            validate(plan("h", base="gone"), repository)
    assert not Path(builder.git_dir, "arboretum").exists()


def test_variants_of_commits(builder: RepositoryBuilder) -> None:
    """Each commit gives a variant named by its id."""
    with Repository.open(builder.path) as repository:
        commit = repository.commit("main")
        variant = CommitVariants(plan(env={"A": "1"}), [commit.oid], repository.commit)[commit.oid]
    assert (variant.id, variant.commit, variant.tree) == (commit.oid, commit.oid, commit.tree)
    assert variant.env == {"A": "1"}


# --- keys ---

VARIANT = Variant(id="h", commit=oid(1), tree=oid(2), command=CommandSpec(("pytest", "-q")))


def key(variant: Variant = VARIANT, attempt: int = 1, **shared: str) -> CacheKey:
    return cache_key(shared, variant, attempt=attempt)


@pytest.mark.parametrize(
    ("changed", "fields"),
    [
        ({"tree": oid(3)}, {"tree"}),
        ({"command": CommandSpec(("pytest", "-v"))}, {"command"}),
        ({"command": CommandSpec(("pytest -q",), shell=True)}, {"command"}),
        ({"env": {"A": "1"}}, {"env:A"}),
        ({"edits": (CommandSpec(("sed",)),)}, {"edits"}),
        ({"fresh": True}, {"fresh"}),
    ],
)
def test_what_changes_a_result_changes_its_key(changed: dict[str, object], fields: set[str]) -> None:
    """Tree, command, variables, edits and freshness are fields of the key, each by its name."""
    one, two = key(), key(evolve(VARIANT, **changed))
    assert one.digest != two.digest
    different = {n for n in {*one.fields, *two.fields} if one.fields.get(n) != two.fields.get(n)}
    assert different == fields


def test_what_does_not_change_a_result_does_not_change_its_key() -> None:
    """Id, commit (of the same tree), timeout and the way the tree came about are no part of the key."""
    other = evolve(VARIANT, id="other", commit=oid(9), timeout=3.0, patches=(PATCH,))
    assert key(other).digest == key().digest


def test_repeats_have_keys_of_their_own() -> None:
    """The number of the attempt keeps repeats independent."""
    assert key(attempt=1).digest != key(attempt=2).digest


@given(st.dictionaries(st.text(), st.text(), max_size=4), st.dictionaries(st.text(), st.text(), max_size=4))
def test_digests_are_equal_exactly_when_fields_are(one: dict[str, str], two: dict[str, str]) -> None:
    """Equal fields in any order have equal digests, different ones different digests."""
    assert CacheKey(dict(reversed(one.items()))).digest == CacheKey(one).digest
    assert (CacheKey(one).digest == CacheKey(two).digest) == (one == two)


def test_the_surroundings_are_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Declared variables, tool versions and the content of included files are fields; undeclared ones are not."""
    from arboretum.process import SubprocessRunner

    (tmp_path / ".env").write_text("x")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "one").write_text("1")
    a_plan = Plan(
        command=CommandSpec(("true",)), cache_env=("WATCHED",), include=(".env", "data", "gone"),
        cache_versions=(CommandSpec(("printf", "v1")),),
    )  # fmt: skip

    def fields() -> dict[str, str]:
        return shared_fields(a_plan, SubprocessRunner(), folder=str(tmp_path))

    first = fields()
    assert first["version:printf v1"] == "0: v1"
    assert first["inherited:WATCHED"] == ""
    assert first == fields()
    monkeypatch.setenv("UNWATCHED", "1")
    assert first == fields()
    monkeypatch.setenv("WATCHED", "")
    assert fields()["inherited:WATCHED"] == "="
    monkeypatch.delenv("WATCHED")
    (tmp_path / "data" / "one").write_text("2")
    changed = fields()
    assert {name for name in first if first[name] != changed[name]} == {"include:data"}
