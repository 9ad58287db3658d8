"""The devices as one named mesh, and where arrays live on it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from jaxtyping import PyTree

from contrastive.errors import ConfigError

BATCH_AXES = ("data", "fsdp")
_SMALLEST_SHARDED = 1 << 16  # elements; smaller parameters are cheaper to copy than to gather


def make_mesh(fsdp: int = 1, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of axes `data` and `fsdp`; batches are divided over both.

    Axes are Auto: under JAX's default, Explicit, Flax layers fail.

    Args:
      fsdp: Devices that share one copy of the parameters.
      devices: All devices of all processes unless given.

    Returns:
      The mesh.

    Raises:
      ConfigError: If `fsdp` does not divide the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    if len(devices) % fsdp:
        raise ConfigError(f"fsdp is {fsdp}, which does not divide {len(devices)} devices")
    shape = (len(devices) // fsdp, fsdp)
    return jax.make_mesh(shape, BATCH_AXES, axis_types=(AxisType.Auto,) * 2, devices=devices)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Arrays divided along their first dimension over all devices."""
    return NamedSharding(mesh, PartitionSpec(BATCH_AXES))


def state_sharding(mesh: Mesh, state: PyTree) -> PyTree:
    """Where parameters, and the optimizer's moments of them, live.

    Copies on every device of `data`; large arrays are cut along their longest dimension that the
    `fsdp` devices divide.

    Args:
      mesh: The mesh.
      state: Tree of arrays or of their shapes.

    Returns:
      A sharding for each.
    """
    fsdp = mesh.shape["fsdp"]

    def place(x) -> NamedSharding:
        cut = [d for d in range(x.ndim) if x.shape[d] % fsdp == 0]
        if fsdp == 1 or x.size < _SMALLEST_SHARDED or not cut:
            return NamedSharding(mesh, PartitionSpec())
        longest = max(cut, key=lambda d: x.shape[d])
        return NamedSharding(mesh, PartitionSpec(*[None] * longest, "fsdp"))

    return jax.tree.map(place, state)


def mapped(function: Callable[..., PyTree], mesh: Mesh | None) -> Callable[..., PyTree]:
    """Maps a loss, or what describes it, over the mesh, divided by query.

    Args:
      function: `(queries, documents, scalars, columns, axis_name=...) -> tree of arrays by query`.
      mesh: Devices; None leaves it to others.

    Returns:
      `(queries, documents, scalars, columns) -> tree`.
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
