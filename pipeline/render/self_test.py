"""The test of a worker before it gets work: an unfit one must fail here, and not with clips."""

import io
import math
import tempfile
from pathlib import Path

import av
import numpy as np
import torch

from pipeline.common.errors import ClipError
from pipeline.media.mp4 import VideoWriter, verify_mp4
from pipeline.media.settings import VideoSettings, parse_fps
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.tuning.probe import Probe


def check_fit(runner: ModelRunner, slots: MotionSlots, solver: str, video: VideoSettings) -> None:
    """Render a drawn face: encode it, sample one window, decode one batch, and make and verify a file with `video`.

    Raises RuntimeError for motion that is not finite, frames without a picture and a file that cannot be verified, and
    whatever a device raises that does not work.
    """
    probe = Probe.of(runner.model.config, solver, few=True)
    motion = probe.motion(runner, slots)
    if not torch.isfinite(motion).all():
        raise RuntimeError("this worker computes motion that is not finite: check the health of its device")
    frames = probe.frames(runner, motion[: runner.frame_batch])
    if not (frames.max(axis=(1, 2)) > frames.min(axis=(1, 2))).all():
        raise RuntimeError("this worker decodes frames of a single colour: check the health of its device")
    try:
        check_delivery(frames, video)
    except ClipError as error:
        raise RuntimeError(f"this worker cannot deliver a test video: {error}") from error
    runner.forget_portraits()


def check_delivery(frames: np.ndarray, video: VideoSettings) -> None:
    """Encode frames (N,S*3/2,S) with silence, and verify the file. Raises ClipError."""
    fps = parse_fps(video.fps)
    with tempfile.TemporaryDirectory(prefix="floatcast-test-") as folder:
        path = Path(folder) / "test.mp4"
        aac = silence(math.ceil(len(frames) / fps * 48_000))
        writer = VideoWriter(path, size=frames.shape[2], settings=video, aac=aac, tags={"title": "test"})
        writer.write(frames)
        writer.close()
        verify_mp4(path, frames=len(frames), fps=fps)


def silence(samples: int) -> bytes:
    """AAC in MP4 at 48 kHz, as the feature stage hands over the sound of a clip."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=48_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, samples), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()
