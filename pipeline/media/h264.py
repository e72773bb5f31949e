"""The H.264 encoder: which one a process uses, how it is configured, and how many are needed to keep up with a decoder.

libx264 runs on the CPU and everywhere. h264_nvenc is the hardware encoder of NVIDIA's GPUs, which data-centre GPUs for
training (A100, H100, H200) do not have. This project has never run NVENC: its options are from FFmpeg's documentation.
"""

import math
import time
from collections.abc import Callable
from functools import cache
from typing import Literal

import av
import numpy as np
from av.codec.context import ThreadType
from av.codec.hwaccel import HWAccel
from av.video.codeccontext import VideoCodecContext

from pipeline.media.presets import BT709, LIMITED_RANGE
from pipeline.media.settings import VideoSettings, parse_fps

EncoderName = Literal["libx264", "h264_nvenc"]

LEVEL = 52
"""Highest H.264 level that hardware decoders commonly play, times ten: up to 4096 x 2304 pixels at 60 frames/s."""

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
"""x264's presets on NVENC's scale, from fastest to best."""


def check_h264(settings: VideoSettings) -> EncoderName:
    """The FFmpeg name of the encoder that `settings` select in this process.

    Raises RuntimeError if it does not work.
    """
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


def device_of(name: str) -> HWAccel | None:
    """Where an encoder's frames lie: for NVENC on the GPU in CUDA's primary context, which is that of PyTorch.

    Without it, each NVENC session makes a context of its own, which takes some hundred MB of the GPU's memory.
    """
    return HWAccel("cuda", options={"primary_ctx": "1"}) if name == "h264_nvenc" else None


@cache
def _nvenc_problem() -> str | None:
    """Why NVENC does not work in this process, found by encoding one frame; None if it works.

    It is not enough that FFmpeg lists the encoder or that there is a GPU, because the driver is loaded only when the
    encoder is opened.
    """
    side = 512
    return encoding_problem(
        "h264_nvenc",
        lambda context: set_up_h264(context, "h264_nvenc", VideoSettings(), side),
        lambda: av.VideoFrame.from_ndarray(np.full((side * 3 // 2, side), 128, np.uint8), format="yuv420p"),
    )


def encoding_problem(
    name: str, set_up: Callable[[VideoCodecContext], None], frame: Callable[[], av.VideoFrame]
) -> str | None:
    """Why an encoder, set up like this, does not encode this frame here; None if it does."""
    try:
        encoder = av.CodecContext.create(name, "w", device_of(name))
        assert isinstance(encoder, VideoCodecContext)
        set_up(encoder)
        picture = frame()
        picture.pts = 0
        packets = encoder.encode(picture) + encoder.encode(None)
    except av.FFmpegError as error:
        return error.strerror
    except (ValueError, NotImplementedError):
        return "this build of FFmpeg does not include it"
    return None if packets else "it did not encode a test frame"


EXACT_WIDTH = 128
"""x264's macroblock tree reads uninitialised memory unless the width is a multiple of this many pixels.

The same frames then give different files, depending on what the memory contained before. Measured with the x264 of
PyAV 18 on a CPU with AVX-512: widths 64 to 112, 144, 160 and 192 differ from run to run, 128, 256 and 512 do not, and
without the tree no width does.
"""


def set_up_h264(
    context: VideoCodecContext, name: EncoderName, settings: VideoSettings, size: int | tuple[int, int]
) -> None:
    """Configure an encoder for yuv420p frames before it is opened.

    `size` is the side of square frames, or (width, height).
    """
    set_up_frames(context, "yuv420p", settings, size)
    context.options = quality_options(name, settings)
    if name == "libx264" and context.width % EXACT_WIDTH:
        context.options = dict(context.options) | {"mbtree": "0"}


def set_up_frames(
    context: VideoCodecContext, pixel_format: str, settings: VideoSettings, size: int | tuple[int, int]
) -> None:
    """What all encoders are told: the size, format, rate and colours of frames, and how many threads they may use."""
    fps = parse_fps(settings.fps)
    context.width, context.height = (size, size) if isinstance(size, int) else size
    context.pix_fmt = pixel_format
    context.framerate, context.time_base = fps, 1 / fps
    context.color_primaries = context.color_trc = context.colorspace = BT709
    context.color_range = LIMITED_RANGE
    context.thread_count = settings.encoder_threads
    # PyAV's default, SLICE, cuts each frame into independent parts, which makes x264 slower and files larger.
    context.thread_type = ThreadType.FRAME


def quality_options(name: EncoderName, settings: VideoSettings) -> dict[str, str]:
    """FFmpeg's options for crf and speed.

    NVENC's `cq` uses the scale of crf (H.264's quantiser, 0..51), but the same number does not give the same image.
    With a bit rate of 0, quality is the only target.
    """
    if name == "libx264":
        return {"crf": str(settings.crf), "preset": settings.speed}
    return {
        "rc": "vbr",
        "cq": str(settings.crf),
        "b": "0",
        "preset": NVENC_PRESETS[settings.speed],
        "profile": "high",  # x264 chooses the same
    }


# --- Speed -----------------------------------------------------------------------------------------------------

MEASURE_SECONDS = 1.2
"""Time limit of a measurement."""
MEASURE_PACKETS = 5
"""Minimum number of frames to count, on a machine where this takes longer."""


def measure_encoder(settings: VideoSettings, size: int) -> float:
    """Frames per second of one encoder in this process for a moving image (size, size); takes less than 2 s.

    Counting starts with the first encoded frame: before that, an encoder looks about 40 frames ahead, and a clip is
    longer. Other work on the machine affects the result.
    """
    name = check_h264(settings)
    encoder = av.CodecContext.create(name, "w", device_of(name))
    set_up_h264(encoder, name, settings, size)
    pictures = moving_image(size)
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
    """Number of encoders that together are no slower than a decoder, at least 1."""
    return max(1, math.ceil(decoder_fps / encoder_fps))


def moving_image(size: int, frames: int = 25) -> np.ndarray:
    """A texture that moves in a circle and pulsates without an end: (frames, size*3/2, size) uint8 yuv420p.

    Its detail falls with frequency as in a photograph, and moves by fractions of a pixel like a head, so libx264 takes
    about as long for it as for a moving portrait. Noise or plain colours would be far off.
    """
    import torch  # not by those who only read this file's constants
    import torch.nn.functional as F

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
