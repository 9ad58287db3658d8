"""FlagEmbedding's flags: their names, defaults and ways of writing."""

import dataclasses
import enum

import pytest
from transformers.training_args import TrainingArguments

from contrastive.errors import ConfigError
from contrastive.finetune import other_flags
from contrastive.finetune.arguments import GROUPS
from contrastive.finetune.other_flags import FLAGEMBEDDING as OTHERS_OF_FLAGEMBEDDING
from contrastive.finetune.other_flags import HINTS, IGNORED, TRANSFORMERS
from contrastive.finetune.parsing import parse

REQUIRED = ["--model_name_or_path", "m", "--train_data", "d.jsonl", "--output_dir", "o"]
MUST = object()

# Of FlagEmbedding 1.4, and of the Hugging Face trainer's what its users give.
FLAGEMBEDDING = {
    "model": {
        "model_name_or_path": MUST,
        "config_name": None,
        "tokenizer_name": None,
        "cache_dir": None,
        "trust_remote_code": False,
        "use_fast_tokenizer": True,
        "token": None,
    },
    "data": {
        "train_data": MUST,
        "cache_path": None,
        "train_group_size": 8,
        "query_max_len": 32,
        "passage_max_len": 128,
        "pad_to_multiple_of": None,
        "max_example_num_per_dataset": 100000000,
        "query_instruction_for_retrieval": None,
        "query_instruction_format": "{}{}",
        "passage_instruction_for_retrieval": None,
        "passage_instruction_format": "{}{}",
        "knowledge_distillation": False,
        "shuffle_ratio": 0.0,
        "same_dataset_within_batch": False,
        "small_threshold": 0,
        "drop_threshold": 0,
    },
    "loss": {
        "temperature": 0.02,
        "negatives_cross_device": False,
        "kd_loss_type": "kl_div",
        "use_mrl": False,
        "mrl_dims": [],
    },
    "encoder": {
        "sentence_pooling_method": None,  # cls there; here the checkpoint's own, or cls
        "normalize_embeddings": True,
        "fix_position_embedding": False,
        "sub_batch_size": None,
        "bf16": False,
        "fp16": False,
        "gradient_checkpointing": False,
    },
    "trainer": {
        "output_dir": MUST,
        "overwrite_output_dir": False,
        "per_device_train_batch_size": 8,
        "gradient_accumulation_steps": 1,
        "num_train_epochs": 3.0,
        "max_steps": -1,
        "learning_rate": 5e-5,
        "lr_scheduler_type": "linear",
        "warmup_ratio": 0.0,
        "warmup_steps": 0,
        "weight_decay": 0.0,
        "adam_beta1": 0.9,
        "adam_beta2": 0.999,
        "adam_epsilon": 1e-8,
        "max_grad_norm": 1.0,
        "seed": 42,
        "dataloader_num_workers": 0,
        "dataloader_drop_last": False,
        "logging_steps": 500,
        "save_strategy": "steps",
        "save_steps": 500,
        "save_total_limit": None,
        "eval_steps": None,
        "resume_from_checkpoint": None,
        "report_to": ["none"],
    },
}
# Ours leave a run as FlagEmbedding's unless given; but for what README says we do otherwise.
OURS = {
    "loss": "info_nce",
    "loss_options": [],
    "temperature_policy": "fixed",
    "temperature_options": [],
    "guide_model": None,
    "guide_margin": 0.0,
    "above_positive": None,
    "relative_to_positive": None,
    "few_negatives": "repeat",
    "eval_data": None,
    "teacher_temperature": 1.0,
    "kd_weight": 1.0,
    "mask_false_negatives": False,
    "dataset_rules": "flagembedding",
    "dropout": None,
    "patience": None,
    "fsdp_devices": 1,
}


def given(*words):
    return parse([*REQUIRED, *words])[0]


def test_every_flag_has_flagembeddings_name_and_default():
    arguments = given()
    found = {
        name: {field.name: getattr(group, field.name) for field in dataclasses.fields(group)}
        for name, group in arguments._asdict().items()
    }
    ours = {
        name: group.pop(name) for group in found.values() for name in list(group) if name in OURS
    }
    assert ours == OURS
    for name, group in FLAGEMBEDDING.items():
        must = {flag for flag, default in group.items() if default is MUST}
        assert set(found[name]) == set(group)
        assert {flag: found[name][flag] for flag in set(group) - must} == {
            flag: default for flag, default in group.items() if flag not in must
        }


@pytest.mark.parametrize("missing", ["--model_name_or_path", "--train_data", "--output_dir"])
def test_what_must_be_given_is_named(capsys, missing):
    place = REQUIRED.index(missing)
    with pytest.raises(SystemExit) as stopped:
        parse(REQUIRED[:place] + REQUIRED[place + 2 :])
    assert stopped.value.code == 2
    assert missing in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--negatives_cross_device"], True),
        (["--negatives_cross_device", "True"], True),
        (["--negatives_cross_device", "true"], True),
        (["--negatives_cross_device", "1"], True),
        (["--negatives_cross_device=True"], True),
        (["--negatives-cross-device", "yes"], True),
        (["--negatives_cross_device", "False"], False),
        (["--negatives_cross_device", "no"], False),
        (["--negatives_cross_device", "--bf16"], True),
        ([], False),
    ],
)
def test_booleans_are_bare_or_have_a_value(words, value):
    assert given(*words).loss.negatives_cross_device is value


@pytest.mark.parametrize(
    ("words", "value"),
    [
        (["--normalize_embeddings", "False"], False),
        (["--normalize_embeddings"], True),
        (["--no_normalize_embeddings"], False),
        (["--no-normalize-embeddings"], False),
    ],
)
def test_booleans_that_are_true_are_switched_off(words, value):
    assert given(*words).encoder.normalize_embeddings is value


def test_a_boolean_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        given("--bf16", "perhaps")
    assert "perhaps" in capsys.readouterr().err


def test_dashes_equals_signs_and_lists():
    arguments = given(
        *("--train-group-size", "4", "--learning_rate=2e-5", "--query-max-len=64"),
        *("--mrl_dims", "64", "128", "256", "--report_to", "tensorboard", "wandb"),
        *("--train_data", "a.jsonl", "b", "c.json", "--max_steps", "-1"),
    )
    assert arguments.data.train_group_size == 4
    assert arguments.trainer.learning_rate == 2e-5
    assert arguments.data.query_max_len == 64
    assert arguments.loss.mrl_dims == [64, 128, 256]
    assert arguments.trainer.report_to == ["tensorboard", "wandb"]
    assert arguments.data.train_data == ["a.jsonl", "b", "c.json"]
    assert arguments.trainer.max_steps == -1


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--sentence_pooling_method", "max"], "last_token"),
        (["--kd_loss_type", "mse"], "m3_kd_loss"),
        (["--lr_scheduler_type", "inverse_sqrt"], "constant_with_warmup"),
        (["--few_negatives", "ignore"], "fewer"),
        (["--train_group_size", "many"], "many"),
    ],
)
def test_a_bad_value_is_answered_with_the_good_ones(capsys, words, shown):
    with pytest.raises(SystemExit) as stopped:
        given(*words)
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    assert words[0] in error
    assert shown in error


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--fsdp", "full_shard"],
            "transformers and not supported: --fsdp_devices N",
        ),
        (["--use_lora", "True"], "--use_lora is a flag of FlagEmbedding and not supported: all"),
        (
            ["--eval-strategy", "steps"],
            "transformers and not supported: --eval_data FILE",
        ),
        (["--load_best_model_at_end"], "best checkpoint is always exported"),
        (["--unified_finetuning", "True"], "only dense embeddings"),
        (["--auto_find_batch_size=True"], "--sub_batch_size limits the memory"),
        (["--optim", "adafactor"], "AdamW is the only optimizer"),
        (["--optim=sgd"], "AdamW is the only optimizer"),
        (["--label_smoothing_factor", "0.1"], "add --loss_options label_smoothing=X"),
        (["--load_best_model_at_end", "True"], "best checkpoint is always exported"),
        (["--do_eval", "--use_cpu", "False"], "--do_eval is a flag of transformers"),
        (["--lora_rank", "32"], "--lora_rank is a flag of FlagEmbedding"),
        (["--target_modules", "q_proj", "v_proj"], "and not supported: all parameters"),
        (["--colbert_dim", "128"], "not supported: only dense embeddings"),
        (
            ["--fix_encoder", "True"],
            "--fix_encoder is a flag of FlagEmbedding and not sup",
        ),
        (["--self_distill_start_step", "0"], "and not supported: only dense embeddings"),
        (["--use_flash_attn", "True"], "not supported: the implementation of attention"),
        (["--example_query_max_len", "65"], "not supported: in-context examples"),
        (["--train_sampling_strategies", "x"], "is not a flag of finetune"),
        (["--lr_scheduler_kwargs", '{"num_cycles": 2}'], "schedules have no settings"),
        (["--optim_target_modules", "all"], "AdamW is the only optimizer"),
        (["--learning_rat", "1"], "not a flag of finetune; did you mean --learning_rate?"),
        (["--train-groupsize", "4"], "did you mean --train_group_size?"),
        (["--frobnicate"], "--frobnicate is not a flag of finetune"),
        (["--disable_tqdm", "True", "--frobnicate", "1"], "--frobnicate is not"),
    ],
)
def test_flags_that_are_not_supported_name_what_to_give_instead(words, message):
    with pytest.raises(ConfigError) as error:
        given(*words)
    assert message in str(error.value)


PROMPT = "--query_instruction_for_retrieval"


@pytest.mark.parametrize(
    ("words", "stray", "way_out"),
    [
        (["--max_steps", "5", "6"], "6", "--max_steps '5 6'"),
        ([PROMPT, "Represent", "this", "text"], "this", f"{PROMPT} 'Represent this text'"),
        (["--run_name", "x", PROMPT, "find", "it"], "it", f"{PROMPT} 'find it'"),
        (["--deepspeed", PROMPT, "find", "it"], "it", f"{PROMPT} 'find it'"),
        (["--deepspeed", "a.json", PROMPT, "find", "it"], "it", f"{PROMPT} 'find it'"),
        ([PROMPT, "find", "it", "--run_name", "x"], "it", f"{PROMPT} 'find it'"),
        (["--run_name", "a", "--query_max_len", "32", "junk"], "junk", "remove 'junk'"),
        (["--run_name", "a", "b"], "b", "--run_name 'a b'"),
        (["--eval_strategy", "no", "b", "--bf16"], "b", "remove 'b'"),
        ([f"{PROMPT}=find", "it"], "it", f"{PROMPT} 'find it'"),
        (["--no_normalize_embeddings", "True"], "True", "has no value"),
        (["--bf16", "True", "True"], "True", "remove 'True'"),
    ],
)
@pytest.mark.parametrize("after", [[], ["--seed", "1"]])
def test_a_word_that_belongs_to_no_flag_is_an_error_whatever_precedes_it(
    words, stray, way_out, after
):
    with pytest.raises(ConfigError) as error:
        given(*words, *after)
    assert str(error.value).startswith(f"{stray!r} does not belong to a flag: ")
    assert way_out in str(error.value)


def test_a_word_before_all_flags_is_an_error():
    with pytest.raises(ConfigError, match="'junk' does not belong to a flag; see"):
        parse(["junk", *REQUIRED])


def test_text_may_start_with_dashes():
    assert given(PROMPT, "-- find ").data.query_instruction_for_retrieval == "-- find "
    assert given(f"{PROMPT}=--find").data.query_instruction_for_retrieval == "--find"


def test_flags_that_change_nothing_are_reported():
    words = [
        *("--dataloader_pin_memory", "False", "--ddp-backend=nccl", "--optim", "adamw_torch"),
        *("--save_safetensors", "--seed", "1", "--logging_dir", "logs"),
    ]
    arguments, ignored = parse([*REQUIRED, *words])
    names = ["dataloader_pin_memory", "ddp_backend", "optim", "save_safetensors", "logging_dir"]
    assert ignored == names
    assert arguments.trainer.seed == 1
    assert parse(REQUIRED)[1] == []


@pytest.mark.parametrize(
    "flag",
    [
        *("eval_strategy no", "load_best_model_at_end False", "do_eval=false", "use-lora False"),
        *("unified_finetuning False", "fix_encoder False", "push_to_hub False", "colbert_dim -1"),
        *("self_distill_start_step -1", "label_smoothing_factor 0.0", "neftune_noise_alpha None"),
        *("auto_find_batch_size 0", "lr_scheduler_kwargs {}", "data_seed None", "fsdp="),
        *("example_query_max_len 64", "use_flash_attn no", "optim adamw_torch_fused"),
    ],
)
def test_values_that_ask_for_nothing_are_ignored(flag):
    words = [f"--{word}" if place == 0 else word for place, word in enumerate(flag.split())]
    name = words[0][2:].partition("=")[0].replace("-", "_")
    assert parse([*REQUIRED, *words])[1] == [name]


def as_words(default):
    """A default as it is typed; None for one that nobody can type."""
    if default is dataclasses.MISSING:
        return None
    return str(default.value if isinstance(default, enum.Enum) else default)


def test_every_flag_of_the_trainer_is_accepted_at_its_default():
    known = {field.name for group in GROUPS for field in dataclasses.fields(group)}
    for field in dataclasses.fields(TrainingArguments):
        default = as_words(field.default)
        if field.name not in known and default is not None:
            assert parse([*REQUIRED, f"--{field.name}", default])[1] == [field.name]


def test_flags_of_the_trainer_that_nobody_thought_of_are_called_so(monkeypatch):
    monkeypatch.setattr(other_flags, "TRANSFORMERS", {})
    for words in (["--data_seed", "1"], ["--neftune_noise_alpha", "5"], ["--push_to_hub"]):
        with pytest.raises(ConfigError, match=f"{words[0]} is a flag of transformers and not supp"):
            given(*words)


def test_no_flag_is_both_known_and_refused_or_ignored():
    known = {field.name for group in GROUPS for field in dataclasses.fields(group)}
    assert not known & IGNORED
    refused = {**TRANSFORMERS, **OTHERS_OF_FLAGEMBEDDING}
    assert not known & set(refused)
    assert not IGNORED & set(refused)
    assert not set(TRANSFORMERS) & set(OTHERS_OF_FLAGEMBEDDING)
    assert set(HINTS) <= IGNORED
    for answer in (
        *refused.values(),
        *HINTS.values(),
    ):  # every flag that is recommended is there
        flags = [word.strip(",;") for word in answer.split() if word.startswith("--")]
        assert {flag[2:] for flag in flags} <= known, answer


def test_help_shows_every_flag_in_its_group(capsys):
    with pytest.raises(SystemExit) as stopped:
        parse(["--help"])
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    titles = ["model", "data", "loss", "encoder", "training"]
    places = [shown.index(f"\n{title}:\n") for title in titles]
    assert places == sorted(places)
    ends = [*places[1:], len(shown)]
    for group, start, end in zip(GROUPS, places, ends, strict=True):
        for field in dataclasses.fields(group):
            assert f"--{field.name}" in shown[start:end]
            assert field.metadata["help"].split()[0] in shown[start:end]
            added = field.metadata["help"].startswith("Not in FlagEmbedding. ")
            assert added == (field.name in OURS)
    assert "Flags marked 'Not in FlagEmbedding' are additions." in " ".join(shown.split())
    assert "contrastive finetune --model_name_or_path" in " ".join(shown.split())


def test_help_shows_what_is_required_and_the_settings_of_each_loss(capsys):
    with pytest.raises(SystemExit):
        parse(["--help"])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    text = " ".join(lines)
    assert "in safetensors format. (required)" in text
    assert "default: None" not in text
    assert "--model-name-or-path" not in text  # the other spelling works all the same
    assert "- hard_negative: beta, tau_plus" in lines
    assert "- triplet: margin" in lines
    assert "Temperature that divides" in text
    assert "(default: 0.02)" in text
