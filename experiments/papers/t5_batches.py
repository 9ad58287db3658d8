"""T5. Batch size, temperature and decoupling: C-Pack, DCL, dual temperature.

contrastive reproduce T5
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from contrastive.config import Checkpoint, Decoupled, DualTemperature, InfoNCE
from contrastive.experiments.papers.paper_data import (
    TEMPERATURE,
    CaptionSearch,
    caption_search,
    captions,
    experiment,
    line,
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
    shown,
    swept,
)
from contrastive.tasks import Evaluator

if TYPE_CHECKING:
    from contrastive import Encoder

PUBLISHED = {
    "C-Pack, retrieval by batch": {"256": 57.25, "2048": 60.96, "19200": 63.90},
    "C-Pack, clustering by batch": {"256": 49.52, "2048": 49.04, "19200": 47.73},
    "DCL, ImageNet at batch 256": {"SimCLR": 61.8, "DCL": 68.2},
    "dual temperature, CIFAR-100 by batch": {
        "MoCo v2": {"64": 52.58, "128": 54.40, "256": 53.28, "512": 51.47, "1024": 48.90},
        "SimCo": {"64": 58.04, "128": 58.29, "256": 58.35, "512": 57.08, "1024": 55.34},
    },
}
LOSSES = {
    "info_nce": InfoNCE(),
    "decoupled": Decoupled(),
    "dual_temperature": DualTemperature(),
}


class CaptionRecall(Evaluator):
    """Evaluates caption search: the first caption of an image should find its other captions."""

    data: str
    """The data folder."""

    main_metric: ClassVar[str] = "recall@1"

    def load(self) -> CaptionSearch:
        return caption_search(Path(self.data), "test")

    def evaluate(self, encoder: Encoder, data: CaptionSearch) -> dict[str, float]:
        texts = (data.queries, data.documents)
        queries, documents = (unit(encoder.encode_documents(x)) for x in texts)
        return {"recall@1": recall_at_1(queries, documents, data.answers)}


def run(setting: Setting, where: Where) -> Findings:
    """Trains with each loss at each batch size; runs of the same size share one program."""
    images = captions(where.data, "train")
    rows = ({"query": texts[0], "pos": texts[1:]} for texts in images)
    train = write_rows(where.workdir / "data" / "captions.jsonl", rows)
    scores = CaptionRecall(data=str(where.data))
    findings: Findings = {}
    for name, function in LOSSES.items():
        base = experiment(f"batches of {name}", setting, train, scores)
        base = base.replace(**{"loss.function": function})
        axes = {"batch_size": setting.batch_sizes, TEMPERATURE: setting.values}
        findings[name] = swept(Grid(base, axes, setting.seeds), where.workdir / name)
    return findings


def _batches(findings: Findings) -> list[int]:
    return sorted({row["batch_size"] for row in findings["info_nce"]})


def _at(findings: Findings, loss: str, temperature: float):
    rows = [row for row in findings[loss] if row[TEMPERATURE] == temperature]
    return curve(rows, "batch_size", "recall@1")


def _larger(findings: Findings) -> Verdict:
    temperatures = sorted({row[TEMPERATURE] for row in findings["info_nce"]})
    return all_of({f"at {t:g}": rises(_at(findings, "info_nce", t)) for t in temperatures})


def _gain(findings: Findings, batch: int, temperature: float) -> Sample:
    """Computes the gain of DCL over InfoNCE, paired by seed: same initialization and batches."""
    plain, decoupled = (_at(findings, x, temperature)[batch] for x in ("info_nce", "decoupled"))
    return decoupled - plain


def _decoupled(findings: Findings) -> Verdict:
    gains = {b: _gain(findings, b, 0.02) for b in _batches(findings)}
    numbers = ", ".join(f"{shown(gain)} at batch {b}" for b, gain in gains.items())
    small = {f"at batch {b}": gains[b].interval for b in sorted(gains)[:-1]}
    return judge(small, f"temperature 0.02: {numbers}")


def _small_temperatures(findings: Findings) -> Verdict:
    temperatures = sorted({row[TEMPERATURE] for row in findings["info_nce"]})
    low, high = temperatures[0], temperatures[-1]
    batch = _batches(findings)[1]
    cold, hot = (_gain(findings, batch, t) for t in (low, high))
    return above(cold, hot, (f"gain at batch {batch} and {low:g}", f"at {high:g}"))


def _dual(findings: Findings) -> Verdict:
    dual, plain = (_at(findings, loss, 0.1) for loss in ("dual_temperature", "info_nce"))
    return all_of({f"at batch {b}": above(dual[b], plain[b], ("dual", "InfoNCE")) for b in plain})


def draw(figure, findings: Findings, published) -> None:
    """Plots retrieval against batch size: C-Pack, and ours by loss and temperature."""
    left, right = figure.subplots(1, 2)
    theirs = {int(b): y for b, y in published["C-Pack, retrieval by batch"].items()}
    left.plot(list(theirs), list(theirs.values()), "ko-", ms=4)
    left.set(title="C-Pack (BGE), retrieval", ylabel="nDCG@10 x 100")
    styles = {"info_nce": "-", "decoupled": "--", "dual_temperature": ":"}
    for number, t in enumerate(sorted({row[TEMPERATURE] for row in findings["info_nce"]})):
        for loss, style in styles.items():
            name = f"{loss}, {t:g}" if number == 0 or loss == "info_nce" else ""
            line(right, _at(findings, loss, t), name, color=f"C{number}", ls=style)
    right.set(title="captions, bag of embeddings", ylabel="recall@1")
    right.legend(frameon=False, fontsize=8)
    for plot in (left, right):
        plot.set(xscale="log", xlabel="batch size")
    for plot, sizes in ((left, theirs), (right, _batches(findings))):
        plot.set_xticks(list(sizes), [f"{size:,}" for size in sizes])
        plot.set_xticks([], minor=True)


paper = Paper(
    name="T5",
    title="Batches, temperature and decoupling",
    source=(
        "Xiao et al., 2023, arXiv:2309.07597, Table 4; Yeh et al., 2021, arXiv:2110.06848; Zhang "
        "et al., 2022, arXiv:2203.17248"
    ),
    published=PUBLISHED,
    claims=(
        Claim(
            "Retrieval improves with the batch size at every temperature (C-Pack).",
            _larger,
            "57.25 at 256, 60.96 at 2,048, 63.90 at 19,200",
        ),
        Claim(
            "At 0.02, decoupling helps at every batch size but the largest (DCL).",
            _decoupled,
            "68.2, 6.4 more than SimCLR, at 256",
        ),
        Claim(
            "Decoupling helps more at a low temperature than at a high one.", _small_temperatures
        ),
        Claim(
            "Dual temperature helps at every batch size (SimCo).",
            _dual,
            "58.04 against 52.58 at 64, 55.34 against 48.90 at 1,024",
        ),
    ),
    differs=(
        "captions and a bag of embeddings instead of 200M text pairs or images, batches of 8 to "
        "128, no memory bank; as many steps at each batch, so that a larger one sees more pairs; "
        "SimCo's comparison is with MoCo v2, ours with InfoNCE"
    ),
    small=Setting(steps=600, values=(0.02, 0.1, 0.5), batch_sizes=(8, 32, 128)),
    full=Setting(
        steps=20000,
        batch_sizes=(256, 2048, 16384),
        learning_rate=2e-5,
        model=Checkpoint(name="google-bert/bert-base-uncased"),
        values=(0.02, 0.1, 0.5),
    ),
    run=run,
    draw=draw,
)
