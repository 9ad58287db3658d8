"""Tiny encoders of both families, made of the config.json a checkpoint would have."""

import jax
import numpy as np

from contrastive.data.tokens import pack
from contrastive.models.families.family import Compute, family_of
from contrastive.models.linen.embedder import Embedder, shapes_of
from contrastive.types import Tokens

VOCABULARY, WIDTH = 40, 8
_SHARED = {"vocab_size": VOCABULARY, "hidden_size": WIDTH, "num_attention_heads": 2}
CONFIGS = {
    "bert": {
        "model_type": "bert",
        **_SHARED,
        "num_hidden_layers": 1,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
        "hidden_dropout_prob": 0.2,
        "attention_probs_dropout_prob": 0.3,
    },
    "modernbert": {
        "model_type": "modernbert",
        **_SHARED,
        "num_hidden_layers": 2,
        "intermediate_size": 12,
        "max_position_embeddings": 16,
        "local_attention": 4,  # two tokens to either side, in the second layer
        "global_attn_every_n_layers": 2,
        "embedding_dropout": 0.2,
        "attention_dropout": 0.3,
        "mlp_dropout": 0.2,
    },
}


def module(kind, compute=None, **changes):
    config = {**CONFIGS[kind], **changes}
    return family_of(config).build(config, compute or Compute())


def embedder(kind, compute=None, *, chunk_tokens=None, **changes):
    return Embedder(module(kind, compute, **changes), "mean", True, chunk_tokens)


def parameters(kind, **changes):
    """Far larger than first parameters are, so that every layer and token has a say."""
    rng = np.random.default_rng(0)

    def fill(path, shape):
        mean = 1.0 if path[-1].key == "scale" else 0.0
        return rng.normal(mean, 0.4, shape.shape).astype(np.float32)

    return jax.tree_util.tree_map_with_path(fill, shapes_of(module(kind, **changes)))


def texts(lengths, seed=1):
    """Texts of given lengths."""
    rng = np.random.default_rng(seed)
    return [rng.integers(1, VOCABULARY, length).astype(np.int32) for length in lengths]


def one_a_row(texts, row_length):
    """Every text in a row of its own, equal texts too."""
    each = [pack([text], row_length=row_length) for text in texts]
    by_row = (
        np.concatenate([getattr(tokens, name) for tokens in each])
        for name in ("ids", "segments", "positions", "text_ids")
    )
    return Tokens(*by_row, np.arange(len(texts), dtype=np.int32), blocks=1)
