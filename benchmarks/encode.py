"""Seconds to encode a corpus: this library, FlagEmbedding and sentence-transformers by turns.

2,000 SciFact documents, half of them a title and half a title with its abstract, in random order.
README.md says what is timed and how it is made fair.
"""

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import options
import results
import texts
from interleave import interleave, start, stop

_CLOSE = {"float32": 0.999, "bfloat16": 0.99}  # cosines of one text's embeddings


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, writes its result and prints its table."""
    parser = options.parser_of(str(__doc__).split("\n")[0], repeats=5, warmup=1)
    parser.add_argument("--texts", type=int, default=2000, help="how many")
    parser.add_argument("--batch-size", type=int, default=32, help="the peers'; ours has none")
    parser.add_argument("--max-length", type=int, help="most tokens; the model folder's own")
    chosen = options.parse(parser, arguments)
    result = results.Result("encode", chosen)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model_folder(chosen.model, Path(scratch))
        peak = result.value["peak_tflops"]
        result.add(measure(chosen, folder, Path(scratch) / "texts.jsonl", peak))
    print(results.table(result.value))
    print(f"\n{result.path}", file=sys.stderr)


def measure(
    chosen: argparse.Namespace, folder: Path, texts_file: Path, peak_tflops: float | None
) -> dict[str, Any]:
    """Measures all libraries in fresh processes.

    Args:
        chosen: The command line's options.
        folder: The model's.
        texts_file: Where the texts are put for the workers.
        peak_tflops: Of the device.

    Returns:
        The one setting of the result.
    """
    corpus = texts.corpus(chosen.texts, seed=chosen.seed)
    texts.write_rows(texts_file, corpus)
    max_length = chosen.max_length or _own_length(folder)
    lengths = texts.Lengths(folder)(corpus, max_length)
    settings = {
        "model_folder": str(folder),
        "texts_file": str(texts_file),
        "batch_size": chosen.batch_size,
        "max_length": max_length,
        "dtype": chosen.dtype,
        "device": chosen.device,
    }
    rounds = chosen.warmup + chosen.repeats
    workers, loaded = start(
        "encode", chosen.libraries, settings, device=chosen.device, allocator=chosen.allocator
    )
    try:
        answers = interleave(workers, rounds, chosen.pause)
        reports = {library: worker.ask("report") for library, worker in workers.items()}
    finally:
        stop(workers)
    flops = texts.size_of(folder).flops(lengths, training=False)
    libraries = {
        library: {
            **results.of_library(
                answers[library],
                warmup=chosen.warmup,
                texts=len(corpus),
                tokens=[sum(lengths)] * rounds,
                flops=[flops] * rounds,
                peak_tflops=peak_tflops,
            ),
            "load_seconds": loaded[library]["seconds"],
            **reports[library],
        }
        for library in workers
    }
    return {
        "name": f"{len(corpus):,} texts",
        "told": results.told(settings),
        "real_tokens": sum(lengths),
        "least_cosine": _agreement(answers, chosen.dtype),
        "libraries": libraries,
        "ratio": results.ratio(libraries),
    }


def _own_length(folder: Path) -> int:
    path = folder / "sentence_bert_config.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; say how long texts may be with --max-length")
    return json.loads(path.read_text())["max_seq_length"]


def _agreement(answers: dict[str, list[dict[str, Any]]], dtype: str) -> float:
    """Least cosine of two libraries' embeddings of the same text, the first or the last."""
    least = 1.0
    for name in ("first", "last"):
        vectors = [of_library[0][name] for of_library in answers.values()]
        least = min([least, *(_cosine(vectors[0], other) for other in vectors[1:])])
    if least < _CLOSE[dtype]:
        print(f"the libraries' embeddings differ: a cosine is {least:.4f}", file=sys.stderr)
    return least


def _cosine(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True)) / (math.hypot(*a) * math.hypot(*b))


if __name__ == "__main__":
    main()
