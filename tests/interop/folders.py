"""Checkpoint folders as other libraries write them."""

import json

import numpy as np
from safetensors.numpy import save_file

from contrastive.data.tokenizers import train_wordpiece
from contrastive.data.tokens import BERT_NAMES
from contrastive.interop.weights import to_torch
from contrastive.models.families.bert import Bert
from contrastive.models.families.family import Compute, family_of
from contrastive.models.linen.embedder import shapes_of

TEXTS = ["a model is saved", "and read back again", "", "weights, names and lengths of it all"]
TOKENIZER = train_wordpiece(TEXTS * 3, vocab_size=90)
CONFIG = {
    "model_type": "bert",
    "vocab_size": 100,  # more than the tokenizer has: padded to a multiple of something
    "hidden_size": 8,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 12,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
}


def random_like(shapes):
    """A tree of arrays of the same shapes."""
    import jax

    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), shapes)


def bert_weights(**changes):
    """Weights by PyTorch's name, with BERT's pooler."""
    config = {**CONFIG, **changes}
    params = random_like(shapes_of(family_of(config).build(config, Compute())))
    rng = np.random.default_rng(1)
    pooler = {"weight": rng.normal(size=(8, 8)), "bias": rng.normal(size=8)}
    heads = {f"pooler.dense.{name}": x.astype(np.float32) for name, x in pooler.items()}
    return {**to_torch(params, Bert), **heads}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_weights(path, weights):
    save_file({name: np.ascontiguousarray(x) for name, x in weights.items()}, str(path))


def write_plain(folder, **changes):
    """A folder of transformers' save_pretrained."""
    write_json(folder / "config.json", {**CONFIG, **changes})
    write_weights(folder / "model.safetensors", bert_weights(**changes))
    TOKENIZER.save(str(folder / "tokenizer.json"))
    write_json(folder / "tokenizer_config.json", {**BERT_NAMES, "model_max_length": 512})
    return folder


def write_modules(folder, *modules, pooling=None):
    """Makes it a folder of sentence-transformers; modules are (type, path)."""
    entries = [
        {"idx": n, "name": str(n), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for n, (kind, path) in enumerate(modules)
    ]
    write_json(folder / "modules.json", entries)
    if pooling is not None:
        write_json(folder / "1_Pooling" / "config.json", pooling)
    return folder


def changed_by_hand(folder, **changes):
    """An exported folder without its digests, as the message about a changed file advises."""
    path = folder / "contrastive.json"
    kept = {n: x for n, x in json.loads(path.read_text()).items() if n not in ("files", "digest")}
    write_json(path, {**kept, **changes})
    return kept
