"""T1. STS-B score as a function of temperature: Gao et al., 2021 (SimCSE), Table D.1.

contrastive reproduce T1
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from contrastive.config import Checkpoint
from contrastive.experiments.papers.paper_data import (
    TEMPERATURE,
    CaptionSearch,
    ScoredPairs,
    caption_search,
    captions,
    experiment,
    line,
    similar_pairs,
    write_rows,
)
from contrastive.experiments.papers.paper_scores import recall_at_1, spearman, unit
from contrastive.papers import (
    Claim,
    Findings,
    Grid,
    Paper,
    Setting,
    Verdict,
    Where,
    above,
    curve,
    peaks_inside,
    rises,
    swept,
)
from contrastive.tasks import Evaluator

if TYPE_CHECKING:
    from contrastive import Encoder

PUBLISHED = {
    "metric": "STS-B dev, Spearman x 100",
    "by temperature": {"0.001": 84.9, "0.01": 85.4, "0.05": 86.2, "0.1": 82.0, "1": 64.0},
    "dot product without normalization": 85.9,
}


class _TestData(NamedTuple):
    pairs: ScoredPairs
    search: CaptionSearch


class SimilarityAndSearch(Evaluator):
    """Evaluates an encoder on STS-B and on caption search."""

    data: str
    """The data folder."""

    main_metric: ClassVar[str] = "spearman"

    def load(self) -> _TestData:
        folder = Path(self.data)
        return _TestData(similar_pairs(folder, "dev"), caption_search(folder, "test"))

    def evaluate(self, encoder: Encoder, data: _TestData) -> dict[str, float]:
        pairs, search = data
        texts = (pairs.first, pairs.second, search.queries, search.documents)
        a, b, queries, documents = (unit(encoder.encode_documents(x)) for x in texts)
        cosines = queries @ documents.T
        positive = cosines[search.answers, np.arange(len(documents))]
        return {
            "spearman": spearman(a, b, pairs.scores),
            "recall@1": recall_at_1(queries, documents, search.answers),
            "positive cosine": float(positive.mean()),
            "negative cosine": float(cosines.mean()),
        }


def run(setting: Setting, where: Where) -> Findings:
    """Trains on captions, with captions of the same image as positives, and never on STS-B."""
    images = captions(where.data, "train")
    rows = ({"query": texts[0], "pos": texts[1:]} for texts in images)
    train = write_rows(where.workdir / "data" / "captions.jsonl", rows)
    scores = SimilarityAndSearch(data=str(where.data))
    base = experiment("SimCSE's temperatures", setting, train, scores)
    plain = base.replace(normalize=False)
    return {
        "normalized": swept(
            Grid(base, {TEMPERATURE: setting.values}, setting.seeds), where.workdir / "normalized"
        ),
        "not normalized": swept(
            Grid(plain, {TEMPERATURE: (1.0,)}, setting.seeds), where.workdir / "plain"
        ),
    }


def _curve(findings: Findings, metric: str):
    return curve(findings["normalized"], TEMPERATURE, metric)


def _peak(findings: Findings) -> Verdict:
    return peaks_inside(_curve(findings, "spearman"), 0.01, 1.0)


def _right_side(findings: Findings) -> Verdict:
    scores = _curve(findings, "spearman")
    return above(scores[0.05], scores[1.0], ("0.05", "1"))


def _left_side(findings: Findings) -> Verdict:
    scores = _curve(findings, "spearman")
    return above(scores[0.01], scores[0.05], ("0.01", "0.05"), margin=-0.02)


def _width(findings: Findings) -> Verdict:
    gaps = [
        {**row, "gap": row["positive cosine"] - row["negative cosine"]}
        for row in findings["normalized"]
        if row[TEMPERATURE] <= 0.1 and row["diverged_at"] is None
    ]
    return rises(curve(gaps, TEMPERATURE, "gap"))


def _plain(findings: Findings) -> Verdict:
    scores = _curve(findings, "spearman")
    best = max(scores, key=lambda t: scores[t].mean)
    (plain,) = curve(findings["not normalized"], TEMPERATURE, "spearman").values()
    return above(scores[best], plain, (f"cosines at {best:g}", "dot products"))


def draw(figure, findings: Findings, published) -> None:
    """Plots the paper's curve, and ours with intervals."""
    left, right = figure.subplots(1, 2)
    theirs = {float(t): y for t, y in published["by temperature"].items()}
    left.plot(list(theirs), list(theirs.values()), "ko-", ms=4)
    left.axhline(published["dot product without normalization"], color="0.5", ls=":")
    left.set(title="SimCSE, BERT-base", ylabel="STS-B dev, Spearman x 100")
    line(right, _curve(findings, "spearman"), "STS-B dev, Spearman")
    line(right, _curve(findings, "recall@1"), "captions, recall@1")
    (plain,) = curve(findings["not normalized"], TEMPERATURE, "spearman").values()
    right.axhline(plain.mean, color="0.5", ls=":", label="Spearman, not normalized")
    right.set(title="a bag of embeddings from scratch", ylabel="Spearman, recall@1")
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
            "The score peaks at an intermediate temperature, far from 0.01 and from 1.",
            _peak,
            "85.4 at 0.01, 86.2 at 0.05, 64.0 at 1",
        ),
        Claim(
            "A temperature of 1 scores far lower than one of 0.05.",
            _right_side,
            "86.2 at 0.05, 64.0 at 1",
        ),
        Claim(
            "A temperature of 0.01 scores less than 2 points lower than one of 0.05.",
            _left_side,
            "86.2 at 0.05, 85.4 at 0.01",
        ),
        Claim(
            "Up to 0.1, a higher temperature widens the gap between positive and negative cosines.",
            _width,
        ),
        Claim(
            "Normalized embeddings at the best temperature score higher than dot products.",
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
