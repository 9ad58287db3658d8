"""Seconds of a sweep, and of one of its runs alone: the two commands, by turns.

python benchmarks/sweep.py experiments/quickstart.py
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import hardware
import results
from interleave import spread

_TEMPERATURES = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measures, writes its result and prints a line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, help="of the experiment called default")
    parser.add_argument("--temperatures", type=float, nargs="+", default=_TEMPERATURES)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=3, help="after one that compiles")
    parser.add_argument("--device", choices=("cpu", "gpu"), default=None, help="a GPU if any")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results")
    chosen = parser.parse_args(arguments)
    chosen.device = chosen.device or ("gpu" if hardware.gpu_name() else "cpu")
    result = results.Result("sweep", chosen)
    found = measure(chosen.file, chosen.temperatures, chosen.seeds, chosen.rounds)
    result.add(found)
    share = found["share of single runs"]
    print(
        f"{found['runs']} runs: {found['sweep']['median']:.4g} s; one alone "
        f"{found['single']['median']:.4g} s: {share['median']:.3f} ({share['min']:.3f} to "
        f"{share['max']:.3f}) of the time of {found['runs']} commands\n{result.path}"
    )


def measure(file: Path, temperatures: Sequence[float], seeds: int, rounds: int) -> dict:
    """Seconds of both commands, the first round of each apart: it compiles.

    Args:
        file: Of the experiment called ``default``.
        temperatures: Of the sweep. A run alone has the experiment's own: the same program each
            time, which is compiled once, so that 24 of them could not take less.
        seeds: A temperature.
        rounds: At least one.

    Returns:
        Seconds, and the sweep's share of the time that its runs would take one by one.
    """
    train = ["train", str(file), "--workdir"]
    swept = ["--loss.temperature", *map(str, temperatures), "--seeds", str(seeds)]
    runs = len(temperatures) * seeds
    single, sweep = [], []
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds + 1):
            single.append(_seconds(*train, f"{scratch}/single-{number}"))
            folder = f"{scratch}/sweep-{number}"
            sweep.append(_seconds("sweep", str(file), "--workdir", folder, *swept))
            print(f"one {single[-1]:.1f} s, {runs} together {sweep[-1]:.1f} s", file=sys.stderr)
    shares = [together / (runs * one) for one, together in zip(single, sweep, strict=True)]
    return {
        "runs": runs,
        "single": {"first": single[0], "seconds": single[1:], **spread(single[1:])},
        "sweep": {"first": sweep[0], "seconds": sweep[1:], **spread(sweep[1:])},
        "share of single runs": spread(shares[1:]),
    }


def _seconds(*command: str) -> float:
    """Of a ``contrastive`` command, from its start to its end.

    Raises:
        RuntimeError: If it fails.
    """
    begin = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "contrastive", *command], capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"contrastive {' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
