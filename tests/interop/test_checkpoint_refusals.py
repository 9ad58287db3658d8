"""Folders that cannot be loaded are refused by name, with the way out."""

import numpy as np
import pytest
from folders import TOKENIZER, bert_weights, write_json, write_modules, write_plain, write_weights

from contrastive import config
from contrastive.errors import ConfigError, FolderError
from contrastive.interop.opening import open_model
from contrastive.interop.reading import load

MEAN = {"pooling_mode_mean_tokens": True}
TWO = [("Transformer", ""), ("Pooling", "1_Pooling")]


def refused(folder, *words, kind=FolderError):
    with pytest.raises(kind) as error:
        load(folder)
    for word in words:
        assert str(word) in str(error.value)
    return str(error.value)


def test_an_architecture_that_is_not_supported(tmp_path):
    path = write_plain(tmp_path) / "config.json"
    write_json(path, {"model_type": "t5", "vocab_size": 100})
    supported = ("bert", "roberta", "xlm-roberta", "camembert", "modernbert")
    refused(tmp_path, path, "'t5'", *supported, kind=ConfigError)


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("position_embedding_type", "relative_key", "absolute"),
        ("hidden_act", "mish", "gelu"),
        ("is_decoder", True, "False"),
        ("embedding_size", 4, "8"),
    ],
)
def test_a_setting_that_is_not_supported(tmp_path, field, value, allowed):
    write_plain(tmp_path, **{field: value}) if field == "is_decoder" else write_json(
        write_plain(tmp_path) / "config.json", {**CONFIGS["bert"], field: value}
    )
    refused(tmp_path, field, repr(value), allowed, kind=ConfigError)
