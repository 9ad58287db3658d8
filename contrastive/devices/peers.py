"""Watches the other processes of a run, so that the loss of one ends all of them with a sentence.

Collective operations wait forever for a process that is gone, and JAX aborts after minutes with a
C++ stack trace. Here, each process writes a sign of life to JAX's coordination service, which
process 0 hosts, every few seconds.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import jax
from jax._src import distributed as jax_distributed

LOST = os.EX_TEMPFAIL
"""Exit code of a process that ends because another one did; a scheduler may start all again."""

_ROOM = "contrastive/peers"
_ENDED = f"{_ROOM}/ended"
_DONE = "done"
_NO_SERVICE = "the coordination service of process 0 failed"


class Peers:
    """Watches the other processes in a thread; ends this one if another is lost or fails.

    Args:
      client: Client of JAX's coordination service.
      process: Number of this process.
      processes: Number of processes.
    """

    beat = 4.0
    """Seconds between signs of life."""
    patience = 36.0
    """Seconds without a sign of life after which a process is lost."""

    def __init__(self, client: Any, process: int, processes: int):
        self._client = client
        self._process = process
        self._ending = threading.Lock()
        self._stopped = threading.Event()
        self._seen = {n: ("", time.monotonic()) for n in range(processes) if n != process}
        self._beats = 0
        self._failure = ""
        self.step = 0
        """Number of updates made, for the message of the others if this process is lost."""

    def start(self) -> None:
        """Starts to watch, until the interpreter exits."""
        threading.Thread(target=self._watch, name="peers", daemon=True).start()
        atexit.register(self._leave)

    @contextlib.contextmanager
    def announcing_failures(self) -> Iterator[None]:
        """Context whose exceptions end the other processes too, with the reason."""
        try:
            yield
        except BaseException as error:
            if isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error):
                # A collective operation fails at once if another process is lost. Which one that
                # was is known later, and then the thread ends this process.
                self._stopped.wait(self.patience + 3 * self.beat)
            self._fail(f"{type(error).__name__}: {error}".split("\n")[0][:300])
            raise

    def _fail(self, reason: str) -> None:
        self._stopped.set()
        self._failure = reason
        with contextlib.suppress(Exception):  # another process failed first
            self._client.key_value_set(
                _ENDED, f"{self._process} failed at step {self.step}: {reason}"
            )
        # The others may be waiting for this process, and this one for them, as in a barrier.
        timer = threading.Timer(self.patience, os._exit, [1])
        timer.daemon = True
        timer.start()

    def _leave(self) -> None:
        """Tells the others that this process is about to exit."""
        self._stopped.set()
        with contextlib.suppress(Exception):
            self._client.key_value_set(self._key(self._process), _DONE, allow_overwrite=True)

    def _watch(self) -> None:
        while not self._stopped.wait(self.beat):
            try:
                self._beats += 1
                sign = f"{self._beats} {self.step}"
                self._client.key_value_set(self._key(self._process), sign, allow_overwrite=True)
                signs = dict(self._client.key_value_dir_get(_ROOM))
            except Exception:  # of gRPC, without a public type
                if not self._stopped.is_set():
                    lost = f"process 0 {self._was_lost(0)}" if self._process else _NO_SERVICE
                    self.end(lost)
                return
            if _ENDED in signs:
                self._end_orderly(signs[_ENDED])
            self._note(signs)

    def _note(self, signs: dict[str, str]) -> None:
        """Notes new signs of life; process 0 ends all processes if one has given none for long."""
        now = time.monotonic()
        for number, (last, since) in self._seen.items():
            sign = signs.get(self._key(number), "")
            if sign != last:
                self._seen[number] = sign, now
            elif self._process == 0 and sign != _DONE and now - since > self.patience:
                reason = f"process {number} {self._was_lost(number)}"
                with contextlib.suppress(Exception):
                    self._client.key_value_set(_ENDED, reason.removeprefix("process "))
                time.sleep(2 * self.beat)  # the others learn from this process which one was lost
                self.end(reason)

    def _was_lost(self, number: int) -> str:
        _, _, step = self._seen[number][0].partition(" ")
        return f"was lost; it was last heard from at step {step or 0}"

    def _key(self, number: int) -> str:
        return f"{_ROOM}/{number}"

    def _end_orderly(self, reason: str) -> None:
        """Ends this process after the one that failed, which waits for the others to disconnect."""
        if " failed " in reason:
            leaving = threading.Thread(target=jax.distributed.shutdown, daemon=True)
            leaving.start()
            leaving.join(3 * self.beat)
        self.end(f"process {reason}")

    def end(self, reason: str) -> None:
        """Ends this process, whatever it is doing, with a sentence.

        Args:
          reason: A clause that names the process that was lost or failed, and its step.
        """
        if not self._ending.acquire(blocking=False):
            return
        if self._failure:  # the others ended before this process, which may not have said why
            os.write(sys.stderr.fileno(), f"contrastive: {self._failure}\n".encode())
            os._exit(1)
        message = (
            f"contrastive: {reason}, and process {self._process} ends too. All saved checkpoints "
            "are intact; start all processes again with the same command to resume\n"
        )
        os.write(sys.stderr.fileno(), message.encode())
        os._exit(LOST)

    def end_if_aborted(self) -> None:
        """Replaces the abort of JAX's client, when process 0 is lost, by a sentence."""

        def aborted(number: int) -> None:
            del number
            self.end(f"process 0 {self._was_lost(0)}")

        self._handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(aborted)  # C keeps no reference
        ctypes.CDLL(None).signal(int(signal.SIGABRT), self._handler)


@contextlib.contextmanager
def without_stack_traces() -> Iterator[None]:
    """Context in which `jax.distributed.initialize` creates a client that logs no stack traces.

    The client ends the process if process 0 is lost. By default it logs a fatal error with a C++
    stack trace; with a callback, which `initialize` cannot pass, it does not.
    """
    library = vars(jax_distributed)["_jax"]  # has no public name
    create = library.get_distributed_runtime_client
    library.get_distributed_runtime_client = functools.partial(
        create, missed_heartbeat_callback=lambda *status: os.abort()
    )
    try:
        yield
    finally:
        library.get_distributed_runtime_client = create
