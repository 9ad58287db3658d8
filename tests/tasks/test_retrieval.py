"""Held-out rows are encoded as rows are in training."""

import dataclasses
import json

import numpy as np

from contrastive import config
from contrastive.data.groups import GroupRules, draw_group
from contrastive.sources._example import Example
from contrastive.sources._examples import Examples, as_row
from contrastive.tasks import Retrieval
from contrastive.tasks.retrieval import bm25
from contrastive.tasks.retrieval.collections import from_examples
from contrastive.training.build import build

RULES = GroupRules(group_size=3, query_prompt="Q: ", document_prompt="D: ", row_prompt="<{}> ")
ROWS = [
    Example("ka ba", ("ka de",), ("lo fi", "mi gu")),
    Example("ka ba", ("ka fi",), ("lo fi", "nu de"), prompt="say"),  # asked in another way
    Example("re so", ("lo fi",), ("so re", "mi ba"), prompt="pair", kind="symmetric_sts"),
    Example("nu nu", ("mi gu",), ("ba ba", "ka ka"), kind="symmetric_clustering"),
    Example("gu gu", ("nu de",), ("ka ba", "so so"), prompt=""),
]
TASK = Retrieval("held_out.jsonl", row_prompt=RULES.row_prompt)


def collection(row_prompt=RULES.row_prompt):
    return from_examples(Examples.of(ROWS, "rows"), "held out", row_prompt)


@dataclasses.dataclass
class Recording:
    """An encoder that keeps what it is given; equal texts have equal vectors."""

    query_prompt: str = RULES.query_prompt
    document_prompt: str = RULES.document_prompt
    query_length: int = 16
    document_length: int = 24
    seen: list = dataclasses.field(default_factory=list)

    def encode(self, texts, *, max_length, label):
        self.seen += [(label, text, max_length) for text in texts]
        return np.stack([np.random.default_rng(list(t.encode())).normal(size=8) for t in texts])


def encoded(collection, **prompts):
    encoder = Recording(**prompts)
    TASK.evaluate(encoder, collection)
    return set(encoder.seen)


def trained_on(rows, rules):
    groups = [draw_group(row, np.random.default_rng(0), rules=rules) for row in rows]
    queries = {("queries", group.query, 16) for group in groups}
    return queries | {("documents", text, 24) for group in groups for text in group.documents}


def test_evaluation_encodes_what_training_encodes():
    assert encoded(collection()) == trained_on(ROWS, RULES)


def test_a_text_is_the_same_text_under_every_prompt():
    """As in training, where a known positive is no negative whatever is put before it."""
    task = collection()
    prompts = {None: "Q: ", "of documents": "D: "}

    def document_prompt(id):
        own = task.document_prompts.get(id, "of documents")
        return prompts.get(own, own)

    found = {
        (task.query_prompts.get(q, "Q: "), task.queries[q]): {
            (document_prompt(d), task.corpus[d]): gain for d, gain in gains.items()
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


def test_rows_without_a_prompt_have_the_encoders_own():
    own = {"query_prompt": "ask: ", "document_prompt": "text: "}
    texts = {(kind, text) for kind, text, _ in encoded(collection("{}: "), **own)}
    assert {text for kind, text in texts if kind == "queries"} == {
        *("ask: ka ba", "ask: nu nu"),
        *("say: ka ba", "pair: re so", ": gu gu"),
    }
    documents = {text for kind, text in texts if kind == "documents"}
    assert {text.partition(":")[0] for text in documents} == {"text", "ask", "pair"}
    assert {"text: ka de", "ask: mi gu", "pair: lo fi", "text: lo fi"} <= documents


def test_bm25_sees_no_prompts(monkeypatch):
    seen = []

    def rank(queries, corpus, *, k):
        seen.extend([*queries, *corpus])
        return np.zeros((len(queries), 1), int)

    monkeypatch.setattr(bm25, "rank", rank)
    TASK.baselines(collection())
    assert set(seen) == {text for r in ROWS for text in (r.query, *r.positives, *r.negatives)}


def written(path, rows):
    path.write_text("\n".join(json.dumps(as_row(row)) for row in rows))
    return str(path)


def test_a_run_evaluates_by_the_rules_it_trains_by(tmp_path):
    train = written(tmp_path / "train.jsonl", ROWS * 2)
    held_out = written(tmp_path / "held_out.jsonl", ROWS)
    made = build(
        config.Experiment(
            name="tiny",
            batch_size=8,
            data=config.Data(
                train=config.Jsonl(path=train),
                query_prompt="Q: ",
                document_prompt="D: ",
                row_prompt="<{}> ",
                query_max_length=16,
                document_max_length=24,
            ),
            model=config.Static(width=8),
            evaluators={"validation": Retrieval(held_out, row_prompt="<{}> ")},
        )
    )
    (loaded,) = made.evaluators._loaded.values()
    encoder = made.encoder
    prompts = {"query_prompt": encoder.query_prompt, "document_prompt": encoder.document_prompt}
    assert encoded(loaded.data, **prompts) == trained_on(ROWS, RULES)
    assert (encoder.query_length, encoder.document_length) == (16, 24)
    scores = made.evaluators.scores(encoder.with_params(made.init().params["encoder"]))
    assert set(scores["validation"]) == {"nDCG@10", "MRR@10", "Recall@10", "Recall@100", "MAP"}
