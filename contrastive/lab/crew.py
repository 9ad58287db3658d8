"""Trains some runs of a sweep together, from their first step to their scores."""

from __future__ import annotations

import inspect
import json
import logging
import math
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Array, Float, Int, PyTree
from tqdm import tqdm

from contrastive.evaluation.encoder import Encoder
from contrastive.evaluation.retrieval import evaluate
from contrastive.lab.batched import Batched, States
from contrastive.lab.log import Log, last_metrics
from contrastive.training.assemble import Parts
from contrastive.training.workdir import write_json
from contrastive.types import Params

Row: TypeAlias = dict[str, Any]
Score: TypeAlias = Callable[[Encoder, Params], Mapping[str, float]]
Stop: TypeAlias = Callable[[], bool]

ROWS = "rows.json"


class Best(NamedTuple):
    """The parameters of each run that were best on the validation data.

    Attributes:
      params: Of encoders, stacked as states are.
      score: The metric; -inf before the first evaluation.
      step: When.
    """

    params: PyTree
    score: Float[Array, " M"]
    step: Int[Array, " M"]


def train(
    parts: Parts, batched: Batched, folder: Path, score: Score | None, stop: Stop
) -> list[Row] | None:
    """Trains and evaluates the runs, from where an earlier call stopped.

    Args:
      parts: Data and encoder of the runs.
      batched: The runs as one program.
      folder: Of these runs.
      score: Further numbers of an encoder; those of another function are found anew.
      stop: Says whether to stop.

    Returns:
      A row of results each; None when it was asked to stop.
    """
    finished, source = folder / ROWS, source_of(score)
    if finished.exists():
        kept = json.loads(finished.read_text(encoding="utf-8"))
        if kept["score"] == source:
            return kept["rows"]
    folder.mkdir(parents=True, exist_ok=True)
    with ocp.CheckpointManager(
        (folder / "checkpoints").absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=1)
    ) as checkpoints:
        trained = _to_the_end(parts, batched, folder, checkpoints, stop)
    rows = None if trained is None else _rows(parts, batched, folder, score, stop, *trained)
    if rows is not None:
        write_json(finished, {"score": source, "rows": rows})
    return rows


def source_of(score: Score | None) -> str:
    """The text of a function, by which another is told from it; not of those that it calls."""
    try:
        return inspect.getsource(score) if score else ""
    except (OSError, TypeError):  # of no file, or no function
        return repr(type(score))


def _to_the_end(
    parts: Parts, batched: Batched, folder: Path, checkpoints: ocp.CheckpointManager, stop: Stop
) -> tuple[States, Best] | None:
    base, feed = batched.base, parts.feed
    step, states, best = _resume(checkpoints, parts, batched)
    plain, diagnosing = batched.step(diagnosing=False), batched.step(diagnosing=True)
    fed = feed.take(stop=False)
    bar = tqdm(
        total=base.steps,
        initial=step,
        desc=f"{len(batched.members)} runs",
        unit=" steps",
        mininterval=0.1 if sys.stderr.isatty() else 10.0,
    )
    with bar, Log(batched.members, folder, step) as log:
        while step < base.steps and not stop():
            log_now = step == 0 or _due(step + 1, base.log_steps, base.steps)
            states, metrics = (diagnosing if log_now else plain)(states, fed.batch)
            step += 1
            # As in a run: from here on feed.position belongs to these states.
            fed = feed.take(stop=False)
            if log_now:
                bar.set_postfix(diverged=log.write(step, metrics, np.asarray(states.ended)))
            if parts.validation and _due(step, base.eval_steps, base.steps):
                scores = _evaluated(parts, batched, states)
                log.write_scores(step, scores)
                best = _better(batched, states, best, step, scores)
            if _due(step, base.examine_steps, base.steps):
                summary = batched.examine(states, fed.batch)
                log.write_summary(step, summary, np.asarray(states.ended))
            if base.save_steps and step % base.save_steps == 0:
                _save(checkpoints, step, feed.position, batched, states, best)
            bar.update()
    # The last step too: what comes after it, scores of all runs, can take long and fail.
    _save(checkpoints, step, feed.position, batched, states, best)
    return None if step < base.steps else (states, best)


def _resume(checkpoints: ocp.CheckpointManager, parts: Parts, batched: Batched):
    states = batched.init()
    # A copy, for a step takes the states it is given apart.
    kept = jax.tree.map(jnp.copy, states.train.params["encoder"]) if parts.validation else {}
    count = states.ended.shape
    best = Best(kept, jnp.full(count, -jnp.inf), jnp.zeros(count, jnp.int32))
    best = jax.device_put(best, batched.own)
    step = checkpoints.latest_step()
    if step is None:
        return 0, states, best
    like = {"states": states, "best": best}
    saved = jax.tree.map(lambda x: np.empty((len(batched.members), *x.shape[1:]), x.dtype), like)
    args = ocp.args.Composite(arrays=ocp.args.StandardRestore(saved), data=ocp.args.JsonRestore())
    found = checkpoints.restore(step, args=args)
    parts.feed.seek(found["data"])
    arrays = jax.tree.map(batched.divided, found["arrays"])
    return step, arrays["states"], arrays["best"]


def _save(
    checkpoints: ocp.CheckpointManager,
    step: int,
    position: Any,
    batched: Batched,
    states: States,
    best: Best,
) -> None:
    if step == checkpoints.latest_step():
        return
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every save at length
    # Of the runs alone: how many devices there were, and what filled them up, is not kept.
    count = len(batched.members)
    arrays = jax.tree.map(lambda x: np.asarray(x)[:count], {"states": states, "best": best})
    args = ocp.args.Composite(
        arrays=ocp.args.StandardSave(arrays), data=ocp.args.JsonSave(position)
    )
    checkpoints.save(step, args=args, force=True)
    checkpoints.wait_until_finished()


def _evaluated(parts: Parts, batched: Batched, states: States) -> dict[int, dict[str, float]]:
    """Scores on the validation data of the runs that go on, by place."""
    assert parts.validation is not None
    return {
        place: evaluate(
            parts.encoder, _one(states.train.params["encoder"], place), parts.validation
        )
        for place in _alive(batched, states)
    }


def _better(
    batched: Batched,
    states: States,
    best: Best,
    step: int,
    found: Mapping[int, Mapping[str, float]],
) -> Best:
    """The best parameters of each run after another evaluation."""
    scores = np.full(best.score.shape, -np.inf, np.float32)
    for place, values in found.items():
        scores[place] = values[batched.base.metric]
    scores = jax.device_put(scores, batched.own)
    better = scores > best.score

    def choose(new, old):
        return jnp.where(better.reshape(-1, *[1] * (old.ndim - 1)), new, old)

    params = jax.tree.map(choose, states.train.params["encoder"], best.params)
    return Best(params, choose(scores, best.score), choose(step, best.step))


def _rows(
    parts: Parts,
    batched: Batched,
    folder: Path,
    score: Score | None,
    stop: Stop,
    states: States,
    best: Best,
) -> list[Row] | None:
    task = parts.test or parts.validation
    evaluated = np.asarray(best.step) > 0
    alive = _alive(batched, states)
    last = last_metrics(folder)
    rows = []
    for place, member in enumerate(tqdm(batched.members, desc="evaluating", unit=" runs", delay=2)):
        if stop():
            return None
        row: Row = {
            "member": member.number,
            **member.values,
            "init_seed": member.init_seed,
            "diverged_at": int(states.ended[place]) or None,
            "best_step": int(best.step[place]) or None,
            **last.get(member.number, {}),
        }
        if place in alive:
            kept = best.params if evaluated[place] else states.train.params["encoder"]
            params = _one(kept, place)
            if evaluated[place]:
                row[f"validation/{batched.base.metric}"] = _number(best.score[place])
            found = {
                **(evaluate(parts.encoder, params, task) if task else {}),
                **(score(parts.encoder, params) if score else {}),
            }
            row |= {name: _number(x) for name, x in found.items()}
        rows.append(row)
    return rows


def _number(x: Any) -> float | None:
    """As JSON and tables take it; None where there is none."""
    return float(x) if math.isfinite(x) else None


def _alive(batched: Batched, states: States) -> list[int]:
    ended = np.asarray(states.ended)
    return [place for place in range(len(batched.members)) if not ended[place]]


def _one(stacked: PyTree, place: int) -> PyTree:
    """One run's arrays, on the first device."""
    return jax.device_put(jax.tree.map(lambda x: x[place], stacked), jax.devices()[0])


def _due(step: int, every: int | None, last: int) -> bool:
    return step == last or (every is not None and step % every == 0)
