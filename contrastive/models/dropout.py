"""Dropout as a pure function of the text.

What is dropped depends on the seed, the layer, and the text and position of a token: not on the row
a text was packed into, the chunk it was computed in, or the device. A packed, chunked or divided
batch therefore has the loss and gradient of a padded one, with dropout too, and nothing needs to be
stored for the backward pass: the bits are made again.
"""

from __future__ import annotations

import dataclasses
import functools

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, UInt32

from contrastive.types import Tokens

_GOLDEN = 0x9E3779B9  # odd, so that counting by it visits every 32-bit number


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=("keys", "positions"), meta_fields=()
)
@dataclasses.dataclass(frozen=True)
class Dropout:
    """The randomness of one place of an encoder.

    Attributes:
      keys: One 32-bit key a token; None drops nothing.
      positions: Position of each token in its own text.
    """

    keys: UInt32[Array, "R T"] | None
    positions: Int[Array, "R T"]

    def at(self, place: int) -> Dropout:
        """The randomness of one place, independent of other places' randomness."""
        if self.keys is None:
            return self
        return Dropout(mix(self.keys + jnp.uint32((place + 1) * _GOLDEN % 2**32)), self.positions)

    def hidden(self, x: Float[Array, "R T D"], rate: float) -> Float[Array, "R T D"]:
        """Drops a share of the values of token vectors and scales the others up."""
        if self.keys is None or rate == 0.0:
            return x
        return _drop(_hidden_bits, rate, x, self.keys, self.positions)

    def attention(
        self, p: Float[Array, "R H T T"], rate: float, *, keys_first: bool = False
    ) -> Float[Array, "R H T T"]:
        """Drops a share of attention probabilities and scales the others up.

        Args:
          p: Of queries (third axis) and keys (last axis).
          rate: Share that is dropped.
          keys_first: Whether the third axis is that of keys instead, and the last that of queries.

        Returns:
          The probabilities that are left.
        """
        if self.keys is None or rate == 0.0:
            return p
        bits = _attention_bits_keys_first if keys_first else _attention_bits
        return _drop(bits, rate, p, self.keys, self.positions)


def text_dropout(tokens: Tokens, seed: UInt32[Array, ""] | None) -> Dropout:
    """The randomness of a batch of texts.

    Args:
      tokens: The texts; equal texts get equal masks.
      seed: 32 random bits a step; None drops nothing.

    Returns:
      Keys of the tokens.
    """
    positions = jnp.asarray(tokens.positions)
    if seed is None:
        return Dropout(None, positions)
    place = jnp.maximum(jnp.asarray(tokens.segments) - 1, 0)
    text = jnp.take_along_axis(jnp.asarray(tokens.text_ids), place, axis=1).astype(jnp.uint32)
    return Dropout(mix(mix(text ^ seed) + positions.astype(jnp.uint32)), positions)


def mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """A bijection of 32-bit numbers that leaves no visible pattern.

    Two multiplications and three shifts: a tenth of the work of JAX's own generators, which make
    dropout a third of a CPU's training time. The constants are the published search result of C.
    Wellons' hash prospector (bias 0.17, where a perfect function has 0).

    Args:
      x: Counters or keys.

    Returns:
      Bits.
    """
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def _hidden_bits(shape, keys, positions):
    del positions
    channel = jnp.arange(shape[-1], dtype=jnp.uint32) * jnp.uint32(_GOLDEN)
    return mix(keys[:, :, None] ^ channel)


def _attention_bits(shape, keys, positions):
    of_query, of_key = _attention_hashes(shape, keys, positions)
    return mix(of_query[:, :, :, None] ^ of_key[:, None, None, :])


def _attention_bits_keys_first(shape, keys, positions):
    """The same bits, the last two axes the other way round; made so, not turned round in memory."""
    of_query, of_key = _attention_hashes(shape, keys, positions)
    return mix(of_query[:, :, None, :] ^ of_key[:, None, :, None])


def _attention_hashes(shape, keys, positions):
    head = jnp.arange(shape[1], dtype=jnp.uint32) * jnp.uint32(_GOLDEN)
    of_query = mix(keys[:, None, :] ^ head[:, None])  # [R, H, T]
    return of_query, positions.astype(jnp.uint32) * jnp.uint32(_GOLDEN)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _drop(bits, rate, x, keys, positions):
    keep = bits(x.shape, keys, positions) >= jnp.uint32(round(rate * 2**32))
    return jnp.where(keep, x * jnp.asarray(1.0 / (1.0 - rate), x.dtype), jnp.zeros((), x.dtype))


def _drop_forward(bits, rate, x, keys, positions):
    return _drop(bits, rate, x, keys, positions), (keys, positions)


def _drop_backward(bits, rate, residuals, cotangent):
    return _drop(bits, rate, cotangent, *residuals), None, None


_drop.defvjp(_drop_forward, _drop_backward)
