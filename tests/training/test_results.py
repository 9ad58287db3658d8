"""What results say of how they came about."""

import sys

import pytest

from contrastive.training.results import command


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["/x/bin/contrastive", "train", "a b.py"], "contrastive train 'a b.py'"),
        (["/x/contrastive/__main__.py", "sweep"], "contrastive sweep"),
        (["contrastive", "finetune", "--token", "hf_x"], "contrastive finetune --token ..."),
        (["contrastive", "finetune", "--token=hf_x"], "contrastive finetune --token=..."),
        (
            ["contrastive", "finetune", "--hub_token", "hf_x"],
            "contrastive finetune --hub_token ...",
        ),
        (["/x/ipykernel_launcher.py", "-f", "kernel.json"], ""),
    ],
)
def test_the_command_is_that_of_the_terminal_without_secrets(monkeypatch, argv, expected):
    monkeypatch.setattr(sys, "argv", argv)
    assert command() == expected
