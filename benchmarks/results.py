"""Results: made of times, kept in dated files, shown as tables."""

import argparse
import datetime
import json
import shlex
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hardware
from interleave import OURS, against_faster_peer, spread

NAMES = {
    OURS: "contrastive",
    "flagembedding": "FlagEmbedding",
    "sentence_transformers": "sentence-transformers",
}


class Result:
    """A result in the making, written anew with every setting that is done.

    Args:
        task: ``finetune`` or ``encode``, the first word of the file's name.
        chosen: The command line's options.
    """

    def __init__(self, task: str, chosen: argparse.Namespace):
        machine = hardware.describe(chosen.device)
        today = datetime.date.today().isoformat()
        here = ("table", "output")  # which folders a machine has is nobody else's business
        shown = {name: value for name, value in vars(chosen).items() if name not in here}
        self.value: dict[str, Any] = {
            "task": task,
            "date": today,
            "command": shlex.join([Path(sys.executable).name, *sys.argv]),
            "options": json.loads(json.dumps(shown, default=str)),
            "commit": hardware.commit(),
            "hardware": machine,
            "peak_tflops": shown.get("peak_tflops") or hardware.peak_tflops(machine),
            "versions": hardware.versions(),
            "settings": [],
        }
        stem = f"{task}-{today}-{hardware.slug(machine)}"
        taken = (f"{stem}-{number}" if number > 1 else stem for number in range(1, 1000))
        self.path = next(
            path for name in taken if not (path := chosen.output / f"{name}.json").exists()
        )

    def add(self, setting: Mapping[str, Any]) -> None:
        """Takes a setting's results in, and writes the file."""
        self.value["settings"].append(dict(setting))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(json.dumps(self.value, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    """Reads a result's file."""
    return json.loads(path.read_text("utf-8"))


def told(settings: Mapping[str, Any]) -> dict[str, Any]:
    """What the libraries were told, without the folders of this machine."""
    return {
        name: value
        for name, value in settings.items()
        if not name.endswith("_file") and name != "model_folder"
    }


def of_library(
    answers: Sequence[Mapping[str, Any]],
    *,
    warmup: int,
    texts: int,
    tokens: Sequence[int],
    flops: Sequence[float],
    peak_tflops: float | None,
) -> dict[str, Any]:
    """What the times of one library say.

    Args:
        answers: Of every step, warm-up included.
        warmup: Steps to leave out.
        texts: In a step.
        tokens: Without padding, of each step.
        flops: That each step needs, without padding.
        peak_tflops: Of the device, None where it is not known.

    Returns:
        Seconds of every step, their spread, and medians of what they are worth.
    """
    every = [answer["seconds"] for answer in answers]
    seconds, tokens, flops = every[warmup:], tokens[warmup:], flops[warmup:]
    tflops = statistics.median(f / s / 1e12 for f, s in zip(flops, seconds, strict=True))
    found = {
        "seconds": seconds,
        "warmup_seconds": every[:warmup],
        **spread(seconds),
        "texts_per_second": texts / statistics.median(seconds),
        "tokens_per_second": statistics.median(t / s for t, s in zip(tokens, seconds, strict=True)),
        "model_tflops_per_second": tflops,
        "utilisation": tflops / peak_tflops if peak_tflops else None,
    }
    if "loss" in answers[0]:
        found["losses"] = [answer["loss"] for answer in answers]
    return found


def ratio(libraries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any] | None:
    """Ours against the faster peer, step by step."""
    return against_faster_peer({name: found["seconds"] for name, found in libraries.items()})


def table(result: Mapping[str, Any]) -> str:
    """A result as Markdown.

    Args:
        result: As the file has it.

    Returns:
        Where it was measured, and a row for each setting and library.
    """
    machine, versions, options = result["hardware"], result["versions"], result["options"]
    unit = "step" if result["task"] == "finetune" else "pass"
    heads = ["setting", "library", f"seconds a {unit} (range)", "texts/s", "tokens/s", "padding"]
    heads += ["compiling", "peak memory"]
    if result["peak_tflops"]:
        heads.append("utilisation")
    heads.append("times as fast as the faster peer (range)")
    numbers = len(heads) - 2
    lines = [
        f"{result['date']}, {machine['device_kind']}, {machine['cores']} cores; "
        + ", ".join(f"{n} {versions[n]}" for n in _shown(versions))
        + f"; allocator {options['allocator']}",
        "",
        f"| {' | '.join(heads)} |",
        f"|{'---|' * 2}{'---:|' * numbers}",
    ]
    for setting in result["settings"]:
        for name, found in setting["libraries"].items():
            cells = _cells(setting, name, found, with_peak=bool(result["peak_tflops"]))
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _shown(versions: Mapping[str, str]) -> list[str]:
    wanted = ("python", "jax", "torch", "flagembedding", "sentence-transformers")
    return [name for name in versions if name.lower() in wanted]


def _cells(setting, name, found, *, with_peak: bool) -> list[str]:
    padding, memory = found.get("padded_share"), found["peak_memory_bytes"]
    compiling = found.get("compile_seconds")
    cells = [
        setting["name"],
        NAMES[name],
        f"{found['median']:.3g} ({found['min']:.3g} to {found['max']:.3g})",
        f"{found['texts_per_second']:,.0f}",
        f"{found['tokens_per_second']:,.0f}",
        "" if padding is None else f"{padding:.0%}",
        f"{sum(compiling):.1f} s" if compiling else "",
        "" if memory is None else f"{memory / 2**30:.2f} GiB",
    ]
    if with_peak:
        cells.append(f"{found['utilisation']:.1%}")
    ratio = setting["ratio"] if name == OURS else None
    cells.append(
        f"{ratio['median']:.2f} ({ratio['min']:.2f} to {ratio['max']:.2f})" if ratio else ""
    )
    return cells
