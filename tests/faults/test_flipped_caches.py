"""A cache with one wrong bit gives the same data, after a notice if it has to be prepared again."""

import gzip
import json
import os
import shutil
import subprocess
import sys

import pytest
from faults import files, flip_a_bit, seeds

from contrastive.config import Data
from contrastive.data.tokenizers import open_tokenizer
from contrastive.sources import _jsonl
from contrastive.sources._pydoc import Pydoc
from contrastive.sources.pydoc import dataset

ROWS = [{"query": f"question {n}", "pos": [f"answer {n}"]} for n in range(60)]


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CONTRASTIVE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def unpacked(folder):
    path = folder / "rows.jsonl.gz"
    if not path.exists():
        path.write_bytes(gzip.compress("\n".join(map(json.dumps, ROWS)).encode()))
    _jsonl._open_file.cache_clear()
    return list(_jsonl.open_file(path))


def trained(folder):
    path = folder / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, ROWS)))
    return open_tokenizer(Data(), _jsonl.open_file(path), special_tokens=True).backend.to_str()


def collected(folder):
    del folder
    examples = Pydoc().read()
    return [examples[number] for number in range(len(examples))]


@pytest.fixture
def few_functions(monkeypatch):
    pairs = [dataset.Pair(f"{n}.py", "f", f"Returns the number {n} of it.", f"{n}") for n in "abcd"]
    split_of = {"a.py": "validation", "b.py": "test"}
    monkeypatch.setattr(dataset, "collect", lambda: iter(pairs))
    monkeypatch.setattr(dataset, "split_of", lambda file: split_of.get(file, "train"))


@pytest.mark.parametrize("seed", [*seeds(3), 28])  # the last one flips dataset_info.json
@pytest.mark.parametrize("prepare", [unpacked, trained, collected], ids=lambda x: x.__name__)
@pytest.mark.usefixtures("few_functions")
def test_a_flipped_bit_is_never_silent(cache, tmp_path, capfd, prepare, seed):
    before = prepare(tmp_path)
    capfd.readouterr()
    kept = {path: path.read_bytes() for path in files(cache)}
    where = flip_a_bit(cache, seed)
    assert prepare(tmp_path) == before, where
    assert "prepared again" in capfd.readouterr().err, where
    assert set(kept) == set(files(cache))
    assert prepare(tmp_path) == before
    assert "prepared again" not in capfd.readouterr().err


def test_another_file_of_equal_size_and_time_is_read(cache, tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    unpacked(tmp_path)
    status = path.stat()
    rows = [{**row, "query": row["query"].replace("question", "noitseuq")} for row in ROWS]
    other = tmp_path / "other.gz"
    other.write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    shutil.copy(other, path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert unpacked(tmp_path)[0].query == "noitseuq 0"


def test_a_cache_of_another_user_is_not_used(cache, tmp_path):
    (cache / "jsonl").mkdir(parents=True)
    (cache / "jsonl").chmod(0o777)
    cache.chmod(0o777)
    assert unpacked(tmp_path)[0].query == "question 0"
    assert not files(cache / "jsonl")
    (folder,) = cache.glob("user-*")
    assert len(files(folder / "jsonl")) == 1
    assert not folder.stat().st_mode & 0o077


COMPILED = """
import jax, jax.numpy as jnp
from contrastive.devices.compilation import keep_compiled_programs
keep_compiled_programs()
def f(x):
    for _ in range(60):  # programs that compile in no time are not kept
        x = jnp.sort(jnp.sin(x @ x.T), axis=0)
    return x
print(jax.jit(f)(jnp.arange(64.0).reshape(8, 8)).tolist())
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", seeds(2))
def test_a_flipped_program_is_compiled_again(cache, seed):
    environment = {name: x for name, x in os.environ.items() if name != "JAX_COMPILATION_CACHE_DIR"}

    def run():
        command = [sys.executable, "-c", COMPILED]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    before = run()
    programs = cache / "programs"
    for path in programs.rglob("*-atime"):  # when each was last used
        path.unlink()
    where = flip_a_bit(programs, seed)
    after = run()
    assert after.stdout == before.stdout, where
    assert "Error reading persistent compilation cache" in after.stderr, where
