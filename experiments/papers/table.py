"""Prints the tables of results in the documentation: python experiments/papers/table.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def results() -> list[dict[str, Any]]:
    """Returns the committed results, in the order T1 to T8."""
    return [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("T*.json"))
    ]


def lines() -> Iterator[str]:
    """Yields the lines of a Markdown table with one row per claim."""
    yield "| | claim | the paper's | ours | held |"
    yield "|---|---|---|---|---|"
    for result in results():
        for number, claim in enumerate(result["claims"]):
            name = f"**{result['paper']}** {result['title']}" if number == 0 else ""
            held = _held(claim)
            row = (name, claim["claim"], claim["theirs"], claim["because"], held)
            yield f"| {' | '.join(row)} |"


def _held(claim: dict[str, Any]) -> str:
    return {True: "yes", False: "**no**", None: "undecided"}[claim["held"]]


def summary() -> Iterator[str]:
    """Yields the lines of a Markdown table with one row per paper: its first claim and a count."""
    yield "| | its first claim | the paper's | ours | held | all claims |"
    yield "|---|---|---|---|---|---|"
    for result in results():
        first, held = result["claims"][0], sum(claim["held"] is True for claim in result["claims"])
        name = f"**{result['paper']}** {result['title']}"
        words = (name, first["claim"], first["theirs"], first["because"])
        yield f"| {' | '.join(words)} | {_held(first)} | {held} of {len(result['claims'])} held |"


if __name__ == "__main__":
    print("\n".join([*lines(), "", *summary()]))
