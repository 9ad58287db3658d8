"""A loss, a policy, a source, an encoder and an evaluator from a file outside of the package."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import contrastive
from contrastive.cli import main
from contrastive.errors import ConfigError, FolderError
from contrastive.python_files import execute
from contrastive.training.workdir import load_config

PARTS = '''
"""Parts of one's own."""

import flax.linen as nn
import jax
import jax.numpy as jnp

import contrastive


class Softplus(contrastive.losses.Loss):
    """Softplus of the margin between the positive and each negative."""

    margin: float = 0.1

    def __call__(self, inputs):
        texts = inputs.queries, inputs.documents
        batch = contrastive.losses.contrast(*texts, **inputs.pairs)
        given = {"least": batch.positive - self.margin}
        return batch.sum_negatives(_softplus, inputs.temperature, given=given)


def _softplus(similarities, scale, rows, columns):
    return jax.nn.softplus((similarities - rows.given["least"][:, None]) * scale)


def plain(inputs):
    """The same with another margin, as a plain function."""
    return Softplus(margin=0.2)(inputs)


class Halving(contrastive.temperature.Policy):
    """Halves the temperature every so many steps."""

    every: int = 2
    is_scheduled = True

    def temperature(self, params, step, *, initial, steps):
        return initial * 0.5 ** jnp.floor(step / self.every)


class Margins(contrastive.losses.Loss):
    """Squared distance of the similarity of the positive from one, without a temperature."""

    has_temperature = False
    uses_negatives = False

    def __call__(self, inputs):
        batch = contrastive.losses.contrast(inputs.queries, inputs.documents, **inputs.pairs)
        return (1 - batch.positive) ** 2


class Sums(contrastive.sources.Source):
    """Sums and their results."""

    first: int = 0
    count: int = 40

    def read(self):
        numbers = range(self.first, self.first + self.count)
        return [{"query": f"{n} plus {n}", "pos": [f"{2 * n} is it"]} for n in numbers]


class Words(contrastive.models.Model):
    """A vector per token, and a dense layer."""

    width: int = 8

    def build(self, vocab_size):
        return WordEncoder(vocab_size, self.width)


class WordEncoder(nn.Module):
    vocab_size: int
    width: int

    @nn.compact
    def __call__(self, tokens, *, seed=None):
        vectors = nn.Embed(self.vocab_size, self.width)(jnp.asarray(tokens.ids))
        return nn.Dense(self.width)(vectors)


class Spread(contrastive.tasks.Evaluator):
    """Mean cosine of a few texts, with its sign turned: the higher, the further apart."""

    texts: tuple[str, ...] = ("one", "two plus two", "4 is it")
    main_metric = "spread"

    def evaluate(self, encoder, data):
        vectors = encoder.encode_documents(self.texts)
        return {"spread": -float((vectors @ vectors.T).mean())}
'''

EXPERIMENT = """
from own_parts import Halving, Softplus, Spread, Sums, Words

from contrastive.config import Data, Experiment, Objective, WordPiece

default = Experiment(
    name="own",
    steps=6,
    batch_size=8,
    data=Data(
        train=Sums(),
        tokenizer=WordPiece(vocab_size=200),
        query_max_length=8,
        document_max_length=8,
    ),
    model=Words(),
    loss=Objective(function=Softplus(margin=0.2), temperature=0.4, policy=Halving(every=3)),
    evaluators={"far": Spread()},
    eval_steps=3,
    save_steps=2,
    log_steps=1,
)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The files, and a run in a process of its own, killed after it has begun to train."""
    path = tmp_path_factory.mktemp("own")
    (path / "own_parts.py").write_text(PARTS)
    (path / "own_experiment.py").write_text(EXPERIMENT)
    return path


def command(*words):
    environment = {**os.environ, "XLA_FLAGS": "--xla_force_host_platform_device_count=1"}
    call = [sys.executable, "-m", "contrastive", *map(str, words)]
    return subprocess.run(call, capture_output=True, text=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def trained(folder):
    done = command("train", folder / "own_experiment.py", "--workdir", folder / "run")
    assert done.returncode == 0, done.stderr
    return folder / "run"


def rows(workdir):
    lines = (workdir / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_it_trains_and_everything_of_it_counts(trained):
    logged = [row for row in rows(trained) if "loss" in row]
    temperatures = [row["temperature"] for row in logged]
    assert temperatures == pytest.approx([0.4, 0.4, 0.4, 0.2, 0.2, 0.2])
    config = json.loads((trained / "config.json").read_text())
    assert config["loss"]["function"] == {"kind": "own_parts:Softplus", "margin": 0.2}
    assert config["loss"]["policy"] == {"kind": "own_parts:Halving", "every": 3}
    assert config["data"]["train"]["kind"] == "own_parts:Sums"
    assert config["model"] == {"kind": "own_parts:Words", "width": 8}
    results = json.loads((trained / "results.json").read_text())
    best = max(row["far/spread"] for row in rows(trained) if "far/spread" in row)
    assert results["select_best"] == {"validation/far/spread": best}
    assert results["scores"]["far"]["spread"] == pytest.approx(best, abs=1e-6)


def test_the_loss_is_what_its_formula_says(folder):
    parts = execute(folder / "own_parts.py")
    rng = np.random.default_rng(0)
    queries, documents = (rng.normal(size=(4, 3)).astype(np.float32) for _ in range(2))
    inputs = contrastive.losses.LossInputs(queries, documents, 0.5)
    losses = np.asarray(parts.Softplus(margin=0.2)(inputs))
    similarities = queries.astype(np.float64) @ documents.T
    for i, loss in enumerate(losses):
        others = np.delete(similarities[i], i) - similarities[i, i] + 0.2
        assert loss == pytest.approx(np.log1p(np.exp(others / 0.5)).sum(), rel=1e-5)


def test_it_is_resumed_and_flags_change_its_fields(folder, trained):
    stopped = folder / "stopped"
    changed = ("--loss.function.margin", "0.3", "--model.width", "4")
    words = ("train", folder / "own_experiment.py", "--workdir", stopped, *changed)
    config = execute(folder / "own_experiment.py").default
    config = config.replace(**{"loss.function.margin": 0.3, "model.width": 4})
    # Its latest checkpoint, as a kill after step 4 would leave it.
    contrastive.train(config.replace(name="other"), folder / "other")
    assert command(*words).returncode == 0
    whole = rows(stopped)
    for name in ("results.json", "model"):
        path = stopped / name
        path.unlink() if path.is_file() else [p.unlink() for p in path.iterdir()]
    latest = stopped / "checkpoints" / "latest"
    assert sorted(p.name for p in latest.iterdir()) == ["4", "6"]
    for path in sorted((latest / "6").rglob("*"), reverse=True):
        path.unlink() if path.is_file() else path.rmdir()
    (latest / "6").rmdir()
    assert command(*words).returncode == 0
    again = rows(stopped)
    assert [row["loss"] for row in again if "loss" in row] == [
        row["loss"] for row in whole if "loss" in row
    ]


def test_a_sweep_of_its_margin_is_one_program_and_the_report_calls_it_by_its_name(folder, trained):
    words = ("sweep", folder / "own_experiment.py", "--workdir", folder / "sweep")
    done = command(*words, "--loss.function.margin", "0.1", "0.2", "--steps", "4")
    assert done.returncode == 0, done.stderr
    table = contrastive.load_sweep(folder / "sweep")
    assert len(list((folder / "sweep").rglob("rows.json"))) == 1
    assert [row["loss.function.margin"] for row in table] == [0.1, 0.2]
    assert table.chosen_by == "validation/far/spread"
    alone = execute(folder / "own_experiment.py").default.replace(steps=4)
    run = contrastive.train(alone, folder / "alone")
    assert table[1]["validation/far/spread"] == pytest.approx(run.scores["far"]["spread"], abs=1e-5)
    page = contrastive.report(folder / "sweep", trained).path.read_text()
    assert "softplus weights negatives differently" in page


def test_commands_that_read_import_nothing_that_a_folder_names(folder, trained, tmp_path):
    """A process that has never seen the file: it may not be imported, though it could be."""
    code = f"""
import sys
sys.path.insert(0, {str(folder)!r})
import contrastive
from contrastive.cli import main
config = contrastive.load_run({str(trained)!r}).config
assert config.loss.function.is_inert and config.loss.function.margin == 0.2
contrastive.advise({str(trained)!r})
contrastive.report({str(trained)!r}, output={str(tmp_path / "page.html")!r})
try:
    main(["encode", {str(trained)!r}, "--input", {__file__!r}, "--output", {str(tmp_path / "x")!r}])
except SystemExit as error:
    assert "--parts FILE.py" in str(error), error
else:
    raise AssertionError("it was loaded")
assert "own_parts" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


ADVISED = """
import sys
from pathlib import Path

import contrastive
from contrastive.advice.advisor import findings
from contrastive.advice.observed import Observed, at
from contrastive.training.workdir import load_config

scheduled, plain = (load_config(Path(x)) for x in sys.argv[1:])
flat = {"accuracy": 0.5, "effective_negatives": 15.0, "saturated": 0.0, "top_10_share": 0.5}
rows = [{"step": n, "loss": 1.0 / n, "temperature": 0.2, **flat} for n in (1, 30)]
assert "where the schedule is at temperature 0.2" in at(Observed(scheduled, rows))
(found,) = findings(Observed(plain, rows))
assert found.cause == "no_temperature", found
assert contrastive.report(sys.argv[2], output=sys.argv[2] + "/page.html")
assert "own_parts" not in sys.modules
"""


def test_advice_and_reports_know_the_traits_of_parts_that_they_do_not_import(folder, trained):
    """A schedule, and a loss that has no temperature, in a process that has never seen either."""
    default = execute(folder / "own_experiment.py").default
    parts = sys.modules["own_parts"]
    plain = default.replace(loss=parts.Margins(), steps=2, eval_steps=None, evaluators={})
    contrastive.train(plain, folder / "plain")
    words = [sys.executable, "-c", ADVISED, str(trained), str(folder / "plain")]
    done = subprocess.run(words, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_traits_are_what_the_base_declares_and_older_folders_have_none(trained, tmp_path):
    stored = (trained / "config.json").read_text().replace("own_parts:", "gone_parts:")
    (tmp_path / "config.json").write_text(stored)
    assert not load_config(tmp_path).loss.policy.is_scheduled
    kind = "gone_parts:Halving"
    traits = {"is_scheduled": True, "is_learned": "yes", "kind": True, "temperature": True}
    (tmp_path / "parts.json").write_text(json.dumps({kind: traits, "gone_parts:Softplus": None}))
    loaded = load_config(tmp_path)
    assert loaded.loss.policy.is_scheduled
    assert not loaded.loss.policy.is_learned
    assert loaded.loss.policy.kind == kind
    assert callable(loaded.loss.policy.temperature)


def test_its_encoder_is_loaded_once_its_file_is_given(folder, trained, tmp_path):
    (tmp_path / "texts.txt").write_text("two plus two\n4 is it\n")
    parts = ("--parts", str(folder / "own_parts.py"), "--output", str(tmp_path / "vectors.npy"))
    main(["encode", str(trained), "--input", str(tmp_path / "texts.txt"), *parts])
    vectors = np.load(tmp_path / "vectors.npy")
    execute(folder / "own_parts.py")
    encoder = contrastive.Encoder.from_pretrained(trained)
    np.testing.assert_allclose(
        vectors, encoder.encode_documents(["two plus two", "4 is it"]), atol=1e-6
    )


def test_a_module_that_is_gone_is_named(folder, trained, tmp_path):
    stored = (trained / "config.json").read_text().replace("own_parts:", "gone_parts:")
    (tmp_path / "config.json").write_text(stored)
    with pytest.raises(
        FolderError, match="needs the module 'gone_parts', which cannot be imported"
    ):
        load_config(tmp_path, "import")
    assert load_config(tmp_path).loss.function.short_name() == "softplus"


def test_a_plain_function_is_a_loss(folder, tmp_path):
    module = execute(folder / "own_experiment.py")
    parts = sys.modules["own_parts"]
    config = module.default.replace(loss=parts.plain, steps=2, eval_steps=None, evaluators={})
    contrastive.train(config, tmp_path / "run")
    stored = json.loads((tmp_path / "run" / "config.json").read_text())["loss"]["function"]
    assert stored == {"kind": "function", "function": "own_parts:plain"}
    # Given again it goes on: the stored name is that of the function.
    assert contrastive.train(config, tmp_path / "run").finished


def test_files_that_import_modules_beside_them_are_found_from_anywhere(folder):
    assert Path.cwd() != folder
    assert execute(folder / "own_experiment.py").default.name == "own"


def test_the_executed_module_is_the_one_of_its_name(tmp_path, monkeypatch):
    file = tmp_path / "executed_twice.py"
    for number in (1, 2):
        file.write_text(f"number = {number}\n{'#' * number}\n")
        module = execute(file)
        assert module.number == number
        assert sys.modules["executed_twice"] is module
    file.write_text("number = 3\nraise ValueError('no')\n")
    monkeypatch.chdir(tmp_path)
    for path in (file, Path(file.name)):
        with pytest.raises(ConfigError, match=r"executed_twice.py:2: ValueError: no"):
            execute(path)
        assert sys.modules["executed_twice"] is module


@pytest.mark.parametrize("name", ["json.py", "sys.py", "namesake.py"])
def test_a_file_with_the_name_of_another_module_is_refused(name, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "namesake.py").write_text("")
    execute(tmp_path / "other" / "namesake.py")
    file = tmp_path / name
    file.write_text("")
    before = sys.modules[file.stem]
    with pytest.raises(ConfigError, match=f"{name}: the name '{file.stem}' .* rename the file"):
        execute(file)
    assert sys.modules[file.stem] is before
    del sys.modules["namesake"]
