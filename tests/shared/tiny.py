"""A run that takes seconds, and the real command in a process of its own."""

import json
import os
import random
import socket
import subprocess
import sys
import time
from pathlib import Path

from contrastive.config import (
    Data,
    Experiment,
    Jsonl,
    Learned,
    Objective,
    Optimizer,
    Retrieval,
    SogCLR,
    Transformer,
)
from contrastive.training.interrupt import Interrupt

WORDS = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "re", "so") for b in ("ba", "de", "fi", "gu")]

DROPPING = Transformer(width=16, depth=1, heads=2, mlp_width=16, dropout=0.1)


def stopping_after(looks: int) -> type[Interrupt]:
    """An interrupt that asks to stop once it was looked at so often."""

    class Stopping(Interrupt):
        looked = 0

        @property
        def asked(self):
            Stopping.looked += 1
            return Stopping.looked > looks

        @asked.setter
        def asked(self, value):
            del value

    return Stopping


def write_rows(path: Path, rows: int, seed: int = 0) -> Path:
    """Queries whose positives share their words, with two hard negatives."""
    rng = random.Random(seed)
    lines = []
    for _ in range(rows):
        words = rng.sample(WORDS, 3)
        positives = [" ".join([*words, *rng.choices(WORDS, k=rng.randint(1, 9))]) for _ in "ab"]
        negatives = [" ".join(rng.sample(WORDS, 4)) for _ in range(3)]
        lines.append(json.dumps({"query": " ".join(words), "pos": positives, "neg": negatives}))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def experiment(folder: Path, **changes) -> Experiment:
    """All that has state: dropout, a learned temperature, averages, groups, warm-up, evaluation."""
    train, held_out = folder / "train.jsonl", folder / "held_out.jsonl"
    if not train.exists():
        write_rows(train, 40)
        write_rows(held_out, 20, seed=1)
    base = Experiment(
        name="tiny",
        steps=12,
        batch_size=8,
        data=Data(
            train=Jsonl(path=str(train)),
            group_size=2,
            query_max_length=16,
            document_max_length=24,
            texts_per_row=4,
        ),
        model=DROPPING,
        loss=Objective(function=SogCLR(rho=1.0), temperature=0.05, policy=Learned()),
        optimizer=Optimizer(learning_rate=1e-2, warmup_steps=3),
        evaluators={"validation": Retrieval(Jsonl(path=str(held_out)))},
        log_steps=1,
        save_steps=3,
        eval_steps=6,
    )
    return base.replace(**changes)


def write_experiment(folder: Path, config: Experiment) -> Path:
    """A Python file of the experiment, as a user would have."""
    path = folder / "tiny_experiment.py"
    path.write_text(
        "from contrastive.config import Experiment\n"
        f"default = Experiment.model_validate_json({config.model_dump_json()!r})\n"
    )
    return path


def xla_flags(devices: int) -> str:
    """The flags of these tests with another number of devices; of equal flags the last counts."""
    return f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}"


def start(file: Path, workdir: Path, devices: int = 1, environment=None, before: str = "true"):
    """`contrastive train` in the background, after a shell command such as a limit."""
    flags = {"XLA_FLAGS": xla_flags(devices)}
    command = [sys.executable, "-m", "contrastive", "train", str(file), "--workdir", str(workdir)]
    return subprocess.Popen(
        ["bash", "-c", f'{before}; exec "$@"', "--", *command],
        env={**os.environ, **flags, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def start_two(file: Path, workdir: Path, devices: int) -> list[subprocess.Popen]:
    """Two processes of one run, with so many devices each, on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = {"JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}", "JAX_NUM_PROCESSES": "2"}
    ranks = [{**address, "JAX_PROCESS_ID": str(number)} for number in range(2)]
    return [start(file, workdir, devices, environment) for environment in ranks]


def finish(process, expected_code: int = 0, timeout: float = 240) -> str:
    """Waits, and returns what the process printed."""
    output, _ = process.communicate(timeout=timeout)
    assert process.returncode == expected_code, output
    return output


def wait_for_step(workdir: Path, step: int, process, timeout: float = 240) -> None:
    """Returns once the step is in the run's metrics."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        if any(row["step"] >= step for row in metrics(workdir)):
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.01)
    raise AssertionError(f"step {step} did not come in {timeout} s")


def metrics(workdir: Path) -> list[dict]:
    """Whole lines of the metrics file."""
    path = workdir / "metrics.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def losses(workdir: Path) -> list[float]:
    """Loss of each step, in order."""
    rows = [row for row in metrics(workdir) if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    return [row["loss"] for row in rows]


def weights(workdir: Path) -> bytes:
    """The exported parameters, bit for bit."""
    return (workdir / "model" / "model.safetensors").read_bytes()
