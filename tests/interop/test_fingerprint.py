"""A run goes on with the checkpoint it was started with, whatever else lies in its folder."""

import pytest
from folders import bert_weights, write_json, write_modules, write_plain, write_weights

from contrastive import config
from contrastive.interop.initial_model import initial_model

MODULES = [("Transformer", "0_Transformer"), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
READ = [
    "modules.json",
    "config_sentence_transformers.json",
    "contrastive.json",
    "1_Pooling/config.json",
    *(
        f"0_Transformer/{name}"
        for name in (
            "config.json",
            "model.safetensors",
            "sentence_bert_config.json",
            "special_tokens_map.json",
            "tokenizer.json",
            "tokenizer_config.json",
        )
    ),
]
BESIDES = [
    "training/config.json",
    "training/checkpoints/best/3/metadata.json",
    "results.json",
    "vocab.json",
    "0_Transformer/onnx/model.safetensors",
    "0_Transformer/results.json",
    "README.md",
]


def fingerprint(folder):
    experiment = config.Experiment(
        name="t",
        data=config.Data(
            train=config.Jsonl(path="unread"), query_max_length=8, document_max_length=8
        ),
        model=config.Checkpoint(name=str(folder)),
    )
    return initial_model(
        experiment.model,
        experiment.data,
        examples=[],
        pooling=experiment.pooling,
        normalize=experiment.normalize,
    ).fingerprint


@pytest.fixture
def folder(tmp_path):
    write_modules(tmp_path / "m", *MODULES, pooling={"pooling_mode_mean_tokens": True})
    weights = write_plain(tmp_path / "m" / "0_Transformer")
    write_json(weights / "sentence_bert_config.json", {"max_seq_length": 9})
    write_json(weights / "special_tokens_map.json", {"pad_token": "[PAD]"})
    write_json(tmp_path / "m" / "config_sentence_transformers.json", {"prompts": {}})
    write_json(tmp_path / "m" / "contrastive.json", {"temperature": 0.1})
    return tmp_path / "m"


@pytest.mark.parametrize("name", READ)
def test_every_file_that_is_read_counts(folder, name):
    before, path = fingerprint(folder), folder / name
    if path.suffix == ".json":
        path.write_text(path.read_text().replace("{", "{ ", 1))
    else:
        weights = bert_weights()
        weights["pooler.dense.bias"][0] += 1.0
        write_weights(path, weights)
    assert fingerprint(folder) != before


def test_no_other_file_counts_nor_where_the_folder_is(folder):
    before = fingerprint(folder)
    for name in BESIDES:
        write_json(folder / name, {"any": "thing"})
    assert fingerprint(folder) == before
    assert fingerprint(folder.rename(folder.parent / "moved")) == before


def test_the_same_words_in_another_file_are_something_else(folder):
    ours, theirs = folder / "contrastive.json", folder / "config_sentence_transformers.json"
    ours.unlink()
    write_json(theirs, {})
    before = fingerprint(folder)
    theirs.rename(ours)
    assert fingerprint(folder) != before
