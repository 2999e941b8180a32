"""The JSON of a run: one object, versioned by its ``schema`` key; the schema is in ``schemas/run-1.schema.json``."""

from __future__ import annotations

import json
from importlib import resources
from typing import TYPE_CHECKING, Any, Final

from arboretum.engine.model import Hypothesis, Judgement, Trial
from arboretum.values import jsonable

if TYPE_CHECKING:
    from arboretum.engine.result import RunResult

RUN_SCHEMA: Final = "arboretum/run/1"


def run_document(result: RunResult) -> dict[str, Any]:
    """`result` as plain data that JSON can carry.

    Args:
        result: The run.

    Returns:
        An object that the published schema describes; `load_schema` gives that schema.
    """
    plan = result.plan
    by_id = {hypothesis.id: hypothesis for hypothesis in plan.hypotheses}
    document: dict[str, Any] = _clean(
        {
            "schema": RUN_SCHEMA,
            "run": result.run,
            "title": plan.title,
            "status": result.status.value,
            "base": result.base,
            "command": list(plan.command.argv),
            "started": result.started,
            "duration_s": round(result.duration, 6),
            "control": {"trials": [trial_document(trial) for trial in result.control]},
            "hypotheses": [_hypothesis(judgement, by_id.get(judgement.hypothesis)) for judgement in result.judgements],
            "recommendation": result.recommendation,
            "notes": list(result.notes),
        }
    )
    return document


def render_json(result: RunResult) -> str:
    """`run_document` as text, indented, with a line break at the end."""
    return json.dumps(run_document(result), indent=2, ensure_ascii=False) + "\n"


def load_schema(name: str) -> dict[str, Any]:
    """A published JSON Schema by its name, e.g. ``"run-1"``.

    Raises:
        FileNotFoundError: There is none of that name.
    """
    text = resources.files("arboretum.report").joinpath("schemas", f"{name}.schema.json").read_text("utf-8")
    schema: dict[str, Any] = json.loads(text)
    return schema


def trial_document(trial: Trial) -> dict[str, Any]:
    """One trial as plain data."""
    return {
        "attempt": trial.attempt,
        "outcome": trial.outcome.value,
        "exit_code": trial.exit_code,
        "duration_s": round(trial.duration, 6),
        "started": trial.started,
        "slot": trial.slot,
        "commit": trial.commit,
        "tree": trial.tree,
        "cached": trial.cached,
        "leaked": trial.leaked,
        "message": trial.message,
        "output_tail": trial.output_tail,
        "output_paths": dict(trial.output_paths),
        "metrics": dict(trial.metrics),
    }


def _hypothesis(judgement: Judgement, hypothesis: Hypothesis | None) -> dict[str, Any]:
    return {
        "id": judgement.hypothesis,
        "description": hypothesis.description if hypothesis else "",
        "expect": hypothesis.expect.value if hypothesis else "pass",
        "verdict": judgement.verdict.value,
        "reason": judgement.reason.value,
        "confidence": round(judgement.confidence, 6),
        "notes": list(judgement.notes),
        "trials": [trial_document(trial) for trial in judgement.trials],
    }


def _clean(value: Any) -> Any:
    """The same data with every text fit for JSON."""
    if isinstance(value, dict):
        return {jsonable(str(key)): _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return jsonable(str(value)) if isinstance(value, str) else value
