"""README's experiment, from Python and from the command line, as a reader copies it."""

import itertools
import json
import re
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from contrastive.cli import main
from contrastive.losses import LossInputs

README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)
FEW = ("--steps", "8", "--eval_steps", "4", "--optimizer.warmup_steps", "1")


def block(language, start):
    """The block that starts with these words."""
    return next(text for name, text in BLOCKS if name == language and text.startswith(start))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with the reader's pairs, and the experiment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = [f"word{n}" for n in range(10)]
    pairs = [
        {"query": f"{a} {b}", "pos": [f"{b} {a} text"]} for a, b in itertools.product(words, words)
    ]
    for name, rows in (("train", pairs[10:]), ("dev", pairs[:10])):
        Path(f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    Path("mine.py").write_text(block("python", "from contrastive.config import"))
    yield tmp_path
    sys.modules.pop("mine", None)


def test_in_python(folder, capsys):
    use = block("python", "import contrastive\nfrom mine")
    quickly = 'default = default.replace(steps=8, eval_steps=4, **{"optimizer.warmup_steps": 1})'
    names = {}
    exec(use.replace("from mine import default", f"from mine import default\n{quickly}"), names)
    assert names["run"].finished
    assert 0 <= names["scores"]["retrieval"]["nDCG@10"] <= 1
    assert len(names["table"]) == 3
    assert "best" in capsys.readouterr().out


def test_on_the_command_line(folder, capsys):
    commands = block("", "contrastive train mine.py").splitlines()
    assert len(commands) == 5
    for command in commands:
        words = shlex.split(command)[1:]
        main([*words, *(FEW if words[0] in ("train", "sweep") else ())])
    assert "'a query' in 10 documents" in capsys.readouterr().out


def test_a_loss_of_ones_own(folder):
    """The same values as a loop over the negatives of each query."""
    names = {}
    exec(block("python", "import contrastive\nimport jax"), names)
    rng = np.random.default_rng(0)
    x, y = (v / np.linalg.norm(v, axis=1, keepdims=True) for v in rng.normal(size=(2, 5, 3)))
    inputs = LossInputs(x.astype(np.float32), y.astype(np.float32), temperature=0.1, pairs={})
    losses = names["Hinge"](margin=0.2)(inputs)
    cosines = x @ y.T
    expected = [
        np.mean([max(0.0, cosines[i, j] - cosines[i, i] + 0.2) for j in range(5) if j != i])
        for i in range(5)
    ]
    np.testing.assert_allclose(losses, expected, atol=1e-6)
