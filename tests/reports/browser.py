"""A real browser, driven over two pipes by its DevTools protocol."""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "chrome"))), None)

_FLAGS = (
    *("--headless=new", "--remote-debugging-pipe", "--no-sandbox", "--disable-gpu"),
    *("--no-first-run", "--disable-extensions", "--disable-background-networking"),
)


class Browser:
    """A page in a headless Chromium.

    Args:
      profile: An empty folder.

    Attributes:
      events: What the page has told, in order: requests, exceptions, lines of its console.
    """

    def __init__(self, profile: Path):
        # The protocol's own numbers: commands are read from 3, and answers written to 4.
        commands, self._commands = os.pipe()
        self._answers, answers = os.pipe()
        flags = [*_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        command = f"exec {CHROMIUM} {shlex.join(flags)} 3<&{commands} 4>&{answers}"
        with open(profile / "chromium.log", "w") as log:
            self._process = subprocess.Popen(
                ["bash", "-c", command], pass_fds=(commands, answers), stdout=log, stderr=log
            )
        os.close(commands)
        os.close(answers)
        self.events: list[dict[str, Any]] = []
        self._read, self._number, self._session = b"", 0, None
        targets = self.ask("Target.getTargets")["targetInfos"]
        target = next(t["targetId"] for t in targets if t["type"] == "page")
        self._session = self.ask("Target.attachToTarget", targetId=target, flatten=True)[
            "sessionId"
        ]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.ask(f"{domain}.enable")

    def __enter__(self) -> Browser:
        return self

    def __exit__(self, *exception) -> None:
        self._session = None
        with contextlib.suppress(OSError, AssertionError):
            self.ask("Browser.close")
        self._process.wait(30)
        os.close(self._commands)
        os.close(self._answers)

    def ask(self, method: str, **params) -> Any:
        """Sends a command, and returns its answer."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, (method, answer["error"])
                return answer["result"]
            self.events.append(answer)

    def open(self, path: Path, width: int = 1280, height: int = 900, mobile: bool = False) -> None:
        """Shows a file once it is loaded; on a phone fingers are coarse."""
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile},
        )
        self.ask("Emulation.setTouchEmulationEnabled", enabled=mobile)
        self.events.clear()
        self.ask("Page.navigate", url=path.as_uri())
        self._wait("Page.loadEventFired")

    def value(self, expression: str) -> Any:
        """Of an expression of the page's language, as JSON has it."""
        found = self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str, code: int) -> None:
        """Presses a key and lets it go."""
        for kind in ("keyDown", "keyUp"):
            self.ask(
                "Input.dispatchKeyEvent",
                **{"type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code},
            )

    def click(self, x: float, y: float) -> None:
        """Presses the mouse at a place of the window and lets it go."""
        for kind in ("mousePressed", "mouseReleased"):
            self.ask(
                "Input.dispatchMouseEvent",
                **{"type": kind, "x": x, "y": y, "button": "left", "clickCount": 1},
            )

    def told(self, method: str) -> list[dict[str, Any]]:
        """Events of a kind."""
        return [event["params"] for event in self.events if event.get("method") == method]

    def _wait(self, method: str) -> None:
        while not self.told(method):
            self.events.append(self._next())

    def _next(self, timeout: float = 60) -> dict[str, Any]:
        end = time.monotonic() + timeout
        while b"\0" not in self._read:
            ready, _, _ = select.select([self._answers], [], [], max(end - time.monotonic(), 0))
            assert ready, f"the browser has not answered in {timeout} s"
            more = os.read(self._answers, 1 << 20)
            assert more, "the browser has ended"
            self._read += more
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)
