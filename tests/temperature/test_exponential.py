"""The exponential schedule against values computed by hand, and in a traced program."""

import jax
import numpy as np
import pytest

from contrastive.temperature import Exponential


@pytest.mark.parametrize(
    ("initial", "policy", "by_step"),
    [
        (0.5, Exponential(last=0.005, steps=2), {0: 0.5, 1: 0.05, 2: 0.005, 9: 0.005}),
        (0.02, Exponential(last=0.32, steps=4), {0: 0.02, 1: 0.04, 2: 0.08, 3: 0.16, 4: 0.32}),
        # Without `steps` it takes the whole run, here 8 steps.
        (0.16, Exponential(last=0.01), {0: 0.16, 2: 0.08, 4: 0.04, 6: 0.02, 8: 0.01}),
    ],
)
def test_temperature_by_step(initial, policy, by_step):
    compiled = jax.jit(lambda step: policy.temperature({}, step, initial=initial, steps=8))
    for step, temperature in by_step.items():
        assert float(compiled(step)) == pytest.approx(temperature, rel=1e-5)


def test_the_logarithm_changes_linearly():
    policy = Exponential(last=0.03)
    steps = np.arange(11)
    temperatures = [float(policy.temperature({}, n, initial=0.7, steps=10)) for n in steps]
    expected = np.log(0.7) + steps / 10 * (np.log(0.03) - np.log(0.7))
    np.testing.assert_allclose(np.log(temperatures), expected, rtol=1e-5)


@pytest.mark.parametrize("fields", [{"last": 0.0}, {"last": -1.0}, {"steps": 0}])
def test_impossible_settings_are_refused(fields):
    with pytest.raises(ValueError, match=next(iter(fields))):
        Exponential(**{"last": 0.02, **fields})
