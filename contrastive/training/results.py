"""Exports a finished run: a model folder and its results."""

from __future__ import annotations

import dataclasses
import platform
import re
import shlex
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import jax

from contrastive.devices import distributed
from contrastive.encoding import host_arrays
from contrastive.files import write_json
from contrastive.interop.hf_export import model_digest, save
from contrastive.interop.model_card import model_card, write_card
from contrastive.json_files import read_json
from contrastive.tasks._suite import Evaluated, Suite
from contrastive.training.build import BuiltRun
from contrastive.training.card import training_facts
from contrastive.training.experiment import Experiment
from contrastive.training.loop import Trained
from contrastive.training.stored import EXAMPLES, RESULTS
from contrastive.types import Params

Results: TypeAlias = dict[str, Any]

_PACKAGES = ("contrastive", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "tokenizers")


def write_results(
    config: Experiment,
    built: BuiltRun,
    trained: Trained,
    params: Params,
    workdir: Path,
    model_folder: Path,
) -> Results:
    """Exports the model, scores it along with baselines, and writes results.json.

    Args:
      config: Config of the run.
      built: Components of the run.
      trained: Result of the training loop.
      params: Parameters to export.
      workdir: Folder of the run.
      model_folder: Folder that the model is written to.

    Returns:
      The results as they are written.
    """
    batch_loss = built.functions.batch_loss(config)
    scalars = batch_loss.scalars(params, trained.state.step, trained.state.memory)
    temperature = float(scalars["temperature"])
    on_host = host_arrays(params["encoder"], built.encoder.mesh)
    (best,), (best_step,) = trained.progress.best, trained.progress.best_step
    digest = None
    if distributed.is_first():  # before the evaluators, which may fail
        model = dataclasses.replace(
            built.functions.start.model, params=on_host, temperature=temperature
        )
        facts = training_facts(config, built.functions.examples, best_step or trained.step)
        digest = save(model_folder, model, facts)
    encoder = built.encoder.with_params(params["encoder"])
    evaluated = (built.final_evaluators or built.evaluators).evaluate(encoder)
    results: Results = {
        "name": config.name,
        "command": command(),
        "steps": trained.step,
        "best_step": best_step or trained.step,
        "temperature": temperature,
        "model_digest": digest,
        "select_best": {config.select_by: best} if config.select_by else {},
        "split": config.final_split,
        "session": {  # the last session, if the run was resumed
            "training_seconds": round(trained.seconds, 2),
            "waiting_share": round(trained.waited / trained.seconds, 4) if trained.seconds else 0.0,
        },
        **evaluation(built.final_evaluators or built.evaluators, evaluated),
        "hardware": hardware(),
        "versions": versions(),
    }
    if distributed.is_first():
        write_examples(workdir, config.final_split, {0: evaluated})
        facts = dataclasses.replace(facts, scores=results.get("scores", {}))
        write_card(model_folder, model_card(model, facts))
        write_json(workdir / RESULTS, results)
    return results


def finished(workdir: Path, model_folder: Path) -> Results | None:
    """Returns the results of a finished run whose model is still the one that it exported.

    Args:
      workdir: Folder of the run.
      model_folder: Folder of the exported model.

    Returns:
      The results; None if the run is not finished, or if its model must be exported again.

    Raises:
      FolderError: If the results are damaged.
    """
    path = workdir / RESULTS
    if not path.exists():
        return None
    remedy = "remove it to evaluate and export the model again"
    results: Results = read_json(path, dict[str, Any], remedy=remedy)
    if "model_digest" not in results:  # of an older version
        return results if model_folder.is_dir() else None
    return results if model_digest(model_folder) == results["model_digest"] else None


def write_examples(folder: Path, split: str, evaluated: Mapping[int, Evaluated]) -> None:
    """Writes what a few queries retrieved, for the report; nothing if no task retrieves.

    Args:
      folder: Folder of the run, or of a program of a sweep.
      split: Split of the queries.
      evaluated: Result of the evaluation of each run, by its number.
    """
    runs = {number: one.examples for number, one in evaluated.items() if one.examples}
    if runs:
        write_json(folder / EXAMPLES, {"split": split, "runs": runs})


def evaluation(suite: Suite, evaluated: Evaluated) -> dict[str, Any]:
    """Returns scores, baselines and descriptions of the evaluators; empty without evaluators."""
    if not suite:
        return {}
    return {
        "scores": evaluated.scores,
        "baselines": suite.baselines(),
        "evaluators": suite.describe(),
    }


def command() -> str:
    """Returns the command line without secrets; empty in a notebook or another program."""
    program = Path(sys.argv[0])
    if program.name != "contrastive" and program.parts[-2:] != ("contrastive", "__main__.py"):
        return ""
    words = shlex.join(["contrastive", *sys.argv[1:]])
    return re.sub(r"(--(?:\w+[_-])?token[= ])\S+", r"\1...", words)


def hardware() -> dict[str, Any]:
    """Describes the hardware of this process."""
    device = jax.devices()[0]
    return {
        "devices": jax.device_count(),
        "kind": device.device_kind,
        "processes": jax.process_count(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def versions() -> dict[str, str]:
    """Returns the versions of Python and of the main packages."""
    return {"python": platform.python_version(), **{p: version(p) for p in _PACKAGES}}
