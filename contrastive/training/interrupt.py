"""Stops training on a signal, between two steps."""

from __future__ import annotations

import signal
import threading


class Interrupt:
    """Context in which SIGTERM and the first Ctrl-C set `asked`.

    A second Ctrl-C interrupts immediately. Outside the main thread, signals have no effect.
    """

    def __init__(self):
        self.asked = False
        self._before = {}

    def __enter__(self) -> Interrupt:
        # Python delivers signals to the main thread only, and other threads cannot set handlers.
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(self, *exception) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _ask(self, number, frame) -> None:
        del frame
        self.asked = True
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)
