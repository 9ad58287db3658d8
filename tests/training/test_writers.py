import json

from contrastive.training.writers import open_writers


def test_every_writer_gets_the_numbers(tmp_path):
    writers = open_writers(["tensorboard"], tmp_path, "run", resume_step=0)
    for writer in writers:
        writer.write(1, {"loss": 2.5, "temperature": 0.02})
        writer.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "loss": 2.5,
        "temperature": 0.02,
    }
    (events,) = (tmp_path / "tensorboard").iterdir()
    assert b"temperature" in events.read_bytes()


def test_a_resumed_run_drops_what_was_logged_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(1, 6)) + '{"st')
    (writer,) = open_writers([], tmp_path, "run", resume_step=3)
    writer.write(4, {"loss": 1.0})
    writer.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["loss"] == 1.0
