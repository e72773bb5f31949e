"""The H.264 encoder: which one a process uses, how it is set up, and how many keep up with a decoder.

libx264 runs on the CPU and everywhere; h264_nvenc is the hardware of NVIDIA's video cards, which their data-centre
cards for training (A100, H100, H200) lack. NVENC has not been run by this project: its options are from FFmpeg's
documentation.
"""

import math
import time
from functools import cache
from typing import Literal

import av
import numpy as np
import torch
import torch.nn.functional as F
from av.codec.context import ThreadType
from av.video.codeccontext import VideoCodecContext

from pipeline.media.settings import VideoSettings, parse_fps

EncoderName = Literal["libx264", "h264_nvenc"]

BT709 = 1
"""Code point of BT.709 in ITU-T H.273, for primaries, transfer and matrix alike."""
LIMITED_RANGE = 1
"""AVCOL_RANGE_MPEG: luma 16..235."""

NVENC_PRESETS = {
    "ultrafast": "p1",
    "superfast": "p2",
    "veryfast": "p3",
    "faster": "p3",
    "fast": "p4",
    "medium": "p4",
    "slow": "p5",
    "slower": "p6",
    "veryslow": "p7",
}
"""x264's presets on NVENC's scale, fastest to best."""


def check_encoder(settings: VideoSettings) -> EncoderName:
    """The FFmpeg name of the encoder that `settings` mean in this process; RuntimeError where it does not open."""
    if settings.encoder == "libx264":
        return "libx264"
    problem = _nvenc_problem()
    if problem is None:
        return "h264_nvenc"
    if settings.encoder == "auto":
        return "libx264"
    raise RuntimeError(
        f"video.encoder=h264_nvenc does not work here ({problem}): this worker has no NVIDIA GPU with a hardware "
        "encoder (A100 and H100 have none), or its driver is too old; set video.encoder=libx264"
    )


@cache
def _nvenc_problem() -> str | None:
    """Why NVENC does not work in this process, by encoding one frame; None where it does.

    That FFmpeg lists the encoder, or that a GPU is there, says nothing: the driver is loaded when it is opened.
    """
    side = 512
    try:
        encoder = av.CodecContext.create("h264_nvenc", "w")
        set_up_encoder(encoder, "h264_nvenc", VideoSettings(), side)
        frame = av.VideoFrame.from_ndarray(np.full((side * 3 // 2, side), 128, np.uint8), format="yuv420p")
        frame.pts = 0
        packets = encoder.encode(frame) + encoder.encode(None)
    except av.FFmpegError as error:
        return error.strerror
    except ValueError:
        return "this build of FFmpeg does not include it"
    return None if packets else "it did not encode a test frame"


def set_up_encoder(
    context: VideoCodecContext, name: EncoderName, settings: VideoSettings, size: int | tuple[int, int]
) -> None:
    """Set everything that an encoder of yuv420p frames needs before it is opened.

    `size`: side of square pictures, or (width, height).
    """
    fps = parse_fps(settings.fps)
    context.width, context.height = (size, size) if isinstance(size, int) else size
    context.pix_fmt = "yuv420p"
    context.framerate, context.time_base = fps, 1 / fps
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE
    context.options = quality_options(name, settings)
    context.thread_count = settings.encoder_threads
    # PyAV's default, SLICE, cuts each picture into independent parts: slower with x264, and larger files.
    context.thread_type = ThreadType.FRAME


def quality_options(name: EncoderName, settings: VideoSettings) -> dict[str, str]:
    """FFmpeg's options for crf and preset.

    NVENC's `cq` is on the scale of crf (H.264's quantiser, 0..51), but the same number is not the same picture; its
    0 means "automatic", so that crf 0 becomes 1. Bit rate 0 leaves the quality as the only target.
    """
    if name == "libx264":
        return {"crf": str(settings.crf), "preset": settings.preset}
    return {
        "rc": "vbr",
        "cq": str(max(1, settings.crf)),
        "b": "0",
        "preset": NVENC_PRESETS[settings.preset],
        "profile": "high",  # as x264 chooses
    }


# --- Speed -----------------------------------------------------------------------------------------------------

MEASURE_SECONDS = 1.2
"""Time that encoding may take in a measurement."""
MEASURE_PACKETS = 5
"""Pictures that are counted at least, on a machine where that takes longer."""


def measure_encoder(settings: VideoSettings, size: int) -> float:
    """Frames per second of one encoder in this process, on a moving picture (size, size); takes less than 2 s.

    Counted are pictures that come out, from the first on: an encoder looks some 40 frames ahead before that, and a
    clip is longer. Other work on the machine counts too.
    """
    name = check_encoder(settings)
    encoder = av.CodecContext.create(name, "w")
    set_up_encoder(encoder, name, settings, size)
    pictures = moving_picture(size)
    start, first, taken, given = time.perf_counter(), 0.0, 0, 0
    while True:
        frame = av.VideoFrame.from_ndarray(pictures[taken % len(pictures)], format="yuv420p")
        frame.pts = taken
        taken += 1
        given += len(encoder.encode(frame))
        now = time.perf_counter()
        if given and not first:
            first, given = now, 0
        elif given >= MEASURE_PACKETS and now - start > MEASURE_SECONDS:
            return given / (now - first)


def encoders_needed(decoder_fps: float, encoder_fps: float) -> int:
    """Encoders that together are no slower than a decoder, at least 1."""
    return max(1, math.ceil(decoder_fps / encoder_fps))


def moving_picture(size: int, frames: int = 25) -> np.ndarray:
    """A texture that moves in a circle and breathes, without an end: (frames, size*3/2, size) uint8 yuv420p.

    Detail falls with its frequency as in a photograph, and moves by fractions of a pixel, as a head does: libx264
    takes about as long for it as for a portrait that moves. Noise or plain colours would mislead by far.
    """
    noise = torch.Generator().manual_seed(0)
    phase = torch.arange(frames) * (2 * math.pi / frames)
    motion = torch.zeros(frames, 2, 3)
    motion[:, 0, 0] = motion[:, 1, 1] = 0.9 * (1 + 0.01 * phase.sin())
    motion[:, 0, 2], motion[:, 1, 2] = 0.015 * phase.sin(), 0.015 * phase.cos()

    def plane(side: int, swing: float) -> torch.Tensor:
        texture = torch.zeros(1, 1, side, side)
        for cells in (2**n for n in range(2, side.bit_length() - 1)):
            waves = torch.randn(1, 1, cells, cells, generator=noise)
            texture += F.interpolate(waves, (side, side), mode="bicubic") * cells**-0.7
        texture *= swing / texture.abs().max()
        grid = F.affine_grid(motion, [frames, 1, side, side], align_corners=False)
        return F.grid_sample(texture.expand(frames, -1, -1, -1), grid, mode="bicubic", align_corners=False)

    luma = 126 + plane(size, 80)
    chroma = [128 + plane(size // 2, 25) for _ in range(2)]
    planes = torch.cat([part.flatten(1) for part in (luma, *chroma)], dim=1)
    return planes.clamp(16, 235).round().to(torch.uint8).view(frames, size * 3 // 2, size).numpy()
