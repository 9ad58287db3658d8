"""T7. Ways to set the temperature: CLIP, SigLIP, MACL, schedules, iSogCLR, artanh.

contrastive reproduce T7
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

import numpy as np

from contrastive.config import (
    Artanh,
    Individual,
    InfoNCE,
    Learned,
    ModelAware,
    Objective,
    Oscillating,
    SigLIP,
    SogCLR,
    WarmDown,
)
from contrastive.experiments.papers.paper_data import (
    BILINGUAL,
    TEMPERATURE,
    experiment,
    line,
    parallel,
    write_rows,
)
from contrastive.experiments.papers.paper_scores import recall_at_1, unit
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
    sample,
    shown,
    swept,
)
from contrastive.tasks import Evaluator

if TYPE_CHECKING:
    from contrastive import Encoder

PUBLISHED = {
    "CLIP": "learned from 0.07, logit scale clipped at 100",
    "SigLIP, ImageNet 0-shot": {
        "no bias": 62.0,
        "b -10, t' log 10": 63.0,
        "b -10, t' log 1": 61.0,
        "b 0, t' log 10": 61.7,
        "b 0, t' log 1": 53.7,
    },
    "MACL, SimCLR by batch": {
        "fixed": {"256": 61.9, "512": 64.0, "1024": 65.3, "2048": 66.1},
        "MACL": {"256": 64.3, "512": 65.2, "1024": 66.5, "2048": 66.9},
    },
    "MACL, SimCSE": {"fixed": 76.25, "MACL": 76.66},
}
STARTS = {"learned": (0.07, 0.2, 0.5), "MACL": (0.02, 0.05, 0.1)}
COLLAPSED = 0.5  # share of the other score below which a run has not learned
OTHERS = 9000  # documents that answer no query; without them, all scores would be near 1


def policies(steps: int) -> dict[str, Objective]:
    """Returns an objective for each way to set the temperature.

    Args:
      steps: Number of steps of a run, which schedules are relative to.

    Returns:
      The objectives by name.
    """
    learned = Learned(minimum=0.005, learning_rate=1e-2)
    return {
        "MACL": Objective(function=ModelAware()),
        "oscillating": Objective(temperature=1.0, policy=Oscillating(other=0.1, period=steps // 2)),
        "warm-down": Objective(temperature=0.1, policy=WarmDown(start=1.0, steps=steps // 2)),
        "iSogCLR": Objective(function=SogCLR(rho=0.4), temperature=0.1, policy=Individual()),
        "artanh": Objective(function=Artanh()),
        "SigLIP, b -10": Objective(function=SigLIP(bias=-10.0), temperature=0.1, policy=learned),
        "SigLIP, b 0": Objective(function=SigLIP(bias=0.0), temperature=0.1, policy=learned),
        "learned": Objective(function=InfoNCE(), policy=learned),
    }


class _Translations(NamedTuple):
    queries: list[str]
    documents: list[str]
    answers: np.ndarray


class TranslationRecall(Evaluator):
    """Evaluates the search for translations of test captions among many German captions."""

    data: str
    """The data folder."""

    main_metric: ClassVar[str] = "recall@1"

    def load(self) -> _Translations:
        train, test = (parallel(Path(self.data), split) for split in ("train", "test"))
        documents = [german for _, german in [*test, *train[:OTHERS]]]
        answers = np.r_[np.arange(len(test)), np.full(OTHERS, -1)]
        return _Translations([english for english, _ in test], documents, answers)

    def evaluate(self, encoder: Encoder, data: _Translations) -> dict[str, float]:
        texts = (data.queries, data.documents)
        queries, documents = (unit(encoder.encode_documents(x)) for x in texts)
        return {"recall@1": recall_at_1(queries, documents, data.answers)}


def run(setting: Setting, where: Where) -> Findings:
    """Trains on English captions and their German translations, with each policy."""
    rows = (
        {"query": english, "pos": [german]} for english, german in parallel(where.data, "train")
    )
    train = write_rows(where.workdir / "data" / "parallel.jsonl", rows)
    scores = TranslationRecall(data=str(where.data))

    def trained(loss: Objective, axes: dict, name: str):
        base = experiment(name, setting, train, scores).replace(loss=loss)
        folder = where.workdir / name.replace(" ", "_").replace(",", "")
        return swept(Grid(base, axes, setting.seeds), folder)

    findings = {"fixed": trained(Objective(), {TEMPERATURE: setting.values}, "fixed")}
    for name, loss in policies(setting.steps).items():
        axes = {TEMPERATURE: STARTS[name]} if name in STARTS else {}
        findings[name] = trained(loss, axes, name)
    return findings


def _only(findings: Findings, name: str) -> Sample:
    return sample(findings[name], "recall@1")


def _at(findings: Findings, name: str, temperature: float) -> Sample:
    return curve(findings[name], TEMPERATURE, "recall@1")[temperature]


def _best_fixed(findings: Findings) -> tuple[float, Sample]:
    recalls = curve(findings["fixed"], TEMPERATURE, "recall@1")
    best = max(recalls, key=lambda t: recalls[t].mean)
    return best, recalls[best]


def _learned_ends(findings: Findings) -> Verdict:
    best, _ = _best_fixed(findings)
    learned = curve(findings["learned"], TEMPERATURE, "last/temperature")
    ends = {start: x for start, x in learned.items() if start > best}
    numbers = ", ".join(f"from {start:g} it ends at {shown(x)}" for start, x in ends.items())
    below = {f"from {start:g}": ((x - best) * -1).interval for start, x in ends.items()}
    return judge(below, f"{numbers}; best fixed {best:g}")


def _learned_loses(findings: Findings) -> Verdict:
    best, fixed = _best_fixed(findings)
    return above(fixed, _at(findings, "learned", 0.07), (f"fixed at {best:g}", "learned from 0.07"))


def _loss_prefers(findings: Findings) -> Verdict:
    best, _ = _best_fixed(findings)
    losses = curve(findings["fixed"], TEMPERATURE, "last/loss")
    return rises({t: x for t, x in losses.items() if t <= best})


def _bias(findings: Findings) -> Verdict:
    """Compares only runs that have learned: a run that collapsed says nothing of the claim."""
    ten, zero = (_only(findings, f"SigLIP, b {bias}") for bias in ("-10", "0"))
    verdict = above(ten, zero, ("-10", "0"))
    if zero.mean > COLLAPSED * ten.mean:
        return verdict
    why = "the runs with 0 collapsed, and the paper's did not, so that they cannot be compared"
    return Verdict("undecided", f"{verdict.because}; {why}")


def _model_aware(findings: Findings) -> Verdict:
    ours, fixed = (_at(findings, name, 0.1) for name in ("MACL", "fixed"))
    return above(ours, fixed, ("MACL at 0.1", "fixed at 0.1"))


def _model_aware_below(findings: Findings) -> Verdict:
    names = ("MACL", "fixed")
    return all_of(
        {
            f"at {t:g}": above(*(_at(findings, name, t) for name in names), names)
            for t in (0.02, 0.05)
        }
    )


def _artanh(findings: Findings) -> Verdict:
    cold, hot = (_at(findings, "fixed", t) for t in (0.02, 1.0))
    artanh = _only(findings, "artanh")
    return judge(
        {"against 0.02": (artanh - cold).interval, "against 1": (artanh - hot).interval},
        f"artanh {shown(artanh)}, fixed {shown(cold)} at 0.02, {shown(hot)} at 1",
    )


def draw(figure, findings: Findings, published) -> None:
    """Plots the results of SigLIP, our curve of fixed temperatures, and the other policies."""
    left, right = figure.subplots(1, 2, width_ratios=(1, 2))
    theirs = published["SigLIP, ImageNet 0-shot"]
    left.barh(list(theirs), list(theirs.values()), color="0.4")
    left.set(title="SigLIP, ImageNet 0-shot", xlabel="accuracy x 100", xlim=(50, 65))
    fixed = curve(findings["fixed"], TEMPERATURE, "recall@1")
    line(right, fixed, "fixed")
    learned = curve(findings["learned"], TEMPERATURE, "recall@1")
    ends = curve(findings["learned"], TEMPERATURE, "last/temperature")
    for start in learned:
        right.annotate(
            "",
            (ends[start].mean, learned[start].mean),
            (start, learned[start].mean),
            arrowprops={"arrowstyle": "->", "color": "C1"},
        )
    right.plot([], [], color="C1", label="learned, from start to end")
    line(right, curve(findings["MACL"], TEMPERATURE, "recall@1"), "MACL", color="C2")
    names = [name for name in findings if name not in ("fixed", *STARTS)]
    for number, name in enumerate(names):
        label = f"{name}: {shown(_only(findings, name))}"
        right.axhline(_only(findings, name).mean, color=f"C{number + 3}", lw=1, label=label)
    right.set(xscale="log", xlabel="temperature", ylabel="recall@1, English to German")
    # Some policies score below this range.
    right.set(ylim=(min(y.low for y in fixed.values()) - 0.05, 1.0))
    right.legend(frameon=False, fontsize=7, loc="lower center", ncols=2)


paper = Paper(
    name="T7",
    title="Temperature policies",
    source=(
        "Radford et al., 2021, arXiv:2103.00020; Zhai et al., 2023, arXiv:2303.15343; Huang et "
        "al., 2023, arXiv:2207.07874; Kukleva et al., 2023, arXiv:2303.13664; Qiu et al., 2023, "
        "arXiv:2305.11965; Kim & Kim, 2025, arXiv:2501.17683"
    ),
    published=PUBLISHED,
    claims=(
        Claim(
            "A learned temperature that starts above the best fixed one ends below it.",
            _learned_ends,
        ),
        Claim(
            "A temperature learned from CLIP's 0.07 scores lower than the best fixed one.",
            _learned_loses,
        ),
        Claim(
            "Up to the best fixed temperature, the training loss rises with temperature.",
            _loss_prefers,
        ),
        Claim(
            "SigLIP scores higher with an initial bias of -10 than with one of 0.",
            _bias,
            "63.0 with -10, 61.7 with 0",
        ),
        Claim(
            "MACL at 0.1 scores higher than a fixed temperature of 0.1.",
            _model_aware,
            "64.3 against 61.9 at batch 256",
        ),
        Claim(
            "Ours: MACL scores higher than fixed temperatures that are too low, 0.02 and 0.05.",
            _model_aware_below,
        ),
        Claim(
            "The loss artanh, which has no temperature, scores higher than both a low and "
            "a high fixed one.",
            _artanh,
            "no temperature to choose",
        ),
    ),
    differs=(
        "captions in two languages and one bag of embeddings instead of images and texts and two "
        "transformers; the first two claims are what an early run of ours found, not the papers'"
    ),
    small=Setting(steps=300, values=(0.01, 0.02, 0.05, 0.1, 0.2, 1.0)),
    full=BILINGUAL,
    run=run,
    draw=draw,
)
