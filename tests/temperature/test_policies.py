import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.losses import info_nce
from contrastive.temperature import Fixed, Learned, Linear, Oscillating, WarmDown


def test_default_temperature_is_a_fiftieth():
    policy = Fixed()
    assert float(policy.temperature(policy.init(), 0)) == pytest.approx(0.02)


def test_a_fixed_temperature_has_no_gradient():
    policy = Fixed(0.3)
    gradient = jax.grad(lambda p: policy.temperature(p, 0) ** 2)(policy.init())
    assert float(gradient["value"]) == 0


def test_a_learned_temperature_moves_down_the_loss():
    rng = np.random.default_rng(0)
    queries, documents = (jnp.asarray(rng.normal(size=(8, 4)), jnp.float32) for _ in range(2))
    policy = Learned(initial=0.5)
    params = policy.init()

    def loss(params):
        return info_nce(queries, documents, temperature=policy.temperature(params, 0)).mean()

    slope = float(jax.grad(loss)(params)["log_scale"])
    step = 1e-3
    ahead, behind = (float(loss({"log_scale": params["log_scale"] + s})) for s in (step, -step))
    assert slope == pytest.approx((ahead - behind) / (2 * step), rel=1e-2)


@pytest.mark.parametrize(
    ("log_scale", "temperature"), [(9.0, 0.01), (-9.0, 1.0), (3.0, np.exp(-3))]
)
def test_a_learned_temperature_is_kept_in_its_range(log_scale, temperature):
    policy = Learned(minimum=0.01, maximum=1.0)
    projected = policy.project({"log_scale": jnp.float32(log_scale)})
    assert float(policy.temperature(projected, 0)) == pytest.approx(temperature, rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Fixed(0.0),
        lambda: Fixed(-1.0),
        lambda: Learned(initial=0.005, minimum=0.01),
        lambda: Learned(minimum=0.0),
    ],
)
def test_impossible_temperatures_are_refused(make):
    with pytest.raises(ValueError, match="temperature"):
        make()


@pytest.mark.parametrize(
    ("schedule", "by_step"),
    [
        (Linear(0.1, 0.02, steps=4), {0: 0.1, 1: 0.08, 2: 0.06, 4: 0.02, 9: 0.02}),
        (Linear(0.02, 0.5, steps=2), {0: 0.02, 1: 0.26, 3: 0.5}),
        # The paper's: (tau+ - tau-) (1 + cos(2 pi t / T)) / 2 + tau-.
        (Oscillating(1.0, 0.1, period=8), {0: 1.0, 1: 0.868198, 2: 0.55, 4: 0.1, 6: 0.55, 8: 1.0}),
        (WarmDown(0.01, start=1.0, steps=4), {0: 1.0, 1: 0.316228, 2: 0.1, 4: 0.01, 50: 0.01}),
    ],
)
def test_schedules_are_these_numbers(schedule, by_step):
    params = schedule.init()
    assert schedule.project(params) == params == {}
    for step, temperature in by_step.items():
        found = jax.jit(schedule.temperature)(params, jnp.int32(step))
        assert float(found) == pytest.approx(temperature, rel=1e-5), step


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Linear(0.1, 0.0, 4), "last"),
        (lambda: Oscillating(0.1, -1.0, 4), "other"),
        (lambda: WarmDown(0.1, 0.0, 4), "start"),
        (lambda: Linear(0.1, 0.2, 0), "steps is 0; .* at least 1"),
        (lambda: Oscillating(0.1, 0.2, -2), "period is -2; .* at least 1"),
        (lambda: WarmDown(0.1, 0.2, 0), "steps is 0; .* at least 1"),
    ],
)
def test_impossible_schedules_are_refused(make, named):
    with pytest.raises(ValueError, match=named if " is " in named else f"{named} is"):
        make()
