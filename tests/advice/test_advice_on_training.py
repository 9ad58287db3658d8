"""The adviser's rules about what is not the temperature's doing, on logs of known numbers."""

import dataclasses

import numpy as np
import pytest
from logged import LEARNED, OSCILLATING, causes, observed, of_losses

from contrastive import config
from contrastive.advice.advisor import findings


@pytest.mark.parametrize(
    ("logit", "normalize", "cause"),
    [(3e5, True, "low_temperature"), (500, True, "learning_rate"), (1e16, False, "learning_rate")],
)
def test_a_step_that_is_not_finite_is_heat_only_where_logits_have_no_digits(
    logit, normalize, cause
):
    changes = {"normalize": normalize}
    (found,) = findings(observed(changes=changes, diverged_at=91, largest_logit=logit))
    assert found.cause == cause
    assert "step 91" in found.seen
    assert ("raise loss.temperature" in found.advice) == (cause == "low_temperature")


def test_before_twenty_steps_nothing_but_divergence_is_said():
    early = observed(step=2, copied=0.5, accuracy=0.3)
    assert causes(early) == ["too_early"]
    assert causes(observed(copied=0.5, accuracy=0.3)) == ["duplicates"]
    assert causes(dataclasses.replace(early, diverged_at=2)) == ["learning_rate"]


def fixed_losses(policy, steps, gain):
    """InfoNCE of random cosines, positives rising by `gain` a step, at a schedule's temperatures.

    In float64, by its definition; one batch for all steps.
    """
    rng = np.random.default_rng(0)
    negatives = rng.normal(0, 0.1, (64, 255))
    losses, temperatures = [], []
    for step in steps:
        t = float(policy.temperature({}, step, initial=0.05, steps=1000))
        positive = np.full((64, 1), 0.2 + gain * step)
        logits = np.hstack([positive, negatives]) / t
        top = logits.max(axis=1)
        log_z = top + np.log(np.exp(logits - top[:, None]).sum(axis=1))
        losses.append(float(np.mean(log_z - logits[:, 0])))
        temperatures.append(t)
    return losses, temperatures


@pytest.mark.parametrize(
    "policy",
    [config.Oscillating(other=1.0, period=100), config.Linear(last=1.0, steps=50)],
    ids=["oscillating", "linear"],
)
def test_a_loss_that_rises_with_its_schedule_is_not_the_learning_rates_doing(policy):
    losses, temperatures = fixed_losses(policy, range(0, 51, 10), gain=0.005)
    assert losses[-1] > 1.4 * losses[0]  # though every positive has come nearer
    run = of_losses(losses, temperatures, {"loss.policy": policy})
    assert causes(run) == ["healthy"]
    fixed = of_losses(losses, None, {"loss.policy": config.Fixed()})
    assert causes(fixed) == ["learning_rate"]


@pytest.mark.parametrize(("gain", "cause"), [(0.005, "healthy"), (-0.001, "learning_rate")])
def test_losses_of_one_phase_of_a_schedule_are_compared(gain, cause):
    schedule = config.Oscillating(other=1.0, period=50)
    losses, temperatures = fixed_losses(schedule, range(0, 101, 10), gain)
    run = of_losses(losses, temperatures, {"loss.policy": OSCILLATING})
    (found,) = findings(run)
    assert found.cause == cause
    if cause == "learning_rate":
        assert f"from {losses[0]:.3g} at step 1 to {losses[-1]:.3g} at step 101" in found.seen
        assert "both at temperature 0.05" in found.seen


def test_a_learned_temperature_is_minimized_over_and_its_losses_compare():
    run = of_losses([2.0, 3.0, 4.0], [0.07, 0.05, 0.04], {"loss.policy": LEARNED})
    assert causes(run) == ["learning_rate"]


@pytest.mark.parametrize(
    ("losses", "cause"),
    [
        ([-1.0, -1.02, -2.0], "healthy"),
        ([-1.0, -1.0, -1.04], "not_learning"),
        ([-3.0, -3.1, -2.0, -1.0], "not_learning"),  # the last batches may be hard ones
        ([-3.0, -2.0, -2.0, -1.0, -2.0, -1.0], "learning_rate"),
        ([0.5, 2.0, 0.4, 1.5, 0.3], "healthy"),
        ([1.0, 1.03, 1.06, 1.07], "not_learning"),
        ([1.0, 1.1, 1.2, 1.08], "learning_rate"),
        ([4.8, 9.0, 7.0, 6.0, 5.0, 4.0], "healthy"),
    ],
)
def test_losses_that_rise_stay_or_fall(losses, cause):
    """Also below zero, as without the positive in the softmax, and with an easy batch at first."""
    run = of_losses(losses, accuracy=0.5)
    assert causes(run) == [cause]


def test_sources_that_take_turns_are_not_judged_by_the_easiest_at_first():
    losses = [0.3, 3.0, 3.1, 2.8, 2.9, 2.0, 2.1, 1.9, 1.8, 1.7]
    parts = tuple(config.MixturePart(source=config.Pydoc()) for _ in "ab")
    assert causes(of_losses(losses, accuracy=0.5)) == ["learning_rate"]
    mixed = {"data.train": config.Mixture(parts=parts)}
    assert causes(of_losses(losses, None, mixed, accuracy=0.5)) == ["healthy"]


@pytest.mark.parametrize(
    ("before", "after", "cause"),
    [((0.2, 0.96), (0.195, 0.98), "healthy"), ((0.2, 0.5), (0.195, 0.52), "not_learning")],
)
def test_a_good_checkpoint_has_little_to_learn(before, after, cause):
    first, last = (dict(zip(("loss", "accuracy"), x, strict=True)) for x in (before, after))
    assert causes(observed(first, **last)) == [cause]


@pytest.mark.parametrize(
    ("at_first", "cause"),
    [(0.3, "learning_rate"), (0.95, "learning_rate"), (0.993, "not_learning")],
)
def test_embeddings_that_were_alike_from_the_beginning_have_not_become_so(at_first, cause):
    alike = {"loss": 3.9, "accuracy": 0.11, "negative_cosine": 0.995, "positive_cosine": 0.996}
    assert causes(observed({"negative_cosine": at_first}, **alike)) == [cause]


@pytest.mark.parametrize(
    ("copied", "accuracy", "negative_cosine", "expected"),
    [
        (0.3, 0.7, 0.1, ["duplicates"]),
        (0.2, 0.7, 0.1, ["healthy"]),
        (1.0, 0.7, 0.95, ["healthy", "narrow_range"]),  # documents are near, copies or not
    ],
)
def test_duplicates_are_copies_of_the_positive(copied, accuracy, negative_cosine, expected):
    seen = {"copied": copied, "accuracy": accuracy, "negative_cosine": negative_cosine}
    found = findings(observed(**seen))
    assert [finding.cause for finding in found] == expected
    if expected == ["duplicates"]:
        assert "30% of the queries" in found[0].seen


def test_temperatures_that_were_raised_are_told():
    run = observed(temperature=0.2)
    raises = [{"step": 4, "raised_temperature": t} for t in (0.1, 0.2)]
    log = [{**run.log[0], "temperature": 0.05}, *raises, run.log[1]]
    (found,) = findings(dataclasses.replace(run, log=log))
    assert found.cause == "raised"
    assert "raised 2 times, from 0.05 to 0.2," in found.seen
    assert "start at loss.temperature=0.2" in found.advice
    ended, raised = findings(dataclasses.replace(run, log=log, diverged_at=91))
    assert (ended.cause, raised.cause) == ("learning_rate", "raised")
    assert "still diverged" in raised.seen
    assert "optimizer.learning_rate" in raised.advice


def test_losses_before_a_raise_do_not_compare():
    run = of_losses([1.0, 3.0, 2.9], [0.05, 0.1, 0.1], {"loss.policy": LEARNED}, accuracy=0.5)
    assert causes(run) == ["learning_rate"]
    raised = {"step": 1, "raised_temperature": 0.1}
    log = [{**run.log[0], "accuracy": 0.1}, raised, *run.log[1:]]
    assert causes(dataclasses.replace(run, log=log)) == ["raised"]


@pytest.mark.parametrize(
    ("batch_size", "changes", "cause"),
    [
        (256, {}, "learning_rate"),
        (8, {}, "few_negatives"),  # a batch of eight may have been an easy one
        (256, {"loss.function": config.SupCon()}, "not_learning"),  # not what it teaches
    ],
)
def test_accuracy_that_falls_shows_what_a_high_temperature_hides(batch_size, changes, cause):
    """As of a learning rate of 1e16 at temperature 1: its loss goes from 4.34 to 4.39."""
    first = {"loss": 4.34, "accuracy": 0.88}
    changes = {"batch_size": batch_size, **changes}
    run = observed(first, changes, loss=4.39 if batch_size > 8 else 3.0, accuracy=0.57)
    assert causes(run) == [cause]


@pytest.mark.parametrize(("accuracy", "cause"), [(0.36, "learning_rate"), (0.55, "not_learning")])
def test_accuracy_tells_where_no_loss_compares(accuracy, cause):
    """As of a learning rate of 0.5 while the temperature rises in a straight line."""
    changes = {"loss.policy": config.Linear(last=0.1)}
    first = {"temperature": 0.02, "accuracy": 0.6}
    run = observed(first, changes, temperature=0.1, accuracy=accuracy)
    assert causes(run) == [cause]
    assert "the loss went" not in findings(run)[0].seen
