"""The pooling of a fine-tuned model, and the notice about it."""

import dataclasses

from finetuning import rows, translated, write_checkpoint, write_rows

from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load


def test_a_checkpoint_that_does_not_say_pools_as_in_flagembedding(tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", rows(8, 7))
    plain = write_checkpoint(tmp_path / "plain")
    experiment, notices = translated(model=plain, data=data)
    assert experiment.pooling == "cls"
    assert f"{plain} does not say how it pools, so the pooling is cls" in notices[-1]


def test_a_checkpoint_pools_as_it_says_unless_a_flag_chooses(tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", rows(8, 7))
    plain = load(write_checkpoint(tmp_path / "plain"))
    for pooling in ("mean", "last_token"):
        folder = tmp_path / pooling
        save(folder, dataclasses.replace(plain, pooling=pooling))
        experiment, notices = translated(model=folder, data=data)
        assert experiment.pooling == pooling
        assert f"the pooling is {pooling}, as {folder} says" in notices[-1]
        assert ("FlagEmbedding would pool by cls" in notices[-1]) == (pooling != "cls")
        chosen = translated("--sentence_pooling_method", "cls", model=folder, data=data)
        assert chosen.experiment.pooling == "cls"
