"""What a shell learns from a command: 0 only when its work is done."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

EXPERIMENT = """
from contrastive.config import Data, Experiment, Jsonl, Static

default = Experiment(
    name="long",
    steps=1_000_000,
    batch_size=8,
    data=Data(train=Jsonl(path="rows.jsonl")),
    model=Static(width=4),
    log_steps=1,
)
"""


@pytest.fixture
def folder(tmp_path):
    rows = [{"query": f"word{n}", "pos": [f"text{n}"]} for n in range(16)]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (tmp_path / "long.py").write_text(EXPERIMENT)
    return tmp_path


def script(folder, words):
    """A shell that deploys what a command has trained."""
    command = f"{sys.executable} -m contrastive {words} && touch deployed"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CONTRASTIVE_CACHE": str(folder / "c")}
    # exec replaces the last command of the list only, so that the shell waits for the other one.
    return subprocess.Popen(
        ["sh", "-c", command],
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def stopped(folder, words, log, number):
    """Exit status and errors of a script whose command gets a signal while it trains."""
    with script(folder, words) as shell:
        # The log is opened before the first step, and written after it.
        while shell.poll() is None and not any(x.stat().st_size for x in folder.glob(log)):
            time.sleep(0.05)
        trainer = Path(f"/proc/{shell.pid}/task/{shell.pid}/children").read_text().split()[0]
        os.kill(int(trainer), number)
        errors = shell.communicate(timeout=120)[1]
    return shell.returncode, errors


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="finds the process in /proc")
@pytest.mark.parametrize(
    ("words", "log", "number"),
    [
        ("train long.py --workdir r", "r/metrics.jsonl", signal.SIGTERM),
        ("train long.py --workdir r", "r/metrics.jsonl", signal.SIGINT),
        (
            "sweep long.py --workdir r --loss.temperature 0.1 0.2",
            "r/programs/0/0/metrics.jsonl",
            signal.SIGTERM,
        ),
    ],
)
def test_a_stopped_run_is_not_deployed(folder, words, log, number):
    status, errors = stopped(folder, words, log, number)
    assert status == 75, errors
    assert "saved in r; run the same command again to resume." in errors
    assert not (folder / "deployed").exists()
    assert list(folder.glob(f"{Path(log).parent}/checkpoints/latest/*"))


def test_a_finished_run_is_deployed(folder):
    with script(folder, "train long.py --workdir r --steps 2") as shell:
        errors = shell.communicate(timeout=120)[1]
    assert shell.returncode == 0, errors
    assert (folder / "deployed").exists()
