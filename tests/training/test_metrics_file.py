import json
import math

from contrastive.training.metrics_file import JsonLines, read_metrics


def test_a_line_has_null_for_what_json_cannot_hold(tmp_path):
    lines = JsonLines(tmp_path / "metrics.jsonl", resume_step=0)
    lines.write(1, {"loss": 2.5, "temperature": 0.02, "entropy": math.nan})
    lines.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {
        "step": 1,
        "loss": 2.5,
        "temperature": 0.02,
        "entropy": None,
    }


def test_a_resumed_run_drops_what_was_logged_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in range(1, 6)) + '{"st')
    lines = JsonLines(path, resume_step=3)
    lines.write(4, {"loss": 1.0})
    lines.close()
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert rows[-1]["loss"] == 1.0


def test_metrics_cut_short_by_a_kill_are_read(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]


def test_damaged_lines_are_left_out_with_a_notice_and_kept_elsewhere(tmp_path, capfd):
    path = tmp_path / "metrics.jsonl"
    content = '{"step": 1, "loss": 2.0}\n{"step": 2, "lo\n[3]\n{"loss": 1.0}\n{"step": 4}\n'
    path.write_text(content)
    JsonLines(path, resume_step=4).close()
    assert [row["step"] for row in read_metrics(path)] == [1, 4]
    notice = capfd.readouterr().err
    for number in (2, 3, 4):
        assert f"{path}:{number}: " in notice
    assert (tmp_path / "metrics.damaged.jsonl").read_text() == content
