"""What a finished run leaves behind: a model folder and its results."""

from __future__ import annotations

import dataclasses
import platform
import re
import shlex
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from contrastive.config import Experiment
from contrastive.evaluation.retrieval import evaluate, evaluate_bm25
from contrastive.interop.writing import save
from contrastive.training import distributed
from contrastive.training.assemble import Parts
from contrastive.training.checkpoint import Progress
from contrastive.training.log import Log
from contrastive.training.step import TrainState
from contrastive.training.workdir import write_json
from contrastive.types import Params

Results: TypeAlias = dict[str, Any]
_PACKAGES = ("contrastive", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tokenizers")


def finish(
    config: Experiment,
    parts: Parts,
    state: TrainState,
    progress: Progress,
    log: Log,
    workdir: Path,
    model_folder: Path,
) -> Results:
    """Exports the model, evaluates it beside BM25 and writes results.json.

    Args:
      config: The run.
      parts: What it is made of.
      state: With the parameters to keep.
      progress: Of the evaluations.
      log: Of the training.
      workdir: The run's folder.
      model_folder: Where the model goes.

    Returns:
      The results as they are written.
    """
    objective = parts.program.objective(config)
    scalars = objective.scalars(state.params, state.step, state.memory)
    temperature = scalars["temperature"]
    results: Results = {
        "name": config.name,
        "command": command(),
        "steps": int(state.step),
        "best_step": progress.best_step or int(state.step),
        "temperature": float(temperature),
        "validation": {config.metric: progress.best},
        "session": {  # of the last, where a run was resumed
            "training_seconds": round(log.seconds, 2),
            "waiting_share": round(log.waited / log.seconds, 4) if log.seconds else 0.0,
        },
        "hardware": hardware(),
        "versions": versions(),
    }
    task = parts.test or parts.validation
    if task is not None:
        results["task"] = task.name
        results["queries"] = len(task.queries)
        results["documents"] = len(task.corpus)
        results["scores"] = evaluate(parts.encoder, state.params["encoder"], task)
        results["bm25"] = evaluate_bm25(task)
    encoder = _on_host(state.params["encoder"], parts.encoder.mesh)
    if distributed.is_first():
        trained = dataclasses.replace(parts.model, params=encoder, temperature=float(temperature))
        save(model_folder, trained)
        write_json(workdir / "results.json", results)
    return results


def command() -> str:
    """The command line of this process, without secrets; empty in a notebook or another program."""
    if Path(sys.argv[0]).name not in ("contrastive", "__main__.py"):
        return ""
    words = shlex.join(["contrastive", *sys.argv[1:]])
    return re.sub(r"(--token[= ])\S+", r"\1...", words)


def hardware() -> dict[str, Any]:
    """What a number was measured on."""
    device = jax.devices()[0]
    return {
        "devices": jax.device_count(),
        "kind": device.device_kind,
        "processes": jax.process_count(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """What a number was measured with."""
    return {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}}


def _on_host(tree: Params, mesh: Mesh) -> Params:
    """NumPy arrays of parameters that may be cut over the devices of several processes."""
    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.device_get(jax.jit(lambda x: x, out_shardings=everywhere)(tree))
