"""A real browser for pages that we write: headless Chromium over its debugging pipe: no port, no driver."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest

_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


def chromium() -> str | None:
    """Where the browser is; None where it is not installed."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


#: A missing browser skips on a laptop and fails in CI.
needs_chromium = pytest.mark.skipif(chromium() is None and "CI" not in os.environ, reason="chromium is not installed")


@dataclass
class Seen:
    """What a page did while it was looked at."""

    #: Addresses that it asked for.
    requests: list[str] = field(default_factory=list)
    #: What it said, and what went wrong in it.
    console: list[str] = field(default_factory=list)


class Browser:
    """One browser with one page at a time."""

    def __init__(self) -> None:
        """Nothing runs before `__enter__`."""
        self._number = 0
        self._session = ""
        self.seen = Seen()

    def __enter__(self) -> Browser:
        program = chromium()
        assert program is not None, "chromium is not installed"
        self._folder = tempfile.mkdtemp(prefix="benchfarm-browser-")
        to_read, self._to = os.pipe()
        self._from, to_write = os.pipe()
        # It reads descriptor 3 and writes descriptor 4.
        line = f'exec "$0" "$@" 3<&{to_read} 4>&{to_write}'
        self._process = subprocess.Popen(
            ["bash", "-c", line, program, *_FLAGS, f"--user-data-dir={self._folder}", "about:blank"],
            pass_fds=(to_read, to_write),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(to_read)
        os.close(to_write)
        self._left = b""
        [page] = [one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page"][:1]
        attached = self.call("Target.attachToTarget", targetId=page["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.call(f"{domain}.enable")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.terminate()
        self._process.wait(20)
        os.close(self._to)
        os.close(self._from)
        shutil.rmtree(self._folder, ignore_errors=True)

    def call(self, method: str, **parameters: Any) -> Any:
        """Ask the browser, and note what it tells meanwhile."""
        self._number += 1
        message: dict[str, Any] = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._to, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self._note(answer)

    def open(self, path: Path, *, width: int = 1600, height: int = 1000, dark: bool = False) -> Seen:
        """Show a file and wait until it says that its charts are drawn, or that it has none."""
        self.seen = Seen()
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])
        self.call("Page.navigate", url=path.as_uri())
        deadline = time.monotonic() + 60
        drawn = "document.readyState === 'complete' && (document.documentElement.dataset.drawn ?? '') !== ''"
        while not self.value(drawn):
            assert time.monotonic() < deadline, f"nothing was drawn: {self.seen}"
            time.sleep(0.1)
        return self.seen

    def value(self, expression: str) -> Any:
        """What an expression is in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, path: Path, *, whole: bool = True) -> None:
        """Take a picture of the page, by default of all of it."""
        answer = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=whole)
        path.write_bytes(base64.b64decode(answer["data"]))

    def _read(self) -> dict[str, Any]:
        while b"\0" not in self._left:
            more = os.read(self._from, 1 << 16)
            assert more, "the browser ended"
            self._left += more
        line, _, self._left = self._left.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        return message

    def _note(self, message: dict[str, Any]) -> None:
        method, told = message.get("method"), message.get("params", {})
        if method == "Network.requestWillBeSent":
            self.seen.requests.append(told["request"]["url"])
        elif method == "Runtime.consoleAPICalled":
            self.seen.console.append(f"{told['type']}: {[one.get('value') for one in told['args']]}")
        elif method == "Runtime.exceptionThrown":
            self.seen.console.append(f"exception: {told['exceptionDetails']}")
        elif method == "Log.entryAdded":
            self.seen.console.append(f"{told['entry']['level']}: {told['entry']['text']}")
