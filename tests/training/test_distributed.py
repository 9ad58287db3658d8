"""Two processes with two devices each, on this machine."""

import socket

import pytest
from tiny import experiment, finish, losses, start, weights, write_experiment


def test_two_processes_equal_one(tmp_path):
    config = experiment(tmp_path, steps=7)
    file = write_experiment(tmp_path, config)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        start(
            file,
            tmp_path / "two",
            devices=2,
            environment={
                "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
                "JAX_NUM_PROCESSES": "2",
                "JAX_PROCESS_ID": str(number),
            },
        )
        for number in range(2)
    ]
    for process in processes:
        finish(process)
    finish(start(file, tmp_path / "one-of-four", devices=4))
    finish(start(file, tmp_path / "one-of-one", devices=1))
    expected = losses(tmp_path / "one-of-one")
    assert len(expected) == 7
    assert losses(tmp_path / "two") == pytest.approx(expected, rel=1e-5)
    assert losses(tmp_path / "one-of-four") == pytest.approx(expected, rel=1e-5)
    assert len(weights(tmp_path / "two")) == len(weights(tmp_path / "one-of-one"))
