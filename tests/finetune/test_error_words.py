"""What went wrong is said in flags: there is no experiment file whose fields could be changed."""

import dataclasses
import re

import pydantic
import pytest
from finetuning import rows, translated, write_checkpoint, write_rows

from contrastive.errors import ConfigError, DataError, DivergedError, FolderError, UserError
from contrastive.finetune.arguments import GROUPS
from contrastive.finetune.command import in_flags
from contrastive.finetune.flag_names import SHOWN, flag_of, flags_by_field
from contrastive.settings import differences, flatten
from contrastive.training.build import build
from contrastive.training.train import train_experiment
from contrastive.training.workdir import check_inputs, claimed

KNOWN = {field.name for group in GROUPS for field in dataclasses.fields(group)}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("error_words")
    write_checkpoint(folder / "model")
    write_rows(folder / "rows.jsonl", rows(40, 2))
    write_rows(folder / "held_out.jsonl", rows(8, 2, seed=1))
    return folder


def experiment(place, *flags, **options):
    options = {"model": place / "model", "data": place / "rows.jsonl", **options}
    return translated(*flags, **options).experiment


ALL_OF_IT = [
    *("--eval_data", "held_out.jsonl", "--guide_model", "gist"),
    *("--knowledge_distillation", "True", "--temperature_policy", "learned"),
]


def test_the_table_names_flags_that_are_there_and_fields_that_a_command_sets(place, monkeypatch):
    monkeypatch.chdir(place)
    table = {**flags_by_field(), **SHOWN}
    for flags in table.values():
        named = re.findall(r"--(\w+)", flags)
        assert named
        assert set(named) <= KNOWN
    set_by_commands = {
        name
        for flags in ([], ALL_OF_IT)
        for name in flatten(experiment(place, *flags).model_dump())
    }
    groups = {name[: end.start()] for name in set_by_commands for end in re.finditer(r"\.", name)}
    told = {"data.train", "data.in_batch", "data.batch_size", "workdir"}  # in errors of training
    alone = {"limit", "teacher_temperature", "weight"}  # of configs that are made by themselves
    assert {*set_by_commands, *groups, *told, *alone} >= table.keys()


# No flag sets these.
FIXED = {
    *("detail_steps", "init_seed", "select_best", "on_divergence"),
    *("data.texts_per_row", "data.tokenizer", "data.train.kind"),
    *("loss.in_batch", "loss.matryoshka_weights", "loss.ring", "loss.tile"),
    *("model.kind", "model.revision", "optimizer.warmup_from_zero"),
}


@pytest.mark.parametrize("flags", [[], ALL_OF_IT])
def test_every_field_that_a_flag_sets_is_called_by_a_flag(place, monkeypatch, flags):
    monkeypatch.chdir(place)
    fields = set(flatten(experiment(place, *flags).model_dump()))
    unnamed = {field for field in fields if "--" not in flag_of(field)}
    assert unnamed <= FIXED
    assert flags or unnamed == FIXED


HELD_OUT = ["--eval_data", "held_out.jsonl", "--eval_steps", 3]
INSTRUCTED = ["--query_instruction_for_retrieval", "find"]
DISTILLED = ["--knowledge_distillation", "True"]
GUIDED = ["--guide_model", "gist"]


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
        ("--eval_data", "rows.jsonl", HELD_OUT),
        ("--eval_steps", 5, HELD_OUT),
        ("--patience", 5, HELD_OUT),
        ("--train_group_size", 3, []),
        ("--few_negatives", "fewer", []),
        ("--shuffle_ratio", 0.5, []),
        ("--query_instruction_format", "{}: {}", INSTRUCTED),
        ("--query_instruction_format", "{}: {}", [*INSTRUCTED, *HELD_OUT]),
        ("--query_instruction_for_retrieval", "find: ", []),
        ("--passage_instruction_for_retrieval", "text: ", []),
        ("--query_max_len", 9, []),
        ("--passage_max_len", 9, []),
        ("--dataloader_num_workers", 5, []),
        ("--model_name_or_path", "other", []),
        ("--cache_dir", "hub", []),
        ("--cache_dir", "hub", GUIDED),
        ("--dropout", 0.5, []),
        ("--bf16", "True", []),
        ("--bf16", "True", GUIDED),
        ("--gradient_checkpointing", "True", []),
        ("--sentence_pooling_method", "mean", []),
        ("--normalize_embeddings", "False", []),
        ("--temperature", 0.5, []),
        ("--loss", "siglip", []),
        ("--loss_options", "margin=0.1", []),
        ("--temperature_policy", "learned", []),
        ("--temperature_options", "maximum=0.5", ["--temperature_policy", "learned"]),
        ("--above_positive", 0.1, []),
        ("--relative_to_positive", 0.9, []),
        ("--guide_model", "gist", []),
        ("--guide_margin", 0.1, GUIDED),
        ("--mask_false_negatives", "True", []),
        ("--dataset_rules", "always", []),
        ("--knowledge_distillation", "True", []),
        ("--kd_loss_type", "m3_kd_loss", DISTILLED),
        ("--teacher_temperature", 3, DISTILLED),
        ("--kd_weight", 3, DISTILLED),
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
    changed = {flag_of(line.partition(": ")[0]) for line in differences(one, other)}
    named = [line.strip().partition(": ")[0] for line in told]
    assert len(named) == len(set(named)) > 0
    assert set(named) == changed
    assert any(line.startswith("  ") and flag in line.partition(": ")[0] for line in told)
    assert all("--" in line.partition(": ")[0] for line in told)
    assert last.startswith(
        "Choose another folder, or use the settings it was started with to resume it"
    )
    assert last.endswith("(see --output_dir)")


def test_a_run_that_is_given_more_steps_is_told_how_to_go_on(place, tmp_path):
    shorter, longer = (experiment(place, "--max_steps", steps) for steps in (4, 6))
    with claimed(tmp_path / "run", shorter, {}):
        pass
    with pytest.raises(FolderError) as error, in_flags(), claimed(tmp_path / "run", longer, {}):
        pass
    assert "A run cannot be extended" in str(error.value)
    assert "start another run with that model as --model_name_or_path" in str(error.value)


def test_a_run_of_a_renamed_folder_is_the_same(place):
    assert experiment(place, "--output_dir", "a") == experiment(place, "--output_dir", "b")


def test_other_inputs_are_told_by_their_flags(tmp_path, place):
    inputs = {"data.train": "a", "evaluators.validation": "b", "model": "c", "loss.guide": "d"}
    with claimed(tmp_path / "run", experiment(place), inputs):
        pass
    with pytest.raises(FolderError) as error, in_flags():
        check_inputs(tmp_path / "run", dict.fromkeys(inputs, "another"))
    flags = "--train_data, --eval_data, --model_name_or_path, --guide_model"
    assert f"its inputs have changed: {flags}. Restore them" in str(error.value)
    assert str(error.value).endswith("(see --output_dir)")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", 0], "--temperature is 0.0: input should be greater than 0"),
        (["--learning_rate", 0], "--learning_rate is 0.0: input should be greater than 0"),
        (["--dropout", 1], "--dropout is 1.0: input should be less than 1"),
        (["--train_group_size", 0], "--train_group_size is 0: input should be greater than 0"),
        (["--save_total_limit", 0], "--save_total_limit is 0: input should be greater than 0"),
        (["--seed", -1], "--seed is -1: input should be greater than or equal to 0"),
        (["--max_example_num_per_dataset", 0], "--max_example_num_per_dataset is 0: input"),
        (["--per_device_train_batch_size", -8], "the batch (--per_device_train_batch_size x "),
        (["--per_device_train_batch_size", 0], "the batch (--per_device_train_batch_size x "),
        ([*DISTILLED, "--kd_weight", 0], "--kd_weight is 0.0: input should be greater than 0"),
        (
            [*DISTILLED, "--teacher_temperature", 0],
            "--teacher_temperature is 0.0: input should be greater than 0",
        ),
        (
            [*DISTILLED, "--loss_options", "margin=wide"],
            "--loss_options margin is 'wide': input should be a valid number",
        ),
        (
            ["--temperature_policy", "warm_down", "--temperature_options", "steps=0"],
            "--temperature_options steps is '0': input should be greater than 0",
        ),
        (
            ["--patience", 2],
            "--patience needs evaluations while training: set --eval_steps and --eval_data",
        ),
        (
            ["--per_device_train_batch_size", 1, "--train_group_size", 1],
            "--train_group_size is 1, and the batch of 1 has one query per negative group, so no "
            "negatives are left; raise it, or use fewer negative groups (see the batch "
            "(--per_device_train_batch",
        ),
        (
            ["--train_group_size", 0, "--dropout", 1],
            "--train_group_size is 0: input should be greater than 0\n--dropout is 1.0: input",
        ),
    ],
)
def test_impossible_values_are_told_by_their_flag(place, flags, words):
    with pytest.raises(ConfigError) as error, in_flags():
        experiment(place, *flags)
    assert str(error.value).startswith(words)
    assert "validation error" not in str(error.value)
    assert isinstance(error.value.__cause__, ConfigError)
    assert not isinstance(error.value.__cause__, pydantic.ValidationError)


ALONE = ["--same_dataset_within_batch", "True"]


def test_a_loss_without_other_queries_is_told_by_what_the_command_was_given(place, tmp_path):
    data = write_rows(tmp_path / "rows-no_in_batch_neg" / "rows.jsonl", rows(8, 2))
    with pytest.raises(ConfigError) as error, in_flags():
        experiment(place, "--loss", "align_uniform", *ALONE, data=data.parent)
    assert str(error.value).startswith(
        "in_batch of a file or folder of --train_data whose name ends in no_in_batch_neg is False, "
        "but align_uniform compares texts of different queries;"
    )
    alone = r"^--train_group_size is 1 and in_batch is False, so no negatives are left"
    with pytest.raises(ConfigError, match=alone), in_flags():
        experiment(place, "--train_group_size", 1, *ALONE, data=data.parent)


@pytest.mark.parametrize(
    ("flags", "kind", "words"),
    [
        (
            ["--per_device_train_batch_size", 64],
            DataError,
            r"^the batch \(--per_device_train_batch_size x devices x .*_steps\) is 64 but"
            r" .*rows\.jsonl'\) has 40 examples; lower it to 40 or less$",
        ),
        (
            [
                *("--per_device_train_batch_size", 40, "--same_dataset_within_batch", "True"),
                *("--train_data", "rows.jsonl", "held_out.jsonl"),
            ],
            DataError,
            r" is 40 but .*held_out\.jsonl'\) has 8 examples; leave it out, set "
            r"--same_dataset_within_batch=False, or lower",
        ),
        (
            ["--few_negatives", "refuse"],
            DataError,
            r"a group needs 7 negatives .*, use groups of 3, or allow rows with fewer "
            r"\(see --train_group_size, --few_negatives\)$",
        ),
        (["--query_max_len", 99], ConfigError, r"^--query_max_len is 99, but the model has"),
        (["--fsdp_devices", 3], ConfigError, r"^--fsdp_devices is 3, which does not divide 8"),
        (
            ["--loss", "margin_mse", "--train_group_size", 1],
            ConfigError,
            r"^--train_group_size is 1",
        ),
    ],
)
def test_what_does_not_fit_data_or_model_is_told_by_flags(place, monkeypatch, flags, kind, words):
    monkeypatch.chdir(place)
    size = ["--query_max_len", 8, "--passage_max_len", 8, "--per_device_train_batch_size", 8]
    with pytest.raises(kind) as error, in_flags():
        build(experiment(place, *size, *flags))
    assert re.search(words, str(error.value))
    assert not isinstance(error.value, pydantic.ValidationError)


def test_a_run_that_diverges_is_told_by_flags(place, tmp_path):
    flags = ["--temperature", 2e-38, "--max_steps", 2, "--logging_steps", 1]
    size = ["--query_max_len", 8, "--passage_max_len", 8, "--train_group_size", 2]
    run = experiment(place, *flags, *size)
    with pytest.raises(DivergedError) as error, in_flags():
        train_experiment(run, tmp_path / "run")
    assert "Raise the temperature or lower the learning rate" in str(error.value)
    assert str(error.value).endswith("(see --temperature, --learning_rate)")


def test_an_error_stays_of_its_kind_and_words_of_the_language_stay():
    said = DivergedError(
        "step 3: the loss is nan. Raise the temperature or lower the learning rate",
        see=("loss.temperature", "optimizer.learning_rate"),
    )
    with pytest.raises(DivergedError) as error, in_flags():
        raise said
    assert str(error.value).endswith("learning rate (see --temperature, --learning_rate)")
    assert error.value.__cause__ is said
    for text in (
        "after 20 steps the name of a seed: patience is all",
        "/data/batch_size/data.train/group_size.jsonl:3: a row",
        "give --eval_steps, --few_negatives fewer or --train_group_size 2",
        "data.training has 'group_size': 3",
    ):
        with pytest.raises(UserError) as error, in_flags():
            raise DataError(text)
        assert str(error.value) == text
