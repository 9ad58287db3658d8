"""Prints the tables of results in the documentation: python experiments/papers/table.py."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from contrastive.papers import Verdict

OUTCOMES = ("held", "partly", "undecided", "failed")
RESULTS = Path(__file__).resolve().parent / "results"


def results() -> list[dict[str, Any]]:
    """Returns the committed results, in the order T1 to T8."""
    return [
        json.loads(file.read_text(encoding="utf-8")) for file in sorted(RESULTS.glob("T*.json"))
    ]


def lines() -> Iterator[str]:
    """Yields the lines of a Markdown table with one row per claim."""
    yield "| | claim | the paper's | ours | verdict |"
    yield "|---|---|---|---|---|"
    for result in results():
        for number, claim in enumerate(result["claims"]):
            name = f"**{result['paper']}** {result['title']}" if number == 0 else ""
            row = (name, claim["claim"], claim["theirs"], claim["because"], _verdict(claim))
            yield f"| {' | '.join(row)} |"


def _verdict(claim: dict[str, Any]) -> str:
    words = Verdict(claim["outcome"], claim["because"], claim["at"]).words
    return words if claim["outcome"] == "held" else f"**{words}**"


def counts(claims: Iterable[dict[str, Any]]) -> str:
    """Returns how many claims have each outcome, such as `3 held, 1 partly, 1 undecided`."""
    outcomes = [claim["outcome"] for claim in claims]
    known = [(outcome, outcomes.count(outcome)) for outcome in OUTCOMES]
    return ", ".join(f"{count} {outcome}" for outcome, count in known if count)


def summary() -> Iterator[str]:
    """Yields the lines of a Markdown table with one row per paper: its first claim and a count."""
    yield "| | its first claim | the paper's | ours | verdict | all claims |"
    yield "|---|---|---|---|---|---|"
    for result in results():
        first = result["claims"][0]
        name = f"**{result['paper']}** {result['title']}"
        words = (name, first["claim"], first["theirs"], first["because"])
        yield f"| {' | '.join(words)} | {_verdict(first)} | {counts(result['claims'])} |"


if __name__ == "__main__":
    print("\n".join([*lines(), "", *summary()]))
