"""The persistent compilation cache and compiler options."""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

import jax

from contrastive.files import cache_directory


def keep_compiled_programs() -> None:
    """Enables JAX's persistent compilation cache, unless the user has already set its folder.

    A resumed or repeated run then starts in seconds. CPU programs use the instruction set of the
    processor that compiled them, so each type of processor has its own folder.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache_directory("programs") / _processor()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@functools.cache
def step_options() -> dict[str, bool]:
    """Returns the compiler options for training steps on the default backend.

    On CPUs, XLA schedules for concurrency rather than memory by default. The operations of a step
    already use all cores, so this takes a quarter more memory and saves no time.
    """
    options = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # this version of XLA does not have the option
        return {}
    return options


def _processor() -> str:
    description = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().split("\n")
        description += [next((line for line in lines if line.startswith("flags")), "")]
    return hashlib.blake2b("\n".join(description).encode(), digest_size=6).hexdigest()
