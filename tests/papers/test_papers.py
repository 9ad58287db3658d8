"""Papers as code: predicates, files, and that what is committed says what its numbers say."""

import configparser
import functools
import json
import re
import sys
import types
from pathlib import Path

import matplotlib.figure
import numpy as np
import pytest

import contrastive.papers
from contrastive.cli import main
from contrastive.config import Experiment
from contrastive.errors import ConfigError, DataError
from contrastive.experiments.papers import paper_data, paper_scores, table
from contrastive.papers import (
    Claim,
    Grid,
    Paper,
    Sample,
    Setting,
    Verdict,
    Where,
    above,
    measured,
    swept,
)
from contrastive.papers import paper as paper_module
from contrastive.papers.paper import open_paper, reproduce
from contrastive.tasks import Evaluator

FOLDER = Path(paper_data.__file__).resolve().parent
NAMES = [f"T{number}" for number in range(1, 9)]
RESULTS = sorted((FOLDER / "results").glob("T*.json"))


def test_committed_claims_that_were_read_too_generously():
    """What a reader of the numbers would say, whatever the code says."""
    words = {
        claim["claim"]: Verdict(claim["outcome"], claim["because"], claim["at"]).words
        for result in table.results()
        for claim in result["claims"]
    }
    by_start = {text[:30]: verdict for text, verdict in words.items()}
    assert by_start["Masking negatives above 0.95 o"] == "held at 0.02 only"
    assert by_start["Up to the best fixed temperatu"] == "held from 0.05 to 0.1 only"
    assert by_start["SigLIP scores higher with an i"] == "undecided"


@pytest.mark.parametrize("name", NAMES)
def test_every_paper_is_there_and_whole(name):
    paper = open_paper(name)
    assert paper.name == name
    assert "arXiv" in paper.source
    assert paper.published
    assert paper.differs
    assert len(paper.claims) >= 2
    assert paper.small != paper.full
    assert paper.small.seeds == 3


@pytest.mark.parametrize("name", NAMES)
def test_claims_are_sentences_on_their_own(name):
    """They are printed alone, so that no claim may refer to the one before it."""
    for claim in open_paper(name).claims:
        first, *_ = claim.text.removeprefix("Ours: ").split()
        assert claim.text.endswith(".")
        assert first not in ("It", "Its", "So", "They", "This")


def test_a_paper_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert open_paper("t8") is open_paper("T8")
    assert open_paper(str(FOLDER / "t8_scale.py")).title == open_paper("T8").title
    with pytest.raises(ConfigError, match=r"gone\.py: no such file"):
        open_paper("gone.py")


def test_a_file_of_a_paper_that_fails_names_the_line_and_leaves_nothing_behind(tmp_path):
    file = tmp_path / "broken_paper.py"
    file.write_text("first = 1\nsecond = first.nothing\n")
    with pytest.raises(ConfigError, match=r"broken_paper\.py:2: AttributeError: .*nothing"):
        open_paper(str(file))
    assert "broken_paper" not in sys.modules


def test_the_public_room_has_what_papers_need():
    names = [
        *("Claim", "Curve", "Findings", "Grid", "Interval", "Paper", "Sample", "Setting"),
        *("Verdict", "Where", "above", "all_of", "curve", "falls", "interval", "judge"),
        *("measured", "peaks_inside", "rises", "sample", "shown", "swept"),
    ]
    assert set(dir(contrastive.papers)) == set(names)
    assert all(hasattr(contrastive.papers, name) for name in names)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        contrastive.papers.nothing  # noqa: B018


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    paper = open_paper("T3")
    with pytest.raises(
        ConfigError, match=r'sklearn.* not installed; run .*"contrastive\[papers\]"'
    ):
        paper.run(paper.small, Where(tmp_path, tmp_path))


def test_others_are_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="no paper 'T9'; the papers are T1, T2"):
        open_paper("T9")
    monkeypatch.setenv("CONTRASTIVE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="no such data folder; set it with --data") as no_folder:
        main(["reproduce", "T1", "--workdir", str(tmp_path / "run")])
    with pytest.raises(
        SystemExit, match=r"captions.train.jsonl: no such file, nor .*gz"
    ) as no_file:
        main(["reproduce", "T1", "--workdir", str(tmp_path / "run"), "--data", str(tmp_path)])
    for refused in (no_folder, no_file):
        (page,) = re.findall(r"\S+README\.md(?= lists)", str(refused.value))
        assert "captions.{train,test}.jsonl" in Path(page).read_text(encoding="utf-8")


def test_the_page_that_errors_name_is_installed():
    settings = configparser.ConfigParser()
    settings.read(FOLDER.parents[1] / "setup.cfg")
    assert settings["options.package_data"]["contrastive.experiments.papers"] == "README.md"


def test_a_claim_that_fails_is_shown_as_failed(tmp_path, capsys):
    file = tmp_path / "paper_of_mine.py"
    file.write_text(
        "from contrastive.papers import Claim, Paper, Setting, Verdict, measured\n"
        "paper = Paper(name='X', title='t', source='s', published={}, differs='small', claims=(\n"
        "    Claim('one is two', lambda f: measured({'': f['one'] == 2}, f\"{f['one']}\")),\n"
        "    Claim('one is one', lambda f: Verdict('partly', 'so', ('at 1', 'at 3'))),\n"
        "), small=Setting(), full=Setting(seeds=5), needs_data=False,\n"
        "run=lambda setting, where: {'one': 1, 'seeds': setting.seeds},\n"
        "draw=lambda figure, findings, published: figure.subplots())\n"
    )
    main(["reproduce", str(file), "--workdir", str(tmp_path / "run")])
    shown = capsys.readouterr().out
    assert "FAILED: one is two\n  1" in shown
    assert "held at 1, at 3 only: one is one\n  so" in shown
    assert "unlike the paper: small" in shown
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [claim["outcome"] for claim in results["claims"]] == ["failed", "partly"]
    assert results["findings"] == {"one": 1, "seeds": 3}
    assert results["versions"]["jax"]
    assert (tmp_path / "run" / "figure.png").stat().st_size > 1000


@pytest.mark.parametrize("file", RESULTS, ids=lambda file: file.stem)
def test_committed_verdicts_are_those_of_the_committed_numbers(file):
    result = json.loads(file.read_text(encoding="utf-8"))
    paper = open_paper(file.stem)
    assert result["command"].startswith(f"contrastive reproduce {file.stem}")
    assert result["published"] == json.loads(json.dumps(paper.published))
    for claim, kept in zip(paper.claims, result["claims"], strict=True):
        verdict = claim.check(result["findings"])
        now = {"claim": claim.text, "theirs": claim.theirs, **verdict._asdict()}
        assert kept == {**now, "at": list(verdict.at)}


def test_every_paper_has_a_result_and_the_table_shows_it():
    assert [file.stem for file in RESULTS] == NAMES
    guide = FOLDER.parents[1] / "docs" / "guides" / "papers.md"
    for page, lines in ((FOLDER / "README.md", table.lines()), (guide, table.summary())):
        assert "\n".join(lines) in page.read_text(encoding="utf-8")


@pytest.mark.slow
def test_t8_runs_in_seconds_at_a_small_size():
    paper = open_paper("T8")
    sizes = Setting(batch_size=256, batch_sizes=(2048, 8192), values=(0.01, 0.5))
    found = paper.run(sizes, Where(Path(), Path()))
    verdicts = {claim.text: claim.check(found) for claim in paper.claims}
    exact = [v for text, v in verdicts.items() if "float32" in text or "Two passes" in text]
    assert len(exact) == 2
    assert all(verdict.outcome == "held" for verdict in exact)


def test_scores_are_those_of_loops():
    rng = np.random.default_rng(0)
    x, asked = (paper_scores.unit(rng.normal(size=(n, 5))) for n in (12, 6))
    labels = [f"c{n % 3}" for n in range(12)]
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    same = [x[i] @ x[j] for i, j in pairs if labels[i] == labels[j]]
    assert paper_scores.tolerance(x, labels) == pytest.approx(np.mean(same))
    apart = [np.exp(-2 * np.sum((x[i] - x[j]) ** 2)) for i, j in pairs]
    assert paper_scores.uniformity(x) == pytest.approx(np.log(np.mean(apart)))
    answers = np.array([int(np.argmax(asked @ d)) for d in x])
    found = paper_scores.recall_at_1(asked, x, answers)
    assert found == np.mean([answers[np.argmax(x @ q)] == n for n, q in enumerate(asked)])

    # Cosines 1, 0.8, 0.8, 0, of ranks 4, 2.5, 2.5, 1; scores of ranks 3, 4, 1.5, 1.5. From their
    # mean these are 1.5, 0, 0, -1.5 and 0.5, 1.5, -1, -1: products sum to 2.25, squares to 4.5.
    east, others = np.tile([1.0, 0.0], (4, 1)), np.array([[2.0, 0], [4, 3], [8, -6], [0, 1]])
    assert paper_scores.spearman(east, others, [4.0, 5.0, 1.0, 1.0]) == pytest.approx(0.5)


def test_the_vote_of_the_nearest_is_as_counted_by_hand():
    def on_circle(*degrees):
        return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)

    known, labels = on_circle(0, 8, 12, 90, 100, 112, 200, 210, 220), list("abbabcbcc")
    asked = on_circle(3, 93, 204)  # the three nearest of each: a b b, a b c, b c c
    for truth, k, expected in (("bac", 3, 1), ("aab", 1, 1), ("aab", 3, 1 / 3), ("bac", 1, 1 / 3)):
        assert paper_scores.nearest_class(known, labels, asked, list(truth), k) == expected


class Random:
    """An encoder of nothing."""

    def encode_documents(self, texts):
        return np.random.default_rng(0).normal(size=(len(texts), 4))


@pytest.mark.parametrize("setting", ["small", "full"])
@pytest.mark.parametrize("name", ["T1", "T2", "T4", "T5", "T6", "T7"])
def test_every_claim_is_judged_at_both_sizes_though_a_run_diverged(
    name, setting, shared_data, tmp_path, monkeypatch
):
    paper, rng = open_paper(name), np.random.default_rng(0)
    logged = ("loss", "temperature", "effective_negatives", "accuracy")

    load = functools.cache(lambda evaluator: evaluator.load())

    def swept(grid, folder):
        (evaluator,) = grid.base.final_evaluators.values()
        found = evaluator.evaluate(Random(), load(evaluator))
        assert evaluator.main_metric in found
        rows = []
        for member in grid.members:
            row = {**member.values, "init_seed": member.init_seed, "diverged_at": None}
            row |= {f"last/{name}": rng.random() for name in logged}
            row |= {name: rng.random() for name in found}
            rows.append(row)
        if len(grid.members) > 3:
            rows[0] = {name: x for name, x in rows[0].items() if name not in found}
            rows[0]["diverged_at"] = 9
        return rows

    monkeypatch.setitem(paper.run.__globals__, "swept", swept)
    findings = paper.run(getattr(paper, setting), Where(shared_data, tmp_path))
    for claim in paper.claims:
        assert "nan" not in claim.check(findings).because
    figure = matplotlib.figure.Figure()
    paper.draw(figure, findings, paper.published)


class Length(Evaluator):
    """A score that takes no data."""

    def evaluate(self, encoder, data):
        return {"length": 1.0}


def test_scores_of_a_sweep_have_plain_names(tmp_path, monkeypatch):
    tables = iter([{"rows": [{"member": 0, "last/loss": 0.5, "test/scores/length": 2.0}]}, None])
    monkeypatch.setitem(swept.__globals__, "run_sweep", lambda grid, folder: next(tables))
    grid = Grid(Experiment(name="x", final_evaluators={"scores": Length()}), {})
    assert swept(grid, tmp_path) == [{"member": 0, "last/loss": 0.5, "length": 2.0}]
    with pytest.raises(KeyboardInterrupt):
        swept(grid, tmp_path)


def none_above_one(findings):
    return measured({"": None > 1}, "")


def paper_of(run=lambda setting, where: {"kept": 1}, claims=()):
    """A paper that trains nothing."""
    return Paper(
        name="X",
        title="t",
        source="s",
        published={},
        claims=claims,
        differs="d",
        small=Setting(steps=1),
        full=Setting(steps=9),
        run=run,
        draw=lambda figure, findings, published: figure.subplots(),
    )


def test_a_claim_that_cannot_be_checked_is_undecided_and_nothing_is_lost(tmp_path):
    checks = (lambda findings: findings[0.01], lambda _: max([]), none_above_one)
    paper = paper_of(claims=tuple(Claim("c", check) for check in checks))
    results = reproduce(paper, "small", Where(tmp_path, tmp_path / "run"))
    kept = json.loads((tmp_path / "run" / "results.json").read_text())
    assert kept["findings"] == {"kept": 1}
    assert kept["claims"] == results["claims"]
    assert [claim["outcome"] for claim in results["claims"]] == ["undecided"] * 3
    lookup, empty, comparison = (claim["because"] for claim in results["claims"])
    assert lookup == "KeyError: 0.01"
    assert empty.startswith("ValueError: max()")
    assert comparison.startswith("TypeError: '>' not supported")


def test_findings_are_kept_if_a_check_is_interrupted(tmp_path):
    def interrupt(findings):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        reproduce(paper_of(claims=(Claim("c", interrupt),)), "small", Where(tmp_path, tmp_path))
    assert json.loads((tmp_path / "results.json").read_text())["findings"] == {"kept": 1}


def test_seconds_are_those_of_all_sessions(tmp_path, monkeypatch):
    clock = iter([0.0, 5.0, 5.0, 8.0, 8.0, 9.0])  # begin and end of three sessions
    timer = types.SimpleNamespace(perf_counter=lambda: next(clock))
    monkeypatch.setattr(paper_module, "time", timer)
    stops = iter([KeyboardInterrupt(), None, None])

    def run(setting, where):
        (where.workdir / "sweep").mkdir(exist_ok=True)
        if stop := next(stops):
            raise stop
        return {}

    with pytest.raises(KeyboardInterrupt):
        reproduce(paper_of(run), "small", Where(tmp_path, tmp_path))
    for _ in range(2):  # the last one only reuses what the others trained
        results = reproduce(paper_of(run), "small", Where(tmp_path, tmp_path))
        assert results["seconds"] == 8.0


def test_mean_average_precision_by_hand():
    """Angles; by nearness to 0: a b a b, to 10: a b a b, to 50: b a b a, to 22: a, to 91: a."""
    angles = np.deg2rad([0, 10, 50, 22, 91])
    x = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    expected = (1 / 2 + 1 / 2 + (1 / 2) / 2 + 0 + 0) / 5
    found = paper_scores.mean_average_precision(x, ["a", "a", "a", "b", "b"])
    assert found == pytest.approx(expected)


def test_rows_are_written_anew(tmp_path):
    for text in ("a", "b"):
        path = paper_data.write_rows(tmp_path / "rows.jsonl", [{"query": text}])
        assert Path(path).read_text() == f'{{"query": "{text}"}}\n'


def test_rows_are_read_plain_or_packed(tmp_path):
    import gzip

    (tmp_path / "plain.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as file:
        file.write('{"a": 3}\n')
    assert [row["a"] for row in paper_data.read_rows(tmp_path / "plain.jsonl")] == [1, 2]
    assert paper_data.read_rows(tmp_path / "packed.jsonl") == [{"a": 3}]
    with pytest.raises(DataError, match=r"nor gone\.jsonl\.gz"):
        paper_data.read_rows(tmp_path / "gone.jsonl")


def test_a_paper_is_reproduced_by_its_setting(tmp_path):
    seen = []
    claim = Claim("c", lambda findings: above(*[Sample({0: 1.0})] * 2, ("a", "b")))
    paper = paper_of(lambda setting, where: seen.append(setting.steps) or {}, (claim,))
    for setting in ("small", "full"):
        results = reproduce(paper, setting, Where(tmp_path, tmp_path / setting))
        assert results["differs"] == ("d" if setting == "small" else "")
    assert seen == [1, 9]


def test_a_reproduction_that_fails_at_once_leaves_no_folder(tmp_path):
    def run(setting, where):
        raise DataError("there is no such data")

    for place in ("runs/papers/T0-small", "kept/T0-small"):
        (tmp_path / "kept").mkdir(exist_ok=True)
        with pytest.raises(DataError, match="no such data"):
            reproduce(paper_of(run), "small", Where(tmp_path, tmp_path / place))
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert not list((tmp_path / "kept").iterdir())


def test_a_reproduction_that_fails_later_keeps_its_runs(tmp_path):
    def run(setting, where):
        (where.workdir / "sweep").mkdir()
        raise DataError("the disk is gone")

    with pytest.raises(DataError, match="disk"):
        reproduce(paper_of(run), "small", Where(tmp_path, tmp_path / "T0"))
    assert (tmp_path / "T0" / "sweep").is_dir()
