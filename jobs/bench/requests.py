"""Requests to object storage per clip: what a run really sends, retries included.

Small clips are rendered into a folder of the bucket with one process (executor=serial), and then the same job runs
again with nothing to do. Requests are counted where the HTTP client sends them. Those for a clip's files are counted
per clip, and those for the portraits, which clips share, per portrait. The others are the run's own (lock, plan,
listings, tables, report), which hardly depend on the number of clips.
"""

import asyncio
import contextlib
import io
import json
import threading
import urllib.parse
import wave
from collections import Counter
from collections.abc import Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np
from aiobotocore.httpsession import AIOHTTPSession

from jobs.bench.job import DEMO, Figures
from pipeline.common.errors import RefusedError
from pipeline.qc.settings import QcSettings
from pipeline.render.settings import EngineSettings
from pipeline.run.prepare_run import prepare_run
from pipeline.run.render_loop import RenderLoop
from pipeline.run.settings import RenderSettings
from pipeline.storage.model_cache import POCKET
from pipeline.storage.objects import filesystem, write_bytes
from pipeline.storage.run_lock import new_run_id
from pipeline.storage.uris import join, scheme

CLIPS, PORTRAITS = 8, 2

KINDS = ("GET", "HEAD", "LIST", "PUT", "DELETE", "POST")

CLIP, PORTRAIT = "counted-clip-", "counted-portrait-"
"""Starts of the names of the measured clips and portraits; no other names contain them."""

RENDERING = "render_"
"""Start of the name of the engine's rendering thread."""

_caller: ContextVar[str] = ContextVar("caller", default="")


@dataclass(frozen=True)
class Request:
    """One request, as the HTTP client sends it."""

    kind: str
    """One of `KINDS`: the method, or LIST."""
    key: str
    """The object's path, or the prefix of a listing."""
    thread: str
    """Name of the thread that waits for the answer."""


@dataclass
class RequestLog:
    """Records every request of this process to S3 as long as its context lasts."""

    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> "RequestLog":
        send, schedule = AIOHTTPSession.send, asyncio.run_coroutine_threadsafe

        async def recorded(session: Any, request: Any) -> Any:
            self.requests.append(_request(request.method, request.url))
            return await send(session, request)

        def scheduled(coroutine: Any, loop: Any) -> Any:
            # The event loop copies the context of the thread that schedules, and tasks inherit it.
            _caller.set(threading.current_thread().name)
            return schedule(coroutine, loop)

        self._patches = contextlib.ExitStack()
        self._patches.enter_context(mock.patch.object(AIOHTTPSession, "send", recorded))
        self._patches.enter_context(mock.patch.object(asyncio, "run_coroutine_threadsafe", scheduled))
        return self

    def __exit__(self, *error: object) -> None:
        self._patches.close()

    def naming(self, name: str) -> list[Request]:
        """The requests whose key contains `name`."""
        return [request for request in self.requests if name in request.key]


def _request(method: str, url: str) -> Request:
    parts = urllib.parse.urlsplit(url)
    query = urllib.parse.parse_qs(parts.query)
    if "list-type" in query:
        return Request("LIST", query.get("prefix", [""])[0], _caller.get())
    return Request(method, urllib.parse.unquote(parts.path), _caller.get())


@dataclass
class Counted:
    """The requests of one run."""

    name: str
    clips: int
    portraits: int
    log: RequestLog

    def per_clip(self, kind: str = "", thread: str = "") -> float:
        """Number of requests per clip; of one kind, or of the threads whose name starts with `thread`."""
        found = [r for r in self.log.naming(CLIP) if kind in ("", r.kind) and r.thread.startswith(thread)]
        return len(found) / self.clips

    @property
    def per_portrait(self) -> float:
        """Number of requests per portrait. Threads of the plan that start together ask for the same one."""
        return len(self.log.naming(PORTRAIT)) / self.portraits

    @property
    def of_the_run(self) -> int:
        """Number of requests for neither a clip nor a portrait."""
        return len(self.log.requests) - len(self.log.naming(CLIP)) - len(self.log.naming(PORTRAIT))

    def line(self) -> str:
        """The figures as a line of the table."""
        numbers = "".join(f"{self.per_clip(kind):8.2f}" for kind in (*KINDS, ""))
        return f"{self.name:16}{numbers}{self.per_portrait:10.2f}{self.of_the_run:9}"

    def places(self) -> str:
        """Which files of a clip the requests are for."""
        found = Counter((request.key.rstrip("/").split("/")[-2], request.kind) for request in self.log.naming(CLIP))
        return ", ".join(f"{place}/ {kind} {count / self.clips:.2f}" for (place, kind), count in sorted(found.items()))


def count_requests(
    folder: str, *, clips: int = CLIPS, portraits: int = PORTRAITS, model: str = POCKET
) -> list[Counted]:
    """Requests of a first run over `clips` clips and of a second one with nothing to do.

    `folder` is an s3:// URI; what is written below it is removed again. Raises RefusedError for another place, or if a
    clip is not rendered.
    """
    if scheme(folder) != "s3":
        raise RefusedError(f"requests: {folder!r} is not an s3:// folder")
    base = join(folder, f"floatcast-requests-{new_run_id()}")
    try:
        manifest = _write_inputs(join(base, "in"), clips, portraits)
        settings = RenderSettings(
            manifest=manifest,
            output=join(base, "out"),
            model=model,
            executor="serial",
            render=EngineSettings(mode="eager"),
            qc=QcSettings(max_takes=1),
        )
        return [_counted(name, clips, portraits, settings) for name in ("first run", "nothing to do")]
    finally:
        fs, path = filesystem(base)
        with contextlib.suppress(FileNotFoundError):
            fs.rm(path, recursive=True)


def _counted(name: str, clips: int, portraits: int, settings: RenderSettings) -> Counted:
    with RequestLog() as log:
        loop = RenderLoop(prepare_run(settings))
        outcome = loop.render()
    done = loop.run.tally.statuses["done"]
    if outcome.problems or done != clips:
        raise RefusedError(f"requests: only {done} of {clips} clips are done: {outcome.problems}")
    return Counted(name, clips, portraits, log)


def _write_inputs(folder: str, clips: int, portraits: int) -> str:
    """Upload a manifest of clips of a second each, with portraits of the demo; returns its URI."""
    images = sorted((DEMO.parent / "media").glob("portrait_2*.png"))
    names = [f"{PORTRAIT}{i}.png" for i in range(portraits)]
    for i, name in enumerate(names):
        write_bytes(images[i % len(images)].read_bytes(), join(folder, name))
    rows = []
    for i in range(clips):
        write_bytes(_sound(seed=i), join(folder, f"{CLIP}{i}.wav"))
        rows.append({"clip_id": f"{CLIP}{i}", "image": names[i % portraits], "audio": f"{CLIP}{i}.wav"})
    manifest = join(folder, "manifest.jsonl")
    write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode(), manifest)
    return manifest


def _sound(seed: int) -> bytes:
    """A second of quiet noise as WAV."""
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16_000)
        noise = np.random.default_rng(seed).standard_normal(16_000)
        file.writeframes((noise * 1000).astype("<i2").tobytes())
    return buffer.getvalue()


def measure_requests(folder: str) -> Figures:
    """Print both runs as a table; returns their figures."""
    print(f"requests to object storage: {CLIPS} clips with {PORTRAITS} portraits, in {folder} ...", flush=True)
    counted = count_requests(folder, clips=CLIPS, portraits=PORTRAITS)
    print(requests_table(counted))
    figures: Figures = {}
    for run in counted:
        name = run.name.replace(" ", "_")
        figures |= {f"{name}_{kind.lower()}_requests_a_clip": run.per_clip(kind) for kind in KINDS}
        figures[f"{name}_requests_a_clip"] = run.per_clip()
        figures[f"{name}_requests_a_portrait"] = run.per_portrait
        figures[f"{name}_requests_of_the_run"] = run.of_the_run
    return figures


def requests_table(counted: Sequence[Counted]) -> str:
    """The figures as text."""
    head = "requests a clip " + "".join(f"{kind:>8}" for kind in (*KINDS, "sum"))
    lines = [f"{head}{'portrait':>10}{'the run':>9}", *(run.line() for run in counted)]
    for run in counted:
        rendering = run.per_clip(thread=RENDERING)
        lines.append(f"{run.name}: {run.places()}; {rendering:.2f} of them by the rendering thread")
    return "\n".join(lines)
