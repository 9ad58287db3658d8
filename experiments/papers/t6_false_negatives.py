"""T6. Hard and false negatives: debiasing, hardness, filters.

contrastive reproduce T6
"""

from __future__ import annotations

import random
from collections import defaultdict

from material import (
    TEMPERATURE,
    experiment,
    intents,
    line,
    mean_average_precision,
    unit,
    write_rows,
)

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
METRIC = "MAP@R"
BETA, TAU = "loss.function.beta", "loss.function.tau_plus"
HOT = 0.5  # HCL's temperature
EVERY = 10  # of the 150 intents one in ten: a batch then has 17 of each
SHARE = round(EVERY / 150, 3)  # of the negatives that are false
FILTERS = {
    "no filter": {},
    "same intent": {"loss.mask_false_negatives": True},
    "above positive + 0.1": {"loss.above_positive": 0.1},
    "above 0.95 of positive": {"loss.relative_to_positive": 0.95},
}


def run(setting: Setting, where: Where) -> Findings:
    """An utterance and another of its intent are positives, and so are many of the negatives."""
    texts, labels = some_intents(where, "train")
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
    asked, truth = some_intents(where, "test")

    def score(encoder, params):
        return {METRIC: mean_average_precision(unit(encoder.documents(params, asked)), truth)}

    base = experiment("false negatives", setting, train)
    blind = base.replace(**{"loss.mask_false_negatives": False})
    hard = blind.replace(**{"loss.function": HardNegative(), TEMPERATURE: HOT})
    heat = {TEMPERATURE: setting.values}
    grids = {
        **{name: Grid(blind.replace(**on), heat, setting.seeds) for name, on in FILTERS.items()},
        "debiased": Grid(hard, {BETA: (0.0, 0.5, 1.0, 2.0), TAU: (0.0, SHARE)}, setting.seeds),
    }
    return {
        name: swept(grid, where.workdir / name.replace(" ", "_"), score)
        for name, grid in grids.items()
    }


def some_intents(where: Where, split: str) -> tuple[list[str], list[str]]:
    """Utterances of some intents."""
    texts, labels = intents(where.data, split)
    chosen = set(sorted(set(labels))[::EVERY])
    pairs = [pair for pair in zip(texts, labels, strict=True) if pair[1] in chosen]
    return [text for text, _ in pairs], [label for _, label in pairs]


def _gains(findings: Findings, name: str) -> dict[float, Interval]:
    """Over no filter, seed by seed: they start from the same parameters and see the same."""

    def scores(rows):
        return {
            (row[TEMPERATURE], row["init_seed"]): row[METRIC]
            for row in rows
            if row["diverged_at"] is None
        }

    plain, filtered = scores(findings["no filter"]), scores(findings[name])
    gains = defaultdict(list)
    for key in sorted(plain.keys() & filtered.keys()):
        gains[key[0]].append(filtered[key] - plain[key])
    return {temperature: interval(found) for temperature, found in gains.items()}


def _numbers(gains: dict[float, Interval]) -> str:
    return "gain " + ", ".join(f"{shown(gain)} at {t:g}" for t, gain in gains.items())


def _colder(findings: Findings, name: str) -> Verdict:
    """It helps at the lowest temperature, and more than at the highest."""
    gains = _gains(findings, name)
    low, high = gains[min(gains)], gains[max(gains)]
    return Verdict(low.low > max(0.0, high.high), _numbers(gains))


def _debiased(findings: Findings, tau: float):
    rows = [row for row in findings["debiased"] if row[TAU] == tau]
    return curve(rows, BETA, METRIC)


def _hardness(findings: Findings) -> Verdict:
    found = {beta: x for beta, x in _debiased(findings, SHARE).items() if beta <= 1.0}
    return rises(found)


def _debiasing(findings: Findings) -> Verdict:
    plain, off = _debiased(findings, 0.0)[0.0], _debiased(findings, SHARE)[0.0]
    return above(off, plain, (f"tau+ {SHARE:g}", "biased"))


def draw(figure, findings: Findings, published) -> None:
    """HCL's betas and ours, and what filters do by temperature."""
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
    right.set(title="15 intents, left out", xscale="log", xlabel="temperature")
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
            "Leaving out false negatives that are known helps, most at the lowest temperature",
            lambda findings: _colder(findings, "same intent"),
        ),
        Claim(
            "So does leaving out those above 0.95 of the positive (NV-Retriever)",
            lambda findings: _colder(findings, "above 0.95 of positive"),
            "0.541 to 0.586, at one temperature",
        ),
        Claim(
            "So does leaving out those 0.1 above the positive (Qwen3)",
            lambda findings: _colder(findings, "above positive + 0.1"),
        ),
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
        "utterances of 15 intents and a bag of embeddings instead of images and ResNet-50; "
        "NV-Retriever's and Qwen3's rules leave out mined negatives, here in-batch ones, 7 % of "
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
