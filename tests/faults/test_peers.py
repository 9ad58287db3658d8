"""Processes of one run that differ, fail or die: the others end soon, and say why."""

import os
import signal
import socket
import subprocess
import sys
import time

import pytest
from tiny import experiment, wait_for_step, write_experiment, write_rows, xla_flags

from contrastive.config import Static
from contrastive.devices.peers import Peers

pytestmark = pytest.mark.slow

COMMAND = """
import sys
from contrastive.devices.peers import Peers
Peers.beat, Peers.patience = 0.5, 5.0
{before}
from contrastive.cli import main
main(sys.argv[1:])
"""


def start(files, workdir, before=("", "")):
    """Starts a process per experiment file, each of which runs some code before the command."""
    commands = [("train", str(file), "--workdir", str(workdir)) for file in files]
    return start_commands(commands, before)


def start_commands(commands, before):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    processes = []
    for number, (words, code) in enumerate(zip(commands, before, strict=True)):
        processes.append(
            subprocess.Popen(
                [sys.executable, "-c", COMMAND.format(before=code), *words],
                env={
                    **os.environ,
                    "XLA_FLAGS": xla_flags(1),
                    "JAX_COORDINATOR_ADDRESS": address,
                    "JAX_NUM_PROCESSES": "2",
                    "JAX_PROCESS_ID": str(number),
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return processes


def outputs(processes):
    """What each process printed and its exit code; none of them a stack trace."""
    ended = [(process.communicate(timeout=100)[0], process.returncode) for process in processes]
    for output, _ in ended:
        assert "Traceback" not in output
        assert "stack trace" not in output
    return ended


def files(tmp_path, *changes):
    """An experiment file per process."""
    paths = []
    for number, change in enumerate(changes):
        folder = tmp_path / str(number)
        folder.mkdir()
        config = experiment(
            tmp_path, model=Static(width=16), evaluators={}, eval_steps=None, **change
        )
        paths.append(write_experiment(folder, config))
    return paths


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"loss.temperature": 0.07}, "loss.temperature is 0.05 on process 0 and 0.07 on process 1"),
        ({"steps": 13}, "steps is 12 on process 0 and 13 on process 1"),
    ],
)
def test_processes_with_different_configs_are_refused(tmp_path, change, words):
    for output, code in outputs(start(files(tmp_path, {}, change), tmp_path / "run")):
        assert code == 1
        assert words in output
    assert not (tmp_path / "run").exists()


def test_processes_with_different_data_are_refused(tmp_path):
    (first, second) = files(tmp_path, {}, {})
    other = write_rows(tmp_path / "1" / "train.jsonl", 40, seed=9)
    # The same path, as on another machine: the second process reads it through another file.
    swap = (
        "from contrastive.sources import _jsonl\n"
        f"_jsonl.Jsonl.files = lambda self: [__import__('pathlib').Path({str(other)!r})]\n"
    )
    for output, code in outputs(start((first, second), tmp_path / "run", ("", swap))):
        assert code == 1
        assert "different data and models: data.train is " in output
    assert not (tmp_path / "run").exists()


def test_processes_with_different_versions_are_refused(tmp_path):
    newer = (
        "from contrastive.training import train\n"
        "versions = train.versions\n"
        "train.versions = lambda: {**versions(), 'optax': '9.0.0'}\n"
    )
    for output, code in outputs(start(files(tmp_path, {}, {}), tmp_path / "run", ("", newer))):
        assert code == 1
        assert "the version of optax is " in output
        assert "'9.0.0' on process 1" in output


@pytest.mark.parametrize("lost", [0, 1])
def test_a_killed_process_ends_the_other(tmp_path, lost):
    processes = start(files(tmp_path, *[{"steps": 100_000}] * 2), tmp_path / "run")
    wait_for_step(tmp_path / "run", 20, processes[0])
    processes[lost].send_signal(signal.SIGKILL)
    killed = time.monotonic()
    output, code = outputs(processes)[1 - lost]
    assert time.monotonic() - killed < 30
    assert code == 75
    assert f"process {lost} was lost; it was last heard from at step " in output
    assert "start all processes again with the same command to resume" in output


@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_fails_ends_the_other(tmp_path, failing):
    fails = (
        "from contrastive.errors import DataError\n"
        "from contrastive.data.batches import Feed\n"
        "take, count = Feed.take, iter(range(9))\n"
        "def failing(self, stop):\n"
        "    if next(count, None) is None: raise DataError('the disk is gone')\n"
        "    return take(self, stop)\n"
        "Feed.take = failing\n"
    )
    codes = [fails if number == failing else "" for number in range(2)]
    ended = outputs(start(files(tmp_path, {}, {}), tmp_path / "run", codes))
    assert ended[failing][1] == 1
    assert "the disk is gone" in ended[failing][0]
    assert ended[1 - failing][1] == 75
    assert f"process {failing} failed at step " in ended[1 - failing][0]
    assert "the disk is gone" in ended[1 - failing][0]


@pytest.mark.parametrize(
    ("process", "reason"),
    [(0, "the coordination service of process 0 failed"), (1, "process 0 was lost; ")],
)
def test_a_coordination_service_that_fails_ends_every_process(monkeypatch, process, reason):
    class Failing:
        def key_value_set(self, *arguments, **options):
            raise RuntimeError("UNAVAILABLE")

    reasons = []
    monkeypatch.setattr(Peers, "beat", 0.0)
    monkeypatch.setattr(Peers, "end", lambda self, reason: reasons.append(reason))
    Peers(Failing(), process, 2)._watch()
    assert [text.startswith(reason) for text in reasons] == [True]


def test_finetune_that_fails_before_training_ends_the_other_process(tmp_path):
    fails = (
        "from contrastive.errors import DataError\n"
        "from contrastive.finetune import translation\n"
        "def translate(*arguments): raise DataError('train.jsonl is not on this machine')\n"
        "translation.translate = translate\n"
    )
    waits = (
        "import time\n"
        "from contrastive.finetune import translation\n"
        "translation.translate = lambda *arguments: time.sleep(1000)\n"
    )
    words = ("finetune", "--model_name_or_path", "none", "--train_data", "train.jsonl")
    words += ("--output_dir", str(tmp_path / "out"))
    waiting, failing = outputs(start_commands([words, words], [waits, fails]))
    assert failing[1] == 1
    assert waiting[1] == 75
    assert "process 1 failed at step 0" in waiting[0]
    assert "train.jsonl is not on this machine" in waiting[0]
