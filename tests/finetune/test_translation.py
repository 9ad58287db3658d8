"""From flags to an experiment."""

import dataclasses
import gzip
import math
import typing
from pathlib import Path

import pytest
from finetuning import rows, translated, write_rows

from contrastive import config
from contrastive.errors import ConfigError, DataError
from contrastive.finetune.arguments import LossArguments
from contrastive.finetune.command import in_flags
from contrastive.finetune.flags import choices
from contrastive.finetune.trainer_flags import TrainerArguments
from contrastive.losses import Loss
from contrastive.temperature import Policy
from contrastive.training.optimizer import make_schedule
from contrastive.writers import Writer


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """40 rows."""
    return write_rows(tmp_path_factory.mktemp("data") / "rows.jsonl", rows(40, 2))


SAME = ["--same_dataset_within_batch", "True"]
ALWAYS = ["--dataset_rules", "always"]


def experiment(data, *flags, devices=1, **required):
    return translated(*flags, data=data, devices=devices, **required).experiment


def notices(data, *flags, **required):
    return "\n".join(translated(*flags, data=data, **required).notices)


def test_without_a_flag_everything_is_as_flagembeddings_defaults(data, tmp_path):
    given = experiment(data, model="bge", output=tmp_path / "tuned")
    assert given == config.Experiment(
        name="bge",
        seed=42,
        steps=15,  # 3 epochs of 40 // 8
        batch_size=8,
        data=config.Data(
            train=config.Mixture(
                parts=(config.MixturePart(source=config.Jsonl(path=str(data), limit=100_000_000)),),
                homogeneous_batches=False,
            ),
            group_size=8,
            few_negatives="repeat",
            row_types=False,  # they have an effect if batches are of one file
            row_prompt="",
            query_prompt="",  # FlagEmbedding knows no prompts of checkpoints
            document_prompt="",
            query_max_length=32,
            document_max_length=128,
        ),
        model=config.Checkpoint(name="bge"),
        normalize=True,
        loss=config.Objective(temperature=0.02, mask_false_negatives=False),
        optimizer=config.Optimizer(
            learning_rate=5e-5, schedule="linear", weight_decay=0.0, warmup_from_zero=True
        ),
        log_steps=500,
        save_steps=500,
        keep_checkpoints=None,
    )


def test_every_other_flag_has_its_place(data):
    given = experiment(
        data,
        *("--seed", 7, "--temperature", 0.05, "--mask_false_negatives", "True"),
        *("--sentence_pooling_method", "mean", "--normalize_embeddings", "False"),
        *("--query_max_len", 48, "--passage_max_len", 96, "--train_group_size", 3),
        *("--shuffle_ratio", 0.5, "--few_negatives", "fewer", "--dataloader_num_workers", 6),
        *("--dropout", 0.2, "--gradient_checkpointing", "--cache_dir", "hub"),
        *("--weight_decay", 0.1, "--adam_beta1", 0.8, "--adam_beta2", 0.98),
        *("--adam_epsilon", 1e-6, "--max_grad_norm", 0.5, "--learning_rate", 1e-5),
        *("--fix_position_embedding", "--sub_batch_size", 4, "--save_total_limit", 3),
        *("--use_mrl", "--mrl_dims", 64, 32, "--fsdp_devices", 2, "--report_to", "all"),
    )
    assert given.seed == 7
    assert given.loss == config.Objective(
        temperature=0.05, mask_false_negatives=True, matryoshka_dims=(64, 32)
    )
    assert (given.pooling, given.normalize) == ("mean", False)
    assert (given.data.query_max_length, given.data.document_max_length) == (48, 96)
    assert (given.data.group_size, given.data.few_negatives) == (3, "fewer")
    assert (given.data.shuffle_ratio, given.data.workers) == (0.5, 6)
    assert given.model.model_dump(exclude={"name", "revision", "dtype"}) == {
        "kind": "checkpoint",
        "cache_dir": "hub",
        "dropout": 0.2,
        "remat": True,
    }
    assert given.optimizer == config.Optimizer(
        learning_rate=1e-5,
        schedule="linear",
        warmup_from_zero=True,
        weight_decay=0.1,
        b1=0.8,
        b2=0.98,
        eps=1e-6,
        max_grad_norm=0.5,
        frozen=("position_embedding",),
    )
    assert given.chunk_tokens == 4 * 96
    assert given.keep_checkpoints == 3
    assert given.fsdp == 2
    assert given.writers == (config.TensorBoard(), config.WandB())
    assert experiment(data, "--max_grad_norm", 0).optimizer.max_grad_norm is None
    assert experiment(data, "--sub_batch_size", -1).chunk_tokens is None


@pytest.mark.parametrize(
    ("devices", "flags", "batch_size", "shards"),
    [
        (1, [], 4, 1),
        (8, [], 32, 8),
        (8, ["--negatives_cross_device"], 32, 1),
        (1, ["--gradient_accumulation_steps", 3], 12, 3),
        (2, ["--gradient_accumulation_steps", 3], 24, 6),
        (2, ["--gradient_accumulation_steps", 3, "--negatives_cross_device"], 24, 3),
    ],
)
def test_batches_are_counted_over_devices_and_see_what_they_saw(
    data, devices, flags, batch_size, shards
):
    flags = ["--per_device_train_batch_size", 4, *flags]
    given = experiment(data, *flags, devices=devices)
    assert (given.batch_size, given.loss.negative_groups) == (batch_size, shards)
    # Queries of one shard: those of a device's batch, or of all devices'.
    together = 4 * (devices if "--negatives_cross_device" in flags else 1)
    assert batch_size // shards == together


@pytest.mark.parametrize(
    ("flags", "chunk"),
    [
        (["--gradient_accumulation_steps", 1], None),
        (["--gradient_accumulation_steps", 2], 4 * 3 * 64),  # the passages of one of the batches
        (["--gradient_accumulation_steps", 8], 4 * 3 * 64),
        (["--gradient_accumulation_steps", 8, "--sub_batch_size", -1], 4 * 3 * 64),
        (["--gradient_accumulation_steps", 8, "--sub_batch_size", 5], 5 * 64),
        (["--sub_batch_size", 5], 5 * 64),
    ],
)
@pytest.mark.parametrize("devices", [1, 4])  # a chunk is a device's
def test_accumulated_batches_are_encoded_one_at_a_time(data, devices, flags, chunk):
    shape = ["--per_device_train_batch_size", 4, "--train_group_size", 3, "--passage_max_len", 64]
    assert experiment(data, *shape, *flags, devices=devices).chunk_tokens == chunk


@pytest.mark.parametrize(
    ("flags", "steps"),
    [
        ([], 15),
        (["--num_train_epochs", 2], 10),
        (["--num_train_epochs", 0.5], 3),  # of 2.5
        (["--max_steps", 4], 4),
        (["--max_steps", 0], 15),
        (["--per_device_train_batch_size", 7, "--num_train_epochs", 1], 5),
        (["--gradient_accumulation_steps", 5], 3),
        (["--per_device_train_batch_size", 64], 1),  # refused by name when it is trained
        (["--max_example_num_per_dataset", 16], 6),
    ],
)
def test_epochs_are_steps(data, flags, steps):
    assert experiment(data, *flags).steps == steps


def test_steps_of_several_files(tmp_path):
    for name, count in (("a", 20), ("b", 13)):
        write_rows(tmp_path / f"{name}.jsonl", rows(count, 1))
    one = ["--num_train_epochs", 1]
    assert experiment(tmp_path, *one).steps == 33 // 8
    assert experiment(tmp_path, *one, "--same_dataset_within_batch").steps == 20 // 8 + 13 // 8


@pytest.mark.parametrize(
    ("flags", "schedule", "warmup"),
    [
        ([], "linear", 0),
        (["--warmup_ratio", 0.1], "linear", 3),  # of 2.5
        (["--warmup_steps", 5], "linear", 5),
        (["--warmup_steps", 5, "--warmup_ratio", 0.1], "linear", 5),
        (["--warmup_steps", 0.2], "linear", 5),
        (["--warmup_steps", 99], "linear", 25),
        (["--warmup_ratio", 0.1, "--lr_scheduler_type", "cosine"], "cosine", 3),
        (["--warmup_ratio", 0.1, "--lr_scheduler_type", "cosine_with_restarts"], "cosine", 3),
        (["--warmup_steps", 5, "--lr_scheduler_type", "polynomial"], "linear", 5),
        (["--warmup_ratio", 0.1, "--lr_scheduler_type", "constant"], "constant", 0),
        (["--warmup_ratio", 0.1, "--lr_scheduler_type", "constant_with_warmup"], "constant", 3),
    ],
)
def test_schedule_and_warm_up(data, flags, schedule, warmup):
    optimizer = experiment(data, "--max_steps", 25, *flags).optimizer
    assert (optimizer.schedule, optimizer.warmup_steps) == (schedule, warmup)


@pytest.mark.parametrize("kind", ["linear", "cosine", "constant"])
def test_the_learning_rate_takes_the_hugging_face_trainers_course(data, kind):
    flags = ["--max_steps", 20, "--learning_rate", 1e-3, "--lr_scheduler_type", kind]
    for warmup in (0, 4):
        optimizer = experiment(data, *flags, "--warmup_steps", warmup).optimizer
        schedule = make_schedule(optimizer, 20)
        warmup = 0 if kind == "constant" else warmup
        for step in range(warmup, 20):
            done = (step - warmup) / (20 - warmup)
            falls = {"linear": 1 - done, "cosine": (1 + math.cos(math.pi * done)) / 2}
            assert float(schedule(step)) == pytest.approx(1e-3 * falls.get(kind, 1.0), rel=1e-5)
        for step in range(warmup):
            assert float(schedule(step)) == pytest.approx(1e-3 * step / warmup)


def test_a_warm_up_longer_than_the_run_is_announced(data):
    flags = ["--max_steps", 25, "--warmup_steps"]
    assert "ends at 0.25 of --learning_rate" in notices(data, *flags, 100)
    assert "ends at" not in notices(data, *flags, 25)


def test_a_polynomial_schedule_must_fall(data):
    flags = ["--lr_scheduler_type", "polynomial", "--learning_rate"]
    with pytest.raises(ConfigError, match="--learning_rate is 1e-07, but --lr_scheduler_type poly"):
        experiment(data, *flags, 1e-7)
    assert experiment(data, *flags, 2e-7).optimizer.final_learning_rate == 1e-7


@pytest.mark.parametrize(
    ("flags", "log", "save", "keep"),
    [
        ([], 500, 500, None),
        (["--logging_steps", 1, "--save_steps", 7], 1, 7, None),
        (["--logging_steps", 0.1, "--save_steps", 0.25], 4, 8, None),  # of 3.2
        (["--save_strategy", "no"], 500, None, None),
        (["--save_strategy", "epoch", "--save_total_limit", 1], 500, 5, 1),
    ],
)
def test_how_often_it_logs_and_saves(data, flags, log, save, keep):
    given = experiment(data, "--max_steps", 32, *flags)
    assert (given.log_steps, given.save_steps, given.keep_checkpoints) == (log, save, keep)


def test_held_out_rows_are_evaluated_on(data):
    given = experiment(
        data,
        *("--eval_data", data, "--eval_steps", 0.2, "--patience", 2, "--max_steps", 20),
        *("--query_instruction_for_retrieval", "find: "),
    )
    assert given.evaluators == {"validation": config.Retrieval(config.Jsonl(path=str(data)))}
    assert given.final_evaluators == {}
    assert given.select_best is None  # nDCG@10, the main metric
    assert given.selection == ("validation", "nDCG@10")
    assert (given.eval_steps, given.patience) == (4, 2)
    assert experiment(data, "--eval_data", data, "--max_steps", 20).eval_steps == 20
    assert experiment(data, "--eval_steps", 5).eval_steps is None
    assert "--eval_steps has no effect" in notices(data, "--eval_steps", 5)
    assert "--eval_steps" not in notices(data, "--eval_steps", 5, "--eval_data", data)


@pytest.mark.parametrize(
    ("flag", "loss"),
    [
        (
            "kl_div",
            config.InfoNCE() + 0.5 * config.DistillKL(teacher_temperature=3.0, skip_unscored=True),
        ),
        ("m3_kd_loss", 0.5 * config.DistillM3(teacher_temperature=3.0, skip_unscored=True)),
    ],
)
def test_distillation(data, flag, loss):
    flags = ["--kd_loss_type", flag, "--teacher_temperature", 3, "--kd_weight", 0.5]
    assert experiment(data, *flags[:2]).loss.function == config.InfoNCE()
    given = experiment(data, *flags, "--knowledge_distillation", "True")
    assert given.loss.function == loss


@pytest.mark.parametrize("place", [".", "model"])
def test_widths_above_the_models_are_replaced_by_it(data, tmp_path, place):
    (tmp_path / place).mkdir(exist_ok=True)
    (tmp_path / place / "config.json").write_text('{"hidden_size": 48}')
    flags = ["--use_mrl", "--mrl_dims", 64, 48, 16]
    found, said = translated(*flags, data=data, model=tmp_path)
    assert found.loss.matryoshka_dims == (48, 48, 16)
    assert any("--mrl_dims is 64 48 16, but embeddings have width 48" in line for line in said)
    found, said = translated(*flags[:1], "--mrl_dims", 48, 16, data=data, model=tmp_path)
    assert found.loss.matryoshka_dims == (48, 16)
    assert not any("--mrl_dims" in line for line in said)


def test_distillation_beside_a_loss_with_settings(data):
    flags = ["--knowledge_distillation", "True", "--loss_options", "margin=0.1"]
    given = experiment(data, *flags).loss.function
    assert given == config.InfoNCE(margin=0.1) + 1.0 * config.DistillKL(skip_unscored=True)
    with pytest.raises(ConfigError, match="m3_kd_loss replaces info_nce and has none"):
        experiment(data, *flags, "--kd_loss_type", "m3_kd_loss")


@pytest.mark.parametrize(
    ("flags", "dtype"), [([], "float32"), (["--bf16"], "bfloat16"), (["--fp16"], "bfloat16")]
)
def test_half_precision(data, flags, dtype):
    assert experiment(data, *flags).model.dtype == dtype
    assert ("no loss scaling" in notices(data, *flags)) == ("--fp16" in flags)


# Instructions and formats.


@pytest.mark.parametrize(
    ("flags", "query", "passage", "row"),
    [
        ([], "", "", ""),  # without an instruction, prompts of rows have no effect
        (["--same_dataset_within_batch"], "", "", "{}"),
        (["--dataset_rules", "always"], "", "", "{}"),
        (["--query_instruction_for_retrieval", "find: "], "find: ", "", "{}"),
        (["--passage_instruction_for_retrieval", "text: "], "", "text: ", ""),
        (
            [
                *("--query_instruction_for_retrieval", "Find {it}"),
                *("--query_instruction_format", r"Instruct: {}\nQuery: {}"),
                *("--passage_instruction_for_retrieval", "P"),
                *("--passage_instruction_format", r"<{}>\n{}"),
            ],
            "Instruct: Find {it}\nQuery: ",
            "<P>\n",
            "Instruct: {}\nQuery: ",
        ),
        (["--query_instruction_format", "{}: {}"], "", "", ""),
        ([*SAME, "--query_instruction_format", "{}: {}"], "", "", "{}: "),
    ],
)
def test_instructions_are_put_into_their_formats(data, flags, query, passage, row):
    given = experiment(data, *flags).data
    assert (given.query_prompt, given.document_prompt) == (query, passage)
    assert given.row_prompt == row


@pytest.mark.parametrize("side", ["query", "passage"])
@pytest.mark.parametrize(("form", "after"), [("{}{}</s>", "'</s>'"), ("{} says {}.", r"'\.'")])
def test_text_after_a_text_is_refused_by_name(data, side, form, after):
    with pytest.raises(
        ConfigError, match=f"--{side}_.*, with {after} after the {side}, which Flag"
    ):
        experiment(data, f"--{side}_instruction_format", form)


@pytest.mark.parametrize("side", ["query", "passage"])
@pytest.mark.parametrize("form", ["{}", "{}{}{}", "no braces"])
def test_formats_without_two_places_are_refused(data, side, form):
    with pytest.raises(
        ConfigError, match=f"--{side}_instruction_format is .* for the instruction and, at"
    ):
        experiment(data, f"--{side}_instruction_format", form)


# Files, folders and their names.


def sizes(given):
    """Files and rows of each part."""
    found = []
    for part in given.data.train.parts:
        paths = (part.source.path,) if isinstance(part.source.path, str) else part.source.path
        lines = sum(len(Path(path).read_text().splitlines()) for path in paths)
        found.append(([Path(path).name for path in paths], lines))
    return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    for name, count in (("large", 20), ("small", 5), ("tiny", 3)):
        write_rows(folder / f"{name}.jsonl", rows(count, 1))
    return folder


APART = [(["large.jsonl"], 20), (["small.jsonl"], 5), (["tiny.jsonl"], 3)]
MERGED = [(["large.jsonl"], 20), (["small.jsonl", "tiny.jsonl"], 8)]


@pytest.mark.parametrize(
    ("flags", "parts", "notice"),
    [
        ([], APART, None),
        (["--small_threshold", 6], APART, None),  # only where batches are of one file
        (SAME, APART, None),
        ([*SAME, "--small_threshold", 3], APART, None),
        (
            [*SAME, "--small_threshold", 6],
            MERGED,
            "merged small.jsonl, tiny.jsonl into one dataset of 8 rows",
        ),
        ([*SAME, "--small_threshold", 6, "--drop_threshold", 8], MERGED, "into one dataset"),
        (
            [*SAME, "--small_threshold", 6, "--drop_threshold", 9],
            MERGED[:1],
            "dropped small.jsonl, tiny.jsonl (8 rows together, --drop_threshold is 9)",
        ),
    ],
)
def test_small_files_of_a_folder_are_merged_or_left_out_and_it_is_said(
    folder, flags, parts, notice
):
    given, said = translated(*flags, data=folder)
    assert sizes(given) == parts
    assert given.data.train.homogeneous_batches == ("--same_dataset_within_batch" in flags)
    about = [line for line in said if str(folder) in line]
    assert len(about) == (notice is not None)
    assert notice is None or notice in about[0]


def test_nothing_left_to_train_on_is_refused(folder):
    with pytest.raises(DataError, match="was dropped; lower --small_threshold or"):
        experiment(folder, *SAME, "--small_threshold", 50, "--drop_threshold", 50)


@pytest.mark.parametrize(
    ("file", "given", "in_batch"),
    [
        ("rows/a.jsonl", "rows/a.jsonl", True),
        ("rows/a.jsonl", "rows", True),
        ("rows-no_in_batch_neg/a.jsonl", "rows-no_in_batch_neg", False),
        ("rows-no_in_batch_neg/a.jsonl", "rows-no_in_batch_neg/", False),
        ("rows-no_in_batch_neg/a.jsonl", "rows-no_in_batch_neg/a.jsonl", True),
        ("rows/a_no_in_batch_neg.jsonl", "rows/a_no_in_batch_neg.jsonl", False),
        ("rows/a_no_in_batch_neg.jsonl.gz", "rows/a_no_in_batch_neg.jsonl.gz", False),
        ("rows/a_no_in_batch_neg.jsonl", "rows", True),
        ("rows/a.no_in_batch_neg.json", "rows/a.no_in_batch_neg.json", False),
        ("no_in_batch_neg-rows/no_in_batch_neg-a.jsonl", "no_in_batch_neg-rows", True),
    ],
)
@pytest.mark.parametrize("flags", [[], SAME, ALWAYS])
def test_a_name_that_ends_in_no_in_batch_neg_counts_and_is_said(
    tmp_path, monkeypatch, file, given, in_batch, flags
):
    write_rows(tmp_path / file, rows(8, 1))
    if file.endswith(".gz"):
        (tmp_path / file).write_bytes(gzip.compress((tmp_path / file).read_bytes()))
    monkeypatch.chdir(tmp_path)
    found, said = translated(*flags, data=given)
    assert [part.in_batch for part in found.data.train.parts] == [in_batch or not flags]
    (source,) = (part.source.path for part in found.data.train.parts)
    told = [line for line in said if "the name ends in no_in_batch_neg" in line]
    about_slash = [line for line in told if "because of the slash" in line]
    assert len(about_slash) == (given.endswith("/") and bool(flags))
    assert len(told) - len(about_slash) == (not in_batch)
    if not in_batch:
        assert source in told[-1]
        assert ("has no effect without --same_dataset_within_batch" in told[-1]) == (not flags)
        assert ("FlagEmbedding does so only with" in told[-1]) == (flags == ALWAYS)


def test_parts_of_a_run_are_alone_or_not_each_for_itself(tmp_path):
    write_rows(tmp_path / "x-no_in_batch_neg" / "a.jsonl", rows(8, 1))
    write_rows(tmp_path / "b.jsonl", rows(8, 1))
    files = [tmp_path / "b.jsonl", tmp_path / "x-no_in_batch_neg"]
    given, said = translated("--train_data", *files, *SAME)
    assert [part.in_batch for part in given.data.train.parts] == [True, False]
    assert "b.jsonl" not in "\n".join(said)


def test_a_small_file_by_itself_is_dropped_and_it_is_said(folder):
    files = ["--train_data", folder / "large.jsonl", folder / "tiny.jsonl"]
    given, said = translated(*files, *SAME, "--small_threshold", 4)
    assert sizes(given) == APART[:1]
    assert any("tiny.jsonl: dropped, as in FlagEmbedding (3 rows, --small" in line for line in said)
    given, said = translated(*files, "--small_threshold", 4)
    assert sizes(given) == [APART[0], APART[2]]


def typed(path, kind, count=12, **fields):
    """A file of rows of one type, with further fields."""
    extra = {**({} if kind is None else {"type": kind}), **fields}
    return write_rows(path, [{**row, **extra} for row in rows(count, 2)])


@pytest.mark.parametrize(
    ("kind", "fields", "size"),
    [
        (None, {}, None),
        ("normal", {}, None),
        ("only_1neg", {}, None),
        ("symmetric_sts", {}, 2),
        ("symmetric_class", {}, 2),
        ("symmetric_clustering", {}, 2),
        ("asymmetric", {}, 2),  # FlagEmbedding looks for the letters
        (None, {"batch_size": 3}, 3),
        ("symmetric_sts", {"batch_size": 3}, 3),
        ("symmetric_sts", {"batch_size": 4}, None),
        ("symmetric_sts", {"batch_size": None}, 2),
    ],
)
def test_batches_of_a_file_are_of_its_own_size(tmp_path, kind, fields, size):
    typed(tmp_path / "rows" / "a.jsonl", kind, **fields)
    typed(tmp_path / "rows" / "b.jsonl", "normal")
    flags = ["--per_device_train_batch_size", 4, "--num_train_epochs", 1]
    shared = {"data": tmp_path / "rows", "devices": 2}
    given = translated(*flags, *SAME, "--gradient_accumulation_steps", 3, **shared).experiment
    of_files = [part.batch_size for part in given.data.train.parts]
    assert of_files == [size and size * 2 * 3, None]
    assert given.batch_size == 4 * 2 * 3
    given = translated(*flags, *SAME, data=tmp_path / "rows").experiment
    assert given.steps == 12 // (size or 4) + 12 // 4
    given = translated(*flags, **shared).experiment  # mixed batches are all of one size
    assert [part.batch_size for part in given.data.train.parts] == [None, None]


def test_merged_files_have_the_smallest_batch_of_them(tmp_path):
    typed(tmp_path / "rows" / "a.jsonl", "symmetric_sts")
    typed(tmp_path / "rows" / "b.jsonl", "normal")
    flags = ["--per_device_train_batch_size", 8, *SAME, "--small_threshold", 20]
    assert [p.batch_size for p in experiment(tmp_path / "rows", *flags).data.train.parts] == [4]


def test_a_batch_of_one_query_is_not_halved(tmp_path):
    data = typed(tmp_path / "a.jsonl", "symmetric_sts")
    (part,) = experiment(data, *SAME, "--per_device_train_batch_size", 1).data.train.parts
    assert part.batch_size is None


def test_rows_may_set_the_group_size_of_their_file_if_no_row_has_a_type(tmp_path):
    typed(tmp_path / "rows" / "a.jsonl", None, train_group_size=2)
    typed(tmp_path / "rows" / "b.jsonl", None)

    def group_sizes(*flags):
        return [part.group_size for part in experiment(tmp_path / "rows", *flags).data.train.parts]

    assert group_sizes(*SAME) == [2, None]
    assert group_sizes() == [None, None]
    typed(tmp_path / "rows" / "b.jsonl", "normal")
    assert group_sizes(*SAME) == [None, None]


@pytest.mark.parametrize("value", [0, -1, 2.5, "4", True])
@pytest.mark.parametrize("field", ["batch_size", "train_group_size"])
def test_sizes_in_rows_must_be_positive_integers(tmp_path, field, value):
    data = typed(tmp_path / "a.jsonl", None, **{field: value})
    with pytest.raises(DataError, match=f'a.jsonl: the "{field}" of the first row is {value!r}, b'):
        experiment(data, *SAME)


def test_rows_without_scores_are_counted(tmp_path):
    some = rows(12, 2)
    for row in some[:5]:
        row["pos_scores"] = row["neg_scores"] = None
    data = write_rows(tmp_path / "rows.jsonl", some)
    distilled = ["--knowledge_distillation", "True"]
    said = notices(data, *distilled)
    assert '5 rows without "pos_scores" and "neg_scores" are trained on without the teacher' in said
    assert "FlagEmbedding stops there" in said
    assert "as in FlagEmbedding if no row of the batch has scores" in notices(
        data, *distilled, *SAME
    )
    assert "without the teacher" not in notices(data)


# Refusals.


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--tokenizer_name", "other"], "--tokenizer_name is 'other', but the tokenizer of"),
        (["--config_name", "other"], "--config_name is 'other', but the config.json of"),
        (["--trust_remote_code", "True"], "code from checkpoints is never run"),
        (["--use_fast_tokenizer", "False"], "only fast tokenizers are supported"),
        (["--use_mrl", "True"], "--use_mrl needs widths; add them"),
        (["--report_to", "mlflow"], "--report_to mlflow is not supported"),
        (
            ["--mrl_dims", 64, 32],
            "--mrl_dims is 64 32, but has no effect without --use_mrl; add --use_mrl True, or",
        ),
        (["--use_mrl", "False", "--mrl_dims", 64], "--mrl_dims is 64, but has no effect without"),
        (
            ["--kd_weight", 0.5],
            "--kd_weight is 0.5, but has no effect without a teacher; add --knowledge_distillation",
        ),
        (
            ["--teacher_temperature", 3, "--loss", "distill_kl"],
            "--teacher_temperature is 3, but has no effect without a teacher; add --knowledge_",
        ),
        (["--warmup_steps", -5], "--warmup_steps is -5, but must not be negative"),
        (["--warmup_ratio", -0.1], "--warmup_ratio is -0.1, but must not be negative"),
        (["--logging_steps", -1], "--logging_steps is -1, but must not be negative"),
        (["--save_steps", -1], "--save_steps is -1, but must not be negative"),
        (["--eval_steps", -0.5], "--eval_steps is -0.5, but must not be negative"),
    ],
)
def test_settings_without_a_meaning_here_are_refused(data, flags, words):
    with pytest.raises(ConfigError) as error:
        experiment(data, *flags)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--temperature", 0], "greater than 0"),
        (["--temperature", -0.02], "greater than 0"),
        (["--train_group_size", 0], "greater than 0"),
        (["--per_device_train_batch_size", 1, "--train_group_size", 1], "no negatives are left"),
        (["--patience", 2], "set eval_steps and evaluators"),
        (["--save_total_limit", 0], "keep_checkpoints"),
        (["--learning_rate", 0], "learning_rate"),
        (["--dropout", 1], "less than 1"),
    ],
)
def test_impossible_values_are_refused(data, flags, words):
    with pytest.raises(ValueError, match=words):
        experiment(data, *flags)


def test_the_names_of_the_checkpoint_itself_pass(data):
    named = experiment(data, "--tokenizer_name", "bge", "--config_name", "bge", model="bge")
    assert named == experiment(data, model="bge")


def test_missing_data_is_refused_by_name(tmp_path):
    with pytest.raises(DataError, match=r"--train_data: .*nowhere\.jsonl: no such file or folder"):
        experiment(tmp_path / "nowhere.jsonl")
    with pytest.raises(DataError, match="contains no file that ends in"):
        experiment(tmp_path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ([], "similarities are float32"),
        (["--mask_false_negatives", "True"], "known false negatives are masked"),
        (["--negatives_cross_device"], "that of the whole batch, not 1/W of it"),
        (["--sub_batch_size", 4], "--sub_batch_size limits the memory"),
        (["--gradient_accumulation_steps", 2], "8,192 tokens per device at a time"),
        (
            ["--knowledge_distillation", "True", "--teacher_temperature", 3],
            "--teacher_temperature",
        ),
        ([*SAME, "--gradient_accumulation_steps", 2], "that a step accumulates come from one file"),
        (["--weight_decay", 0.01], "--weight_decay does not apply to embedding tables"),
    ],
)
def test_what_a_run_does_otherwise_is_said_and_nothing_else(data, flags, words):
    assert words in notices(data, *flags)
    if flags:
        assert words not in notices(data)
    count = "count as negatives if they belong to another query of the batch, as in FlagEmbedding"
    assert count in notices(data)
    assert count not in notices(data, "--mask_false_negatives", "True")
    assert count not in notices(data, "--loss", "margin_mse")


WITHOUT = "without --same_dataset_within_batch"
PROMPT = f'the "prompt" of 3 rows has no effect {WITHOUT} or --query_instruction_for_retrieval, as'
TYPE = f'the "type" of 2 rows has no effect {WITHOUT}, as in FlagEmbedding; --dataset_rules always'
UNUSED = [
    f'the "batch_size" of 1 rows has no effect {WITHOUT}, as in FlagEmbedding',
    f'the "train_group_size" of 4 rows has no effect {WITHOUT}, as in FlagEmbedding',
]
USED = [
    'the "prompt" of 3 rows is used; FlagEmbedding ignores it without --same_dataset_within_batch ',
    'the "type" of 2 rows is used; FlagEmbedding ignores it without --same_dataset_within_batch',
]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ([], [PROMPT, TYPE, *UNUSED]),
        (["--query_instruction_for_retrieval", "find: "], [TYPE, *UNUSED]),
        (ALWAYS, [*USED, *UNUSED]),
        (SAME, []),
    ],
)
@pytest.mark.parametrize("files", [1, 2])
def test_fields_of_rows_that_have_another_effect_are_counted(tmp_path, flags, said, files):
    some = rows(12, 2)
    for row, kind in zip(some, ("only_1neg", "symmetric_sts", "normal", None), strict=False):
        row["type"] = kind
    for row in some[:3]:
        row["prompt"] = "find: "
    some[3]["prompt"] = None
    some[5]["batch_size"] = 4
    some[5].pop("type", None)
    for row in some[8:]:
        row["train_group_size"] = 2
    for number in range(files):
        write_rows(tmp_path / "rows" / f"{number}.jsonl", some[number::files])
    found = translated(*flags, data=tmp_path / "rows").notices
    told = [line for line in found if line.startswith('the "')]
    assert len(told) == len(said)
    assert all(line.startswith(start) for line, start in zip(told, said, strict=True))


def test_nothing_is_said_of_fields_that_no_row_has(data):
    assert 'the "' not in notices(data)


def test_any_loss_by_name_and_its_options(data):
    def loss(*flags):
        return experiment(data, *flags).loss

    hard = loss("--loss", "hard_negative", "--loss_options", "beta=2", "tau_plus=0.05")
    assert hard.function == config.HardNegative(beta=2.0, tau_plus=0.05)
    both = loss("--loss_options", "directions=symmetric", "margin=0.1")
    assert both.function == config.InfoNCE(directions="symmetric", margin=0.1)
    assert loss("--loss", "cosent", "--loss_options", "angle=true").function.angle
    learned = loss("--loss", "siglip", "--temperature_policy", "learned", "--temperature", "0.1")
    plain = {"mask_false_negatives": False}
    assert learned == config.Objective(
        function=config.SigLIP(), policy=config.Learned(), temperature=0.1, **plain
    )
    own = loss(
        *("--loss", "sogclr", "--loss_options", "rho=2", "--temperature_policy", "individual")
    )
    assert own == config.Objective(
        function=config.SogCLR(rho=2.0), policy=config.Individual(), **plain
    )
    guided = loss("--guide_model", "gist", "--guide_margin", "0.1", "--bf16", "True")
    assert guided.guide == config.Guide(name="gist", margin=0.1, dtype="bfloat16")
    rules = loss("--above_positive", "0.1", "--relative_to_positive", "0.95")
    assert (rules.above_positive, rules.relative_to_positive) == (0.1, 0.95)


def test_policies_by_name_and_their_options(data):
    def loss(*flags):
        return experiment(data, *flags).loss

    assert loss().policy == config.Fixed()
    down = loss("--temperature_policy", "warm_down", "--temperature_options", "start=1", "steps=9")
    assert down.policy == config.WarmDown(start=1.0, steps=9)
    learned = loss("--temperature_policy", "learned", "--temperature_options", "maximum=0.5")
    assert learned.policy == config.Learned(maximum=0.5)
    linear = loss("--temperature_policy", "linear", "--temperature_options", "last=0.1")
    assert (linear.policy, linear.temperature) == (config.Linear(last=0.1), 0.02)


LOSSES = {
    *("align_uniform", "artanh", "cosent", "decoupled", "distill_kl", "distill_m3"),
    *("dual_temperature", "hard_negative", "hardest", "info_nce", "listwise", "margin_mse"),
    *("model_aware", "siglip", "sogclr", "spread_out", "sup_con", "triplet"),
}
POLICIES = {"fixed", "individual", "learned", "linear", "oscillating", "warm_down"}


def offered(group, flag):
    """Values that a flag takes."""
    return set(typing.get_args(typing.get_type_hints(group)[flag]))


def test_every_loss_policy_and_writer_of_the_package_is_a_choice():
    assert offered(LossArguments, "loss") == set(choices(Loss)) >= LOSSES
    assert offered(LossArguments, "temperature_policy") == set(choices(Policy)) >= POLICIES
    assert set(choices(Writer)) == {"tensorboard", "wandb"}
    assert set(choices(Loss)) == set(built_in(Loss)) - {"sum", "function"}  # only in files
    assert choices(Policy) == built_in(Policy)
    assert choices(Writer) == built_in(Writer)


def built_in(base):
    return {kind: part for kind, part in base.known().items() if part.is_built_in()}


@pytest.mark.parametrize(
    ("base", "group", "flag", "options"),
    [
        (Loss, LossArguments, "loss", "loss_options"),
        (Policy, LossArguments, "temperature_policy", "temperature_options"),
        (Writer, TrainerArguments, "report_to", None),
    ],
)
def test_help_has_every_choice_with_its_settings(base, group, flag, options):
    helps = {field.name: field.metadata["help"] for field in dataclasses.fields(group)}
    for kind, part in choices(base).items():
        assert kind in helps[flag]
        if options is not None:
            assert f"{kind}: {part.summary()}" in helps[flag]
            settings = f"{kind}: {', '.join(part.model_fields)}"
            assert not part.model_fields or settings in helps[options]


def test_parts_that_only_files_can_choose_are_no_choice(monkeypatch):
    monkeypatch.setattr(config.Learned, "only_in_files", True)
    assert set(choices(Policy)) == set(built_in(Policy)) - {"learned"}


def test_parts_from_elsewhere_are_no_choice(data):
    class Own(Loss):
        """A loss of a test."""

    class Halving(Policy):
        """A policy of a test."""

    class Print(Writer):
        """A writer of a test."""

    for base, part in ((Loss, Own), (Policy, Halving), (Writer, Print)):
        assert part.kind in base.known()
        assert part not in choices(base).values()
    assert experiment(data, "--report_to", "all").writers == (config.TensorBoard(), config.WandB())
    with pytest.raises(
        ConfigError, match=r"is not supported; choose from none, all, tensorboard, wandb$"
    ):
        experiment(data, "--report_to", Print.kind)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--loss", "triplet", "--loss_options", "beta=2"],
            "--loss_options beta is not a field; triplet has margin",
        ),
        (["--loss_options", "margin"], "--loss_options margin: write each option as NAME=VALUE"),
        (["--loss", "triplet", "--loss_options", "margin=-1"], "greater than 0"),
        (["--loss", "sup_con", "--guide_model", "gist"], "--guide_model leaves out negatives"),
        (
            ["--temperature_policy", "individual"],
            "--temperature_policy is individual, which needs sogclr, not info_nce",
        ),
        (["--loss_options", "kind=siglip"], "--loss_options kind=siglip: use --loss instead"),
        (
            ["--temperature_options", "kind=linear"],
            "--temperature_options kind=linear: use --temperature_policy instead",
        ),
        (
            ["--temperature_options", "last"],
            "--temperature_options last: write each option as NAME=VALUE",
        ),
        (
            ["--temperature_policy", "linear", "--temperature_options", "last=1", "start=1"],
            "--temperature_options start is not a field; linear has last, steps",
        ),
        (
            ["--temperature_policy", "learned", "--temperature_options", "minimum=0.5"],
            r"--temperature is 0.02, outside the policy's \[0.5, 1.0\]",
        ),
        (["--guide_margin", "0.1"], "no effect without a guide; add --guide_model"),
        (
            ["--loss", "sogclr", "--temperature_policy", "learned"],
            "--loss_options rho is 0; rho must be positive when the temperature is learned",
        ),
    ],
)
def test_options_that_a_loss_does_not_have_are_refused(data, flags, said):
    with pytest.raises(ConfigError, match=said), in_flags():
        experiment(data, *flags)
