"""A headless Chromium, driven over its DevTools pipe: no server, no driver, no network."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

OPTIONS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip
PATIENCE_S = 40.0
KEYS = {"Tab": 9, "Enter": 13, "Escape": 27, "ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39,
        "ArrowDown": 40}  # fmt: skip


def installed() -> str | None:
    """The path of a Chromium, or None."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


class Browser:
    """One browser with one page; a context.

    `errors` collects what pages wrote to the console as errors or warnings, and exceptions that
    nobody caught; `requests` every address that was asked for.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._folder = tempfile.mkdtemp(prefix="nas-browser-")
        self._number, self._buffer = 0, b""
        self._answers: dict[int, dict[str, Any]] = {}
        self._session = ""

    def __enter__(self) -> Self:
        program = installed()
        assert program is not None
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # moved out of the way, so that neither is overwritten before it is copied to 3 and 4
        there = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (to_read, to_write)]
        quiet = os.open(os.devnull, os.O_RDWR)
        moves = [(os.POSIX_SPAWN_DUP2, quiet, 1), (os.POSIX_SPAWN_DUP2, quiet, 2),
                 (os.POSIX_SPAWN_DUP2, there[0], 3),
                 (os.POSIX_SPAWN_DUP2, there[1], 4)]  # fmt: skip
        self._process = os.posix_spawn(
            program, [program, *OPTIONS, f"--user-data-dir={self._folder}", "about:blank"],
            os.environ, file_actions=moves, setpgroup=0,
        )  # fmt: skip
        for end in (to_read, to_write, *there, quiet):
            os.close(end)
        targets = self._call("Target.getTargets")["targetInfos"]
        page = next(t["targetId"] for t in targets if t["type"] == "page")
        joined = self._call("Target.attachToTarget", targetId=page, flatten=True)
        self._session = joined["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self._call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._folder, ignore_errors=True)

    def open(self, path: Path, width: int = 1440, height: int = 900, dark: bool = False) -> None:
        """Loads a file at a size and in a scheme, and waits until its scripts have drawn it."""
        self.errors.clear()
        self.requests.clear()
        self._call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                   deviceScaleFactor=1, mobile=width < 500)  # fmt: skip
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", features=[scheme])
        self._call("Page.navigate", url=path.absolute().as_uri())
        self.until("document.documentElement?.dataset.drawn === 'yes'")

    def tell(self, script: str) -> Any:
        """The value of an expression in the page. Raises: AssertionError with what it threw."""
        given = self._call("Runtime.evaluate", expression=script, returnByValue=True,
                           awaitPromise=True, userGesture=True)  # fmt: skip
        assert "exceptionDetails" not in given, given["exceptionDetails"]
        return given["result"].get("value")

    def until(self, script: str) -> None:
        """Waits until an expression is true. Raises: AssertionError where it never is."""
        last = time.monotonic() + PATIENCE_S
        while not self.tell(script):
            assert time.monotonic() < last, f"never true: {script}; errors: {self.errors}"
            select.select([], [], [], 0.02)

    def click(self, selector: str) -> None:
        """Presses what a selector names with the pointer, where it is on the screen."""
        x, y = self._middle(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def hover(self, selector: str) -> None:
        """Moves the pointer to what a selector names."""
        x, y = self._middle(selector)
        self._call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str) -> None:
        """Presses a key: one of `KEYS`, or a character."""
        code = KEYS.get(key, ord(key[0].upper()))
        text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
        for kind in ("keyDown", "keyUp"):
            extra = {"text": text} if text and kind == "keyDown" else {}
            self._call("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=code,
                       **extra)  # fmt: skip

    def picture(self, path: Path, whole: bool = True) -> None:
        """Writes what the page looks like, from top to end."""
        size = self.tell("({w: innerWidth, h: document.documentElement.scrollHeight})")
        clip = {"x": 0, "y": 0, "width": size["w"], "height": size["h"], "scale": 1}
        options = {"captureBeyondViewport": True, "clip": clip} if whole else {}
        path.write_bytes(
            base64.b64decode(self._call("Page.captureScreenshot", format="png", **options)["data"])
        )

    def _middle(self, selector: str) -> tuple[float, float]:
        quoted = json.dumps(selector)
        self.tell(f"document.querySelector({quoted}).scrollIntoView({{block: 'center', "
                  "behavior: 'instant'})")  # fmt: skip
        # a scroll is told of with the next frame, and hides what the pointer would show
        self.tell("new Promise((r) => requestAnimationFrame(() => requestAnimationFrame(r)))")
        box = self.tell(f"document.querySelector({quoted}).getBoundingClientRect().toJSON()")
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    def _call(self, method: str, **given: Any) -> dict[str, Any]:
        self._number += 1
        asked: dict[str, Any] = {"id": self._number, "method": method, "params": given}
        if self._session:
            asked["sessionId"] = self._session
        os.write(self._to, json.dumps(asked).encode() + b"\0")
        last = time.monotonic() + PATIENCE_S
        while self._number not in self._answers:
            assert time.monotonic() < last, f"the browser does not answer {method}"
            if select.select([self._from], [], [], 1.0)[0]:
                data = os.read(self._from, 1 << 20)
                assert data, "the browser is gone"
                self._take(data)
        answer = self._answers.pop(self._number)
        assert "error" not in answer, (method, answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _take(self, data: bytes) -> None:
        *whole, self._buffer = (self._buffer + data).split(b"\0")
        for text in whole:
            message = json.loads(text)
            if "id" in message:
                self._answers[message["id"]] = message
            else:
                self._note(message.get("method", ""), message.get("params", {}))

    def _note(self, method: str, given: dict[str, Any]) -> None:
        if method == "Runtime.exceptionThrown":
            details = given["exceptionDetails"]
            self.errors.append(details.get("exception", {}).get("description", details["text"]))
        elif method == "Runtime.consoleAPICalled" and given["type"] in ("error", "warning"):
            self.errors.append(str([a.get("value") for a in given["args"]]))
        elif method == "Log.entryAdded" and given["entry"]["level"] in ("error", "warning"):
            self.errors.append(given["entry"]["text"])
        elif method == "Network.requestWillBeSent":
            self.requests.append(given["request"]["url"])
