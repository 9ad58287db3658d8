"""From FlagEmbedding's arguments to an experiment."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal, NamedTuple

from contrastive import config
from contrastive.data.calibration import Part
from contrastive.data.groups import Rules
from contrastive.data.opening import open_source, row_files
from contrastive.data.pipeline import steps_per_epoch
from contrastive.errors import ConfigError, DataError
from contrastive.finetune.arguments import EncoderArguments, ModelArguments, TrainerArguments
from contrastive.finetune.notices import differences
from contrastive.finetune.parsing import Arguments

_SUFFIX = "no_in_batch_neg"
_KINDS: dict[str, Literal["kl", "m3"]] = {"kl_div": "kl", "m3_kd_loss": "m3"}
_POLICIES = {
    "fixed": config.Fixed,
    "learned": config.Learned,
    "individual": config.Individual,
}


class Translated(NamedTuple):
    """An experiment, and what its user should know about it."""

    experiment: config.Experiment
    notices: list[str]


def translate(given: Arguments, devices: int) -> Translated:
    """The experiment that FlagEmbedding's arguments describe.

    Args:
      given: The arguments.
      devices: Accelerators of all processes; batch sizes are given for one.

    Returns:
      The experiment, with a line for everything that is not as FlagEmbedding does it.

    Raises:
      ConfigError: For values that have no meaning here.
      DataError: For data that cannot be used.
    """
    _check_model(given.model)
    trainer, data, notices = given.trainer, given.data, []
    train = _training(given, notices)
    accumulated = trainer.gradient_accumulation_steps
    batch_size = trainer.per_device_train_batch_size * devices * accumulated
    shards = accumulated * (1 if given.loss.negatives_cross_device else devices)
    epoch = _steps_per_epoch(train, batch_size)
    steps = trainer.max_steps
    if steps <= 0:
        steps = max(1, math.ceil(trainer.num_train_epochs * epoch))
    teacher = None
    if data.knowledge_distillation:
        teacher = config.Distill(
            kind=_KINDS[given.loss.kd_loss_type],
            temperature=given.loss.teacher_temperature,
            weight=given.loss.kd_weight,
        )
    held_out = None if data.eval_data is None else config.Jsonl(path=data.eval_data)
    experiment = config.Experiment(
        name=Path(trainer.output_dir).resolve().name,
        seed=trainer.seed,
        steps=steps,
        batch_size=batch_size,
        data=config.Data(
            train=train,
            validation=held_out,
            group_size=data.train_group_size,
            few_negatives=data.few_negatives,
            shuffle_ratio=data.shuffle_ratio,
            row_prompt=_prompt("query", "{}", data.query_instruction_format),
            query_prompt=_prompt(
                "query", data.query_instruction_for_retrieval, data.query_instruction_format
            ),
            document_prompt=_prompt(
                "passage", data.passage_instruction_for_retrieval, data.passage_instruction_format
            ),
            query_max_length=data.query_max_len,
            document_max_length=data.passage_max_len,
            workers=max(2, trainer.dataloader_num_workers),
        ),
        model=_checkpoint(given.model, given.encoder, notices),
        pooling=given.encoder.sentence_pooling_method,
        normalize=given.encoder.normalize_embeddings,
        loss=config.Loss(
            function=_function(given),
            temperature=given.loss.temperature,
            policy=_POLICIES[given.loss.temperature_policy](),
            above_positive=given.loss.above_positive,
            relative_to_positive=given.loss.relative_to_positive,
            guide=_guide(given),
            mask_false_negatives=given.loss.mask_false_negatives,
            distill=teacher,
            widths=_widths(given),
            shards=shards,
        ),
        optimizer=_optimizer(given, steps),
        chunk_tokens=_chunk_tokens(given),
        log_steps=_steps(trainer.logging_steps, steps),
        eval_steps=_steps(trainer.eval_steps or steps, steps) if held_out else None,
        save_steps=_save_steps(trainer, epoch, steps),
        keep_checkpoints=trainer.save_total_limit,
        patience=trainer.patience,
        fsdp=trainer.fsdp_devices,
        writers=_writers(trainer.report_to),
    )
    return Translated(experiment, [*notices, *differences(given, experiment)])


def _check_model(model: ModelArguments) -> None:
    own = {"tokenizer_name": "tokenizer", "config_name": "config.json"}
    for flag, what in own.items():
        value = getattr(model, flag)
        if value not in (None, model.model_name_or_path):
            raise ConfigError(
                f"--{flag} is {value!r}, but the checkpoint's own {what} is used; put that into "
                "the folder of --model_name_or_path"
            )
    if model.trust_remote_code:
        raise ConfigError(
            "--trust_remote_code is refused: code from checkpoints is never run; supported are "
            "BERT, RoBERTa, XLM-RoBERTa and ModernBERT"
        )
    if not model.use_fast_tokenizer:
        raise ConfigError("--use_fast_tokenizer False is not supported: only fast ones are")


def _training(given: Arguments, notices: list[str]) -> config.Mixture:
    parts = []
    for name in given.data.train_data:
        path = Path(name)
        if not path.exists():
            raise DataError(f"--train_data: {path}: no such file or folder")
        parts += _of_folder(path, given, notices) if path.is_dir() else [_part([path], given)]
    if not parts:
        raise DataError("--train_data: every file was left out; lower --drop_threshold")
    alone = [file for part in parts if not part.in_batch for file in _files(part)]
    if alone:
        notices.append(
            f"{', '.join(alone)}: the name of file or folder ends in {_SUFFIX}, so queries see "
            "their own passages alone (in an experiment file: in_batch=False)"
        )
    return config.Mixture(
        parts=tuple(parts), one_source_batches=given.data.same_dataset_within_batch
    )


def _of_folder(folder: Path, given: Arguments, notices: list[str]) -> list[config.Part]:
    data = given.data
    files = row_files(folder)
    if not (data.same_dataset_within_batch and data.small_threshold):
        return [_part([file], given) for file in files]
    rows = {file: _rows(file, given) for file in files}
    small = [file for file in files if rows[file] < data.small_threshold]
    parts = [_part([file], given) for file in files if file not in small]
    if not small:
        return parts
    together = sum(rows[file] for file in small)
    names = ", ".join(file.name for file in small)
    if together < data.drop_threshold:
        notices.append(
            f"{folder}: left out {names} ({together} rows together, --drop_threshold is "
            f"{data.drop_threshold})"
        )
        return parts
    notices.append(f"{folder}: {names} count as one data set of {together} rows")
    return [*parts, _part(small, given)]


def _rows(file: Path, given: Arguments) -> int:
    return len(open_source(_jsonl([file], given)))


def _part(files: list[Path], given: Arguments) -> config.Part:
    return config.Part(source=_jsonl(files, given), in_batch=not any(map(_is_alone, files)))


def _is_alone(file: Path) -> bool:
    stem = file.name.removesuffix(".gz").rpartition(".")[0]
    return stem.endswith(_SUFFIX) or file.absolute().parent.name.endswith(_SUFFIX)


def _files(part: config.Part) -> tuple[str, ...]:
    assert isinstance(part.source, config.Jsonl)
    path = part.source.path
    return (path,) if isinstance(path, str) else path


def _jsonl(files: list[Path], given: Arguments) -> config.Jsonl:
    names = tuple(map(str, files))
    limit = given.data.max_example_num_per_dataset
    return config.Jsonl(path=names[0] if len(names) == 1 else names, limit=limit)


def _steps_per_epoch(train: config.Mixture, batch_size: int) -> int:
    parts = [Part(open_source(part.source), Rules(), 1.0) for part in train.parts]
    return steps_per_epoch(parts, batch_size, one_source_batches=train.one_source_batches)


def _prompt(name: str, instruction: str | None, form: str) -> str:
    """What stands before a text once the instruction is in its place; nothing without one."""
    form = form.replace("\\n", "\n")
    if form.count("{}") != 2 or not form.endswith("{}"):
        raise ConfigError(
            f"--{name}_instruction_format is {form!r}; it takes two {{}}, the instruction and at "
            "its end the text: what follows a text could not be kept with the model"
        )
    return "" if instruction is None else form[:-2].replace("{}", instruction)


def _checkpoint(
    model: ModelArguments, encoder: EncoderArguments, notices: list[str]
) -> config.Checkpoint:
    if encoder.fp16:
        notices.append("--fp16: layers compute in bfloat16, which needs no loss scaling")
    return config.Checkpoint(
        name=model.model_name_or_path,
        cache_dir=model.cache_dir,
        dropout=encoder.dropout,
        dtype="bfloat16" if encoder.bf16 or encoder.fp16 else "float32",
        remat=encoder.gradient_checkpointing,
    )


def _function(given: Arguments) -> Any:
    """The loss by name, its options still as they were written; the config checks them."""
    given_options = given.loss.loss_options
    if unset := [option for option in given_options if "=" not in option]:
        raise ConfigError(f"--loss_options {' '.join(unset)}: give each as NAME=VALUE")
    if any(option.startswith("kind=") for option in given_options):
        raise ConfigError("--loss_options kind=...: --loss says which loss")
    split = (option.partition("=") for option in given_options)
    return {"kind": given.loss.loss, **{name: value for name, _, value in split}}


def _guide(given: Arguments) -> config.Guide | None:
    if given.loss.guide_model is None:
        if given.loss.guide_margin:
            raise ConfigError("--guide_margin has no effect without a guide; give --guide_model")
        return None
    dtype = "bfloat16" if given.encoder.bf16 or given.encoder.fp16 else "float32"
    return config.Guide(
        name=given.loss.guide_model,
        cache_dir=given.model.cache_dir,
        margin=given.loss.guide_margin,
        dtype=dtype,
    )


def _widths(given: Arguments) -> tuple[int, ...]:
    if given.loss.use_mrl and not given.loss.mrl_dims:
        raise ConfigError("--use_mrl needs widths: --mrl_dims 64 128 256")
    return tuple(given.loss.mrl_dims) if given.loss.use_mrl else ()


def _optimizer(given: Arguments, steps: int) -> config.Optimizer:
    trainer = given.trainer
    warmup = trainer.warmup_steps
    if warmup < 1:
        warmup = math.ceil((warmup or trainer.warmup_ratio) * steps)
    schedule = trainer.lr_scheduler_type
    if schedule == "constant":  # which never warms up
        warmup = 0
    return config.Optimizer(
        learning_rate=trainer.learning_rate,
        schedule="constant" if schedule == "constant_with_warmup" else schedule,
        warmup_steps=min(int(warmup), steps),
        weight_decay=trainer.weight_decay,
        b1=trainer.adam_beta1,
        b2=trainer.adam_beta2,
        eps=trainer.adam_epsilon,
        max_grad_norm=trainer.max_grad_norm or None,
        frozen=("position_embedding",) if given.encoder.fix_position_embedding else (),
    )


def _chunk_tokens(given: Arguments) -> int | None:
    texts = given.encoder.sub_batch_size or 0
    if texts <= 0 and given.trainer.gradient_accumulation_steps > 1:
        # Those who accumulate have memory for one of the batches.
        texts = given.trainer.per_device_train_batch_size * given.data.train_group_size
    return texts * given.data.passage_max_len if texts > 0 else None


def _steps(every: float, steps: int) -> int:
    """The Hugging Face trainer's: below 1 a share of all steps."""
    return max(1, math.ceil(every * steps) if every < 1 else int(every))


def _save_steps(trainer: TrainerArguments, epoch: int, steps: int) -> int | None:
    if trainer.save_strategy == "no":
        return None
    return max(1, epoch) if trainer.save_strategy == "epoch" else _steps(trainer.save_steps, steps)


def _writers(report_to: list[str]) -> tuple[Literal["tensorboard", "wandb"], ...]:
    if unknown := set(report_to) - {"none", "all", "tensorboard", "wandb"}:
        raise ConfigError(
            f"--report_to {' '.join(sorted(unknown))} is not supported: none, all, tensorboard, "
            "wandb"
        )
    both: tuple[Literal["tensorboard", "wandb"], ...] = ("tensorboard", "wandb")
    return tuple(name for name in both if name in report_to or "all" in report_to)
