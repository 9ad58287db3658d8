"""Finds Python functions by what they do: (docstring, code) pairs from this very machine.

contrastive train quickstart --workdir runs/quickstart
"""

from contrastive.config import (
    Data,
    Experiment,
    Objective,
    Optimizer,
    Pydoc,
    Retrieval,
    Static,
    WordPiece,
)

default = Experiment(
    name="quickstart",
    steps=300,
    batch_size=256,
    data=Data(
        train=Pydoc(split="train"),
        tokenizer=WordPiece(vocab_size=8192),
        query_max_length=64,
        document_max_length=256,
    ),
    model=Static(width=256),
    loss=Objective(temperature=0.1),
    optimizer=Optimizer(learning_rate=2e-3, warmup_steps=20, max_grad_norm=None),
    evaluators={"validation": Retrieval(Pydoc(split="validation"))},
    final_evaluators={"test": Retrieval(Pydoc(split="test"))},
    eval_steps=100,
    save_steps=100,
)

smoke = default.replace(steps=2, batch_size=16, **{"optimizer.warmup_steps": 1})
