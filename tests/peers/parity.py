"""Compares our losses with a peer's: the mean, and its slope along every argument."""

import jax
import jax.numpy as jnp
import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from contrastive import similarity

BATCH = 6
TEMPERATURE = 1 / 16  # float32 holds it exactly


class Column(torch.nn.Module):
    """Stands in for an encoder: the features are the embeddings."""

    max_seq_length = 8

    def __init__(self, name):
        super().__init__()
        self.name = name
        # GISTEmbedLoss insists on one, and asks for its vocabulary alone.
        self.tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel({})))

    def forward(self, features):
        return {"sentence_embedding": features[self.name]}


MODEL, GUIDE = (
    SentenceTransformer(modules=[Column(name)], device="cpu") for name in ("embedding", "guide")
)


def embeddings(negatives=0, *, seed=0, width=8, closeness=1.0):
    """Queries [B, D] and documents [B, 1 + negatives, D] of any length, the positives first."""
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(BATCH, width))
    documents = rng.normal(size=(BATCH, 1 + negatives, width))
    documents[:, 0] += closeness * queries
    return queries.astype(np.float32), documents.astype(np.float32)


def features(queries, documents, name="embedding"):
    """Columns as sentence-transformers has them: queries, positives, one for each negative."""
    return [{name: column} for column in (queries, *documents.unbind(1))]


def theirs(build, labels=None):
    """A loss of sentence-transformers, built anew for each temperature."""
    labels = torch.empty(0) if labels is None else torch.tensor(labels, dtype=torch.float64)

    def of_groups(queries, documents, **numbers):
        return build(**numbers)(features(queries, documents), labels)

    return of_groups


def flat(documents):
    return documents.reshape(-1, documents.shape[-1])


def ours(loss, *extra, **options):
    """Our loss of dot products."""

    def of_groups(queries, documents, **numbers):
        return loss(queries, flat(documents), *extra, **numbers, **options)

    return of_groups


def cosines(loss, *extra, **options):
    """Our loss of cosines; the peers normalise inside of theirs."""
    of_groups = ours(loss, *extra, **options)

    def of_directions(queries, documents, **numbers):
        return of_groups(similarity.normalize(queries), similarity.normalize(documents), **numbers)

    return of_directions


def compare(our_loss, their_loss, *arrays, **numbers):
    """Ours in float32 is within 1e-5 of theirs in float64, values and gradients.

    Args:
      our_loss: A function of arrays and numbers; its mean is compared.
      their_loss: The same, of PyTorch's tensors.
      *arrays: What theirs can differentiate.
      **numbers: Temperatures that it takes for constants: their slopes are differences.
    """
    leaves = [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in arrays]
    truth = their_loss(*leaves, **numbers)
    gradients = [x.numpy() for x in torch.autograd.grad(truth, leaves)]

    def mean(arrays, numbers):
        return our_loss(*arrays, **numbers).mean()

    given = jax.tree.map(jnp.float32, (arrays, numbers))
    value, (found, slopes) = jax.jit(jax.value_and_grad(mean, (0, 1)))(*given)
    np.testing.assert_allclose(value, truth.item(), rtol=1e-5)
    for our, true in zip(found, gradients, strict=True):
        check_gradient(our, true)
    largest = max(np.max(np.abs(true)) for true in gradients)
    for name, number in numbers.items():
        # Terms as large as the embeddings' gradients over the temperature cancel in it.
        check_gradient(slopes[name], slope(their_loss, leaves, numbers, name), largest / number)


def check_gradient(found, true, terms=0.0):
    largest = np.max(np.abs(true))
    assert largest > 1e-3
    np.testing.assert_allclose(found, true, rtol=0, atol=1e-5 * max(largest, terms))


def slope(function, arrays, numbers, name):
    step = 1e-5 * numbers[name]
    above, below = (
        function(*arrays, **numbers | {name: numbers[name] + move}).item() for move in (step, -step)
    )
    return (above - below) / (2 * step)
