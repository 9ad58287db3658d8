"""InfoNCE's value and gradient three ways: ours, and with the whole matrix in JAX and in PyTorch.

The dense ones are what most training code has: the product of embeddings in their own type, as
under autocast, divided by the temperature, and a softmax in float32.
"""

import functools
import time
from typing import Any

import numpy as np


def embeddings(batch: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Queries and documents of unit length, float32, as of a trained encoder.

    Topics of eight: a pair's cosine is about 0.82, 0.73 within a topic and 0 outside.
    """
    rng = np.random.default_rng(seed)

    def noise(count=batch):
        return rng.standard_normal((count, width), dtype=np.float32)

    texts = np.repeat(noise(-(-batch // 8)), 8, axis=0)[:batch] + 0.35 * noise()
    pairs = (texts + 0.5 * noise() for _ in range(2))
    return tuple(x / np.linalg.norm(x, axis=1, keepdims=True) for x in pairs)


class JaxLoss:
    """A compiled loss with its gradient in queries, documents and temperature.

    Args:
        library: ``ours`` or ``dense_jax``.
        batch: Queries, and documents.
        width: Of the embeddings.
        dtype: Of the embeddings.
        temperature: Divisor of the similarities.
    """

    def __init__(self, library: str, batch: int, width: int, dtype: str, temperature: float):
        import jax
        import jax.numpy as jnp

        from contrastive.losses import info_nce

        loss = info_nce if library == "ours" else dense

        def mean(queries, documents, temperature):
            return loss(queries, documents, temperature=temperature).mean()

        self._jax = jax
        self.temperature = temperature
        shapes = [jax.ShapeDtypeStruct((batch, width), dtype)] * 2
        shapes.append(jax.ShapeDtypeStruct((), jnp.float32))
        gradient = jax.jit(jax.value_and_grad(mean, argnums=(0, 1, 2)))
        begin = time.perf_counter()
        self._compiled = gradient.lower(*shapes).compile()
        self.compile_seconds = time.perf_counter() - begin
        planned = self._compiled.memory_analysis()
        assert planned is not None
        self.temporary_bytes = planned.temp_size_in_bytes
        make = functools.partial(jnp.asarray, dtype=dtype)
        self._make = lambda: (*map(make, embeddings(batch, width)), jnp.float32(temperature))
        self._inputs: Any = None

    def prepare(self) -> None:
        """Puts the embeddings on the device."""
        self._inputs = self._jax.block_until_ready(self._make())

    def step(self) -> float:
        """Value and gradient, whose value it returns."""
        loss, _ = self._jax.block_until_ready(self._compiled(*self._inputs))
        return float(loss)

    def found(self) -> dict[str, np.ndarray]:
        """The embeddings, the loss and its gradients, float64."""
        loss, gradients = self._compiled(*self._inputs)
        queries, documents, _ = self._inputs
        named = zip(("queries", "documents", "temperature"), gradients, strict=True)
        every = {"loss": loss, "q": queries, "d": documents, **dict(named)}
        return {name: np.asarray(x, np.float64) for name, x in every.items()}


def dense(queries, documents, *, temperature):
    """The loss of each query, from the whole matrix."""
    import jax
    import jax.numpy as jnp

    logits = (queries @ documents.T / temperature.astype(queries.dtype)).astype(jnp.float32)
    return jax.nn.logsumexp(logits, axis=1) - jnp.diag(logits)


class PyTorchLoss:
    """The dense loss in PyTorch.

    Args:
        batch: Queries, and documents.
        width: Of the embeddings.
        dtype: Of the embeddings.
        temperature: Divisor of the similarities.
        device: ``cpu`` or ``gpu``.
    """

    compile_seconds = 0.0

    def __init__(self, batch: int, width: int, dtype: str, temperature: float, device: str):
        import torch

        self._torch = torch
        self.temperature = temperature
        where = {"device": "cuda:0" if device == "gpu" else "cpu", "requires_grad": True}
        self._embeddings = [
            torch.tensor(x, dtype=getattr(torch, dtype), **where) for x in embeddings(batch, width)
        ]
        self._temperature = torch.tensor(temperature, **where)

    def prepare(self) -> None:
        """Nothing is left to do."""

    @property
    def temporary_bytes(self) -> int | None:
        """Most memory of a step on a GPU, without the embeddings; on a CPU nobody counts it."""
        if not self._torch.cuda.is_available():
            return None
        held = self._torch.cuda.memory_allocated()
        return self._torch.cuda.max_memory_allocated() - held

    def step(self) -> float:
        """Value and gradient, whose value it returns."""
        queries, documents = self._embeddings
        for x in (queries, documents, self._temperature):
            x.grad = None
        scores = queries @ documents.T / self._temperature.to(queries.dtype)
        target = self._torch.arange(len(queries), device=queries.device)
        loss = self._torch.nn.functional.cross_entropy(scores.float(), target)
        loss.backward()
        if self._torch.cuda.is_available():
            self._torch.cuda.synchronize()
        self._loss = loss
        return loss.item()

    def found(self) -> dict[str, np.ndarray]:
        """The embeddings, the loss and its gradients, float64."""
        self.step()
        queries, documents = self._embeddings
        every = {
            "loss": self._loss,
            "q": queries,
            "d": documents,
            "queries": queries.grad,
            "documents": documents.grad,
            "temperature": self._temperature.grad,
        }
        return {name: x.detach().double().cpu().numpy() for name, x in every.items()}


def truth(queries: np.ndarray, documents: np.ndarray, temperature: float) -> dict[str, np.ndarray]:
    """Loss and gradients in float64.

    Args:
        queries: Float64 [B, D].
        documents: Float64 [B, D].
        temperature: Divisor of the similarities.
    """
    similarities = queries @ documents.T
    # Odds against the positive: log(1 + their sum) has no digits to lose, however small it is.
    odds = np.exp((similarities - np.diag(similarities)[:, None]) / temperature)
    np.fill_diagonal(odds, 0.0)
    total = odds.sum(axis=1)
    loss = np.mean(np.log1p(total))
    slopes = (odds - np.diag(total)) / (1.0 + total)[:, None] / len(queries)  # of the mean
    return {
        "loss": np.asarray(loss),
        "queries": slopes @ documents / temperature,
        "documents": slopes.T @ queries / temperature,
        "temperature": -np.sum(slopes * similarities) / temperature**2,
    }
