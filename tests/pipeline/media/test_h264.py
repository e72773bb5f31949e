import math
import subprocess
import sys
from dataclasses import fields

import numpy as np
import pytest

from pipeline.media import h264
from pipeline.media.h264 import check_h264, encoders_needed, measure_encoder, moving_image, quality_options
from pipeline.media.settings import VideoSettings
from tests import media

PRESETS = next(f.metadata["choices"] for f in fields(VideoSettings) if f.name == "speed")

NVENC_OPENS = check_h264(VideoSettings(encoder="auto")) == "h264_nvenc"
without_nvenc = pytest.mark.skipif(NVENC_OPENS, reason="needs a machine without NVENC")


# --- Which encoder ---------------------------------------------------------------------------------------------


@without_nvenc
def test_missing_nvenc_is_refused_by_the_keys_name():
    with pytest.raises(RuntimeError, match=r"video\.encoder=h264_nvenc .* set video\.encoder=libx264"):
        check_h264(VideoSettings(encoder="h264_nvenc"))


@without_nvenc
def test_auto_is_libx264_where_nvenc_does_not_open():
    assert check_h264(VideoSettings(encoder="auto")) == "libx264"


def test_auto_and_h264_nvenc_are_nvenc_where_it_opens(monkeypatch):
    monkeypatch.setattr(h264, "_nvenc_problem", lambda: None)
    assert check_h264(VideoSettings(encoder="auto")) == "h264_nvenc"
    assert check_h264(VideoSettings(encoder="h264_nvenc")) == "h264_nvenc"


def test_default_is_libx264_and_leaves_the_gpu_alone(monkeypatch):
    monkeypatch.setattr(h264, "_nvenc_problem", lambda: pytest.fail("it was opened"))
    assert check_h264(VideoSettings()) == "libx264"


# --- Quality ---------------------------------------------------------------------------------------------------


def test_x264_gets_crf_and_preset_as_they_are():
    settings = VideoSettings(crf=23, speed="slow")
    assert quality_options("libx264", settings) == {"crf": "23", "preset": "slow"}


@pytest.mark.parametrize(("crf", "cq"), [(1, "1"), (18, "18"), (51, "51")])
def test_nvenc_has_quality_as_its_only_target(crf, cq):
    options = quality_options("h264_nvenc", VideoSettings(crf=crf))
    assert (options["rc"], options["cq"], options["b"]) == ("vbr", cq, "0")


def test_every_preset_has_one_of_nvenc_no_faster_than_the_one_before():
    mapped = [quality_options("h264_nvenc", VideoSettings(speed=preset))["preset"] for preset in PRESETS]
    assert mapped == sorted(mapped)
    assert set(mapped) == {f"p{n}" for n in range(1, 8)}


# --- Speed -----------------------------------------------------------------------------------------------------


def test_an_encoder_is_measured(monkeypatch):
    monkeypatch.setattr(h264, "MEASURE_SECONDS", 0.05)
    assert 0 < measure_encoder(VideoSettings(speed="ultrafast"), 64) < math.inf


@pytest.mark.parametrize(
    ("decoder", "encoder", "number"),
    [(100.0, 240.0, 1), (240.0, 240.0, 1), (241.0, 240.0, 2), (900.0, 300.0, 3), (0.0, 300.0, 1)],
)
def test_encoders_keep_up_with_the_decoder(decoder, encoder, number):
    assert encoders_needed(decoder, encoder) == number


@pytest.mark.parametrize("size", [64, 512])
def test_measured_image_moves_evenly_and_without_an_end(size):
    picture = moving_image(size)
    assert picture.shape == (25, size * 3 // 2, size)
    assert picture.dtype == np.uint8
    assert 16 <= picture.min() < picture.max() <= 235
    luma = picture[:, :size].astype(float)
    steps = np.abs(luma - np.roll(luma, 1, axis=0)).mean(axis=(1, 2))
    assert steps.min() > 0.1
    assert steps.max() < 3 * steps.min()


# --- The same file each time -----------------------------------------------------------------------------------

ENCODE = """
import ctypes, hashlib, sys
import av, numpy as np
from PIL import Image
from pipeline.common.malloc import keep_memory
from pipeline.media import h264
from pipeline.media.settings import VideoSettings

keep_memory()  # as in a worker: memory is used again, and not zero
h264.EXACT_WIDTH = int(sys.argv[1])
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def leave_traces(seed):
    draw = np.random.default_rng(seed)
    sizes = [*draw.integers(64, 4_000_000, 60).tolist(), *draw.integers(64, 20_000, 500).tolist()]
    taken = [libc.malloc(size) for size in sizes]
    for place, size in zip(taken, sizes):
        ctypes.memset(place, int(draw.integers(256)), size)
    for place in taken:
        libc.free(place)

def encoded(planes):
    context = av.CodecContext.create("libx264", "w")
    h264.set_up_h264(context, "libx264", VideoSettings(), planes.shape[2])
    digest = hashlib.sha256()
    for number, plane in enumerate(planes):
        frame = av.VideoFrame.from_ndarray(plane, format="yuv420p")
        frame.pts = number
        for packet in context.encode(frame):
            digest.update(bytes(packet))
    for packet in context.encode(None):
        digest.update(bytes(packet))
    return digest.hexdigest()

def head_that_moves(size, frames=100):
    portrait = np.asarray(Image.open(sys.argv[2]).convert("L").resize((size + 16, size + 16)))
    time = np.arange(frames)
    x, y = (8 + 5 * np.sin(time / 7)).astype(int), (8 + 5 * np.sin(time / 3) * np.sin(time / 31)).astype(int)
    noise = np.random.default_rng(0).integers(-2, 3, (frames, size, size))
    luma = np.stack([portrait[y[i] : y[i] + size, x[i] : x[i] + size] for i in range(frames)]) + noise
    grey = np.full((frames, size // 2, size), 128)
    return np.concatenate([luma.clip(16, 235), grey], axis=1).astype(np.uint8)

for size in (112, 128, 160):
    planes = head_that_moves(size)
    found = set()
    for seed in range(6):
        leave_traces(seed)
        found.add(encoded(planes))
    print(size, len(found))
"""


def different_files(exact_width):
    """How many different files came of the same frames, for each size."""
    command = [sys.executable, "-c", ENCODE, str(exact_width), str(media.PORTRAIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(tuple(map(int, line.split())) for line in done.stdout.splitlines())


@pytest.mark.slow
def test_the_same_frames_give_the_same_file_whatever_was_in_the_memory_before():
    assert different_files(h264.EXACT_WIDTH) == dict.fromkeys((112, 128, 160), 1)
