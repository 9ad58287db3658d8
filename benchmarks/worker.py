"""One library in a process of its own: ``python worker.py finetune ours``, driven over pipes.

Libraries are imported when they are asked for, so that the driver hears of one that is missing.
"""

import resource
import sys
import time
from typing import Any

from interleave import OURS, serve
from texts import read_rows


class Finetune:
    """Handlers of training: load, prepare, step, report."""

    def __init__(self, library: str):
        self.library = library
        self.model: Any = None
        self.batches: list[Any] = []

    def load(self, **settings: Any) -> dict[str, Any]:
        """Imports the library, opens the model and tokenises the batches of all steps."""
        begin = time.perf_counter()
        steps, self.model = settings.pop("steps"), None
        rows, size = read_rows(settings["rows_file"]), settings["batch_size"]
        device = settings.pop("device")
        if self.library == OURS:
            _without_stored_programs()
            from ours import OurStep

            self.model = OurStep(**settings)
        else:
            from peers import FlagEmbeddingStep, SentenceTransformersStep

            step = FlagEmbeddingStep if "flag" in self.library else SentenceTransformersStep
            theirs = {k: v for k, v in settings.items() if k not in ("rows_file", "batch_size")}
            self.model = step(**theirs, device=_torch_name(device))
        self.batches = [self.model.prepare(rows[n * size : (n + 1) * size]) for n in range(steps)]
        return {
            "device": _device(self.library),
            "seconds": time.perf_counter() - begin,
            "real_tokens": [self.model.real_tokens(batch) for batch in self.batches],
            "padded_tokens": [self.model.padded_tokens(batch) for batch in self.batches],
        }

    def compile(self) -> dict[str, Any]:
        """Compiles what the batches need; nothing for PyTorch."""
        if self.library != OURS:
            return {"seconds": []}
        for batch in self.batches:
            self.model.compile(batch)
        return {"seconds": self.model.compile_seconds}

    def step(self, number: int) -> dict[str, Any]:
        """Takes the step of one batch."""
        begin = time.perf_counter()
        loss = self.model.step(self.batches[number])
        return {"seconds": time.perf_counter() - begin, "loss": loss}

    def report(self) -> dict[str, Any]:
        """Says how much memory it took."""
        return _memory(self.library)


class Encode:
    """Handlers of encoding: load, step, report."""

    def __init__(self, library: str):
        self.library = library
        self.model: Any = None
        self.texts: list[str] = []
        self.batch_size = 0

    def load(self, **settings: Any) -> dict[str, Any]:
        """Imports the library, opens the model and reads the texts."""
        begin = time.perf_counter()
        self.texts = read_rows(settings.pop("texts_file"))
        self.batch_size = settings.pop("batch_size")
        device = settings.pop("device")
        if self.library == OURS:
            _without_stored_programs()
            from ours import OurEncode

            self.model = OurEncode(**settings)
        else:
            from peers import FlagEmbeddingEncode, SentenceTransformersEncode

            flag = "flag" in self.library
            encode = FlagEmbeddingEncode if flag else SentenceTransformersEncode
            self.model = encode(**settings, device=_torch_name(device))
        return {"device": _device(self.library), "seconds": time.perf_counter() - begin}

    def step(self, number: int) -> dict[str, Any]:
        """Encodes all texts."""
        del number
        if self.library == OURS:
            self.model.forget()
        begin = time.perf_counter()
        if self.library == OURS:
            vectors = self.model.encode(self.texts)
        else:
            vectors = self.model.encode(self.texts, self.batch_size)
        seconds = time.perf_counter() - begin
        return {"seconds": seconds, "first": vectors[0].tolist(), "last": vectors[-1].tolist()}

    def report(self) -> dict[str, Any]:
        """Says how much memory it took."""
        return _memory(self.library)


class Losses:
    """Handlers of a loss alone: load, prepare, step, compare, report."""

    def __init__(self, library: str):
        self.library = library
        self.loss: Any = None

    def load(self, *, device: str, **settings: Any) -> dict[str, Any]:
        """Imports the library and compiles the loss with its gradient."""
        from loss_programs import JaxLoss, PyTorchLoss

        if self.library == "dense_pytorch":
            self.loss = PyTorchLoss(**settings, device=device)
        else:
            _without_stored_programs()
            self.loss = JaxLoss(library=self.library, **settings)
        return {"device": _device(self.library), "compile_seconds": self.loss.compile_seconds}

    def prepare(self) -> dict[str, Any]:
        """Makes the embeddings."""
        self.loss.prepare()
        return {}

    def step(self, number: int) -> dict[str, Any]:
        """Takes the gradient once."""
        del number
        begin = time.perf_counter()
        loss = self.loss.step()
        return {"seconds": time.perf_counter() - begin, "loss": loss}

    def compare(self) -> dict[str, Any]:
        """How far the loss and its gradients are from float64, as shares of their norms."""
        import numpy as np
        from loss_programs import embeddings, truth

        found = self.loss.found()
        exact = truth(found["q"], found["d"], self.loss.temperature)
        whole = embeddings(*found["q"].shape)
        queries, documents = (x.astype(np.float64) for x in whole)
        unrounded = truth(queries, documents, self.loss.temperature)

        def apart(a, b):
            return {name: float(np.linalg.norm(a[name] - x) / np.linalg.norm(x)) for name, x in b}

        return {
            "arithmetic": apart(found, exact.items()),
            "with_rounded_embeddings": apart(found, unrounded.items()),
        }

    def report(self) -> dict[str, Any]:
        """Says how much memory it took."""
        return {"temporary_bytes": self.loss.temporary_bytes, **_memory(self.library)}


class Devices:
    """Handlers of programs for several simulated devices, which are compiled and not run."""

    def __init__(self, library: str):
        del library

    def load(self) -> dict[str, Any]:
        """Simulates the devices."""
        import jax
        from devices import DEVICES

        _without_stored_programs()
        jax.config.update("jax_num_cpu_devices", DEVICES)
        return {"device": "cpu"}

    def memory(self, **settings: Any) -> dict[str, Any]:
        """What a device needs and receives."""
        from devices import memory

        return memory(**settings)


def _without_stored_programs() -> None:
    import jax

    jax.config.update("jax_enable_compilation_cache", False)  # compiling is timed


def _torch_name(device: str) -> str:
    return "cuda:0" if device == "gpu" else "cpu"


def _device(library: str) -> str:
    if library in (OURS, "dense_jax"):
        import jax

        return jax.devices()[0].platform
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"


def _memory(library: str) -> dict[str, Any]:
    resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if _device(library) == "cpu":
        return {"peak_memory_bytes": resident, "peak_resident_bytes": resident}
    if library in (OURS, "dense_jax"):
        import jax

        peak = (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    else:
        import torch

        peak = torch.cuda.max_memory_allocated()
    return {"peak_memory_bytes": peak, "peak_resident_bytes": resident}


if __name__ == "__main__":
    tasks = {"finetune": Finetune, "encode": Encode, "losses": Losses, "devices": Devices}
    task = tasks[sys.argv[1]](sys.argv[2])
    handlers = {name: getattr(task, name) for name in dir(type(task)) if not name.startswith("_")}
    serve(handlers)
