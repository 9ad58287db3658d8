"""Scores as text, one table per evaluator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from contrastive.tables import text


def score_tables(name: str, results: Mapping[str, Any]) -> Iterator[str]:
    """Yields a table for each evaluator, with its baselines first.

    Args:
      name: Name of the scored model.
      results: Results with `scores`, and optionally `baselines` and `evaluators`, by evaluator.
    """
    for evaluator, scores in results.get("scores", {}).items():
        about = results.get("evaluators", {}).get(evaluator, {})
        counts = [f"{value:,} {what}" for what, value in about.get("counts", {}).items()]
        systems = {**results.get("baselines", {}).get(evaluator, {}), name: scores}
        rows = [
            [system, *(f"{metrics[x]:.4f}" if x in metrics else "-" for x in scores)]
            for system, metrics in systems.items()
        ]
        head = f"{evaluator}: {', '.join(counts)}" if counts else evaluator
        yield f"{head}\n\n{text(['', *scores], rows)}\n"
