"""What can be said on the command lines of both benchmarks."""

import argparse
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import hardware
import results
import texts
from interleave import ALLOCATORS, LIBRARIES

BERT_BASE = "bert-base"


def parser_of(description: str, *, repeats: int, warmup: int) -> argparse.ArgumentParser:
    """The options that both benchmarks have.

    Args:
        description: Of the benchmark.
        repeats: Default number of timed rounds.
        warmup: Default number of rounds before them.

    Returns:
        A parser, to be added to.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    add = parser.add_argument
    add("--model", help=f"a model folder, or {BERT_BASE}; all-MiniLM-L6-v2 if left out")
    add("--libraries", type=names, default=LIBRARIES, help="separated by commas")
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="auto: a GPU if any")
    add("--dtype", choices=("float32", "bfloat16"), help="bfloat16 on a GPU, float32 on a CPU")
    add("--repeats", type=int, default=repeats, help="timed rounds")
    add("--warmup", type=int, default=warmup, help="rounds before them")
    add("--pause", type=float, default=0.3, help="seconds before each step of a library")
    add("--allocator", choices=ALLOCATORS, default="keep+huge", help="glibc's, for all libraries")
    add("--peak-tflops", type=float, help="of the device; known for H100 and H200")
    add("--seed", type=int, default=0, help="decides the texts")
    add("--output", type=Path, default=Path(__file__).parent / "results", help="folder")
    add("--table", type=Path, metavar="FILE.json", help="print the table of a result and end")
    return parser


def names(value: str) -> tuple[str, ...]:
    """Names separated by commas."""
    return tuple(name.strip() for name in value.split(","))


def parse(parser: argparse.ArgumentParser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """Reads a command line, and decides what it leaves to the machine.

    Args:
        parser: Of ``parser_of``.
        arguments: None for the command's own.

    Returns:
        The options. With ``--table`` the table is printed and the program ends.
    """
    chosen = parser.parse_args(arguments)
    if chosen.table:
        print(results.table(results.read(chosen.table)))
        raise SystemExit
    if unknown := sorted(set(chosen.libraries) - set(LIBRARIES)):
        parser.error(f"--libraries: {', '.join(unknown)}; known are {', '.join(LIBRARIES)}")
    if chosen.repeats < 1 or chosen.warmup < 0:
        parser.error("--repeats is at least 1, --warmup at least 0")
    if chosen.device == "auto":
        chosen.device = "gpu" if hardware.gpu_name() else "cpu"
    chosen.dtype = chosen.dtype or ("bfloat16" if chosen.device == "gpu" else "float32")
    return chosen


def model_folder(name: str | None, scratch: Path) -> Path:
    """The folder of a model.

    Args:
        name: As the command line has it.
        scratch: Where ``bert-base`` is written.

    Raises:
        FileNotFoundError: If it is none.
    """
    if name != BERT_BASE:
        folder = Path(name).resolve() if name else texts.default_model()
        for needed in ("config.json", "model.safetensors", "tokenizer.json"):
            if not (folder / needed).is_file():
                raise FileNotFoundError(
                    f"{folder / needed} is missing; --model wants a model folder"
                )
        return folder
    script = Path(__file__).with_name("bert_base.py")
    folder = scratch / BERT_BASE
    # In a process of its own, for JAX would keep memory and threads in this one.
    subprocess.run(
        [sys.executable, str(script), str(folder), "--tokenizer", str(texts.default_model())],
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        check=True,
    )
    return folder
