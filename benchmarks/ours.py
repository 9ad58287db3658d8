"""This library as plain callables, as peers.py has the others."""

import dataclasses
import time
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from contrastive.config import Optimizer
from contrastive.data.batch_shapes import Shape, choose_shapes
from contrastive.data.groups import GroupRules
from contrastive.data.tokens import Tokenizer, pack
from contrastive.data.training_sources import TrainingSource
from contrastive.devices.compilation import step_options
from contrastive.devices.mesh import batch_sharding, make_mesh, state_sharding
from contrastive.encoder import Encoder
from contrastive.interop.hf_import import load
from contrastive.models.families.family import Compute
from contrastive.models.linen.embedder import Embedder
from contrastive.sources._example import text_id
from contrastive.sources._jsonl import open_file
from contrastive.training.batch_loss import BatchLoss
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
        model = load(Path(model_folder), Compute(jnp.dtype(dtype), dropout))
        if model.pooling is None:
            raise ValueError(f"{model_folder} does not say how it pools")
        self.mesh = make_mesh(devices=jax.devices()[:1])
        self.group_size = group_size
        self.tokenize = Tokenizer(model.tokenizer, special_tokens=True, names=model.names)
        self.shape = Shape(query_length, passage_length, TEXTS_PER_ROW)
        rules = GroupRules(
            group_size=group_size, query_length=query_length, document_length=passage_length
        )
        self.buckets = choose_shapes(
            [TrainingSource(open_file(Path(rows_file)), rules, 1.0)],
            self.tokenize,
            self.shape,
            block=batch_size,
            blocks=1,
            homogeneous_batches=True,
            seed=0,
        )
        embedder = Embedder(model.module, model.pooling, bool(model.normalize))
        batch_loss = BatchLoss(Objective(temperature=temperature), group_size=group_size)
        settings = Optimizer(
            learning_rate=learning_rate, schedule="constant", weight_decay=0.0, max_grad_norm=1.0
        )
        optimizer = make_optimizer(settings, steps=1)

        def init(encoder):
            return init_state(encoder, batch_loss, optimizer, seed=0, examples=0)

        sharding = state_sharding(self.mesh, jax.eval_shape(init, model.params))
        self.state = jax.jit(init, out_shardings=sharding)(model.params)
        step = make_train_step(embedder, batch_loss, optimizer, self.mesh)
        self._step = jax.jit(
            step, donate_argnums=0, out_shardings=(sharding, None), compiler_options=step_options()
        )
        self._diagnosing = jnp.asarray(False)
        self._programs: dict[Any, Any] = {}
        self.compile_seconds: list[float] = []
        """Seconds that each program took to trace and compile."""

    def prepare(self, rows: list[Any]) -> Prepared:
        """Tokenises and packs rows, up to one of the run's shapes."""
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
        return Prepared(self.buckets.pad_to(batch, self.buckets.bucket(batch)), real)

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
    """``Encoder.encode_documents``: texts packed together, one compiled shape.

    Args:
        model_folder: A checkpoint.
        max_length: Tokens at which texts are cut.
        dtype: What layers compute in.
    """

    def __init__(self, model_folder: Path | str, *, max_length: int, dtype: str = "float32"):
        self._mesh = make_mesh(devices=jax.devices()[:1])
        model = load(Path(model_folder), Compute(jnp.dtype(dtype)))
        everywhere = NamedSharding(self._mesh, PartitionSpec())
        self._params = jax.device_put(model.params, everywhere)
        self._model = dataclasses.replace(model, params={}, document_length=max_length)
        self.forget()

    def forget(self) -> None:
        """Forgets how texts were tokenized: what is encoded twice is tokenized twice."""
        self.encoder = Encoder(self._model, self._params, self._mesh)
        self.encoder._tokenize.truncating(self._model.document_length)

    def encode(self, texts: list[str]) -> np.ndarray:
        """Return one float32 embedding a text, in the texts' order."""
        return self.encoder.encode_documents(texts)
