"""Learning rates of `--lr_scheduler_type` beside those of transformers."""

import pytest
import torch
from transformers import TrainingArguments, get_scheduler

from contrastive.finetune.parsing import Arguments, parse
from contrastive.finetune.translation import _optimizer
from contrastive.training.optimizer import Optimizer, make_schedule

STEPS, RATE = 40, 3e-4
KINDS = [
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant"),
    "constant_with_warmup",
]


def given(*flags) -> Arguments:
    words = ["--model_name_or_path", "m", "--train_data", "d.jsonl", "--output_dir", "o", *flags]
    return parse(list(map(str, words)))[0]


def their_rates(kind, *, warmup_ratio=0.0, warmup_steps=0.0):
    """The learning rate of each update of the Hugging Face trainer."""
    arguments = TrainingArguments("o", warmup_steps=warmup_steps or warmup_ratio, use_cpu=True)
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=RATE)
    scheduler = get_scheduler(
        kind, optimizer, arguments.get_warmup_steps(STEPS), num_training_steps=STEPS
    )
    rates = []
    for _ in range(STEPS):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return rates


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "warmup", [{}, {"warmup_ratio": 0.1}, {"warmup_steps": 7}, {"warmup_steps": STEPS - 1}]
)
def test_learning_rates_are_transformers_at_every_step(kind, warmup):
    flags = [word for name, value in warmup.items() for word in (f"--{name}", value)]
    arguments = given("--learning_rate", RATE, "--lr_scheduler_type", kind, *flags)
    schedule = make_schedule(Optimizer(**_optimizer(arguments, STEPS)), STEPS)
    rates = [float(schedule(step)) for step in range(STEPS)]
    assert rates == pytest.approx(their_rates(kind, **warmup), rel=1e-5, abs=1e-11)
