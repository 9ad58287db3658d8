# ---
# jupyter:
#   jupytext:
#     formats: py:percent,ipynb
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # What each loss does to the same batch
#
# One query, its positive at cosine 0.7, and 300 negatives, most of them unrelated and a few of
# them close. A loss pushes each document by its slope: the derivative of the loss in the
# document's similarity. A positive slope pushes it away, a negative one pulls it closer.
# Everything a loss does to an encoder, it does through these numbers.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats

from contrastive import losses
from contrastive.temperature import Individual, slopes

set_matplotlib_formats("png")
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}

POSITIVE = 0.7
rng = np.random.default_rng(0)
NEGATIVES = np.sort(np.concatenate([rng.normal(0.15, 0.12, 280), rng.uniform(0.45, 0.85, 20)]))
SIMILARITIES = jnp.asarray(np.concatenate([[POSITIVE], NEGATIVES]), jnp.float32)
N = len(SIMILARITIES)
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.5)
COLOURS = dict(zip(TEMPERATURES, plt.cm.viridis(np.linspace(0, 0.9, 5)), strict=True))


# %%
def pushes(loss, **settings):
    """Slopes of all documents, the positive's first."""
    called = functools.partial(loss, group_size=N, **settings)
    return np.asarray(slopes(called, SIMILARITIES))


def axes(count=1, height=3.0):
    """A row of pictures that share their axis of similarities, with the negatives below."""
    _, row = plt.subplots(1, count, figsize=(4.6 * count, height), squeeze=False, sharex=True)
    for one in row[0]:
        one.axvline(POSITIVE, color="tab:green", lw=0.8, ls=":")
        one.plot(
            NEGATIVES,
            np.full(N - 1, 0.02),
            "|",
            color="0.6",
            ms=4,
            transform=one.get_xaxis_transform(),
        )
        one.set_xlabel("similarity of the negative")
    return row[0]


def shares(one, slope, **style):
    """How the push on negatives is divided among them."""
    push = np.maximum(slope[1:], 1e-30)
    one.plot(NEGATIVES, push / push.sum(), **style)


# %% [markdown]
# ## InfoNCE: temperature decides who is pushed
#
# Left, each negative's share of the push: the softmax at temperature $t$, the *penalty
# distribution* of Wang and Liu (arXiv:2012.09740). At $t = 0.01$ the single most similar negative
# takes nearly all of it; at $t = 0.5$ all 300 count alike. Right, the push itself, $p_j / t$. The
# dotted line is the positive: what lies to its right would be ranked above it, and is a hard
# negative or a false one. A low temperature stakes everything on those.

# %%
left, right = axes(2)
for t in TEMPERATURES:
    slope = pushes(losses.info_nce, temperature=t)
    style = {"color": COLOURS[t], "label": f"t = {t:g}"}
    shares(left, slope, **style)
    right.plot(NEGATIVES, np.maximum(slope[1:], 1e-6), **style)
left.set(yscale="log", ylim=(1e-6, 2), ylabel="share of the push", title="who is pushed")
right.set(yscale="log", ylim=(1e-4, 200), ylabel="slope", title="how hard")
left.legend(fontsize=8)
plt.show()

# %% [markdown]
# How many negatives share the push is the exponential of that distribution's entropy:

# %%
print("temperature  effective negatives  the hardest one's share  pull on the positive")
for t in TEMPERATURES:
    slope = pushes(losses.info_nce, temperature=t)
    share = slope[1:] / slope[1:].sum()
    effective = np.exp(-np.sum(share * np.log(np.maximum(share, 1e-30))))
    print(f"{t:11g}  {effective:19.1f}  {share.max():23.3f}  {-slope[0]:20.2f}")

# %% [markdown]
# ## InfoNCE's settings
#
# At $t = 0.05$. A margin lowers the positive's logit, which changes no share, and pushes harder
# only where the positive was ahead; here it was not, and the line is that of plain InfoNCE. A
# hardness $a$ multiplies each negative by $\exp(a\,s)$ without gradient, which is a lower
# temperature for shares, $1/t + a$, with the slope's factor still $1/t$. Label smoothing pushes
# the easiest negatives less than nothing: it pulls them closer.

# %%
left, right = axes(2)
for name, settings in {
    "plain": {},
    "margin 0.2": {"margin": 0.2},
    "hardness 5": {"hardness": 5.0},
    "hardness 9": {"hardness": 9.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
}.items():
    slope = pushes(losses.info_nce, temperature=0.05, **settings)
    shares(left, slope, label=name)
    right.plot(NEGATIVES, slope[1:], label=name)
left.set(yscale="log", ylim=(1e-6, 2), ylabel="share of the push", title="who is pushed")
right.set(ylabel="slope", title="how hard")
right.set_yscale("symlog", linthresh=1e-2)
left.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Decoupled: the positive leaves the denominator
#
# InfoNCE's push is multiplied by $1 - p_+$: once the positive is well ahead, a query stops
# learning. Decoupled losses (DCL, arXiv:2110.06848) drop that factor. Same negatives, the positive
# moved:


# %%
def total_pushes(loss, positives, **settings):
    """Sum of the slopes of all negatives, for each of some similarities of the positive."""
    called = functools.partial(loss, group_size=N, **settings)
    moved = jax.vmap(lambda p: slopes(called, SIMILARITIES.at[0].set(p)))(positives)
    return moved[:, 1:].sum(axis=1)


moved = jnp.linspace(0.2, 0.99, 40)
_, (one, two) = plt.subplots(1, 2, figsize=(9.2, 3), sharey=True)
for t in TEMPERATURES:
    for plot, loss in ((one, losses.info_nce), (two, losses.decoupled)):
        found = total_pushes(loss, moved, temperature=t)
        plot.plot(moved, t * found, color=COLOURS[t], label=f"t = {t:g}")
one.set(title="InfoNCE", xlabel="similarity of the positive", ylabel="t · push on all negatives")
two.set(title="decoupled", xlabel="similarity of the positive")
one.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Hard and false negatives
#
# HCL (arXiv:2010.04592) weights hard negatives up by $\exp(\beta s / t)$ and takes off what false
# negatives are expected to add; `hardest` looks at the top alone. A limit relative to the positive
# does the opposite of weighting up: it leaves the most similar out, where most false negatives
# are. Debiasing hardly shows at $t = 0.02$, where a few terms are the whole sum, and multiplies
# every push at higher temperatures. HCL's weights compete: it pushes the few most similar and
# pulls all others a little closer, which a logarithm cannot draw.

# %%
row = axes(3)
for one, t in zip(row, (0.02, 0.05, 0.2), strict=True):
    for name, (loss, settings) in {
        "InfoNCE": (losses.info_nce, {}),
        "debiased": (losses.debiased, {"tau_plus": 0.1}),
        "HCL, beta 1": (losses.hard_negative, {"beta": 1.0, "tau_plus": 0.1}),
        "hardest 16": (losses.hardest, {"top": 16}),
        "above positive + 0": (losses.info_nce, {"above_positive": 0.0}),
        "0.95 of the positive": (losses.info_nce, {"relative_to_positive": 0.95}),
    }.items():
        slope = pushes(loss, temperature=t, **settings)
        one.plot(NEGATIVES, np.where(slope[1:] > 0, t * slope[1:], np.nan), label=name)
    one.set(yscale="log", ylim=(1e-5, 3), title=f"t = {t:g}")
row[0].set_ylabel("t · slope")
row[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# ## Other ways to set the temperature
#
# The dual temperature (arXiv:2203.17248) takes shares from one temperature and how hard a query
# learns from another. MACL (arXiv:2207.07874) raises the temperature as positives align. artanh
# (arXiv:2501.17683) has none: it stretches similarities near one. iSogCLR (arXiv:2305.11965) finds
# for each query the temperature at which its softmax lies $\rho$ nats from uniform.


# %%
def individual(rho):
    """The temperature that iSogCLR settles at for this query."""
    policy = Individual(0.1, minimum=0.005, maximum=1.0, learning_rate=0.001)
    t = jnp.array([0.1])
    for _ in range(800):
        r = jnp.exp((SIMILARITIES[1:] - SIMILARITIES[1:].max()) / t)
        r /= r.sum()
        distance = jnp.sum(jnp.where(r > 0, r * jnp.log(r * (N - 1)), 0.0))
        t = policy.update(t, rho - distance)
    return float(t[0])


left, right = axes(2)
for name, (loss, settings) in {
    "InfoNCE, t = 0.1": (losses.info_nce, {"temperature": 0.1}),
    "dual, t = 0.1 and 1": (losses.dual_temperature, {"temperature": 0.1, "ratio": 10.0}),
    "MACL, t = 0.1": (losses.model_aware, {"temperature": 0.1, "alpha": 0.5}),
    "artanh": (losses.artanh, {}),
}.items():
    slope = pushes(loss, **settings)
    shares(left, slope, label=name)
    right.plot(NEGATIVES, slope[1:], label=name)
for rho in (1.0, 2.0, 4.0):
    t = individual(rho)
    shares(left, pushes(losses.info_nce, temperature=t), ls="--", label=f"rho {rho:g}: t = {t:.3f}")
left.set(yscale="log", ylim=(1e-6, 2), ylabel="share of the push", title="who is pushed")
right.set(yscale="log", ylim=(1e-4, 30), ylabel="slope", title="how hard")
left.legend(fontsize=6.5, loc="upper left")
plt.show()

# %% [markdown]
# ## Each pair on its own: SigLIP and triplets
#
# Without a softmax no negative competes with another. SigLIP (arXiv:2303.15343) asks of each pair
# whether it belongs together; temperature is the width of the step and the bias says where it is,
# at $s = -b\,t$. A triplet pushes all that are within a margin of the positive, all the same.

# %%
one, two = axes(2)
for t in TEMPERATURES:
    slope = pushes(losses.siglip, temperature=t, bias=-0.5 / t)
    one.plot(NEGATIVES, t * slope[1:], color=COLOURS[t], label=f"t = {t:g}, b = {-0.5 / t:g}")
for margin in (0.05, 0.2, 0.5):
    slope = pushes(losses.triplet, margin=margin)
    two.plot(NEGATIVES, slope[1:] * (N - 1), drawstyle="steps", label=f"margin {margin:g}")
one.set(title="SigLIP, the step at 0.5", ylabel="t · slope")
two.set(title="triplet", ylabel="slope · negatives")
one.legend(fontsize=8)
two.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Graded relevance and teachers
#
# Ten documents of one query, with a teacher's score each; the colour is the student's similarity.
# Up is pushing away, down is pulling closer. Distillation and the listwise loss compare
# distributions, which depend on both temperatures; margin-MSE wants the very differences of
# scores; CoSENT only the order.

# %%
student = jnp.asarray([0.7, 0.75, 0.6, 0.55, 0.5, 0.62, 0.4, 0.3, 0.45, 0.2], jnp.float32)
teacher = jnp.asarray([[0.9, 0.8, 0.75, 0.6, 0.55, 0.5, 0.4, 0.35, 0.2, 0.1]], jnp.float32)


def distilled(queries, documents, *, t, teacher_t):
    """Distillation by the teacher."""
    options = {"temperature": t, "teacher_temperature": teacher_t}
    return losses.distill_kl(queries, documents, teacher, **options)


graded = {
    "KL, t 0.05, T 0.05": functools.partial(distilled, t=0.05, teacher_t=0.05),
    "KL, t 0.05, T 1": functools.partial(distilled, t=0.05, teacher_t=1.0),
    "margin-MSE": lambda q, d: losses.margin_mse(q, d, teacher),
    "CoSENT, t 0.05": lambda q, d: losses.cosent(
        jnp.repeat(q, 10, 0), d, teacher[0], temperature=0.05
    )[:1],
}
_, row = plt.subplots(1, 4, figsize=(11, 2.8), sharex=True, sharey=True, layout="constrained")
for one, (name, loss) in zip(row, graded.items(), strict=True):
    slope = np.asarray(slopes(loss, student))
    one.axhline(0, color="0.7", lw=0.8)
    points = one.scatter(teacher[0], slope / np.abs(slope).max(), c=student, cmap="plasma", s=30)
    one.set(title=name, xlabel="teacher's score")
row[0].set_ylabel("slope, of the largest")
plt.colorbar(points, ax=row, label="student's similarity")
plt.show()

# %% [markdown]
# ## Spreading out
#
# Regularisers that look at no positive at all. Uniformity (arXiv:2005.10242) is a softmax at
# temperature $1/(2u)$ over every pair; the spread-out regulariser (arXiv:1708.06320) is a
# parabola: it pushes pairs that are alike as hard as it pulls pairs that are opposite.

# %%
(one,) = axes(1)
s = np.linspace(-0.3, 0.9, 200)
for u in (1.0, 2.0, 10.0):
    weight = np.exp(-u * (2 - 2 * s))
    one.plot(s, weight / weight.max(), label=f"uniformity, u = {u:g}")
one.plot(s, s / s.max(), "k--", label="spread-out: second moment")
one.set(ylabel="push, of the largest")
one.legend(fontsize=8)
plt.show()
