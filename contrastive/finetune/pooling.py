"""The pooling of a fine-tuned model if no flag chooses one."""

from __future__ import annotations

from contrastive.finetune.translation import Translated
from contrastive.interop.modules import stored_pooling
from contrastive.interop.run_model import model_folder
from contrastive.models._checkpoint import Checkpoint

_DEFAULT = "cls"  # FlagEmbedding's


def with_pooling(translated: Translated) -> Translated:
    """Pools as the checkpoint says, or as FlagEmbedding does if the checkpoint does not say.

    Args:
      translated: The experiment of the flags, whose pooling is None if no flag chooses one.

    Returns:
      The experiment with a pooling, and a notice about how it was chosen.

    Raises:
      FolderError: If the checkpoint cannot be found or read.
    """
    experiment, notices = translated
    model = experiment.model
    if experiment.pooling is not None or not isinstance(model, Checkpoint):
        return translated
    folder = model_folder(model.name, revision=model.revision, cache_dir=model.cache_dir)
    stored = stored_pooling(folder)
    if stored is None:
        notice = f"{folder} does not say how it pools, so the pooling is {_DEFAULT}"
    else:
        theirs = "" if stored == _DEFAULT else f"; FlagEmbedding would pool by {_DEFAULT}"
        notice = f"the pooling is {stored}, as {folder} says{theirs}"
    notice += "; --sentence_pooling_method chooses another"
    return Translated(experiment.replace(pooling=stored or _DEFAULT), [*notices, notice])
