"""The README.md of a model folder: what the model is, how it was trained, and how to load it."""

from __future__ import annotations

import dataclasses
import html
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from contrastive.files import replacing
from contrastive.interop.pretrained import PretrainedModel

CARD = "README.md"
_MARK = "<!-- Written by contrastive. Remove this line to keep your own text. -->"
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclasses.dataclass(frozen=True)
class Training:
    """How a model was trained.

    Attributes:
      name: Name of the run.
      base_model: Folder or Hub name of the model that training started from; None if from scratch.
      losses: Names of the losses, and the weights with which they are added.
      data: Names of the training data.
      examples: Number of training examples.
      steps: Number of steps.
      batch_size: Number of queries per step.
      learning_rate: Peak learning rate.
      scores: Scores of the model by evaluator and metric; empty if it has not been evaluated.
      split: Split of the scores, such as `test`.
      selected: Whether the data of these scores also selected the checkpoint.
    """

    name: str
    base_model: str | None
    losses: Mapping[str, float]
    data: tuple[str, ...]
    examples: int
    steps: int
    batch_size: int
    learning_rate: float
    scores: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    split: str = ""
    selected: bool = False


def write_card(folder: Path, card: str) -> None:
    """Writes the card of a model folder, unless the user has put another README.md there.

    Args:
      folder: The model folder.
      card: What `model_card` returned.
    """
    if not has_own_card(folder):
        with replacing(folder / CARD) as partial:
            partial.write_text(card, encoding="utf-8")


def has_own_card(folder: Path) -> bool:
    """Returns whether a folder has a README.md that is the user's."""
    path = folder / CARD
    return path.is_file() and _MARK.encode() not in path.read_bytes()


def model_card(model: PretrainedModel, training: Training | None = None) -> str:
    """Returns the card of a model.

    Args:
      model: The model; its weights are not used.
      training: Facts about the training; None if they are not known.

    Returns:
      Markdown, with the metadata that the Hugging Face Hub reads.
    """
    name = training.name if training else "Text embeddings"
    sections = [
        f"---\n{_metadata(model, training)}---\n{_MARK}",
        f"# {name}",
        _summary(model),
        *_usage(model),
        *(_training(training) if training else ()),
    ]
    return "\n\n".join(sections) + "\n"


def _metadata(model: PretrainedModel, training: Training | None) -> str:
    """Returns the metadata as YAML, whose values are JSON."""
    library = "contrastive" if model.spec else "sentence-transformers"
    tags = [library, "sentence-similarity", "feature-extraction", "contrastive"]
    values: dict[str, Any] = {"library_name": library, "pipeline_tag": "sentence-similarity"}
    if training is not None:
        tags += [*(f"loss:{loss}" for loss in training.losses), f"dataset_size:{training.examples}"]
        if _is_hub_name(training.base_model):
            values["base_model"] = training.base_model
        if training.scores:
            values["model-index"] = [{"name": training.name, "results": _results(training)}]
    values["tags"] = list(dict.fromkeys(tags))
    return "".join(f"{key}: {json.dumps(value)}\n" for key, value in values.items())


def _results(training: Training) -> list[dict[str, Any]]:
    return [
        {
            "task": {"type": "sentence-similarity"},
            "dataset": {"name": evaluator, "type": "custom", "split": training.split},
            "metrics": [{"type": metric, "value": value} for metric, value in metrics.items()],
        }
        for evaluator, metrics in training.scores.items()
    ]


def _is_hub_name(name: str | None) -> bool:
    return name is not None and bool(_HUB_NAME.fullmatch(name)) and not Path(name).exists()


def _started_from(name: str | None) -> str:
    """Returns a Hub name, or the name of a folder without its place."""
    if name is None:
        return "random weights"
    return name if _is_hub_name(name) else Path(name).name


def _summary(model: PretrainedModel) -> str:
    temperature = "unknown" if model.temperature is None else f"{model.temperature:g}"
    rows = [
        ("width", f"{model.module.width}"),
        ("pooling", f"{model.pooling}"),
        ("embeddings", "unit length" if model.normalize else "not normalized"),
        ("longest query", f"{model.query_length} tokens"),
        ("longest document", f"{model.document_length} tokens"),
        ("prompt of queries", _code(model.query_prompt)),
        ("prompt of documents", _code(model.document_prompt)),
        ("training temperature", temperature),
    ]
    return _table("encoder", "", rows)


def _code(text: str) -> str:
    """Returns text as code in a table; a prompt may contain anything."""
    if not text:
        return "none"
    quoted = html.escape(json.dumps(text, ensure_ascii=False), quote=False)
    return f"<code>{quoted.replace('|', '&#124;')}</code>"


def _table(first: str, second: str, rows: list[tuple[str, str]]) -> str:
    lines = [f"| {first} | {second} |", "|---|---|", *(f"| {a} | {b} |" for a, b in rows)]
    return "\n".join(lines)


def _usage(model: PretrainedModel) -> Iterator[str]:
    """Yields how to load the model with each library that can."""
    yield "## How to load it"
    yield _block(
        "contrastive",
        "import contrastive",
        "",
        'encoder = contrastive.Encoder.from_pretrained("path/to/this/folder")',
        'queries = encoder.encode_queries(["a question"])',
        'documents = encoder.encode_documents(["an answer"])',
    )
    if model.spec is not None:
        yield "Other libraries do not have this architecture."
        return
    yield _block(
        "sentence-transformers",
        "from sentence_transformers import SentenceTransformer",
        "",
        'model = SentenceTransformer("path/to/this/folder")',
        'queries = model.encode(["a question"], prompt_name="query")',
        'documents = model.encode(["an answer"], prompt_name="document")',
    )
    if model.is_static:
        yield "FlagEmbedding and transformers do not load static models."
        return
    yield _flag_embedding(model)
    yield _transformers(model)


def _flag_embedding(model: PretrainedModel) -> str:
    if model.pooling not in ("cls", "mean"):
        return (
            "FlagEmbedding: `FlagModel` pools by `cls` and `mean`, so it cannot use this model, "
            f"which pools by `{model.pooling}`."
        )
    return _block(
        "FlagEmbedding, which does not read prompts and pooling from the folder",
        "from FlagEmbedding import FlagModel",
        "",
        "model = FlagModel(",
        '    "path/to/this/folder",',
        f"    pooling_method={model.pooling!r},",
        f"    normalize_embeddings={model.normalize},",
        f"    query_instruction_for_retrieval={model.query_prompt!r},",
        f"    passage_instruction_for_retrieval={model.document_prompt!r},",
        f"    query_max_length={model.query_length},",
        f"    passage_max_length={model.document_length},",
        "    use_fp16=False,",
        ")",
        'queries = model.encode_queries(["a question"])',
        'documents = model.encode_corpus(["an answer"])',
    )


def _transformers(model: PretrainedModel) -> str:
    pooled = {
        "cls": "states[:, 0]",
        "mean": "(states * mask).sum(1) / mask.sum(1)",
        "last_token": "states[torch.arange(len(states)), mask.sum(1)[:, 0] - 1]",
    }[str(model.pooling)]
    normalized = "torch.nn.functional.normalize(vectors, dim=-1)" if model.normalize else "vectors"
    return _block(
        "transformers",
        "import torch",
        "from transformers import AutoModel, AutoTokenizer",
        "",
        'tokenizer = AutoTokenizer.from_pretrained("path/to/this/folder")',
        'model = AutoModel.from_pretrained("path/to/this/folder").eval()',
        'tokenizer.padding_side = "right"',
        "",
        "def encode(texts, prompt, length):",
        "    texts = [prompt + text for text in texts]",
        "    options = {'padding': True, 'truncation': True, 'max_length': length}",
        "    tokens = tokenizer(texts, return_tensors='pt', **options)",
        "    mask = tokens['attention_mask'][:, :, None]",
        "    with torch.no_grad():",
        "        states = model(**tokens).last_hidden_state",
        f"    vectors = {pooled}",
        f"    return {normalized}",
        "",
        f'queries = encode(["a question"], {model.query_prompt!r}, {model.query_length})',
        f'documents = encode(["an answer"], {model.document_prompt!r}, {model.document_length})',
    )


def _block(title: str, *lines: str) -> str:
    return "\n".join([f"{title}:", "", "```python", *lines, "```"])


def _training(training: Training) -> Iterator[str]:
    """Yields how the model was trained and what it scores."""
    yield "## Training"
    losses = (
        name if weight == 1 else f"{weight:g} x {name}" for name, weight in training.losses.items()
    )
    rows = [
        ("started from", _started_from(training.base_model)),
        ("loss", " + ".join(losses)),
        ("data", ", ".join(training.data)),
        ("examples", f"{training.examples:,}"),
        ("steps", f"{training.steps:,}"),
        ("queries per step", f"{training.batch_size:,}"),
        ("learning rate", f"{training.learning_rate:g}"),
    ]
    yield _table("setting", "", [(name, value.replace("|", "\\|")) for name, value in rows])
    if training.scores:
        yield f"## Scores on {training.split} data"
        if training.selected:
            yield "The data of these scores also selected the checkpoint, so they are optimistic."
        yield _table(
            "evaluator and metric",
            "score",
            [
                (f"{evaluator}/{metric}", f"{value:.4f}")
                for evaluator, metrics in training.scores.items()
                for metric, value in metrics.items()
            ],
        )
