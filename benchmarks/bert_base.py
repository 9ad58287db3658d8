"""A folder of BERT-base with random weights: ``python bert_base.py FOLDER --tokenizer FOLDER``.

Speed does not depend on what weights are, so nothing is downloaded. The tokenizer, which decides
the lengths of texts, is that of another folder with BERT's 30,522 word pieces.
"""

import argparse
import dataclasses
from pathlib import Path

import jax
import numpy as np

from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.models.families.family import Compute, family_of
from contrastive.models.linen.embedder import init_params

CONFIG = {
    "architectures": ["BertModel"],
    "attention_probs_dropout_prob": 0.1,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "hidden_size": 768,
    "initializer_range": 0.02,
    "intermediate_size": 3072,
    "layer_norm_eps": 1e-12,
    "max_position_embeddings": 512,
    "model_type": "bert",
    "num_attention_heads": 12,
    "num_hidden_layers": 12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "vocab_size": 30522,
}


def write(folder: Path, tokenizer_of: Path) -> None:
    """Writes the folder, pooling by the mean and normalization.

    Args:
        folder: Made if it is not there.
        tokenizer_of: A folder with BERT's tokenizer.
    """
    family = family_of(CONFIG)
    module = family.build(CONFIG, Compute())
    params = jax.tree.map(np.asarray, init_params(module, jax.random.key(0)))
    model = dataclasses.replace(
        load(tokenizer_of),
        module=module,
        family=family,
        config=CONFIG,
        params=params,
        pooling="mean",
        normalize=True,
        query_length=512,
        document_length=512,
        heads={},
    )
    save(folder, model)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tokenizer", type=Path, required=True)
    chosen = parser.parse_args()
    write(chosen.folder, chosen.tokenizer)
