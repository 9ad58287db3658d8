import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.models.linen.embedder import gather_texts, pool
from contrastive.types import Tokens

# Two blocks of two rows, at most three texts a row, laid out by hand. The texts in order are
# b, c, an empty one and a in the first block; f, d, an empty one and e in the second.
SEGMENTS = [
    [1, 1, 1, 2, 2, 0],  # a a a b b .
    [1, 1, 1, 1, 1, 1],  # c, a full row
    [1, 2, 2, 3, 0, 0],  # d e e f . .
    [0, 0, 0, 0, 0, 0],  # an empty row, in which an empty text lies
]
POSITIONS = [[0, 1, 2, 0, 1, 0], [0, 1, 2, 3, 4, 5], [0, 0, 1, 0, 0, 0], [0] * 6]
SLOTS = [1, 3, 2, 0, 2, 0, 3, 1]
# Row and columns of each text, in order.
TEXTS = [
    (0, [3, 4]),
    (1, range(6)),
    (0, []),
    (0, [0, 1, 2]),
    (2, [3]),
    (2, [0]),
    (3, []),
    (2, [1, 2]),
]


def tokens():
    segments, positions = np.array(SEGMENTS, np.int32), np.array(POSITIONS, np.int32)
    ids = np.where(segments > 0, 7, 0).astype(np.int32)
    three_a_row = np.zeros((4, 3), np.int32)
    return Tokens(ids, segments, positions, three_a_row, np.array(SLOTS, np.int32), blocks=2)


@pytest.mark.parametrize("pooling", ["mean", "cls", "last_token"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_text_is_pooled_from_its_own_tokens(pooling, dtype):
    hidden = jnp.asarray(np.random.default_rng(0).normal(size=(4, 6, 5)), dtype)
    exact = np.asarray(hidden, np.float64)
    truth = np.zeros((len(TEXTS), 5))
    for number, (row, columns) in enumerate(TEXTS):
        if len(columns):
            vectors = [exact[row, column] for column in columns]
            if pooling == "mean":
                truth[number] = sum(vectors) / len(vectors)
            else:
                truth[number] = vectors[0 if pooling == "cls" else -1]
    found = gather_texts(pool(hidden, tokens(), pooling), tokens())
    assert found.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(found), truth, rtol=1e-6, atol=1e-6)
