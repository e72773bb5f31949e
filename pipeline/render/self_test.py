"""The test of a worker before it gets work: an unfit one must fail here, and not with clips."""

import math
import tempfile
from pathlib import Path

import numpy as np
import torch

from pipeline.common.errors import ClipError, RefusedError
from pipeline.media.mp4 import VideoWriter, verify_video
from pipeline.media.presets import PCM_RATE, size_problem
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.media.sound_output import silence
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.tuning.probe import Probe


def check_fit(runner: ModelRunner, slots: MotionSlots, solver: str, video: VideoSettings) -> None:
    """Render a drawn face: encode it, sample one window, decode one batch, and make and verify a file with `video`.

    Raises RefusedError for a model whose frames are too small for the preset, RuntimeError for motion that is not
    finite, frames without a picture and a file that cannot be verified, and whatever a device raises that does not
    work.
    """
    probe = Probe.of(runner.model.config, solver, few=True)
    motion = probe.motion(runner, slots)
    if not torch.isfinite(motion).all():
        raise RuntimeError("this worker computes motion that is not finite: check the health of its device")
    frames = probe.frames(runner, motion[: runner.frame_batch])
    if any(np.ptp(runner.layout.split(planes)[0]) == 0 for planes in frames):
        raise RuntimeError("this worker decodes frames of a single colour: check the health of its device")
    if problem := size_problem(video.format, frames.shape[2], frames.shape[2]):
        raise RefusedError(f"video.preset: {problem}")
    try:
        check_delivery(frames, video)
    except ClipError as error:
        raise RuntimeError(f"this worker cannot deliver a test video: {error}") from error
    runner.forget_portraits()


def check_delivery(frames: np.ndarray, video: VideoSettings) -> None:
    """Encode frames (N,rows,S) with silence, and verify the file. Raises ClipError."""
    fps = parse_fps(video.fps)
    with tempfile.TemporaryDirectory(prefix="floatcast-test-") as folder:
        path = Path(folder) / f"test{video.format.container.suffix}"
        sound = silence(math.ceil(len(frames) / fps * PCM_RATE), video.format.sound)
        writer = VideoWriter(path, size=frames.shape[2], settings=video, sound=sound, tags={"title": "test"})
        writer.write(frames)
        writer.close()
        verify_video(path, frames=len(frames), fps=fps, form=video.format)
