"""Handles requests to stop a command, and the exit status that tells of them."""

from __future__ import annotations

import contextlib
import signal
import sys
from collections.abc import Iterator

STOPPED = 75
"""Exit status of a command that was asked to stop: EX_TEMPFAIL of sysexits.h, "try again".

It is the same for all signals, so that a scheduler needs one rule to requeue a job, and it is not
128 + signal, which is what a process that could not save anything ends with."""

INTERRUPTED = 128 + signal.SIGINT
"""Exit status of a command that has nothing to resume, such as `encode`, after Ctrl-C."""

BROKEN_PIPE = 128 + signal.SIGPIPE
"""Exit status of a command whose output is no longer read, as of other programs."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Context of work that the same command resumes after it was asked to stop.

    SIGTERM raises KeyboardInterrupt like Ctrl-C; the training loop saves before it raises one.

    Raises:
      SystemExit: With `STOPPED`, if the work was asked to stop before its end.
    """
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    except KeyboardInterrupt as stopped:
        saved = str(stopped) or "Everything saved so far is intact"
        print(f"Stopped. {saved}; run the same command again to resume.", file=sys.stderr)
        sys.exit(STOPPED)
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL if before is None else before)
