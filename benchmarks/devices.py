"""What a loss costs each of several devices, read off the program that XLA compiles for them.

The devices are simulated on a CPU: the memory is what this backend's compiler plans, and the
communication is what any would have to send. Nothing is run.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec

from contrastive.losses import clip

DEVICES = 8
AXIS = "data"


def memory(layout: str, batch: int, width: int, devices: int) -> dict[str, Any]:
    """Temporary memory of a device, and what it receives, for the symmetric loss and its gradient.

    Args:
        layout: One of ``LAYOUTS``.
        batch: Pairs, over all devices.
        width: Of the embeddings, float32.
        devices: How many share them.
    """
    mesh = jax.make_mesh(
        (devices,), (AXIS,), axis_types=(AxisType.Auto,), devices=jax.devices()[:devices]
    )
    rows = PartitionSpec(AXIS)
    specs = {"in_specs": (rows, rows), "out_specs": rows}
    losses = jax.shard_map(LAYOUTS[layout], mesh=mesh, check_vma=False, **specs)
    gradient = jax.jit(jax.value_and_grad(lambda q, d: losses(q, d).mean(), argnums=(0, 1)))
    where = jax.NamedSharding(mesh, rows)
    shape = jax.ShapeDtypeStruct((batch, width), jnp.float32, sharding=where)
    compiled = gradient.lower(shape, shape).compile()
    planned, program = compiled.memory_analysis(), compiled.as_text()
    assert planned is not None
    assert program is not None
    return {
        "temporary_bytes": planned.temp_size_in_bytes,
        "received_bytes": received(program, devices),
    }


def _dense(queries, documents):
    """Every device has all embeddings and the whole matrix."""
    own = len(queries)
    queries, documents = (jax.lax.all_gather(x, AXIS, tiled=True) for x in (queries, documents))
    logits = queries @ documents.T / 0.05
    both = jax.nn.logsumexp(logits, axis=1) + jax.nn.logsumexp(logits, axis=0)
    losses = both / 2 - jnp.diag(logits)
    return jax.lax.dynamic_slice(losses, [jax.lax.axis_index(AXIS) * own], [own])


def _sharded(queries, documents):
    """Every device has all embeddings and its own rows of both matrices."""
    first = jax.lax.axis_index(AXIS) * len(queries)

    def one_way(anchors, others):
        logits = anchors @ jax.lax.all_gather(others, AXIS, tiled=True).T / 0.05
        places = first + jnp.arange(len(anchors))
        positive = jnp.take_along_axis(logits, places[:, None], axis=1)[:, 0]
        return jax.nn.logsumexp(logits, axis=1) - positive

    return (one_way(queries, documents) + one_way(documents, queries)) / 2


def _ours(queries, documents, *, ring: bool):
    return clip(queries, documents, temperature=0.05, axis_name=AXIS, ring=ring)


LAYOUTS: dict[str, Callable[..., Any]] = {
    "dense": _dense,
    "sharded": _sharded,
    "gathered tiles": functools.partial(_ours, ring=False),
    "ring of tiles": functools.partial(_ours, ring=True),
}


@dataclasses.dataclass
class _Computation:
    """A computation of a program: what it receives itself, and what it calls, how often."""

    received: float = 0.0
    calls: list[tuple[str, int]] = dataclasses.field(default_factory=list)


_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "f32": 4, "s32": 4, "u32": 4, "f64": 8}
# The part of its result that a device did not have, for n devices.
_SHARES: dict[str, Callable[[int], float]] = {
    "all-gather": lambda n: (n - 1) / n,
    "all-reduce": lambda n: 2 * (n - 1) / n,  # reduced in parts, and the parts gathered
    "reduce-scatter": lambda n: float(n - 1),
    "collective-permute": lambda n: float(n > 1),
}
_COLLECTIVE = re.compile(r"= (.*?) (" + "|".join(_SHARES) + r")(?:-start)?\(")


def received(program: str, devices: int) -> float:
    """Bytes that a device receives in one run of a compiled program.

    Args:
        program: XLA's text of it.
        devices: That it was compiled for.
    """
    computations: dict[str, _Computation] = {}
    entry, current = "", _Computation()
    for line in program.splitlines():
        if begin := re.match(r"(ENTRY )?%?([\w.\-]+) .*\{$", line):
            current = computations.setdefault(begin[2], _Computation())
            entry = begin[2] if begin[1] else entry
        elif found := _COLLECTIVE.search(line):
            current.received += sum(_sizes(found[1])) * _SHARES[found[2]](devices)
        current.calls += _calls(line)

    def total(name: str) -> float:
        own = computations.get(name, _Computation())
        return own.received + sum(times * total(called) for called, times in own.calls)

    return total(entry)


def _calls(line: str) -> Iterator[tuple[str, int]]:
    if body := re.search(r" while\(.*body=%?([\w.\-]+)", line):
        times = re.search(r'known_trip_count":\{"n":"(\d+)"', line)
        if times is None:
            raise ValueError(f"a loop of unknown length: {line:.200}")
        yield body[1], int(times[1])
    for called in re.findall(r"(?:to_apply|calls)=%?([\w.\-]+)", line):
        yield called, 1
    for several in re.findall(r"branch_computations=\{(.*?)\}", line):
        yield from ((name.strip(" %"), 1) for name in several.split(","))


def _sizes(shapes: str) -> Iterator[int]:
    for kind, dimensions in re.findall(r"(\w+)\[([\d,]*)\]", shapes):
        yield _BYTES[kind] * math.prod(int(n) for n in dimensions.split(",") if n)
