"""T8. Exactness and memory at scale: GradCache, Inf-CL, and gradients in bfloat16.

contrastive reproduce T8
"""

from __future__ import annotations

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np

from contrastive.config import Static
from contrastive.data.tokens import pack
from contrastive.experiments.papers.scale_programs import LAYOUTS, gradient_error
from contrastive.losses import info_nce
from contrastive.models.linen.embedder import Embedder
from contrastive.papers import Claim, Findings, Paper, Setting, Verdict, Where, measured

PUBLISHED = {
    "Inf-CL, GB of loss memory on each of 8 GPUs": {
        "32768": {"dense": 16.67, "sharded": 2.27, "tiles": 0.18},
        "65536": {"dense": 66.11, "sharded": 8.63, "tiles": 0.36},
        "131072": {"dense": None, "sharded": 33.64, "tiles": 0.72},
    },
    "bfloat16": "nobody has published the error of its gradient by temperature",
}
WIDTH, DEVICES = 512, 8
RING = "ring of tiles"  # the layout of Inf-CL


def run(setting: Setting, where: Where) -> Findings:
    """Measures the memory of compiled programs, and the error of gradients."""
    del where
    return {
        "bytes": _bytes(setting.batch_sizes),
        "errors": [_errors(temperature, setting.batch_size) for temperature in setting.values],
        "chunks": _chunks(),
    }


def _bytes(sizes: tuple[int, ...]) -> dict[str, dict[str, int]]:
    """Returns the memory per simulated device; only a new process can have simulated devices."""
    variables = {
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    program = (sys.executable, "-m", "contrastive.experiments.papers.scale_programs")
    completed = subprocess.run(
        [*program, ",".join(map(str, sizes)), str(WIDTH), str(DEVICES)],
        env={**os.environ, **variables},
        capture_output=True,
        check=True,
        text=True,
    )
    return json.loads(completed.stdout)


def _errors(temperature: float, batch: int) -> dict[str, float]:
    """Computes the relative errors of gradients at the same embeddings."""
    return {
        "temperature": temperature,
        "ours, float32": gradient_error("ours", batch, 384, "float32", temperature),
        "ours, bfloat16": gradient_error("ours", batch, 384, "bfloat16", temperature),
        "dense, bfloat16": gradient_error("dense", batch, 384, "bfloat16", temperature),
    }


def _chunks() -> float:
    """Computes the relative distance of the gradient of two passes in chunks from that of one."""
    module = Static(width=64).build(vocab_size=100)
    rng = np.random.default_rng(0)
    texts = [rng.integers(1, 100, rng.integers(3, 12)).astype(np.int32) for _ in range(128)]
    queries, documents = (
        pack(part, row_length=12, texts_per_row=4) for part in (texts[:64], texts[64:])
    )

    def gradient(chunk_tokens):
        embedder = Embedder(module, "mean", True, chunk_tokens)
        params = embedder.init(jax.random.key(0))

        def loss(params):
            q, d = (embedder.embed(params, x) for x in (queries, documents))
            return info_nce(q, d, temperature=0.02).mean()

        gradients = jax.jit(jax.grad(loss))(params)
        return jnp.concatenate([jnp.ravel(x) for x in jax.tree.leaves(gradients)])

    whole, chunked = gradient(None), gradient(64)
    return float(jnp.linalg.norm(whole - chunked) / jnp.linalg.norm(whole))


def _gigabytes(findings: Findings, size: str) -> str:
    row = findings["bytes"][size]
    return ", ".join(f"{name} {row[name] / 1e9:.3g} GB" for name in LAYOUTS)


def _smaller(findings: Findings) -> Verdict:
    size = next(iter(findings["bytes"]))
    row = findings["bytes"][size]
    facts = {
        "against dense": row[RING] < row["dense"] / 50,
        "against sharded": row[RING] < row["sharded"] / 10,
    }
    return measured(facts, f"{int(size):,} pairs: {_gigabytes(findings, size)}")


def _linear(findings: Findings) -> Verdict:
    (small, first), *_, (large, last) = findings["bytes"].items()
    ratio = int(large) / int(small)
    grown = {name: last[name] / first[name] for name in LAYOUTS}
    facts = {
        "for a ring of tiles": grown[RING] <= ratio,
        "for a dense loss": grown["dense"] > 0.9 * ratio**2,
    }
    numbers = ", ".join(f"{name} x{x:.1f}" for name, x in grown.items())
    return measured(facts, f"batch x{ratio:g}: {numbers}")


def _exact(findings: Findings) -> Verdict:
    errors = {row["temperature"]: row["ours, float32"] for row in findings["errors"]}
    numbers = ", ".join(f"{x:.1e} at {t:g}" for t, x in errors.items())
    return measured({f"at {t:g}": x < 1e-5 for t, x in errors.items() if t >= 0.02}, numbers)


def _cached(findings: Findings) -> Verdict:
    return measured({"": findings["chunks"] < 2e-6}, f"relative distance {findings['chunks']:.1e}")


def _half(findings: Findings) -> Verdict:
    first, *_, last = findings["errors"]
    facts = {
        "for dense gradients": first["dense, bfloat16"] > 10 * last["dense, bfloat16"],
        "for tiles": all(row["ours, bfloat16"] < 0.01 for row in findings["errors"]),
    }
    numbers = ", ".join(
        f"{row['dense, bfloat16']:.1%} and {row['ours, bfloat16']:.1%} at {row['temperature']:g}"
        for row in findings["errors"]
    )
    return measured(facts, f"dense and ours: {numbers}")


def draw(figure, findings: Findings, published) -> None:
    """Plots memory against batch size (Inf-CL and ours), and gradient error by temperature."""
    left, middle, right = figure.subplots(1, 3)
    theirs = published["Inf-CL, GB of loss memory on each of 8 GPUs"]
    for name in ("dense", "sharded", "tiles"):
        points = {int(n): row[name] for n, row in theirs.items() if row[name]}
        left.plot(list(points), list(points.values()), "o-", ms=4, label=name)
    left.set(title="Inf-CL, 8 GPUs", ylabel="GB a device")
    for name in LAYOUTS:
        points = {int(n): row[name] / 1e9 for n, row in findings["bytes"].items()}
        middle.plot(list(points), list(points.values()), "o-", ms=4, label=name)
    middle.set(title=f"ours, 8 devices, width {WIDTH}", ylabel="GB a device")
    for plot in (left, middle):
        plot.set(xscale="log", yscale="log", xlabel="pairs", ylim=(1e-2, 2e3))
        plot.set_xticks([32768, 65536, 131072], ["32k", "64k", "128k"], minor=False)
        plot.set_xticks([], minor=True)
    for name in ("dense, bfloat16", "ours, bfloat16", "ours, float32"):
        points = {row["temperature"]: row[name] for row in findings["errors"]}
        right.plot(list(points), list(points.values()), "o-", ms=4, label=name)
    right.set(xscale="log", yscale="log", xlabel="temperature", title="error of the gradient")
    right.set(ylabel="relative error")
    for plot in (left, middle, right):
        plot.legend(frameon=False, fontsize=8)


paper = Paper(
    name="T8",
    title="Memory and exactness",
    source="Gao et al., 2021, arXiv:2101.06983; Cheng et al., 2024, arXiv:2410.17243",
    published=PUBLISHED,
    claims=(
        Claim(
            "A ring of tiles needs less than a fiftieth of the memory of a dense loss, and "
            "less than a tenth of that of a sharded one.",
            _smaller,
            "0.18 GB of 16.67 dense, 2.27 sharded",
        ),
        Claim(
            "The memory of a ring of tiles grows at most in proportion to the batch, and "
            "that of a dense loss with its square.",
            _linear,
            "x2 for a batch x2 (dense x4)",
        ),
        Claim(
            "In float32, the gradient is within 1e-5 of that in float64 at temperatures "
            "from 0.02 on.",
            _exact,
        ),
        Claim(
            "Two passes over small parts give the same gradient as one pass (GradCache).",
            _cached,
            "the same gradient",
        ),
        Claim(
            "Ours: in bfloat16, the error of dense gradients grows as the temperature "
            "falls, and that of tiles stays below 1%.",
            _half,
        ),
    ),
    differs=(
        "eight simulated devices, whose memory is what the compiler plans, and not what GPUs took; "
        "one device for errors"
    ),
    small=Setting(
        batch_size=1024,
        batch_sizes=(32768, 65536, 131072),
        values=(0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
    ),
    full=Setting(
        batch_size=8192,
        batch_sizes=(32768, 65536, 131072, 262144),
        values=(0.005, 0.01, 0.02, 0.05, 0.1, 0.5),
    ),
    run=run,
    draw=draw,
    needs_data=False,
)
