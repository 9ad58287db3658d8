"""The command finetune, whose flags are those of FlagEmbedding."""

from __future__ import annotations

from collections.abc import Sequence

from contrastive.cli.stopping import stoppable


def finetune() -> None:
    """Fine-tune a checkpoint with the flags of FlagEmbedding: contrastive finetune --help."""


def finetune_model(words: Sequence[str]) -> None:
    """Fine-tunes a model, and shows the results.

    Args:
      words: The words of the command line after `finetune`.

    Raises:
      UserError: If a flag, the data or the model cannot be used, or training fails.
    """
    with stoppable():
        from contrastive.cli.endings import show_run
        from contrastive.devices.distributed import is_first
        from contrastive.finetune.command import finetune as run_finetune

        done = run_finetune(words)
        if is_first():
            show_run(done.results, done.experiment, done.run, done.folder)
