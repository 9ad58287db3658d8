"""Libraries in processes of their own, of which one computes at a time, and what their times say.

JAX and PyTorch in one process would share the memory allocator and wake each other's threads. So
every library has a process, which waits on a pipe while another computes: a line of JSON asks, a
line of JSON answers.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from contrastive.__main__ import environment

OURS = "ours"
PEERS = ("flagembedding", "sentence_transformers")
LIBRARIES = (OURS, *PEERS)
# What the `contrastive` command gives itself, and the peers get too: glibc as shipped gives large
# buffers back and gets them again as small pages, zeroed one by one.
ALLOCATORS = {"shipped": None, "keep+huge": environment({})["GLIBC_TUNABLES"]}


class WorkerError(Exception):
    """A worker that failed, with its own last words."""


class MissingError(Exception):
    """A library that is not installed."""


class Worker:
    """A library in a process of its own, seen from the one that drives it.

    Args:
        task: ``finetune`` or ``encode``.
        library: One of ``LIBRARIES``.
        device: ``cpu`` or ``gpu``.
        allocator: One of ``ALLOCATORS``.
    """

    def __init__(self, task: str, library: str, *, device: str, allocator: str):
        variables = {**os.environ, "HF_HUB_OFFLINE": "1"}
        variables.pop("GLIBC_TUNABLES", None)
        if tunables := ALLOCATORS[allocator]:
            variables["GLIBC_TUNABLES"] = tunables
        if device == "cpu":
            variables |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
        else:
            # JAX would take most of the device's memory at once, and leave the peers too little.
            variables["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"
        self.library = library
        # Closed by close().
        self._log = tempfile.TemporaryFile("w+", errors="replace")  # noqa: SIM115
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("worker.py")), task, library],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=variables,
            text=True,
        )

    def ask(self, do: str, **arguments: Any) -> dict[str, Any]:
        """Has the worker do something, and waits until it is done.

        Args:
            do: One of the worker's handlers.
            **arguments: The handler's, such as JSON can hold.

        Returns:
            The handler's answer.

        Raises:
            MissingError: If the worker lacks a module.
            WorkerError: If it failed in any other way.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"do": do, **arguments}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # the end of the answers says so too
        line = self._process.stdout.readline()
        if not line:
            raise WorkerError(f"{self.library} ended in {do!r}; its last words:\n{self._tail()}")
        answer = json.loads(line)
        if "missing" in answer:
            raise MissingError(answer["missing"])
        if "error" in answer:
            raise WorkerError(f"{self.library} failed in {do!r}:\n{answer['error']}")
        return answer

    def close(self) -> None:
        """Lets the worker end, and waits for it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()
        self._log.close()

    def _tail(self) -> str:
        self._process.wait()
        self._log.seek(0)
        return self._log.read()[-2000:]


def serve(handlers: Mapping[str, Callable[..., dict[str, Any]]]) -> None:
    """Answers requests until there are no more: a worker's main loop.

    What libraries print goes to the standard error stream, so that it is not taken for an answer.

    Args:
        handlers: What can be asked for.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = handlers[request.pop("do")](**request)
        except ModuleNotFoundError as error:
            answer = {"missing": str(error)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def start(
    task: str,
    libraries: Sequence[str],
    settings: Mapping[str, Any],
    *,
    device: str,
    allocator: str,
) -> tuple[dict[str, Worker], dict[str, dict[str, Any]]]:
    """Starts workers and loads their libraries and models, one after another.

    Args:
        task: ``finetune`` or ``encode``.
        libraries: Which.
        settings: What the workers are told, each the same.
        device: ``cpu`` or ``gpu``.
        allocator: One of ``ALLOCATORS``.

    Returns:
        Workers and what they say of themselves, without the peers that are not installed.

    Raises:
        WorkerError: If one fails, or computes on another device.
    """
    workers: dict[str, Worker] = {}
    loaded: dict[str, dict[str, Any]] = {}
    try:
        for library in libraries:
            worker = Worker(task, library, device=device, allocator=allocator)
            workers[library] = worker
            try:
                loaded[library] = worker.ask("load", **settings)
            except MissingError as error:
                if library == OURS:
                    raise WorkerError(f"ours cannot be loaded: {error}") from None
                print(f"{library} is left out: {error}", file=sys.stderr)
                workers.pop(library).close()
                continue
            if loaded[library]["device"] != device:
                raise WorkerError(
                    f"{library} computes on the {loaded[library]['device']}, not the {device}; "
                    "choose another --device, or install its build for this one"
                )
    except BaseException:
        stop(workers)
        raise
    return workers, loaded


def stop(workers: Mapping[str, Worker]) -> None:
    """Ends workers."""
    for worker in workers.values():
        worker.close()


def interleave(
    workers: Mapping[str, Worker], rounds: int, pause: float
) -> dict[str, list[dict[str, Any]]]:
    """Asks every worker in turn for step 0, then every worker for step 1, and so on.

    Args:
        workers: By library.
        rounds: Steps, warm-up included.
        pause: Seconds before each step, in which the threads of the one before go to sleep.

    Returns:
        For each library the answers to its steps, in order.
    """
    answers: dict[str, list[dict[str, Any]]] = {library: [] for library in workers}
    for number in range(rounds):
        for library, worker in workers.items():
            time.sleep(pause)
            answers[library].append(worker.ask("step", number=number))
    return answers


def spread(values: Sequence[float]) -> dict[str, float]:
    """Median, least and greatest."""
    return {"median": statistics.median(values), "min": min(values), "max": max(values)}


def against_faster_peer(seconds: Mapping[str, Sequence[float]]) -> dict[str, Any] | None:
    """How many times as fast as the faster peer ours is.

    Args:
        seconds: Of each library's steps, the same steps in the same order.

    Returns:
        The peer whose median is least; median, least and greatest of its time over ours, step by
        step. None without ours or without peers.
    """
    peers = [library for library in PEERS if library in seconds]
    if OURS not in seconds or not peers:
        return None
    peer = min(peers, key=lambda library: statistics.median(seconds[library]))
    pairs = zip(seconds[peer], seconds[OURS], strict=True)
    ratios = [theirs / ours for theirs, ours in pairs]
    return {"peer": peer, "ratios": ratios, **spread(ratios)}
