"""Scores as text, one table per evaluator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from contrastive.tables import text
from contrastive.tasks._score_name import task_title


def score_tables(name: str, results: Mapping[str, Any]) -> Iterator[str]:
    """Yields a table for each evaluator, with its baselines first.

    Args:
      name: Name of the scored model.
      results: Results with `scores`, and optionally `baselines` and `evaluators`, by evaluator, and
        the `split` of all scores.
    """
    for evaluator, scores in results.get("scores", {}).items():
        about = results.get("evaluators", {}).get(evaluator, {})
        counts = [f"{value:,} {what}" for what, value in about.get("counts", {}).items()]
        systems = {**results.get("baselines", {}).get(evaluator, {}), name: scores}
        rows = [
            [system, *(f"{metrics[x]:.4f}" if x in metrics else "-" for x in scores)]
            for system, metrics in systems.items()
        ]
        title = task_title(results["split"], evaluator) if "split" in results else evaluator
        head = f"{title}: {', '.join(counts)}" if counts else title
        yield f"{head}\n\n{text(['', *scores], rows)}\n"
