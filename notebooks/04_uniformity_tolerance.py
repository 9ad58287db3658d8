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
# # Uniformity and tolerance
#
# What does a temperature do to where embeddings lie? Three numbers say most of it. For unit
# vectors $x_i$:
#
# - **alignment**, $\;\mathbb{E}\,\lVert x_i - x_i^+ \rVert^2$: how far a text is from its positive;
# - **uniformity**, $\;\log \mathbb{E}\, e^{-2 \lVert x_i - x_j \rVert^2}$ over all pairs: how
#   evenly texts fill the sphere, lower is more even (Wang and Isola, arXiv:2005.10242);
# - **tolerance**, $\;\mathbb{E}\, x_i \cdot x_j$ over pairs of one class: how close texts of one
#   kind may stay although the loss never said that they belong together (Wang and Liu,
#   arXiv:2012.09740).
#
# Wang and Liu's dilemma: a low temperature pushes the nearest texts apart, which are those of the
# same kind, and makes embeddings uniform and intolerant; a high one leaves them together.

# %%
import json
import logging
import os

os.environ["TQDM_DISABLE"] = "1"  # a saved notebook needs no progress bars

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib_inline.backend_inline import set_matplotlib_formats

from contrastive import info_nce
from contrastive.config import Data, Experiment, Jsonl, Loss, Optimizer, Static, WordPiece
from contrastive.lab.claims import curve
from contrastive.lab.grid import Grid
from contrastive.lab.sweep import sweep
from contrastive.temperature import entropy
from contrastive.training.assemble import assemble

logging.getLogger("absl").setLevel(logging.ERROR)
set_matplotlib_formats("png")
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}

TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
FIELD = "loss.temperature"
scratch = tempfile.TemporaryDirectory()  # gone with the kernel
FOLDER = Path(scratch.name)
rng = np.random.default_rng(0)

# %% [markdown]
# ## A corpus with classes
#
# Tolerance needs classes, so the texts are made up. There are 40 topics with 80 words of their own
# each, and 60 common words, some far more frequent than others. A text has 12 words, about a third
# of them from its topic. A *view* of a text is the text with four words in ten left out. Two views
# of a text are a positive pair, as in SimCLR and in Wang and Liu; the loss is never told a topic.

# %%
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]
WORDS = rng.permutation([a + b + c for a in SYLLABLES for b in SYLLABLES for c in "nrst"])
TOPICS = 40
OF_TOPIC, COMMON = WORDS[:3200].reshape(TOPICS, 80), WORDS[3200:3260]
FREQUENCY = 1 / np.arange(1, 61) / np.sum(1 / np.arange(1, 61))


def make_text(topic):
    """Twelve words, about a third of them the topic's."""
    own, common = rng.choice(OF_TOPIC[topic], 12), rng.choice(COMMON, 12, p=FREQUENCY)
    return np.where(rng.random(12) < 0.35, own, common)


def view(text):
    """The text with four words in ten left out."""
    kept = text[rng.random(12) < 0.6]
    return " ".join(kept if len(kept) else text[:1])


topics, held_topics = rng.integers(TOPICS, size=3000), rng.integers(TOPICS, size=500)
texts, held = [make_text(t) for t in topics], [make_text(t) for t in held_topics]
rows = [{"query": view(text), "pos": [view(text) for _ in range(4)]} for text in texts]
(FOLDER / "views.jsonl").write_text("\n".join(map(json.dumps, rows)))
for row in rows[:2]:
    print(row["query"], "  ->  ", row["pos"][0])

# %% [markdown]
# ## An encoder for each temperature
#
# Seven temperatures, two seeds. Each trained encoder is asked two things about held-out texts: to
# find the other view of the same text among 500 (R@1, the task it was trained for), and to find the
# topic of a text by the vote of its ten nearest among texts with known topics (what a user
# may want of it). Alignment and R@1 are of views, and uniformity is once (`views' unif.`); all else
# is of whole texts: mean cosine and spread are the mean and the standard deviation of the cosines
# of any two.

# %%
WHOLE, KNOWN = [" ".join(text) for text in held], [" ".join(text) for text in texts[:1500]]
VIEWS = [[view(text) for text in held] for _ in range(2)]
APART = ~np.eye(len(held), dtype=bool)
SAME_TOPIC = (held_topics[:, None] == held_topics[None, :]) & APART
kept = []


def measure(encoder, params):
    """Numbers of a trained encoder; its cosines of views are kept too."""
    x, known = encoder.documents(params, WHOLE), encoder.documents(params, KNOWN)
    whole = (x @ x.T)[APART]
    cosines = encoder.queries(params, VIEWS[0]) @ encoder.documents(params, VIEWS[1]).T
    kept.append(cosines)
    nearest = np.argsort(-x @ known.T, axis=1)[:, :10]
    votes = np.eye(TOPICS)[topics[nearest]].sum(axis=1)
    found = {
        "alignment": np.mean(2 - 2 * np.diag(cosines)),
        "views' unif.": np.log(np.mean(np.exp(4 * cosines[APART] - 4))),
        "uniformity": np.log(np.mean(np.exp(4 * whole - 4))),
        "tolerance": np.mean((x @ x.T)[SAME_TOPIC]),
        "R@1": np.mean(cosines.argmax(axis=1) == np.arange(len(held))),
        "topic": np.mean(votes.argmax(axis=1) == held_topics),
        "mean cosine": np.mean(whole),
        "spread": np.std(whole),
    }
    return {name: float(value) for name, value in found.items()}


experiment = Experiment(
    name="views",
    steps=150,
    batch_size=128,
    data=Data(
        train=Jsonl(path=str(FOLDER / "views.jsonl")),
        tokenizer=WordPiece(vocab_size=8192),
        query_max_length=16,
        document_max_length=16,
    ),
    model=Static(width=64),
    loss=Loss(temperature=0.1),
    optimizer=Optimizer(learning_rate=5e-3, warmup_steps=10, max_grad_norm=None),
    log_steps=50,
)
NAMES = ("R@1", "alignment", "views' unif.", "uniformity", "tolerance", "mean cosine", "spread")
NAMES += ("topic",)


def run(experiment, folder, score, names):
    """Sweeps the temperature and prints means over seeds; these, and a row a run."""
    rows = sweep(Grid(experiment, {FIELD: TEMPERATURES}, seeds=2), FOLDER / folder, score)["rows"]
    curves = {name: curve(rows, FIELD, name) for name in names}
    print("temperature" + "".join(f"{name:>13}" for name in names))
    for t in TEMPERATURES:
        print(f"{t:11g}" + "".join(f"{curves[name][t].mean:13.3f}" for name in names))
    return curves, rows


found, _ = run(experiment, "views", measure, NAMES)

# %% [markdown]
# ## The plane
#
# Left, uniformity and tolerance of the encoders, a dot for each temperature. From 0.1 upwards this
# is Wang and Liu's dilemma: uniformity gets worse (to the right), slowly here, and tolerance rises,
# until both have gone as far as they can. Right, alignment and uniformity, both of views: Wang and
# Isola's plane, where good encoders are to the lower left. No temperature is best in both.

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.4), layout="constrained")
planes = (left, "uniformity", "tolerance"), (right, "views' unif.", "alignment")
for plot, of, name in planes:
    across, up = ([found[x][t].mean for t in TEMPERATURES] for x in (of, name))
    plot.plot(across, up, "-", color="0.7", zorder=0)
    plot.scatter(across, up, c=np.log(TEMPERATURES), cmap="viridis", s=36)
    for t, x, y in zip(TEMPERATURES, across, up, strict=True):
        away = {0.2: (-20, -3), 1.0: (6, -4)}.get(t, (5, 5))
        plot.annotate(f"{t:g}", (x, y), away, textcoords="offset points", fontsize=8)
    plot.set(xlabel="uniformity (left: more even)", ylabel=name, xmargin=0.12)
plt.show()

# %% [markdown]
# ## What it costs
#
# Tolerance is what the topics are found by, uniformity what single texts are told apart by. So the
# two tasks want different temperatures: finding the same text is best at a lower one than finding
# texts of the same topic. Neither wants the lowest.

# %%
_, plot = plt.subplots(figsize=(4.8, 3.2))
for name, words in (("R@1", "the same text, R@1"), ("topic", "the topic, 10 nearest")):
    plot.plot(TEMPERATURES, [found[name][t].mean for t in TEMPERATURES], "o-", ms=4, label=words)
plot.set(xscale="log", xlabel="temperature", ylabel="accuracy")
plot.legend(frameon=False)
plt.show()
for name in ("R@1", "topic"):
    print(f"{name}: best at {max(TEMPERATURES, key=lambda t: found[name][t].mean):g}")

# %% [markdown]
# ## The reversal
#
# Below 0.1 the plane turns round: uniformity gets *worse* again, by more than anywhere else, and at
# last tolerance rises too, though nothing good comes of it. The reason is in the column of the mean
# cosine. From scratch, the softmax of a low temperature hears one or two negatives, and training
# pushes all texts together until it hears more ([03_sweep](03_sweep.ipynb) shows the course of it).
# Texts of one topic are then close because *all* texts are close. Wang and Liu's temperatures, from
# 0.05 up, end where this begins. Tolerance is worth something only above the mean cosine of all
# pairs of the same texts. So counted, there is no turn: it rises all the way from 0.01 to 0.5, and
# what low temperatures have of it is little.

# %%
print("temperature   tolerance - mean cosine")
for t in TEMPERATURES:
    print(f"{t:11g}   {found['tolerance'][t].mean - found['mean cosine'][t].mean:.3f}")

# %% [markdown]
# ## A narrow range of cosines: harmless for ranking
#
# Published encoders trained at 0.01 have cosines between about 0.7 and 1 for anything (E5), or 0.6
# and 1 (the first BGE); users take it for a fault. Give every embedding one more component of the
# same size $c$ and normalise again. Every cosine becomes
#
# $$s' = \frac{s + c^2}{1 + c^2},$$
#
# with $c^2 = 3$: $0.75 + s/4$. It is a rising function of $s$, so no rank can change.

# %%
wide = kept[2 * TEMPERATURES.index(0.1)].astype(float)  # trained at 0.1
narrow = (wide + 3) / 4
orders = [np.argsort(s, axis=1, kind="stable") for s in (wide, narrow)]
print("every rank is kept:", np.array_equal(*orders))
for name, s in (("as trained at 0.1", wide), ("narrowed", narrow)):
    low, high = np.percentile(s, [1, 99])
    print(f"{name:18}: 98 % of cosines in [{low:.2f}, {high:.2f}]")

# %% [markdown]
# It also says what a narrow range wants: logits $s'/t'$ are, but for a constant that cancels in a
# softmax, those of $s/t$ with $t' = t/(1 + c^2)$. A quarter of the range, a quarter of the
# temperature.

# %%
for s, t in ((wide, 0.1), (narrow, 0.1), (narrow, 0.025)):
    count = np.exp(entropy(s[APART].reshape(len(s), -1), t)).mean()
    name = "as trained" if s is wide else "narrowed"
    print(f"{name:10} at {t:<5g}: {count:.1f} effective negatives of {len(s) - 1}")

# %% [markdown]
# ## But not for thresholds
#
# A threshold is another matter: "the same text if the cosine is above 0.5" means nothing without
# the encoder. For each temperature, from views of the same and of different texts: how often a
# positive pair is above a negative one (AUC, which only knows ranks), the threshold with the best
# accuracy on equally many of both, its accuracy, and that of the threshold that is best for 0.1.


# %%
def at_threshold(s, threshold):
    """Accuracy on equally many positive and negative pairs."""
    return (np.mean(np.diag(s) > threshold) + np.mean(s[APART] <= threshold)) / 2


GRID = np.linspace(-0.5, 1, 301)
scores = {t: kept[2 * number] for number, t in enumerate(TEMPERATURES)} | {"narrowed": narrow}
usual = GRID[np.argmax([at_threshold(scores[0.1], x) for x in GRID])]
print(f"trained at     AUC   best threshold   accuracy   accuracy at {usual:.2f}")
for name, s in scores.items():
    auc = np.mean(np.searchsorted(np.sort(s[APART]), np.diag(s)) / APART.sum())
    threshold = GRID[np.argmax([at_threshold(s, x) for x in GRID])]
    best, other = at_threshold(s, threshold), at_threshold(s, usual)
    print(f"{name!s:10}  {auc:6.3f}   {threshold:14.2f}   {best:8.3f}   {other:16.3f}")

# %% [markdown]
# Read the last row: the same ranks, the same AUC, the same accuracy at a threshold of its own, and
# no better than a coin at the other's. So: rank by cosines of any encoder, but set thresholds for
# each on held-out pairs of yours, and again after each training.
#
# ## The modality gap
#
# Two kinds of texts that share no words, say two languages, are two regions of the sphere before
# training: their frequent words point somewhere, and elsewhere for each. Liang et al.
# (arXiv:2203.02053) found that CLIP keeps such a *gap* between images and captions, and that its
# temperature of 1/100 keeps it. The gap is the distance of the means,
# $\lVert \mathbb{E}\,q - \mathbb{E}\,d \rVert$.
#
# A made-up language and its translation, word by word, with seven words in ten that find their
# translation, and two frequent words in each that mean nothing:

# %%
HERE, THERE = WORDS[4000:4800].reshape(2, 400)
FREQUENT = WORDS[4800:4804].reshape(2, 2)


def translated():
    """Four words and their translation, and frequent words in both."""
    meaning = rng.choice(400, 4)
    other = np.where(rng.random(4) < 0.7, THERE[meaning], rng.choice(FREQUENT[1], 4))
    sides = (HERE[meaning], rng.choice(FREQUENT[0], 7)), (other, rng.choice(FREQUENT[1], 7))
    return [" ".join(np.concatenate(side)) for side in sides]


sentences = [translated() for _ in range(4000)]
ASKED, ANSWERS = zip(*(translated() for _ in range(500)), strict=True)
rows = [json.dumps({"query": here, "pos": [there]}) for here, there in sentences]
(FOLDER / "languages.jsonl").write_text("\n".join(rows))
languages = experiment.replace(
    name="languages",
    **{
        "data.train": Jsonl(path=str(FOLDER / "languages.jsonl")),
        "steps": 200,
        "optimizer.learning_rate": 2e-3,
    },
)
towers = []


def measure_gap(encoder, params):
    """The gap, and how well translations are found."""
    x, y = encoder.queries(params, ASKED), encoder.documents(params, ANSWERS)
    towers.append((x, y))
    right = np.argmax(x @ y.T, axis=1) == np.arange(len(x))
    gap = np.linalg.norm(x.mean(axis=0) - y.mean(axis=0))
    return {"gap": float(gap), "R@1": float(right.mean())}


parts = assemble(languages)
start = measure_gap(parts.encoder, parts.program.start.init(0))["gap"]
towers.clear()
print(f"gap before training: {start:.2f}")
gaps, each = run(languages, "languages", measure_gap, ("gap", "R@1"))

# %% [markdown]
# All temperatures close the gap a part of the way, the lowest one least: training at 0.01 leaves
# a good part of it, at 0.2 and above next to nothing is left. At 0.01 the fewest translations are
# found, too. But the gap does not decide how many: most are found at 0.1, which leaves some of it,
# and at 0.2, which leaves none, and fewer again at 0.5 and 1, where there is none either. (A dot is
# a seed.)

# %%
_, (left, right) = plt.subplots(1, 2, figsize=(9.6, 3.2), layout="constrained")
for plot, name in ((left, "gap"), (right, "R@1")):
    (line,) = plot.plot(TEMPERATURES, [gaps[name][t].mean for t in TEMPERATURES])
    seeds = [row[FIELD] for row in each], [row[name] for row in each]
    plot.plot(*seeds, "o", ms=4, color=line.get_color())
    plot.set(xscale="log", xlabel="temperature", ylabel=name)
left.axhline(start, color="0.5", ls=":", label="before training")
left.legend(frameon=False)
plt.show()

# %% [markdown]
# Why does a low temperature keep more of it? Take the gap away from an encoder trained at 0.01, as
# Liang et al. do: move all answers along the line between the means, and normalise again. The move
# by itself changes no loss, at any temperature: all cosines of a query change by the same, and that
# cancels, like the constant above. But moved answers are shorter, and normalising divides their
# cosines by their length: those of a query are spread wider, as if the temperature were lower. That
# is what taking the gap away brings a query.

# %%
x, y = towers[0]  # trained at 0.01
between = y.mean(axis=0) - x.mean(axis=0)
moves = np.linspace(-0.5, 1.5, 41)


def moved(move):
    """The answers moved by a share of the gap, and normalised again; and how long they were."""
    answers = y - move * between
    lengths = np.linalg.norm(answers, axis=1, keepdims=True)
    return answers / lengths, lengths.mean()


def loss(answers, t):
    """InfoNCE of the held-out pairs."""
    return float(info_nce(x, answers, temperature=t).mean())


print("gap taken away   length   spread of a query's cosines")
for move in (0.0, 0.6, 1.0, 1.4):
    answers, length = moved(move)
    row_spread = (x @ answers.T).std(axis=1).mean()
    print(f"{move:14.1f}   {length:6.2f}   {row_spread:27.3f}")
_, plot = plt.subplots(figsize=(4.8, 3.2))
wider = np.linspace(1, 3, 41)
print("\nloss at   changed by the move alone   lowest with: gap taken away   or cosines as wide")
for t in (0.01, 0.1, 0.5):
    losses = np.array([loss(moved(move)[0], t) for move in moves])
    plot.plot(moves, losses / loss(y, t), label=f"loss at {t:g}")
    alone = max(abs(loss(y - move * between, t) / loss(y, t) - 1) for move in moves)
    width = wider[np.argmin([loss(y, t / width) for width in wider])]
    print(f"{t:7g}   {alone:25.0e}   {moves[losses.argmin()]:28.2f}   {width:12.2f} times")
plot.axvline(0, color="0.6", ls=":")
plot.axvline(1, color="0.6", ls=":")
plot.set(xlabel="share of the gap that is taken away", ylabel="loss, of that as trained")
plot.legend(frameon=False)
plt.show()

# %% [markdown]
# At 0.01 the loss wants cosines 1.5 times as wide and no wider, and is lowest with a part of the
# gap still there. At 0.1 and 0.5 it wants them three times as wide, the most that was tried, and
# would have all of the gap gone and the answers moved on, to about where they are shortest. So a
# low temperature does not hold a gap open. It is content with a narrow spread, which a gap leaves;
# a high temperature is not.
#
# ## What to remember
#
# - High temperatures leave texts of a kind together, which classes and clusters want; lower ones
#   tell single texts apart, which retrieval wants. From scratch, the lowest do neither.
# - Cosines live where temperature put them. Ranks do not care; thresholds do, and so does the next
#   temperature: a narrow range wants a low one.
# - A tolerance, or a mean positive cosine, says nothing without the mean cosine of all pairs beside
#   it.
