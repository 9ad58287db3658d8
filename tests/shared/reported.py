"""Folders of runs and sweeps written by hand, with numbers that are known."""

import json
from pathlib import Path

from contrastive.config import Experiment, Fixed, Objective, Retrieval

BM25 = {"nDCG@10": 0.5, "MRR@10": 0.25}
BASELINES = {"baselines": {"test": {"BM25": BM25}}}
TEMPERATURES = (0.05, 0.1, 0.5)
SCORES = {0.05: (0.6, 0.7), 0.1: (0.7, 0.8), 0.5: (0.4, None)}
"""validation/nDCG@10 of the two seeds; one has diverged at step 20."""
ABOUT = {
    "command": "contrastive sweep mine.py --workdir sweep",
    "hardware": {"devices": 8, "kind": "TPU v5e"},
    "versions": {"python": "3.11.7", "jax": "0.10.2"},
}


def experiment(**changes) -> Experiment:
    loss = Objective(temperature=0.05, policy=Fixed())
    scored = {"evaluators": {"validation": Retrieval("dev")}}
    scored |= {"final_evaluators": {"test": Retrieval("dev")}}
    return Experiment(name="by hand", steps=20, loss=loss, **scored).replace(**changes)


def scores(score: float) -> dict[str, float]:
    """All scores of a run, by that which selects."""
    validation = {"validation/nDCG@10": score}
    return validation | {"test/nDCG@10": score - 0.05, "test/MRR@10": score / 2}


def write_json(path: Path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def write_lines(path: Path, rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def bins(shares: dict[int, float]) -> list[float]:
    return [shares.get(place, 0.0) for place in range(100)]


def histogram(place: int, seed: int) -> dict[str, list[float]]:
    """Negatives at cosines -0.01 and 0.19, a little further to the right at each place."""
    return {
        "positive": bins({80 + 5 * place + seed: 1.0}),
        "negative": bins({49: 0.75, 59 + place: 0.25}),
        "gradient": bins({49: 0.6 - 0.2 * place, 59 + place: 0.4 + 0.2 * place}),
    }


def write_sweep(folder: Path, *, finished: bool = True, config: Experiment | None = None) -> Path:
    """Three temperatures with two seeds each."""
    rows, metrics, histograms = [], [], []
    for place, temperature in enumerate(TEMPERATURES):
        for seed in (0, 1):
            member, score = 2 * place + seed, SCORES[temperature][seed]
            ended = score is None
            row = {"member": member, "loss.temperature": temperature, "init_seed": seed}
            row |= {"diverged_at": 20 if ended else None, "best_step": None, "last/loss": 1.0}
            rows.append(row if ended else row | scores(score))
            for step, loss in ((10, 4.0 + member), (20, None if ended else 2.0 + member)):
                logged = {"step": step, "member": member, "loss": loss}
                logged |= {"temperature": temperature, "uniformity": -1.0 - member}
                metrics.append(logged | {"alignment": 0.5})
            histograms.append({"step": 20, "member": member, **histogram(place, seed)})
    program = folder / "programs" / "0" / "0"
    write_lines(program / "metrics.jsonl", metrics)
    write_lines(program / "histograms.jsonl", histograms)
    write_json(folder / "config.json", (config or experiment()).model_dump(mode="json"))
    identity = {"axes": {"loss.temperature": TEMPERATURES}, "seeds": 2}
    write_json(folder / "inputs.json", identity)
    if finished:
        table = {"name": "by hand", **identity, "rows": rows}
        table |= {"select_best": "validation/nDCG@10", "split": "test"}
        write_json(folder / "sweep.json", table | BASELINES | ABOUT)
    return folder


def write_run(
    folder: Path, score: float | None = 0.6, *, config: Experiment | None = None, losses=(4.0, 2.0)
) -> Path:
    """A run with histograms at steps 10 and 20; without a score it is not finished."""
    rows = [
        {"step": 10 * n, "loss": loss, "temperature": 0.1 * n, "grad_norm": 1.0}
        for n, loss in enumerate(losses, start=1)
    ]
    rows.append({"step": 10 * len(losses), "copied": 0.25})
    write_lines(folder / "metrics.jsonl", rows)
    looks = [{"step": 10 * n, **histogram(n, 0)} for n in range(1, len(losses) + 1)]
    write_lines(folder / "histograms.jsonl", looks)
    write_json(folder / "config.json", (config or experiment()).model_dump(mode="json"))
    write_json(folder / "inputs.json", {"train": "a fingerprint"})
    if score is not None:
        selected, *rest = scores(score).values()
        results = {"select_best": {"validation/nDCG@10": selected}, "split": "test"}
        results |= {"scores": {"test": dict(zip(("nDCG@10", "MRR@10"), rest, strict=True))}}
        task = {"evaluators": {"test": {"kind": "retrieval", "queries": 10, "documents": 20}}}
        results |= {**BASELINES, **task, **ABOUT}
        write_json(folder / "results.json", results)
    return folder
