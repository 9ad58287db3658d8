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
# # Sweeping the temperature
#
# The best temperature depends on the data, the encoder and the batch; a sweep finds it. Here: six
# temperatures, three seeds each, eighteen runs in one program, and how to read what comes out.

# %%
import logging
import os

os.environ["TQDM_DISABLE"] = "1"  # a saved notebook needs no progress bars

import json
import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet
from matplotlib_inline.backend_inline import set_matplotlib_formats

from contrastive.config import Data, Experiment, Loss, Optimizer, Pydoc, Static, WordPiece
from contrastive.lab.claims import curve, peaks_inside
from contrastive.lab.grid import Grid
from contrastive.lab.sweep import sweep
from contrastive.lab.table import shown
from contrastive.training.writers import read_metrics

logging.getLogger("absl").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="IProgress not found")
set_matplotlib_formats("png")
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}

# %% [markdown]
# ## What is swept
#
# An experiment as for `contrastive train`, small enough for this notebook: docstrings find the
# functions they belong to, among functions in files that were held out. (Reading the installed
# Python for them takes half a minute the first time.) Then a grid: a field of the experiment by
# its dotted name, its values, and how many seeds. Seeds differ in the first parameters alone; all
# runs see the same batches, so that what differs between two temperatures of one seed is the
# temperature.

# %%
experiment = Experiment(
    name="docstrings",
    steps=120,
    batch_size=128,
    data=Data(
        train=Pydoc(split="train"),
        test=Pydoc(split="validation"),
        tokenizer=WordPiece(vocab_size=4096),
        query_max_length=32,
        document_max_length=64,
    ),
    model=Static(width=64),
    loss=Loss(temperature=0.1),
    optimizer=Optimizer(learning_rate=5e-3, warmup_steps=10, max_grad_norm=None),
    log_steps=10,
)
TEMPERATURE = "loss.temperature"
grid = Grid(experiment, {TEMPERATURE: (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)}, seeds=3)
print(len(grid.members), "runs; the first three:")
for member in grid.members[:3]:
    print(member)

# %% [markdown]
# ## One program
#
# Temperature is a number that the step computes with, not one that decides a shape. So the step of
# all runs is one `vmap` over their parameters, compiled once, and the batches are read, tokenised
# and packed once for all. Numbers of the loss and of the optimizer can all be swept like this; a
# field that decides shapes, such as `batch_size`, is a program after the other, by the same call.
# A run of the sweep is, but for rounding, the run that `contrastive train` makes of
# `grid.alone(member)`.

# %%
scratch = tempfile.TemporaryDirectory()  # gone with the kernel
workdir = Path(scratch.name) / "sweep"
table = sweep(grid, workdir)
assert table is not None  # it would be, had it been interrupted: the same call goes on
print(f"{len(table['rows'])} runs in {table['session_seconds']:.0f} s, compiling included\n")
print(shown(table, ["nDCG@10", "Recall@100", "last/loss", "last/effective_negatives"]))

# %% [markdown]
# Each cell is a mean over seeds and its 95 % confidence interval by Student's $t$: with three
# seeds $\bar x \pm 4.3\, s / \sqrt 3$, wide on purpose, because three runs say little about
# their own variance.
#
# ## The inverted U
#
# Score against temperature has a best value inside and falls off to both sides. The band is the
# interval over seeds; the dotted line is BM25, which learns nothing, for scale. The cell below the
# picture asks whether the peak is more than noise: the best temperature is neither the first nor
# the last, and both ends are worse beyond their intervals.

# %%
score = curve(table["rows"], TEMPERATURE, "nDCG@10")
HEAT = np.array(list(score))


def band(plot, found, **style):
    """Means over seeds with their intervals."""
    (line,) = plot.plot(HEAT, [x.mean for x in found.values()], "o-", ms=4, **style)
    low, high = ([getattr(x, side) for x in found.values()] for side in ("low", "high"))
    plot.fill_between(HEAT, low, high, color=line.get_color(), alpha=0.2, lw=0)


_, plot = plt.subplots(figsize=(4.8, 3.2))
band(plot, score)
plot.axhline(table["bm25"]["nDCG@10"], color="0.5", ls=":", label="BM25", zorder=0)
plot.set(xscale="log", xlabel="temperature", ylabel="nDCG@10, held out")
plot.legend(frameon=False)
plt.show()

# %%
best = max(score, key=lambda t: score[t].mean)
verdict = peaks_inside(score, HEAT[0], HEAT[-1])
print(f"best at {best:g}; an inverted U: {verdict.held} ({verdict.because})")

# %% [markdown]
# To the left each query listens to a few negatives, chosen by an encoder that knows little yet; to
# the right to all of them alike ([02_temperature](02_temperature.ipynb) has the reasons). The shape
# is the papers' too, the place is not: SimCSE's sentences are best at 0.05 (arXiv:2104.08821),
# SimCLR's images at 0.1 (arXiv:2002.05709), Wang and Liu's CIFAR-100 at 0.3 (arXiv:2012.09740).
# Near the peak the curve is flat, so that a grid in factors of about two is fine enough.
#
# ## While they train
#
# What was logged is in `metrics.jsonl`, a line a logged step and run. Four of its columns, means
# over seeds.

# %%
COLOURS = dict(zip(score, plt.cm.viridis(np.linspace(0, 0.9, len(score))), strict=True))
logged = [
    {**line, "temperature": grid.members[int(line["member"])].values[TEMPERATURE]}
    for file in sorted(workdir.glob("programs/*/*/metrics.jsonl"))
    for line in read_metrics(file)
]


def over_steps(t, name):
    """Steps, and the mean over seeds of a logged column at each."""
    found = {}
    for line in logged:
        if line["temperature"] == t and name in line:
            found.setdefault(line["step"], []).append(line[name])
    return list(found), [np.mean(values) for values in found.values()]


_, row = plt.subplots(1, 4, figsize=(13, 3), layout="constrained")
names = ("loss", "accuracy", "negative_cosine", "effective_negatives")
for plot, name in zip(row, names, strict=True):
    for t in score:
        plot.plot(*over_steps(t, name), color=COLOURS[t], label=f"t = {t:g}")
    plot.set(title=name, xlabel="step")
row[0].set_yscale("log")
row[3].set_yscale("log")
row[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# - The **loss** cannot choose a temperature: a lower one is not a better ranking. It is the nats of
#   the same choice at each, one of 128 documents, but counts how sure the softmax is besides how
#   often it is right, and the temperature decides how sure it can be. At a high one it stays high
#   however good the encoder is, because no cosine is large enough to make the softmax sharp. In the
#   table above it is about the same at 0.01 and at 0.1, of which one ranks far worse.
# - The **accuracy** on the training batch is how often the positive is above all 127 negatives.
#   These runs see each pair once at most, so that it is nearly a held-out score, with the same
#   peak inside. Where data are seen many times it is no guide: in SimCLR's Table 5 it is highest at
#   the lowest temperature, which is not the one that serves best.
# - The **negative cosine** shows what the first steps do at 0.01 and 0.02: they push all texts
#   together, before these slowly come apart. From 0.1 on negatives are orthogonal on average after
#   a few steps.
# - **Effective negatives** show why. At 0.01 the first softmax hears one or two negatives of 127,
#   and those by chance. Squeezing all cosines together is the quickest way to a softmax that hears
#   more. At high temperatures the number goes down from the start, to a level that the temperature
#   sets.
#
# ## What the temperature leaves
#
# The same at the last step, against temperature, with bands; the dotted line is the best
# temperature of this sweep.

# %%
_, row = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
ends = ("negative_cosine", "effective_negatives", "top_negative_share")
for plot, name in zip(row, ends, strict=True):
    band(plot, curve(table["rows"], TEMPERATURE, f"last/{name}"))
    plot.axvline(best, color="0.6", ls=":")
    plot.set(xscale="log", xlabel="temperature", title=name)
plt.show()

# %% [markdown]
# Two sides again. At low temperatures the encoder has adapted: it keeps its texts so close
# together that a dozen or two negatives are in effect at any of them, and the temperature shows in
# the cosines instead. At high ones it has spread its texts as far as they go, and what gives is
# the softmax: the number of negatives in effect rises towards all 127 and the hardest one's share
# to nothing. So in the log of a single run, negatives that are alike (a mean cosine far above 0)
# say that the temperature is low for this encoder, and a `top_negative_share` of a few hundredths
# that it is high.
#
# ## From the command line
#
# The same on an experiment file: a flag with several numbers is swept, every combination of several
# flags.
#
# ```
# contrastive sweep experiments/quickstart.py --workdir runs/sweep --seeds 3 \
#     --loss.temperature 0.01 0.02 0.05 0.1 0.2 0.5
# ```
#
# The folder holds `sweep.json` (everything), `sweep.parquet` (its rows) and, from the command
# line, `score.png`, the picture with the band. Interrupted, the same command goes on. On machines
# with several devices the runs are divided among them.

# %%
kept = json.loads((workdir / "sweep.json").read_text(encoding="utf-8"))
print("fields:", ", ".join(kept))
print("swept:", kept["axes"], "seeds:", kept["seeds"], "metric:", kept["metric"])
print("a row:", ", ".join(name for name in kept["rows"][0] if not name.startswith("last/")))
count = sum(name.startswith("last/") for name in kept["rows"][0])
print("and of the last logged step", count, "more, as last/loss")

# %% [markdown]
# Rows are plain records, one a run; a run that diverged has `diverged_at` and no scores. Anything
# that reads Parquet reads the table too.

# %%
columns = [TEMPERATURE, "init_seed", "nDCG@10", "last/effective_negatives"]
read = pyarrow.parquet.read_table(workdir / "sweep.parquet", columns=columns)
for record in read.slice(0, 4).to_pylist():
    print({name: round(value, 3) for name, value in record.items()})
