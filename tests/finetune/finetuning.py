"""A BERT checkpoint of a few kilobytes, made without PyTorch, rows for it, and its flags."""

import json
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

from contrastive.data.tokenizers import BERT_NAMES, train_wordpiece
from contrastive.finetune.parsing import Arguments, parse
from contrastive.finetune.pooling import with_pooling
from contrastive.finetune.translation import Translated, translate
from contrastive.interop.hf_export import save
from contrastive.interop.pretrained import PretrainedModel
from contrastive.models.families.family import Compute, family_of
from contrastive.models.linen.embedder import shapes_of

WORDS = [f"{a}{b}{c}" for a in "kblmnr" for b in "aeiou" for c in "stdg"]
CONFIG = {
    "model_type": "bert",
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 32,
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
}


def write_checkpoint(folder: Path, texts: Sequence[str] = (), vocab_size: int = 200) -> Path:
    """A folder as Hugging Face's `save_pretrained` leaves it: nothing says how it pools."""
    known = [" ".join([*WORDS, "None : <>"])]
    tokenizer = train_wordpiece([*known, *known, *texts], vocab_size=vocab_size)
    config = {**CONFIG, "vocab_size": tokenizer.get_vocab_size()}
    family = family_of(config)
    module = family.build(config, Compute())
    rng = np.random.default_rng(0)

    def fill(path, shape):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return rng.normal(mean, 0.2, shape.shape).astype(np.float32)

    model = PretrainedModel(
        module=module,
        family=family,
        config=config,
        params=jax.tree_util.tree_map_with_path(fill, shapes_of(module)),
        tokenizer=tokenizer,
        names=BERT_NAMES,
        tokenizer_config={},
        pooling="cls",
        normalize=False,
        query_length=32,
        document_length=32,
    )
    save(folder, model)
    (folder / "1_Pooling" / "config.json").unlink()
    (folder / "1_Pooling").rmdir()
    for name in (
        *("modules.json", "config_sentence_transformers.json", "sentence_bert_config.json"),
        "contrastive.json",
    ):
        (folder / name).unlink()
    return folder


def rows(count: int, negatives: int, seed: int = 0) -> list[dict]:
    """Rows without a text twice; positives share words with their query."""
    rng = np.random.default_rng(seed)
    seen = set()

    def text(*start, longest):
        while True:
            found = " ".join([*start, *rng.choice(WORDS, rng.integers(2, longest))])
            if found not in seen:
                seen.add(found)
                return found

    made = []
    for _ in range(count):
        query = text(longest=5)
        made.append(
            {
                "query": query,
                "pos": [text(*query.split(), longest=5)],
                "neg": [text(longest=8) for _ in range(negatives)],
                "pos_scores": [float(rng.normal(1))],
                "neg_scores": rng.normal(size=negatives).tolist(),
            }
        )
    return made


def write_rows(path: Path, some: list[dict]) -> Path:
    """A file of rows, a line each, in a folder made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(map(json.dumps, some)) + "\n")
    return path


def given(*flags, model="model", data="rows.jsonl", output="out") -> Arguments:
    """Parsed flags, with those that must be there."""
    words = ["--model_name_or_path", model, "--train_data", data, "--output_dir", output, *flags]
    arguments, ignored = parse(list(map(str, words)))
    assert not ignored
    return arguments


def translated(*flags, devices=1, **required) -> Translated:
    """The experiment of flags; its pooling is chosen if the checkpoint is there to be asked."""
    arguments = given(*flags, **required)
    experiment = translate(arguments, devices)
    is_there = Path(arguments.model.model_name_or_path).is_dir()
    return with_pooling(experiment) if is_there else experiment
