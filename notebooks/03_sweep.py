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
# The best temperature depends on the data, the encoder and the batch, and a sweep finds it. This
# notebook trains at six temperatures with three seeds each, which are eighteen runs in one program,
# and shows how to read the results.

# %%
import logging
import os

os.environ["TQDM_DISABLE"] = "1"  # a saved notebook needs no progress bars

import tempfile
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pyarrow.parquet
from matplotlib_inline.backend_inline import set_matplotlib_formats

import contrastive
from contrastive.config import (
    Data,
    Experiment,
    Objective,
    Optimizer,
    Pydoc,
    Retrieval,
    Static,
    WordPiece,
)
from contrastive.papers import curve, peaks_inside, shown

logging.getLogger("absl").setLevel(logging.ERROR)
warnings.filterwarnings("ignore", message="IProgress not found")
set_matplotlib_formats("png")
plt.rcParams |= {"figure.dpi": 80, "axes.spines.top": False, "axes.spines.right": False}

# %% [markdown]
# ## What is swept
#
# The experiment is one that `contrastive train` could run, but small enough for this notebook.
# Docstrings search for the functions they belong to, among functions from held-out files.
# (Collecting them from the installed Python packages takes half a minute the first time.) A sweep
# adds the values of one or more fields, each by its dotted name, and a number of seeds. Seeds
# differ only in the initial parameters. All runs see the same batches, so two runs with the same
# seed differ only in temperature.

# %%
experiment = Experiment(
    name="docstrings",
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
    log_steps=10,
    evaluators={"validation": Retrieval(Pydoc(split="validation"))},
)
TEMPERATURE = "loss.temperature"
TEMPERATURES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

# %% [markdown]
# ## One program
#
# Temperature is a number that the training step computes with, and it does not decide any shapes.
# The step of all runs is therefore one `vmap` over their parameters that is compiled once, and the
# batches are read, tokenized and packed once for all runs. All numbers of the loss, and nearly all
# of the optimizer's, can be swept this way. The values of a field that does decide shapes, such as
# `batch_size`, are trained as one program after another by the same call. Except for rounding, each
# run of a sweep is the run that `contrastive.train` would produce with the same settings.

# %%
scratch = tempfile.TemporaryDirectory()  # removed when the kernel ends
workdir = Path(scratch.name) / "sweep"
table = contrastive.sweep(experiment, {TEMPERATURE: TEMPERATURES}, seeds=3, workdir=workdir)
print(f"{len(table)} runs in {table.results['session_seconds']:.0f} s, including compilation\n")
print(table)

# %% [markdown]
# Each cell is the mean over seeds with half the width of its 95% confidence interval by Student's
# $t$. For three seeds the interval is $\bar x \pm 4.3\, s / \sqrt 3$. It is wide because three runs
# say little about their own variance.
#
# The table also has the metrics of the last logged training step, whose names begin with `last/`:

# %%
LAST = ("loss", "effective_negatives")
last = {name: table.by_setting(f"last/{name}") for name in LAST}
print("temperature" + "".join(f"{name:>22}" for name in LAST))
for t in TEMPERATURES:
    print(f"{t:11g}" + "".join(f"{shown(last[name][(t,)]):>22}" for name in LAST))

# %% [markdown]
# ## The inverted U
#
# Plotted against temperature, the score peaks inside the range and falls off on both sides. The
# band is the interval over seeds. For scale, the dotted line is BM25, which does not learn anything
# and which these small encoders do not reach. The cell below the plot checks that the peak is more
# than noise: the best temperature must be neither the first nor the last, and both ends must be
# worse. Runs with the same seed share batches and start alike, so the check compares them seed by
# seed: the interval of the differences must exclude 0.

# %%
score = curve(table, TEMPERATURE, "validation/nDCG@10")


def plot_band(ax, intervals, **style):
    """Plots means over seeds with their intervals."""
    temperatures = list(intervals)
    (line,) = ax.plot(temperatures, [x.mean for x in intervals.values()], "o-", ms=4, **style)
    low, high = ([getattr(x, side) for x in intervals.values()] for side in ("low", "high"))
    ax.fill_between(temperatures, low, high, color=line.get_color(), alpha=0.2, lw=0)


bm25 = table.results["baselines"]["validation"]["BM25"]["nDCG@10"]
_, ax = plt.subplots(figsize=(4.8, 3.2))
plot_band(ax, score)
ax.axhline(bm25, color="0.5", ls=":", label="BM25", zorder=0)
ax.set(xscale="log", xlabel="temperature", ylabel="validation/nDCG@10")
ax.legend(frameon=False)
plt.show()

# %%
best = table.best[TEMPERATURE]
verdict = peaks_inside(score, min(score), max(score))
print(f"best at {best:g}; an inverted U: {verdict.words} ({verdict.because})")
for setting, difference in table.compare().items():
    print(f"{setting[0]:g} against the best: {shown(difference)}")

# %% [markdown]
# To the left of the peak, each query pushes only a few negatives, chosen by an encoder that knows
# little yet. To the right, it pushes all of them alike ([02_temperature](02_temperature.ipynb)
# explains why). Papers find the same shape but different peaks: SimCSE's sentences are best at 0.05
# (arXiv:2104.08821), SimCLR's images at 0.1 (arXiv:2002.05709), and Wang and Liu's CIFAR-100 at 0.3
# (arXiv:2012.09740). The curve is flat near the peak, so values that differ by factors of about two
# are close enough.
#
# ## During training
#
# `table.metrics` has one row for each logged step and run. The plots show four of its columns as
# means over seeds.

# %%
COLORS = dict(zip(TEMPERATURES, plt.cm.viridis(np.linspace(0, 0.9, 6)), strict=True))


def over_steps(temperature, name):
    """Steps, and the mean over seeds of a logged metric at each step."""
    values = {}
    for row in table.metrics:
        if row[TEMPERATURE] == temperature and name in row:
            values.setdefault(row["step"], []).append(row[name])
    return list(values), [np.mean(of_step) for of_step in values.values()]


_, axes = plt.subplots(1, 4, figsize=(13, 3), layout="constrained")
names = ("loss", "accuracy", "negative_cosine", "effective_negatives")
for ax, name in zip(axes, names, strict=True):
    for t in TEMPERATURES:
        ax.plot(*over_steps(t, name), color=COLORS[t], label=f"t = {t:g}")
    ax.set(title=name, xlabel="step")
axes[0].set_yscale("log")
axes[3].set_yscale("log")
axes[0].legend(fontsize=8)
plt.show()

# %% [markdown]
# - The **loss** cannot choose a temperature, because a lower loss is not a better ranking. At every
#   temperature it measures the same choice of one of 128 documents. But besides how often the
#   softmax is right, it counts how confident the softmax is, and the temperature limits that. At a
#   high temperature the loss stays high however good the encoder is, because no cosine is large
#   enough to make the softmax sharp. In the table above it is about the same at 0.02 and at 0.1,
#   although 0.02 ranks worse.
# - The **accuracy** on the training batch is how often the positive is above all 127 negatives.
#   These runs see each pair at most once, so the accuracy is almost a held-out score and peaks
#   inside the range too. Where data are seen many times it is not a guide: in Table 5 of SimCLR it
#   is highest at the lowest temperature, which is not the best one.
# - The **negative cosine** shows what the first steps do at 0.01 and 0.02: they push all texts
#   together, and afterward the texts slowly come apart. From 0.1 on, negatives are orthogonal on
#   average after a few steps.
# - The **effective negatives** show why. At 0.01 the first softmax is dominated by one or two of
#   the 127 negatives, and which ones is a matter of chance. Moving all cosines together is the
#   quickest way to a softmax that includes more of them. At high temperatures the number falls from
#   the start, to a level that the temperature determines.
#
# ## At the end of training
#
# The plots show metrics of the last step against temperature, with bands. The dotted line is the
# best temperature of this sweep.

# %%
_, axes = plt.subplots(1, 3, figsize=(12, 3.2), layout="constrained")
names = ("negative_cosine", "effective_negatives", "top_negative_share")
for ax, name in zip(axes, names, strict=True):
    plot_band(ax, curve(table, TEMPERATURE, f"last/{name}"))
    ax.axvline(best, color="0.6", ls=":")
    ax.set(xscale="log", xlabel="temperature", title=name)
plt.show()

# %% [markdown]
# There are two regimes again. At low temperatures the encoder has adapted. It keeps its texts so
# close together that between ten and twenty negatives are effective at each of these temperatures,
# so the temperature shows in the cosines instead. At high temperatures the encoder has spread its
# texts as far as it can, so the softmax has to change: the number of effective negatives rises
# toward all 127, and the share of the hardest one falls toward zero. In the log of a single run, a
# mean cosine of negatives far above 0 is therefore a sign that the temperature is low for this
# encoder, and a `top_negative_share` of a few hundredths is a sign that it is high.
# `contrastive.advise` reads such signs in the folder of a run or a sweep.
#
# ## From the command line
#
# The command line sweeps the experiment of a file. A flag with several numbers is swept, and with
# several such flags, every combination is trained.
#
# ```
# contrastive sweep quickstart --workdir runs/sweep --seeds 3 \
#     --loss.temperature 0.01 0.02 0.05 0.1 0.2 0.5
# ```
#
# The folder then has `sweep.json` (everything), `sweep.parquet` (its rows) and, from the command
# line, `score.png`, which is the plot with the band. After an interruption, the same command
# continues. On a machine with several devices the runs are divided among them.

# %%
results = contrastive.load_sweep(workdir).results
print("fields:", ", ".join(results))
print("swept:", results["axes"], "seeds:", results["seeds"], "chosen by:", results["select_best"])
columns = list(results["rows"][0])
print("a row:", ", ".join(name for name in columns if not name.startswith("last/")))
count = sum(name.startswith("last/") for name in columns)
print(f"and {count} metrics of the last logged step, such as last/loss")

# %% [markdown]
# Rows are plain records, one per run. A run that diverged has `diverged_at` and no scores. Any tool
# that reads Parquet can read the table too.

# %%
columns = [TEMPERATURE, "init_seed", "validation/nDCG@10", "last/effective_negatives"]
parquet = pyarrow.parquet.read_table(workdir / "sweep.parquet", columns=columns)
for record in parquet.slice(0, 4).to_pylist():
    print({name: round(value, 3) for name, value in record.items()})
