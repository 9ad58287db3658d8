"""Memory, read off the compiled programs."""

import jax
import jax.numpy as jnp

from contrastive.losses import info_nce


def dense(queries, documents):
    logits = queries @ documents.T / 0.05
    return jax.nn.logsumexp(logits, axis=1) - jnp.diag(logits)


def temporary_bytes(loss, batch, documents, width):
    gradient = jax.jit(jax.value_and_grad(lambda q, d: loss(q, d).mean(), (0, 1)))
    shapes = [jax.ShapeDtypeStruct((n, width), jnp.float32) for n in (batch, documents)]
    return gradient.lower(*shapes).compile().memory_analysis().temp_size_in_bytes


def ours(group_size=1):
    return lambda q, d: info_nce(q, d, temperature=0.05, group_size=group_size)


def test_far_less_than_the_dense_loss():
    share = temporary_bytes(ours(), 16384, 16384, 256) / temporary_bytes(dense, 16384, 16384, 256)
    assert share < 0.05


def test_grows_with_the_documents_and_not_with_the_pairs():
    small = temporary_bytes(ours(2), 8192, 16384, 64)
    large = temporary_bytes(ours(2), 32768, 65536, 64)
    assert large < 5 * small  # 4 times the documents, 16 times the pairs
