import jax
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from contrastive import config
from contrastive.data.tokenization import Tokenizer, train_wordpiece
from contrastive.evaluation.encoder import Encoder
from contrastive.evaluation.retrieval import evaluate
from contrastive.evaluation.task import Retrieval
from contrastive.models.embedder import Embedder
from contrastive.models.scratch import from_scratch
from contrastive.training.mesh import make_mesh
from contrastive.types import Tokens

COLOURS = ["red", "green", "blue"]
WORDS = [*COLOURS, "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]


def sentences(count, most, seed=0):
    """Texts of very different lengths, some empty and some equal."""
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, n)) for n in rng.integers(0, most + 1, count)]


def encoder(model, devices, fsdp=1, **options):
    """An encoder and parameters on a mesh."""
    tokenizer = train_wordpiece(sentences(200, 9), vocab_size=120)
    tokenize = Tokenizer(tokenizer, special_tokens=isinstance(model, config.Transformer))
    embedder = Embedder(from_scratch(model, tokenize.vocab_size).module, "mean", True)
    mesh = make_mesh(fsdp, jax.devices()[:devices])
    params = embedder.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: x + 0.3 * rng.normal(size=x.shape).astype(np.float32), params)
    params = jax.device_put(params, NamedSharding(mesh, PartitionSpec()))
    lengths = {"query_length": 6, "document_length": 12}
    return Encoder(embedder, tokenize, **lengths, mesh=mesh, **options), params


def one_by_one(encoder, params, texts, length):
    """Each text in a row of its own, on one device, in rows filled by hand."""
    ids, segments = (np.zeros((len(texts), length), np.int32) for _ in range(2))
    for number, text in enumerate(texts):
        found = encoder.tokenize([text], length)[0]
        ids[number, : len(found)], segments[number, : len(found)] = found, 1
    positions = np.tile(np.arange(length, dtype=np.int32), (len(texts), 1)) * segments
    slots = np.arange(len(texts), dtype=np.int32)
    tokens = Tokens(ids, segments, positions, np.zeros((len(texts), 1), np.int32), slots, blocks=1)
    return np.asarray(jax.jit(encoder.embedder.embed)(jax.device_get(params), tokens))


@pytest.mark.parametrize(("devices", "fsdp"), [(1, 1), (8, 2)])
def test_texts_are_embedded_as_each_alone_and_in_order(devices, fsdp):
    model = config.Transformer(width=16, depth=2, heads=2, mlp_width=16)
    ours, params = encoder(model, devices, fsdp, texts_per_row=3)
    texts = sentences(300, 11)  # more rows than one device takes at a time
    documents = ours.documents(params, texts)
    assert documents.dtype == np.float32
    truth = one_by_one(ours, params, texts, 12)
    np.testing.assert_allclose(documents, truth, atol=2e-6)
    queries = ours.queries(params, texts[:5])  # shorter, and fewer than the devices
    np.testing.assert_allclose(queries, one_by_one(ours, params, texts[:5], 6), atol=2e-6)
    assert not np.allclose(queries, truth[:5], atol=1e-3)


@pytest.mark.parametrize("devices", [1, 8])
def test_a_corpus_larger_than_what_is_packed_at_once_keeps_its_order(devices):
    ours, params = encoder(config.Static(width=8), devices)
    texts = sentences(8192 + 100, 5)
    table = np.asarray(params["embedding"], np.float64)
    truth = np.zeros((len(texts), 8))
    for row, ids in zip(truth, ours.tokenize(texts, 12), strict=True):
        if len(ids):
            row[:] = table[ids].mean(axis=0)
            row /= np.linalg.norm(row)
    np.testing.assert_allclose(ours.documents(params, texts), truth, atol=2e-6)


def test_no_texts_are_refused():
    ours, params = encoder(config.Static(width=8), 1)
    with pytest.raises(ValueError, match="no texts"):
        ours.documents(params, [])


def test_evaluation_ranks_documents_by_shared_words():
    ours, _ = encoder(config.Static(width=len(WORDS)), 8)
    # Every word its own direction: embeddings are bags of words, and cosines count shared words.
    table = np.zeros((ours.tokenize.vocab_size, len(WORDS)), np.float32)
    for place, word in enumerate(WORDS):
        (id,) = ours.tokenize([word], 12)[0]
        table[id, place] = 1.0
    corpus = {"a": "red", "b": "red green", "c": "red green blue", "d": "one two", "e": "ten"}
    queries = {"x": "red green", "y": "two", "z": "one two ten"}
    # x ranks b, c (2/sqrt 6), a (1/sqrt 2); y ranks d; z ranks d (2/sqrt 6), e (1/sqrt 3).
    relevant = {"x": {"a": 1}, "y": {"d": 1}, "z": {"e": 1}}
    task = Retrieval("words", queries, corpus, relevant)
    found = evaluate(ours, {"embedding": table}, task)
    assert found["MRR@10"] == pytest.approx((1 / 3 + 1 + 1 / 2) / 3)
    assert found["Recall@10"] == 1.0
