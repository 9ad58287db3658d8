"""Papers as code: predicates, files, and that what is committed says what its numbers say."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from contrastive.cli import main
from contrastive.errors import ConfigError, DataError
from contrastive.lab.claims import above, all_of, curve, falls, peaks_inside, rises
from contrastive.lab.paper import Claim, Paper, Setting, Where, open_paper, reproduce
from contrastive.lab.table import Interval

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments" / "papers"))

import material
import table

FOLDER = Path(material.__file__).parent
NAMES = [f"T{number}" for number in range(1, 9)]
RESULTS = sorted((FOLDER / "results").glob("T*.json"))


def flat(**points):
    """A curve by value of the field, each with an interval of 0.01 either way."""
    return {
        float(x[1:].replace("_", ".")): Interval(y, y - 0.01, y + 0.01, 3)
        for x, y in points.items()
    }


def test_a_peak_is_inside_and_above_both_sides():
    assert peaks_inside(flat(t0_01=0.5, t0_1=0.7, t1=0.4), 0.01, 1.0).held
    assert not peaks_inside(flat(t0_01=0.69, t0_1=0.7, t1=0.4), 0.01, 1.0).held
    assert not peaks_inside(flat(t0_01=0.8, t0_1=0.7, t1=0.4), 0.01, 1.0).held


def test_a_rise_may_pause_but_not_turn():
    assert rises(flat(t1=0.1, t2=0.3, t3=0.295, t4=0.5)).held
    assert not rises(flat(t1=0.1, t2=0.3, t3=0.25, t4=0.5)).held
    assert not rises(flat(t1=0.1, t2=0.11)).held
    assert falls(flat(t1=0.5, t2=0.3)).held
    assert not falls(flat(t1=0.1, t2=0.3)).held


def test_above_is_beyond_both_intervals():
    a, b = Interval(0.5, 0.45, 0.55, 3), Interval(0.48, 0.46, 0.5, 3)
    assert not above(a, b, ("a", "b")).held
    assert above(a, b._replace(high=0.449), ("a", "b")).held
    assert all_of(above(a, a, ("x", "y"))).because == "x 0.500 ± 0.050, y 0.500 ± 0.050"


def test_a_curve_is_of_the_runs_that_did_not_diverge():
    rows = [{"t": t, "x": x} for t, x in ((2, 1.0), (2, 3.0), (1, 5.0), (3, None))]
    found = curve(rows, "t", "x")
    assert list(found) == [1, 2]
    assert found[2].mean == 2
    assert found[2].high == pytest.approx(2 + 12.706 * np.sqrt(2) / np.sqrt(2), rel=1e-3)


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


def test_others_are_refused(tmp_path, monkeypatch, capsys):
    with pytest.raises(ConfigError, match="no paper 'T9'; there are T1, T2"):
        open_paper("T9")
    monkeypatch.setenv("CONTRASTIVE_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(SystemExit, match="no such folder of data; give one by --data"):
        main(["reproduce", "T1", "--workdir", str(tmp_path / "run")])
    with pytest.raises(SystemExit, match=r"captions.train.jsonl: no such file, nor .*gz; exp"):
        main(["reproduce", "T1", "--workdir", str(tmp_path / "run"), "--data", str(tmp_path)])


def test_a_claim_that_fails_is_shown_as_failed(tmp_path, capsys):
    file = tmp_path / "mine.py"
    file.write_text(
        "from contrastive.lab.claims import Verdict\n"
        "from contrastive.lab.paper import Claim, Paper, Setting\n"
        "paper = Paper(name='X', title='t', source='s', published={}, differs='small', claims=(\n"
        "    Claim('one is two', lambda f: Verdict(f['one'] == 2, f\"{f['one']}\")),\n"
        "    Claim('one is one', lambda f: Verdict(f['one'] == 1, 'so')),\n"
        "), small=Setting(), full=Setting(seeds=5), needs_data=False,\n"
        "run=lambda setting, where: {'one': 1, 'seeds': setting.seeds},\n"
        "draw=lambda figure, findings, published: figure.subplots())\n"
    )
    main(["reproduce", str(file), "--workdir", str(tmp_path / "run")])
    shown = capsys.readouterr().out
    assert "FAILED  one is two\n        1" in shown
    assert "held    one is one" in shown
    assert "unlike the paper: small" in shown
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    assert [claim["held"] for claim in results["claims"]] == [False, True]
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
        assert kept == {"claim": claim.text, "theirs": claim.theirs, **verdict._asdict()}


def test_every_paper_has_a_result_and_the_table_shows_it():
    assert [file.stem for file in RESULTS] == NAMES
    for path, lines in ((FOLDER, table.lines()), (FOLDER.parents[1], table.summary())):
        assert "\n".join(lines) in (path / "README.md").read_text(encoding="utf-8")


def test_t8_runs_in_seconds_at_a_small_size():
    paper = open_paper("T8")
    sizes = Setting(batch_size=256, batch_sizes=(2048, 8192), values=(0.01, 0.5))
    found = paper.run(sizes, Where(Path(), Path()))
    verdicts = {claim.text: claim.check(found) for claim in paper.claims}
    exact = [v for text, v in verdicts.items() if "float32" in text or "Two passes" in text]
    assert len(exact) == 2
    assert all(verdict.held for verdict in exact)


def test_scores_are_those_of_loops():
    rng = np.random.default_rng(0)
    x, asked = (material.unit(rng.normal(size=(n, 5))) for n in (12, 6))
    labels = [f"c{n % 3}" for n in range(12)]
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    same = [x[i] @ x[j] for i, j in pairs if labels[i] == labels[j]]
    assert material.tolerance(x, labels) == pytest.approx(np.mean(same))
    apart = [np.exp(-2 * np.sum((x[i] - x[j]) ** 2)) for i, j in pairs]
    assert material.uniformity(x) == pytest.approx(np.log(np.mean(apart)))
    answers = np.array([int(np.argmax(asked @ d)) for d in x])
    found = material.recall_at_1(asked, x, answers)
    assert found == np.mean([answers[np.argmax(x @ q)] == n for n, q in enumerate(asked)])

    # Cosines 1, 0.8, 0.8, 0, of ranks 4, 2.5, 2.5, 1; scores of ranks 3, 4, 1.5, 1.5. From their
    # mean these are 1.5, 0, 0, -1.5 and 0.5, 1.5, -1, -1: products sum to 2.25, squares to 4.5.
    east, others = np.tile([1.0, 0.0], (4, 1)), np.array([[2.0, 0], [4, 3], [8, -6], [0, 1]])
    assert material.spearman(east, others, [4.0, 5.0, 1.0, 1.0]) == pytest.approx(0.5)


def test_the_vote_of_the_nearest_is_as_counted_by_hand():
    def on_circle(*degrees):
        return np.stack([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))], axis=1)

    known, labels = on_circle(0, 8, 12, 90, 100, 112, 200, 210, 220), list("abbabcbcc")
    asked = on_circle(3, 93, 204)  # the three nearest of each: a b b, a b c, b c c
    for truth, k, expected in (("bac", 3, 1), ("aab", 1, 1), ("aab", 3, 1 / 3), ("bac", 1, 1 / 3)):
        assert material.nearest_class(known, labels, asked, list(truth), k) == expected


def test_rows_are_read_plain_or_packed(tmp_path):
    import gzip

    (tmp_path / "plain.jsonl").write_text('{"a": 1}\n{"a": 2}\n')
    with gzip.open(tmp_path / "packed.jsonl.gz", "wt") as file:
        file.write('{"a": 3}\n')
    assert [row["a"] for row in material.read_rows(tmp_path / "plain.jsonl")] == [1, 2]
    assert material.read_rows(tmp_path / "packed.jsonl") == [{"a": 3}]
    with pytest.raises(DataError, match=r"nor gone\.jsonl\.gz"):
        material.read_rows(tmp_path / "gone.jsonl")


def test_a_paper_is_reproduced_by_its_setting(tmp_path):
    seen = []
    paper = Paper(
        name="X",
        title="t",
        source="s",
        published={},
        claims=(Claim("c", lambda findings: above(*[Interval(1, 1, 1, 1)] * 2, ("a", "b"))),),
        differs="d",
        small=Setting(steps=1),
        full=Setting(steps=9),
        run=lambda setting, where: seen.append(setting.steps) or {},
        draw=lambda figure, findings, published: figure.subplots(),
    )
    for setting in ("small", "full"):
        results = reproduce(paper, setting, Where(tmp_path, tmp_path / setting))
        assert results["differs"] == ("d" if setting == "small" else "")
    assert seen == [1, 9]
