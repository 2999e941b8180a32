"""Plans and hypotheses that are made in Python cannot be wrong."""

from __future__ import annotations

import pytest

from arboretum import Repository, run_plan
from arboretum.engine.model import CommandSpec, Expectation, Hypothesis, Plan
from arboretum.errors import InvalidValueError, UsageError
from arboretum.testing.builders import CommitSpec, RepositoryBuilder


def test_commands_are_texts_lists_or_specs() -> None:
    """A text is split as a shell would split it; a list and a spec are taken as they are."""
    spec = CommandSpec(("make && ./check",), shell=True)
    assert Plan(command="pytest -q 'a b'").command == CommandSpec(("pytest", "-q", "a b"))
    assert Plan(command=["make", "x y"], setup="make").setup == CommandSpec(("make",))
    assert Hypothesis(id="a", edit=spec).edit is spec
    with pytest.raises(InvalidValueError, match="quotation"):
        Plan(command="make 'x")


def test_predictions_are_words_too() -> None:
    """A prediction may be a word; it means what the constant means, and nothing else is one."""
    assert Hypothesis(id="a", expect="fail").expect is Expectation.FAIL
    with pytest.raises(InvalidValueError, match="perhaps"):
        Hypothesis(id="a", expect="perhaps")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Hypothesis(id="a b"), "cannot be an id"),
        (lambda: Hypothesis(id="control"), "the base itself"),
        (lambda: Hypothesis(id="a", ref="x", env={"A": "1"}), "ref and env"),
        (lambda: Plan(command="true", repeats=0), "1 repeat or more"),
        (lambda: Plan(command="true", hypotheses=[Hypothesis(id="a"), Hypothesis(id="a")]), "two hypotheses"),
        (lambda: Plan(command="true", hypotheses=[Hypothesis(id="a", combine=("b", "c"))]), "no hypothesis 'b'"),
    ],
)
def test_what_cannot_be_meant_cannot_be_made(make, says) -> None:
    """What a plan file would be refused for is refused here, too."""
    with pytest.raises(InvalidValueError, match=says):
        make()


def test_a_run_of_nothing_is_refused(tmp_path) -> None:
    """A plan without hypotheses is told as that, and not as hypotheses that are all falsified."""
    builder = RepositoryBuilder.init(tmp_path / "repo")
    builder.commits([CommitSpec({"a": "1"}, "start")])
    with Repository.open(builder.path) as repository, pytest.raises(UsageError, match="no hypothesis"):
        run_plan(repository, Plan(command="true"))
