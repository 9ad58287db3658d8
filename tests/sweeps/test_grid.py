"""Which runs a sweep has, read off a command line."""

import pytest

from contrastive.config import Checkpoint, Experiment, Learned, Objective
from contrastive.errors import ConfigError
from contrastive.sweeps.grid import Grid, take_axes

DEFAULT = Experiment(name="x")
FROZEN = Checkpoint(name="some/model", dropout=0.0)


def test_flags_with_several_numbers_are_axes_and_nothing_else_is():
    words = "loss.function:hard-negative --loss.function.beta 0.5 1 2 --loss.matryoshka_dims 64 128"
    words += " --loss.temperature 1e-2 .05 --optimizer.learning-rate 0.001 --batch-size 8 16"
    axes, rest = take_axes(words.split(), DEFAULT)
    assert axes == {
        "loss.function.beta": (0.5, 1, 2),
        "loss.temperature": (0.01, 0.05),
        "batch_size": (8, 16),
    }
    # The default loss has no beta; the first value is there in case hard-negative requires it.
    expected = (
        "loss.function:hard-negative --loss.function.beta 0.5 --loss.matryoshka_dims 64 128 "
        "--optimizer.learning-rate 0.001"
    )
    assert rest == expected.split()


@pytest.mark.parametrize(
    "words", ["--seeds 1 2", "--batch-size 1 2 --batch-size 4 8", "--workdir a b"]
)
def test_a_flag_of_the_command_or_a_flag_given_twice_is_refused(words):
    with pytest.raises(ConfigError, match="given only once, with one value"):
        take_axes(words.split(), DEFAULT)


def test_only_numbers_can_be_swept():
    with pytest.raises(ConfigError, match="--pooling cls mean: only numbers"):
        take_axes(["--pooling", "cls", "mean"], DEFAULT)


def test_every_combination_has_every_seed_and_is_a_valid_run():
    axes = {"loss.temperature": (0.02, 1), "optimizer.learning_rate": (1e-3, 2e-3)}
    grid = Grid(DEFAULT.replace(seed=5), axes, seeds=3)
    members = grid.members
    assert [member.number for member in members] == list(range(12))
    assert [member.init_seed for member in members] == [5, 6, 7] * 4
    assert len({(*m.values.values(), m.init_seed) for m in members}) == 12
    alone = grid.alone(members[-1])
    assert (alone.loss.temperature, alone.optimizer.learning_rate) == (1.0, 2e-3)
    assert (alone.seed, alone.init_seed) == (5, 7)


@pytest.mark.parametrize(
    ("base", "axes", "seeds", "said"),
    [
        (DEFAULT, {"loss.temperature": (0.1, -1.0)}, 1, "greater than 0"),
        (DEFAULT, {"loss.temperature": (0.1, 0.1)}, 1, "contains a value more than once"),
        (DEFAULT, {"loss.temprature": (0.1, 0.2)}, 1, "has no field 'temprature'"),
        (DEFAULT, {"loss.guide.margin": (1, 2)}, 1, "None has no field 'margin'"),
        (DEFAULT, {"loss.temperature": ()}, 1, "loss.temperature has no values to sweep"),
        (DEFAULT, {"pooling": ("cls", "mean")}, 1, "pooling is 'cls'; only numbers can be swept"),
        (
            DEFAULT,
            {"init_seed": (1, 2)},
            1,
            "init_seed cannot be swept; set seeds to train with several seeds",
        ),
        (DEFAULT.replace(fsdp=2), {"loss.temperature": (0.1, 1)}, 1, r"fsdp \(now 2\)"),
        (DEFAULT.replace(model=FROZEN), {}, 3, "all seeds would give the same run"),
        (DEFAULT, {}, 0, "seeds is 0"),
        (
            DEFAULT.replace(loss=Objective(temperature=0.1, policy=Learned())),
            {"loss.temperature": (0.1, 2.0)},
            1,
            "outside the policy's",
        ),
    ],
)
def test_what_cannot_be_a_run_is_refused_before_any_begins(base, axes, seeds, said):
    with pytest.raises(ValueError, match=said):
        Grid(base, axes, seeds)


def test_a_sweep_does_not_raise_temperatures_of_its_runs():
    with pytest.raises(ConfigError, match=r"on_divergence is .raise_temperature."):
        Grid(DEFAULT.replace(on_divergence="raise_temperature"), {"loss.temperature": (0.1, 0.2)})
