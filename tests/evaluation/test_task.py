"""Held-out rows are encoded as rows are in training."""

import dataclasses
import json
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))

from tiny import experiment

from contrastive.data.example import Example
from contrastive.data.groups import Rules, draw_group
from contrastive.evaluation import bm25
from contrastive.evaluation.retrieval import evaluate, evaluate_bm25
from contrastive.evaluation.task import from_examples
from contrastive.training.assemble import assemble

RULES = Rules(group_size=3, query_prompt="Q: ", document_prompt="D: ", row_prompt="<{}> ")
ROWS = [
    Example("ka ba", ("ka de",), ("lo fi", "mi gu")),
    Example("ka ba", ("ka fi",), ("lo fi", "nu de"), prompt="say"),  # asked in another way
    Example("re so", ("lo fi",), ("so re", "mi ba"), prompt="pair", kind="symmetric_sts"),
    Example("nu nu", ("mi gu",), ("ba ba", "ka ka"), kind="symmetric_clustering"),
    Example("gu gu", ("nu de",), ("ka ba", "so so"), prompt=""),
]


@dataclasses.dataclass
class Recording:
    """An encoder that keeps what it is given; equal texts have equal vectors."""

    query_prompt: str = "encoder's "
    document_prompt: str = "encoder's "
    query_length: int = 16
    document_length: int = 24
    seen: list = dataclasses.field(default_factory=list)

    def encode(self, params, texts, max_length, name):
        self.seen += [(name, text, max_length) for text in texts]
        return np.stack([np.random.default_rng(list(t.encode())).normal(size=8) for t in texts])


def encoded(task):
    encoder = Recording()
    evaluate(encoder, {}, task)
    return set(encoder.seen)


def trained_on(rows, rules):
    groups = [draw_group(row, np.random.default_rng(0), rules=rules) for row in rows]
    queries = {("queries", group.query, 16) for group in groups}
    return queries | {("documents", text, 24) for group in groups for text in group.documents}


def test_evaluation_encodes_what_training_encodes():
    assert encoded(from_examples(ROWS, "held out", RULES)) == trained_on(ROWS, RULES)


def test_a_text_is_the_same_text_under_every_prompt():
    """As in training, where a known positive is no negative whatever is put before it."""
    task = from_examples(ROWS, "held out", RULES)
    found = {
        (task.query_prompts[q], task.queries[q]): {
            (task.document_prompts[d], task.corpus[d]): gain for d, gain in gains.items()
        }
        for q, gains in task.relevant.items()
    }
    assert found == {
        ("Q: ", "ka ba"): {("D: ", "ka de"): 1},
        ("<say> ", "ka ba"): {("D: ", "ka fi"): 1},
        ("<pair> ", "re so"): {("<pair> ", "lo fi"): 1, ("D: ", "lo fi"): 1},
        ("Q: ", "nu nu"): {("Q: ", "mi gu"): 1, ("D: ", "mi gu"): 1},
        ("<> ", "gu gu"): {("D: ", "nu de"): 1},
    }


def test_without_rules_the_encoders_own_prompts_are_used():
    texts = {text for kind, text, _ in encoded(from_examples(ROWS, "held out")) if kind[0] == "q"}
    assert texts == {f"encoder's {text}" for text in ("ka ba", "re so", "nu nu", "gu gu")}


def test_bm25_sees_no_prompts(monkeypatch):
    seen = []

    def rank(queries, corpus, *, k):
        seen.extend([*queries, *corpus])
        return np.zeros((len(queries), 1), int)

    monkeypatch.setattr(bm25, "rank", rank)
    evaluate_bm25(from_examples(ROWS, "held out", RULES))
    assert set(seen) == {text for r in ROWS for text in (r.query, *r.positives, *r.negatives)}


def test_a_run_evaluates_by_the_rules_it_trains_by(tmp_path):
    prompts = {
        "data.query_prompt": "Q: ",
        "data.document_prompt": "D: ",
        "data.row_prompt": "<{}> ",
    }
    config = experiment(tmp_path, **prompts)
    rows = [
        {
            "query": r.query,
            "pos": r.positives,
            "neg": r.negatives,
            "prompt": r.prompt,
            "type": r.kind,
        }
        for r in ROWS
    ]
    (tmp_path / "held_out.jsonl").write_text("\n".join(map(json.dumps, rows)))
    parts = assemble(config)
    assert encoded(parts.validation) == trained_on(ROWS, RULES)
    assert evaluate(parts.encoder, parts.init().params["encoder"], parts.validation)
