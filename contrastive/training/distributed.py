"""Several processes: when to join them, and what they must agree on."""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.experimental import multihost_utils

from contrastive.errors import ConfigError

_TRIO = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Set by launchers that start several processes, whose addresses JAX finds by itself.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_HOST_LISTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")


def initialize() -> None:
    """Joins the processes of a run if the environment says that there are several.

    On TPU pods, Slurm and Open MPI nothing needs to be set. Elsewhere set JAX_COORDINATOR_ADDRESS
    (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      ConfigError: If some of the three are set and others are not, or are not numbers.
    """
    if jax.distributed.is_initialized():
        return
    given = {name: os.environ[name] for name in _TRIO if os.environ.get(name)}
    if given:
        address, processes, process = (given.get(name, "") for name in _TRIO)
        if not (address and processes.isdigit() and process.isdigit()):
            raise ConfigError(
                f"several processes need {', '.join(_TRIO)}, an address and two numbers; "
                f"the environment has {given}"
            )
        jax.distributed.initialize(address, int(processes), int(process))
    elif _several_processes():
        jax.distributed.initialize()


def _several_processes() -> bool:
    counts = (os.environ.get(name, "") for name in _COUNTS)
    counted = any(count.isdigit() and int(count) > 1 for count in counts)
    listed = any("," in os.environ.get(name, "") for name in _HOST_LISTS)
    return counted or listed or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ


def barrier(name: str) -> None:
    """Returns once every process has come here."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def from_first(values: dict[str, float]) -> dict[str, float]:
    """The numbers of process 0, on every process: what decides must not differ by a rounding."""
    if jax.process_count() == 1:
        return values
    numbers = np.asarray(list(values.values()), np.float32)
    shared = multihost_utils.broadcast_one_to_all(numbers)
    return dict(zip(values, map(float, shared), strict=True))


def most(*values: int) -> tuple[int, ...]:
    """The largest of each value over all processes; every process must call it.

    Args:
      *values: This process's numbers.

    Returns:
      As many numbers, the same on every process.
    """
    if jax.process_count() == 1:
        return values
    everyone = multihost_utils.process_allgather(np.asarray(values, np.int32))
    return tuple(int(v) for v in np.max(everyone, axis=0))


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0
