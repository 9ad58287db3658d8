"""Prints the table of results that README.md shows: python experiments/papers/table.py."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results"


def lines() -> Iterator[str]:
    """Of the Markdown table, a line a claim."""
    yield "| | claim | held | ours |"
    yield "|---|---|---|---|"
    for file in sorted(RESULTS.glob("T*.json")):
        result = json.loads(file.read_text(encoding="utf-8"))
        for number, claim in enumerate(result["claims"]):
            name = f"**{result['paper']}** {result['title']}" if number == 0 else ""
            held = "yes" if claim["held"] else "**no**"
            yield f"| {name} | {claim['claim']} | {held} | {claim['because']} |"


if __name__ == "__main__":
    print("\n".join(lines()))
