"""Measure the engine against the released algorithm, side by side: `python -m jobs.benchmark`."""

import io
import json
import os
import platform
import resource
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import torch

from jobs import baseline
from jobs.config import parse
from models import FLOAT, FloatConfig, Portrait
from pipeline.allocator import keep_memory
from pipeline.compute import Compute
from pipeline.encoders import encoders_needed, measure_encoder
from pipeline.settings import VideoSettings, option
from pipeline.storage import cache_folder
from pipeline.video import VideoWriter, rgb_to_yuv420

USAGE = """
Measure, on this machine and in one run, the released algorithm (eager, one frame and one clip at a time, grouped
convolutions) against the engine, with random weights and without Ray. The full-size model takes some minutes.

  python -m jobs.benchmark
  python -m jobs.benchmark model=pocket json=benchmark.json

Both compute in float32 from the same weights, and their frames are compared. The baseline runs first and with the
default allocator; the engine brings its own settings (pipeline/allocator.py), which would speed up the baseline too.
Not measured: the feature stage. Not run yet: a GPU.
Options: --help. Exit code: 0.
"""

DECODE_GFLOP, WINDOW_GFLOP = 37.8, 18.6
"""Of the full-size model: a frame; a window, one branch and evaluation (counted from the layers' shapes)."""


@dataclass
class BenchmarkJob:
    """Configuration of `jobs.benchmark`."""

    model: str = option("full", "Sizes of the model: full (512 px) or pocket (256 px).", choices=("full", "pocket"))
    threads: int = option(0, "Threads; 0 takes every CPU.", least=0)
    mode: str = option("compiled", "Engine's mode.", choices=("compiled", "eager"))
    clip_batch: int = option(1, "Clips whose motion is sampled together.", least=1)
    frame_batch: int = option(4, "Frames decoded together.", least=1)
    nfe: int = option(9, "Evaluations of the vector field per window.", least=1)
    json: str = option("", "File to write the figures to.")


@dataclass
class Stage:
    """One line of the table: rates of both, higher is better."""

    name: str
    unit: str
    baseline: float
    engine: float

    @property
    def ratio(self) -> float:
        """How many times as fast the engine is."""
        return self.engine / self.baseline


def seconds(run: Callable[[], object], times: int = 3) -> float:
    """Median wall-clock time of a call, after one that warms up."""
    run()
    spent = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        spent.append(time.perf_counter() - start)
    return sorted(spent)[len(spent) // 2]


def matrix_gflops() -> float:
    """GFLOP/s of the best large float32 product: a 3x3 convolution by oneDNN, or a matrix product by the BLAS."""
    matrix = torch.randn(2048, 2048)
    picture = torch.randn(1, 128, 128, 128).contiguous(memory_format=torch.channels_last)
    kernel = torch.randn(128, 128, 3, 3).contiguous(memory_format=torch.channels_last)
    product = 2 * 2048**3 / seconds(lambda: matrix @ matrix)
    convolution = 2 * 9 * 128**4 / seconds(lambda: torch.conv2d(picture, kernel, padding=1))
    return max(product, convolution) / 1e9


def silence(length: float) -> bytes:
    """AAC in MP4, as the feature stage hands it over."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as file:
        stream = file.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, round(length * 48_000)), np.float32), "fltp", "mono")
        frame.sample_rate = 48_000
        file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return buffer.getvalue()


@torch.no_grad()
def measure(job: BenchmarkJob) -> tuple[list[Stage], dict[str, float]]:
    """Table and further figures."""
    torch.manual_seed(0)
    config = FloatConfig() if job.model == "full" else FloatConfig.pocket()
    model = FLOAT(config).eval()
    side, window, dim = config.image_size, config.window, config.latent_dim
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    image = torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 127.5 - 1
    speech, emotion = torch.randn(job.clip_batch, window, dim), torch.eye(7)[3:4]
    scales = torch.tensor([[2.0, 1.0, 1.0]])
    aac = silence(window / 25)
    video = VideoSettings()
    further: dict[str, float] = {"ceiling_gflops": matrix_gflops()}

    def sample_plain(found: Portrait) -> torch.Tensor:
        return model.sample_motion(speech[:1], found.motion, emotion, nfe=job.nfe, seeds=[0])[0]

    with tempfile.TemporaryDirectory() as folder:

        def write(frames: Iterable[np.ndarray]) -> None:
            writer = VideoWriter(Path(folder) / "clip.mp4", size=side, settings=video, aac=aac, tags={})
            for batch in frames:
                writer.write(batch)
            writer.close()

        print("baseline ...", flush=True)
        plain = baseline.encode(model, image)
        some = plain.motion + 0.05 * torch.randn(2 * job.frame_batch, dim)
        before = {
            "portrait": 1 / seconds(lambda: baseline.encode(model, image)),
            "sampling": window / seconds(lambda: sample_plain(plain), times=2),
            "decode": 1 / seconds(lambda: baseline.decode(model, plain, some[:1]), times=5),
        }
        start = time.perf_counter()
        found = baseline.encode(model, image)
        whole = baseline.decode(model, found, sample_plain(found))  # all frames, before the first is encoded
        write([rgb_to_yuv420(whole).numpy()])
        before["end_to_end"] = window / (time.perf_counter() - start)
        expected = rgb_to_yuv420(baseline.decode(model, plain, some)).numpy()

        print("engine: start-up (compiles at the first run) ...", flush=True)
        keep_memory()
        start = time.perf_counter()
        engine = Compute(
            model,
            mode=job.mode,
            clip_batch=job.clip_batch,
            frame_batch=job.frame_batch,
            weights=f"benchmark-{job.model}-seed-0",  # random weights from a fixed seed
            cache=cache_folder() / "compiled",
        )

        def sample() -> torch.Tensor:
            return engine.sample(
                speech,
                portrait.motion.expand(job.clip_batch, -1),
                emotion.expand(job.clip_batch, -1),
                scales.expand(job.clip_batch, -1),
                [0] * job.clip_batch,
                nfe=job.nfe,
                solver="euler",
                tolerance=1e-3,
            )

        portrait = engine.portrait(pixels)
        sample()
        frames = np.concatenate(list(engine.frames(portrait, some)))
        further["start_up_seconds"] = time.perf_counter() - start
        difference = np.abs(frames.astype(int) - expected)
        further["mean_difference_of_255"] = float(difference.mean())

        def new_portrait() -> Portrait:
            engine.forget_portraits()
            return engine.portrait(pixels)

        print("engine ...", flush=True)
        after = {
            "portrait": 1 / seconds(new_portrait),
            "sampling": job.clip_batch * window / seconds(sample),
            "decode": len(some) / seconds(lambda: list(engine.frames(portrait, some)), times=5),
        }
        start = time.perf_counter()
        write(engine.frames(new_portrait(), sample()[0]))
        after["end_to_end"] = window / (time.perf_counter() - start)
        rate = measure_encoder(video, side)
        before["encode"] = after["encode"] = rate
        further["encoders_needed"] = encoders_needed(after["decode"], rate)
    further["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    if job.model == "full":
        further["decode_gflops"] = after["decode"] * DECODE_GFLOP
        further["sampling_gflops_of_baseline_work"] = after["sampling"] / window * job.nfe * 3 * WINDOW_GFLOP
    units = {"portrait": "images/s"}
    order = ("portrait", "sampling", "decode", "encode", "end_to_end")
    return [Stage(name, units.get(name, "frames/s"), before[name], after[name]) for name in order], further


def main() -> int:
    """Entry point; returns the exit code."""
    job, _ = parse(BenchmarkJob, USAGE)
    torch.set_num_threads(job.threads or len(os.sched_getaffinity(0)))
    stages, further = measure(job)
    print(
        f"\n{job.model}, float32, {torch.get_num_threads()} threads, {platform.machine()}, PyTorch {torch.__version__}"
    )
    print(f"{'':12} {'baseline':>10} {'engine':>10}           ratio")
    for stage in stages:
        print(f"{stage.name:12} {stage.baseline:10.2f} {stage.engine:10.2f} {stage.unit:9} {stage.ratio:6.2f} x")
    print("encode is the same x264 in both: one encoder, one thread")
    for name, value in further.items():
        print(f"{name.replace('_', ' ')}: {value:.3g}")
    if job.json:
        table = {s.name: {"baseline": s.baseline, "engine": s.engine, "unit": s.unit, "ratio": s.ratio} for s in stages}
        Path(job.json).write_text(json.dumps(table | {"further": further}, indent=2) + "\n")
        print(f"written to {job.json}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
