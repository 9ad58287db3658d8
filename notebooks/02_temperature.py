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
# # What temperature does
#
# A query has similarity $s_+$ to its positive and $s_1, \dots, s_N$ to its negatives. InfoNCE
# (arXiv:1807.03748) divides all of them by one number, the temperature $t$, and takes a softmax:
#
# $$L = -\log P_+, \qquad P_j = \frac{e^{s_j/t}}{e^{s_+/t} + \sum_k e^{s_k/t}}$$
#
# This notebook follows $t$ from the softmax to the gradient, and from the gradient to the cosines
# of a trained model. It then explains why 0.02 is a common choice, and why an encoder that is
# trained from scratch should start at 0.05 to 0.1.

# %%
import logging
import os

os.environ["TQDM_DISABLE"] = "1"  # a saved notebook needs no progress bars

import functools
import tempfile

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats
from plotly.subplots import make_subplots

import contrastive
from contrastive.config import Data, Experiment, Objective, Optimizer, Pydoc, Static, WordPiece
from contrastive.losses import info_nce
from contrastive.tasks import Evaluator
from contrastive.temperature import entropy, entropy_slope, gradient, penalty, similarity_gradients

logging.getLogger("absl").setLevel(logging.ERROR)
set_matplotlib_formats("png")
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}

TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
HIGHLIGHTED = (0.01, 0.05, 0.1, 0.5)
COLORS = dict(zip(HIGHLIGHTED, plt.cm.viridis(np.linspace(0, 0.9, 4)), strict=True))

# %% [markdown]
# ## One encoder per temperature
#
# The data are docstrings and the functions they belong to, from the Python packages of the
# environment that runs this notebook. (Collecting them takes half a minute the first time; the
# result is cached.) The encoder is small, a mean of word-piece vectors, and is trained from
# scratch. A sweep trains it at nine temperatures with two seeds each, as one program; the two seeds
# differ only in the initial parameters. An evaluator stores the similarities that each trained
# encoder assigns to 400 held-out pairs. [03_sweep](03_sweep.ipynb) is about such sweeps.

# %%
held_out = Pydoc(split="test").read()
chosen = np.random.default_rng(0).permutation(len(held_out))[:400]
pairs = [held_out[int(index)] for index in chosen]
QUERIES = [pair.query for pair in pairs]
DOCUMENTS = [pair.positives[0] for pair in pairs]
N = len(pairs) - 1  # negatives of a query
stored = []


def similarities(encoder):
    """Cosines of all held-out queries and documents; the positives are on the diagonal."""
    queries, documents = encoder.encode_queries(QUERIES), encoder.encode_documents(DOCUMENTS)
    return encoder.similarity(queries, documents)


def recall_at_1(s):
    """How often the positive is the most similar document."""
    return float(np.mean(s.argmax(axis=1) == np.arange(len(s))))


class StoreSimilarities(Evaluator):
    """Stores the similarities of the held-out pairs and scores recall at 1."""

    main_metric = "R@1"

    def evaluate(self, encoder, data):
        """The sweep calls this once per run, in the order of the runs."""
        stored.append(similarities(encoder))
        return {"R@1": recall_at_1(stored[-1])}


experiment = Experiment(
    name="temperature",
    steps=120,
    batch_size=128,
    data=Data(
        train=Pydoc(split="train"),
        tokenizer=WordPiece(vocab_size=4096),
        query_max_length=32,
        document_max_length=64,
    ),
    model=Static(width=64),
    loss=Objective(temperature=0.1),
    optimizer=Optimizer(learning_rate=5e-3, warmup_steps=10, max_grad_norm=None),
    log_steps=50,
    final_evaluators={"test": StoreSimilarities()},
)
with tempfile.TemporaryDirectory() as folder:
    contrastive.sweep(experiment, {"loss.temperature": TEMPERATURES}, seeds=2, workdir=folder)
trained = {t: stored[2 * i : 2 * i + 2] for i, t in enumerate(TEMPERATURES)}


def positives(s):
    """Similarity of each query's positive [Q]."""
    return np.diag(s)


def negatives(s):
    """Similarities of each query's negatives [Q, N]."""
    return s[~np.eye(len(s), dtype=bool)].reshape(len(s), -1)


print(f"{len(stored)} encoders; each of {len(pairs)} queries has a positive and {N} negatives")

# %% [markdown]
# ## One query
#
# This is one held-out query, seen by the encoder that was trained at 0.1. The encoder gets it
# wrong: the positive is third, behind two negatives. The cosines stay the same in everything that
# follows, and only the temperature that divides them changes.

# %%
base = trained[0.1][0]
ranks = (base > positives(base)[:, None]).sum(axis=1)
query = int(np.flatnonzero(ranks == 2)[0])
S_PLUS, S_MINUS = float(positives(base)[query]), np.sort(negatives(base)[query])[::-1]
print(QUERIES[query][:100])
print("positive:", DOCUMENTS[query].split("\n")[0][:80])
print(f"s+ = {S_PLUS:.3f}; the negatives from the top:", np.round(S_MINUS[:6], 3))

# %% [markdown]
# ## Move the temperature
#
# The slider changes three plots.
#
# - **Left**: the softmax $P$ over the positive (green) and the 19 most similar negatives of this
#   query.
# - **Middle**: the *penalty distribution* $r(s_j) = e^{s_j/t} / \sum_k e^{s_k/t}$ of Wang and Liu
#   (arXiv:2012.09740), which is each negative's share of the push on all negatives. On the
#   logarithmic axis it is a straight line of slope $1/t$. The dotted line is the positive.
# - **Right**: the cosines of the positives and negatives of all 400 queries, for the encoder that
#   was *trained at* the temperature of the slider.
#
# Move the slider from right to left. The softmax changes from flat to a spike on the most similar
# document, and the line in the middle becomes steep. The two histograms on the right first become
# narrow and then, below about 0.05, move to the right together.

# %%
place = int((S_MINUS[:19] > S_PLUS).sum())
top = np.insert(S_MINUS[:19], place, S_PLUS)
bar_colors = ["#2ca02c" if rank == place else "#7f7f7f" for rank in range(20)]
EDGES = np.linspace(-1.0, 1.0, 51)
MIDDLES = np.round((EDGES[:-1] + EDGES[1:]) / 2, 3)


def softmax_of_top(t):
    """Softmax P of the 20 most similar documents; the denominator includes all others."""
    logits = np.concatenate([[S_PLUS], S_MINUS]) / t
    return np.exp(top / t - logits.max()) / np.exp(logits - logits.max()).sum()


def shares(cosines):
    """Histogram as shares of all values."""
    return np.histogram(cosines, EDGES)[0] / cosines.size


DRAWN = np.unique(np.concatenate([np.arange(20), np.arange(20, N, 10)]))  # ranks of negatives


def curves(t):
    """Heights of the four curves that move, rounded to keep the saved figure small."""
    s = trained[t][0]
    heights = (
        softmax_of_top(t),
        penalty(S_MINUS, t)[DRAWN],
        shares(positives(s)),
        shares(negatives(s)),
    )
    return [[float(f"{x:.4g}") for x in np.asarray(y)] for y in heights]


def heading(t):
    """Effect of the slider's temperature in numbers."""
    count, first = float(np.exp(entropy(S_MINUS, t))), float(penalty(S_MINUS, t)[0])
    effect = f"{count:.0f} of {N} negatives are effective, the first has {first:.2f} of the push"
    return f"t = {t:g}: {effect}"


def slider_step(t):
    """What the slider sets at a temperature."""
    return {
        "label": f"{t:g}",
        "method": "update",
        "args": [{"y": curves(t)}, {"title.text": heading(t)}, [0, 1, 2, 3]],
    }


START = TEMPERATURES.index(0.1)
softmax, line, of_positives, of_negatives = curves(0.1)
panels = ("softmax of the top 20", "penalty distribution r(s)", "cosines when trained at t")
figure = make_subplots(cols=3, subplot_titles=panels, horizontal_spacing=0.08)
figure.add_bar(x=list(range(1, 21)), y=softmax, marker_color=bar_colors, col=1, row=1)
figure.add_scatter(
    x=np.round(S_MINUS[DRAWN], 3).tolist(),
    y=line,
    mode="lines+markers",
    marker={"size": 4},
    line_color="#7f7f7f",
    col=2,
    row=1,
)
for y, color in ((of_positives, "#2ca02c"), (of_negatives, "#7f7f7f")):
    figure.add_scatter(
        x=MIDDLES, y=y, line={"shape": "hvh", "color": color}, fill="tozeroy", col=3, row=1
    )
figure.add_scatter(
    x=[S_PLUS, S_PLUS],
    y=[1e-6, 1],
    mode="lines",
    line={"dash": "dot", "color": "#2ca02c"},
    col=2,
    row=1,
)
figure.update_yaxes(range=[0, 1], title="P", col=1)
figure.update_yaxes(type="log", range=[-6, 0.2], exponentformat="power", tickfont_size=10, col=2)
figure.update_yaxes(range=[0, 0.25], title="share", col=3)
for col, name in enumerate(("rank", "similarity of the negative", "cosine"), start=1):
    figure.update_xaxes(title=name, col=col)
figure.update_layout(
    title={"text": heading(0.1), "font_size": 14},
    height=420,
    width=940,
    showlegend=False,
    template="simple_white",
    margin={"l": 50, "r": 20, "t": 80, "b": 20},
    sliders=[
        {
            "active": START,
            "currentvalue": {"prefix": "temperature "},
            "steps": [slider_step(t) for t in TEMPERATURES],
            "pad": {"t": 50},
        }
    ],
)
figure.show(renderer="plotly_mimetype+notebook_connected")

# %% [markdown]
# Static pages load the program of the slider from the network. For viewers that do not draw it,
# here are the same plots at four temperatures. At 0.01 the most similar negative gets most of the
# push, and the cosines of positives and negatives are close together. At 0.5 every negative gets
# about $1/N$ of the push, and the histogram of the positives is broad and far from that of the
# negatives.

# %%
_, (left, middle, right) = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
for t in HIGHLIGHTED:
    softmax, line, of_positives, of_negatives = curves(t)
    left.plot(range(1, 21), softmax, "o-", ms=3, color=COLORS[t], label=f"t = {t:g}")
    middle.plot(S_MINUS[DRAWN], line, color=COLORS[t])
    right.step(MIDDLES, of_positives, where="mid", color=COLORS[t], ls="--")
    right.step(MIDDLES, of_negatives, where="mid", color=COLORS[t])
left.axvline(place + 1, color="tab:green", lw=0.8, ls=":")
middle.axvline(S_PLUS, color="tab:green", lw=0.8, ls=":")
left.set(title="softmax; dotted: the positive", xlabel="rank", ylabel="P")
middle.set(title="penalty distribution", xlabel="similarity of the negative", yscale="log")
middle.set_ylim(1e-6, 2)
right.set(title="cosines when trained at t; dashed: positives", xlabel="cosine", ylabel="share")
left.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## The gradient is $P/t$
#
# $$\frac{\partial L}{\partial s_j} = \frac{P_j}{t}, \qquad
#   \frac{\partial L}{\partial s_+} = -\frac{1 - P_+}{t}, \qquad
#   \frac{P_j}{t} = \underbrace{\frac{1 - P_+}{t}}_{\text{how hard}}\;
#   \underbrace{r(s_j)\vphantom{\frac{1}{t}}}_{\text{which}}$$
#
# Temperature has two effects: it decides *which* negatives are pushed, through $r$, and *how hard*
# the query pushes at all. `temperature.gradient` computes this formula, and
# `temperature.similarity_gradients` differentiates any loss with JAX. For InfoNCE they agree.

# %%
cosines = jnp.asarray(np.concatenate([[S_PLUS], S_MINUS]), jnp.float32)
for t in (0.02, 0.1, 0.5):
    loss = functools.partial(info_nce, temperature=t, group_size=N + 1)
    pull, push = gradient(S_PLUS, S_MINUS, t)
    difference = similarity_gradients(loss, cosines) - np.concatenate([[pull], push])
    print(f"t = {t:g}: largest difference {np.abs(difference).max() / -pull:.0e} of the pull")

# %% [markdown]
# *How hard* a query pushes depends on its positive. If the positive is behind, as it is here, the
# query pulls it with nearly $1/t$, which is about 40 times as hard at 0.02 as at 1. If the positive
# is well ahead, the query pulls with almost nothing at a low temperature, where $1 - P_+$ falls
# exponentially, but keeps pulling at a high one. Low temperatures learn hard and from mistakes
# only; high temperatures learn softly from everything.

# %%
easiest = int(np.argmax(positives(base) - negatives(base).max(axis=1)))
easy = float(positives(base)[easiest]), negatives(base)[easiest]
print("temperature   behind: 1 - P+     pull    ahead: 1 - P+     pull")
for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
    behind, ahead = (-float(gradient(*cosines, t)[0]) for cosines in ((S_PLUS, S_MINUS), easy))
    print(f"{t:11g}  {t * behind:15.3f}  {behind:7.2f}  {t * ahead:15.1e}  {ahead:7.1e}")

# %% [markdown]
# ## How many negatives share the push
#
# The entropy of $r$ gives the number of *effective negatives*, $e^{H(r)}$. It never decreases as
# temperature rises, because its derivative is a variance:
#
# $$\frac{dH}{dt} = \frac{\mathrm{Var}_r(s)}{t^3} \ge 0,$$
#
# where the variance is that of the similarities under $r$ itself.

# %%
for t in (0.02, 0.1, 0.5):
    count = float(np.exp(entropy(S_MINUS, t)))
    by_jax = jax.grad(lambda t: entropy(jnp.asarray(S_MINUS), t))(t)
    formula = entropy_slope(S_MINUS, t)
    print(f"t = {t:g}: {count:5.1f} effective; dH/dt {by_jax:.3f} by JAX, {formula:.3f} by formula")

# %% [markdown]
# ## Only the spread of the logits matters
#
# $P$, $r$ and $H$ depend on similarities and temperature only through the logits $s/t$. (How hard a
# query pushes, $(1 - P_+)/t$, and $dH/dt$ contain further factors of $t$.) So whether 0.02 is a low
# temperature depends on the encoder. It is low if the cosines of a query's negatives are spread
# over 0.2, and not low at all if they are spread over 0.02.
#
# The plots show five encoders: one before training and four trained ones. On the left, the same
# temperature means a handful of effective negatives (mean over queries) for one encoder and most of
# them for another. On the right, the same curves are plotted against $t/\sigma$, where $\sigma$ is
# the standard deviation of the cosines of a query's negatives, and most of the difference
# disappears. The dotted line is $N e^{-\sigma^2/2t^2}$, which is the number for normally
# distributed cosines.


# %%
def before_training(seed):
    """Similarities by an encoder with initial parameters."""
    run = contrastive.build(experiment.replace(init_seed=seed))
    return similarities(run.encoder.with_params(run.init().params["encoder"]))


untrained = [before_training(seed) for seed in (0, 1)]
encoders = {"before training": untrained} | {f"trained at {t:g}": trained[t] for t in HIGHLIGHTED}
styles = dict(zip(encoders, ["tab:red", *COLORS.values()], strict=True))


def spread(s):
    """Standard deviation of the cosines of a query's negatives, mean over queries."""
    return float(negatives(s).std(axis=1).mean())


def effective(s, t):
    """Effective negatives, mean over queries."""
    return float(np.exp(entropy(negatives(s), t)).mean())


temperature_grid = np.geomspace(0.003, 1, 40)
_, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
for name, (s, _) in encoders.items():
    counts = [effective(s, t) for t in temperature_grid]
    left.plot(temperature_grid, counts, color=styles[name], label=name)
    right.plot(temperature_grid / spread(s), counts, color=styles[name])
ratio = np.geomspace(0.2, 30, 60)
right.plot(ratio, N * np.exp(-0.5 / ratio**2), "k:", lw=1)
left.set(xscale="log", yscale="log", xlabel="temperature", ylabel=f"effective negatives of {N}")
right.set(xscale="log", ylim=(1, N), xlabel="temperature / spread of the cosines")
left.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Training fits the spread to the temperature
#
# Training sets the spread of an encoder, and the temperature determines what it becomes. The table
# shows each encoder's spread, the mean cosines of its positives and negatives, and how many
# negatives are effective at several temperatures.
#
# - At a low temperature, small differences of cosines are already large differences of logits.
#   Training has no reason to widen them, and leaves a narrow spread of high cosines. Published
#   encoders that were trained at 0.01 report this on their model cards: the cosines of E5 lie in
#   about 0.7 to 1, and those of the first BGE in 0.6 to 1.
# - At a high temperature, training widens the spread as far as it can, but a cosine cannot exceed
#   1. At 0.5 the largest possible difference of logits is 4, so most negatives stay effective no
#   matter how long training continues, and the encoder *cannot* discriminate more finely.

# %%
rows = {"before training": untrained[0]}
rows |= {f"trained at {t:g}": trained[t][0] for t in TEMPERATURES}
print(f"{'':16}  spread  positive  negative   R@1   effective negatives of {N} at t =")
print(f"{'':16}                                       0.01   0.02   0.05    0.1    0.5")
for name, s in rows.items():
    counts = "".join(f"{effective(s, t):7.0f}" for t in (0.01, 0.02, 0.05, 0.1, 0.5))
    means = f"{positives(s).mean():8.2f}  {negatives(s).mean():8.2f}"
    print(f"{name:16}  {spread(s):6.3f}  {means}  {recall_at_1(s):4.2f}  {counts}")

# %% [markdown]
# ## Why 0.02 for a pretrained encoder
#
# Read the table row by row. The encoders trained at 0.01 and 0.02 stand for published encoders,
# which were trained at such temperatures and have a narrow spread. At 0.02 only some of their
# negatives are effective, namely the hard ones; at 0.1 most of them are, and at 0.5 all. There the
# softmax is nearly flat and treats all documents much the same. Training then has to widen the
# whole arrangement before it can tell documents apart, and that arrangement holds what the encoder
# has learned. So keep the temperature that an encoder was trained at. If you do not know it, start
# at 0.02, which is the default of FlagEmbedding.
#
# This explains the mechanism but does not measure it for your task. The encoders here have little
# to lose, and by the column R@1 those trained at higher temperatures (up to 0.2) are better. An
# encoder that was not trained contrastively has a different spread: for BERT-base, SimCSE
# (arXiv:2104.08821) found 0.05 to be best.
#
# ## Why 0.05 to 0.1 from scratch
#
# Read the row for the encoder before training. Its spread is that of random vectors, which is wide
# already, so few negatives are effective at 0.02. But *which* ones? To find out, compare two
# encoders that differ only in their initial parameters, by the overlap of their penalty
# distributions,
#
# $$\sum_j \min(r^{(1)}_j, r^{(2)}_j).$$
#
# It is the part of the push that both encoders give to the same negatives. The rest is noise, and
# before training nearly all of the push is noise at low temperatures.


# %%
def overlap(seeds, t):
    """Common part of the penalty distributions of two seeds, mean over queries."""
    first, second = (np.asarray(penalty(negatives(s), t)) for s in seeds)
    return float(np.minimum(first, second).sum(axis=1).mean())


_, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
for name, seeds in encoders.items():
    overlaps = [overlap(seeds, t) for t in temperature_grid]
    left.plot(temperature_grid, overlaps, color=styles[name], label=name)
    right.plot([effective(seeds[0], t) for t in temperature_grid], overlaps, color=styles[name])
left.set(xscale="log", xlabel="temperature", ylabel="overlap of two seeds", ylim=(0, 1))
right.set(xscale="log", xlabel="effective negatives")
left.legend(fontsize=8)
plt.show()
print("temperature         0.02   0.05    0.1")
for name, seeds in encoders.items():
    print(f"{name:16}" + "".join(f"{overlap(seeds, t):7.2f}" for t in (0.02, 0.05, 0.1)))

# %% [markdown]
# The right plot shows that, at the same number of effective negatives, trained encoders agree far
# more about which negatives those are. A low temperature relies on the order of the most similar
# negatives, and from scratch this order does not mean anything yet. At 0.05 to 0.1 the push is
# spread over so many negatives that a good part of it is common to both seeds, and the encoder
# learns from the data rather than from its initial parameters. To have both advantages, start at a
# high temperature and lower it during training (`loss.policy:warm-down`).
#
# ## What to remember
#
# - Temperature divides similarities, and the gradient is $P/t$. It decides which negatives are
#   pushed and how hard.
# - What matters is $t$ relative to the spread of the negatives' cosines. Watch
#   `effective_negatives` in the log of a run: near 1 in the first steps, the temperature is low for
#   this encoder; near the number of negatives at the end, it is high.
# - Low temperatures leave narrow spreads, and encoders that were trained at low temperatures need
#   them again: start at 0.02. Encoders from scratch cannot rely on a few negatives yet: start at
#   0.05 to 0.1.
# - These are starting points. The best temperature depends on the data, and [a
#   sweep](03_sweep.ipynb) finds it.
