"""Compiled programs, kept between runs."""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

import jax

from contrastive.data.cache import cache_directory


def keep_compiled_programs() -> None:
    """Switches JAX's persistent compilation cache on, unless the user has chosen a folder for it.

    A resumed or repeated run then starts in seconds. Programs for the CPU use the instructions of
    the processor they were compiled on, so each kind of processor has its own folder.
    """
    if jax.config.values["jax_compilation_cache_dir"] is None:
        folder = cache_directory("programs") / _processor()
        jax.config.update("jax_compilation_cache_dir", str(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)


@functools.cache
def step_options() -> dict[str, bool]:
    """Options for the compiler with which a step is best on the devices at hand.

    On CPUs XLA would rather run operations side by side than free memory early. A step's own
    operations fill the cores, so that costs a quarter more memory and gains no time.
    """
    options = {"xla_cpu_enable_concurrency_optimized_scheduler": False}
    if jax.default_backend() != "cpu":
        return {}
    try:
        jax.jit(lambda x: x, compiler_options=options).lower(0.0).compile()
    except jax.errors.JaxRuntimeError:  # options come and go with versions
        return {}
    return options


def _processor() -> str:
    description = [platform.machine(), platform.processor()]
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        lines = cpuinfo.read_text().split("\n")
        description += [next((line for line in lines if line.startswith("flags")), "")]
    return hashlib.blake2b("\n".join(description).encode(), digest_size=6).hexdigest()
