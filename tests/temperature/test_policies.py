import jax
import jax.numpy as jnp
import numpy as np
import pytest

from contrastive.config import Objective
from contrastive.losses import info_nce
from contrastive.temperature import Fixed, Individual, Learned, Linear, Oscillating, WarmDown


def at(policy, initial, step=0, steps=100):
    """The temperature of a step with the policy's first parameters."""
    return float(policy.temperature(policy.init(initial), step, initial=initial, steps=steps))


def test_default_temperature_is_a_fiftieth():
    objective = Objective()
    assert at(objective.policy, objective.temperature) == pytest.approx(0.02)


def test_a_fixed_temperature_has_no_gradient():
    policy = Fixed()

    def squared(params):
        return policy.temperature(params, 0, initial=0.3, steps=1) ** 2

    assert float(jax.grad(squared)(policy.init(0.3))["value"]) == 0


def test_a_learned_temperature_moves_down_the_loss():
    rng = np.random.default_rng(0)
    queries, documents = (jnp.asarray(rng.normal(size=(8, 4)), jnp.float32) for _ in range(2))
    policy = Learned()
    params = policy.init(0.5)

    def loss(params):
        temperature = policy.temperature(params, 0, initial=0.5, steps=1)
        return info_nce(queries, documents, temperature=temperature).mean()

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
    found = policy.temperature(projected, 0, initial=0.07, steps=1)
    assert float(found) == pytest.approx(temperature, rel=1e-5)


@pytest.mark.parametrize(
    "make",
    [
        lambda: Objective(temperature=0.0),
        lambda: Objective(temperature=-1.0),
        lambda: Objective(temperature=0.005, policy=Learned(minimum=0.01)),
        lambda: Objective(policy={"kind": "learned", "minimum": 0.0}),
        lambda: Individual(minimum=0.0),
        lambda: Learned(maximum=-1.0),
    ],
)
def test_impossible_temperatures_are_refused(make):
    with pytest.raises(ValueError, match=r"temperature is|minimum is|maximum is"):
        make()


@pytest.mark.parametrize(
    ("initial", "schedule", "by_step"),
    [
        (0.1, Linear(last=0.02, steps=4), {0: 0.1, 1: 0.08, 2: 0.06, 4: 0.02, 9: 0.02}),
        (0.02, Linear(last=0.5, steps=2), {0: 0.02, 1: 0.26, 3: 0.5}),
        # Without steps of its own it takes those of the run, here 8.
        (0.1, Linear(last=0.02), {0: 0.1, 2: 0.08, 4: 0.06, 8: 0.02}),
        # The paper's: (tau+ - tau-) (1 + cos(2 pi t / T)) / 2 + tau-.
        (
            1.0,
            Oscillating(other=0.1, period=8),
            {0: 1.0, 1: 0.868198, 2: 0.55, 4: 0.1, 6: 0.55, 8: 1.0},
        ),
        (0.01, WarmDown(start=1.0, steps=4), {0: 1.0, 1: 0.316228, 2: 0.1, 4: 0.01, 50: 0.01}),
    ],
)
def test_schedules_are_these_numbers(initial, schedule, by_step):
    params = schedule.init(initial)
    assert schedule.project(params) == params == {}
    for step, temperature in by_step.items():
        found = jax.jit(lambda step: schedule.temperature({}, step, initial=initial, steps=8))(
            jnp.int32(step)
        )
        assert float(found) == pytest.approx(temperature, rel=1e-5), step


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: Linear(last=0.0, steps=4), "last is 0.0: .*greater than 0"),
        (lambda: Oscillating(other=-1.0, period=4), "other is -1.0: .*greater than 0"),
        (lambda: WarmDown(start=0.0, steps=4), "start is 0.0: .*greater than 0"),
        (lambda: Linear(last=0.2, steps=0), "steps is 0: .*greater than 0"),
        (lambda: Oscillating(other=0.2, period=-2), "period is -2: .*greater than 0"),
        (lambda: WarmDown(start=0.2, steps=0), "steps is 0: .*greater than 0"),
    ],
)
def test_impossible_schedules_are_refused(make, named):
    with pytest.raises(ValueError, match=named):
        make()


@pytest.mark.parametrize(
    ("policy", "initial", "expected"), [(Fixed(), 0.05, 0.1), (Learned(), 0.6, 1.0)]
)
def test_a_policy_scales_its_temperature_within_its_range(policy, initial, expected):
    scaled = policy.scaled(policy.init(initial), 2.0)
    found = policy.temperature(scaled, 0, initial=initial, steps=1)
    assert float(found) == pytest.approx(expected, rel=1e-5)
