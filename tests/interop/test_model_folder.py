"""What is saved is read back, and the file holds PyTorch's names."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from folders import TEXTS, TOKENIZER, random_like
from safetensors.numpy import load_file

from contrastive import config
from contrastive.data.tokens import BERT_NAMES, Tokenizer, pack
from contrastive.encoder import Encoder
from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.interop.pretrained import PretrainedModel
from contrastive.models.linen.embedder import Embedder, shapes_of

# More than ten layers: names with two digits.
DEEP = config.Transformer(width=8, depth=11, heads=2, mlp_width=12, dropout=0.1)
MODELS = {"static": config.Static(width=12), "transformer": DEEP}


def made_model(kind, depth=None, **changes):
    described = MODELS[kind].replace(depth=depth) if depth else MODELS[kind]
    vocab_size = TOKENIZER.get_vocab_size()
    module, (family, fields) = described.build(vocab_size), described.hugging_face(vocab_size)
    head = {"head.dense.weight": np.arange(64, dtype=np.float32).reshape(8, 8) / 3}
    model = PretrainedModel(
        module=module,
        family=family,
        config=fields,
        params=random_like(shapes_of(module)),
        tokenizer=TOKENIZER,
        names=BERT_NAMES,
        tokenizer_config={},
        pooling="mean",
        normalize=False,
        query_length=5,
        document_length=9,
        query_prompt="query: ",
        temperature=0.037,
        heads={} if kind == "static" else head,
    )
    return dataclasses.replace(model, **changes)


def leaves(params):
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def assert_same(found, truth, besides=()):
    """All fields, arrays bit for bit."""
    for field in (f.name for f in dataclasses.fields(PretrainedModel) if f.name not in besides):
        a, b = getattr(found, field), getattr(truth, field)
        if field in ("params", "heads"):
            a, b = leaves(a), leaves(b)
            assert a.keys() == b.keys()
            assert all(x.dtype == np.float32 for x in a.values())
            assert all(np.array_equal(a[name], b[name]) for name in a)
        elif field == "tokenizer":
            assert a.to_str() == b.to_str()  # without the truncation it is saved with
        else:
            assert a == b, field


@pytest.mark.parametrize(
    ("kind", "pooling", "normalize"),
    [
        ("static", "mean", True),
        ("static", "mean", False),
        ("transformer", "cls", False),
        ("transformer", "mean", True),
        ("transformer", "last_token", True),
    ],
)
def test_a_model_is_read_back_as_it_was_saved(tmp_path, kind, pooling, normalize):
    before = made_model(kind, pooling=pooling, normalize=normalize)
    save(tmp_path / "new" / "model", before)
    after = load(tmp_path / "new" / "model")
    # transformers wants more said in these two files than a model from scratch says.
    assert_same(after, before, besides=("config", "tokenizer_config"))
    assert before.config.items() <= after.config.items()
    save(tmp_path / "again", after)
    assert_same(load(tmp_path / "again"), after)


def test_weights_are_in_the_file_as_pytorch_has_them(tmp_path):
    before = made_model("transformer")
    save(tmp_path, before)
    weights = load_file(tmp_path / "model.safetensors")
    assert len(weights) == len(leaves(before.params)) + len(before.heads)
    for layer in (0, 1, 10):
        ours, theirs = before.params[f"layer_{layer}"], f"layers.{layer}."
        for name, kernel in (("attn.Wqkv", "qkv"), ("attn.Wo", "attention_out")):
            truth = ours[kernel]["kernel"]
            np.testing.assert_array_equal(weights[f"{theirs}{name}.weight"], truth.T)
        np.testing.assert_array_equal(
            weights[f"{theirs}mlp_norm.weight"], ours["mlp_norm"]["scale"]
        )
    # Tables and norms are not turned round.
    table = before.params["embedding"]["embedding"]
    np.testing.assert_array_equal(weights["embeddings.tok_embeddings.weight"], table)
    static = made_model("static")
    save(tmp_path, static)
    weights = load_file(tmp_path / "model.safetensors")
    np.testing.assert_array_equal(weights["embedding.weight"], static.params["embedding"])


@pytest.mark.parametrize("kind", MODELS)
def test_a_loaded_encoder_embeds_as_the_model_that_was_saved(tmp_path, kind):
    depth = None if kind == "static" else 2
    before = made_model(kind, depth, normalize=True, document_prompt="saved: ")
    save(tmp_path / "model", before)
    embedder = Embedder(before.module, "mean", True)
    tokenize = Tokenizer(before.tokenizer, special_tokens=kind == "transformer")
    tokens = pack(tokenize(["saved: " + text for text in TEXTS], 9), row_length=9)
    truth = jax.jit(embedder.embed)(before.params, tokens)
    for folder in (tmp_path, tmp_path / "model"):  # a run's folder, or the model's in it
        encoder = Encoder.from_pretrained(folder)
        np.testing.assert_allclose(encoder.encode_documents(TEXTS), truth, atol=1e-5)
        assert (encoder.query_length, encoder.document_length) == (5, 9)
        assert (encoder.query_prompt, encoder.document_prompt) == ("query: ", "saved: ")


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("lengths", [(5, 9), (9, 5)])
def test_other_libraries_are_told_the_longer_length_and_both_are_read_back(tmp_path, kind, lengths):
    query, document = lengths
    save(tmp_path, made_model(kind, query_length=query, document_length=document))
    read = {path.name: json.loads(path.read_text()) for path in tmp_path.glob("*.json")}
    assert read["tokenizer.json"]["truncation"]["max_length"] == 9
    assert read["tokenizer_config.json"]["model_max_length"] == 9
    if kind == "transformer":
        assert read["sentence_bert_config.json"]["max_seq_length"] == 9
    model = load(tmp_path)
    assert (model.query_length, model.document_length) == lengths
    # As folders were before both were kept, and as another library leaves them.
    (tmp_path / "contrastive.json").write_text('{"query_length": 4, "temperature": 0.1}')
    assert (load(tmp_path).query_length, load(tmp_path).document_length) == (4, 9)
    (tmp_path / "contrastive.json").unlink()
    assert (load(tmp_path).query_length, load(tmp_path).document_length) == (9, 9)


def test_what_is_saved_over_another_model_is_all_that_is_left(tmp_path):
    save(tmp_path, made_model("static", normalize=True))
    save(tmp_path, made_model("transformer", normalize=True))
    after = load(tmp_path)
    assert_same(
        after, made_model("transformer", normalize=True), besides=("config", "tokenizer_config")
    )
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "modernbert"
