"""Folders of runs and of models stand for each other where that has a meaning."""

import json
import shutil

import pytest

import contrastive
from contrastive.config import Checkpoint, Data, Experiment, Jsonl, Retrieval, Static
from contrastive.errors import FolderError
from contrastive.interop.run_model import run_folder
from contrastive.training.train import train_experiment

DEV = "dev.jsonl"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run in `run`, and the same with finetune's layout in `out`."""
    folder = tmp_path_factory.mktemp("runs")
    rows = [{"query": f"word{n}", "pos": [f"text{n}"]} for n in range(16)]
    (folder / DEV).write_text("\n".join(map(json.dumps, rows)))
    experiment = Experiment(
        name="run",
        steps=2,
        batch_size=8,
        data=Data(train=Jsonl(path=str(folder / DEV))),
        model=Static(width=4),
        evaluators={"dev": Retrieval(str(folder / DEV))},
    )
    contrastive.train(experiment, str(folder / "run"))
    train_experiment(experiment, folder / "out" / "training", model_folder=folder / "out")
    return folder


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("run", "run"),
        ("run/model", "run"),
        ("out", "out/training"),
        ("out/training", "out/training"),
    ],
)
def test_the_run_of_a_folder(runs, name, run):
    assert run_folder(runs / name) == runs / run
    assert contrastive.load_run(str(runs / name)).workdir == runs / run
    (score,) = contrastive.evaluate(str(runs / name), Retrieval(str(runs / DEV))).values()
    assert score == contrastive.load_run(runs / "run").scores["dev"]
    findings = contrastive.advise(str(runs / name))
    assert [finding.cause for finding in findings] == [
        finding.cause for finding in contrastive.advise(runs / run)
    ]


def test_a_run_is_a_checkpoint_to_start_from(runs):
    experiment = contrastive.load_run(runs / "run").config
    built = [
        contrastive.build(experiment.replace(model=Checkpoint(name=str(runs / name))))
        for name in ("run", "run/model", "out", "out/training")
    ]
    prints = {run.inputs["model"] for run in built}
    assert len(prints) == 1


def test_the_folder_of_a_model_alone_is_no_run(runs, tmp_path):
    contrastive.Encoder.from_pretrained(runs / "run").save_pretrained(tmp_path / "alone")
    said = f"{tmp_path / 'alone'} is the folder of a model, which has no config and no metrics"
    for read in (contrastive.load_run, contrastive.advise, contrastive.report):
        with pytest.raises(FolderError, match=said):
            read(str(tmp_path / "alone"))


def test_folders_without_a_model_say_why(runs, tmp_path):
    experiment = contrastive.load_run(runs / "run").config.replace(steps=1)
    contrastive.sweep(experiment, {"loss.temperature": [0.1, 0.2]}, workdir=tmp_path / "sweep")
    with pytest.raises(FolderError, match="is the folder of a sweep, which keeps no models"):
        contrastive.evaluate(tmp_path / "sweep", Retrieval(runs / DEV))
    with pytest.raises(FolderError, match="is the folder of a sweep, not of a run"):
        contrastive.train(experiment, tmp_path / "sweep")
    shutil.copytree(runs / "run", tmp_path / "unfinished")
    shutil.rmtree(tmp_path / "unfinished" / "model")
    with pytest.raises(FolderError, match="the run is not finished, or its model was removed"):
        contrastive.evaluate(tmp_path / "unfinished", Retrieval(runs / DEV))


def test_a_damaged_config_is_that_of_no_model(tmp_path):
    (tmp_path / "config.json").write_text("[" * 100_000)
    assert run_folder(tmp_path) == tmp_path
