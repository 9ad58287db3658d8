"""Seconds a fine-tuning step: this library, FlagEmbedding and sentence-transformers by turns.

Each library starts from the same checkpoint and takes the same steps on the same texts: the title
of a SciFact abstract as query, the abstract and other rows' as passages. README.md says what is
timed and how it is made fair.
"""

import argparse
import itertools
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import options
import results
import texts
from interleave import OURS, WorkerError, interleave, start, stop

SETTINGS: dict[str, dict[str, Any]] = {
    "dropout 0.1": {"dropout": 0.1, "passages": "abstracts", "passage_length": 256},
    "dropout 0": {"dropout": 0.0, "passages": "abstracts", "passage_length": 256},
    "mixed": {"dropout": 0.0, "passages": "mixed", "passage_length": 512},
}
_CALIBRATED = 512  # rows at least, of which the shapes of batches are calibrated
_CLOSE = 0.02  # losses of the first batch, where only false negatives may make a difference


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, writes its result and prints its table."""
    parser = options.parser_of(str(__doc__).split("\n")[0], repeats=10, warmup=2)
    parser.add_argument("--settings", type=options.names, default=tuple(SETTINGS), help="by name")
    parser.add_argument(
        "--pairs", action="store_true", help="one peer at a time: three libraries take 24 GB"
    )
    parser.add_argument("--batch-size", type=int, default=8, help="queries a step")
    parser.add_argument("--group-size", type=int, default=8, help="passages a query")
    parser.add_argument("--query-length", type=int, default=64, help="most tokens of a query")
    parser.add_argument("--passage-length", type=int, help="256; 512 if mixed, or for bert-base")
    parser.add_argument("--temperature", type=float, default=0.02, help="of the loss")
    parser.add_argument("--learning-rate", type=float, default=2e-5, help="constant")
    chosen = options.parse(parser, arguments)
    if unknown := sorted(set(chosen.settings) - set(SETTINGS)):
        parser.error(f"--settings: {', '.join(unknown)}; known are {', '.join(SETTINGS)}")
    together = [chosen.libraries]
    if chosen.pairs:
        together = [(OURS, peer) for peer in chosen.libraries if peer != OURS]
    result = results.Result("finetune", chosen)
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.model_folder(chosen.model, Path(scratch))
        for name, libraries in itertools.product(chosen.settings, together):
            print(f"{name}: {', '.join(libraries)} ...", file=sys.stderr)
            peak = result.value["peak_tflops"]
            rows_file = Path(scratch) / "rows.jsonl"
            result.add(measure(name, libraries, chosen, folder, rows_file, peak))
    print(results.table(result.value))
    print(f"\n{result.path}", file=sys.stderr)


def measure(
    name: str,
    libraries: Sequence[str],
    chosen: argparse.Namespace,
    folder: Path,
    rows_file: Path,
    peak_tflops: float | None,
) -> dict[str, Any]:
    """Measures one setting in fresh processes.

    Args:
        name: One of ``SETTINGS``.
        libraries: Which take turns.
        chosen: The command line's options.
        folder: The model's.
        rows_file: Where the texts are put for the workers.
        peak_tflops: Of the device.

    Returns:
        The setting's part of the result.
    """
    setting = dict(SETTINGS[name])
    if chosen.model == options.BERT_BASE:
        setting["passage_length"] = 512
    passage_length = chosen.passage_length or setting["passage_length"]
    rounds, size = chosen.warmup + chosen.repeats, chosen.batch_size
    rows = texts.training_rows(
        max(rounds * size, _CALIBRATED),
        group_size=chosen.group_size,
        passages=setting["passages"],
        seed=chosen.seed,
    )
    texts.write_rows(rows_file, rows)
    lengths = _lengths(folder, rows[: rounds * size], size, chosen.query_length, passage_length)
    settings = {
        "model_folder": str(folder),
        "rows_file": str(rows_file),
        "steps": rounds,
        "batch_size": size,
        "group_size": chosen.group_size,
        "query_length": chosen.query_length,
        "passage_length": passage_length,
        "temperature": chosen.temperature,
        "dropout": setting["dropout"],
        "learning_rate": chosen.learning_rate,
        "dtype": chosen.dtype,
        "device": chosen.device,
    }
    workers, loaded = start(
        "finetune", libraries, settings, device=chosen.device, allocator=chosen.allocator
    )
    try:
        _check_tokens(loaded, lengths)
        compiled = {library: worker.ask("compile") for library, worker in workers.items()}
        answers = interleave(workers, rounds, chosen.pause)
        reports = {library: worker.ask("report") for library, worker in workers.items()}
    finally:
        stop(workers)
    if not setting["dropout"]:
        _check_losses({library: steps[0]["loss"] for library, steps in answers.items()})
    model = texts.size_of(folder)
    found = {
        library: {
            **results.of_library(
                answers[library],
                warmup=chosen.warmup,
                texts=size * (1 + chosen.group_size),
                tokens=loaded[library]["real_tokens"],
                flops=[model.flops(of_step, training=True) for of_step in lengths],
                peak_tflops=peak_tflops,
            ),
            "padded_share": _padded_share(loaded[library], chosen.warmup),
            "compile_seconds": compiled[library]["seconds"],
            "load_seconds": loaded[library]["seconds"],
            **reports[library],
        }
        for library in workers
    }
    return {
        "name": name,
        "told": results.told(settings),
        "passages": setting["passages"],
        "real_tokens": [sum(of_step) for of_step in lengths],
        "libraries": found,
        "ratio": results.ratio(found),
    }


def _lengths(
    folder: Path, rows: Sequence[dict[str, Any]], size: int, query_length: int, passage_length: int
) -> list[list[int]]:
    """Tokens of each text of each step."""
    count = texts.Lengths(folder)
    found = []
    for first in range(0, len(rows), size):
        batch = rows[first : first + size]
        passages = [text for row in batch for text in (*row["pos"], *row["neg"])]
        queries = count([row["query"] for row in batch], query_length)
        found.append([*queries, *count(passages, passage_length)])
    return found


def _check_tokens(loaded: dict[str, dict[str, Any]], lengths: Sequence[Sequence[int]]) -> None:
    """Refuses to compare libraries that do not compute on the same tokens."""
    expected = [sum(of_step) for of_step in lengths]
    for library, said in loaded.items():
        if said["real_tokens"] != expected:
            raise WorkerError(
                f"{library} made {said['real_tokens']} tokens of the batches, the model's "
                f"tokenizer makes {expected}; the libraries cannot be compared"
            )


def _check_losses(losses: dict[str, float]) -> None:
    """Says so where libraries disagree about the loss of the first batch."""
    if max(losses.values()) - min(losses.values()) > _CLOSE:
        print(f"the libraries' first losses differ: {losses}", file=sys.stderr)


def _padded_share(said: dict[str, Any], warmup: int) -> float:
    real, padded = (sum(said[name][warmup:]) for name in ("real_tokens", "padded_tokens"))
    return 1 - real / padded


if __name__ == "__main__":
    main()
