"""Converts configs and results that earlier versions wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def is_old(config: Any) -> bool:
    """Returns whether a stored config was written before evaluators existed."""
    return isinstance(config, Mapping) and "metric" in config


def current(config: Any) -> dict[str, Any]:
    """Converts a stored config to the format of this version.

    Args:
      config: The contents of config.json.

    Returns:
      The fields of an experiment.
    """
    if not is_old(config):
        return dict(config)
    new = {name: value for name, value in config.items() if name != "metric"}
    new["detail_steps"] = new.pop("examine_steps", None)
    data = dict(new["data"])
    held_out = {name: data.pop(name, None) for name in ("validation", "test")}
    if data["train"].get("kind") == "mixture":
        data["train"] = _renamed(data["train"], one_source_batches="homogeneous_batches")
    prompt = {"row_prompt": data.get("row_prompt", "{}")}
    evaluators = {
        name: {"kind": "retrieval", "data": source, **prompt}
        for name, source in held_out.items()
        if source is not None
    }
    new["evaluators"] = {n: x for n, x in evaluators.items() if n == "validation"}
    new["final_evaluators"] = {n: x for n, x in evaluators.items() if n == "test"}
    if new["evaluators"]:
        new["select_best"] = f"validation/{config['metric']}"
    return {**new, "data": data, "loss": _objective(new["loss"])}


def current_results(results: Mapping[str, Any]) -> dict[str, Any]:
    """Converts stored results to the format of this version.

    Args:
      results: The contents of results.json.

    Returns:
      The results. Scores of earlier versions, which had a single task, are those of "test".
    """
    scores = results.get("scores", {})
    if not any(isinstance(value, int | float) for value in scores.values()):
        return dict(results)
    counts = {name: results[name] for name in ("queries", "documents") if name in results}
    new = {name: x for name, x in results.items() if name not in (*counts, "bm25", "validation")}
    return {
        **new,
        "select_best": {f"validation/{n}": x for n, x in results.get("validation", {}).items()},
        "scores": {"test": dict(scores)},
        "baselines": {"test": {"BM25": results["bm25"]}} if results.get("bm25") else {},
        "evaluators": {"test": {"task": results.get("task", "test"), **counts}},
    }


def _objective(loss: Mapping[str, Any]) -> dict[str, Any]:
    new = _renamed(
        loss,
        widths="matryoshka_dims",
        width_weights="matryoshka_weights",
        shards="negative_groups",
    )
    distill, spread_out = new.pop("distill", None), new.pop("spread_out", None)
    terms = [{"loss": new["function"], "weight": 1.0}]
    if distill is not None:
        teacher = {"kind": f"distill_{distill['kind']}"}
        teacher["teacher_temperature"] = distill["temperature"]
        term = {"loss": teacher, "weight": distill["weight"]}
        terms = [term] if distill["kind"] == "m3" else [*terms, term]
    if spread_out is not None:
        settings = {name: value for name, value in spread_out.items() if name != "weight"}
        term = {"loss": {"kind": "spread_out", **settings}, "weight": spread_out["weight"]}
        terms.append(term)
    if distill is not None or spread_out is not None:
        new["function"] = {"kind": "sum", "terms": terms}
    return new


def _renamed(fields: Mapping[str, Any], **names: str) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in fields.items()}
