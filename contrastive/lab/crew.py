"""Trains some runs of a sweep together, from their first step to their scores."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
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
from contrastive.evaluation.task import Retrieval
from contrastive.lab.batched import Batched, States
from contrastive.temperature.details import Summary
from contrastive.training.assemble import Parts
from contrastive.training.interrupt import Interrupt
from contrastive.training.log import HISTOGRAMS, divided
from contrastive.training.workdir import write_json
from contrastive.training.writers import JsonLines, read_metrics
from contrastive.types import Params

Row: TypeAlias = dict[str, Any]
Score: TypeAlias = Callable[[Encoder, Params], Mapping[str, float]]


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
    parts: Parts, batched: Batched, folder: Path, score: Score | None = None
) -> list[Row] | None:
    """Trains and evaluates the runs, from where an earlier call stopped.

    Args:
      parts: Data and encoder of the runs.
      batched: The runs as one program.
      folder: Of these runs.
      score: Further numbers of an encoder.

    Returns:
      A row of results each; None when it was asked to stop.
    """
    finished = folder / "rows.json"
    if finished.exists():
        return json.loads(finished.read_text(encoding="utf-8"))
    folder.mkdir(parents=True, exist_ok=True)
    with ocp.CheckpointManager(
        (folder / "checkpoints").absolute(), options=ocp.CheckpointManagerOptions(max_to_keep=1)
    ) as checkpoints:
        trained = _train(parts, batched, folder, checkpoints)
    if trained is None:
        return None
    rows = _rows(parts, batched, folder, score, *trained)
    write_json(finished, rows)
    return rows


def _train(
    parts: Parts, batched: Batched, folder: Path, checkpoints: ocp.CheckpointManager
) -> tuple[States, Best] | None:
    base, feed = batched.base, parts.feed
    step, states, best = _resume(checkpoints, parts, batched)
    plain, diagnosing = batched.step(diagnosing=False), batched.step(diagnosing=True)
    fed = feed.take(stop=False)
    writer = JsonLines(folder / "metrics.jsonl", step)
    histograms = JsonLines(folder / HISTOGRAMS, step)
    bar = tqdm(
        total=base.steps,
        initial=step,
        desc=f"{len(batched.members)} runs",
        unit=" steps",
        mininterval=0.1 if sys.stderr.isatty() else 10.0,
    )
    with bar, Interrupt() as interrupt:
        while step < base.steps and not interrupt.asked:
            log_now = step == 0 or _due(step + 1, base.log_steps, base.steps)
            states, metrics = (diagnosing if log_now else plain)(states, fed.batch)
            step += 1
            # As in a run: from here on feed.position belongs to these states.
            fed = feed.take(stop=False)
            if log_now:
                for member, values in _of_each(batched, metrics):
                    writer.write(step, {"member": member, **divided(values)[0]})
                bar.set_postfix(diverged=int(np.sum(np.asarray(states.ended) > 0)))
            if parts.validation and _due(step, base.eval_steps, base.steps):
                best = _better(parts, batched, states, best, step, parts.validation)
            if _due(step, base.examine_steps, base.steps):
                for member, summary in _of_each(batched, batched.examine(states, fed.batch)):
                    scalars, bins = divided(summary)
                    writer.write(step, {"member": member, **scalars})
                    histograms.write(step, {"member": member, **bins})
            if _due(step, base.save_steps, base.steps) and step < base.steps:
                _save(checkpoints, step, feed.position, states, best)
            bar.update()
    writer.close()
    histograms.close()
    if step < base.steps:
        _save(checkpoints, step, feed.position, states, best)
        return None
    return states, best


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
    like = jax.tree.map(ocp.utils.to_shape_dtype_struct, {"states": states, "best": best})
    args = ocp.args.Composite(arrays=ocp.args.StandardRestore(like), data=ocp.args.JsonRestore())
    kept = checkpoints.restore(step, args=args)
    parts.feed.seek(kept["data"])
    return step, kept["arrays"]["states"], kept["arrays"]["best"]


def _save(checkpoints: ocp.CheckpointManager, step: int, position, states: States, best: Best):
    if step == checkpoints.latest_step():
        return
    logging.getLogger("absl").setLevel(logging.ERROR)  # Orbax tells every save at length
    args = ocp.args.Composite(
        arrays=ocp.args.StandardSave({"states": states, "best": best}),
        data=ocp.args.JsonSave(position),
    )
    checkpoints.save(step, args=args, force=True)
    checkpoints.wait_until_finished()


def _of_each(batched: Batched, arrays: Mapping[str, Array]) -> Iterator[tuple[int, Summary]]:
    """The number of each run, and its part of arrays of all."""
    on_host = {name: np.asarray(x) for name, x in arrays.items() if name != "finite"}
    for place, member in enumerate(batched.members):
        yield member.number, {name: x[place] for name, x in on_host.items()}


def _better(
    parts: Parts, batched: Batched, states: States, best: Best, step: int, task: Retrieval
) -> Best:
    """The best parameters after another evaluation; a run that has diverged keeps its own."""
    scores = np.full(best.score.shape, -np.inf, np.float32)
    for place in _alive(batched, states):
        params = _one(states.train.params["encoder"], place)
        scores[place] = evaluate(parts.encoder, params, task)[batched.base.metric]
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
    states: States,
    best: Best,
) -> list[Row]:
    task = parts.test or parts.validation
    evaluated = np.asarray(best.step) > 0
    alive = _alive(batched, states)
    last = last_metrics(folder)
    rows = []
    for place, member in enumerate(tqdm(batched.members, desc="evaluating", unit=" runs", delay=2)):
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
            row |= evaluate(parts.encoder, params, task) if task else {}
            row |= score(parts.encoder, params) if score else {}
        rows.append(row)
    return rows


def last_metrics(folder: Path) -> dict[int, dict[str, float]]:
    """What was last logged of each run, as `last/loss` and the like."""
    found: dict[int, dict[str, float]] = {}
    for row in read_metrics(folder / "metrics.jsonl"):
        own = found.setdefault(int(row["member"]), {})
        own |= {f"last/{name}": x for name, x in row.items() if name not in ("member", "step")}
    return found


def _alive(batched: Batched, states: States) -> list[int]:
    ended = np.asarray(states.ended)
    return [place for place in range(len(batched.members)) if not ended[place]]


def _one(stacked: PyTree, place: int) -> PyTree:
    """One run's arrays, on the first device."""
    return jax.device_put(jax.tree.map(lambda x: x[place], stacked), jax.devices()[0])


def _due(step: int, every: int | None, last: int) -> bool:
    return step == last or (every is not None and step % every == 0)
