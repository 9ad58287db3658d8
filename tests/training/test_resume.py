"""N steps = k steps + an end of any kind + N - k steps, bit for bit."""

import re
import signal
import time

import pytest
from filelock import FileLock
from tiny import (
    experiment,
    finish,
    losses,
    start,
    wait_for_step,
    weights,
    write_experiment,
    write_rows,
)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    file = write_experiment(folder, experiment(folder))
    finish(start(file, folder / "run"))
    return folder, file


def same_as_undisturbed(undisturbed, workdir):
    folder, _ = undisturbed
    assert losses(workdir) == losses(folder / "run")
    assert weights(workdir) == weights(folder / "run")


def test_killed_three_times(undisturbed, tmp_path):
    _, file = undisturbed
    for step in (1, 5, 10):  # before the first checkpoint, between two, and near the end
        process = start(file, tmp_path / "run")
        wait_for_step(tmp_path / "run", step, process)
        process.kill()
        process.wait()
    finish(start(file, tmp_path / "run"))
    same_as_undisturbed(undisturbed, tmp_path / "run")


@pytest.mark.slow
def test_killed_after_the_best_was_saved_and_before_anything_else(tmp_path):
    config = experiment(tmp_path, eval_steps=2, save_steps=None)
    file = write_experiment(tmp_path, config)
    finish(start(file, tmp_path / "undisturbed"))
    process = start(file, tmp_path / "run")
    best = tmp_path / "run" / "checkpoints" / "best" / "2"
    while not best.exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    finish(start(file, tmp_path / "run"))
    assert losses(tmp_path / "run") == losses(tmp_path / "undisturbed")
    assert weights(tmp_path / "run") == weights(tmp_path / "undisturbed")


def test_other_data_is_refused(undisturbed, tmp_path):
    config = experiment(tmp_path, steps=3, eval_steps=None)
    file = write_experiment(tmp_path, config)
    finish(start(file, tmp_path / "run"))
    write_rows(tmp_path / "train.jsonl", 40, seed=7)
    output = finish(start(file, tmp_path / "run"), expected_code=1)
    assert "its inputs have changed: data.train, model" in output


def test_a_folder_in_which_another_process_is_at_work_is_refused(undisturbed, tmp_path):
    _, file = undisturbed
    (tmp_path / "run").mkdir()
    with FileLock(tmp_path / "run" / ".lock"):  # as a run holds it
        output = finish(start(file, tmp_path / "run"), expected_code=1)
    assert "another process is using" in output
    finish(start(file, tmp_path / "run"))
    same_as_undisturbed(undisturbed, tmp_path / "run")


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_asked_to_stop(undisturbed, tmp_path, number):
    _, file = undisturbed
    process = start(file, tmp_path / "run")
    wait_for_step(tmp_path / "run", 4, process)
    process.send_signal(number)
    output = finish(process, expected_code=75)
    assert "run the same command again to resume" in output
    assert 4 <= len(losses(tmp_path / "run")) < 12
    finish(start(file, tmp_path / "run"))
    same_as_undisturbed(undisturbed, tmp_path / "run")


@pytest.mark.slow
def test_disk_full_while_saving(undisturbed, tmp_path):
    _, file = undisturbed
    process = start(file, tmp_path / "run")
    wait_for_step(tmp_path / "run", 7, process)  # step 3 is saved before step 6 can be
    process.kill()
    process.wait()

    # No file may grow beyond 8 KiB: to the process, a disk that is full.
    output = finish(start(file, tmp_path / "run", before="ulimit -f 8"), expected_code=1)
    assert re.search(r"cannot save the checkpoint of step (6|9) .*: .*[Ff]ile too large", output)
    assert re.search(r"The checkpoint of step (3|6) is complete", output)
    assert "\ncontrastive: cannot save" in output
    finish(start(file, tmp_path / "run"))
    same_as_undisturbed(undisturbed, tmp_path / "run")


def test_a_finished_run_given_again_changes_nothing(undisturbed):
    folder, file = undisturbed
    files = [path for path in (folder / "run").rglob("*") if path.is_file()]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files}
    finish(start(file, folder / "run"))
    after = [path for path in (folder / "run").rglob("*") if path.is_file()]
    assert set(after) == set(files)
    for path in after:
        assert (path.read_bytes(), path.stat().st_mtime_ns) == before[path], path


@pytest.mark.slow
def test_on_another_number_of_devices(undisturbed, tmp_path):
    folder, file = undisturbed
    process = start(file, tmp_path / "moved")
    wait_for_step(tmp_path / "moved", 7, process)
    process.kill()
    process.wait()
    finish(start(file, tmp_path / "moved", devices=4))
    moved, one = losses(tmp_path / "moved"), losses(folder / "run")
    assert moved[:3] == one[:3]
    largest = max(map(abs, one))  # SogCLR's loss goes through zero
    assert moved == pytest.approx(one, abs=1e-5 * largest)
