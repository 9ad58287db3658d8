"""A disk that is full: the message names the file, and what was there before stays."""

import contextlib
import gzip
import json
import resource

import numpy as np
import pytest
from faults import files

from contrastive.config import Data, Static
from contrastive.digests import digests
from contrastive.errors import SaveError
from contrastive.files import write_json
from contrastive.interop.hf_export import save
from contrastive.interop.initial_model import initial_model
from contrastive.sources import _jsonl
from contrastive.sources._examples import Examples


@contextlib.contextmanager
def full_disk(most_bytes: int):
    """No file may become larger; to the process, that is a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def exported(folder, width):
    rows = Examples.of([{"query": f"one {n}", "pos": [f"two {n}"]} for n in range(9)], "rows")
    model = initial_model(Static(width=width), Data(), rows, pooling=None, normalize=True).model
    params = {"embedding": np.ones((model.module.vocab_size, width), np.float32)}
    save(folder, type(model)(**{**vars(model), "params": params}))


@pytest.mark.parametrize("most_bytes", [10_000, 300])  # for the weights, and for any file
def test_an_export_leaves_the_older_model(tmp_path, most_bytes):
    folder = tmp_path / "model"
    exported(folder, width=8)
    before = digests(folder, files(folder))
    with full_disk(most_bytes), pytest.raises(SaveError, match=str(folder)) as error:
        exported(folder, width=800)
    assert "Free some space, then run the same command again" in str(error.value)
    assert digests(folder, files(folder)) == before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    exported(folder, width=800)
    assert digests(folder, files(folder)) != before


def test_results_leave_the_older_ones(tmp_path):
    path = tmp_path / "results.json"
    write_json(path, {"loss": 1.0})
    with full_disk(100), pytest.raises(SaveError, match=str(path)):
        write_json(path, {"loss": [0.5] * 100})
    assert json.loads(path.read_text()) == {"loss": 1.0}
    assert [path.name for path in tmp_path.iterdir()] == ["results.json"]


def test_data_that_is_unpacked_is_whole_or_not_there(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "rows.jsonl.gz"
    row = json.dumps({"query": "a question", "pos": ["an answer"]})
    path.write_bytes(gzip.compress("\n".join([row] * 5000).encode()))
    with full_disk(100_000), pytest.raises(SaveError, match=str(tmp_path / "cache")):
        _jsonl.open_file(path)
    assert not files(tmp_path / "cache")
    assert len(_jsonl.open_file(path)) == 5000
