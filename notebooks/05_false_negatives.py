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
# # False negatives
#
# In-batch negatives are other queries' positives, taken for wrong answers without looking. Some of
# them are right. Such a *false negative* is similar to the query because it should be, and a
# softmax pushes most what is most similar: the lower the temperature, the more of the push goes to
# exactly the documents that deserve none.
#
# This notebook measures that on texts whose topics are known, then what can be done: masks by what
# is known of the texts, masks by scores, and losses that expect false negatives.

# %%
import json
import logging
import os

os.environ["TQDM_DISABLE"] = "1"  # a saved notebook needs no progress bars

import functools
import tempfile
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats

from contrastive import diagnose
from contrastive.config import (
    Data,
    Experiment,
    HardNegative,
    Jsonl,
    Loss,
    Optimizer,
    Static,
    WordPiece,
)
from contrastive.lab.claims import shown
from contrastive.lab.grid import Grid
from contrastive.lab.sweep import sweep
from contrastive.lab.table import interval
from contrastive.losses import hard_negative
from contrastive.temperature import penalty, slopes
from contrastive.training.assemble import assemble

logging.getLogger("absl").setLevel(logging.ERROR)
set_matplotlib_formats("png")
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}

scratch = tempfile.TemporaryDirectory()  # gone with the kernel
FOLDER = Path(scratch.name)
rng = np.random.default_rng(0)

# %% [markdown]
# ## Texts with topics
#
# 40 topics of 80 words each, drawn from the same 1,200 words, so that a word is in two or three of
# them; and 60 common words, some far more frequent than others. A text has 12 words, about a third
# of them from its topic. A query's positive is another text of its topic. So every text of a topic
# answers every other, and in a batch of 128 about three of a query's 127 negatives are false.

# %%
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
WORDS = rng.permutation([a + b + c for a in SYLLABLES for b in SYLLABLES for c in "nrst"])
TOPICS = 40
OF_TOPIC = [rng.choice(WORDS[:1200], 80, replace=False) for _ in range(TOPICS)]
COMMON, FREQUENCY = WORDS[1200:1260], 1 / np.arange(1, 61) / np.sum(1 / np.arange(1, 61))


def make_text(topic):
    """Twelve words, about a third of them the topic's."""
    own, common = rng.choice(OF_TOPIC[topic], 12), rng.choice(COMMON, 12, p=FREQUENCY)
    return " ".join(np.where(rng.random(12) < 0.35, own, common))


def others(number):
    """All other texts of a text's topic, in random order."""
    same = np.flatnonzero(topics == topics[number])
    return [texts[place] for place in rng.permutation(same[same != number])]


topics = rng.integers(TOPICS, size=2000)
texts = [make_text(topic) for topic in topics]
rows = [{"query": text, "pos": others(number)} for number, text in enumerate(texts)]
(FOLDER / "topics.jsonl").write_text("\n".join(map(json.dumps, rows)))
print(rows[0]["query"], "  ->  ", rows[0]["pos"][0], f"  ({len(rows[0]['pos'])} known positives)")

# %% [markdown]
# ## Four rules at four temperatures
#
# Everything below rests on these runs, three seeds each:
#
# - **none**: every other query's document is a negative;
# - **known**: documents that are among the row's `"pos"` are not, by their texts. This is the
#   default, and here an oracle: every false negative is known;
# - **0.1 above**: a document more similar than the positive by over 0.1 is not
#   (`loss.above_positive=0.1`, Qwen3-Embedding's rule, arXiv:2506.05176);
# - **above**: the same with 0.
#
# An encoder's score is how often the ten nearest of 1,500 texts say the topic of a new text.

# %%
held_topics = rng.integers(TOPICS, size=400)
QUERIES, DOCUMENTS = ([make_text(topic) for topic in held_topics] for _ in range(2))
SCORE, NEVER = "topic", 3.0  # no cosine is so far above another
SEEDS = 3
embeddings = []


def measure(encoder, params):
    """How often the topic is found; embeddings of held-out pairs are kept."""
    x, known = encoder.queries(params, QUERIES), encoder.documents(params, texts[:1500])
    embeddings.append((x, encoder.documents(params, DOCUMENTS)))
    votes = np.eye(TOPICS)[topics[np.argsort(-x @ known.T, axis=1)[:, :10]]].sum(axis=1)
    return {SCORE: float(np.mean(votes.argmax(axis=1) == held_topics))}


experiment = Experiment(
    name="false negatives",
    steps=120,
    batch_size=128,
    data=Data(
        train=Jsonl(path=str(FOLDER / "topics.jsonl")),
        tokenizer=WordPiece(vocab_size=8192),
        query_max_length=16,
        document_max_length=16,
    ),
    model=Static(width=64),
    loss=Loss(temperature=0.1),
    optimizer=Optimizer(learning_rate=5e-3, warmup_steps=10, max_grad_norm=None),
    log_steps=50,
)
TEMPERATURE, ABOVE = "loss.temperature", "loss.above_positive"
TEMPERATURES = (0.02, 0.05, 0.1, 0.5)
unmasked = experiment.replace(**{"loss.mask_false_negatives": False, ABOVE: NEVER})
axes = {ABOVE: (NEVER, 0.1, 0.0), TEMPERATURE: TEMPERATURES}
by_score = sweep(Grid(unmasked, axes, SEEDS), FOLDER / "by score", measure)["rows"]
known = sweep(Grid(experiment, {TEMPERATURE: TEMPERATURES}, SEEDS), FOLDER / "known", measure)
RUNS = {
    name: [row for row in by_score if row[ABOVE] == limit]
    for name, limit in (("none", NEVER), ("0.1 above", 0.1), ("above", 0.0))
}
RUNS["known"] = known["rows"]
print(sum(map(len, RUNS.values())), "runs")

# %% [markdown]
# ## Where the push goes
#
# First with encoders trained without any rule, at 0.1. Left, cosines of 400 held-out queries to
# their positive, to the positives of other queries of their topic (the false negatives), and to the
# rest. False negatives lie where the positives lie: to the encoder they are the same.
#
# Right, the part of the push that goes to false negatives, $\sum_{j\ \text{false}} r(s_j)$ with
# $r(s_j) = e^{s_j/t} / \sum_k e^{s_k/t}$, as a function of the temperature; dotted, their share
# among the negatives, which is what a high temperature gives them. An untrained encoder cannot
# tell them yet, and pushes them little more than others. As it learns, it learns to find them, and
# at a low temperature to push little else.

# %%
OTHER = ~np.eye(len(held_topics), dtype=bool)
FALSE = (held_topics[:, None] == held_topics[None, :]) & OTHER
x, y = embeddings[SEEDS * TEMPERATURES.index(0.1)]  # no rule, 0.1, the first seed
parts = assemble(experiment)
start = parts.program.start.init(0)
untrained = parts.encoder.queries(start, QUERIES) @ parts.encoder.documents(start, DOCUMENTS).T
heat = np.geomspace(0.01, 1, 30)


def to_false(s, t, masked=False):
    """Share of the push that goes to false negatives, mean over queries; masked have none."""
    r = penalty(jnp.where(OTHER & ~np.asarray(masked), s, -jnp.inf), t)
    return float(jnp.sum(jnp.where(FALSE, r, 0.0), axis=1).mean())


_, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.2), layout="constrained")
bins = np.linspace(-0.6, 1, 41)
for mask, name, colour in (
    (~OTHER, "positives", "tab:green"),
    (FALSE, "false negatives", "tab:red"),
    (OTHER & ~FALSE, "true negatives", "0.5"),
):
    share = np.histogram((x @ y.T)[mask], bins)[0] / mask.sum()
    left.step(bins[:-1], share, where="post", color=colour, label=name)
for s, name in ((x @ y.T, "trained at 0.1"), (untrained, "before training")):
    right.plot(heat, [to_false(s, t) for t in heat], label=name)
rate = FALSE.sum() / OTHER.sum()
right.axhline(rate, color="0.5", ls=":")
left.set(xlabel="cosine", ylabel="share")
right.set(xscale="log", xlabel="temperature", ylabel="part of the push on false negatives")
left.legend(frameon=False, fontsize=8)
right.legend(frameon=False, fontsize=8)
plt.show()
print(f"{rate:.1%} of negatives are false; their part of the push, trained at 0.1:")
print(", ".join(f"{to_false(x @ y.T, t):.2f} at {t:g}" for t in (0.02, 0.05, 0.1, 0.5)))

# %% [markdown]
# ## Masks
#
# A mask leaves a pair out of the softmax, numerator and denominator. What can be known:
#
# - **the text**: the same passage twice in a batch, or another passage listed in the row's `"pos"`.
#   Free, and never wrong, but only as good as the list;
# - **the score, absolutely**: `above_positive` $m$ leaves out $s_j > s_+ + m$;
# - **the score, relatively**: `relative_to_positive` $c$ leaves out $s_j > c\,s_+$ (as far below
#   $s_+$ where that is negative). NV-Retriever (arXiv:2407.15831) keeps mined negatives below 0.95
#   of the positive;
# - **another encoder's score**: `guide` leaves out what a frozen encoder finds closer than the
#   positive (GISTEmbed, arXiv:2402.16829). Here the guide is the encoder trained with the known
#   ones masked.
#
# On the held-out pairs: how many of the false negatives and how many of the true ones each leaves
# out, and a check of the sum against `masked_share` of `diagnose`, which is what a run logs. For
# known texts, half of the pairs are listed, at random: lists are seldom whole.

# %%
s, plus = x @ y.T, np.sum(x * y, axis=1)[:, None]
guide_x, guide_y = embeddings[len(by_score) + SEEDS * TEMPERATURES.index(0.1)]
guide = guide_x @ guide_y.T
listed = np.where(rng.random(FALSE.shape) < 0.5, FALSE, False)
ids = jnp.arange(1, len(s) + 1)  # a text's id; 0 is no text
listed_ids = jnp.where(listed, ids, 0)
by_guide = {"guide_queries": jnp.asarray(guide_x), "guide_documents": jnp.asarray(guide_y)}
RULES = {
    "half of them known": (listed, {"document_ids": ids, "known_positive_ids": listed_ids}),
    "0.1 above": (s > plus + 0.1, {"above_positive": 0.1}),
    "above": (s > plus, {"above_positive": 0.0}),
    "0.95 of the positive": (s > plus - 0.05 * abs(plus), {"relative_to_positive": 0.95}),
    "guide": (guide > np.diag(guide)[:, None], by_guide),
}
print("                      share that is left out of        of those left out")
print("rule                  false  true    all  masked_share       are false")
for name, (mask, told) in RULES.items():
    seen = diagnose(jnp.asarray(x), jnp.asarray(y), temperature=0.1, **told)
    of_false, of_true, of_all = (mask[kind].mean() for kind in (FALSE, OTHER & ~FALSE, OTHER))
    counted = f"{of_false:5.2f}  {of_true:5.3f}  {of_all:5.3f}  {seen.masked_share.mean():12.3f}"
    print(f"{name:20}  {counted}  {FALSE[mask & OTHER].mean():14.2f}")
before = (untrained > np.diag(untrained)[:, None]) & OTHER
above, wrong = before[OTHER].mean(), FALSE[before].mean()
print(
    f"before training {above:.2f} of all are above the positive, and of those {wrong:.3f} are false"
)

# %% [markdown]
# Rules by score find about half of the false negatives, since a false negative is above the
# positive as often as below it. And most of what they leave out is *not* false: true negatives are
# so many that even the few of them above the positive are the larger part. Those are hard ones,
# which an encoder may learn most from. The margin of 0.1 is the cautious end, 0.95 the other. A
# guide no better than the encoder itself finds no more than it does.
#
# What is left of the problem, by temperature. A mask takes away most where the push was most
# misplaced; but what it misses, a low temperature still finds.

# %%
_, plot = plt.subplots(figsize=(5.2, 3.4))
plot.plot(heat, [to_false(s, t) for t in heat], "k", label="no mask")
for name, (mask, _) in RULES.items():
    plot.plot(heat, [to_false(s, t, mask) for t in heat], label=name)
plot.axhline(rate, color="0.5", ls=":")
plot.set(xscale="log", xlabel="temperature", ylabel="part of the push on false negatives")
plot.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# ## What masking gains, by temperature
#
# The runs from above: the score by temperature, a dot a seed, and the gain over no rule, with its
# 95 % confidence interval over seeds. Seeds are compared with themselves: they start from the same
# parameters and see the same batches.


# %%
def scores(name):
    """Topic scores [temperatures, seeds]."""
    rows = sorted(RUNS[name], key=lambda row: (row[TEMPERATURE], row["init_seed"]))
    return np.array([row[SCORE] for row in rows]).reshape(len(TEMPERATURES), SEEDS)


_, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
print("score       " + "".join(f"{t:>18g}" for t in TEMPERATURES))
for name in ("none", "known", "0.1 above", "above"):
    print(f"{name:12}" + "".join(f"{score:18.3f}" for score in scores(name).mean(axis=1)))
    (line,) = left.plot(TEMPERATURES, scores(name).mean(axis=1), label=name)
    left.plot(TEMPERATURES, scores(name), "o", ms=3, color=line.get_color())
print("gain")
for number, name in enumerate(("known", "0.1 above", "above"), start=1):
    gain = scores(name) - scores("none")
    right.plot(TEMPERATURES, gain.mean(axis=1), color=f"C{number}")
    right.plot(TEMPERATURES, gain, "o", ms=3, color=f"C{number}")
    print(f"{name:12}" + "".join(f"{shown(interval(x)):>18}" for x in gain.tolist()))
right.axhline(0, color="k", lw=0.8)
for plot, words in ((left, "topic found"), (right, "gain over no rule")):
    plot.set(xscale="log", xlabel="temperature", ylabel=words)
    plot.set_xticks(TEMPERATURES, [f"{t:g}" for t in TEMPERATURES])
    plot.set_xticks([], minor=True)
left.legend(frameon=False, fontsize=8)
plt.show()

# %% [markdown]
# A gain is one whose interval leaves out 0. **Known**, the oracle, which leaves out all false
# negatives and nothing else, gains at 0.05, 0.054 ± 0.031; at other temperatures its gain cannot be
# told from noise. **Above** gains 0.259 ± 0.040 at 0.02, 0.133 ± 0.068 at 0.05 and a little at 0.1,
# 0.015 ± 0.012. **0.1 above** gains as much at 0.05 and 0.1; at 0.02 its seeds differ too much to
# say, 0.077 ± 0.079. At 0.5, where false negatives have hardly more than their share of the push,
# no rule gains anything.
#
# So at 0.02 what masks by score gain is not about false negatives: **above** gains far *more* than
# the oracle. Before training, the documents above the positive are nearly all true negatives (the
# line below the table of masks), put there by chance, and at a low temperature they alone have the
# push. Leaving them out is a way not to listen to a few negatives before there is a reason to
# ([02_temperature](02_temperature.ipynb) and [03_sweep](03_sweep.ipynb) explain); the oracle still
# listens to them. For a pretrained encoder, which ranks better from its first step, expect less of
# such a gain.
#
# ## Losses that expect them
#
# Where nothing is known of single pairs, their expected number may be. With a share $\tau^+$ of
# false negatives, the debiased loss (arXiv:2007.00224) takes off the denominator what they are
# expected to add, and HCL (arXiv:2010.04592) weights hard negatives up by $e^{\beta s/t}$ besides.
# With $W$ the mean of $e^{s_j/t}$ over the $N$ negatives so weighted, and $R$ not below what it can
# be for cosines,
#
# $$L = -\log \frac{e^{s_+/t}}{e^{s_+/t} + R}, \qquad
#   R = N\, \frac{W - \tau^+ e^{s_+/t}}{1 - \tau^+}.$$
#
# $\beta = 0$ is the debiased loss, and $\tau^+ = 0$ besides is InfoNCE. Both papers use high
# temperatures (0.5), where a mean over all negatives means something; at 0.02 a few terms are the
# whole sum and there is nothing to take an average off. So at 0.5, three seeds, $\tau^+$ the true
# share of one in 40:

# %%
hard = unmasked.replace(**{"loss.function": HardNegative(), ABOVE: None, TEMPERATURE: 0.5})
BETA, TAU = "loss.function.beta", "loss.function.tau_plus"
axes = {TAU: (0.0, 0.025), BETA: (0.0, 0.5, 1.0)}
rows = sweep(Grid(hard, axes, SEEDS), FOLDER / "hard", measure)["rows"]
heads = (*(f"beta {beta:g}" for beta in axes[BETA]), "beta 1 over 0")
print("tau+     " + "".join(f"    {head:14}" for head in heads))
for tau in axes[TAU]:
    of = [[r[SCORE] for r in rows if (r[TAU], r[BETA]) == (tau, b)] for b in axes[BETA]]
    columns = (*of, (np.array(of[-1]) - of[0]).tolist())  # the same seeds
    print(f"{tau:<9g}" + "".join(f"    {shown(interval(x)):14}" for x in columns))
plain = zip(TEMPERATURES, scores("none").mean(axis=1), strict=True)
print("InfoNCE, no rule:", ", ".join(f"{score:.3f} at {t:g}" for t, score in plain))

# %% [markdown]
# Taking off the expected part changes next to nothing here, where one negative in 40 is false; in
# the papers' data of ten classes it is one in ten. Weighting hard negatives up may gain a little,
# 0.017 ± 0.022, which three seeds cannot tell from nothing. It is not the same as to lower the
# temperature, though. The weights depend on the similarities too, and the shares of the push are
#
# $$r^\beta_j = (1 + \beta)\, r_j(t / (1 + \beta)) - \beta\, r_j(t / \beta),$$
#
# for $\beta = 1$ those of half the temperature, twice, less those of the temperature itself. That
# is steeper than at half the temperature, while the push of all together stays $(1 - P_+) / t$.

# %%
r_half, r = (np.asarray(penalty(jnp.where(OTHER, s, -jnp.inf), t)) for t in (0.25, 0.5))
every = jnp.asarray(s[0])  # of the first query, whose positive is the first document
weighted = functools.partial(hard_negative, temperature=0.5, tau_plus=0.0, group_size=len(s))
by_jax = np.asarray(slopes(functools.partial(weighted, beta=1.0), every))[1:]
apart = np.abs(by_jax / by_jax.sum() - (2 * r_half - r)[0, 1:]).max()
print(f"HCL's shares of a query by JAX and by the formula differ by {apart:.0e} at most")
print("share of the hardest negative, mean over queries:")
for name, of in (("InfoNCE at 0.5", r), ("at 0.25", r_half), ("HCL at 0.5", 2 * r_half - r)):
    print(f"{name:16}{of.max(axis=1).mean():.3f}")

# %% [markdown]
# ## What to remember
#
# - At a low temperature a trained encoder's push goes to false negatives first. Before lowering it,
#   find out how many there are. `top_negative_share` near 1 is a reason to look.
# - Mask what is known by its text; that is the default, and more positives in `"pos"` make it
#   better. Watch `masked_share`.
# - Masks by score gain most at low temperatures. They find about half of the false negatives and
#   leave out more true ones than false ones, and from scratch that is a part of the gain. At high
#   temperatures they gain nothing.
# - Losses that expect false negatives belong to high temperatures and to data with many of them.
