"""`contrastive finetune` as a person types it."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from finetuning import rows, write_checkpoint, write_rows
from tiny import finish, losses, metrics, wait_for_step, xla_flags

from contrastive import Encoder
from contrastive.cli.main import main
from contrastive.config import Jsonl, Retrieval
from contrastive.errors import FolderError
from contrastive.finetune.command import finetune

STEPS = 20
FILES = {
    "1_Pooling/config.json",
    "README.md",
    "config.json",
    "config_sentence_transformers.json",
    "contrastive.json",
    "model.safetensors",
    "modules.json",
    "sentence_bert_config.json",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
}


def command(*words):
    return [sys.executable, "-m", "contrastive", "finetune", *map(str, words)]


def start(*words):
    return subprocess.Popen(
        command(*words),
        env={**os.environ, "XLA_FLAGS": xla_flags(1)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def written(folder):
    """Files of the model, without those of its run."""
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    return {name for name in files if not name.startswith("training/")}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune")
    write_checkpoint(folder / "model")
    write_rows(folder / "rows.jsonl", rows(20, 2))
    write_rows(folder / "held_out.jsonl", rows(12, 2, seed=1))
    return folder


def flags(place, output):
    # At so high a learning rate the best evaluation is not the last. Dropout is the checkpoint's.
    # Texts are cut to the same length, so that all batches have one shape: one program.
    return [
        *("--model_name_or_path", place / "model", "--output_dir", output),
        *("--train_data", place / "rows.jsonl", "--eval_data", place / "held_out.jsonl"),
        *("--train_group_size", 3, "--per_device_train_batch_size", 8),
        *("--query_max_len", 7, "--passage_max_len", 5, "--max_steps", STEPS),
        *("--learning_rate", 3e-2, "--lr_scheduler_type", "constant", "--logging_steps", 1),
        *("--eval_steps", 2, "--save_steps", 1, "--save_total_limit", 2),
        *("--query_instruction_for_retrieval", "kas kat: "),
    ]


@pytest.fixture(scope="module")
def finished(place):
    """A folder that was trained without a disturbance, and what was printed."""
    output = finish(start(*flags(place, place / "tuned")))
    return place / "tuned", output


def test_out_comes_a_folder_that_says_all_of_itself(finished):
    folder, output = finished
    assert "--mask_false_negatives True leaves them out" in output
    assert written(folder) == FILES
    described = {name: json.loads((folder / name).read_text()) for name in FILES if "json" in name}
    modules = [module["type"].rpartition(".")[2] for module in described["modules.json"]]
    assert modules == ["Transformer", "Pooling", "Normalize"]
    pooling = described["1_Pooling/config.json"]
    assert [name for name, on in pooling.items() if on is True] == [
        "pooling_mode_cls_token",
        "include_prompt",
    ]
    prompts = described["config_sentence_transformers.json"]["prompts"]
    assert prompts == {"query": "kas kat: ", "document": ""}
    assert described["sentence_bert_config.json"]["max_seq_length"] == 7  # the longer of both
    assert described["config.json"]["model_type"] == "bert"
    encoder = Encoder.from_pretrained(folder)  # nothing has to be said about it
    assert (encoder.query_length, encoder.document_length) == (7, 5)
    vectors = encoder.encode_queries(["bad bas", "kad kas kat"])
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
    with_prompt = encoder.encode(["kas kat: bad bas"], max_length=7)
    np.testing.assert_allclose(with_prompt, vectors[:1], atol=1e-6)
    assert {row["step"] for row in metrics(folder / "training")} == set(range(1, STEPS + 1))
    assert "masked_share" in metrics(folder / "training")[0]


def test_the_best_on_eval_data_is_what_comes_out(place, finished):
    folder, _ = finished
    name = "validation/nDCG@10"
    scores = {row["step"]: row[name] for row in metrics(folder / "training") if name in row}
    assert list(scores) == list(range(2, STEPS + 1, 2))
    best = max(scores, key=scores.get)
    assert best != STEPS
    results = json.loads((folder / "training" / "results.json").read_text())
    assert results["best_step"] == best
    card = (folder / "README.md").read_text()
    assert f"| {name} | {scores[best]:.4f} |" in card
    assert f"| steps | {best} |" in card
    task = Retrieval(Jsonl(path=str(place / "held_out.jsonl")))
    assert task.evaluate(Encoder.from_pretrained(folder), task.load())["nDCG@10"] == pytest.approx(
        scores[best], abs=1e-6
    )


@pytest.mark.slow
def test_killed_and_stopped_the_same_command_goes_on_bit_for_bit(place, finished, tmp_path):
    folder, _ = finished
    words = flags(place, tmp_path / "tuned")
    run = tmp_path / "tuned" / "training"
    process = start(*words)
    wait_for_step(run, 3, process)
    process.kill()
    process.wait()
    process = start(*words)
    wait_for_step(run, 7, process)
    process.send_signal(signal.SIGTERM)
    assert "run the same command again to resume" in finish(process, expected_code=75)
    assert len(losses(run)) < STEPS
    assert not (tmp_path / "tuned" / "model.safetensors").exists()
    finish(start(*words))
    assert losses(run) == losses(folder / "training")
    assert written(tmp_path / "tuned") == FILES
    for name in FILES:
        assert (tmp_path / "tuned" / name).read_bytes() == (folder / name).read_bytes(), name


@pytest.mark.slow
def test_another_run_of_ones_own_is_overwritten_only_if_asked(place, finished, tmp_path):
    folder, _ = finished
    copy = tmp_path / "tuned"
    shutil.copytree(folder, copy)
    (copy / "notes.txt").write_text("of a person")
    changed = [*flags(place, copy), "--seed", 7]
    before = (copy / "model.safetensors").read_bytes()
    with pytest.raises(FolderError, match=r"another config:\n(.*\n)* +--seed: 42 -> 7\n"):
        finetune(list(map(str, changed)))
    assert (copy / "model.safetensors").read_bytes() == before
    output = finish(start(*changed, "--overwrite_output_dir"))
    assert re.search(r"removing the other run in .*training: checkpoints, .*config\.json\n", output)
    found, old = (losses(run / "training") for run in (copy, folder))
    assert len(found) == STEPS
    assert found[0] != old[0]
    assert written(copy) == {*FILES, "notes.txt"}
    assert (copy / "model.safetensors").read_bytes() != before


@pytest.mark.slow
def test_a_run_on_other_rows_is_overwritten_only_if_asked(place, tmp_path):
    own = tmp_path / "rows.jsonl"
    words = [*flags(place, tmp_path / "tuned"), "--train_data", own, "--max_steps", 2]
    write_rows(own, rows(20, 2))
    finish(start(*words))
    old = losses(tmp_path / "tuned" / "training")
    write_rows(own, rows(20, 2, seed=5))
    output = finish(start(*words), expected_code=1)
    assert "its inputs have changed: --train_data" in output
    assert "removing the other run" in finish(start(*words, "--overwrite_output_dir"))
    new = losses(tmp_path / "tuned" / "training")
    assert len(new) == len(old) == 2
    assert new[0] != old[0]


def test_the_model_itself_and_folders_of_others_are_not_written_to(place, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(place / "model", model)
    (tmp_path / "link").symlink_to(model)
    before = {path: path.read_bytes() for path in model.iterdir()}
    # The folder above the model is also a name of it, as that of a run is.
    for name, output in (
        (model, model),
        (model, f"{model}/"),
        (model, tmp_path / "link"),
        (tmp_path, model),
    ):
        for more in ([], ["--overwrite_output_dir"]):
            words = [*flags(place, output), "--model_name_or_path", name, *more]
            with pytest.raises(FolderError, match="is also --model_name_or_path"):
                finetune(list(map(str, words)))
    assert {path: path.read_bytes() for path in model.iterdir()} == before
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    with pytest.raises(
        FolderError, match="is not empty and contains no training/ of an earlier run"
    ):
        finetune(list(map(str, flags(place, tmp_path / "thesis"))))
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


def test_mistakes_are_answered_in_a_line(place, tmp_path):
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", *map(str, flags(place, tmp_path / "out")), "--fsdp", "full_shard"])
    assert str(stopped.value).startswith("contrastive: --fsdp is a flag of transf")
    words = [*flags(place, tmp_path / "out"), "--train_data", tmp_path / "nowhere.jsonl"]
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", *map(str, words)])
    assert "nowhere.jsonl: no such file" in str(stopped.value)
    words = [*flags(place, tmp_path / "out"), "--temperature", 0]
    with pytest.raises(SystemExit) as stopped:
        main(["finetune", *map(str, words)])
    assert str(stopped.value) == "contrastive: --temperature is 0.0: input should be greater than 0"
    assert not (tmp_path / "out").exists()


def test_nothing_to_resume_is_no_reason_to_start_afresh(place, finished, tmp_path):
    folder, _ = finished
    shutil.copytree(folder, tmp_path / "before")
    shutil.rmtree(tmp_path / "before" / "training" / "checkpoints")
    for output in (tmp_path / "nowhere", tmp_path / "before"):
        for more in ([], ["--overwrite_output_dir"]):
            words = [*flags(place, output), "--resume_from_checkpoint", "old/checkpoint-9", *more]
            with pytest.raises(FolderError) as error:
                finetune(list(map(str, words)))
            assert "--resume_from_checkpoint old/checkpoint-9: there is no checkpoint in" in str(
                error.value
            )
            assert f"{output}/training" in str(error.value)
    assert not (tmp_path / "nowhere").exists()
    # Where there is a run, it goes on, or is refused: asked to go on, nothing is removed.
    copy = tmp_path / "tuned"
    shutil.copytree(folder, copy)
    more = ["--resume_from_checkpoint", "True", "--overwrite_output_dir"]
    output = finish(start(*flags(place, copy), *more, "--seed", 7), expected_code=1)
    assert "--seed: 42 -> 7" in output
    finish(start(*flags(place, copy), *more))
    assert losses(copy / "training") == losses(folder / "training")


@pytest.mark.slow
def test_flagembeddings_own_example_data(shared_data, tmp_path):
    examples = shared_data / "flagembedding_examples"
    if not examples.is_dir():
        pytest.skip(f"{examples} is not there")
    folders = ["retrieval", "sts", "classification-no_in_batch_neg", "clustering-no_in_batch_neg"]
    texts = [file.read_text() for folder in folders for file in (examples / folder).iterdir()]
    write_checkpoint(tmp_path / "model", texts, vocab_size=1000)
    output = finish(
        start(
            *("--model_name_or_path", tmp_path / "model", "--output_dir", tmp_path / "out"),
            *("--train_data", *(f"{examples / folder}/" for folder in folders)),
            *("--train_group_size", 4, "--per_device_train_batch_size", 16),
            *("--query_max_len", 24, "--passage_max_len", 16, "--num_train_epochs", 1),
            *("--query_instruction_format", r"<instruct>{}\n<query>{}"),
            *("--sentence_pooling_method", "last_token", "--normalize_embeddings", "True"),
            *("--temperature", 0.02, "--learning_rate", 1e-5, "--warmup_ratio", 0.1),
            *("--dataloader_drop_last", "True", "--logging_steps", 1, "--save_steps", 1000),
            *("--negatives_cross_device", "--overwrite_output_dir", "--save_safetensors", "True"),
            *("--bf16", "--gradient_checkpointing", "--token", "hf_not_to_be_kept"),
            *("--deepspeed", "../ds_stage0.json", "--cache_path", tmp_path / "cache"),
        )
    )
    assert "flags without effect: --save_safetensors, --deepspeed (to save memory" in output
    for folder in folders[2:]:
        assert f"{examples / folder}/" in output  # said to be without in-batch negatives
    found = losses(tmp_path / "out" / "training")
    assert len(found) == 5  # eighty rows
    assert np.all(np.isfinite(found))
    assert np.min(found) > 0
    encoder = Encoder.from_pretrained(tmp_path / "out")
    assert "pooling='last_token'" in repr(encoder)
    assert encoder.encode_documents(["a passage", "another"]).shape == (2, 16)
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or b"hf_not_to_be_kept" not in path.read_bytes(), path
    assert "hf_not_to_be_kept" not in output
