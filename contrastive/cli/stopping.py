"""Handles requests to stop a command."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Treats SIGTERM like Ctrl-C outside of the training loop, which saves before it stops."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt:
        print("Stopped. Everything saved so far is intact; run the same command again to resume.")
