"""Several processes: when to join them, and what they must agree on."""

from __future__ import annotations

import os

import jax
import numpy as np
from jax.experimental import multihost_utils

# Set by launchers that start several processes. JAX itself reads the addresses from these.
_COUNTS = ("JAX_NUM_PROCESSES", "SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
_HOST_LISTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")


def initialize() -> None:
    """Joins the processes of a run if the environment says that there are several.

    On TPU pods, Slurm and Open MPI nothing needs to be set. Elsewhere set JAX_COORDINATOR_ADDRESS
    (host:port of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.
    """
    if jax.distributed.is_initialized() or not _several_processes():
        return
    if "JAX_COORDINATOR_ADDRESS" in os.environ:
        jax.distributed.initialize(
            os.environ["JAX_COORDINATOR_ADDRESS"],
            int(os.environ["JAX_NUM_PROCESSES"]),
            int(os.environ["JAX_PROCESS_ID"]),
        )
    else:
        jax.distributed.initialize()


def _several_processes() -> bool:
    counted = any(int(os.environ.get(name, "1")) > 1 for name in _COUNTS)
    listed = any("," in os.environ.get(name, "") for name in _HOST_LISTS)
    return counted or listed or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ


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
