"""The device mesh, and the sharding of arrays over it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from contrastive.errors import ConfigError

BATCH_AXES = ("data", "fsdp")
_SMALLEST_SHARDED = 1 << 16  # elements; smaller arrays are cheaper to replicate than to gather


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """Creates a mesh with the axes `data` and `fsdp`; batches are divided over both.

    The axis type is Auto, since Flax layers fail with JAX's default, Explicit.

    Args:
      fsdp: Number of devices that share one copy of the parameters.
      devices: Devices of the mesh; None is all devices of all processes.

    Returns:
      The mesh.

    Raises:
      ConfigError: If `fsdp` does not divide the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % fsdp:
        raise ConfigError(
            f"is {fsdp}, which does not divide {len(devices)} devices; choose a divisor of "
            f"{len(devices)}",
            field="fsdp",
        )
    shape = (len(devices) // fsdp, fsdp)
    return jax.make_mesh(shape, BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays whose first dimension is divided over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def state_sharding(mesh: Mesh, state: PyTree) -> PyTree:
    """Returns the sharding of parameters and optimizer moments.

    Arrays are replicated over `data`. Large arrays are divided over `fsdp`, along their longest
    dimension that is a multiple of the number of `fsdp` devices.

    Args:
      mesh: The device mesh.
      state: Tree of arrays or shapes.

    Returns:
      Tree of shardings.
    """
    fsdp = mesh.shape["fsdp"]

    def place(x) -> NamedSharding:
        divisible = [d for d in range(x.ndim) if x.shape[d] % fsdp == 0]
        if fsdp == 1 or x.size < _SMALLEST_SHARDED or not divisible:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(divisible, key=lambda d: x.shape[d])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))

    return jax.tree.map(place, state)


def mapped(function: Callable[..., PyTree], mesh: Mesh | None) -> Callable[..., PyTree]:
    """Maps a loss, or its diagnostics, over the mesh with queries divided over devices.

    Args:
      function: `(queries, documents, scalars, columns, axis_name=...) -> tree of arrays`, with one
        value per query.
      mesh: The device mesh; None runs the function without mapping.

    Returns:
      `(queries, documents, scalars, columns) -> tree of arrays`.
    """
    if mesh is None:
        return functools.partial(function, axis_name=None)
    rows = PartitionSpec(BATCH_AXES)
    return jax.shard_map(
        functools.partial(function, axis_name=BATCH_AXES),
        mesh=mesh,
        in_specs=(rows, rows, PartitionSpec(), rows),
        out_specs=rows,
    )
