"""What is said of sweeps: each setting, and the best of them."""

import re

import pytest
import reported
from logged import FLAT, HEALTHY, PEAKED, START

from contrastive import config, load_sweep
from contrastive.advice.advisor import advise
from contrastive.cli import main
from contrastive.errors import FolderError
from contrastive.folders.reading import read
from contrastive.reports import page


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FolderError, match="neither the folder of a run nor of a sweep"):
        advise(tmp_path)
    begun = reported.write_sweep(tmp_path / "sweep", finished=False)
    for log in begun.glob("programs/*/*/metrics.jsonl"):
        log.unlink()
    with pytest.raises(FolderError, match=r"no run of the sweep in .* has logged a step"):
        advise(begun)


COLUMN = "validation/nDCG@10"


def write_sweep(folder, scores, metrics=lambda temperature, seed: {}, **changes):
    """A sweep of temperatures with two seeds each, healthy but for what is said.

    Args:
      folder: Where to.
      scores: Validation scores of the seeds, by temperature; test scores have the reverse order.
      metrics: What is logged last of a run.
      **changes: Of the config.
    """
    base = reported.experiment(steps=1000, loss=config.Objective(), **changes)
    rows, log = [], []
    for t, of_seeds in scores.items():
        for seed, score in enumerate(of_seeds):
            member = {"member": len(rows)}
            log += [member | START, member | HEALTHY | {"temperature": t} | metrics(t, seed)]
            values = {"loss.temperature": t, "diverged_at": None if score else 90}
            both = {COLUMN: score, "test/nDCG@10": 1 - score} if score else {}
            rows.append(member | values | {"init_seed": seed} | both)
    axes = {"loss.temperature": list(scores)}
    reported.write_lines(folder / "programs" / "0" / "0" / "metrics.jsonl", log)
    reported.write_json(folder / "config.json", base.model_dump(mode="json"))
    table = {"axes": axes, "seeds": 2, "split": "test", "select_best": COLUMN, "rows": rows}
    reported.write_json(folder / "sweep.json", table)
    return folder


def test_each_setting_of_a_sweep_and_the_best(tmp_path, capsys):
    def metrics(temperature, seed):
        if temperature == 0.01 and seed:
            return PEAKED
        return FLAT if temperature == 1 else {}

    # The second difference, 0.11 and 0.13, has a t interval of 0.12 ± 12.7 x 0.01; of the first,
    # whose seeds differ by 0.2 and 0.21, it is 0.205 ± 0.064.
    scores = {0.01: (0.51, 0.52), 0.1: (0.71, 0.73), 1: (0.6, 0.6)}
    folder = write_sweep(tmp_path / "s", scores, metrics)
    found = advise(folder)
    assert [(f.cause, f.seen.partition(":")[0]) for f in found] == [
        ("healthy", "temperature 0.01, 1 of 2 seeds"),
        ("healthy", "temperature 0.1, 2 of 2 seeds"),
        ("high_temperature", "temperature 1, 2 of 2 seeds"),
        ("best", "temperature 0.1 scores best"),
    ]
    # Student's t of one degree of freedom at 97.5% is 12.706; the standard error is 0.01.
    assert "validation/nDCG@10 0.720 (95% interval 0.593 to 0.847, 2 seeds)" in found[-1].seen
    told_apart = "; paired by seed, it cannot be told apart from: temperature 1"
    assert found[-1].seen.endswith(told_apart)
    assert found[-1].advice.startswith("it lies between the swept temperatures; run more --seeds")
    main(["advise", str(folder)])
    assert capsys.readouterr().out.splitlines()[-1].strip() == found[-1].advice


@pytest.mark.parametrize(
    ("scores", "advice"),
    [
        ({0.01: (0.9, 0.9), 0.1: (0.5, 0.5)}, "it is the lowest .* to 0.005 and 0.002"),
        (
            {0.01: (0.5, 0.5), 0.1: (0.9, 0.9)},
            "it is the highest .* to 0.2 and 0.5",
        ),
        ({0.1: (0.5, 0.5)}, "use this setting$"),
    ],
)
def test_a_best_at_an_end_asks_for_a_wider_sweep(tmp_path, scores, advice):
    best = advise(write_sweep(tmp_path / "s", scores))[-1]
    assert best.cause == "best"
    assert re.match(advice, best.advice)


def test_equal_scores_choose_nothing(tmp_path):
    best = advise(write_sweep(tmp_path / "s", {0.01: (1.0, 1.0), 0.1: (1.0, 1.0)}))[-1]
    assert best.cause == "best"
    assert best.seen.startswith("all 2 settings score the same: validation/nDCG@10 1.000")
    assert "harder" in best.advice
    assert "widen" not in best.advice


def test_validation_data_choose_and_test_data_do_not(tmp_path):
    scores = {0.05: (0.5, 0.5), 0.1: (0.6, 0.6), 0.2: (0.4, 0.4)}
    folder = write_sweep(tmp_path / "s", scores)
    best = advise(folder)[-1]
    assert "temperature 0.1 scores best: validation/nDCG@10 0.600" in best.seen
    assert load_sweep(folder).best == {"loss.temperature": 0.1}
    without = write_sweep(tmp_path / "t", scores, evaluators={})
    best = advise(without)[-1]
    assert best.seen == "nothing selects a setting, because the sweep has no validation scores"


def test_what_is_left_of_a_setting_that_diverged_is_not_best(tmp_path):
    scores = {0.01: (0.9, None), 0.05: (0.5, 0.5), 0.1: (0.6, 0.6), 0.2: (0.4, 0.4)}
    best = advise(write_sweep(tmp_path / "s", scores))[-1]
    assert "temperature 0.1 scores best of the 3 with all scores" in best.seen


def test_a_sweep_that_is_not_finished_has_no_best(tmp_path):
    found = advise(reported.write_sweep(tmp_path / "s", finished=False))
    assert [finding.cause for finding in found[:-1]] == ["too_early"] * 3
    assert found[-1].seen == "no setting has a score"


def test_the_page_has_a_finding_a_cause(tmp_path):
    scores = {0.05: (0.5, 0.5), 0.1: (0.6, 0.6), 1: (0.4, 0.4), 5: (0.3, 0.3)}
    folder = write_sweep(tmp_path / "s", scores, lambda t, seed: FLAT if t >= 1 else {})
    text = page.html(read([folder]))
    advice = text.partition("<h3>Advice</h3>")[2].partition("</section>")[0]
    causes = [part.partition("</dt>")[0] for part in advice.split("<dt>")[1:]]
    assert causes == ["best", "healthy", "high temperature"]
    assert "(the same applies to temperature 5)" in advice
