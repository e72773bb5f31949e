"""One clip on its way through the engine, and how it ends if one of its steps fails."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from models.flow import NfeExhaustedError
from pipeline.common.attempts import PutOff
from pipeline.common.broken_device import end_process, is_device_failure
from pipeline.common.errors import ClipError
from pipeline.common.stage import Part
from pipeline.ledger.clip_row import error_row
from pipeline.ledger.columns import ClipRow
from pipeline.media.mp4 import VideoWriter
from pipeline.media.pixel_layout import PixelLayout
from pipeline.render.compose import Composer, FacesComposer
from pipeline.render.continuation import Ending
from pipeline.render.face_job import FaceJob
from pipeline.render.feature_stage import ClipFeatures

logger = logging.getLogger(__name__)

T = TypeVar("T")


@dataclass(eq=False)
class ClipJob:
    """A clip, what the engine holds for it, and the future of its row."""

    item: ClipFeatures
    ended: Future[ClipRow | PutOff] = field(default_factory=Future)
    faces: dict[int, FaceJob] = field(default_factory=dict)
    """Its animated faces by their slots, in the order in which they are put into the picture; empty if it has none."""
    layout: PixelLayout | None = None
    """How its frames lie in memory; None is the layout of the job's preset."""
    engine: str = ""
    """How its frames are computed, if its layout is another one than the job's."""
    composer: Composer | FacesComposer | None = None
    """What puts its frames into the whole picture; None if the square is delivered."""
    path: Path | None = None
    writer: VideoWriter | None = None
    begun: float = 0.0
    """Start time, by `time.perf_counter`."""
    waited: bool = False
    """Whether it has let other clips go first, because a worker died with it."""
    following: "ClipJob | None" = None
    """The clip that goes on from this one and waits for its motion (`pipeline.render.clip_chain`)."""
    before: Ending | None = None
    """What a clip of a programme goes on from."""
    ending: Ending | None = None
    """How it has ended, once all of its motion is there."""
    latents: Tensor | None = None
    """Its last motion latents (n,D) so far."""
    worker_attempt: int = 1
    seconds: dict[str, float] = field(default_factory=dict)
    _ending: threading.Lock = field(default_factory=threading.Lock)
    """Two threads may find that the clip has failed."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of its video, px."""
        if self.item.picture is not None:
            return self.item.picture.width, self.item.picture.height
        side = len(self.item.portrait)
        return side, side

    @property
    def name(self) -> str:
        """The clip with its fingerprint."""
        return f"{self.item.clip.clip_id}.{self.item.clip.fingerprint}"

    @property
    def part(self) -> Part:
        """How far the clip is. May be read from any thread."""
        done = 0 if self.writer is None else self.writer.taken
        return Part("render", done, self.item.frames, self.item.clip.row)

    def check_time(self, minutes: float) -> None:
        """Raise ClipError timed_out if the clip takes longer than render.clip_minutes."""
        spent = (time.perf_counter() - self.begun) / 60
        if spent > minutes:
            limit = f"render.clip_minutes = {minutes:g}"
            raise ClipError(
                "timed_out", f"the clip was not finished after {spent:.1f} minutes: raise {limit}, or split the clip"
            )

    def spend(self, step: str, since: float) -> None:
        """Add the time since `since` (by `time.perf_counter`) to a step."""
        self.add(step, time.perf_counter() - since)

    def add(self, step: str, seconds: float) -> None:
        """Add seconds to a step."""
        self.seconds[step] = self.seconds.get(step, 0.0) + seconds

    def fail(self, error: Exception) -> None:
        """End the clip with an error row, unless it has ended already."""
        if self.ended.done():
            return
        if isinstance(error, NfeExhaustedError):
            error = ClipError("nfe_exhausted", str(error))
        elif isinstance(error, torch.OutOfMemoryError):
            error = ClipError(
                "out_of_memory",
                "the worker ran out of memory with this clip: lower render.slots and render.frame_batch, or use "
                "workers with more memory",
            )
        elif is_device_failure(error):  # only a new process helps, and Ray starts one
            end_process("its GPU failed", error)
        with self._ending:
            if not self.ended.done():
                row = error_row(self.item.clip, error, "render")
                self.ended.set_result(row | {"worker_attempt": self.worker_attempt})

    def guarded(self, step: Callable[["ClipJob"], T]) -> T | None:
        """Run one step of the clip. If it raises, the clip ends with an error row, and None is returned."""
        try:
            return step(self)
        except Exception as error:
            self.fail(error)
        return None


def interrupted() -> ClipError:
    """The error of a clip that is given up because the job ends."""
    return ClipError("interrupted", "the job was interrupted: run the same command again to resume")


def row_of(job: Future[ClipRow | PutOff]) -> ClipRow | PutOff:
    """Wait for a clip, and wake up every second: a signal that arrives as a wait begins would else go unnoticed."""
    while True:
        try:
            return job.result(timeout=1.0)
        except TimeoutError:
            continue
