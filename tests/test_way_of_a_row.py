"""A row of a file meets few files on its way to an update, in the order of the floors."""

import contextlib
import json
import re
import sys
import threading
from pathlib import Path

import jax
import tiny
from test_architecture import FLOORS, PACKAGE, room

from contrastive.config import Fixed, InfoNCE, Objective, Static
from contrastive.devices.mesh import make_mesh
from contrastive.sources import _jsonl
from contrastive.training.build import build

FOUNDATIONS = 2  # floors of what all files share, such as types and sharding
CONTRIBUTING = PACKAGE.parent / "CONTRIBUTING.md"


class Followed:
    """When functions of each file returned for the first and for the last time."""

    def __init__(self):
        self.first, self.last = {}, {}
        self._count = 0
        self._lock = threading.Lock()

    def note(self, frame, event, arg):
        file = frame.f_code.co_filename
        if event != "return" or not file.startswith(f"{PACKAGE}/"):
            return
        name = file.removeprefix(f"{PACKAGE}/")
        if FLOORS[room(Path(file))] > FOUNDATIONS and frame.f_code.co_name != "<module>":
            with self._lock:
                self._count += 1
                self.first.setdefault(name, self._count)
                self.last[name] = self._count

    @contextlib.contextmanager
    def threads(self):
        """Follows this thread, and threads that are started meanwhile."""
        threading.setprofile(self.note)
        try:
            with self.thread():
                yield
        finally:
            threading.setprofile(None)

    @contextlib.contextmanager
    def thread(self):
        sys.setprofile(self.note)
        try:
            yield
        finally:
            sys.setprofile(None)


def rooms(returns):
    """Rooms in the order of their last files in `returns`."""
    order = sorted(returns, key=returns.get)
    names = [name.partition("/")[0] for name in order]
    return sorted(set(names), key=lambda name: len(names) - names[::-1].index(name))


def test_a_row_meets_few_files_in_the_order_of_the_floors(tmp_path):
    rows = [{"query": f"q{n}", "pos": [f"p{n}"], "neg": [f"n{n}"]} for n in range(32)]
    file = tmp_path / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)) + "\n")
    experiment = tiny.experiment(tmp_path, model=Static(width=8), evaluators={}, eval_steps=None)
    objective = Objective(function=InfoNCE(), policy=Fixed())
    experiment = experiment.replace(loss=objective, **{"data.train.path": str(file)})
    mesh = make_mesh(devices=jax.devices()[:1])
    run = build(experiment, mesh)
    state = run.init()

    data = Followed()
    _jsonl._open_file.cache_clear()  # it was read to check it
    with data.threads():
        experiment.data.train.read()
        batch = run.feed.take(stop=False).batch
    assert rooms(data.first) == ["sources", "data"]

    step = Followed()
    train_step = run.functions.step(experiment, mesh)
    with step.thread():
        jax.eval_shape(lambda state, batch: train_step(state, batch, False), state, batch)
    passed = rooms(step.last)
    assert passed == sorted(passed, key=FLOORS.get)
    assert passed == ["models", "losses", "temperature", "training"]

    # The temperature is a function of the step; a row does not pass through it.
    met = {name for name in {*data.first, *step.last} if not name.startswith("temperature/")}
    assert len(met) <= 20
    drawn = CONTRIBUTING.read_text(encoding="utf-8").partition("## The path of a row")[2]
    drawn = re.findall(r"^\| \d+ \| `([\w/]+\.py)`", drawn.partition("\n## ")[0], re.MULTILINE)
    assert sorted(drawn) == sorted(met)
