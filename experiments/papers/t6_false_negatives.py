"""T6. Hard and false negatives: debiasing, hardness weighting and filters.

contrastive reproduce T6
"""

from __future__ import annotations

import random
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from contrastive.config import Checkpoint, HardNegative
from contrastive.experiments.papers.paper_data import (
    TEMPERATURE,
    experiment,
    intents,
    line,
    write_rows,
)
from contrastive.experiments.papers.paper_scores import mean_average_precision, unit
from contrastive.papers import (
    Claim,
    Findings,
    Grid,
    Paper,
    Sample,
    Setting,
    Verdict,
    Where,
    above,
    all_of,
    curve,
    judge,
    rises,
    shown,
    swept,
)
from contrastive.tasks import Evaluator

if TYPE_CHECKING:
    from contrastive import Encoder

PUBLISHED = {
    "metric of HCL": "STL-10, linear probe, ResNet-50, batch 256, temperature 0.5, accuracy x 100",
    "biased": 80.15,
    "debiased by tau+": {"0.05": 81.85, "0.1": 84.26},
    "HCL by beta, tau+ 0.1": {"0.5": 86.38, "1": 87.44, "2": 87.09, "6": 83.09},
    "NV-Retriever, nDCG@10 of three BEIR sets": {"unfiltered": 0.541, "below 0.95": 0.586},
}
METRIC = "MAP@R"
BETA, TAU = "loss.function.beta", "loss.function.tau_plus"
HOT = 0.5  # HCL's temperature
EVERY = 10  # one in ten of the 150 intents is used, so that a batch has 17 texts of each
SHARE = round(EVERY / 150, 3)  # the fraction of negatives that are false
FILTERS = {
    "no filter": {},
    "same intent": {"loss.mask_false_negatives": True},
    "above positive + 0.1": {"loss.above_positive": 0.1},
    "above 0.95 of positive": {"loss.relative_to_positive": 0.95},
}


class IntentPrecision(Evaluator):
    """Evaluates whether the nearest utterances have the same intent, by MAP@R."""

    data: str
    """The data folder."""

    main_metric: ClassVar[str] = METRIC

    def load(self) -> tuple[list[str], list[str]]:
        return some_intents(Path(self.data), "test")

    def evaluate(self, encoder: Encoder, data: tuple[list[str], list[str]]) -> dict[str, float]:
        texts, labels = data
        return {METRIC: mean_average_precision(unit(encoder.encode_documents(texts)), labels)}


def run(setting: Setting, where: Where) -> Findings:
    """Trains with utterances of the same intent as positives; many in-batch negatives are false."""
    texts, labels = some_intents(where.data, "train")
    of_intent = defaultdict(list)
    for text, label in zip(texts, labels, strict=True):
        of_intent[label].append(text)
    rng = random.Random(0)

    def positives(text: str, label: str) -> list[str]:
        others = [other for other in of_intent[label] if other != text]
        return rng.sample(others, len(others))

    rows = (
        {"query": text, "pos": positives(text, label)}
        for text, label in zip(texts, labels, strict=True)
    )
    train = write_rows(where.workdir / "data" / "intents.jsonl", rows)
    scores = IntentPrecision(data=str(where.data))
    base = experiment("false negatives", setting, train, scores)
    blind = base.replace(**{"loss.mask_false_negatives": False})
    hard = blind.replace(**{"loss.function": HardNegative(), TEMPERATURE: HOT})
    heat = {TEMPERATURE: setting.values}
    grids = {
        **{name: Grid(blind.replace(**on), heat, setting.seeds) for name, on in FILTERS.items()},
        "debiased": Grid(hard, {BETA: (0.0, 0.5, 1.0, 2.0), TAU: (0.0, SHARE)}, setting.seeds),
    }
    return {
        name: swept(grid, where.workdir / name.replace(" ", "_")) for name, grid in grids.items()
    }


def some_intents(data: Path, split: str) -> tuple[list[str], list[str]]:
    """Reads the utterances of every tenth intent.

    Args:
      data: The data folder.
      split: `train` or `test`.

    Returns:
      The utterances, and as many names of intents.

    Raises:
      DataError: If the file does not exist.
    """
    texts, labels = intents(data, split)
    chosen = set(sorted(set(labels))[::EVERY])
    pairs = [pair for pair in zip(texts, labels, strict=True) if pair[1] in chosen]
    return [text for text, _ in pairs], [label for _, label in pairs]


def _gains(findings: Findings, name: str) -> dict[float, Sample]:
    """Computes the gains over no filter, paired by seed: same initialization and batches."""
    plain, filtered = (curve(findings[x], TEMPERATURE, METRIC) for x in ("no filter", name))
    return {t: filtered[t] - plain[t] for t in plain if t in filtered}


def _helps(findings: Findings, name: str) -> Verdict:
    """Checks that a filter helps at each temperature."""
    gains = _gains(findings, name)
    numbers = ", ".join(f"{shown(gain)} at {t:g}" for t, gain in gains.items())
    return judge({f"at {t:g}": gain.interval for t, gain in gains.items()}, f"gain {numbers}")


def _colder(findings: Findings) -> Verdict:
    """Checks that each filter helps more at the lowest temperature than at the highest."""
    verdicts = {}
    for name in list(FILTERS)[1:]:
        gains = _gains(findings, name)
        low, high = min(gains), max(gains)
        numbers = (f"gain at {low:g}", f"at {high:g}")
        verdicts[f"for {name}"] = above(gains[low], gains[high], numbers)
    return all_of(verdicts)


def _debiased(findings: Findings, tau: float):
    rows = [row for row in findings["debiased"] if row[TAU] == tau]
    return curve(rows, BETA, METRIC)


def _hardness(findings: Findings) -> Verdict:
    scores = {beta: x for beta, x in _debiased(findings, SHARE).items() if beta <= 1.0}
    return rises(scores)


def _debiasing(findings: Findings) -> Verdict:
    biased, debiased = _debiased(findings, 0.0)[0.0], _debiased(findings, SHARE)[0.0]
    return above(debiased, biased, (f"tau+ {SHARE:g}", "biased"))


def draw(figure, findings: Findings, published) -> None:
    """Plots scores against beta (HCL and ours), and the effect of filters by temperature."""
    left, middle, right = figure.subplots(1, 3)
    theirs = {0.0: published["debiased by tau+"]["0.1"]}
    theirs |= {float(b): y for b, y in published["HCL by beta, tau+ 0.1"].items()}
    left.plot(list(theirs), list(theirs.values()), "ko-", ms=4, label="HCL, tau+ 0.1")
    left.axhline(published["biased"], color="0.5", ls=":", label="biased")
    left.set(title="HCL, STL-10", ylabel="accuracy x 100", xlabel="beta")
    for tau in (0.0, SHARE):
        line(middle, _debiased(findings, tau), f"tau+ {tau:g}")
    middle.set(title=f"15 intents, at {HOT:g}", ylabel=METRIC, xlabel="beta")
    for name in FILTERS:
        line(right, curve(findings[name], TEMPERATURE, METRIC), name)
    right.set(title="15 intents, left out", xscale="log", xlabel="temperature", ylabel=METRIC)
    temperatures = list(curve(findings["no filter"], TEMPERATURE, METRIC))
    right.set_xticks(temperatures, [f"{t:g}" for t in temperatures])
    right.set_xticks([], minor=True)
    for plot in (left, middle, right):
        plot.legend(frameon=False, fontsize=8)


paper = Paper(
    name="T6",
    title="Hard and false negatives",
    source=(
        "Robinson et al., 2021, arXiv:2010.04592; Chuang et al., 2020, arXiv:2007.00224; Moreira "
        "et al., 2024, arXiv:2407.15831"
    ),
    published=PUBLISHED,
    claims=(
        Claim(
            "Masking false negatives that are known helps at each temperature.",
            lambda findings: _helps(findings, "same intent"),
        ),
        Claim(
            "Masking negatives above 0.95 of the positive's similarity helps at each temperature "
            "(NV-Retriever).",
            lambda findings: _helps(findings, "above 0.95 of positive"),
            "0.541 to 0.586, at one temperature",
        ),
        Claim(
            "Masking negatives more than 0.1 above the positive's similarity helps at each "
            "temperature (Qwen3).",
            lambda findings: _helps(findings, "above positive + 0.1"),
        ),
        Claim(
            "Ours: each of these three maskings helps more at the lowest temperature than at the "
            "highest.",
            _colder,
        ),
        Claim(
            "Up to a beta of 1, weighting hard negatives more helps (HCL).",
            _hardness,
            "84.26 at beta 0, 86.38 at 0.5, 87.44 at 1",
        ),
        Claim(
            "Subtracting the expected share of false negatives helps (debiased contrastive loss).",
            _debiasing,
            "80.15 biased, 84.26 at tau+ 0.1",
        ),
    ),
    differs=(
        "utterances of 15 intents and a bag of embeddings instead of images and ResNet-50; "
        "NV-Retriever's and Qwen3's rules leave out mined negatives, here in-batch ones, 7% of "
        "which are false"
    ),
    small=Setting(steps=400, values=(0.02, 0.05, 0.1, 0.5)),
    full=Setting(
        steps=10000,
        seeds=5,
        learning_rate=2e-5,
        model=Checkpoint(name="google-bert/bert-base-uncased"),
        values=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5),
    ),
    run=run,
    draw=draw,
)
