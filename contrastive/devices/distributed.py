"""Multi-process runs: initialization, and values that all processes must agree on."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax._src.distributed import global_state  # its client, which has no public name
from jax.experimental import multihost_utils
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from contrastive.devices.peers import LOST, Peers, without_stack_traces
from contrastive.errors import ConfigError

_SETTINGS = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")
# Set by launchers of several processes, for which JAX detects the addresses.
_COUNTS = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")
_HOST_LISTS = ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES")
_NOTICE_SECONDS = 15.0
_CONNECT_SECONDS = 290.0  # JAX aborts after 300
_peers: Peers | None = None


def initialize() -> None:
    """Initializes `jax.distributed` if the environment describes several processes.

    TPU pods, Slurm and Open MPI are detected. Elsewhere, set JAX_COORDINATOR_ADDRESS (host:port of
    process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID.

    Raises:
      ConfigError: If only some of the three variables are set, or a number is not an integer.
    """
    if jax.distributed.is_initialized():
        return
    with without_stack_traces(), _explaining_waits():
        _initialize()
    if jax.distributed.is_initialized() and global_state.num_processes > 1:
        global _peers
        _peers = Peers(global_state.client, global_state.process_id, global_state.num_processes)
        _peers.start()
        if global_state.process_id:
            _peers.end_if_aborted()


@contextlib.contextmanager
def _explaining_waits() -> Iterator[None]:
    """Context that waits for the other processes; says so, and ends before JAX would abort."""
    described = ", ".join(f"{n}={os.environ[n]}" for n in _SETTINGS if os.environ.get(n))

    def explain() -> None:
        print(
            f"contrastive: waiting for the other processes ({described or 'of this cluster'})",
            file=sys.stderr,
        )

    def end() -> None:
        message = (
            f"contrastive: the other processes did not connect in {_CONNECT_SECONDS:.0f} s "
            f"({described or 'of this cluster'}). Start all of them, with the same address and "
            "number of processes\n"
        )
        os.write(sys.stderr.fileno(), message.encode())
        os._exit(LOST)

    timers = [threading.Timer(_NOTICE_SECONDS, explain), threading.Timer(_CONNECT_SECONDS, end)]
    for timer in timers:
        timer.daemon = True
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def _initialize() -> None:
    settings = {name: os.environ[name] for name in _SETTINGS if os.environ.get(name)}
    if settings:
        address, processes, process = (settings.get(name, "") for name in _SETTINGS)
        if not (address and processes.isdigit() and process.isdigit()):
            raise ConfigError(
                f"the environment has {settings}, but several processes need an address and two "
                f"numbers; set all of {', '.join(_SETTINGS)}, or none"
            )
        jax.distributed.initialize(address, int(processes), int(process))
    elif _several_processes():
        jax.distributed.initialize()


def announcing_failures() -> contextlib.AbstractContextManager[None]:
    """Context whose exceptions end the other processes too, with the reason."""
    return _peers.announcing_failures() if _peers is not None else contextlib.nullcontext()


def expected_processes() -> int:
    """Returns the number of processes that this one was told of."""
    return global_state.num_processes


def at_step(step: int) -> None:
    """Notes the number of updates made, for the messages of other processes."""
    if _peers is not None:
        _peers.step = step


def _several_processes() -> bool:
    counts = (os.environ.get(name, "") for name in _COUNTS)
    several_tasks = any(count.isdigit() and int(count) > 1 for count in counts)
    several_hosts = any("," in os.environ.get(name, "") for name in _HOST_LISTS)
    return several_tasks or several_hosts or "MEGASCALE_COORDINATOR_ADDRESS" in os.environ


def barrier(name: str) -> None:
    """Waits until every process has reached the barrier `name`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(name)


def from_first(values: dict[str, float]) -> dict[str, float]:
    """Returns the values of process 0, so that decisions do not depend on rounding."""
    if jax.process_count() == 1:
        return values
    numbers = np.asarray(list(values.values()), np.float32)
    shared = multihost_utils.broadcast_one_to_all(numbers)
    return dict(zip(values, map(float, shared), strict=True))


def from_first_nested(values: dict[str, dict[str, float]]) -> dict[str, dict[str, float]]:
    """Returns the values of process 0 for nested dictionaries, as `from_first` does."""
    if jax.process_count() == 1:
        return values
    numbers = {f"{n}/{m}": x for n, group in values.items() for m, x in group.items()}
    shared = from_first(numbers)
    return {n: {m: shared[f"{n}/{m}"] for m in group} for n, group in values.items()}


class AsyncMax:
    """Computes the maximum of integers over all processes asynchronously.

    The reduction is enqueued at once and read later. If it is enqueued before a step starts, the
    result is ready when the previous step ends, and no device is idle.

    Args:
      *values: The integers of this process. All processes must create instances in the same order.
    """

    def __init__(self, *values: int):
        self._values = values
        self._maxima: jax.Array | None = None
        if jax.process_count() > 1:
            mesh = jax.make_mesh((jax.device_count(),), ("all",), (AxisType.Auto,))
            rows = np.tile(np.asarray(values, np.int32), (jax.local_device_count(), 1))
            sharding = NamedSharding(mesh, PartitionSpec("all"))
            self._maxima = _largest(jax.make_array_from_process_local_data(sharding, rows))

    def read(self) -> tuple[int, ...]:
        """Waits for the maxima and returns them; they are the same on every process."""
        if self._maxima is None:
            return self._values
        return tuple(int(value) for value in np.asarray(self._maxima.addressable_data(0)))


@jax.jit
def _largest(rows):
    return jnp.max(rows, axis=0)


def is_first() -> bool:
    """Returns whether this process writes the files that are shared by all processes."""
    return jax.process_index() == 0
