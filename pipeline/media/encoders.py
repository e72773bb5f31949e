"""The video encoders of all delivery presets: whether they work in this process, and how they are set up."""

import os
from functools import cache

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from pipeline.common.errors import ClipError, RefusedError
from pipeline.media.h264 import check_h264, encoding_problem, set_up_frames, set_up_h264
from pipeline.media.pixel_layout import PixelLayout, video_frame
from pipeline.media.presets import BT709, LIMITED_RANGE, PRESETS
from pipeline.media.settings import SPEEDS, VideoSettings

SVT_SPEEDS = dict(zip(SPEEDS, map(str, range(12, 3, -1)), strict=True))
"""x264's presets of speed -> SVT-AV1's, from fast to slow."""


def check_encoder(settings: VideoSettings) -> str:
    """The FFmpeg name of the encoder that `settings` select in this process.

    Raises RefusedError for a preset whose encoder does not work here, which is found by encoding a frame, and
    RuntimeError for a missing NVENC.
    """
    preset = PRESETS[settings.preset]
    if preset.name == "web":
        return check_h264(settings)
    problem = _problem(preset.name)
    if problem is not None:
        raise RefusedError(
            f"video.preset={preset.name} does not work here: FFmpeg's encoder {preset.encoder} does not open "
            f"({problem}); install the wheel of PyAV, which has it, on this worker, or set another preset"
        )
    return preset.encoder


def check_preset(settings: VideoSettings, preset: str | None) -> None:
    """Raise ClipError preset_unavailable if a row names a preset whose encoder does not work in this process."""
    if preset is None:
        return
    try:
        check_encoder(settings.with_preset(preset))
    except RefusedError as error:
        raise ClipError("preset_unavailable", str(error).replace("video.preset=", "preset ", 1)) from error


def set_up_encoder(context: VideoCodecContext, name: str, settings: VideoSettings, size: int | tuple[int, int]) -> None:
    """Configure an encoder for frames of the preset's layout before it is opened.

    `size` is the side of square frames, or (width, height).
    """
    preset = PRESETS[settings.preset]
    if preset.name == "web":
        set_up_h264(context, "h264_nvenc" if name == "h264_nvenc" else "libx264", settings, size)
        return
    set_up_frames(context, preset.layout.name, settings, size)
    if preset.tag:
        context.codec_tag = preset.tag
    context.options = dict(preset.options) | _quality(name, settings)


def colour_tagged(frame: av.VideoFrame) -> av.VideoFrame:
    """The frame with its colours named, which ProRes writes from the frames and not from its context."""
    frame.color_primaries = frame.color_trc = BT709
    frame.colorspace, frame.color_range = BT709, LIMITED_RANGE
    return frame


def _quality(name: str, settings: VideoSettings) -> dict[str, str]:
    """Options of the codecs that lose much. Both encoders make threads of their own, and take their number here."""
    threads = settings.encoder_threads
    if name == "libx265":
        pools = "none" if threads == 1 else str(threads)
        fixed = f"pools={pools}:frame-threads=1:log-level=error"
        return {"crf": str(settings.crf), "preset": settings.speed, "x265-params": fixed}
    if name == "libsvtav1":
        os.environ.setdefault("SVT_LOG", "1")  # errors only; it writes to the console by itself
        crf = round(settings.crf * 63 / 51)
        return {"crf": str(crf), "preset": SVT_SPEEDS[settings.speed], "svtav1-params": f"lp={threads}"}
    return {}


@cache
def _problem(preset: str) -> str | None:
    """Why a preset's encoder does not work in this process; None if it works."""
    chosen, settings = PRESETS[preset], VideoSettings(preset=preset)
    width, height = 256, 128
    return encoding_problem(
        chosen.encoder,
        lambda context: set_up_encoder(context, chosen.encoder, settings, (width, height)),
        lambda: colour_tagged(video_frame(_grey(chosen.layout, width, height), chosen.layout)),
    )


def _grey(layout: PixelLayout, width: int, height: int) -> np.ndarray:
    return np.full((layout.plane_rows(height), width), 128 << layout.bits - 8, layout.dtype)
