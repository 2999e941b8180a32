"""Makers and strategies of tasks for the tests of orchestration."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import strategies as st

from arboretum.engine.model import CommandSpec
from arboretum.orchestration.scheduling import Limits
from arboretum.orchestration.scopes import Scope
from arboretum.orchestration.tasks import Task


def task(name: str, *, scope: Iterable[str] | None = None, **values: Any) -> Task:
    """A task that does nothing; its scope is a folder of its own unless another is given."""
    values.setdefault("command", CommandSpec(("true",)))
    return Task(id=name, scope=Scope(tuple(scope) if scope is not None else (f"/own/{name}/",)), **values)


@st.composite
def task_lists(
    draw: st.DrawFn, *, max_size: int = 12, conflicts: bool = True, resources: bool = True, edges: bool = True
) -> list[Task]:
    """Tasks with random dependencies (on earlier ones), scopes that may meet, times and needs."""
    made: list[Task] = []
    for index in range(draw(st.integers(1, max_size))):
        earlier = [t.id for t in made]
        scope = [f"/own/{index}/"]
        if conflicts and draw(st.booleans()):
            scope = draw(st.lists(st.sampled_from(["/a/", "/b/", "/a/x/", "/b/*.py", "/c/**"]), min_size=1, max_size=2))
        needs: dict[str, Any] = {}
        if resources:
            needs["cpus"] = draw(st.sampled_from([0.5, 1.0, 1.0, 2.0]))
            needs["memory"] = draw(st.sampled_from([0, 0, 1, 2]))
            needs["exclusive"] = tuple(draw(st.sets(st.sampled_from(["port:1", "db"]), max_size=1)))
        depends = draw(st.sets(st.sampled_from(earlier), max_size=2)) if edges and earlier else set()
        made.append(
            task(
                f"t{index}",
                scope=scope,
                depends_on=tuple(sorted(depends)),
                estimate=draw(st.integers(1, 20)) * 1.0,
                **needs,
            )
        )
    return draw(st.permutations(made)) if edges else made


limits = st.builds(
    Limits,
    slots=st.integers(1, 4),
    cpus=st.sampled_from([None, 2.0, 3.0]),
    memory=st.sampled_from([None, 2, 3]),
)
