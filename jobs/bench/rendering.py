"""The speed of rendering: the engine compared with the released algorithm, stage by stage."""

import time
from functools import partial

import numpy as np
import torch

from jobs.bench import baseline
from jobs.bench.counting import copy_gigabytes, count, matrix_gflops, seconds, wait_for_gpu
from jobs.bench.job import Measurements, Stage
from jobs.bench.subject import Subject
from models import Portrait
from pipeline.common.malloc import keep_memory
from pipeline.media.h264 import encoders_needed, measure_encoder
from pipeline.media.mp4 import rgb_to_yuv420
from pipeline.render.continuous_batching import choose_slots
from pipeline.render.model_runner import ModelRunner


@torch.no_grad()
def measure_rendering(subject: Subject, measurements: Measurements) -> None:
    """Rates of both, stage by stage; the baseline is measured first."""
    job, device, window = subject.job, subject.device, subject.window
    further = measurements.further
    slots = choose_slots(job.slots, gpu=device.type == "cuda")
    further["ceiling_gflops"] = matrix_gflops(device)
    further["ceiling_copy_gb_per_second"] = copy_gigabytes(device)

    print("baseline ...", flush=True)
    model = subject.model
    plain = baseline.encode(model, subject.image)
    some = plain.motion + 0.05 * torch.randn(2 * job.frame_batch, subject.dim, device=device)
    before = {
        "portrait": 1 / seconds(lambda: baseline.encode(model, subject.image)),
        "sampling": window / seconds(lambda: subject.sample_plain(plain), times=2),
        "decode": 1 / seconds(lambda: baseline.decode(model, plain, some[:1]), times=5),
    }
    wait_for_gpu()
    start = time.perf_counter()
    with subject.writers(1) as (writer,):
        found = baseline.encode(model, subject.image)
        # All frames of the clip are decoded before the first is encoded.
        writer.write(rgb_to_yuv420(baseline.decode(model, found, subject.sample_plain(found))).cpu().numpy())
    before["end_to_end"] = window / (time.perf_counter() - start)
    expected = rgb_to_yuv420(baseline.decode(model, plain, some)).cpu().numpy()

    print("engine: start-up (compiles at the first run) ...", flush=True)
    if device.type == "cpu":
        keep_memory()

    def start_up() -> tuple[ModelRunner, np.ndarray]:
        engine = subject.engine(job.mode, job.frame_batch)
        portrait = engine.portrait(subject.pixels)
        subject.sample(engine, portrait, slots)
        return engine, np.concatenate(list(engine.frames(portrait, some)))

    start = time.perf_counter()
    engine, frames = start_up()
    further["start_up_seconds"] = time.perf_counter() - start
    start = time.perf_counter()
    start_up()
    further["next_start_up_seconds"] = time.perf_counter() - start
    further["mean_difference_of_255"] = float(np.abs(frames.astype(int) - expected).mean())

    print("engine ...", flush=True)
    portrait = engine.portrait(subject.pixels)

    def new_portrait() -> Portrait:
        engine.forget_portraits()
        return engine.portrait(subject.pixels)

    after = {
        "portrait": 1 / seconds(new_portrait),
        "sampling": slots * window / seconds(lambda: subject.sample(engine, portrait, slots)),
        "decode": len(some) / seconds(lambda: list(engine.frames(portrait, some)), times=5),
    }
    wait_for_gpu()
    start = time.perf_counter()
    with subject.writers(slots) as writers:
        for writer, motion in zip(writers, subject.sample(engine, new_portrait(), slots), strict=True):
            for batch in engine.frames(portrait, motion):
                writer.write(batch)
    after["end_to_end"] = slots * window / (time.perf_counter() - start)
    rate = measure_encoder(subject.video, subject.side)
    before["encode"] = after["encode"] = rate
    further["encoders_needed"] = encoders_needed(after["decode"], rate)

    eager = subject.engine("eager", job.frame_batch)
    known = eager.portrait(subject.pixels)
    sampling = count(lambda: subject.sample(eager, known, slots))
    decoding = count(lambda: list(eager.frames(known, some)))
    for name, work, frames_counted in (("sampling", sampling, slots * window), ("decode", decoding, len(some))):
        gflop, gigabytes = work.gflop / frames_counted, work.gigabytes / frames_counted
        further[f"{name}_gflop_a_frame"] = gflop
        further[f"{name}_gigabytes_a_frame_unfused"] = gigabytes
        further[f"{name}_share_of_ceiling_gflops"] = gflop * after[name] / further["ceiling_gflops"]
        further[f"{name}_share_of_copy_unfused"] = gigabytes * after[name] / further["ceiling_copy_gb_per_second"]
    units = {"portrait": "images/s"}
    for name in ("portrait", "sampling", "decode", "encode", "end_to_end"):
        measurements.stages.append(Stage(name, units.get(name, "frames/s"), before[name], after[name]))


@torch.no_grad()
def measure_variants(subject: Subject, measurements: Measurements) -> None:
    """The engine with other batch sizes, and without compiling."""
    job, window = subject.job, subject.window
    for mode in dict.fromkeys(("eager", job.mode)):
        for size in (1, 2, 4):
            print(f"{mode}, batches of {size} ...", flush=True)
            engine = subject.engine(mode, size)
            portrait = engine.portrait(subject.pixels)
            motion = portrait.motion + 0.05 * torch.randn(8, subject.dim, device=subject.device)
            spent = seconds(partial(subject.sample, engine, portrait, size))
            measurements.variants[f"sampling, {mode}, {size} slots"] = size * window / spent
            spent = seconds(partial(_drain, engine, portrait, motion))
            measurements.variants[f"decode, {mode}, {size} frames"] = len(motion) / spent


def _drain(engine: ModelRunner, portrait: Portrait, motion: torch.Tensor) -> None:
    for _ in engine.frames(portrait, motion):
        pass
