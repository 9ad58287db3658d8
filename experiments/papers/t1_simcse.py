"""T1. The temperature curve on STS-B: Gao et al., 2021 (SimCSE), Table D.1.

contrastive reproduce T1
"""

from __future__ import annotations

import numpy as np
from material import (
    TEMPERATURE,
    captions,
    experiment,
    line,
    recall_at_1,
    similar_pairs,
    spearman,
    unit,
    write_rows,
)

from contrastive.config import Checkpoint
from contrastive.lab.claims import Verdict, above, curve, peaks_inside, rises
from contrastive.lab.grid import Grid
from contrastive.lab.paper import Claim, Findings, Paper, Setting, Where, swept

PUBLISHED = {
    "metric": "STS-B dev, Spearman x 100",
    "by temperature": {"0.001": 84.9, "0.01": 85.4, "0.05": 86.2, "0.1": 82.0, "1": 64.0},
    "dot product without normalisation": 85.9,
}


def run(setting: Setting, where: Where) -> Findings:
    """Captions of one image are each other's positives; STS-B is never trained on."""
    images = captions(where.data, "train")
    rows = ({"query": texts[0], "pos": texts[1:]} for texts in images)
    train = write_rows(where.workdir / "data" / "captions.jsonl", rows)
    first, second, scores = similar_pairs(where.data, "dev")
    tested = captions(where.data, "test")
    asked, others = [x[0] for x in tested], [text for x in tested for text in x[1:]]
    answers = np.repeat(np.arange(len(tested)), 4)

    def score(encoder, params):
        a, b, queries, documents = (
            unit(encoder.documents(params, texts)) for texts in (first, second, asked, others)
        )
        cosines = queries @ documents.T
        return {
            "spearman": spearman(a, b, scores),
            "recall@1": recall_at_1(queries, documents, answers),
            "positive cosine": float(cosines[answers, np.arange(len(others))].mean()),
            "negative cosine": float(cosines.mean()),
        }

    base = experiment("SimCSE's temperatures", setting, train)
    plain = base.replace(normalize=False)
    return {
        "normalised": swept(
            Grid(base, {TEMPERATURE: setting.values}, setting.seeds),
            where.workdir / "normalised",
            score,
        ),
        "not normalised": swept(
            Grid(plain, {TEMPERATURE: (1.0,)}, setting.seeds), where.workdir / "plain", score
        ),
    }


def _curve(findings: Findings, metric: str):
    return curve(findings["normalised"], TEMPERATURE, metric)


def _peak(findings: Findings) -> Verdict:
    return peaks_inside(_curve(findings, "spearman"), 0.01, 1.0)


def _right_side(findings: Findings) -> Verdict:
    found = _curve(findings, "spearman")
    return above(found[0.05], found[1.0], ("0.05", "1"))


def _left_side(findings: Findings) -> Verdict:
    found = _curve(findings, "spearman")
    held = found[0.01].mean > found[0.05].mean - 0.02
    numbers = above(found[0.05], found[0.01], ("0.05", "0.01")).because
    return Verdict(held, numbers)


def _width(findings: Findings) -> Verdict:
    gaps = [
        {**row, "gap": row["positive cosine"] - row["negative cosine"]}
        for row in findings["normalised"]
        if row[TEMPERATURE] <= 0.1 and row["diverged_at"] is None
    ]
    return rises(curve(gaps, TEMPERATURE, "gap"))


def _plain(findings: Findings) -> Verdict:
    found = _curve(findings, "spearman")
    best = max(found, key=lambda t: found[t].mean)
    (plain,) = curve(findings["not normalised"], TEMPERATURE, "spearman").values()
    return above(found[best], plain, (f"cosines at {best:g}", "dot products"))


def draw(figure, findings: Findings, published) -> None:
    """The paper's curve, and ours with intervals."""
    left, right = figure.subplots(1, 2)
    theirs = {float(t): y for t, y in published["by temperature"].items()}
    left.plot(list(theirs), list(theirs.values()), "ko-", ms=4)
    left.axhline(published["dot product without normalisation"], color="0.5", ls=":")
    left.set(title="SimCSE, BERT-base", ylabel="STS-B dev, Spearman x 100")
    line(right, _curve(findings, "spearman"), "STS-B dev, Spearman")
    line(right, _curve(findings, "recall@1"), "captions, recall@1")
    (plain,) = curve(findings["not normalised"], TEMPERATURE, "spearman").values()
    right.axhline(plain.mean, color="0.5", ls=":", label="Spearman, not normalised")
    right.set(title="a bag of embeddings from scratch")
    right.legend(frameon=False, fontsize=8)
    for plot in (left, right):
        plot.set(xscale="log", xlabel="temperature")


paper = Paper(
    name="T1",
    title="STS-B against temperature",
    source="Gao et al., 2021, arXiv:2104.08821, Table D.1",
    published=PUBLISHED,
    claims=(
        Claim(
            "The score peaks inside, far from 0.01 and from 1",
            _peak,
            "85.4 at 0.01, 86.2 at 0.05, 64.0 at 1",
        ),
        Claim("1 is far worse than 0.05", _right_side, "86.2 at 0.05, 64.0 at 1"),
        Claim(
            "0.01 costs less than 2 points against 0.05", _left_side, "86.2 at 0.05, 85.4 at 0.01"
        ),
        Claim("Up to 0.1, temperature widens the gap of positive and negative cosines", _width),
        Claim(
            "Normalised at the best temperature beats dot products",
            _plain,
            "86.2 at 0.05, dot products 85.9",
        ),
    ),
    differs=(
        "pairs of captions (Multi30k) instead of one sentence with two dropouts, a bag of "
        "embeddings from scratch instead of BERT: without a pretrained start the left side is steep"
    ),
    small=Setting(
        steps=600, batch_size=256, values=(0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    ),
    full=Setting(
        steps=15625,
        batch_size=64,
        seeds=5,
        learning_rate=3e-5,
        model=Checkpoint(name="google-bert/bert-base-uncased"),
        values=(0.001, 0.01, 0.05, 0.1, 1.0),
    ),
    run=run,
    draw=draw,
)
