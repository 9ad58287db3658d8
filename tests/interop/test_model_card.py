"""README.md of a model folder."""

import dataclasses

import pytest
from folders import write_plain
from huggingface_hub import ModelCard

from contrastive.interop.hf_export import save
from contrastive.interop.hf_import import load
from contrastive.interop.model_card import Training, model_card, write_card

TRAINING = Training(
    name='a "name": [with] | signs',
    base_model="BAAI/bge-small-en-v1.5",
    losses={"info_nce": 1.0, "distill_kl": 0.5},
    data=("rows.jsonl", "others.jsonl"),
    examples=1234,
    steps=20,
    batch_size=32,
    learning_rate=1e-5,
    scores={"dev": {"nDCG@10": 0.25, "MRR@10": 0.5}, "sts": {"spearman": 0.75}},
    split="test",
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cards") / "model"
    folder.mkdir()
    write_plain(folder)
    return dataclasses.replace(load(folder), pooling="cls", normalize=True, temperature=0.05)


def changed(model, **fields):
    return model_card(dataclasses.replace(model, **fields), TRAINING)


def test_the_hub_reads_its_metadata(model):
    data = ModelCard(model_card(model, TRAINING)).data
    assert data.base_model == "BAAI/bge-small-en-v1.5"
    assert data.library_name == "sentence-transformers"
    assert {"loss:info_nce", "loss:distill_kl", "dataset_size:1234"} <= set(data.tags)
    assert data.model_name == TRAINING.name
    scores = {(x.dataset_name, x.metric_type): x.metric_value for x in data.eval_results}
    assert {x.dataset_split for x in data.eval_results} == {"test"}
    assert scores == {("dev", "nDCG@10"): 0.25, ("dev", "MRR@10"): 0.5, ("sts", "spearman"): 0.75}


def test_it_tells_what_a_reader_asks(model):
    card = model_card(model, TRAINING)
    for line in (
        "| training temperature | 0.05 |",
        "| pooling | cls |",
        "| loss | info_nce + 0.5 x distill_kl |",
        "| data | rows.jsonl, others.jsonl |",
        "| started from | BAAI/bge-small-en-v1.5 |",
        "| examples | 1,234 |",
        "## Scores on test data",
        "| dev/nDCG@10 | 0.2500 |",
    ):
        assert line in card.splitlines()
    assert "also selected the checkpoint" not in card
    selected = dataclasses.replace(TRAINING, selected=True)
    assert "also selected the checkpoint" in model_card(model, selected)
    plain = model_card(model)
    assert "## Training" not in plain
    assert "## Scores" not in model_card(model, dataclasses.replace(TRAINING, scores={}))


def test_a_folder_that_was_started_from_is_named_without_its_place(model, tmp_path):
    local = dataclasses.replace(TRAINING, base_model=str(tmp_path / "mine"))
    card = model_card(model, local)
    assert "| started from | mine |" in card
    assert str(tmp_path) not in card
    assert ModelCard(card).data.base_model is None
    scratch = model_card(model, dataclasses.replace(TRAINING, base_model=None))
    assert "| started from | random weights |" in scratch


@pytest.mark.parametrize("prompt", ["a | b", "`x`", "``", "<b>\n</b>", "'\"\\", "---\n# no"])
def test_prompts_may_contain_anything(model, prompt):
    card = changed(model, query_prompt=prompt)
    assert ModelCard(card).data.model_name == TRAINING.name
    assert f"query_instruction_for_retrieval={prompt!r}," in card
    rows = [line for line in card.splitlines() if line.startswith("| prompt of queries")]
    assert len(rows) == 1
    assert rows[0].count("|") == 3


def test_flagembedding_is_not_promised_what_it_does_not_pool(model):
    for pooling in ("cls", "mean"):
        assert f"pooling_method={pooling!r}" in changed(model, pooling=pooling)
    card = changed(model, pooling="last_token")
    assert "from FlagEmbedding import" not in card
    assert "it cannot use this model, which pools by `last_token`" in card


def test_it_is_written_with_the_model_and_again_with_the_scores(model, tmp_path):
    folder = tmp_path / "out"
    save(folder, model)
    assert (folder / "README.md").read_text() == model_card(model)
    save(folder, model, TRAINING)
    assert (folder / "README.md").read_text() == model_card(model, TRAINING)
    scored = model_card(model, dataclasses.replace(TRAINING, scores={"dev": {"MAP": 1.0}}))
    write_card(folder, scored)
    assert (folder / "README.md").read_text() == scored
    assert load(folder).temperature == model.temperature  # a card is not part of the model


def test_a_card_of_ones_own_stays(model, tmp_path):
    folder = tmp_path / "out"
    save(folder, model)
    (folder / "README.md").write_text("# Mine\n")
    save(folder, model, TRAINING)
    write_card(folder, model_card(model, TRAINING))
    assert (folder / "README.md").read_text() == "# Mine\n"
