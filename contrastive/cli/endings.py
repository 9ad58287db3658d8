"""What train and finetune show at their end: scores, files, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contrastive.cli.scores import score_tables
from contrastive.cli.task_flags import tasks_of_one_path
from contrastive.tasks._evaluator import Evaluator
from contrastive.training.experiment import Experiment


def show_run(
    results: Mapping[str, Any], experiment: Experiment, workdir: Path, output: Path
) -> None:
    """Prints the results of a run.

    Args:
      results: The contents of results.json.
      experiment: Config of the run.
      workdir: Folder of the run.
      output: The folder that commands take: that of the run, or the output folder of finetune.
    """
    session = results["session"]
    print(
        f"\n{results['name']}: {results['steps']} steps, {session['training_seconds']:.0f} s of "
        f"training in the last session, {session['waiting_share']:.1%} of it waiting for data; "
        f"temperature {results['temperature']:.3g}"
    )
    for name, value in results["select_best"].items():
        if value is not None:
            print(f"best: step {results['best_step']}, with {name} {value:.4f}")
    for words in score_tables(results["name"], results):
        print(words)
    model = output if output != workdir else workdir / "model"
    print(f"\nmodel: {model}   results: {workdir / 'results.json'}\n\nnext:")
    for command in next_commands(experiment, output):
        print(f"  {command}")


def next_commands(experiment: Experiment, output: Path) -> Iterator[str]:
    """Yields commands that use what a run wrote.

    Args:
      experiment: Config of the run, whose evaluators name data.
      output: Folder of the run, or the output folder of finetune.
    """
    from contrastive.tasks._retrieval import Retrieval

    evaluators = (*experiment.final_evaluators.values(), *experiment.evaluators.values())
    has_documents = any(isinstance(x, Retrieval) for x in evaluators)
    tasks = [flags for x in evaluators if (flags := _flags(x))]
    folder = shlex.quote(str(output))
    yield f"contrastive search {folder} 'a query'{'' if has_documents else ' --corpus TEXTS.txt'}"
    yield f"contrastive evaluate {folder} {tasks[0] if tasks else '--retrieval DATA'}"
    yield f"contrastive encode {folder} --input TEXTS.txt --output vectors.npy"
    yield f"contrastive advise {folder}"
    yield f"contrastive report {folder}"


def _flags(evaluator: Evaluator) -> str:
    """Returns the flags of `contrastive evaluate` for the data of an evaluator, if it is a file."""
    from contrastive.sources._jsonl import Jsonl
    from contrastive.tasks._classification import Classification

    if isinstance(evaluator, Classification):
        return shlex.join(["--classification", evaluator.train, evaluator.test])
    for flag, (kind, field) in tasks_of_one_path().items():
        if isinstance(evaluator, kind):
            data = getattr(evaluator, field)
            path = data.path if isinstance(data, Jsonl) else data
            if isinstance(path, str):
                return shlex.join([f"--{flag.replace('_', '-')}", path])
    return ""
