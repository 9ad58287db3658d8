import dataclasses
import json

import jax
import numpy as np
import pytest
from contrastive.interop.sentence_transformers import Saved, load, save
from safetensors.numpy import load_file, save_file

from contrastive import config
from contrastive.data.packing import pack
from contrastive.data.tokenization import BERT_NAMES, Tokenizer, train_wordpiece
from contrastive.errors import FolderError
from contrastive.evaluation.loading import load as load_encoder
from contrastive.models.embedder import build
from contrastive.training.mesh import make_mesh

TEXTS = ["a model is saved", "and read back again", "", "weights, names and lengths of it all"]
MODELS = {
    "static": config.Static(width=12),
    # More than ten layers: names with two digits.
    "transformer": config.Transformer(width=8, depth=11, heads=2, mlp_width=12, dropout=0.1),
}


def saved_model(model, **changes):
    tokenizer = train_wordpiece(TEXTS * 3, vocab_size=90)
    embedder = build(model, vocab_size=tokenizer.get_vocab_size(), pooling="cls", normalize=False)
    rng = np.random.default_rng(0)
    params = jax.eval_shape(embedder.init, jax.random.key(0))
    params = jax.tree.map(lambda x: rng.normal(size=x.shape).astype(np.float32), params)
    saved = Saved(
        model=model,
        params=params,
        tokenizer=tokenizer,
        pooling="cls",
        normalize=False,
        query_length=5,
        document_length=9,
        temperature=0.037,
        names=BERT_NAMES,
    )
    return dataclasses.replace(saved, **changes)


def leaves(params):
    flat, _ = jax.tree_util.tree_flatten_with_path(params)
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_a_model_is_read_back_as_it_was_saved(tmp_path, kind, pooling):
    before = saved_model(MODELS[kind], pooling=pooling, normalize=pooling == "mean")
    folder = tmp_path / "new" / "model"
    save(folder, before)
    after = load(folder)
    truth, found = leaves(before.params), leaves(after.params)
    assert truth.keys() == found.keys()
    for name in truth:
        assert found[name].dtype == np.float32
        np.testing.assert_array_equal(found[name], truth[name])
    # The tokenizer comes back without the truncation it is saved with.
    assert after.tokenizer.to_str() == before.tokenizer.to_str()
    without = {"params": None, "tokenizer": None}
    assert dataclasses.replace(after, **without) == dataclasses.replace(before, **without)


def test_weights_are_in_the_file_as_pytorch_has_them(tmp_path):
    before = saved_model(MODELS["transformer"])
    save(tmp_path, before)
    weights = load_file(tmp_path / "model.safetensors")
    assert len(weights) == len(leaves(before.params))
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
    save(tmp_path, saved_model(MODELS["static"]))
    table = saved_model(MODELS["static"]).params["embedding"]
    np.testing.assert_array_equal(
        load_file(tmp_path / "model.safetensors")["embedding.weight"], table
    )


@pytest.mark.parametrize("kind", MODELS)
def test_a_loaded_encoder_embeds_as_the_model_that_was_saved(tmp_path, kind):
    model = MODELS[kind] if kind == "static" else MODELS[kind].replace(depth=2)
    before = saved_model(model, pooling="mean", normalize=True)
    save(tmp_path / "model", before)
    vocab_size = before.tokenizer.get_vocab_size()
    embedder = build(model, vocab_size=vocab_size, pooling="mean", normalize=True)
    tokenize = Tokenizer(before.tokenizer, special_tokens=kind == "transformer")
    tokens = pack(tokenize(TEXTS, 9), row_length=9)
    truth = jax.jit(embedder.embed)(before.params, tokens)
    for folder in (tmp_path, tmp_path / "model"):  # a run's folder, or the model's in it
        encoder, params = load_encoder(folder, make_mesh())
        np.testing.assert_allclose(encoder.documents(params, TEXTS), truth, atol=1e-5)
        assert (encoder.query_length, encoder.document_length) == (5, 9)


def test_all_unknown_weights_are_reported_together(tmp_path):
    save(tmp_path, saved_model(MODELS["transformer"]))
    path = tmp_path / "model.safetensors"
    strange = ["layers.0.attn.Wqkv.bias", "layers.x.mlp.Wi.weight", "head.weight"]
    weights = load_file(path) | {name: np.zeros(2, np.float32) for name in strange}
    save_file(weights, path)
    with pytest.raises(FolderError) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert path.name in str(error.value)
    assert all(name in str(error.value) for name in strange)
    assert "layers.0.attn.Wqkv.weight" not in str(error.value)


def test_all_missing_weights_are_reported_together(tmp_path):
    save(tmp_path, saved_model(MODELS["transformer"]))
    path = tmp_path / "model.safetensors"
    weights = load_file(path)
    gone = ["final_norm.weight", "layers.10.mlp.Wo.weight", "layers.3.attn_norm.weight"]
    save_file({name: x for name, x in weights.items() if name not in gone}, path)
    with pytest.raises(FolderError) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
    assert path.name in str(error.value)
    # By PyTorch's names or by Flax's.
    ours = ["final_norm/scale", "layer_10/mlp_out/kernel", "layer_3/attention_norm/scale"]
    message = str(error.value)
    assert all(a in message or b in message for a, b in zip(gone, ours, strict=True))


def test_a_weight_of_another_shape_is_refused(tmp_path):
    save(tmp_path, saved_model(MODELS["static"]))
    path = tmp_path / "model.safetensors"
    save_file({"embedding.weight": load_file(path)["embedding.weight"][:, :5].copy()}, path)
    with pytest.raises(FolderError, match=r"model\.safetensors"):
        load(tmp_path)


FILES = ["contrastive.json", "model.safetensors", "tokenizer.json"]


@pytest.mark.parametrize("file", FILES)
def test_a_missing_file_is_named(tmp_path, file):
    save(tmp_path, saved_model(MODELS["static"]))
    (tmp_path / file).unlink()
    with pytest.raises(FolderError) as error:
        load(tmp_path)
    assert str(tmp_path / file) in str(error.value)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FolderError, match="nowhere"):
        load(tmp_path / "nowhere")


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_refused_with_its_folder(tmp_path, file, share):
    save(tmp_path, saved_model(MODELS["static"]))
    content = (tmp_path / file).read_bytes().strip()
    (tmp_path / file).write_bytes(content[: int(share * len(content))])
    with pytest.raises(FolderError) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda ours: ours.pop("pooling"),
        lambda ours: ours.update(unknown=1),
        lambda ours: ours.pop("model"),
        lambda ours: ours["model"].update(width="wide"),
        lambda ours: ours["model"].update(kind="convolution"),
    ],
    ids=["field missing", "field unknown", "model missing", "width no number", "kind unknown"],
)
def test_a_description_that_does_not_fit_is_refused(tmp_path, change):
    save(tmp_path, saved_model(MODELS["static"]))
    path = tmp_path / "contrastive.json"
    ours = json.loads(path.read_text())
    change(ours)
    path.write_text(json.dumps(ours))
    with pytest.raises(FolderError) as error:
        load(tmp_path)
    assert str(tmp_path) in str(error.value)
