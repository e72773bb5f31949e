"""One clip on its way through the engine, and its end where a step of it fails."""

import logging
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from models import Portrait
from models.flow import NfeExhaustedError
from pipeline.common.errors import ClipError
from pipeline.ledger.clip_row import StatusRow, error_row
from pipeline.media.mp4 import VideoWriter
from pipeline.render.feature_stage import ClipFeatures
from pipeline.render.motion_resampler import MotionResampler

logger = logging.getLogger(__name__)

T = TypeVar("T")

BROKEN = 13
"""Exit status of a process whose CUDA context is broken."""


@dataclass(eq=False)
class ClipJob:
    """A clip, what the engine holds of it, and the future of its row."""

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
    worker_attempt: int = 1
    seconds: dict[str, float] = field(default_factory=dict)

    def spend(self, step: str, since: float) -> None:
        """Count the time since `since` (of `time.perf_counter`) to a step."""
        self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - since

    def fail(self, error: Exception) -> None:
        """End it with the row of an error, unless it has its end already."""
        if self.ended.done():
            return
        if isinstance(error, NfeExhaustedError):
            error = ClipError("nfe_exhausted", str(error))
        elif isinstance(error, torch.OutOfMemoryError):
            advice = "lower render.slots and render.frame_batch, or use workers with more memory"
            error = ClipError("out_of_memory", f"{advice} ({str(error).splitlines()[0]})")
        elif isinstance(error, torch.AcceleratorError):
            # After an error of CUDA every further call fails: only a new process helps, and Ray starts one.
            logger.error(
                "the GPU of this worker is in a state from which it cannot continue: the process ends itself",
                exc_info=error,
            )
            os._exit(BROKEN)
        self.ended.set_result(error_row(self.item.clip, error, "render") | {"worker_attempt": self.worker_attempt})

    def guarded(self, step: Callable[["ClipJob"], T]) -> T | None:
        """Run one step of it; an error ends it with its row, and None is returned."""
        try:
            return step(self)
        except Exception as error:
            self.fail(error)
        return None


def interrupted() -> ClipError:
    """The error of a clip that is given up because the job ends."""
    return ClipError("interrupted", "the job was interrupted: run the same command again to resume")
