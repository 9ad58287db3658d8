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
# A query has similarity $s_+$ to its positive and $s_1, \dots, s_N$ to negatives. InfoNCE
# (arXiv:1807.03748) divides all of them by one number, the temperature $t$, and takes a softmax:
#
# $$L = -\log P_+, \qquad P_j = \frac{e^{s_j/t}}{e^{s_+/t} + \sum_k e^{s_k/t}}$$
#
# This notebook follows $t$ from that softmax to the gradient, from the gradient to the cosines of
# a trained model, and from there to the question where 0.02 comes from, and why an encoder from
# scratch is better started at 0.05 to 0.1.

# %%
import logging
import os

os.environ["TQDM_DISABLE"] = "1"  # a saved notebook needs no progress bars

import functools
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats
from plotly.subplots import make_subplots

from contrastive import info_nce
from contrastive.config import Data, Experiment, Loss, Optimizer, Pydoc, Static, WordPiece
from contrastive.data.pydoc import PydocSource
from contrastive.lab.grid import Grid
from contrastive.lab.sweep import sweep
from contrastive.temperature import entropy, entropy_slope, gradient, penalty, slopes
from contrastive.training.assemble import assemble

logging.getLogger("absl").setLevel(logging.ERROR)
set_matplotlib_formats("png")
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}

TEMPERATURES = (0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.2, 0.5, 1.0)
SHOWN = (0.01, 0.05, 0.1, 0.5)
COLOURS = dict(zip(SHOWN, plt.cm.viridis(np.linspace(0, 0.9, len(SHOWN))), strict=True))

# %% [markdown]
# ## An encoder for each temperature
#
# The data are docstrings and the functions they belong to, from the Python that runs this
# notebook. (Reading them takes half a minute the first time, and is kept.) The encoder is small, a
# mean of word-piece vectors, and starts from nothing. It is trained at nine temperatures, twice
# each from different first vectors, all in one program; `keep` stores how each trained encoder
# sees 400 held-out pairs. [03_sweep](03_sweep.ipynb) is about such sweeps.

# %%
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
    loss=Loss(temperature=0.1),
    optimizer=Optimizer(learning_rate=5e-3, warmup_steps=10, max_grad_norm=None),
    log_steps=50,
)
held_out = PydocSource("test")
chosen = np.random.default_rng(0).permutation(len(held_out))[:400]
pairs = [held_out[int(number)] for number in chosen]
QUERIES = [pair.query for pair in pairs]
DOCUMENTS = [pair.positives[0] for pair in pairs]
N = len(pairs) - 1  # negatives of a query


def similarities(encoder, params):
    """Cosines of all held-out queries and documents; the diagonal is the positives."""
    return encoder.queries(params, QUERIES) @ encoder.documents(params, DOCUMENTS).T


seen = []


def keep(encoder, params):
    """Called for each run of the sweep, in its order."""
    seen.append(similarities(encoder, params))
    return {"R@1": float(np.mean(seen[-1].argmax(axis=1) == np.arange(N + 1)))}


with tempfile.TemporaryDirectory() as folder:
    grid = Grid(experiment, {"loss.temperature": TEMPERATURES}, seeds=2)
    sweep(grid, Path(folder) / "sweep", keep)
trained = {t: seen[2 * number : 2 * number + 2] for number, t in enumerate(TEMPERATURES)}


def positives(s):
    """Similarity of each query's positive [Q]."""
    return np.diag(s)


def negatives(s):
    """Similarities of each query's negatives [Q, N]."""
    return s[~np.eye(len(s), dtype=bool)].reshape(len(s), -1)


print(f"{len(seen)} encoders; cosines of {len(pairs)} queries, a positive and {N} negatives each")

# %% [markdown]
# ## One query
#
# One held-out query, as the encoder trained at 0.1 sees it. It is a query that the encoder gets
# wrong: its positive is third, behind two negatives. These cosines are fixed in all that follows;
# only the temperature that they are divided by will move.

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
# The slider moves three things. **Left**, the softmax $P$ over this query's positive (green) and
# its 19 most similar negatives. **Middle**, the *penalty distribution* of Wang and Liu
# (arXiv:2012.09740), each negative's share of the push that all negatives get,
#
# $$r(s_j) = \frac{e^{s_j/t}}{\sum_k e^{s_k/t}},$$
#
# against similarity, with a logarithmic axis: a straight line of slope $1/t$ (dotted: the
# positive). **Right**, not this query but all 400, and not one encoder but nine: the cosines of
# positives and negatives as the encoder *trained at* the slider's temperature has them.
#
# Move it from right to left. The softmax goes from flat to a spike on the most similar document;
# the line tips from nearly level to a cliff; and the two histograms first become narrow and then,
# below about 0.05, slide to the right together.

# %%
place = int((S_MINUS[:19] > S_PLUS).sum())
top = np.insert(S_MINUS[:19], place, S_PLUS)
bar_colours = ["#2ca02c" if rank == place else "#7f7f7f" for rank in range(20)]
EDGES = np.linspace(-1.0, 1.0, 51)
MIDDLES = np.round((EDGES[:-1] + EDGES[1:]) / 2, 3)


def softmax_of_top(t):
    """P of the 20 most similar documents; the others are in the denominator."""
    logits = np.concatenate([[S_PLUS], S_MINUS]) / t
    return np.exp(top / t - logits.max()) / np.exp(logits - logits.max()).sum()


def shares(cosines):
    """Histogram, as shares."""
    return np.histogram(cosines, EDGES)[0] / cosines.size


DRAWN = np.unique(np.concatenate([np.arange(20), np.arange(20, N, 10)]))  # of the negatives


def curves(t):
    """The heights of all that moves, rounded: a saved figure is text."""
    s = trained[t][0]
    heights = (
        softmax_of_top(t),
        penalty(S_MINUS, t)[DRAWN],
        shares(positives(s)),
        shares(negatives(s)),
    )
    return [[float(f"{x:.4g}") for x in np.asarray(y)] for y in heights]


def heading(t):
    """What the slider's temperature does, in numbers."""
    count, first = float(np.exp(entropy(S_MINUS, t))), float(penalty(S_MINUS, t)[0])
    words = f"{count:.0f} of {N} negatives in effect, the first has {first:.2f} of the push"
    return f"t = {t:g}: {words}"


def slider_step(t):
    """All curves at a temperature."""
    return {
        "label": f"{t:g}",
        "method": "update",
        "args": [{"y": curves(t)}, {"title.text": heading(t)}, [0, 1, 2, 3]],
    }


START = TEMPERATURES.index(0.1)
softmax, line, of_positives, of_negatives = curves(0.1)
panels = ("softmax of the top 20", "penalty distribution r(s)", "cosines when trained at t")
figure = make_subplots(cols=3, subplot_titles=panels, horizontal_spacing=0.08)
figure.add_bar(x=list(range(1, 21)), y=softmax, marker_color=bar_colours, col=1, row=1)
figure.add_scatter(
    x=np.round(S_MINUS[DRAWN], 3).tolist(),
    y=line,
    mode="lines+markers",
    marker={"size": 4},
    line_color="#7f7f7f",
    col=2,
    row=1,
)
for y, colour in ((of_positives, "#2ca02c"), (of_negatives, "#7f7f7f")):
    figure.add_scatter(
        x=MIDDLES, y=y, line={"shape": "hvh", "color": colour}, fill="tozeroy", col=3, row=1
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
figure.show(renderer="plotly_mimetype")

# %% [markdown]
# The same as a still picture, at four temperatures, for where the slider is not drawn. At 0.01 the
# first negative has nearly all of the push and the positive's cosine is close to the negatives';
# at 0.5 every negative has about its $1/N$ and the positives' histogram is far from the
# negatives', but broad.

# %%
_, (one, two, three) = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
for t in SHOWN:
    softmax, line, of_positives, of_negatives = curves(t)
    one.plot(range(1, 21), softmax, "o-", ms=3, color=COLOURS[t], label=f"t = {t:g}")
    two.plot(S_MINUS[DRAWN], line, color=COLOURS[t])
    three.step(MIDDLES, of_positives, where="mid", color=COLOURS[t], ls="--")
    three.step(MIDDLES, of_negatives, where="mid", color=COLOURS[t])
one.axvline(place + 1, color="tab:green", lw=0.8, ls=":")
two.axvline(S_PLUS, color="tab:green", lw=0.8, ls=":")
one.set(title="softmax; dotted: the positive", xlabel="rank", ylabel="P")
two.set(title="penalty distribution", xlabel="similarity of the negative", yscale="log")
two.set_ylim(1e-6, 2)
three.set(title="cosines when trained at t; dashed: positives", xlabel="cosine", ylabel="share")
one.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## The gradient is $P/t$
#
# $$\frac{\partial L}{\partial s_j} = \frac{P_j}{t}, \qquad
#   \frac{\partial L}{\partial s_+} = -\frac{1 - P_+}{t}, \qquad
#   \frac{P_j}{t} = \underbrace{\frac{1 - P_+}{t}}_{\text{how hard}}\;
#   \underbrace{r(s_j)\vphantom{\frac{1}{t}}}_{\text{whom}}$$
#
# Temperature has two parts in it. It decides *whom* the push goes to, through $r$, and *how hard*
# the query pushes at all. `temperature.gradient` is this formula, `temperature.slopes` is JAX's
# derivative of any loss; on InfoNCE they agree.

# %%
every = jnp.asarray(np.concatenate([[S_PLUS], S_MINUS]), jnp.float32)
for t in (0.02, 0.1, 0.5):
    by_jax = slopes(functools.partial(info_nce, temperature=t, group_size=N + 1), every)
    pull, push = gradient(S_PLUS, S_MINUS, t)
    apart = np.abs(by_jax - np.concatenate([[pull], push])).max() / -pull
    print(f"t = {t:g}: largest difference {apart:.0e} of the pull")

# %% [markdown]
# *How hard* has a cost of its own. A query whose positive is behind, as this one's is, pulls with
# about $1/t$: fifty times as hard at 0.02 as at 1. A query whose positive is well ahead pulls with
# nothing at a low temperature, since $1 - P_+$ falls exponentially, and keeps pulling at a high
# one. Low temperatures learn from mistakes, hard; high ones from everything, softly.

# %%
ahead = int(np.argmax(positives(base) - negatives(base).max(axis=1)))
easy = float(positives(base)[ahead]), negatives(base)[ahead]
print("temperature   behind: 1 - P+     pull    ahead: 1 - P+     pull")
for t in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0):
    behind, before = (-float(gradient(s, others, t)[0]) for s, others in ((S_PLUS, S_MINUS), easy))
    print(f"{t:11g}  {t * behind:15.3f}  {behind:7.2f}  {t * before:15.1e}  {before:7.1e}")

# %% [markdown]
# ## How many negatives share the push
#
# The entropy of $r$ says how many: $e^{H(r)}$ *effective negatives*. It only ever rises with
# temperature, because its slope is a variance:
#
# $$\frac{dH}{dt} = \frac{\mathrm{Var}_r(s)}{t^3} \ge 0$$
#
# where the variance is that of the similarities under $r$ itself.

# %%
for t in (0.02, 0.1, 0.5):
    count = float(np.exp(entropy(S_MINUS, t)))
    by_jax = jax.grad(lambda t: entropy(jnp.asarray(S_MINUS), t))(t)
    formula = entropy_slope(S_MINUS, t)
    print(f"t = {t:g}: {count:5.1f} effective; dH/dt {by_jax:.3f} by JAX, {formula:.3f} by formula")

# %% [markdown]
# ## Only the spread of the logits counts
#
# Whom the push goes to, $P$, $r$ and $H$, depends on similarities and temperature through the
# logits $s/t$ alone. (How hard it is does not: the pull $(1 - P_+)/t$ has another $t$, and so has
# $dH/dt$.) So whether 0.02 is a low temperature depends on the encoder: it is low if the cosines of
# a query's negatives are spread over 0.2, and not at all if they are spread over 0.02.
#
# Five encoders: the first one before it has learned anything, and four after. Left, effective
# negatives (mean over queries) at each temperature: the same $t$ is a handful of negatives for one
# encoder and most of them for another. Right, the same lines against $t/\sigma$, where $\sigma$ is
# the standard deviation of the cosines of a query's negatives: most of the difference is gone. The
# dotted line is $N e^{-\sigma^2/2t^2}$, what cosines from a normal distribution would give.

# %%
parts = assemble(experiment)
untrained = [similarities(parts.encoder, parts.program.start.init(seed)) for seed in (0, 1)]
encoders = {"before training": untrained} | {f"trained at {t:g}": trained[t] for t in SHOWN}
styles = dict(zip(encoders, ["tab:red", *COLOURS.values()], strict=True))


def spread(s):
    """Standard deviation of the cosines of a query's negatives, mean over queries."""
    return float(negatives(s).std(axis=1).mean())


def effective(s, t):
    """Effective negatives, mean over queries."""
    return float(np.exp(entropy(negatives(s), t)).mean())


heat = np.geomspace(0.003, 1, 40)
_, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
for name, (s, _) in encoders.items():
    counts = [effective(s, t) for t in heat]
    left.plot(heat, counts, color=styles[name], label=name)
    right.plot(heat / spread(s), counts, color=styles[name])
ratio = np.geomspace(0.2, 30, 60)
right.plot(ratio, N * np.exp(-0.5 / ratio**2), "k:", lw=1)
left.set(xscale="log", yscale="log", xlabel="temperature", ylabel=f"effective negatives of {N}")
right.set(xscale="log", ylim=(1, N), xlabel="temperature / spread of the cosines")
left.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Training fits the spread to the temperature
#
# An encoder is not given its spread, it learns it, and from the temperature. The table has each
# encoder's spread, the distance of its positives above its negatives, and how many negatives are
# in effect at its own temperature and at others.
#
# - At a low temperature small differences of cosines are already large differences of logits.
#   Training has no reason to widen them, and leaves a narrow spread high up: published encoders
#   trained at 0.01 say so themselves (E5's cosines lie in about 0.7 to 1, BGE's first ones in 0.6
#   to 1, by their model cards).
# - At a high temperature training widens the spread as far as it can, but a cosine ends at 1. At
#   0.5 the largest possible logit difference is 4, and most negatives stay in effect however long
#   one trains: the encoder *cannot* discriminate more finely.

# %%
rows = {f"trained at {t:g}": trained[t][0] for t in TEMPERATURES}
rows = {"before training": untrained[0], **rows}
print(f"{'':16}  spread  positive  negative   R@1   effective negatives of {N} at t =")
print(f"{'':16}                                       0.01   0.02   0.05    0.1    0.5")
for name, s in rows.items():
    found = "".join(f"{effective(s, t):7.0f}" for t in (0.01, 0.02, 0.05, 0.1, 0.5))
    means = f"{positives(s).mean():8.2f}  {negatives(s).mean():8.2f}"
    right = float(np.mean(s.argmax(axis=1) == np.arange(N + 1)))
    print(f"{name:16}  {spread(s):6.3f}  {means}  {right:4.2f}  {found}")

# %% [markdown]
# ## Why 0.02 for a pretrained encoder
#
# Read the table by rows. The encoders trained at 0.01 and 0.02 stand for published ones, which
# were trained at such temperatures: they bring a narrow spread. At 0.02 a part of their negatives
# is in effect, the hard ones; at 0.1 most are, and at 0.5 all. There the softmax is nearly flat
# and says much the same of every document: before training can tell documents apart it has to pull
# the whole arrangement wider, and what the encoder knew is in that arrangement. So keep to the
# temperature that an encoder was trained at, and where it is not known begin at 0.02, which is
# FlagEmbedding's default.
#
# That is the mechanism, and not a measurement of your task. The encoders here have little to lose,
# and by the column R@1 those of a higher temperature are the better ones. And an encoder that was
# not trained contrastively has another spread: for BERT-base, SimCSE (arXiv:2104.08821) found 0.05
# best.
#
# ## Why 0.05 to 0.1 from scratch
#
# Read the row before training. Its spread is that of random vectors, wide already, and at 0.02 few
# negatives are in effect. But *which*? Two encoders that differ in their first vectors alone can
# be asked: the overlap of their penalty distributions,
#
# $$\sum_j \min(r^{(1)}_j, r^{(2)}_j),$$
#
# is the part of the push that both give to the same negatives. What is not common is noise, and
# at low temperatures before training nearly all is.


# %%
def overlap(two, t):
    """Common part of the penalty distributions of two encoders, mean over queries."""
    one, other = (np.asarray(penalty(negatives(s), t)) for s in two)
    return float(np.minimum(one, other).sum(axis=1).mean())


_, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), sharey=True)
for name, two in encoders.items():
    common = [overlap(two, t) for t in heat]
    left.plot(heat, common, color=styles[name], label=name)
    right.plot([effective(two[0], t) for t in heat], common, color=styles[name])
left.set(xscale="log", xlabel="temperature", ylabel="overlap of two seeds", ylim=(0, 1))
right.set(xscale="log", xlabel="effective negatives")
left.legend(fontsize=8)
plt.show()
print("temperature         0.02   0.05    0.1")
for name, two in encoders.items():
    print(f"{name:16}" + "".join(f"{overlap(two, t):7.2f}" for t in (0.02, 0.05, 0.1)))

# %% [markdown]
# Right: at the same number of effective negatives, trained encoders agree about who they are far
# more than untrained ones do. A low temperature stakes the gradient on the order of the most
# similar negatives, and that order has to be worth something. From scratch it is not yet. At 0.05
# to 0.1 the push is spread over so many negatives that a good part of it is common, and the
# encoder learns what the data say rather than what its first vectors said. A way to have both is to
# begin high and come down (`loss.policy:warm-down`).
#
# ## What to remember
#
# - Temperature divides similarities; the gradient is $P/t$. It decides whom the push goes to and
#   how hard.
# - What counts is $t$ beside the spread of the negatives' cosines. `effective_negatives` in a
#   run's log is the number to watch: near 1 in the first steps, the temperature is low for this
#   encoder; near all of them at the end, high.
# - Low temperatures leave narrow spreads, and encoders trained at them want them again: 0.02.
#   Encoders from scratch have nothing to stake on a few negatives: 0.05 to 0.1.
# - These are places to start from. The best temperature depends on the data, and
#   [a sweep](03_sweep.ipynb) finds it.
