"""What train and finetune show at their end: scores, files, and what to do next."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contrastive.cli.scores import score_tables
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
    from contrastive.sources._jsonl import Jsonl
    from contrastive.tasks._retrieval import Retrieval

    evaluators = (*experiment.final_evaluators.values(), *experiment.evaluators.values())
    held_out = [x for x in evaluators if isinstance(x, Retrieval)]
    sources = [x.data.path if isinstance(x.data, Jsonl) else x.data for x in held_out]
    files = [path for path in sources if isinstance(path, str)]
    folder = shlex.quote(str(output))
    corpus = "" if held_out else " --corpus TEXTS.txt"
    yield f"contrastive search {folder} 'a query'{corpus}"
    yield f"contrastive evaluate {folder} --retrieval {shlex.quote(files[0]) if files else 'DATA'}"
    yield f"contrastive encode {folder} --input TEXTS.txt --output vectors.npy"
    yield f"contrastive advise {folder}"
    yield f"contrastive report {folder}"
