"""InfoNCE's value and gradient: time, memory, float error and communication, ours and dense.

README.md says what is measured and how.
"""

import argparse
import itertools
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import hardware
import results
from interleave import ALLOCATORS, OURS, Worker, interleave, spread, start, stop
from tqdm import tqdm

NAMES = {OURS: "contrastive", "dense_jax": "dense, JAX", "dense_pytorch": "dense, PyTorch"}
PARTS = ("time", "memory", "error", "devices")
TEMPERATURES = (0.01, 0.02, 0.05)
LAYOUTS = ("dense", "sharded", "gathered tiles", "ring of tiles")
K = 1024
# As Inf-CL's table has them; the largest is the largest that anybody has trained with.
POD_BATCHES = tuple(n * K for n in (32, 64, 128, 256, 512, 1024))
POD_WIDTH = 768
# Matrices that a dense library holds at once, with room; PyTorch's heap is in fragments.
_COPIES = {OURS: 0, "dense_jax": 7, "dense_pytorch": 24}


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the benchmark, writes its result and prints its tables."""
    chosen = _parse(arguments)
    if chosen.table:
        print(table(results.read(chosen.table)))
        return
    result = results.Result("losses", chosen)
    plan = [(part, settings) for part in chosen.parts for settings in _PLANS[part](chosen)]
    for part, settings in tqdm(plan, unit=" settings"):
        result.add({"part": part, **settings, **_MEASURES[part](chosen, **settings)})
    print(table(result.value))
    print(f"\n{result.path}", file=sys.stderr)


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=str(__doc__).split("\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--parts", nargs="+", choices=PARTS, default=PARTS, help="what is measured")
    add("--batches", nargs="+", type=int, default=[1, 4, 8, 16, 32, 64], help="K = 1,024 pairs")
    add("--widths", nargs="+", type=int, default=[384, 1024], help="of embeddings")
    add("--dtypes", nargs="+", default=["float32", "bfloat16"], help="of embeddings")
    add("--libraries", nargs="+", choices=NAMES, default=list(NAMES))
    add("--device", choices=("auto", "cpu", "gpu"), default="auto", help="auto: a GPU if any")
    add("--repeats", type=int, default=7, help="timed rounds; 2 from 32 K on")
    add("--warmup", type=int, default=1, help="rounds before them")
    add("--pause", type=float, default=0.2, help="seconds before each step")
    add("--allocator", choices=ALLOCATORS, default="keep+huge", help="glibc's, for all libraries")
    add("--output", type=Path, default=Path(__file__).parent / "results", help="folder")
    add("--table", type=Path, metavar="FILE.json", help="print the tables of a result and end")
    chosen = parser.parse_args(arguments)
    if chosen.device == "auto":
        chosen.device = "gpu" if hardware.gpu_name() else "cpu"
    return chosen


def _cases(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for dtype, width, thousands in itertools.product(chosen.dtypes, chosen.widths, chosen.batches):
        yield {"batch": thousands * K, "width": width, "dtype": dtype}


def _errors(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for dtype, width in itertools.product(chosen.dtypes, chosen.widths):
        for temperature in TEMPERATURES:
            yield {"batch": 4 * K, "width": width, "dtype": dtype, "temperature": temperature}


def _memories(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    for width in chosen.widths:
        yield {"width": width}


def _pods(chosen: argparse.Namespace) -> Iterator[dict[str, Any]]:
    del chosen
    yield {"width": POD_WIDTH}


def _time(chosen: argparse.Namespace, **case: Any) -> dict[str, Any]:
    """Seconds of every library whose matrix fits, by turns."""
    settings = {**case, "temperature": 0.05, "device": chosen.device}
    fitting = _fitting(chosen.libraries, case["batch"])
    options = {"device": chosen.device, "allocator": chosen.allocator}
    workers, loaded = start("losses", fitting, settings, **options)
    try:
        for worker in workers.values():
            worker.ask("prepare")
        repeats = chosen.repeats if case["batch"] < 32 * K else 2
        answers = interleave(workers, chosen.warmup + repeats, chosen.pause)
        reports = {name: worker.ask("report") for name, worker in workers.items()}
    finally:
        stop(workers)
    seconds = {name: [x["seconds"] for x in of][chosen.warmup :] for name, of in answers.items()}
    return {
        "libraries": {
            name: {
                "seconds": seconds[name],
                **spread(seconds[name]),
                "loss": answers[name][-1]["loss"],
                "compile_seconds": loaded[name]["compile_seconds"],
                **reports[name],
            }
            for name in workers
        },
        "ratios": {
            name: spread([a / b for a, b in zip(seconds[OURS], seconds[name], strict=True)])
            for name in workers
            if name != OURS and OURS in workers
        },
    }


def _fitting(libraries: Sequence[str], batch: int) -> list[str]:
    """Libraries whose matrices, which are all held at once, fit into memory."""
    left, fitting = hardware.memory_bytes(), []
    for name in sorted(libraries, key=lambda name: _COPIES[name]):
        left -= _COPIES[name] * 4 * batch**2
        if left > 0:
            fitting.append(name)
    return fitting


def _memory(chosen: argparse.Namespace, *, width: int) -> dict[str, Any]:
    """Temporary memory of the compiled programs, which need not fit, up to a million pairs."""
    found: dict[str, dict[int, int]] = {}
    for library in (OURS, "dense_jax"):
        options = {"device": chosen.device, "allocator": chosen.allocator}
        worker = Worker("losses", library, **options)
        case = {"width": width, "dtype": "float32", "temperature": 0.05, "device": chosen.device}
        found[library] = {}
        for power in range(11):
            batch = K * 2**power
            worker.ask("load", batch=batch, **case)
            found[library][batch] = worker.ask("report")["temporary_bytes"]
        worker.close()
    return {"temporary_bytes": found}


def _error(chosen: argparse.Namespace, **settings: Any) -> dict[str, Any]:
    """Distance of every library from float64."""
    found = {}
    for library in chosen.libraries:
        worker = Worker("losses", library, device=chosen.device, allocator=chosen.allocator)
        worker.ask("load", **settings, device=chosen.device)
        worker.ask("prepare")
        found[library] = worker.ask("compare")
        worker.close()
    return {"libraries": found}


def _devices(chosen: argparse.Namespace, *, width: int) -> dict[str, Any]:
    """Memory and communication of a device, by layout, batch and number of devices."""
    worker = Worker("devices", OURS, device="cpu", allocator=chosen.allocator)
    worker.ask("load")
    layouts = {
        layout: {
            "by_batch": {b: worker.ask("memory", **_on(layout, b, width, 8)) for b in POD_BATCHES},
            "by_devices": {
                n: worker.ask("memory", **_on(layout, 32 * K, width, n)) for n in (1, 2, 4, 8)
            },
        }
        for layout in LAYOUTS
    }
    worker.close()
    return {"layouts": layouts}


def _on(layout: str, batch: int, width: int, devices: int) -> dict[str, Any]:
    return {"layout": layout, "batch": batch, "width": width, "devices": devices}


_PLANS = {"time": _cases, "memory": _memories, "error": _errors, "devices": _pods}
_MEASURES = {"time": _time, "memory": _memory, "error": _error, "devices": _devices}


def table(result: dict[str, Any]) -> str:
    """A result as Markdown: a table a part."""
    machine, versions = result["hardware"], result["versions"]
    peers = ", ".join(f"{n} {versions[n]}" for n in ("python", "jax", "torch") if n in versions)
    lines = [f"{result['date']}, {machine['device_kind']}, {machine['cores']} cores; {peers}"]
    for part in PARTS:
        settings = [s for s in result["settings"] if s["part"] == part]
        if settings:
            lines += ["", *_TABLES[part](settings)]
    return "\n".join(lines)


def _time_table(settings: list[dict[str, Any]]) -> Iterator[str]:
    heads = ("pairs", "width", "embeddings", "library", "seconds (range)", "temporary memory")
    yield f"| {' | '.join(heads)} | ours over it |"
    yield "|---:|---:|---|---|---:|---:|---:|"
    for setting in settings:
        for name, found in setting["libraries"].items():
            ratio = setting["ratios"].get(name)
            cells = [
                f"{setting['batch']:,}",
                setting["width"],
                setting["dtype"],
                NAMES[name],
                _spread(found, ".3g"),
                _size(found["temporary_bytes"]),
                _spread(ratio, ".2f") if ratio else "",
            ]
            yield f"| {' | '.join(map(str, cells))} |"


def _memory_table(settings: list[dict[str, Any]]) -> Iterator[str]:
    batches = list(settings[0]["temporary_bytes"][OURS])
    yield f"| temporary memory at | width | {' | '.join(f'{int(b) // K}K' for b in batches)} |"
    yield f"|---|{'---:|' * (len(batches) + 1)}"
    for setting in settings:
        for name, sizes in setting["temporary_bytes"].items():
            cells = [NAMES[name], setting["width"], *(_size(sizes[b]) for b in batches)]
            yield f"| {' | '.join(map(str, cells))} |"


def _error_table(settings: list[dict[str, Any]]) -> Iterator[str]:
    yield (
        "| embeddings | width | temperature | library | loss | gradient, queries | documents | "
        "temperature | gradient, from unrounded embeddings |"
    )
    yield "|---|---:|---:|---|---:|---:|---:|---:|---:|"
    for setting in settings:
        for name, found in setting["libraries"].items():
            exact = found["arithmetic"]
            numbers = [exact[x] for x in ("loss", "queries", "documents", "temperature")]
            numbers.append(found["with_rounded_embeddings"]["queries"])
            cells = [setting["dtype"], setting["width"], setting["temperature"], NAMES[name]]
            yield f"| {' | '.join([*map(str, cells), *(f'{x:.1e}' for x in numbers)])} |"


def _devices_table(settings: list[dict[str, Any]]) -> Iterator[str]:
    (setting,) = settings
    layouts = setting["layouts"]
    batches, counts = (list(layouts[LAYOUTS[0]][by]) for by in ("by_batch", "by_devices"))
    yield f"| memory of a device of 8 at | {' | '.join(f'{int(b) // K}K' for b in batches)} |"
    yield f"|---|{'---:|' * len(batches)}"
    for layout, found in layouts.items():
        sizes = (_size(x["temporary_bytes"]) for x in found["by_batch"].values())
        yield f"| {layout} | {' | '.join(sizes)} |"
    yield ""
    yield f"| received by a device at 32K, devices | {' | '.join(map(str, counts))} |"
    yield f"|---|{'---:|' * len(counts)}"
    for layout, found in layouts.items():
        sizes = (_size(x["received_bytes"]) for x in found["by_devices"].values())
        yield f"| {layout} | {' | '.join(sizes)} |"


_TABLES = {
    "time": _time_table,
    "memory": _memory_table,
    "error": _error_table,
    "devices": _devices_table,
}


def _spread(found: dict[str, float], form: str) -> str:
    return f"{found['median']:{form}} ({found['min']:{form}} to {found['max']:{form}})"


def _size(count: float | None) -> str:
    if count is None:
        return ""
    return f"{count / 2**30:.2f} GiB" if count >= 2**30 else f"{count / 2**20:.1f} MiB"


if __name__ == "__main__":
    main()
