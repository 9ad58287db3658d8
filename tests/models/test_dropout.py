"""Dropout drops the share it should, and nothing about a mask tells another."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import CONFIGS, module, one_a_row, parameters, texts

from contrastive.data.tokens import pack
from contrastive.models.families import bert, modernbert
from contrastive.models.linen.dropout import Dropout, text_dropout

TEXTS, LENGTH, CHANNELS, HEADS = 128, 16, 48, 4
RATES = [0.1, 0.5]
SIGMAS = 5.5  # what no correct mask exceeds in a few thousand comparisons


@functools.cache
def tokens():
    """Texts as similar as they come: each differs from the one before in one token."""
    made = [np.full(LENGTH, 7, np.int32)]
    for number in range(1, TEXTS):
        made.append(made[-1].copy())
        made[-1][number % LENGTH] += 1
    return one_a_row(made, LENGTH)


@functools.partial(jax.jit, static_argnums=(0, 1))
def hidden_mask(rate, place, seed):
    """1 where a value is kept; texts, positions, channels."""
    ones = jnp.ones((TEXTS, LENGTH, CHANNELS))
    return text_dropout(tokens(), seed).at(place).hidden(ones, rate) > 0


@functools.partial(jax.jit, static_argnums=(0, 1))
def attention_mask(rate, place, seed):
    """1 where a probability is kept; texts, heads, queries, keys."""
    ones = jnp.ones((TEXTS, HEADS, LENGTH, LENGTH))
    return text_dropout(tokens(), seed).at(place).attention(ones, rate) > 0


MASKS = {"hidden": hidden_mask, "attention": attention_mask}


def largest_correlation(series):
    """Between any two rows, in standard errors of independent ones."""
    assert np.all(series.std(axis=1) > 0)
    correlations = np.corrcoef(series) - np.eye(len(series))
    return np.max(np.abs(correlations)) * np.sqrt(series.shape[1])


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("rate", RATES)
def test_the_share_that_is_kept(kind, rate):
    masks = np.stack([MASKS[kind](rate, 0, np.uint32(seed)) for seed in range(8)])
    error = np.sqrt(rate * (1 - rate) / masks.size)
    assert abs(masks.mean() - (1 - rate)) < SIGMAS * error
    # Of every text, position, channel or head too.
    for axis in range(1, masks.ndim):
        shares = masks.mean(axis=tuple(a for a in range(masks.ndim) if a != axis))
        errors = np.sqrt(rate * (1 - rate) / (masks.size / len(shares)))
        assert np.max(np.abs(shares - (1 - rate))) < SIGMAS * errors


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("rate", RATES)
def test_masks_are_uncorrelated(kind, rate):
    mask = np.asarray(MASKS[kind](rate, 0, np.uint32(3)), np.float32)
    # Between texts; positions (queries); channels or keys; heads.
    for axis in range(mask.ndim):
        series = np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1)
        assert largest_correlation(series) < SIGMAS, axis
    seeds = [0, 1, 2, 3, 2**31, 2**32 - 1]
    of_seeds = [MASKS[kind](rate, 0, np.uint32(seed)) for seed in seeds]
    places = [-1, 0, 1, 2, 3, 4, 12, 24]
    of_places = [MASKS[kind](rate, place, np.uint32(3)) for place in places]
    for some in (of_seeds, of_places):
        assert largest_correlation(np.stack(some).reshape(len(some), -1)) < SIGMAS
    # A mask and the same, moved by a position, a channel or a text.
    for axis in range(mask.ndim):
        for step in (1, 2):
            pair = np.stack([mask, np.roll(mask, step, axis)]).reshape(2, -1)
            assert largest_correlation(pair) < SIGMAS


def test_hidden_and_attention_masks_of_a_place_are_uncorrelated():
    hidden = hidden_mask(0.5, 2, np.uint32(3))[:, :, :LENGTH]
    attention = attention_mask(0.5, 2, np.uint32(3))
    series = [np.asarray(hidden).ravel(), *(np.asarray(attention[:, h]).ravel() for h in range(4))]
    assert largest_correlation(np.stack(series).astype(np.float32)) < SIGMAS


@pytest.mark.parametrize("kind", MASKS)
@pytest.mark.parametrize("rate", RATES)
def test_the_mean_over_seeds_is_the_input(kind, rate):
    rng = np.random.default_rng(0)
    shape = MASKS[kind](rate, 0, np.uint32(0)).shape
    x, count = rng.normal(size=shape).astype(np.float32), 400

    @jax.jit
    def total(x):
        def add(seed, sum_):
            return sum_ + getattr(text_dropout(tokens(), seed).at(1), kind)(x, rate)

        return jax.lax.fori_loop(np.uint32(0), np.uint32(count), add, jnp.zeros_like(x))

    # A kept value is x / (1 - rate): the mean's standard error is |x| sqrt(rate / (1 - rate) / n).
    errors = np.abs(x) * np.sqrt(rate / (1 - rate) / count)
    found = (np.asarray(total(x), np.float64) / count - x) / errors
    # 400 draws at 0.1 are skewed: of 100,000 such means 0.04 lie beyond 5.5, 0.00003 beyond 7.
    assert np.max(np.abs(found)) < 7
    # As far from it as independent draws are, no nearer and no farther.
    assert abs(np.mean(found**2) - 1) < SIGMAS * np.sqrt(2 / found.size)


@pytest.mark.parametrize("kind", MASKS)
def test_values_and_gradients_are_masked_and_scaled(kind):
    rate, rng = 0.3, np.random.default_rng(0)
    mask = np.asarray(MASKS[kind](rate, 5, np.uint32(9)))
    x, direction = rng.normal(size=(2, *mask.shape)).astype(np.float32)

    @jax.jit
    def dropped(x):
        y, backward = jax.vjp(
            lambda x: getattr(text_dropout(tokens(), np.uint32(9)).at(5), kind)(x, rate), x
        )
        return y, backward(jnp.asarray(direction))[0]

    y, gradient = dropped(x)
    np.testing.assert_allclose(y, np.where(mask, x / 0.7, 0), rtol=1e-6)
    np.testing.assert_allclose(gradient, np.where(mask, direction / 0.7, 0), rtol=1e-6)


def test_a_text_has_one_mask_wherever_it_is_packed():
    made = texts([5, 3, 0, 7, 4, 6, 2, 5])
    made[6] = made[1]

    def masks(order, **layout):
        """By text; position, channel."""
        packed = pack([made[n] for n in order], row_length=9, **layout)
        dropout = text_dropout(packed, np.uint32(1)).at(0)
        mask = np.asarray(dropout.hidden(jnp.ones((*packed.ids.shape, 32)), 0.5))
        wide = np.asarray(dropout.attention(jnp.ones((len(mask), 2, 9, 9)), 0.5))
        found, rows = {}, len(packed.ids) // packed.blocks
        for number, slot in enumerate(packed.slots.tolist()):
            row, place = divmod(slot, packed.texts_per_row)
            row += number // (len(order) // packed.blocks) * rows
            columns = np.flatnonzero(packed.segments[row] == place + 1)
            found[order[number]] = mask[row, columns], wide[row][:, columns][:, :, columns]
        return found

    truth = masks(range(8))
    order = [6, 3, 1, 0, 7, 2, 5, 4]
    for layout in ({"texts_per_row": 3}, {"texts_per_row": 4, "blocks": 4}):
        found = masks(order, **layout)
        for number in range(8):
            for a, b in zip(found[number], truth[number], strict=True):
                np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(truth[1][0], truth[6][0])
    assert not np.array_equal(truth[0][0], truth[7][0])  # as long, but another text


@pytest.mark.parametrize("kind", CONFIGS)
def test_no_two_places_of_an_encoder_share_their_randomness(kind, monkeypatch):
    depth, seen, hidden = 3, [], Dropout.hidden
    params = parameters(kind, num_hidden_layers=depth)

    def seen_hidden(self, x, rate):
        seen.append(np.asarray(self.keys))
        return hidden(self, x, rate)

    def seen_attend(q, k, v, mask, dropout, rate, blocks):
        seen.append(np.asarray(dropout.keys))
        return v

    monkeypatch.setattr(Dropout, "hidden", seen_hidden)
    for family in (bert, modernbert):
        monkeypatch.setattr(family, "attend", seen_attend)
    packed = pack(texts([5, 3, 7, 4]), row_length=9, texts_per_row=2)
    module(kind, num_hidden_layers=depth).apply({"params": params}, packed, seed=np.uint32(1))
    assert len(seen) == 1 + 3 * depth
    filled = np.stack(seen)[:, packed.segments > 0]
    assert len(np.unique(filled)) == filled.size  # 32 bits: by chance in one of a million runs
