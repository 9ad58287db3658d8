"""T6. Hard and false negatives: debiasing, hardness, filters.

contrastive reproduce T6
"""

from __future__ import annotations

import random
from collections import defaultdict

from material import TEMPERATURE, experiment, intents, line, nearest_class, unit, write_rows

from contrastive.config import Checkpoint, HardNegative
from contrastive.lab.claims import Verdict, above, curve, rises, shown
from contrastive.lab.grid import Grid
from contrastive.lab.paper import Claim, Findings, Paper, Setting, Where, swept
from contrastive.lab.table import Interval, interval

PUBLISHED = {
    "metric of HCL": "STL-10, linear probe, ResNet-50, batch 256, temperature 0.5, accuracy x 100",
    "biased": 80.15,
    "debiased by tau+": {"0.05": 81.85, "0.1": 84.26},
    "HCL by beta, tau+ 0.1": {"0.5": 86.38, "1": 87.44, "2": 87.09, "6": 83.09},
    "NV-Retriever, nDCG@10 of three BEIR sets": {"unfiltered": 0.541, "below 0.95": 0.586},
}
METRIC = "accuracy of 10 nearest"
BETA, TAU, ABOVE = "loss.function.beta", "loss.function.tau_plus", "loss.above_positive"
HOT = 0.5  # HCL's temperature
NEVER = 3.0  # no cosine is so far above another


def run(setting: Setting, where: Where) -> Findings:
    """An utterance and another of its intent: a batch of 256 has more than one of most intents."""
    texts, labels = intents(where.data, "train")
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
    asked, truth = intents(where.data, "test")

    def score(encoder, params):
        known, tested = (unit(encoder.documents(params, x)) for x in (texts, asked))
        return {METRIC: nearest_class(known, labels, tested, truth)}

    base = experiment("false negatives", setting, train)
    blind = base.replace(**{"loss.mask_false_negatives": False, ABOVE: NEVER})
    oracle = base.replace(**{"loss.mask_false_negatives": True, ABOVE: NEVER})
    hard = blind.replace(**{"loss.function": HardNegative(), ABOVE: None, TEMPERATURE: HOT})
    heat = {TEMPERATURE: setting.values}
    grids = {
        "filtered": Grid(blind, {TEMPERATURE: setting.values, ABOVE: (0.1, NEVER)}, setting.seeds),
        "oracle": Grid(oracle, heat, setting.seeds),
        "debiased": Grid(hard, {BETA: (0.0, 0.5, 1.0, 2.0), TAU: (0.0, 0.01)}, setting.seeds),
    }
    return {name: swept(grid, where.workdir / name, score) for name, grid in grids.items()}


def _filtered(findings: Findings, above_positive: float):
    rows = [row for row in findings["filtered"] if row[ABOVE] == above_positive]
    return curve(rows, TEMPERATURE, METRIC)


def _gain(findings: Findings, rows: list, temperature: float) -> Interval:
    """Over no filter, seed by seed: they start from the same parameters and see the same."""

    def scores(rows):
        return {row["init_seed"]: row[METRIC] for row in rows if row[TEMPERATURE] == temperature}

    plain = scores(row for row in findings["filtered"] if row[ABOVE] == NEVER)
    other = scores(rows)
    return interval([other[seed] - plain[seed] for seed in plain])


def _temperatures(findings: Findings) -> list[float]:
    return sorted({row[TEMPERATURE] for row in findings["oracle"]})


def _colder(findings: Findings, rows: list) -> Verdict:
    low, *_, high = _temperatures(findings)
    gains = {t: _gain(findings, rows, t) for t in _temperatures(findings)}
    numbers = ", ".join(f"{shown(gain)} at {t:g}" for t, gain in gains.items())
    return Verdict(gains[low].low > gains[high].high, f"gain {numbers}")


def _oracle(findings: Findings) -> Verdict:
    return _colder(findings, findings["oracle"])


def _margin(findings: Findings) -> Verdict:
    return _colder(findings, [row for row in findings["filtered"] if row[ABOVE] == 0.1])


def _oracle_helps(findings: Findings) -> Verdict:
    gains = {t: _gain(findings, findings["oracle"], t) for t in _temperatures(findings)}
    numbers = ", ".join(f"{shown(gain)} at {t:g}" for t, gain in gains.items())
    return Verdict(all(gain.low > 0 for gain in gains.values()), f"gain {numbers}")


def _debiased(findings: Findings, tau: float):
    rows = [row for row in findings["debiased"] if row[TAU] == tau]
    return curve(rows, BETA, METRIC)


def _hardness(findings: Findings) -> Verdict:
    found = {beta: x for beta, x in _debiased(findings, 0.0).items() if beta <= 1.0}
    return rises(found)


def _debiasing(findings: Findings) -> Verdict:
    plain, off = _debiased(findings, 0.0)[0.0], _debiased(findings, 0.01)[0.0]
    return above(off, plain, ("tau+ 0.01", "biased"))


def draw(figure, findings: Findings, published) -> None:
    """HCL's betas and ours, and what filters do by temperature."""
    left, middle, right = figure.subplots(1, 3)
    theirs = {float(b): y for b, y in published["HCL by beta, tau+ 0.1"].items()}
    left.plot(list(theirs), list(theirs.values()), "ko-", ms=4, label="HCL, tau+ 0.1")
    left.axhline(published["biased"], color="0.5", ls=":", label="biased")
    left.set(title="HCL, STL-10", ylabel="accuracy x 100", xlabel="beta")
    for tau in (0.0, 0.01):
        line(middle, _debiased(findings, tau), f"tau+ {tau:g}")
    middle.set(title=f"CLINC150 at {HOT:g}", ylabel="10 nearest, accuracy", xlabel="beta")
    for limit, name in ((NEVER, "no filter"), (0.1, "above positive + 0.1")):
        line(right, _filtered(findings, limit), name)
    line(right, curve(findings["oracle"], TEMPERATURE, METRIC), "same intent (oracle)")
    right.set(title="CLINC150, filters", xscale="log", xlabel="temperature")
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
            "Leaving out false negatives that are known helps at every temperature",
            _oracle_helps,
            "0.541 to 0.586 (NV-Retriever)",
        ),
        Claim("It helps more at the lowest temperature than at the highest", _oracle),
        Claim("So does leaving out those 0.1 above the positive (Qwen3's margin)", _margin),
        Claim(
            "Up to 1, weighting hard negatives up helps (HCL)",
            _hardness,
            "84.26 at beta 0, 86.38 at 0.5, 87.44 at 1",
        ),
        Claim(
            "Taking expected false negatives off helps (debiased)",
            _debiasing,
            "80.15 biased, 84.26 at tau+ 0.1",
        ),
    ),
    differs=(
        "utterances of 150 intents and a bag of embeddings instead of images and ResNet-50; one "
        "false negative in 150 by chance, so tau+ is 0.01 and not 0.1"
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
