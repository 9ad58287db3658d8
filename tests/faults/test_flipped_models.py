"""A model folder with one wrong bit is loaded exactly, or refused."""

import shutil

import jax
import numpy as np
import pytest
from faults import flip_a_bit, seeds

from contrastive.config import Data, Static, Transformer
from contrastive.errors import UserError
from contrastive.interop.hf_export import model_digest, save
from contrastive.interop.hf_import import load
from contrastive.interop.initial_model import initial_model
from contrastive.sources._examples import Examples

ROWS = Examples.of([{"query": f"one {n}", "pos": [f"another {n}"]} for n in range(9)], "rows")
SPECS = [Static(width=8), Transformer(width=8, depth=1, heads=2, mlp_width=8)]


@pytest.fixture(scope="module", params=SPECS, ids=lambda x: x.kind)
def exported(request, tmp_path_factory):
    start = initial_model(request.param, Data(), ROWS, pooling=None, normalize=True)
    params = jax.tree.map(np.asarray, start.init(0))
    folder = tmp_path_factory.mktemp("exported") / "model"
    kind = type(start.model)
    fields = {**vars(start.model), "params": params, "temperature": 0.05, "query_prompt": "ask: "}
    assert save(folder, kind(**fields)) == model_digest(folder)
    return folder


def contents(folder):
    model = load(folder)
    arrays = {jax.tree_util.keystr(k): x for k, x in jax.tree.leaves_with_path(model.params)}
    others = {n: x for n, x in vars(model).items() if n not in ("params", "tokenizer", "heads")}
    return arrays, {**others, "tokenizer": model.tokenizer.to_str()}


@pytest.mark.parametrize("seed", seeds(12))
def test_a_flipped_bit_is_never_silent(exported, tmp_path, seed):
    before = contents(exported)
    folder = shutil.copytree(exported, tmp_path / "model")
    where = flip_a_bit(folder, seed)
    refused = ""
    try:
        after = contents(folder)
    except UserError as error:
        refused = str(error)
    if refused:
        assert str(folder) in refused, where
    else:
        assert after[1] == before[1], where
        assert all(np.array_equal(after[0][n], x) for n, x in before[0].items()), where
