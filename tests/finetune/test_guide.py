"""A frozen encoder that says which negatives are false."""

import dataclasses

import jax
import numpy as np
import pytest
from finetuning import rows, translated, write_checkpoint, write_rows

from contrastive.devices.mesh import make_mesh
from contrastive.errors import ConfigError, FolderError
from contrastive.finetune.command import in_flags
from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.training.build import build

SHAPE = ("--query_max_len", 16, "--passage_max_len", 16, "--train_group_size", 3, "--dropout", 0)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("guide")
    model = load(write_checkpoint(folder / "model"))
    save(folder / "guide", dataclasses.replace(model, pooling="cls", query_prompt="find: "))
    write_rows(folder / "rows.jsonl", rows(20, 2))
    return folder


def built(place, *flags, model="model"):
    given = translated(*SHAPE, *flags, data=place / "rows.jsonl", model=place / model)
    return build(given.experiment, make_mesh(devices=jax.devices()[:1]))


def first_step(run):
    batch = run.feed.take(stop=False).batch
    state, metrics = run.train_step(run.init(), batch, np.bool_(True))
    return state, {name: float(x) for name, x in metrics.items()}


@pytest.mark.slow
def test_a_guide_like_the_model_leaves_out_what_the_model_scores_above_the_positive(place):
    guided = built(place, "--guide_model", place / "guide")
    assert "find: " in "".join(guided.notices)
    assert guided.inputs["loss.guide"] != guided.inputs["model"]
    state, metrics = first_step(guided)
    _, expected = first_step(built(place, "--above_positive", 0))
    assert 0.05 < metrics["masked_by_score"] < 0.95
    for name, value in expected.items():
        assert metrics[name] == pytest.approx(value, rel=1e-5, abs=1e-6), name
    # Neither trained nor kept with the run.
    assert "guide" not in str(jax.tree.structure(state))


@pytest.mark.parametrize(
    ("guide", "flags", "said"),
    [
        ("other", [], "--guide_model is .*other, whose tokenizer differs from that of"),
        ("model", [], "--guide_model is .*model, which does not specify its pooling"),
        ("guide", ["--passage_max_len", 33], "--passage_max_len is 33, but .* positions for 32"),
        ("missing", [], "missing: no such folder"),
    ],
)
def test_a_guide_that_cannot_read_the_tokens_is_refused(place, tmp_path, guide, flags, said):
    if guide == "other":
        model = load(write_checkpoint(tmp_path / "plain", vocab_size=150))
        save(place / "other", dataclasses.replace(model, pooling="cls"))
    with pytest.raises((ConfigError, FolderError), match=said), in_flags():
        built(place, "--guide_model", place / guide, *flags)
