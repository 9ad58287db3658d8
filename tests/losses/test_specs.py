"""Losses as settings: on their own, in sums, traced by a sweep, and with names of their own."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.config import (
    CoSENT,
    DistillKL,
    InfoNCE,
    Objective,
    SigLIP,
    SogCLR,
    SpreadOut,
    SupCon,
    Triplet,
)
from contrastive.errors import ConfigError
from contrastive.losses import Loss, LossInputs, siglip, sogclr
from contrastive.training.batch_loss import BatchLoss

Q = jnp.asarray(np.eye(3, 4), jnp.float32)
INPUTS = LossInputs(Q, Q, 0.1)


def test_learned_scalars_and_memory_have_initial_values():
    np.testing.assert_array_equal(
        SigLIP(bias=-3.0)(INPUTS), siglip(Q, Q, temperature=0.1, bias=-3.0)
    )
    expected = sogclr(Q, Q, jnp.full(3, -jnp.inf), temperature=0.1)
    np.testing.assert_array_equal(SogCLR()(INPUTS)[0], expected.losses)


@pytest.mark.parametrize(
    ("loss", "needs"), [(DistillKL(), "scores"), (CoSENT(), "scores"), (SupCon(), "labels")]
)
def test_what_a_loss_needs_is_named(loss, needs):
    with pytest.raises(ValueError, match=f"this loss needs {needs}; pass {needs}="):
        loss(INPUTS)


def test_weights_of_a_sum_can_be_traced():
    both = InfoNCE() + 0.5 * SpreadOut()

    @jax.jit
    def total(weight):
        return both.replace_unvalidated({"terms.1.weight": weight})(INPUTS)

    expected = InfoNCE()(INPUTS) + 0.25 * SpreadOut()(INPUTS)
    np.testing.assert_allclose(total(0.25), expected, rtol=1e-6)


@pytest.mark.parametrize("loss", [SupCon(), Triplet(), CoSENT()])
def test_a_sum_explains_as_its_terms_do(loss):
    assert (2 * loss).why_not_softmax() == loss.why_not_softmax() != ""
    assert (loss + InfoNCE()).why_not_softmax() == ""


class Learns(Loss):
    """Learns a scalar whose name is taken."""

    name: str = "temperature"

    def initial_values(self):
        return {self.name: 5.0}


def test_names_of_the_batch_are_refused():
    BatchLoss(Objective(function=Learns(name="slope")))
    for name in ("temperature", "labels", "query_pools"):
        with pytest.raises(ConfigError, match=f"loss.function is learns, whose .* called {name}"):
            BatchLoss(Objective(function=Learns(name=name)))
