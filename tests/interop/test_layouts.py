"""The layouts of published folders: what each file says, and which file wins."""

import dataclasses
import json

import jax.numpy as jnp
import numpy as np
import pytest
from folders import (
    CONFIG,
    TOKENIZER,
    bert_weights,
    write_json,
    write_modules,
    write_plain,
    write_weights,
)
from safetensors.flax import save_file as save_jax
from tokenizers.normalizers import NFC, BertNormalizer, Lowercase, Sequence
from transformers import AutoTokenizer

from contrastive.data.tokens import BERT_NAMES
from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.models.families.family import Compute

MEAN = {"word_embedding_dimension": 8, "pooling_mode_mean_tokens": True}
THREE = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]


def table(model):
    return model.params["word_embedding"]["embedding"]


def test_a_plain_folder(tmp_path):
    model = load(write_plain(tmp_path))
    weights = bert_weights()
    np.testing.assert_array_equal(table(model), weights["embeddings.word_embeddings.weight"])
    assert (model.pooling, model.normalize) == (None, None)
    assert (model.query_prompt, model.document_prompt) == ("", "")
    assert model.document_length == model.query_length == 16  # positions; the tokenizer says 512
    assert model.names == BERT_NAMES
    assert model.config == CONFIG
    assert model.heads.keys() == {"pooler.dense.weight", "pooler.dense.bias"}
    for name, array in model.heads.items():
        np.testing.assert_array_equal(array, weights[name])


@pytest.mark.parametrize(
    ("config", "pooling"),
    [
        ({"pooling_mode_cls_token": True, "pooling_mode_mean_tokens": False}, "cls"),
        ({"pooling_mode_cls_token": False, "pooling_mode_mean_tokens": True}, "mean"),
        ({"pooling_mode_lasttoken": True, "pooling_mode_max_tokens": False}, "last_token"),
        ({"pooling_mode": "cls"}, "cls"),
        ({"pooling_mode": "mean", "include_prompt": True}, "mean"),
        ({"pooling_mode": ["lasttoken"]}, "last_token"),
    ],
)
def test_pooling_of_old_and_new_folders(tmp_path, config, pooling):
    write_modules(write_plain(tmp_path), *THREE, pooling={"word_embedding_dimension": 8, **config})
    model = load(tmp_path)
    assert (model.pooling, model.normalize) == (pooling, True)


def test_without_a_normalize_module_embeddings_are_not_normalised(tmp_path):
    write_modules(write_plain(tmp_path), *THREE[:2], pooling=MEAN)
    assert load(tmp_path).normalize is False


@pytest.mark.parametrize("kind", ["models.Transformer", "base.modules.transformer.Transformer"])
def test_a_transformer_in_a_folder_of_its_own(tmp_path, kind):
    write_plain(tmp_path / "0_Transformer")
    write_json(tmp_path / "0_Transformer" / "sentence_bert_config.json", {"max_seq_length": 11})
    write_modules(tmp_path, ("Transformer", "0_Transformer"), *THREE[1:], pooling=MEAN)
    entries = json.loads((tmp_path / "modules.json").read_text())
    entries[0]["type"] = f"sentence_transformers.{kind}"
    write_json(tmp_path / "modules.json", entries)
    model = load(tmp_path)
    truth = bert_weights()["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(table(model), truth)
    assert (model.pooling, model.normalize, model.document_length) == ("mean", True, 11)


@pytest.mark.parametrize(
    ("prompts", "default", "expected"),
    [
        ({}, None, ("", "")),
        ({"query": "q: ", "document": "d: "}, None, ("q: ", "d: ")),
        ({"query": "q: ", "passage": "p: "}, None, ("q: ", "p: ")),
        ({"query": "q: ", "clustering": "c: "}, "clustering", ("q: ", "c: ")),
        ({"any": "a: "}, "any", ("a: ", "a: ")),
        ({"any": "a: "}, None, ("", "")),
    ],
)
def test_prompts(tmp_path, prompts, default, expected):
    write_modules(write_plain(tmp_path), *THREE, pooling=MEAN)
    config = {"prompts": prompts, "default_prompt_name": default}
    write_json(tmp_path / "config_sentence_transformers.json", config)
    model = load(tmp_path)
    assert (model.query_prompt, model.document_prompt) == expected


def test_the_tokenizer_comes_without_truncation_and_padding(tmp_path):
    write_plain(tmp_path)
    cut = type(TOKENIZER).from_str(TOKENIZER.to_str())
    cut.enable_truncation(3)
    cut.enable_padding(length=6)
    cut.save(str(tmp_path / "tokenizer.json"))
    assert load(tmp_path).tokenizer.to_str() == TOKENIZER.to_str()


def test_names_of_special_tokens_are_plain_strings(tmp_path):
    """special_tokens_map.json wins; its tokens, and those of newer configs, may be objects."""
    write_plain(tmp_path)
    objects = {name: {"content": token, "lstrip": False} for name, token in BERT_NAMES.items()}
    config = {**objects, "model_max_length": 10**30, "add_bos_token": True, "bos_token": None}
    write_json(tmp_path / "tokenizer_config.json", config)
    assert load(tmp_path).names == BERT_NAMES
    write_json(tmp_path / "special_tokens_map.json", {**objects, "cls_token": "[SEP]"})
    assert load(tmp_path).names == {**BERT_NAMES, "cls_token": "[SEP]"}


def test_shards_prefixes_old_names_and_bfloat16(tmp_path):
    """As BertForMaskedLM of 2018 would be, in two bfloat16 shards."""
    write_plain(tmp_path)
    weights = {name: jnp.asarray(x, jnp.bfloat16) for name, x in bert_weights().items()}
    (tmp_path / "model.safetensors").unlink()

    def old(name):
        name = name.replace("LayerNorm.weight", "LayerNorm.gamma")
        return "bert." + name.replace("LayerNorm.bias", "LayerNorm.beta")

    renamed = {old(name): x for name, x in weights.items()}
    renamed["cls.predictions.bias"] = jnp.arange(100, dtype=jnp.bfloat16)
    names, index = sorted(renamed), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        file = f"model-0000{number}-of-00002.safetensors"
        save_jax({name: renamed[name] for name in part}, str(tmp_path / file))
        index.update(dict.fromkeys(part, file))
    write_json(tmp_path / "model.safetensors.index.json", {"metadata": {}, "weight_map": index})
    model = load(tmp_path, Compute(jnp.bfloat16))
    assert model.module.dtype == jnp.bfloat16
    layer = model.params["layer_0"]
    for found, name in (
        (table(model), "embeddings.word_embeddings.weight"),
        (layer["mlp_norm"]["scale"], "encoder.layer.0.output.LayerNorm.weight"),
        (layer["mlp_norm"]["bias"], "encoder.layer.0.output.LayerNorm.bias"),
        (layer["mlp_in"]["kernel"].T, "encoder.layer.0.intermediate.dense.weight"),
        (model.heads["pooler.dense.weight"], "pooler.dense.weight"),
    ):
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, np.asarray(weights[name], np.float32))
    np.testing.assert_array_equal(model.heads["cls.predictions.bias"], np.arange(100))


def test_one_file_comes_before_shards_as_in_transformers(tmp_path):
    write_plain(tmp_path)
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "gone"}})
    table = load(tmp_path).params["word_embedding"]["embedding"]
    expected = bert_weights()["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(table, np.asarray(expected, np.float32))


@pytest.mark.parametrize("name", ["bert", "roberta", "xlm-roberta"])
def test_lengths_of_old_and_new_folders(tmp_path, name):
    write_modules(write_plain(tmp_path), *THREE, pooling=MEAN)
    write_json(tmp_path / f"sentence_{name}_config.json", {"max_seq_length": 11})
    assert load(tmp_path).document_length == 11
    (tmp_path / f"sentence_{name}_config.json").unlink()
    config = {**BERT_NAMES, "model_max_length": 13}
    write_json(tmp_path / "tokenizer_config.json", config)
    assert load(tmp_path).document_length == 13


def with_normalizer(normalizer):
    """The tokenizer with another, or none."""
    tokenizer = type(TOKENIZER).from_str(TOKENIZER.to_str())
    tokenizer.normalizer = normalizer
    return tokenizer


@pytest.mark.parametrize(
    "normalizer", [None, NFC(), Sequence([BertNormalizer(lowercase=False), NFC()])]
)
def test_texts_are_lower_cased_first_where_a_folder_says_so(tmp_path, normalizer):
    write_modules(write_plain(tmp_path), *THREE, pooling=MEAN)
    tokenizer = with_normalizer(normalizer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    text = "A Model IS Saved"
    unknown = tokenizer.token_to_id("[UNK]")
    assert unknown in load(tmp_path).tokenizer.encode(text).ids
    write_json(tmp_path / "sentence_bert_config.json", {"do_lower_case": True})
    expected = tokenizer.encode(text.lower()).ids
    assert unknown not in expected
    model = load(tmp_path)
    assert model.tokenizer.encode(text).ids == expected
    save(tmp_path / "again", dataclasses.replace(model, pooling="mean", normalize=True))
    assert load(tmp_path / "again").tokenizer.encode(text).ids == expected
    loaded = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert loaded(text)["input_ids"] == expected


@pytest.mark.parametrize(
    "normalizer", [BertNormalizer(lowercase=True), Lowercase(), Sequence([NFC(), Lowercase()])]
)
def test_a_tokenizer_that_lower_cases_is_left_alone(tmp_path, normalizer):
    """As BAAI/bge-small-en-v1.5 has it."""
    write_modules(write_plain(tmp_path), *THREE, pooling=MEAN)
    tokenizer = with_normalizer(normalizer)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    said = {"max_seq_length": 11, "do_lower_case": True}
    write_json(tmp_path / "sentence_bert_config.json", said)
    model = load(tmp_path)
    assert model.tokenizer.to_str() == tokenizer.to_str()
    assert model.document_length == 11


def test_buffers_of_older_files_do_not_matter(tmp_path):
    write_plain(tmp_path)
    weights = {**bert_weights(), "embeddings.position_ids": np.arange(16)[None]}
    write_weights(tmp_path / "model.safetensors", weights)
    truth = weights["embeddings.word_embeddings.weight"]
    np.testing.assert_array_equal(table(load(tmp_path)), truth)
