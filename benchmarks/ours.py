"""This library as plain callables, as peers.py has the others."""

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from contrastive.config import Optimizer
from contrastive.data.calibration import Part, Shape, calibrate
from contrastive.data.example import text_id
from contrastive.data.groups import Rules
from contrastive.data.jsonl import Jsonl
from contrastive.data.packing import pack
from contrastive.data.tokenization import Tokenizer
from contrastive.evaluation.loading import load as load_encoder
from contrastive.interop.reading import load as load_model
from contrastive.models.embedder import Embedder
from contrastive.models.family import Compute
from contrastive.temperature.policies import Fixed
from contrastive.training.compilation import step_options
from contrastive.training.mesh import batch_sharding, make_mesh, state_sharding
from contrastive.training.objective import Objective
from contrastive.training.optimizer import make_optimizer
from contrastive.training.step import init_state, make_train_step
from contrastive.types import Batch

TEXTS_PER_ROW = 16  # the default of a run


class Prepared(NamedTuple):
    """A batch, and its tokens without padding."""

    batch: Batch
    real: int


class OurStep:
    """A training step as a run makes it: packed rows, false negatives masked, AdamW, clipping.

    Args:
        model_folder: A checkpoint.
        rows_file: Rows of which the shapes of batches are calibrated.
        batch_size: Queries a step.
        group_size: Passages a query, the positive included.
        query_length: Tokens at which queries are cut.
        passage_length: Tokens at which passages are cut.
        temperature: Divisor of the similarities.
        dropout: For hidden states and attention; None leaves the checkpoint's own.
        learning_rate: AdamW's, constant.
        dtype: What layers compute in; weights stay float32.
    """

    def __init__(
        self,
        model_folder: Path | str,
        *,
        rows_file: Path | str,
        batch_size: int,
        group_size: int,
        query_length: int,
        passage_length: int,
        temperature: float,
        dropout: float | None,
        learning_rate: float,
        dtype: str = "float32",
    ):
        model = load_model(Path(model_folder), Compute(jnp.dtype(dtype), dropout))
        if model.pooling is None:
            raise ValueError(f"{model_folder} does not say how it pools")
        self.mesh = make_mesh(devices=jax.devices()[:1])
        self.group_size = group_size
        self.tokenize = Tokenizer(model.tokenizer, special_tokens=True, names=model.names)
        self.shape = Shape(query_length, passage_length, TEXTS_PER_ROW)
        rules = Rules(
            group_size=group_size, query_length=query_length, document_length=passage_length
        )
        self.ladder = calibrate(
            [Part(Jsonl(rows_file), rules, 1.0)],
            self.tokenize,
            self.shape,
            block=batch_size,
            blocks=1,
            one_source_batches=True,
            seed=0,
        )
        embedder = Embedder(model.module, model.pooling, bool(model.normalize))
        objective = Objective(Fixed(temperature), group_size)
        settings = Optimizer(
            learning_rate=learning_rate, schedule="constant", weight_decay=0.0, max_grad_norm=1.0
        )
        optimizer = make_optimizer(settings, steps=1)

        def init(encoder):
            return init_state(encoder, objective, optimizer, seed=0, examples=0)

        sharding = state_sharding(self.mesh, jax.eval_shape(init, model.params))
        self.state = jax.jit(init, out_shardings=sharding)(model.params)
        step = make_train_step(embedder, objective, optimizer, self.mesh)
        self._step = jax.jit(
            step, donate_argnums=0, out_shardings=(sharding, None), compiler_options=step_options()
        )
        self._diagnosing = jnp.asarray(False)
        self._programs: dict[Any, Any] = {}
        self.compile_seconds: list[float] = []
        """Seconds that each program took to trace and compile."""

    def prepare(self, rows: list[Any]) -> Prepared:
        """Tokenises and packs rows, up to a rung of the run's ladder."""
        queries = [row["query"] for row in rows]
        passages = [text for row in rows for text in (*row["pos"], *row["neg"])]
        query_tokens = self.tokenize(queries, self.shape.query_length)
        passage_tokens = self.tokenize(passages, self.shape.document_length)
        pools = np.zeros(len(rows), np.int32)
        batch = Batch(
            queries=pack(
                query_tokens, row_length=self.shape.query_length, texts_per_row=TEXTS_PER_ROW
            ),
            documents=pack(
                passage_tokens, row_length=self.shape.document_length, texts_per_row=TEXTS_PER_ROW
            ),
            query_ids=np.array([text_id(text) for text in queries], np.int32),
            document_ids=np.array([text_id(text) for text in passages], np.int32),
            # As a run has it where no row has more positives than one.
            known_positive_ids=np.zeros((len(rows), 0), np.int32),
            query_pools=pools,
            document_pools=np.repeat(pools, self.group_size),
            teacher_scores=np.zeros((len(rows), 0), np.float32),
            labels=pools,
            temperatures=np.zeros(len(rows), np.float32),
            numbers=np.arange(len(rows), dtype=np.int32),
        )
        real = sum(map(len, query_tokens)) + sum(map(len, passage_tokens))
        return Prepared(self.ladder.climb(batch), real)

    def compile(self, prepared: Prepared) -> None:
        """Compiles the program of a batch's shape, unless that is done."""
        if (key := _key(prepared)) in self._programs:
            return
        batch = self._place(prepared)
        begin = time.perf_counter()
        self._programs[key] = self._step.lower(self.state, batch, self._diagnosing).compile()
        self.compile_seconds.append(time.perf_counter() - begin)

    def step(self, prepared: Prepared) -> float:
        """Take one full optimizer step and return the loss before it."""
        program = self._programs[_key(prepared)]
        self.state, metrics = program(self.state, self._place(prepared), self._diagnosing)
        jax.block_until_ready(self.state)
        return float(metrics["loss"])

    def real_tokens(self, prepared: Prepared) -> int:
        """Return the batch's tokens without padding."""
        return prepared.real

    def padded_tokens(self, prepared: Prepared) -> int:
        """Return the positions that the model computes for the batch, padding included."""
        return prepared.batch.queries.ids.size + prepared.batch.documents.ids.size

    def _place(self, prepared: Prepared) -> Batch:
        return jax.device_put(prepared.batch, batch_sharding(self.mesh))


def _key(prepared: Prepared):
    return prepared.batch.queries.ids.shape, prepared.batch.documents.ids.shape


class OurEncode:
    """``Encoder.documents``: texts packed together, one compiled shape.

    Args:
        model_folder: A checkpoint.
        max_length: Tokens at which texts are cut.
        dtype: What layers compute in.
    """

    def __init__(self, model_folder: Path | str, *, max_length: int, dtype: str = "float32"):
        mesh = make_mesh(devices=jax.devices()[:1])
        encoder, self.params = load_encoder(Path(model_folder), mesh)
        module = encoder.embedder.module.clone(dtype=jnp.dtype(dtype))
        self.encoder = dataclasses.replace(
            encoder,
            embedder=dataclasses.replace(encoder.embedder, module=module),
            document_length=max_length,
        )
        self._special_tokens = encoder.embedder.module.max_length is not None
        self.forget()

    def forget(self) -> None:
        """Forgets how texts were tokenised: what is encoded twice is tokenised twice."""
        old = self.encoder.tokenize
        new = Tokenizer(old.backend, special_tokens=self._special_tokens, names=old.names)
        new.truncating(self.encoder.document_length)
        self.encoder = dataclasses.replace(self.encoder, tokenize=new)

    def encode(self, texts: list[str]) -> np.ndarray:
        """Return one float32 embedding a text, in the texts' order."""
        return self.encoder.documents(self.params, texts)
