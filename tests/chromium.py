"""A real headless Chromium, driven through its DevTools protocol over two pipes."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import time

NAME = next(filter(shutil.which, ("chromium", "chromium-browser", "google-chrome")), None)


class Browser:
    """One page. Use as a context manager."""

    def __enter__(self):
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        command_in, self._out = os.pipe()
        self._in, answers_out = os.pipe()
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run"]
        command = [NAME, *flags, f"--user-data-dir={self._folder.name}", "--remote-debugging-pipe"]
        script = f'exec "$@" 3<&{command_in} 4>&{answers_out}'  # where Chromium looks for its pipes
        self._process = subprocess.Popen(
            ["bash", "-c", script, "chromium", *command, "about:blank"],
            pass_fds=(command_in, answers_out),
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        os.close(command_in)
        os.close(answers_out)
        self._number, self._session, self._buffer, self.errors = 0, None, b"", []
        targets = self.command("Target.getTargets")["targetInfos"]
        page = next(target for target in targets if target["type"] == "page")
        self._session = self.command("Target.attachToTarget", targetId=page["targetId"], flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.command(f"{domain}.enable")
        self.command("Emulation.setFocusEmulationEnabled", enabled=True)
        return self

    def __exit__(self, *error):
        with contextlib.suppress(OSError):
            self._session = None
            self.command("Browser.close")
        self._process.wait(timeout=120)
        os.close(self._in)
        os.close(self._out)
        self._folder.cleanup()

    def command(self, method, **parameters):
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer["error"]
                return answer["result"]

    def _read(self):
        while b"\0" not in self._buffer:
            data = os.read(self._in, 1 << 20)
            assert data, "Chromium ended"
            self._buffer += data
        text, self._buffer = self._buffer.split(b"\0", 1)
        answer = json.loads(text)
        if answer.get("method") == "Runtime.exceptionThrown":
            self.errors.append(answer["params"]["exceptionDetails"].get("exception", {}).get("description"))
        if answer.get("method") == "Log.entryAdded" and answer["params"]["entry"]["level"] == "error":
            self.errors.append(answer["params"]["entry"]["text"])
        return answer

    def open(self, url):
        self.command("Page.navigate", url="about:blank")
        self.command("Page.navigate", url=url)
        self.wait("document.readyState === 'complete'")

    def reload(self):
        self.run("window.old = true")
        self.command("Page.reload")
        self.wait("!window.old && document.readyState === 'complete'")

    def run(self, script):
        """Value of an expression in the page."""
        found = self.command("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def wait(self, script, seconds=120):
        end = time.monotonic() + seconds
        while not self.run(script):
            assert time.monotonic() < end, f"never true: {script}"
            time.sleep(0.05)

    def key(self, key, code=None):
        for kind in ("keyDown", "keyUp"):
            text = {"text": key} if len(key) == 1 and kind == "keyDown" else {}
            number = {"Escape": 27, "Enter": 13}.get(key, 0)
            self.command("Input.dispatchKeyEvent", type=kind, key=key, windowsVirtualKeyCode=number, **text)

    def resize(self, width, height, *, scheme="light", phone=False):
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=phone
        )
        self.command("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def screenshot(self, path):
        data = self.command("Page.captureScreenshot", format="png")["data"]
        path.write_bytes(base64.b64decode(data))
