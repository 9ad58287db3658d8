"""T2. The uniformity-tolerance dilemma: Wang & Liu, CVPR 2021.

contrastive reproduce T2
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from contrastive.config import Checkpoint
from contrastive.experiments.papers.paper_data import (
    TEMPERATURE,
    experiment,
    intents,
    line,
    write_rows,
)
from contrastive.experiments.papers.paper_scores import nearest_class, tolerance, uniformity, unit
from contrastive.papers import (
    Claim,
    Findings,
    Grid,
    Paper,
    Setting,
    Verdict,
    Where,
    curve,
    falls,
    peaks_inside,
    rises,
    swept,
)
from contrastive.tasks import Evaluator

if TYPE_CHECKING:
    from contrastive import Encoder

PUBLISHED = {
    "metric": "linear probe, ResNet-18, accuracy x 100",
    "CIFAR-100 by temperature": {
        "0.05": 49.80,
        "0.07": 51.82,
        "0.1": 52.46,
        "0.2": 56.05,
        "0.3": 56.44,
        "0.4": 55.47,
        "0.5": 54.17,
        "0.6": 53.05,
        "0.7": 50.99,
        "0.8": 50.08,
    },
    "CIFAR-10 by temperature": {"0.07": 79.75, "0.3": 83.27, "1": 82.21},
}
KEPT = 0.7  # the fraction of words that a view keeps
VIEWS = 4


class _Utterances(NamedTuple):
    known: list[str]
    labels: list[str]
    asked: list[str]
    truth: list[str]


class IntentScores(Evaluator):
    """Evaluates the separation of intents, uniformity and tolerance."""

    data: str
    """The data folder."""

    main_metric: ClassVar[str] = "accuracy of 10 nearest"

    def load(self) -> _Utterances:
        folder = Path(self.data)
        return _Utterances(*intents(folder, "train"), *intents(folder, "test"))

    def evaluate(self, encoder: Encoder, data: _Utterances) -> dict[str, float]:
        known, asked = (unit(encoder.encode_documents(x)) for x in (data.known, data.asked))
        return {
            "accuracy of 10 nearest": nearest_class(known, data.labels, asked, data.truth),
            "uniformity": uniformity(asked),
            "tolerance": tolerance(asked, data.truth),
        }


def run(setting: Setting, where: Where) -> Findings:
    """Trains on two views of an utterance as a positive pair; intents only serve evaluation."""
    texts, _ = intents(where.data, "train")
    rng = random.Random(0)

    def view(text: str) -> str:
        words = text.split()
        return " ".join([word for word in words if rng.random() < KEPT] or [rng.choice(words)])

    rows = (
        {"query": view(text), "pos": [view(text) for _ in range(VIEWS)]}
        for text in texts
        for _ in range(VIEWS)
    )
    train = write_rows(where.workdir / "data" / "views.jsonl", rows)
    scores = IntentScores(data=str(where.data))
    base = experiment("uniformity and tolerance", setting, train, scores)
    # Views can be equal texts. As in the paper, no false negatives are masked.
    base = base.replace(**{"loss.mask_false_negatives": False})
    grid = Grid(base, {TEMPERATURE: setting.values}, setting.seeds)
    return {"rows": swept(grid, where.workdir / "sweep")}


def _curve(findings: Findings, metric: str, least: float = 0.0):
    points = curve(findings["rows"], TEMPERATURE, metric)
    return {t: x for t, x in points.items() if t >= least}


def _peak(findings: Findings) -> Verdict:
    accuracies = _curve(findings, "accuracy of 10 nearest")
    return peaks_inside(accuracies, min(accuracies), max(accuracies))


def _tolerance(findings: Findings) -> Verdict:
    return rises(_curve(findings, "tolerance", least=0.1))


def _uniformity(findings: Findings) -> Verdict:
    return rises(_curve(findings, "uniformity", least=0.1))


def _reversal(findings: Findings) -> Verdict:
    low = {t: x for t, x in _curve(findings, "uniformity").items() if t <= 0.05}
    return falls(low)


def _entropy(findings: Findings) -> Verdict:
    return rises(_curve(findings, "last/effective_negatives"))


def draw(figure, findings: Findings, published) -> None:
    """Plots accuracy against temperature (theirs and ours), and tolerance against uniformity."""
    left, middle, right = figure.subplots(1, 3)
    theirs = {float(t): y for t, y in published["CIFAR-100 by temperature"].items()}
    left.plot(list(theirs), list(theirs.values()), "ko-", ms=4)
    left.set(title="CIFAR-100, ResNet-18", ylabel="linear probe, accuracy x 100")
    line(middle, _curve(findings, "accuracy of 10 nearest"), "")
    middle.set(title="CLINC150, bag of embeddings", ylabel="10 nearest, accuracy")
    left.set(xlabel="temperature")
    middle.set(xscale="log", xlabel="temperature")
    across, up = _curve(findings, "uniformity"), _curve(findings, "tolerance")
    right.plot([x.mean for x in across.values()], [y.mean for y in up.values()], "-", color="0.7")
    for t in across:
        right.plot(across[t].mean, up[t].mean, "o", color="C0", ms=4)
        right.annotate(f" {t:g}", (across[t].mean, up[t].mean), fontsize=8)
    right.set(title="by temperature", xlabel="uniformity (lower: more)", ylabel="tolerance")


paper = Paper(
    name="T2",
    title="Uniformity and tolerance",
    source="Wang & Liu, 2021, arXiv:2012.09740",
    published=PUBLISHED,
    claims=(
        Claim(
            "The score peaks at an intermediate temperature and is lower at both ends of "
            "the range.",
            _peak,
            "49.8 at 0.05, 56.4 at 0.3, 50.1 at 0.8",
        ),
        Claim("From 0.1 on, tolerance rises with temperature.", _tolerance, "rises"),
        Claim("From 0.1 on, uniformity worsens with temperature.", _uniformity, "worsens"),
        Claim(
            "At a higher temperature, the penalty is spread over more negatives.",
            _entropy,
            "spreads",
        ),
        Claim("Ours: at 0.05 and below, uniformity worsens as the temperature falls.", _reversal),
    ),
    differs=(
        "utterances with words left out instead of images, a bag of embeddings instead of "
        "ResNet-18, 10 nearest neighbors instead of a linear probe, in-batch negatives instead of "
        "a memory bank"
    ),
    small=Setting(steps=600, batch_size=256, values=(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0)),
    full=Setting(
        steps=20000,
        batch_size=256,
        seeds=5,
        learning_rate=3e-5,
        model=Checkpoint(name="google-bert/bert-base-uncased"),
        values=(0.01, 0.02, 0.05, 0.07, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8),
    ),
    run=run,
    draw=draw,
)
