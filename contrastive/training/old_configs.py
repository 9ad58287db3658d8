"""Converts configs and results that earlier versions wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contrastive.tasks._score_name import TEST, VALIDATION, ScoreName, columns, is_score
from contrastive.training.experiment import Experiment


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


def current_results(results: Mapping[str, Any], config: Experiment) -> dict[str, Any]:
    """Converts stored results to the format of this version, which states the split of the scores.

    Args:
      results: The contents of results.json.
      config: The config of the run.

    Returns:
      The results. Scores of versions without evaluators, which had a single task, become those of
      a task that is named after its split.
    """
    split = results.get("split", config.final_split)
    if not _has_one_task(results.get("scores", {})):
        if "split" in results:
            return dict(results)
        chosen = results.get("select_best", {})
        selected = {str(ScoreName(VALIDATION, *n.split("/", 1))): x for n, x in chosen.items()}
        return {**results, "split": split, "select_best": selected}
    counts = {name: results[name] for name in ("queries", "documents") if name in results}
    new = {name: x for name, x in results.items() if name not in (*counts, "bm25", "validation")}
    chosen = columns(VALIDATION, {VALIDATION: results.get("validation", {})})
    return {
        **new,
        "split": split,
        "select_best": chosen,
        "scores": {split: dict(results["scores"])},
        "baselines": {split: {"BM25": results["bm25"]}} if results.get("bm25") else {},
        "evaluators": {split: {"task": results.get("task", split), **counts}},
    }


def current_table(table: Mapping[str, Any], config: Experiment) -> dict[str, Any]:
    """Converts the stored table of a sweep to the format of this version.

    Args:
      table: The contents of sweep.json.
      config: The config that the runs share.

    Returns:
      The table. Columns of scores begin with their split, and test scores select nothing.
    """
    if "split" in table:
        return dict(table)
    split = config.final_split
    names = dict.fromkeys(name for row in table.get("rows", ()) for name in row)
    renamed = {name: _new_column(name, config) for name in names}
    rows = [{renamed[name]: x for name, x in row.items()} for row in table.get("rows", ())]
    if "metric" in table:  # without evaluators
        selected = f"{VALIDATION}/{table['metric']}"
        baselines = {split: {"BM25": table["bm25"]}} if table.get("bm25") else {}
        new = {name: x for name, x in table.items() if name not in ("metric", "bm25")}
        table = {**new, "baselines": baselines, "evaluators": {split: {}}}
    else:
        selected = _new_column(table.get("select_best") or "", config)
    is_validation = is_score(selected) and ScoreName.parse(selected).split == VALIDATION
    return {
        **table,
        "split": split,
        "select_best": selected if is_validation else None,
        "rows": rows,
    }


def current_row(row: Mapping[str, Any], config: Experiment) -> dict[str, Any]:
    """Converts a row of a sweep that is not finished; see `current_table`."""
    return {_new_column(name, config): x for name, x in row.items()}


_OLD_METRICS = ("nDCG@10", "MRR@10", "Recall@10", "Recall@100", "MAP")


def _new_column(name: str, config: Experiment) -> str:
    """Returns the new name of a column, which differs for scores alone."""
    if name in _OLD_METRICS:  # of versions without evaluators
        return f"{config.final_split}/{name}"
    task, slash, metric = name.partition("/")
    if not slash or task == "last":
        return name
    if task in config.final_evaluators:
        return str(ScoreName(TEST, task, metric))
    if task in config.evaluators:
        return str(ScoreName(VALIDATION, task, metric))
    return name


def _has_one_task(scores: Mapping[str, Any]) -> bool:
    """Returns whether scores are those of versions without evaluators: metrics by name."""
    return any(not isinstance(value, Mapping) for value in scores.values())


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
