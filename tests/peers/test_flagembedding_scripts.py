"""FlagEmbedding's example scripts, as they are, on its example data, beside FlagEmbedding itself.

Both run in float32, without dropout, on one CPU. FlagEmbedding does everything: it reads the files,
shuffles, draws and trains. Ours takes the same rows and draws the same passages of them; everything
else is ours, from the flags to the update: prompts, group sizes, batch sizes, which negatives
count, which rows have a teacher, the losses and the schedule.
"""

import json

import flagembedding_reference as reference
import grain
import jax
import numpy as np
import pytest
from flagembedding_run import Recorded, record, without_dropout

from contrastive.data import batches as our_batches
from contrastive.data.groups import draw_group
from contrastive.devices.compilation import keep_compiled_programs
from contrastive.devices.mesh import make_mesh
from contrastive.finetune.parsing import parse
from contrastive.finetune.translation import translate
from contrastive.training.build import build
from contrastive.training.optimizer import make_schedule

STEPS = 10
INSTRUCTION = "Represent this sentence for searching relevant passages: "
# The arguments of base.sh; those of base_same_dataset.sh differ in the last lines of the data.
MODEL = ["--model_name_or_path", "MODEL", "--cache_dir", "CACHE"]
DATA = [
    *("--train_data", "retrieval", "sts/sts.jsonl", "classification-no_in_batch_neg"),
    *("clustering-no_in_batch_neg", "--cache_path", "CACHE", "--train_group_size", "8"),
    *("--query_max_len", "512", "--passage_max_len", "512", "--pad_to_multiple_of", "8"),
    *("--query_instruction_for_retrieval", INSTRUCTION, "--query_instruction_format", "{}{}"),
]
SCRIPTS = {
    "base.sh": ["--knowledge_distillation", "False"],
    "base_same_dataset.sh": [
        *("--knowledge_distillation", "True", "--same_dataset_within_batch", "True"),
        *("--small_threshold", "0", "--drop_threshold", "0"),
    ],
}
TRAINING = [
    *("--output_dir", "OUT", "--overwrite_output_dir", "--learning_rate", "1e-5", "--fp16"),
    *("--num_train_epochs", "4", "--per_device_train_batch_size", "2"),
    *("--dataloader_drop_last", "True", "--warmup_ratio", "0.1", "--gradient_checkpointing"),
    *("--deepspeed", "../../ds_stage0.json", "--logging_steps", "1", "--save_steps", "1000"),
    *("--negatives_cross_device", "--temperature", "0.02", "--sentence_pooling_method", "cls"),
    *("--normalize_embeddings", "True", "--kd_loss_type", "kl_div"),
]


def words_of(script, folder, output):
    """The arguments of a script, with a tiny model and without half precision."""
    places = {"MODEL": folder / "model", "CACHE": folder / "cache", "OUT": folder / output}
    words = [*MODEL, *DATA, *SCRIPTS[script], *TRAINING]
    words.remove("--fp16")
    return [str(places.get(word, word)) for word in words]


def for_the_installed_transformers(words):
    """Version 5 has no --overwrite_output_dir, and a ratio is given as a number of steps."""
    words = [word.replace("--warmup_ratio", "--warmup_steps") for word in words]
    words.remove("--overwrite_output_dir")
    place = words.index("--deepspeed")
    return [*words[:place], *words[place + 2 :], "--use_cpu", "--report_to", "none"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, shared_data):
    examples = shared_data / "flagembedding_examples"
    if not examples.is_dir():
        pytest.skip(f"{examples} is not there")
    folder = tmp_path_factory.mktemp("scripts")
    for name in ("retrieval", "sts", "classification-no_in_batch_neg"):
        (folder / name).symlink_to(examples / name)
    (folder / "clustering-no_in_batch_neg").symlink_to(examples / "clustering-no_in_batch_neg")
    texts = [file.read_text() for file in examples.glob("*/*.jsonl")]
    words = {word for text in texts for line in text.splitlines() for word in of_row(line)}
    known = sorted(words.union(INSTRUCTION.split()))
    reference.write_tiny_bert(folder / "model", known, length=512)
    without_dropout(folder / "model")
    keep_compiled_programs()
    return folder


def of_row(line):
    row = json.loads(line)
    texts = [row["query"], row["prompt"], *row["pos"], *row["neg"]]
    return [word for text in texts for word in text.split()]


class Prescribed:
    """A random generator that draws what FlagEmbedding drew."""

    def __init__(self, drawn):
        self.drawn = drawn

    def integers(self, positives):
        assert positives == len(self.drawn.row["pos"])
        return self.drawn.positive

    def choice(self, candidates, wanted, replace):
        assert not replace
        assert wanted == len(self.drawn.negatives)
        assert set(self.drawn.negatives) <= set(candidates.tolist())
        return np.array(self.drawn.negatives)


class Alike:
    """The groups of each step, from the rows that FlagEmbedding took."""

    def __init__(self, parts, batch_size, recorded):
        self.parts, self.batch_size, self.recorded = parts, batch_size, recorded
        self.places = {
            (example.query, example.positives, example.negatives): (part, example)
            for part in parts
            for example in map(part.examples.__getitem__, range(len(part.examples)))
        }

    def __len__(self):
        return len(self.recorded.batches)

    def __getitem__(self, step):
        drawn = self.recorded.batches[step]
        rows = [(x.row["query"], tuple(x.row["pos"]), tuple(x.row["neg"])) for x in drawn]
        found = [self.places[row] for row in rows]
        sizes = {part.queries(self.batch_size) for part, _ in found}
        assert sizes == {len(drawn)}
        return [
            draw_group(example, Prescribed(own), rules=part.rules)
            for own, (part, example) in zip(drawn, found, strict=True)
        ]


def train_alike(words, recorded, monkeypatch):
    """Our run on the rows that FlagEmbedding took."""

    def groups(parts, batch_size, *_):
        return grain.MapDataset.source(Alike(parts, batch_size, recorded))

    monkeypatch.setattr(our_batches, "_groups", groups)
    given, ignored = parse(words)
    assert ignored == ["deepspeed"]
    experiment = translate(given, devices=1).experiment
    run = build(experiment, make_mesh(devices=jax.devices()[:1]))
    state, losses, norms = run.init(), [], []
    for _ in recorded.losses:
        batch = run.feed.take(stop=False).batch
        state, metrics = run.train_step(state, batch, np.bool_(False))
        losses.append(float(metrics["loss"]))
        norms.append(float(metrics["grad_norm"]))
    schedule = make_schedule(experiment.optimizer, experiment.steps)
    rates = [float(schedule(step)) for step in range(len(losses))]
    return Recorded(experiment.steps, recorded.batches, losses, rates, norms)


# As it is, and far enough to see every type of rows while the weights move thirty times faster.
FAST = ["--learning_rate", "3e-4", "--warmup_ratio", "0.02"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("more", "steps"),
    [([], STEPS), (FAST, 3 * STEPS), (["--fix_position_embedding", "True"], 3)],
)
@pytest.mark.parametrize("script", SCRIPTS)
def test_losses_and_learning_rates_are_flagembeddings(folder, script, more, steps, monkeypatch):
    monkeypatch.chdir(folder)
    name = f"{script}-{steps}"
    words = for_the_installed_transformers([*words_of(script, folder, f"theirs-{name}"), *more])
    theirs = record(words, steps, monkeypatch)
    assert len(theirs.losses) == len(theirs.rates) == steps
    ours = train_alike([*words_of(script, folder, f"ours-{name}"), *more], theirs, monkeypatch)
    assert ours.steps == theirs.steps
    np.testing.assert_allclose(ours.rates, theirs.rates, rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(ours.losses, theirs.losses, rtol=0, atol=1e-4)
    np.testing.assert_allclose(ours.norms, theirs.norms, rtol=1e-4)
    if len(theirs.losses) > STEPS:
        types = {drawn.row["type"] for batch in theirs.batches for drawn in batch}
        assert len(types) == 5
