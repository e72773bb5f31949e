"""The render stage (GPU): features -> motion -> frames -> delivered MP4. Runs without Ray.

Clips take slots (`pipeline.render.continuous_batching`); in every round the next window of each is sampled in one
batch, and its frames are decoded and handed to the clip's encoder before the next round. So a clip never has more
than a window of motion and a queue of frames in memory, however long it is. Encoding, verification and upload go on
in background threads. Decoded frames never leave the process.
"""

import hashlib
import logging
import os
import queue
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from models import ModelFolder, Portrait, load_float
from models.flow import NfeExhaustedError
from models.sampling import choose_sampler
from pipeline.common.errors import ClipError
from pipeline.common.malloc import keep_memory
from pipeline.common.watchdog import Watchdog
from pipeline.ledger.clip_row import StatusRow, clip_row, emotion_text, emotion_weights, error_row
from pipeline.ledger.ledger import Ledger
from pipeline.media.c2pa import open_signer
from pipeline.media.h264 import check_encoder
from pipeline.media.mp4 import VideoWriter, verify_mp4
from pipeline.media.settings import ProvenanceSettings, VideoSettings, parse_fps
from pipeline.media.xmp import mark
from pipeline.render.continuous_batching import Advance, MotionInputs, MotionSlots
from pipeline.render.feature_stage import ClipFeatures
from pipeline.render.model_runner import Compute, choose_mode
from pipeline.render.motion_resampler import MotionResampler
from pipeline.render.settings import EngineSettings
from pipeline.storage.model_cache import cache_folder

logger = logging.getLogger(__name__)

BROKEN = 13
"""Exit status of a process whose CUDA context is broken."""


def choose_slots(slots: int, *, gpu: bool) -> int:
    """Clips at a time where `slots` is 0. One is as fast as several on a CPU (models/README.md); the GPU's number is a
    guess, as nothing has been measured there."""
    return slots or (8 if gpu else 1)


@dataclass(eq=False)
class _Job:
    """One clip on its way through the engine."""

    item: ClipFeatures
    ended: Future[StatusRow] = field(default_factory=Future)
    portrait: Portrait | None = None
    resampler: MotionResampler | None = None
    pending: Tensor | None = None
    """Motion latents (n,D) that do not fill a batch of frames yet."""
    path: Path | None = None
    writer: VideoWriter | None = None
    begun: float = 0.0
    """Of `time.perf_counter`."""
    attempt: int = 1
    seconds: dict[str, float] = field(default_factory=dict)

    def spend(self, step: str, since: float) -> None:
        """Count the time since `since` (of `time.perf_counter`) to a step."""
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - since


class Engine:
    """Renders clips. One instance per worker process: it holds the model on its device."""

    def __init__(
        self,
        model: ModelFolder,
        settings: EngineSettings,
        video: VideoSettings,
        ledger: Ledger,
        provenance: ProvenanceSettings | None = None,
    ) -> None:
        torch.set_num_threads(max(1, int(settings.num_cpus)))
        device = settings.device
        if device == "auto":
            device = "cuda" if settings.num_gpus > 0 else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise RuntimeError(
                "this worker is to render on a GPU, but PyTorch sees none: install a CUDA build of PyTorch on the GPU "
                "nodes, or set render.device=cpu"
            )
        self._settings = settings
        check_encoder(video)  # one that does not open here is found out now, not with the first clip
        self._signer = open_signer(provenance)  # as is a certificate that does not sign
        self._video = video
        self._fps = parse_fps(video.fps)
        self._ledger = ledger
        self._device = torch.device(device)
        if device == "cpu":
            keep_memory()
        mode = choose_mode(settings.mode, gpus=settings.num_gpus, seconds=0)
        slots = choose_slots(settings.slots, gpu=device == "cuda")
        self._size = model.config.image_size
        self._compute = Compute(
            load_float(model, self._device),
            mode=mode,
            frame_batch=settings.frame_batch or (32 if device == "cuda" else 4),
            portraits=settings.portrait_cache,
            weights=model.hash,
            cache=cache_folder() / "compiled",
        )
        self._slots = MotionSlots(self._compute, slots, solver=settings.solver, tolerance=settings.tolerance)
        self._waiting: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        self._rendering: dict[int, _Job] = {}
        """Clip of each slot that is taken; only the rendering thread touches it."""
        self._renderer = ThreadPoolExecutor(1, "render")
        self._finisher = ThreadPoolExecutor(slots + 1, "finish")
        # As many clips as are rendered may wait for the end of their encoding or upload: that bounds their memory.
        self._room = threading.BoundedSemaphore(slots + 1)
        self._begun: set[_Job] = set()
        """Clips whose attempt has begun and has no end yet."""
        self._closing = False
        self._watchdog = Watchdog(settings.clip_minutes)
        self._scratch = tempfile.TemporaryDirectory(prefix="floatcast-", ignore_cleanup_errors=True)
        self._columns: StatusRow = {
            "model": model.name,
            "model_hash": model.hash,
            "model_trained": model.trained,
            "solver": choose_sampler(model.config.objective, settings.solver),
        }
        self._tags = {"comment": f"AI-generated talking portrait; Floatcast, model {model.name} {model.hash[:12]}"}

    def process(self, items: Sequence[ClipFeatures | StatusRow]) -> Iterator[StatusRow]:
        """One status row per item, whatever happens to a clip; rows of earlier stages pass through.

        All of them are taken at once, and their rows come in order as clips end. Threads may call this at the same
        time: clips of the later call take the slots that the earlier one leaves free.
        """
        ended = [item if isinstance(item, dict) else self.submit(item).result for item in items]
        return ((row if isinstance(row, dict) else row()) | self._columns for row in ended)

    def submit(self, item: ClipFeatures) -> Future[StatusRow]:
        """Render one clip as soon as a slot is free; the future gives its row, and never an error."""
        job = _Job(item)
        self._waiting.put(job)
        self._renderer.submit(self._render_all)
        return job.ended

    @property
    def queued_frames(self) -> int:
        """Decoded frames that wait for an encoder; may be called from any thread."""
        return sum(job.writer.queued for job in list(self._begun) if job.writer is not None)

    def close(self) -> None:
        """Give up what is not rendered, wait for the ends of what is, and remove temporary files."""
        self._closing = True
        self._renderer.shutdown(cancel_futures=True)
        while not self._waiting.empty():  # the rendering thread had not come to them
            _fail(self._waiting.get(), _interrupted())
        self._finisher.shutdown()
        self._watchdog.close()
        self._scratch.cleanup()

    # --- The rendering thread ----------------------------------------------------------------------------------

    def _render_all(self) -> None:
        """Render until no clip is left; returns at once where an earlier call has rendered all."""
        torch.set_num_threads(max(1, int(self._settings.num_cpus)))  # a thread has its own number
        try:
            self._rounds()
        except Exception as error:  # a bug outside of what is guarded: nobody may wait for a clip for ever
            for slot, job in list(self._rendering.items()):
                self._slots.release(slot)
                _fail(job, error)
                self._leave(job)
            self._rendering.clear()
            while not self._waiting.empty():
                _fail(self._waiting.get(), error)

    def _rounds(self) -> None:
        while True:
            while self._slots.free and not self._waiting.empty():
                job = self._waiting.get()
                try:
                    self._take(job)
                except Exception as error:
                    _fail(job, error)  # it may wait for a slot, and be in no list yet
                    raise
            if not self._rendering:
                return
            self._round()

    def _take(self, job: _Job) -> None:
        """Put a clip into a free slot, unless it has its end already.

        One that a worker died with is rendered with no other beside it, so that a second death is its own.
        """
        deaths = _guarded(job, self._deaths)
        if deaths is None:
            return
        if deaths:
            self._wait_for_ends()
        admitted = _guarded(job, partial(self._admit, deaths=deaths))
        if admitted is None:
            self._leave(job)
        if deaths:
            self._wait_for_ends()

    def _wait_for_ends(self) -> None:
        """Render what is in the slots, and wait for the ends of clips in the background too."""
        while self._begun:
            if self._rendering:
                self._round()
            else:
                time.sleep(0.05)

    def _deaths(self, job: _Job) -> int | None:
        """Workers that died with the clip; None, and the job ended, where it is done already."""
        clip = job.item.clip
        row = self._ledger.read(clip.clip_id, clip.fingerprint)
        if row is not None:
            job.ended.set_result(row)
            return None
        return self._ledger.deaths(clip, "render")

    def _admit(self, job: _Job, deaths: int) -> int:
        """Encode the portrait and take a slot."""
        item, clip = job.item, job.item.clip
        job.attempt = deaths + 1
        self._begun.add(job)
        self._watchdog.begin(clip.clip_id)
        self._ledger.begin(clip, "render", deaths)
        start = job.begun = time.perf_counter()
        job.portrait = self._compute.portrait(item.portrait)
        job.spend("portrait", start)
        job.resampler = MotionResampler(len(item.speech), item.frames, self._fps)
        scales = (clip.a_cfg_scale, clip.e_cfg_scale, clip.r_cfg_scale)
        motion = job.portrait.motion[0]
        slot = self._slots.admit(
            MotionInputs(item.speech, item.emotion, motion, scales, clip.seed, clip.nfe, item.pose)
        )
        self._rendering[slot] = job
        return slot

    def _round(self) -> None:
        """Sample the next window of every clip, and decode it."""
        if self._closing:
            raise _interrupted()
        start, sharing = time.perf_counter(), len(self._rendering)
        for advance in self._slots.advance():
            job = self._rendering[advance.slot]
            job.seconds["sample"] = job.seconds.get("sample", 0.0) + (time.perf_counter() - start) / sharing
            decoded = _guarded(job, partial(self._decode, advance=advance))
            if not decoded or advance.last:
                del self._rendering[advance.slot]
                self._slots.release(advance.slot)
                self._leave(job)
            start = time.perf_counter()

    def _decode(self, job: _Job, advance: Advance) -> bool:
        """Decode the frames that a window completes, in full batches until the clip's last; True."""
        if advance.error is not None:
            raise advance.error
        spent = (time.perf_counter() - job.begun) / 60
        if spent > self._settings.clip_minutes:
            limit = f"render.clip_minutes = {self._settings.clip_minutes:g}"
            raise ClipError("timed_out", f"not done after {spent:.1f} minutes: raise {limit}, or cut the clip")
        assert job.portrait is not None
        assert job.resampler is not None
        assert advance.motion is not None
        if job.writer is None:
            job.path = Path(self._scratch.name) / f"{id(job)}.mp4"
            tags = self._tags | {"title": job.item.clip.clip_id}
            job.writer = VideoWriter(job.path, size=self._size, settings=self._video, aac=job.item.aac, tags=tags)
        motion = job.resampler.push(advance.motion)
        if job.pending is not None:
            motion = torch.cat([job.pending, motion])
        whole = len(motion) if advance.last else len(motion) - len(motion) % self._compute.frame_batch
        job.pending = motion[whole:]
        start = time.perf_counter()
        for batch in self._compute.frames(job.portrait, motion[:whole]):
            job.spend("decode", start)
            start = time.perf_counter()
            job.writer.write(batch)
            job.spend("encoder_wait", start)
            start = time.perf_counter()
        return True

    def _leave(self, job: _Job) -> None:
        """A clip has no more frames, or failed: the rest goes on in the background."""
        job.portrait = job.pending = job.resampler = None
        self._room.acquire()
        self._finisher.submit(self._finish_guarded, job)

    # --- Background threads ------------------------------------------------------------------------------------

    def _finish_guarded(self, job: _Job) -> None:
        clip = job.item.clip
        try:
            row = None
            if not job.ended.done():
                row = _guarded(job, self._finish)
            elif job.writer is not None:
                job.writer.abandon()
            if job.path is not None:
                job.path.unlink(missing_ok=True)
            self._ledger.end(clip, "render")
            if row is not None:
                job.ended.set_result(row)
        finally:
            self._watchdog.end(clip.clip_id)
            self._begun.discard(job)
            self._room.release()

    def _finish(self, job: _Job) -> StatusRow:
        """Wait for the encoder, mark the file, sign it, verify it, store it; only then is the clip done."""
        start = time.perf_counter()
        item, writer, path = job.item, job.writer, job.path
        assert writer is not None
        assert path is not None
        writer.close()
        made = {
            "clip_id": item.clip.clip_id,
            "model": self._columns["model"],
            "model_hash": self._columns["model_hash"],
        }
        mark(path, **made)
        if self._signer is not None:
            self._signer.sign(path, **made)  # the last change of the file: any later one would break it
        delivered = verify_mp4(path, frames=item.frames, fps=self._fps)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        row = clip_row(item.clip) | {
            "status": "done",
            "attempt": job.attempt,
            "emotion": emotion_text(emotion_weights(item.emotion)),
            "provenance": "xmp" if self._signer is None else "xmp+c2pa",
            "sha256": sha256,
            "bytes": path.stat().st_size,
            "width": self._size,
            "height": self._size,
            "frames": delivered.frames,
            "fps": float(self._fps),
            "duration": float(delivered.video_seconds),
            "audio_duration": item.audio_seconds,
            "faces_found": item.faces_found,
            "face_box": None if item.face_box is None else [round(edge, 1) for edge in item.face_box],
            **self._columns,
        }
        job.spend("finish", start)
        times = {f"{step}_seconds": round(spent, 3) for step, spent in (item.seconds | job.seconds).items()}
        return self._ledger.commit(path, item.clip, row | times)


T = TypeVar("T")


def _guarded(job: _Job, step: Callable[[_Job], T]) -> T | None:
    """Run one step of a job; an error ends the job with its row, and None is returned."""
    try:
        return step(job)
    except Exception as error:
        _fail(job, error)
    return None


def _interrupted() -> ClipError:
    return ClipError("interrupted", "the job was interrupted: the same command goes on")


def _fail(job: _Job, error: Exception) -> None:
    if job.ended.done():
        return
    if isinstance(error, NfeExhaustedError):
        error = ClipError("nfe_exhausted", str(error))
    elif isinstance(error, torch.OutOfMemoryError):
        advice = "lower render.slots and render.frame_batch, or take workers with more memory"
        error = ClipError("out_of_memory", f"{advice} ({str(error).splitlines()[0]})")
    elif isinstance(error, torch.AcceleratorError):
        # After an error of CUDA every further call fails: only a new process helps, and Ray starts one.
        logger.error("the GPU of this worker is in no state to go on: the process ends itself", exc_info=error)
        os._exit(BROKEN)
    job.ended.set_result(error_row(job.item.clip, error, "render") | {"attempt": job.attempt})
