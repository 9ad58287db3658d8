"""What went wrong is said in flags: there is no experiment file whose settings could be changed."""

import dataclasses
import re

import pydantic
import pytest
from finetuning import rows, translated, write_checkpoint, write_rows

from contrastive.config import differences, flatten
from contrastive.errors import ConfigError, DataError, DivergedError, FolderError
from contrastive.finetune.arguments import GROUPS
from contrastive.finetune.wording import FLAGS, in_flags, reworded
from contrastive.training.assemble import assemble
from contrastive.training.workdir import claimed

KNOWN = {field.name for group in GROUPS for field in dataclasses.fields(group)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wording")
    write_checkpoint(folder / "model")
    write_rows(folder / "rows.jsonl", rows(40, 2))
    write_rows(folder / "held_out.jsonl", rows(8, 2, seed=1))
    return folder


def experiment(place, *flags, **options):
    options = {"model": place / "model", "data": place / "rows.jsonl", **options}
    return translated(*flags, **options).experiment


def test_the_table_names_flags_that_are_there_and_settings_that_a_command_makes(place):
    for flags in FLAGS.values():
        named = re.findall(r"--(\w+)", flags)
        assert named
        assert set(named) <= KNOWN
    all_of_it = experiment(place, "--knowledge_distillation", "True", "--guide_model", "gist")
    made = {*flatten(all_of_it.model_dump()), "data.train", "loss.distill", "jsonl.limit"}
    made |= {"loss.function", "loss.policy", "loss.guide"}
    made |= {name.rpartition(".")[2] for name in made} | {"--workdir"}
    assert made >= FLAGS.keys()


HELD_OUT = ["--eval_data", "held_out.jsonl", "--eval_steps", 3]


@pytest.mark.parametrize(
    ("flag", "value", "before"),
    [
        ("--seed", 7, []),
        ("--max_steps", 4, []),
        ("--per_device_train_batch_size", 4, []),
        ("--gradient_accumulation_steps", 2, []),
        ("--train_data", "held_out.jsonl", []),
        ("--same_dataset_within_batch", "True", []),
        ("--eval_data", "held_out.jsonl", []),
        ("--eval_steps", 5, HELD_OUT),
        ("--patience", 5, HELD_OUT),
        ("--train_group_size", 3, []),
        ("--few_negatives", "fewer", []),
        ("--shuffle_ratio", 0.5, []),
        ("--query_instruction_format", "{}: {}", []),
        ("--query_instruction_for_retrieval", "find: ", []),
        ("--passage_instruction_for_retrieval", "text: ", []),
        ("--query_max_len", 9, []),
        ("--passage_max_len", 9, []),
        ("--dataloader_num_workers", 5, []),
        ("--model_name_or_path", "other", []),
        ("--cache_dir", "hub", []),
        ("--dropout", 0.5, []),
        ("--bf16", "True", []),
        ("--gradient_checkpointing", "True", []),
        ("--sentence_pooling_method", "mean", []),
        ("--normalize_embeddings", "False", []),
        ("--temperature", 0.5, []),
        ("--mask_false_negatives", "False", []),
        ("--knowledge_distillation", "True", []),
        ("--kd_loss_type", "m3_kd_loss", ["--knowledge_distillation", "True"]),
        ("--teacher_temperature", 3, ["--knowledge_distillation", "True"]),
        ("--kd_weight", 3, ["--knowledge_distillation", "True"]),
        ("--mrl_dims", 4, ["--use_mrl", "True", "--mrl_dims", 8]),
        ("--sub_batch_size", 4, []),
        ("--learning_rate", 1e-3, []),
        ("--lr_scheduler_type", "cosine", []),
        ("--warmup_steps", 2, []),
        ("--weight_decay", 0.1, []),
        ("--adam_beta1", 0.5, []),
        ("--adam_beta2", 0.5, []),
        ("--adam_epsilon", 0.5, []),
        ("--max_grad_norm", 0.5, []),
        ("--fix_position_embedding", "True", []),
        ("--logging_steps", 7, []),
        ("--save_steps", 7, []),
        ("--save_total_limit", 7, []),
        ("--fsdp_devices", 2, []),
        ("--report_to", "wandb", []),
        ("--output_dir", "elsewhere", []),
    ],
)
def test_another_config_is_told_by_the_flag_that_was_changed(
    place, tmp_path, monkeypatch, flag, value, before
):
    monkeypatch.chdir(place)
    one = experiment(place, *before, "--output_dir", "here")
    other = experiment(place, *before, "--output_dir", "here", flag, value)
    with claimed(tmp_path / "run", one, {}):
        pass
    with pytest.raises(FolderError) as error, in_flags(), claimed(tmp_path / "run", other, {}):
        pass
    _, *told, last = str(error.value).split("\n")
    assert len(told) == len(differences(one, other)) > 0
    assert any(line.startswith("  ") and flag in line.partition(": ")[0] for line in told)
    assert all("--" in line.partition(": ")[0] for line in told)
    assert last.startswith("Give another --output_dir, or the settings")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", 0], "--temperature is 0.0: Input should be greater than 0"),
        (["--learning_rate", 0], "--learning_rate is 0.0: Input should be greater than 0"),
        (["--dropout", 1], "--dropout is 1.0: Input should be less than 1"),
        (["--train_group_size", 0], "--train_group_size is 0: Input should be greater than 0"),
        (["--save_total_limit", 0], "--save_total_limit is 0: Input should be greater than 0"),
        (["--seed", -1], "--seed is -1: Input should be greater than or equal to 0"),
        (["--max_example_num_per_dataset", 0], "--max_example_num_per_dataset is 0: Input"),
        (["--per_device_train_batch_size", -8], "the batch (--per_device_train_batch_size x "),
        (
            ["--patience", 2],
            "--patience needs evaluations while training: set --eval_steps and --eval_data",
        ),
        (
            ["--per_device_train_batch_size", 1, "--train_group_size", 1],
            "--train_group_size is 1: no negatives are left",
        ),
    ],
)
def test_impossible_values_are_told_by_their_flag(place, flags, words):
    with pytest.raises(ConfigError) as error, in_flags():
        experiment(place, *flags)
    assert words in str(error.value)
    assert "validation error" not in str(error.value)
    assert isinstance(error.value.__cause__, pydantic.ValidationError)


@pytest.mark.parametrize(
    ("flags", "kind", "words"),
    [
        (
            ["--per_device_train_batch_size", 64],
            DataError,
            r"^the batch \(--per_device_train_batch_size x devices x .*_steps\) is 64 but"
            r" .*rows\.jsonl'\) has 40 examples; lower the batch to 40 or less$",
        ),
        (
            ["--few_negatives", "refuse"],
            DataError,
            r"wants 7 negatives .* set --train_group_size=3, or --few_negatives to 'fewer'",
        ),
        (["--query_max_len", 99], ConfigError, r"^--query_max_len is 99, but the model has"),
        (["--use_mrl", "True", "--mrl_dims", 99], ConfigError, r"^--mrl_dims are \[99\], but"),
        (["--fsdp_devices", 3], ConfigError, r"^--fsdp_devices is 3, which does not divide 8"),
    ],
)
def test_what_does_not_fit_data_or_model_is_told_by_flags(place, flags, kind, words):
    size = ["--query_max_len", 8, "--passage_max_len", 8, "--per_device_train_batch_size", 8]
    with pytest.raises(kind) as error, in_flags():
        assemble(experiment(place, *size, *flags))
    assert re.search(words, str(error.value))
    assert not isinstance(error.value, pydantic.ValidationError)


def test_an_error_stays_of_its_kind_and_words_of_the_language_stay():
    said = "step 3: ... Raise loss.temperature or lower optimizer.learning_rate, and start in a new"
    with pytest.raises(DivergedError, match="Raise --temperature or lower --learning"), in_flags():
        raise DivergedError(f"{said} --workdir.")
    for text in (
        "after 20 steps the name of a seed: patience is all",
        "/data/batch_size/data.train/group_size.jsonl:3: a row",
        "give --eval_steps, --few_negatives fewer or --train_group_size 2",
        "data.training has 'group_size': 3",
    ):
        assert reworded(text) == text
