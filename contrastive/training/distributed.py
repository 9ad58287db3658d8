"""Several processes: when to join them, and what they must agree on."""

from __future__ import annotations

import os

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

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


class Most:
    """The largest of each number over all processes, on its way.

    The exchange is put into the devices' queue at once and read later: asked for before a step is
    started, it is answered when the step before that one is done, and no device waits.

    Args:
      *values: This process's numbers. Every process must ask in the same order.
    """

    def __init__(self, *values: int):
        self._values = values
        self._everyone: jax.Array | None = None
        if jax.process_count() > 1:
            everywhere = jax.make_mesh((jax.device_count(),), ("all",), (AxisType.Auto,))
            rows = np.tile(np.asarray(values, np.int32), (jax.local_device_count(), 1))
            mine = NamedSharding(everywhere, PartitionSpec("all"))
            self._everyone = _largest(jax.make_array_from_process_local_data(mine, rows))

    def read(self) -> tuple[int, ...]:
        """The numbers, the same on every process; waits for them."""
        if self._everyone is None:
            return self._values
        return tuple(int(value) for value in np.asarray(self._everyone.addressable_data(0)))


@jax.jit
def _largest(rows):
    return jnp.max(rows, axis=0)


def is_first() -> bool:
    """Whether this process writes what is written once."""
    return jax.process_index() == 0
