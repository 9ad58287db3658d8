"""What a person at the terminal learns from a run: compiling, resuming, evaluations."""

import hashlib
import json

import pytest
import tqdm
from tiny import stopping_after

import contrastive
from contrastive.config import Data, Experiment, Jsonl, Retrieval, Static
from contrastive.training import loop, runs


@pytest.fixture
def experiment(tmp_path):
    rows = [{"query": f"word{n}", "pos": [f"text{n}"]} for n in range(16)]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return Experiment(
        name="x",
        steps=4,
        batch_size=8,
        data=Data(train=Jsonl(path)),
        model=Static(width=4),
        evaluators={"dev": Retrieval(path)},
        eval_steps=2,
        save_steps=1,
    )


def contents(folder):
    """Digests of all files, by path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_finished_run_is_left_as_it_is(experiment, tmp_path):
    run = contrastive.train(experiment, tmp_path / "run")
    before = contents(tmp_path / "run")
    assert len(before) > 10
    again = contrastive.train(experiment, tmp_path / "run")
    assert contents(tmp_path / "run") == before
    assert again.results == run.results


def test_a_damaged_model_of_a_finished_run_is_exported_again(experiment, tmp_path):
    contrastive.train(experiment, tmp_path / "run")
    weights = tmp_path / "run" / "model" / "model.safetensors"
    before = weights.read_bytes()
    weights.write_bytes(before[:-1] + bytes([before[-1] ^ 1]))
    contrastive.train(experiment, tmp_path / "run")
    assert weights.read_bytes() == before


def test_every_evaluation_has_a_line(experiment, tmp_path, capsys):
    run = contrastive.train(experiment, tmp_path / "run")
    scores = [row["dev/nDCG@10"] for row in run.metrics.having("dev/nDCG@10")]
    best, best_step = (scores[1], 4) if scores[1] > scores[0] else (scores[0], 2)
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if line.startswith("step")] == [
        f"step 2: dev/nDCG@10 {scores[0]:.4f}, best {scores[0]:.4f} at step 2",
        f"step 4: dev/nDCG@10 {scores[1]:.4f}, best {best:.4f} at step {best_step}",
    ]


def test_a_run_that_resumes_says_from_where(experiment, tmp_path, capsys, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(loop, "Interrupt", stopping_after(2))
        with pytest.raises(KeyboardInterrupt):
            contrastive.train(experiment, tmp_path / "run")
    saved = max(int(x.name) for x in (tmp_path / "run/checkpoints/latest").glob("[0-9]*"))
    assert "resuming" not in capsys.readouterr().err
    contrastive.train(experiment, tmp_path / "run")
    assert f"contrastive: resuming at step {saved} of 4\n" in capsys.readouterr().err


def test_the_bar_says_that_the_first_step_compiles(experiment, tmp_path, monkeypatch):
    shown, bars, take_step = [], [], runs.SingleRun.step

    class Bar(tqdm.tqdm):
        def __init__(self, **options):
            super().__init__(**{**options, "disable": False})  # as at a terminal
            bars.append(self)

    def step(self, *given):
        shown.append(bars[-1].postfix)
        return take_step(self, *given)

    monkeypatch.setattr(runs.SingleRun, "step", step)
    monkeypatch.setattr(loop, "tqdm", Bar)
    contrastive.train(experiment, tmp_path / "run")
    assert shown[0] == "compiling"
    assert "compiling" not in shown[1:]
