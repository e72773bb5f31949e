"""Video encoders that open on this machine, NVENC among them, and the disk that takes the files."""

import os
import tempfile
import time
from fractions import Fraction

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from jobs.bench.job import Figures, say
from jobs.bench.subject import Subject
from pipeline.media.h264 import check_h264, measure_encoder
from pipeline.media.settings import VideoSettings

OTHERS = ("h264_nvenc", "hevc_nvenc", "av1_nvenc", "h264_qsv", "h264_amf", "h264_vaapi", "h264_v4l2m2m", "libopenh264")
"""Encoders that might be faster, by their names in FFmpeg. The engine itself uses the first of them, or libx264."""

SIDE = 512


def measure_encoding(subject: Subject) -> Figures:
    """Frames per second of one libx264 and, if it opens, one NVENC; which others open; MB/s of the temporary folder."""
    side = subject.side
    rate = measure_encoder(VideoSettings(), side)
    say(f"  libx264, one thread: {rate:.0f} frames/s at {side} px")
    figures: Figures = {"baseline": {"encode": rate}, "engine": {"encode": rate}, "encoder_side": side}
    figures["opens"] = {name: encoder_problem(name) for name in OTHERS}
    for name, problem in figures["opens"].items():
        say(f"  {name}: {problem or 'opens, and has encoded a frame'}")
    nvenc = VideoSettings(encoder="auto")
    if check_h264(nvenc) == "h264_nvenc":
        figures["nvenc_fps"] = measure_encoder(nvenc, side)
        say(f"  h264_nvenc: {figures['nvenc_fps']:.0f} frames/s")
    figures["disk_mb_per_second"] = disk_megabytes(subject.sizes.written)
    say(f"  the disk of temporary files takes {figures['disk_mb_per_second']:.0f} MB/s")
    return figures


def encoder_problem(name: str) -> str:
    """Why FFmpeg's encoder `name` does not work in this process, found by encoding a frame; empty if it works."""
    try:
        encoder = av.CodecContext.create(name, "w")
        assert isinstance(encoder, VideoCodecContext)
        encoder.width = encoder.height = SIDE
        encoder.pix_fmt, encoder.framerate, encoder.time_base = "yuv420p", Fraction(25), Fraction(1, 25)
        frame = av.VideoFrame.from_ndarray(np.full((SIDE * 3 // 2, SIDE), 128, np.uint8), format="yuv420p")
        frame.pts = 0
        return "" if encoder.encode(frame) + encoder.encode(None) else "it did not encode a test frame"
    except av.FFmpegError as error:
        return error.strerror or "FFmpeg gives no reason"
    except ValueError:
        return "this build of FFmpeg does not include it"


def disk_megabytes(megabytes: int) -> float:
    """MB/s of writing a file of random bytes into the temporary folder until it is on the disk."""
    piece = os.urandom(1 << 20)
    start = time.perf_counter()
    with tempfile.TemporaryFile() as file:
        for _ in range(megabytes):
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    return megabytes * len(piece) / 1e6 / (time.perf_counter() - start)
