"""What diagnostics cost a run: steps with and without them, and the closer look, interleaved.

python benchmarks/diagnostics.py experiments/quickstart.py [--log_steps 10] [--detail_steps 100]
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from contrastive.cli.experiment_files import load_experiments
from contrastive.training.build import build
from contrastive.training.results import hardware, versions


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, prints a line, and writes results where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--log_steps", type=int, default=10)
    parser.add_argument("--detail_steps", type=int, default=100)
    parser.add_argument("--output", type=Path)
    chosen = parser.parse_args(arguments)
    seconds = measure(chosen.file, chosen.rounds)
    plain, described, examined = (statistics.median(x) for x in seconds.values())
    logging = (described - plain) / chosen.log_steps / plain
    examining = examined / chosen.detail_steps / plain
    result = {
        "experiment": str(chosen.file),
        "seconds": {name: statistics.median(x) for name, x in seconds.items()},
        "log_steps": chosen.log_steps,
        "detail_steps": chosen.detail_steps,
        "share of a step": {"described": logging, "examined": examining},
        "hardware": hardware(),
        "versions": versions(),
    }
    print(
        f"a step {plain * 1e3:.1f} ms, with diagnostics {described * 1e3:.1f} ms, the closer look "
        f"{examined * 1e3:.1f} ms: {logging:.2%} of the time every {chosen.log_steps} steps, "
        f"{examining:.2%} every {chosen.detail_steps}"
    )
    if chosen.output:
        chosen.output.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(file: Path, rounds: int) -> dict[str, list[float]]:
    """Seconds of each of some rounds; one of each kind a round, after one that compiles.

    Each kind is first, second and last by turns: what runs before leaves a cache behind.

    Args:
        file: Of the experiment called ``default``.
        rounds: How many.
    """
    run = build(load_experiments(file)["default"])
    batch = run.feed.take(stop=False).batch
    state = run.init()
    seconds: dict[str, list[float]] = {"plain": [], "described": [], "examined": []}

    def timed(function: Callable, *inputs):
        begin = time.perf_counter()
        found = jax.block_until_ready(function(*inputs))
        return found, time.perf_counter() - begin

    kinds = list(seconds)
    for number in range(rounds + 1):
        for kind in kinds[number % 3 :] + kinds[: number % 3]:
            if kind == "examined":
                _, taken = timed(run.describe, state, batch)
            else:
                described = jnp.asarray(kind == "described")
                (state, _), taken = timed(run.train_step, state, batch, described)
            if number:
                seconds[kind].append(taken)
    return seconds


if __name__ == "__main__":
    main()
