"""Folders that cannot be loaded are refused by name, with the way out."""

import ast
import json
import re

import numpy as np
import pytest
from folders import (
    TEXTS,
    TOKENIZER,
    bert_weights,
    write_json,
    write_modules,
    write_plain,
    write_weights,
)

from contrastive import config
from contrastive.data.tokenizers import train_wordpiece
from contrastive.encoder import Encoder
from contrastive.errors import ConfigError, FolderError
from contrastive.interop.hf_import import load
from contrastive.interop.hub import local_folder
from contrastive.interop.initial_model import initial_model

MEAN = {"pooling_mode_mean_tokens": True}
TWO = [("Transformer", ""), ("Pooling", "1_Pooling")]


def refused(folder, *words, kind=FolderError):
    with pytest.raises(kind) as error:
        load(folder)
    for word in words:
        assert str(word) in str(error.value)
    return str(error.value)


def test_a_folder_that_is_not_there(tmp_path):
    refused(tmp_path / "nowhere", tmp_path / "nowhere", "no such folder")


def test_an_architecture_that_is_not_supported(tmp_path):
    path = write_plain(tmp_path) / "config.json"
    write_json(path, {"model_type": "t5", "vocab_size": 100})
    supported = ("bert", "roberta", "xlm-roberta", "camembert", "modernbert")
    refused(tmp_path, path, "'t5'", *supported, kind=ConfigError)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("position_embedding_type", "relative_key", "absolute"),
        ("hidden_act", "mish", "gelu_new"),
        ("is_decoder", True, "False"),
        ("embedding_size", 4, "8"),
    ],
)
def test_a_setting_that_is_not_supported(tmp_path, field, value, allowed):
    path = write_plain(tmp_path) / "config.json"
    write_json(path, {**json.loads(path.read_text()), field: value})
    refused(tmp_path, path, field, repr(value), allowed, kind=ConfigError)


def test_rotary_positions_that_are_scaled_are_not_supported(tmp_path):
    path = write_plain(tmp_path) / "config.json"
    rope = {"full_attention": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 4.0}}
    said = {"model_type": "modernbert", "rope_parameters": rope}
    write_json(path, {**json.loads(path.read_text()), **said})
    refused(tmp_path, path, "rope_type", "'yarn'", "default", kind=ConfigError)


def test_a_config_without_a_field_it_needs(tmp_path):
    path = write_plain(tmp_path) / "config.json"
    without = json.loads(path.read_text())
    del without["hidden_size"]
    write_json(path, without)
    refused(tmp_path, path, "hidden_size", "missing", kind=ConfigError)


def test_every_weight_that_does_not_fit_is_named_at_once(tmp_path):
    weights = bert_weights()
    write_plain(tmp_path)
    del weights["embeddings.LayerNorm.bias"]
    del weights["encoder.layer.0.attention.self.key.weight"]
    weights["encoder.layer.0.output.dense.weight"] = np.zeros((8, 13), np.float32)
    weights["encoder.layer.1.output.dense.bias"] = np.zeros(8, np.float32)
    weights["adapter.up"] = np.zeros(2, np.float32)
    write_weights(tmp_path / "model.safetensors", weights)
    message = refused(
        tmp_path,
        tmp_path,
        "embeddings.LayerNorm.bias is missing",
        "encoder.layer.0.attention.self.key.weight is missing",
        "encoder.layer.1.output.dense.bias is unknown",
        "adapter.up is unknown",
    )
    # Its own shape and the one that config.json asks for, the way PyTorch has them.
    wrong = next(part for part in message.split(";") if "output.dense.weight" in part)
    assert "(8, 13)" in wrong
    assert "(8, 12)" in wrong
    for fine in ("embeddings.LayerNorm.weight", "pooler", "attention.self.query"):
        assert fine not in message


@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_pickle_is_not_read_but_can_be_converted(tmp_path, pickle):
    write_plain(tmp_path)
    (tmp_path / "model.safetensors").rename(tmp_path / pickle)
    message = refused(tmp_path, tmp_path / pickle, "is a pickle", 'python -c "')
    ast.parse(message.split('python -c "')[1].split('"')[0])


@pytest.mark.parametrize("revision", [None, "v1.5"])
@pytest.mark.parametrize("pickle", ["pytorch_model.bin", "pytorch_model.bin.index.json"])
def test_a_pickle_on_the_hub_is_not_read_but_can_be_converted(
    tmp_path, monkeypatch, pickle, revision
):
    """Which is never downloaded: the snapshot has everything but weights."""
    write_plain(tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.rename(tmp_path / "kept")
    asked = []

    def list_repo_files(name, revision):
        asked.append((name, revision))
        return [".gitattributes", "config.json", pickle, "onnx/model.onnx"]

    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(tmp_path))
    monkeypatch.setattr("huggingface_hub.list_repo_files", list_repo_files)
    with pytest.raises(FolderError) as error:
        local_folder("someone/old-model", revision=revision)
    message = str(error.value)
    assert message.startswith(f"someone/old-model/{pickle} on the Hub is a pickle")
    assert "give the folder 'old-model' instead" in message
    code = message.split('python -c "')[1].split('"')[0]
    ast.parse(code)
    at = "" if revision is None else ", revision='v1.5'"
    assert f"snapshot_download('someone/old-model'{at}, local_dir='old-model')" in code
    assert asked == [("someone/old-model", revision)]
    # Where the Hub cannot be asked, and where there are weights that can be read, all is as before.
    monkeypatch.setattr("huggingface_hub.list_repo_files", {}.__getitem__)
    assert local_folder("someone/old-model") == tmp_path
    (tmp_path / "kept").rename(weights)
    monkeypatch.setattr("huggingface_hub.list_repo_files", list_repo_files)
    assert local_folder("someone/old-model") == tmp_path
    assert len(asked) == 1


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_weights_that_are_cut_short(tmp_path, share):
    path = write_plain(tmp_path) / "model.safetensors"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    refused(tmp_path, path, "cut short", f"{int(share * len(content)):,} bytes", "again")


@pytest.mark.parametrize("left", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("file", ["tokenizer.json", "config.json", "modules.json"])
def test_other_files_that_are_cut_short(tmp_path, file, left):
    path = write_modules(write_plain(tmp_path), *TWO, pooling=MEAN) / file
    content = path.read_bytes()
    path.write_bytes(content[: int(left * len(content))])
    refused(tmp_path, path)


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "1_Pooling/config.json"])
def test_files_that_are_missing(tmp_path, file):
    path = write_modules(write_plain(tmp_path), *TWO, pooling=MEAN) / file
    path.unlink()
    refused(tmp_path, path, "no such file")


def test_a_folder_with_an_older_tokenizer(tmp_path):
    path = write_plain(tmp_path) / "tokenizer.json"
    path.unlink()
    message = refused(tmp_path, path, "no such file", 'python -c "')
    ast.parse(message.split('python -c "')[1].split('"')[0])


def test_shards_that_are_missing(tmp_path):
    write_plain(tmp_path)
    names = [f"model-0000{n}-of-00003.safetensors" for n in (1, 2, 3)]
    (tmp_path / "model.safetensors").rename(tmp_path / names[1])
    index = tmp_path / "model.safetensors.index.json"
    write_json(index, {"weight_map": {str(n): name for n, name in enumerate(names)}})
    message = refused(tmp_path, index, names[0], names[2], "not in the folder")
    assert names[1] not in message


def test_a_tokenizer_of_another_model(tmp_path):
    path = write_plain(tmp_path) / "tokenizer.json"
    texts = ["".join(chr(ord("a") + n // 9 + k % 17) for k in range(n)) for n in range(150)]
    other = train_wordpiece(texts, vocab_size=130)
    other.save(str(path))
    most = max(other.get_vocab().values())
    assert most >= 100
    refused(tmp_path, path, f"up to {most}", "100 embeddings", "do not belong together")


def test_a_module_that_is_not_supported(tmp_path):
    write_modules(write_plain(tmp_path), *TWO, ("Dense", "2_Dense"), pooling=MEAN)
    refused(tmp_path, tmp_path / "modules.json", "Dense", "Transformer, StaticEmbedding, Pooling")


@pytest.mark.parametrize(
    ("pooling", "named"),
    [
        ({"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "mean_tokens"),
        ({"pooling_mode_max_tokens": True}, "pooling_mode_max_tokens"),
        ({"pooling_mode": ["cls", "max"]}, "cls, max"),
        ({"pooling_mode": "weightedmean"}, "weightedmean"),
        ({}, "nothing"),
    ],
)
def test_pooling_that_is_not_supported(tmp_path, pooling, named):
    write_modules(write_plain(tmp_path), *TWO, pooling=pooling)
    refused(tmp_path, tmp_path / "1_Pooling" / "config.json", named, "cls", "mean", "lasttoken")


def test_prompts_that_pooling_leaves_out(tmp_path):
    write_modules(write_plain(tmp_path), *TWO, pooling={**MEAN, "include_prompt": False})
    load(tmp_path)  # nothing to leave out
    write_json(tmp_path / "config_sentence_transformers.json", {"prompts": {"query": "q: "}})
    refused(tmp_path, tmp_path / "1_Pooling" / "config.json", "include_prompt")


def opened(folder, **changes):
    data = {"query_max_length": 8, "document_max_length": 8}
    experiment = config.Experiment(
        name="t",
        batch_size=2,
        data=config.Data(train=config.Jsonl(path="unread"), **{**data, **changes.pop("data", {})}),
        model=config.Checkpoint(name=str(folder)),
        **changes,
    )
    return initial_model(
        experiment.model,
        experiment.data,
        examples=[],
        pooling=experiment.pooling,
        normalize=experiment.normalize,
    )


@pytest.mark.parametrize(("model_type", "most"), [("bert", 16), ("roberta", 14)])
def test_lengths_above_the_table_of_positions(tmp_path, model_type, most):
    write_modules(write_plain(tmp_path, model_type=model_type, pad_token_id=1), *TWO, pooling=MEAN)
    for name in ("query", "document"):
        with pytest.raises(ConfigError) as error:
            opened(tmp_path, data={f"{name}_max_length": most + 1})
        assert f"data.{name}_max_length is {most + 1}" in str(error.value)
        assert f"positions for {most} tokens" in str(error.value)
        assert f"lower it to {most}" in str(error.value)
    start = opened(tmp_path, data={"query_max_length": most, "document_max_length": most})
    assert start.model.query_length == start.model.document_length == most


def test_a_folder_that_promises_more_positions_than_it_has(tmp_path):
    """Tokens without a position would be encoded as NaN; texts are cut instead."""
    write_modules(write_plain(tmp_path), *TWO, pooling=MEAN)
    write_json(tmp_path / "sentence_bert_config.json", {"max_seq_length": 512})
    encoder = Encoder.from_pretrained(tmp_path)
    assert encoder.document_length == 16
    assert np.all(np.isfinite(encoder.encode_documents([" ".join(TEXTS * 9)])))


def test_a_folder_that_does_not_say_how_it_pools(tmp_path):
    write_plain(tmp_path)
    with pytest.raises(
        ConfigError, match=r"pooling is not set, and .* does not specify it; choose mean, cls"
    ):
        opened(tmp_path)
    start = opened(tmp_path, pooling="cls")
    assert start.model.pooling == "cls"
    assert start.model.tokenizer.to_str() == TOKENIZER.to_str()
    with pytest.raises(FolderError, match="does not specify its pooling; set pooling to mean, cls"):
        Encoder.from_pretrained(tmp_path)
    assert "pooling='cls'" in repr(Encoder.from_pretrained(tmp_path, pooling="cls"))
    write_modules(tmp_path, *TWO, pooling=MEAN)
    with pytest.raises(FolderError, match=r"pooling is 'cls', but .* specifies 'mean'"):
        Encoder.from_pretrained(tmp_path, pooling="cls")


@pytest.mark.parametrize("name", ["someone/no-such-model", "no/such/folder"])
def test_a_name_that_is_neither_a_folder_nor_on_the_hub(name):
    with pytest.raises(FolderError) as error:
        local_folder(name)
    assert f"{name!r} is not a local folder and cannot be downloaded" in str(error.value)
    assert "\n" not in str(error.value)
    with pytest.raises(FolderError, match="is not a local folder"):
        opened(name)


@pytest.mark.parametrize("name", ["./nowhere", "../nowhere/model", "/nowhere/model"])
def test_a_path_is_not_looked_for_on_the_hub(name):
    with pytest.raises(FolderError, match=f"^{re.escape(name)}: no such folder"):
        local_folder(name)
