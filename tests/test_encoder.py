"""Texts in, vectors out: as each alone, in order, on any number of devices."""

import dataclasses

import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

import contrastive
from contrastive import config
from contrastive.data.tokenizers import train_wordpiece
from contrastive.data.tokens import BERT_NAMES, Tokenizer
from contrastive.devices.mesh import make_mesh
from contrastive.encoder import Encoder
from contrastive.errors import ConfigError, DataError, FolderError
from contrastive.interop.pretrained import PretrainedModel
from contrastive.models.linen.embedder import Embedder
from contrastive.tasks import Retrieval
from contrastive.tasks.retrieval.collections import Collection
from contrastive.types import Tokens

COLOURS = ["red", "green", "blue"]
WORDS = [*COLOURS, "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TRANSFORMER = config.Transformer(width=16, depth=2, heads=2, mlp_width=16)


def sentences(count, most, seed=0):
    """Texts of very different lengths, some empty and some equal."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, n)) for n in rng.integers(0, most + 1, count)]


@dataclasses.dataclass
class Made:
    """An encoder, and what it is made of."""

    encoder: Encoder
    embedder: Embedder
    tokenize: Tokenizer
    params: dict


def made(spec, devices, fsdp=1, *, params=None, normalize=True, texts_per_row=16, **fields):
    backend = train_wordpiece(sentences(200, 9), vocab_size=120)
    tokenize = Tokenizer(backend, special_tokens=spec.adds_special_tokens)
    module = spec.build(tokenize.vocab_size)
    family, hf_config = spec.hugging_face(tokenize.vocab_size)
    embedder = Embedder(module, "mean", normalize)
    mesh = make_mesh(fsdp, jax.devices()[:devices])
    if params is None:
        rng = np.random.default_rng(0)
        params = jax.tree.map(
            lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32),
            embedder.init(jax.random.key(0)),
        )
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    model = PretrainedModel(
        module=module,
        family=family,
        config=hf_config,
        params={},
        tokenizer=backend,
        names=BERT_NAMES,
        tokenizer_config={},
        pooling="mean",
        normalize=normalize,
        query_length=6,
        document_length=12,
        **fields,
    )
    encoder = Encoder(model, params, mesh, texts_per_row=texts_per_row)
    return Made(encoder, embedder, tokenize, params)


def one_by_one(ours, texts, length):
    """Each text in a row of its own, on one device, in rows filled by hand."""
    ids, segments = (np.zeros((len(texts), length), np.int32) for _ in range(2))
    for number, text in enumerate(texts):
        found = ours.tokenize([text], length)[0]
        ids[number, : len(found)], segments[number, : len(found)] = found, 1
    positions = np.tile(np.arange(length, dtype=np.int32), (len(texts), 1)) * segments
    slots = np.arange(len(texts), dtype=np.int32)
    tokens = Tokens(ids, segments, positions, np.zeros((len(texts), 1), np.int32), slots, blocks=1)
    return np.asarray(jax.jit(ours.embedder.embed)(jax.device_get(ours.params), tokens))


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), (8, 2)])
def test_texts_are_embedded_as_each_alone_and_in_order(devices, fsdp):
    ours = made(TRANSFORMER, devices, fsdp, texts_per_row=3)
    texts = sentences(300, 11)  # more rows than one device takes at a time
    documents = ours.encoder.encode_documents(texts)
    assert documents.dtype == np.float32
    truth = one_by_one(ours, texts, 12)
    np.testing.assert_allclose(documents, truth, atol=2e-6)
    queries = ours.encoder.encode_queries(texts[:5])  # shorter, and fewer than the devices
    np.testing.assert_allclose(queries, one_by_one(ours, texts[:5], 6), atol=2e-6)
    assert not np.allclose(queries, truth[:5], atol=1e-3)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_corpus_larger_than_what_is_packed_at_once_keeps_its_order(devices):
    ours = made(config.Static(width=8), devices)
    texts = sentences(8192 + 100, 5)
    table = np.asarray(ours.params["embedding"], np.float64)
    truth = np.zeros((len(texts), 8))
    for row, ids in zip(truth, ours.tokenize(texts, 12), strict=True):
        if len(ids):
            row[:] = table[ids].mean(axis=0)
            row /= np.linalg.norm(row)
    np.testing.assert_allclose(ours.encoder.encode_documents(texts), truth, atol=2e-6)


def bags_of_words(devices=8):
    """Every word its own direction: cosines count shared words."""
    blank = made(config.Static(width=len(WORDS)), devices)
    table = np.zeros((blank.tokenize.vocab_size, len(WORDS)), np.float32)
    for place, word in enumerate(WORDS):
        (id,) = blank.tokenize([word], 12)[0]
        table[id, place] = 1.0
    return made(config.Static(width=len(WORDS)), devices, params={"embedding": table})


def test_evaluation_ranks_documents_by_shared_words():
    corpus = {"a": "red", "b": "red green", "c": "red green blue", "d": "one two", "e": "ten"}
    queries = {"x": "red green", "y": "two", "z": "one two ten"}
    # x ranks b, c (2/sqrt 6), a (1/sqrt 2); y ranks d; z ranks d (2/sqrt 6), e (1/sqrt 3).
    relevant = {"x": {"a": 1}, "y": {"d": 1}, "z": {"e": 1}}
    task = Collection("words", queries, corpus, relevant)
    found = Retrieval("unread").evaluate(bags_of_words().encoder, task)
    assert found["MRR@10"] == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    assert found["Recall@10"] == 1.0


@pytest.fixture(scope="module")
def prompted():
    """With different prompts and lengths of queries and documents."""
    prompts = {"query_prompt": "red: ", "document_prompt": "blue "}
    return made(TRANSFORMER, 1, temperature=0.05, **prompts)


TEXTS = sentences(20, 9, seed=3)


def test_no_texts_are_no_rows(prompted):
    for encode in (prompted.encoder.encode_queries, prompted.encoder.encode_documents):
        for texts in ([], (), iter(())):
            found = encode(texts)
            assert found.shape == (0, 16)
            assert found.dtype == np.float32
    assert prompted.encoder.encode([], truncate_dim=4).shape == (0, 4)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ("one two", r"the string 'one two'; pass a list"),
        (["one", 2], "text 1 is not a string: 2"),
        ([None], "text 0 is not a string: None"),
        ([["one"]], "text 0 is not a string"),
    ],
)
def test_what_is_no_list_of_texts_is_refused(prompted, texts, message):
    encoder = prompted.encoder
    for encode in (encoder.encode_queries, encoder.encode_documents, encoder.encode):
        with pytest.raises(DataError, match=message):
            encode(texts)


def test_any_iterable_of_texts_will_do(prompted):
    truth = prompted.encoder.encode_documents(TEXTS)
    for texts in (tuple(TEXTS), (text for text in TEXTS), dict.fromkeys(TEXTS), np.array(TEXTS)):
        listed = list(texts) if isinstance(texts, dict) else TEXTS
        rows = truth[[TEXTS.index(text) for text in listed]]
        np.testing.assert_array_equal(prompted.encoder.encode_documents(texts), rows)


def test_queries_and_documents_have_prompts_and_lengths_of_their_own(prompted):
    encoder = prompted.encoder
    assert (encoder.query_prompt, encoder.document_prompt) == ("red: ", "blue ")
    assert (encoder.query_length, encoder.document_length, encoder.width) == (6, 12, 16)
    queries = one_by_one(prompted, ["red: " + text for text in TEXTS], 6)
    np.testing.assert_allclose(encoder.encode_queries(TEXTS), queries, atol=2e-6)
    documents = one_by_one(prompted, ["blue " + text for text in TEXTS], 12)
    np.testing.assert_allclose(encoder.encode_documents(TEXTS), documents, atol=2e-6)
    plain = one_by_one(prompted, TEXTS, 12)
    np.testing.assert_allclose(encoder.encode(TEXTS), plain, atol=2e-6)
    other = one_by_one(prompted, ["ten " + text for text in TEXTS], 7)
    found = encoder.encode(TEXTS, prompt="ten ", max_length=7)
    np.testing.assert_allclose(found, other, atol=2e-6)


@pytest.mark.parametrize("normalize", [True, False])
def test_truncated_embeddings_have_unit_length_where_whole_ones_have(normalize):
    encoder = made(TRANSFORMER, 1, normalize=normalize).encoder
    whole = encoder.encode_documents(TEXTS)
    for width in (1, 5, 16):
        found = encoder.encode_documents(TEXTS, truncate_dim=width)
        assert found.shape == (len(TEXTS), width)
        assert found.dtype == np.float32
        truth = whole[:, :width].astype(np.float64)
        if normalize:
            truth /= np.linalg.norm(truth, axis=1, keepdims=True)
        np.testing.assert_allclose(found, truth, atol=1e-6)
        np.testing.assert_array_equal(encoder.encode(TEXTS, truncate_dim=width), found)
    assert np.allclose(np.linalg.norm(whole, axis=1), 1.0, atol=1e-6) == normalize


@pytest.mark.parametrize("width", [0, -1, 17])
def test_a_width_that_embeddings_do_not_have_is_refused(prompted, width):
    with pytest.raises(ConfigError, match=f"truncate_dim is {width}, .* from 1 to 16"):
        prompted.encoder.encode_queries(TEXTS, truncate_dim=width)


def test_an_empty_text_that_is_cut_is_not_divided_by_zero():
    encoder = made(config.Static(width=8), 1).encoder
    found = encoder.encode_documents(["", "one"], truncate_dim=3)
    np.testing.assert_array_equal(found[0], np.zeros(3))
    np.testing.assert_allclose(np.linalg.norm(found[1]), 1.0, atol=1e-6)


def test_similarity_is_the_matrix_of_dot_products(prompted):
    rng = np.random.default_rng(0)
    queries, documents = rng.normal(size=(3, 16)), rng.normal(size=(5, 16))
    found = prompted.encoder.similarity(queries, documents)
    assert found.dtype == np.float32
    truth = [[sum(q * d) for d in documents] for q in queries]
    np.testing.assert_allclose(found, truth, atol=1e-5)


@pytest.mark.parametrize("kind", ["transformer", "static"])
@pytest.mark.parametrize("normalize", [True, False])
def test_a_saved_encoder_is_loaded_with_equal_vectors(tmp_path, kind, normalize):
    spec = TRANSFORMER if kind == "transformer" else config.Static(width=8)
    fields = {"query_prompt": "red: ", "document_prompt": "blue ", "temperature": 0.05}
    ours = made(spec, 8, 2, normalize=normalize, **fields).encoder
    ours.save_pretrained(tmp_path / "new" / "model")
    for folder in (tmp_path / "new" / "model", str(tmp_path / "new")):  # the model's, or a run's
        loaded = contrastive.Encoder.from_pretrained(folder)
        for name in ("encode_queries", "encode_documents"):
            found, truth = getattr(loaded, name)(TEXTS), getattr(ours, name)(TEXTS)
            np.testing.assert_array_equal(found, truth)
        for name in ("width", "query_prompt", "document_prompt", "query_length", "temperature"):
            assert getattr(loaded, name) == getattr(ours, name)
        assert repr(loaded) == repr(ours)
        np.testing.assert_array_equal(
            loaded.encode(TEXTS, truncate_dim=3), ours.encode(TEXTS, truncate_dim=3)
        )
    loaded.save_pretrained(str(tmp_path / "again"))
    again = contrastive.Encoder.from_pretrained(tmp_path / "again", mesh=make_mesh(1))
    np.testing.assert_array_equal(again.encode_queries(TEXTS), ours.encode_queries(TEXTS))


def test_layers_may_compute_in_bfloat16(tmp_path, prompted):
    prompted.encoder.save_pretrained(tmp_path)
    found = Encoder.from_pretrained(tmp_path, dtype="bfloat16").encode_documents(TEXTS)
    assert found.dtype == np.float32
    error = np.max(np.abs(found - prompted.encoder.encode_documents(TEXTS)))
    assert 1e-5 < error < 0.1


def test_a_folder_that_pools_in_another_way_is_refused(tmp_path, prompted):
    prompted.encoder.save_pretrained(tmp_path)
    with pytest.raises(FolderError, match=r"pooling is 'cls', but .* specifies 'mean'"):
        Encoder.from_pretrained(tmp_path, pooling="cls")
    with pytest.raises(FolderError, match="no such folder"):
        Encoder.from_pretrained(tmp_path / "nowhere")


def test_other_parameters_leave_the_encoder_as_it_was(prompted):
    encoder = prompted.encoder
    before = encoder.encode_queries(TEXTS)
    other = encoder.with_params(jax.tree.map(lambda x: 1.5 * x + 0.1, prompted.params))
    assert not np.allclose(other.encode_queries(TEXTS), before, atol=1e-3)
    np.testing.assert_array_equal(encoder.encode_queries(TEXTS), before)
    assert (other.query_prompt, other.mesh) == (encoder.query_prompt, encoder.mesh)
