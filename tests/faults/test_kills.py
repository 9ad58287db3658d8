"""Processes that are killed leave nothing half done, and go on to the same bits."""

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from faults import ROUNDS, files
from tiny import experiment, write_experiment

from contrastive.config import Static
from contrastive.digests import digests

pytestmark = pytest.mark.slow


def run_until_killed(command, seconds, environment=None):
    """Starts a process and kills it after some time; returns whether it had already finished."""
    process = subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return False
    assert process.returncode == 0, output
    return True


def rows(folder, name="metrics.jsonl"):
    """What was logged, without times."""
    logged = []
    for path in sorted(folder.rglob(name)):
        for line in path.read_text().splitlines():
            values = json.loads(line)
            timing = ("seconds_per_step", "queries_per_second", "waiting_share")
            logged.append({n: x for n, x in values.items() if n not in timing})
    return logged


def result(folder):
    """Everything that a run or a sweep leaves, without times and paths."""
    left = digests(folder, files(folder / "model"))
    for name in ("results.json", "sweep.json"):
        if (folder / name).exists():
            stored = json.loads((folder / name).read_text())
            for varying in ("session", "session_seconds", "command"):
                stored.pop(varying, None)
            left[name] = stored
    return left, rows(folder)


def command(file, workdir, *words):
    program = [sys.executable, "-m", "contrastive", words[0], str(file)]
    return [*program, *words[1:], "--workdir", str(workdir)]


@pytest.mark.parametrize(
    ("words", "kills"), [(("train",), 4), (("sweep", "--loss.temperature", "0.05", "0.1"), 2)]
)
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path, words, kills):
    config = experiment(tmp_path, steps=60, model=Static(width=16), save_steps=5)
    file = write_experiment(tmp_path, config)
    begin = time.monotonic()
    assert run_until_killed(command(file, tmp_path / "whole", *words), 240)
    usual = time.monotonic() - begin
    expected, chance, killed = result(tmp_path / "whole"), random.Random(0), 0
    while killed < kills * ROUNDS:
        folder = tmp_path / f"killed-{killed}"
        while not run_until_killed(command(file, folder, *words), chance.uniform(0.3, 1.8) * usual):
            killed += 1
        assert result(folder) == expected


EXPORTING = """
import sys
import jax, numpy as np
from contrastive.config import Data, Static
from contrastive.interop.hf_export import save
from contrastive.interop.initial_model import initial_model
from contrastive.sources._examples import Examples
rows = Examples.of([{"query": f"one {n}", "pos": [f"two {n}"]} for n in range(9)], "rows")
model = initial_model(Static(width=256), Data(), rows, pooling=None, normalize=True).model
kind, number = type(model), 0
print("ready", flush=True)
while True:
    number += 1
    params = {"embedding": np.full((model.module.vocab_size, 256), number, np.float32)}
    save(sys.argv[1], kind(**{**vars(model), "params": params, "temperature": float(number)}))
"""


def test_a_killed_export_leaves_the_older_model_or_the_new_one(tmp_path):
    from contrastive.interop.hf_import import load
    from contrastive.whole_folders import recover

    folder, chance = tmp_path / "out" / "model", random.Random(0)
    program = EXPORTING.replace("sys.argv[1]", "__import__('pathlib').Path(sys.argv[1])")
    for _ in range(3 * ROUNDS):
        process = subprocess.Popen(
            [sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout.readline() == "ready\n"
        while not folder.exists():
            time.sleep(0.01)
        (folder / "notes.txt").write_text("of a user")
        time.sleep(chance.uniform(0.0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.wait()
        recover(folder)
        model = load(folder)
        np.testing.assert_array_equal(model.params["embedding"], model.temperature)
        assert (folder / "notes.txt").read_text() == "of a user"
        assert [path.name for path in folder.parent.iterdir()] == ["model"]


PREPARING = """
import sys
from pathlib import Path
from contrastive.config import Data
from contrastive.data.tokenizers import open_tokenizer
from contrastive.sources._jsonl import open_file
rows = open_file(Path(sys.argv[1]))
tokenizer = open_tokenizer(Data(), rows, special_tokens=True)
print(rows.fingerprint, hash(tokenizer.backend.to_str()))
"""


def test_killed_preparation_of_data_starts_again(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    chance = random.Random(0)
    words = [f"w{chance.randrange(3000)}" for _ in range(200_000)]
    lines = [
        json.dumps({"query": " ".join(words[n : n + 5]), "pos": [" ".join(words[n : n + 40])]})
        for n in range(0, len(words), 20)
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    program = [sys.executable, "-c", PREPARING, str(path)]

    def prepare(cache, seconds):
        environment = {"CONTRASTIVE_CACHE": str(tmp_path / cache), "PYTHONHASHSEED": "0"}
        begin = time.monotonic()
        finished = run_until_killed(program, seconds, environment)
        return finished, time.monotonic() - begin

    _, usual = prepare("whole", 240)
    expected, killed = digests(tmp_path / "whole", files(tmp_path / "whole")), 0
    while killed < 3 * ROUNDS:
        cache = f"killed-{killed}"
        while not prepare(cache, chance.uniform(0.3, 1.8) * usual)[0]:
            killed += 1
        room = tmp_path / cache
        whole = [path for path in files(room) if path.relative_to(room).parts[1][0] != "."]
        assert digests(room, whole) == expected
