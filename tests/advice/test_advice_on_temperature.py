"""The adviser's rules about the temperature, on logs of known numbers."""

import dataclasses
from typing import ClassVar

import pytest
from logged import FLAT, LEARNED, OSCILLATING, PEAKED, START, causes, observed

from contrastive import config, temperature
from contrastive.advice.advisor import findings


def test_a_narrow_range_is_said_to_be_harmless():
    healthy, narrow = findings(observed(negative_cosine=0.72, positive_cosine=0.91))
    assert (healthy.cause, narrow.cause) == ("healthy", "narrow_range")
    assert "0.72 for negatives and 0.91 for positives" in narrow.seen
    assert "harmless for ranking" in narrow.advice


@pytest.mark.parametrize(
    ("batch_size", "top", "cause"),
    [
        (64, 0.7, "low_temperature"),
        (64, 0.5, "healthy"),
        (11, 0.7, "low_temperature"),
        (10, 0.7, "few_negatives"),
        (256, 0.7, "healthy"),  # whose ten hardest were looked at
    ],
)
def test_of_how_many_negatives_one_is_a_handful(batch_size, top, cause):
    changes = {"batch_size": batch_size}
    seen = {"top_negative_share": top, "saturated": 0.9, "effective_negatives": 3.0}
    (found,) = findings(observed(changes=changes, **seen))
    assert found.cause == cause
    if cause == "few_negatives":
        assert "3.0 of a query's 9 negatives share the gradient, and one has 70%" in found.seen
        assert "contrastive sweep" in found.advice


@pytest.mark.parametrize(("top", "cause"), [(0.5, "too_early"), (0.7, "low_temperature")])
def test_what_was_not_looked_at_closely_is_not_called_healthy(top, cause):
    run = observed(top_negative_share=top, saturated=0.9)
    log = [{k: v for k, v in row.items() if k not in ("top_10_share", "copied")} for row in run.log]
    assert causes(dataclasses.replace(run, log=log)) == [cause]


def test_a_closer_look_in_another_phase_is_none():
    run = observed(changes={"loss.policy": OSCILLATING}, temperature=1.0, saturated=0.9)
    looked = {"step": 60, "top_10_share": 0.99}
    early = {**START, "step": 60, "temperature": 0.1}
    log = [run.log[0], early, looked, {k: v for k, v in run.log[1].items() if k != "top_10_share"}]
    assert causes(dataclasses.replace(run, log=log)) == ["too_early"]


@pytest.mark.parametrize(("limit", "at"), [("minimum", 0.01), ("maximum", 1.0)])
def test_a_learned_temperature_at_its_limit_is_said_to_be_there(limit, at):
    (found,) = findings(observed(changes={"loss.policy": LEARNED}, temperature=at))
    assert found.cause == "at_limit"
    assert f"{limit}, {at:g}" in found.seen
    assert ("prefers lower" in found.advice) == (limit == "minimum")


@pytest.mark.parametrize(
    ("changes", "temperature", "shown", "words", "advice"),
    [
        ({}, 0.01, PEAKED, "at temperature 0.01, 95%", "raise loss.temperature to 0.02 or 0.05"),
        (
            {"loss.policy": LEARNED},
            0.01,
            PEAKED,
            "at temperature 0.01, the minimum of loss.policy,",
            "raise loss.policy.minimum (now 0.01) to 0.02 or 0.05, or fix the temperature at",
        ),
        (
            {"loss.policy": LEARNED},
            0.5,
            FLAT,
            "at temperature 0.5, the softmax is flat",
            "lower loss.policy.maximum (now 1) to 0.2 or 0.1, or fix the temperature at",
        ),
        (
            {"loss.policy": OSCILLATING},
            0.9,
            FLAT,
            "at step 90, where the schedule is at temperature 0.9, the softmax",
            "lower loss.policy.other (now 1), the upper end of loss.policy, to 0.5 or 0.2",
        ),
        (
            {"loss.policy": config.WarmDown(start=0.5, steps=80)},
            0.02,
            PEAKED,
            "at step 90, where the schedule is at temperature 0.02, 95%",
            "raise loss.temperature (now 0.02), the lower end of loss.policy, to 0.04 or 0.1",
        ),
        (
            {
                "data.train": config.Mixture(
                    parts=(config.MixturePart(source=config.Pydoc(), temperature=0.01),)
                )
            },
            0.01,
            PEAKED,
            "at temperature 0.01, 95%",
            "raise loss.temperature and the temperatures in data.train.parts to 0.02 or 0.05",
        ),
    ],
)
def test_advice_names_what_moves_the_temperature(changes, temperature, shown, words, advice):
    (found,) = findings(observed(changes=changes, temperature=temperature, **shown))
    assert found.seen.startswith(words)
    assert found.advice.startswith(advice)


class Softplus(temperature.Policy):
    """A learned temperature without limits, as that of the guide to policies."""

    is_learned: ClassVar[bool] = True
    learning_rate: float = 1e-2


class Bounded(Softplus):
    """A learned temperature with limits of other names."""

    floor: float = 0.01
    ceiling: float | None = 0.5

    @property
    def limits(self):
        return {"floor": self.floor} | ({"ceiling": self.ceiling} if self.ceiling else {})


class Halving(temperature.Policy):
    """A schedule that does not say where it ends."""

    is_scheduled: ClassVar[bool] = True


@pytest.mark.parametrize(
    ("policy", "at", "shown", "advice"),
    [
        (Softplus(), 0.02, PEAKED, "fix the temperature at 0.04 or 0.1;"),
        (Softplus(), 0.4, FLAT, "fix the temperature at 0.2 or 0.08"),
        (Bounded(), 0.01, PEAKED, "raise loss.policy.floor (now 0.01) to 0.02 or 0.05, or fix"),
        (Bounded(ceiling=None), 0.4, FLAT, "fix the temperature at 0.2 or 0.08"),
        (Bounded(), 0.4, FLAT, "lower loss.policy.ceiling (now 0.5) to 0.2 or 0.08, or fix"),
        (
            Halving(),
            0.02,
            PEAKED,
            "change loss.policy so that the temperature at this step is 0.04 or 0.1;",
        ),
    ],
)
def test_advice_on_policies_from_outside_names_only_what_they_have(policy, at, shown, advice):
    (found,) = findings(observed(changes={"loss.policy": policy}, temperature=at, **shown))
    assert found.advice.startswith(advice)


@pytest.mark.parametrize(
    ("policy", "at", "name", "lower"),
    [
        (Bounded(), 0.01, "floor", True),
        (Bounded(), 0.5, "ceiling", False),
        (Bounded(ceiling=None), 0.01, "floor", True),
        (Bounded(floor=0.4, ceiling=None), 0.4, "floor", False),  # it begins at 0.05, below it
    ],
)
def test_limits_of_any_name_are_lower_or_upper_ones(policy, at, name, lower):
    (found,) = findings(observed(changes={"loss.policy": policy}, temperature=at))
    assert found.cause == "at_limit"
    assert f"at its {name}, {at:g}" in found.seen
    assert ("prefers lower" in found.advice) == lower


@pytest.mark.parametrize(("positive", "begins"), [(3.0, True), (1.0, False)])
def test_a_temperature_to_begin_with_needs_positives_above_negatives(positive, begins):
    seen = {"positive_cosine": positive, "negative_cosine": 2.0}
    (found,) = findings(observed(changes={"normalize": False}, **seen))
    assert found.cause == "not_normalized"
    assert found.advice.startswith("set normalize=True")
    assert ("begin at 0.1," in found.advice) == begins
    assert ("begin" in found.advice) == begins


@pytest.mark.parametrize(
    ("parts", "negatives"),
    [
        ([{}], 2 * 256 - 1),
        ([{"group_size": 8}, {}], 8 * 256 - 1),
        ([{"in_batch": False, "group_size": 8}, {}], 7),
    ],
)
def test_negatives_are_those_of_sources(parts, negatives):
    made = tuple(config.MixturePart(source=config.Pydoc(), **part) for part in parts)
    changes = {"data.train": config.Mixture(parts=made), "data.group_size": 2}
    assert observed(changes=changes).negatives == negatives
