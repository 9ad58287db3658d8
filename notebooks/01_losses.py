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
# The batch has one query, a positive at cosine 0.7, and 300 negatives. Most of the negatives are
# unrelated to the query, and a few are close to it. The derivative of a loss in a document's
# similarity says what the loss does to that document: a positive derivative pushes the document
# away, a negative one pulls it closer. Below, the derivative for a negative is called the *push*
# and minus the derivative for the positive is called the *pull*. A loss acts on an encoder only
# through these numbers.

# %%
import functools

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats

from contrastive import losses
from contrastive.temperature import Individual, similarity_gradients

set_matplotlib_formats("png")
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}

POSITIVE = 0.7
rng = np.random.default_rng(0)
NEGATIVES = np.sort(np.concatenate([rng.normal(0.15, 0.12, 280), rng.uniform(0.45, 0.85, 20)]))
SIMILARITIES = jnp.asarray(np.concatenate([[POSITIVE], NEGATIVES]), jnp.float32)
GROUP_SIZE = len(SIMILARITIES)
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.5)
COLORS = dict(zip(TEMPERATURES, plt.cm.viridis(np.linspace(0, 0.9, 5)), strict=True))


# %%
def gradients(loss, **settings):
    """Derivatives of a loss in the similarities of all documents, the positive's first."""
    bound_loss = functools.partial(loss, group_size=GROUP_SIZE, **settings)
    return np.asarray(similarity_gradients(bound_loss, SIMILARITIES))


def make_axes(count=1, height=3.0):
    """A row of plots against similarity, with ticks for the negatives at the bottom."""
    _, grid = plt.subplots(1, count, figsize=(4.6 * count, height), squeeze=False, sharex=True)
    for ax in grid[0]:
        ax.axvline(POSITIVE, color="tab:green", lw=0.8, ls=":")
        ax.plot(
            NEGATIVES,
            np.full(len(NEGATIVES), 0.02),
            "|",
            color="0.6",
            ms=4,
            transform=ax.get_xaxis_transform(),
        )
        ax.set_xlabel("similarity of the negative")
    return grid[0]


def plot_shares(ax, gradient, **style):
    """Plots each negative's share of the total push."""
    push = np.maximum(gradient[1:], 1e-30)
    ax.plot(NEGATIVES, push / push.sum(), **style)


# %% [markdown]
# ## InfoNCE: temperature decides which negatives are pushed
#
# The left plot shows each negative's share of the total push. This is the softmax at temperature
# $t$ over the negatives, which Wang and Liu (arXiv:2012.09740) call the *penalty distribution*. At
# $t = 0.01$ the most similar negative takes most of it; at $t = 0.5$ nearly all 300 negatives count
# alike. The right plot shows the push itself, $P_j / t$, where $P$ is the softmax over the positive
# and all negatives. The dotted line is the positive. Documents to the right of it are ranked above
# the positive, so they are either hard negatives or false ones. A low temperature spends nearly all
# of the push on them.

# %%
left, right = make_axes(2)
for t in TEMPERATURES:
    gradient = gradients(losses.info_nce, temperature=t)
    style = {"color": COLORS[t], "label": f"t = {t:g}"}
    plot_shares(left, gradient, **style)
    right.plot(NEGATIVES, np.maximum(gradient[1:], 1e-6), **style)
left.set(yscale="log", ylim=(1e-6, 2), ylabel="share of the push", title="which are pushed")
right.set(yscale="log", ylim=(1e-4, 200), ylabel="push", title="how hard")
left.legend(fontsize=8)
plt.show()

# %% [markdown]
# The exponential of the entropy of this distribution is the number of negatives that effectively
# share the push:

# %%
print("temperature  effective negatives  share of the hardest  pull on the positive")
for t in TEMPERATURES:
    gradient = gradients(losses.info_nce, temperature=t)
    share = gradient[1:] / gradient[1:].sum()
    effective = np.exp(-np.sum(share * np.log(np.maximum(share, 1e-30))))
    print(f"{t:11g}  {effective:19.1f}  {share.max():20.3f}  {-gradient[0]:20.2f}")

# %% [markdown]
# ## Settings of InfoNCE
#
# The plots are for $t = 0.05$.
#
# - A margin lowers the positive's logit. It changes no shares, and it increases the push only where
#   the positive was ahead. Here the positive is not ahead, so the line coincides with plain
#   InfoNCE.
# - A hardness $a$ multiplies each negative's term by $\exp(a\,s)$, where the factor has no
#   gradient. The shares become those of a lower temperature, $1/t' = 1/t + a$, while the factor
#   $1/t$ of the push stays as it was.
# - Label smoothing gives the easiest negatives a negative push: it pulls them closer.

# %%
left, right = make_axes(2)
for name, settings in {
    "plain": {},
    "margin 0.2": {"margin": 0.2},
    "hardness 5": {"hardness": 5.0},
    "hardness 9": {"hardness": 9.0},
    "label smoothing 0.1": {"label_smoothing": 0.1},
}.items():
    gradient = gradients(losses.info_nce, temperature=0.05, **settings)
    plot_shares(left, gradient, label=name)
    right.plot(NEGATIVES, gradient[1:], label=name)
left.set(yscale="log", ylim=(1e-6, 2), ylabel="share of the push", title="which are pushed")
right.set(ylabel="push", title="how hard")
right.set_yscale("symlog", linthresh=1e-2)
left.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Decoupled losses: the denominator without the positive
#
# The push of InfoNCE contains the factor $1 - P_+$, so a query stops learning once its positive is
# well ahead. Decoupled losses (DCL, arXiv:2110.06848) drop this factor. In the plots the negatives
# stay the same and the positive moves:


# %%
def total_push(loss, positives, **settings):
    """Total push on the negatives, for each of several similarities of the positive."""
    bound_loss = functools.partial(loss, group_size=GROUP_SIZE, **settings)
    gradient = jax.vmap(lambda p: similarity_gradients(bound_loss, SIMILARITIES.at[0].set(p)))
    return gradient(positives)[:, 1:].sum(axis=1)


positives = jnp.linspace(0.2, 0.99, 40)
_, (left, right) = plt.subplots(1, 2, figsize=(9.2, 3), sharey=True)
for t in TEMPERATURES:
    for ax, loss in ((left, losses.info_nce), (right, losses.decoupled)):
        push = total_push(loss, positives, temperature=t)
        ax.plot(positives, t * push, color=COLORS[t], label=f"t = {t:g}")
left.set(title="InfoNCE", xlabel="similarity of the positive", ylabel="t · push on all negatives")
right.set(title="decoupled", xlabel="similarity of the positive")
left.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Hard and false negatives
#
# HCL (arXiv:2010.04592) gives hard negatives more weight, by a factor of $\exp(\beta s / t)$, and
# subtracts what false negatives are expected to add. `hardest` uses only the most similar
# negatives. A limit relative to the positive does the opposite of giving them more weight: it
# leaves out the most similar documents, which include most of the false negatives.
#
# Debiasing has little effect at $t = 0.02$, where a few terms dominate the sum, and multiplies
# every push at higher temperatures. The weights of HCL compete with each other: it pushes the few
# most similar negatives and pulls all others slightly closer. The logarithmic axis leaves those
# out.

# %%
axes = make_axes(3)
for ax, t in zip(axes, (0.02, 0.05, 0.2), strict=True):
    for name, (loss, settings) in {
        "InfoNCE": (losses.info_nce, {}),
        "debiased": (losses.debiased, {"tau_plus": 0.1}),
        "HCL, beta 1": (losses.hard_negative, {"beta": 1.0, "tau_plus": 0.1}),
        "hardest 16": (losses.hardest, {"top": 16}),
        "above positive + 0": (losses.info_nce, {"above_positive": 0.0}),
        "0.95 of the positive": (losses.info_nce, {"relative_to_positive": 0.95}),
    }.items():
        gradient = gradients(loss, temperature=t, **settings)
        ax.plot(NEGATIVES, np.where(gradient[1:] > 0, t * gradient[1:], np.nan), label=name)
    ax.set(yscale="log", ylim=(1e-5, 3), title=f"t = {t:g}")
axes[0].set_ylabel("t · push")
axes[0].legend(fontsize=7)
plt.show()

# %% [markdown]
# ## Other ways to set the temperature
#
# - The dual temperature (arXiv:2203.17248) uses one temperature for the shares and another for how
#   hard a query pushes.
# - MACL (arXiv:2207.07874) raises the temperature as the positives become more aligned.
# - artanh (arXiv:2501.17683) has no temperature: it stretches similarities near 1.
# - iSogCLR (arXiv:2305.11965) finds a temperature for each query, the one at which the KL
#   divergence of its softmax from uniform is $\rho$ nats (dashed lines on the left).


# %%
def individual_temperature(rho):
    """The temperature to which iSogCLR converges for this query."""
    policy = Individual(minimum=0.005, maximum=1.0, learning_rate=0.001)
    temperature = jnp.array([0.1])
    for _ in range(800):
        softmax = jax.nn.softmax(SIMILARITIES[1:] / temperature)
        log_ratio = jnp.log(jnp.maximum(softmax, 1e-30) * (GROUP_SIZE - 1))
        temperature = policy.update(temperature, rho - jnp.sum(softmax * log_ratio))
    return float(temperature[0])


left, right = make_axes(2)
for name, (loss, settings) in {
    "InfoNCE, t = 0.1": (losses.info_nce, {"temperature": 0.1}),
    "dual, t = 0.1 and 1": (losses.dual_temperature, {"temperature": 0.1, "ratio": 10.0}),
    "MACL, t = 0.1": (losses.model_aware, {"temperature": 0.1, "alpha": 0.5}),
    "artanh": (losses.artanh, {}),
}.items():
    gradient = gradients(loss, **settings)
    plot_shares(left, gradient, label=name)
    right.plot(NEGATIVES, gradient[1:], label=name)
for rho in (1.0, 2.0, 4.0):
    t = individual_temperature(rho)
    gradient = gradients(losses.info_nce, temperature=t)
    plot_shares(left, gradient, ls="--", label=f"rho {rho:g}: t = {t:.3f}")
left.set(yscale="log", ylim=(1e-6, 2), ylabel="share of the push", title="which are pushed")
right.set(yscale="log", ylim=(1e-4, 30), ylabel="push", title="how hard")
left.legend(fontsize=6.5, loc="upper left")
plt.show()

# %% [markdown]
# ## Losses over single pairs: SigLIP and triplets
#
# Without a softmax, negatives do not compete with each other. SigLIP (arXiv:2303.15343) decides for
# each pair whether it belongs together. The temperature is the width of the step, and the bias sets
# its position, $s = -b\,t$. A triplet loss pushes all negatives that are within a margin of the
# positive, and pushes them all equally.

# %%
left, right = make_axes(2)
for t in TEMPERATURES:
    gradient = gradients(losses.siglip, temperature=t, bias=-0.5 / t)
    left.plot(NEGATIVES, t * gradient[1:], color=COLORS[t], label=f"t = {t:g}, b = {-0.5 / t:g}")
for margin in (0.05, 0.2, 0.5):
    gradient = gradients(losses.triplet, margin=margin)
    push = gradient[1:] * len(NEGATIVES)
    right.plot(NEGATIVES, push, drawstyle="steps", label=f"margin {margin:g}")
left.set(title="SigLIP, with the step at 0.5", ylabel="t · push")
right.set(title="triplet", ylabel="push · number of negatives")
left.legend(fontsize=8)
right.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Graded relevance and teachers
#
# The plots show ten documents of one query, each with a teacher's score; the color is the student's
# similarity. Points above zero are pushed away and points below it are pulled closer. Distillation
# compares the student's softmax with the teacher's and depends on both temperatures. Margin-MSE
# needs the differences of the scores themselves, and CoSENT only their order.

# %%
student = jnp.asarray([0.7, 0.75, 0.6, 0.55, 0.5, 0.62, 0.4, 0.3, 0.45, 0.2], jnp.float32)
teacher = jnp.asarray([[0.9, 0.8, 0.75, 0.6, 0.55, 0.5, 0.4, 0.35, 0.2, 0.1]], jnp.float32)


def distillation(queries, documents, *, temperature, teacher_temperature):
    """Distillation from the teacher's scores."""
    options = {"temperature": temperature, "teacher_temperature": teacher_temperature}
    return losses.distill_kl(queries, documents, teacher, **options)


graded_losses = {
    "KL, t 0.05, T 0.05": functools.partial(
        distillation, temperature=0.05, teacher_temperature=0.05
    ),
    "KL, t 0.05, T 1": functools.partial(distillation, temperature=0.05, teacher_temperature=1.0),
    "margin-MSE": lambda queries, documents: losses.margin_mse(queries, documents, teacher),
    "CoSENT, t 0.05": lambda queries, documents: losses.cosent(
        jnp.repeat(queries, 10, 0), documents, teacher[0], temperature=0.05
    )[:1],
}
_, axes = plt.subplots(1, 4, figsize=(11, 2.8), sharex=True, sharey=True, layout="constrained")
for ax, (name, loss) in zip(axes, graded_losses.items(), strict=True):
    gradient = np.asarray(similarity_gradients(loss, student))
    relative = gradient / np.abs(gradient).max()
    ax.axhline(0, color="0.7", lw=0.8)
    points = ax.scatter(teacher[0], relative, c=student, cmap="plasma", s=30)
    ax.set(title=name, xlabel="teacher's score")
axes[0].set_ylabel("gradient / largest")
plt.colorbar(points, ax=axes, label="student's similarity")
plt.show()

# %% [markdown]
# ## Spreading out
#
# These regularizers do not use positives. Uniformity (arXiv:2005.10242) is a softmax at temperature
# $1/(2u)$ over all pairs. The spread-out regularizer (arXiv:1708.06320) is a parabola: it pushes
# apart pairs with a positive cosine, and pulls together pairs with a negative cosine equally hard.

# %%
(ax,) = make_axes(1)
s = np.linspace(-0.3, 0.9, 200)
for u in (1.0, 2.0, 10.0):
    weight = np.exp(-u * (2 - 2 * s))
    ax.plot(s, weight / weight.max(), label=f"uniformity, u = {u:g}")
ax.plot(s, s / s.max(), "k--", label="spread-out: second moment")
ax.set(ylabel="push / largest", xlabel="similarity of the pair")
ax.legend(fontsize=8)
plt.show()
