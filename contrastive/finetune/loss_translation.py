"""Translation of the flags of the loss to an objective."""

from __future__ import annotations

from typing import Any

from contrastive.errors import ConfigError, UserError
from contrastive.finetune.arguments import LossArguments
from contrastive.finetune.parsing import Arguments
from contrastive.interop.run_model import model_folder
from contrastive.json_files import read_json
from contrastive.losses._distill_kl import DistillKL
from contrastive.losses._distill_m3 import DistillM3
from contrastive.losses._loss import Sum
from contrastive.parts import KIND


def loss_settings(given: Arguments, negative_groups: int, notices: list[str]) -> dict[str, Any]:
    """Returns the objective that flags describe.

    Args:
      given: The arguments of the command.
      negative_groups: Number of parts of the batch within which documents are negatives.
      notices: Notices for the user, to which those about the loss are added.

    Returns:
      Fields of `Objective`, which are validated with the experiment.

    Raises:
      ConfigError: If flags have no effect together.
    """
    loss = given.loss
    return {
        "function": _function(given),
        "temperature": loss.temperature,
        "policy": _with_options(
            "--temperature_policy",
            loss.temperature_policy,
            "--temperature_options",
            loss.temperature_options,
        ),
        "above_positive": loss.above_positive,
        "relative_to_positive": loss.relative_to_positive,
        "guide": _guide(given),
        "mask_false_negatives": loss.mask_false_negatives,
        "matryoshka_dims": _matryoshka_dims(given, notices),
        "negative_groups": negative_groups,
    }


def _function(arguments: Arguments) -> Any:
    """Returns the loss, including distillation if there is a teacher."""
    kind, options, weight = (
        arguments.loss.loss,
        arguments.loss.loss_options,
        arguments.loss.kd_weight,
    )
    hard = _with_options("--loss", kind, "--loss_options", options)
    if not arguments.data.knowledge_distillation:
        _check_unused(arguments, "teacher_temperature", "kd_weight")
        return hard
    temperature = arguments.loss.teacher_temperature
    if arguments.loss.kd_loss_type == "kl_div":
        soft = weight * DistillKL(teacher_temperature=temperature, skip_unscored=True)
        return {KIND: Sum.kind, "terms": ({"loss": hard}, *soft.terms)}
    if hard != {KIND: "info_nce"}:
        raise ConfigError(
            "--kd_loss_type m3_kd_loss replaces info_nce and has none of its settings; "
            f"remove --loss {kind} and --loss_options, or choose kl_div"
        )
    return weight * DistillM3(teacher_temperature=temperature, skip_unscored=True)


def _with_options(flag: str, kind: str, options_flag: str, options: list[str]) -> dict[str, str]:
    """Returns the config of a part; its options are strings, which the config validates."""
    if unset := [option for option in options if "=" not in option]:
        raise ConfigError(f"{options_flag} {' '.join(unset)}: write each option as NAME=VALUE")
    split = (option.partition("=") for option in options)
    settings = {name: value for name, _, value in split}
    if KIND in settings:
        raise ConfigError(f"{options_flag} kind={settings[KIND]}: use {flag} instead")
    return {KIND: kind, **settings}


def _check_unused(arguments: Arguments, *flags: str) -> None:
    """Refuses flags of a teacher where there is none."""
    for flag in flags:
        value, default = getattr(arguments.loss, flag), getattr(LossArguments, flag)
        if value != default:
            raise ConfigError(
                f"--{flag} is {value:g}, but has no effect without a teacher; add "
                f"--knowledge_distillation True, or remove --{flag}"
            )


def _guide(arguments: Arguments) -> dict[str, Any] | None:
    if arguments.loss.guide_model is None:
        if arguments.loss.guide_margin:
            raise ConfigError("--guide_margin has no effect without a guide; add --guide_model")
        return None
    dtype = "bfloat16" if arguments.encoder.bf16 or arguments.encoder.fp16 else "float32"
    return {
        "name": arguments.loss.guide_model,
        "cache_dir": arguments.model.cache_dir,
        "margin": arguments.loss.guide_margin,
        "dtype": dtype,
    }


def _matryoshka_dims(arguments: Arguments, notices: list[str]) -> tuple[int, ...]:
    dims = arguments.loss.mrl_dims
    if arguments.loss.use_mrl and not dims:
        raise ConfigError("--use_mrl needs widths; add them, for example --mrl_dims 64 128 256")
    if dims and not arguments.loss.use_mrl:
        raise ConfigError(
            f"--mrl_dims is {' '.join(map(str, dims))}, but has no effect without --use_mrl; add "
            "--use_mrl True, or remove --mrl_dims"
        )
    width = _width(arguments) if dims else None
    if width is None or max(dims) <= width:
        return tuple(dims)
    notices.append(
        f"--mrl_dims is {' '.join(map(str, dims))}, but embeddings have width {width}, which "
        "replaces larger widths, as in FlagEmbedding"
    )
    return tuple(min(dim, width) for dim in dims)


def _width(arguments: Arguments) -> int | None:
    """Returns the width of the checkpoint's embeddings; None if its config.json does not say."""
    model = arguments.model
    try:
        folder = model_folder(model.model_name_or_path, cache_dir=model.cache_dir)
        config = read_json(folder / "config.json", dict[str, Any])
    except UserError:  # which is reported when the checkpoint is loaded
        return None
    width = config.get("hidden_size")
    return width if isinstance(width, int) else None
