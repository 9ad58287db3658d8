"""Commands that may be asked to stop."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Before and after the loop, which saves first, being asked to stop is an interrupt."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped; nothing that was saved is lost. The same command goes on from there.")
