"""T3. Normalization and temperature: Chen et al., 2020 (SimCLR), Table 5.

contrastive reproduce T3
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from contrastive.experiments.papers.paper_data import line, papers_extra
from contrastive.experiments.papers.paper_images import distorted, open_images
from contrastive.losses import nt_xent
from contrastive.papers import (
    Claim,
    Findings,
    Paper,
    Setting,
    Verdict,
    Where,
    above,
    all_of,
    curve,
    falls,
    peaks_inside,
    rises,
)
from contrastive.similarity import normalize
from contrastive.temperature import diagnose, summarize

PUBLISHED = {
    "metric": "ImageNet, ResNet-50, linear probe x 100, batch 4,096",
    "normalized": {
        "0.05": {"entropy": 1.0, "contrastive accuracy": 90.5, "top 1": 59.7},
        "0.1": {"entropy": 4.5, "contrastive accuracy": 87.8, "top 1": 64.4},
        "0.5": {"entropy": 8.2, "contrastive accuracy": 68.2, "top 1": 60.7},
        "1": {"entropy": 8.3, "contrastive accuracy": 59.1, "top 1": 58.0},
    },
    "not normalized": {
        "10": {"entropy": 0.5, "contrastive accuracy": 91.7, "top 1": 57.2},
        "100": {"entropy": 0.5, "contrastive accuracy": 92.1, "top 1": 57.0},
    },
}
PLAIN = (1.0, 10.0, 100.0)
WIDTH, HIDDEN = 64, 256


def run(setting: Setting, where: Where) -> Findings:
    """Trains on two distorted views of an image, and fits a linear probe to the hidden layer."""
    images, labels, tested, truth = open_images(setting.steps > 10000, where.workdir)
    return {
        name: _train(setting, temperatures, unit, (images, labels, tested, truth))
        for name, temperatures, unit in (
            ("normalized", setting.values, True),
            ("not normalized", PLAIN, False),
        )
    }


def _init(key, pixels: int):
    keys = jax.random.split(key, 3)
    sizes = (pixels, HIDDEN, HIDDEN, WIDTH)
    pairs = zip(keys, sizes[:-1], sizes[1:], strict=True)
    return [jax.random.normal(k, (a, b)) * jnp.sqrt(2 / a) for k, a, b in pairs]


def hidden(params: Sequence[jax.Array], images: Any) -> jax.Array:
    """Computes the layer before the projection, which the probe reads.

    Args:
      params: The matrices of the two layers and the projection.
      images: Images [N, H, W].

    Returns:
      The activations [N, HIDDEN].
    """
    first = jax.nn.relu(images.reshape(len(images), -1) @ params[0])
    return jax.nn.relu(first @ params[1])


def embed(params: Sequence[jax.Array], images: Any, unit: bool) -> jax.Array:
    """Computes the projection, which the loss compares.

    Args:
      params: The matrices of the two layers and the projection.
      images: Images [N, H, W].
      unit: Whether to scale the result to unit length.

    Returns:
      The embeddings [N, WIDTH].
    """
    projected = hidden(params, images) @ params[2]
    return normalize(projected) if unit else projected


def _train(setting: Setting, temperatures, unit: bool, data) -> list[dict[str, float]]:
    """Trains all temperatures and seeds in one program, on the same batches."""
    images, labels, tested, truth = data
    grid = [(t, seed) for t in temperatures for seed in range(setting.seeds)]
    grid_temperatures = jnp.asarray([t for t, _ in grid], jnp.float32)
    keys = jax.vmap(jax.random.key)(jnp.asarray([seed for _, seed in grid]))
    optimizer = optax.adam(setting.learning_rate)
    params = jax.vmap(functools.partial(_init, pixels=images[0].size))(keys)
    state = params, jax.vmap(optimizer.init)(params)

    def step(state, temperature, first, second):
        params, opt_state = state

        def loss(params):
            views = (embed(params, x, unit) for x in (first, second))
            return nt_xent(*views, temperature=temperature).mean()

        updates, opt_state = optimizer.update(jax.grad(loss)(params), opt_state, params)
        return optax.apply_updates(params, updates), opt_state

    def look(params, temperature, first, second):
        views = (embed(params, x, unit) for x in (first, second))
        return summarize(diagnose(*views, temperature=temperature))

    every_step = jax.jit(jax.vmap(step, in_axes=(0, 0, None, None)), donate_argnums=0)
    every_look = jax.jit(jax.vmap(look, in_axes=(0, 0, None, None)))
    rng = np.random.default_rng(0)

    def views(count):
        chosen = images[rng.choice(len(images), count, replace=False)]
        return distorted(chosen, rng), distorted(chosen, rng)

    for _ in range(setting.steps):
        state = every_step(state, grid_temperatures, *views(setting.batch_size))
    diagnostics = every_look(state[0], grid_temperatures, *views(512))
    diagnostics = {name: np.asarray(x) for name, x in diagnostics.items()}
    read = jax.jit(jax.vmap(hidden, in_axes=(0, None)))
    known, asked = (np.asarray(read(state[0], x)) for x in (images, tested))
    return [
        {
            "temperature": t,
            "seed": seed,
            "entropy": float(diagnostics["entropy"][place]),
            "contrastive accuracy": float(diagnostics["accuracy"][place]),
            "top 1": _probes(known[place], labels, asked[place], truth),
        }
        for place, (t, seed) in enumerate(grid)
    ]


def _probes(known, labels, asked, truth, *, of_each: int = 10, draws: int = 5) -> float:
    """Computes the mean accuracy of few-label probes; with all labels, pixels would suffice."""
    by_class = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    scores = []
    for first in range(0, of_each * draws, of_each):
        few = np.concatenate([places[first : first + of_each] for places in by_class])
        scores.append(_probe(known[few], labels[few], asked, truth))
    return float(np.mean(scores))


def _probe(known, labels, asked, truth) -> float:
    with papers_extra():
        from sklearn.linear_model import LogisticRegression
        from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(known)
    probe = LogisticRegression(C=0.01, max_iter=500).fit(scaler.transform(known), labels)
    return float(probe.score(scaler.transform(asked), truth))


def _curve(findings: Findings, metric: str, name: str = "normalized"):
    return curve(findings[name], "temperature", metric, seed="seed")


def _accuracy(findings: Findings) -> Verdict:
    return falls(_curve(findings, "contrastive accuracy"))


def _entropy(findings: Findings) -> Verdict:
    return rises(_curve(findings, "entropy"))


def _peak(findings: Findings) -> Verdict:
    scores = _curve(findings, "top 1")
    return peaks_inside(scores, min(scores), max(scores))


def _best(points):
    return max(points.items(), key=lambda pair: pair[1].mean)


def _plain(findings: Findings) -> Verdict:
    """Checks both parts of the claim: higher contrastive accuracy, and a worse probe."""
    unit = {name: _best(_curve(findings, name)) for name in ("contrastive accuracy", "top 1")}
    plain = {name: _best(_curve(findings, name, "not normalized")) for name in unit}

    def named(pair, words):
        return f"{words} at {pair[0]:g}"

    contrastive, top = "contrastive accuracy", "top 1"
    accuracy = above(
        plain[contrastive][1],
        unit[contrastive][1],
        (named(plain[contrastive], "dot products"), named(unit[contrastive], "cosines")),
    )
    probe = above(
        unit[top][1],
        plain[top][1],
        (named(unit[top], "cosines"), named(plain[top], "dot products")),
    )
    return all_of({"for contrastive accuracy": accuracy, "for the probe": probe})


def draw(figure, findings: Findings, published) -> None:
    """Plots contrastive accuracy and probe accuracy, for SimCLR and for ours."""
    left, right = figure.subplots(1, 2)
    rows = published["normalized"]
    for name in ("contrastive accuracy", "top 1"):
        left.plot([float(t) for t in rows], [row[name] for row in rows.values()], "o-", label=name)
        line(right, _curve(findings, name), name)
        plain = published["not normalized"]["100"][name]
        left.axhline(plain, color=left.lines[-1].get_color(), ls=":", label="not normalized")
        best = _best(_curve(findings, name, "not normalized"))[1].mean
        right.axhline(best, color=right.lines[-1].get_color(), ls=":", label="not normalized")
    left.set(title="SimCLR, ImageNet", ylabel="accuracy x 100")
    right.set(title="digits, two layers", ylabel="accuracy")
    for plot in (left, right):
        plot.set(xscale="log", xlabel="temperature")
        plot.legend(frameon=False, fontsize=8)


paper = Paper(
    name="T3",
    title="Normalization and temperature",
    source="Chen et al., 2020, arXiv:2002.05709, Table 5",
    published=PUBLISHED,
    claims=(
        Claim(
            "Contrastive accuracy falls with temperature.",
            _accuracy,
            "90.5 at 0.05, 87.8 at 0.1, 68.2 at 0.5, 59.1 at 1",
        ),
        Claim(
            "Entropy rises with temperature.",
            _entropy,
            "1.0 at 0.05, 4.5 at 0.1, 8.2 at 0.5, 8.3 at 1",
        ),
        Claim(
            "The probe's score peaks at an intermediate temperature.",
            _peak,
            "59.7 at 0.05, 64.4 at 0.1, 58.0 at 1",
        ),
        Claim(
            "Without normalization, contrastive accuracy is higher and the probe's score is lower.",
            _plain,
            "contrastive 92.1 against 90.5; probe 57.0 against 64.4",
        ),
    ),
    differs=(
        "1,300 digits of 8 x 8 pixels and two layers instead of ImageNet and ResNet-50; batch 256 "
        "instead of 4,096"
    ),
    small=Setting(steps=800, learning_rate=1e-3, values=(0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 3.0)),
    full=Setting(
        steps=20000, batch_size=1024, seeds=5, learning_rate=1e-3, values=(0.05, 0.1, 0.5, 1.0)
    ),
    run=run,
    draw=draw,
    needs_data=False,
)
