"""The speed of rendering, stage by stage: the released algorithm, and the engine."""

import numpy as np
import torch

from jobs.bench import baseline
from jobs.bench.counting import count, seconds, timed
from jobs.bench.engines import eager, engine
from jobs.bench.job import Figures, say
from jobs.bench.machine import memory
from jobs.bench.subject import Subject
from models import Portrait
from pipeline.media.h264 import encoders_needed, measure_encoder
from pipeline.media.planes import rgb_to_yuv420
from pipeline.render.handover import Handover
from pipeline.render.model_runner import ModelRunner
from pipeline.render.tuning.gate import worst_psnr


@torch.no_grad()
def measure_baseline(subject: Subject) -> Figures:
    """Rates of the released algorithm, with PyTorch's own settings: one clip, one frame at a time, all then encoded."""
    model, motion = subject.model, subject.plain_motion
    times, window = subject.sizes.times, len(motion)
    torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = False, True  # PyTorch's defaults
    plain = baseline.encode(model, subject.image)
    rates: Figures = {}

    def found(name: str, rate: float) -> None:
        rates[name] = rate
        say(f"  {name}: {rate:.2f} a second")
        subject.report({"baseline": rates})

    found("decode", 1 / seconds(lambda: baseline.decode(model, plain, motion[:1]), times))
    found("portrait", 1 / seconds(lambda: baseline.encode(model, subject.image), times))
    found("sampling", window / seconds(lambda: subject.sample_plain(plain), max(1, times // 2)))
    # A whole window of the full-size model takes more than a minute on a CPU; its last frames take what the first take.
    length = window if window / rates["decode"] < subject.sizes.whole else min(window, 10)

    def whole() -> None:
        with subject.writers(1) as (writer,):
            portrait = baseline.encode(model, subject.image)
            frames = baseline.decode(model, portrait, subject.sample_plain(portrait)[:length])
            writer.write(rgb_to_yuv420(frames).cpu().numpy())

    found("end_to_end", window / (timed(whole) + (window - length) / rates["decode"]))
    return {"baseline": rates, "end_to_end_frames_rendered": length} | memory(subject)


@torch.no_grad()
def measure_engine(subject: Subject) -> Figures:
    """Rates of the engine, the PSNR of its frames against the plain model in float32, and the work that it does."""
    made, slots = engine(subject), subject.slots
    portrait = made.portrait(subject.pixels)
    motion = subject.plain_motion
    window = len(motion)
    size = subject.sizes.frame_batches * made.frame_batch
    some = motion.repeat(-(-size // window), 1)[:size]
    rates: Figures = {}

    def found(name: str, rate: float) -> None:
        rates[name] = rate
        say(f"  {name}: {rate:.2f} a second")
        subject.report({"engine": rates})

    def new_portrait() -> Portrait:
        made.forget_portraits()
        return made.portrait(subject.pixels)

    def whole() -> None:
        failed: list[Exception] = []
        with subject.writers(slots) as writers:
            handover = Handover(subject.device)
            for writer, sampled in zip(writers, subject.sample(made, new_portrait(), slots), strict=True):
                for batch in made.decoded(portrait, sampled):
                    handover.pass_on(batch, writer.write, failed.append)
            handover.close()
        if failed:
            raise failed[0]

    times = subject.sizes.times
    found("decode", len(some) / seconds(lambda: _drain(made, portrait, some), times))
    found("sampling", slots * window / seconds(lambda: subject.sample(made, portrait, slots), times))
    found("portrait", 1 / seconds(new_portrait, times))
    found("end_to_end", slots * window / seconds(whole, max(1, times // 2)))
    psnr = _psnr(subject, made)
    subject.report({"psnr": psnr})
    return {
        "engine": rates,
        "psnr": psnr,
        "name": made.engine,
        "precisions": {"decode": made.decoder.precision, "sampling": made.field.precision},
        "frame_batch": made.frame_batch,
        "slots": slots,
        "encoders_needed": encoders_needed(rates["decode"], measure_encoder(subject.video, subject.side)),
        **_work(subject, motion),
        **memory(subject),
    }


def _psnr(subject: Subject, made: ModelRunner) -> Figures:
    """Worst frame, if the engine only does this one step, and if it does all of them."""
    portrait = made.portrait(subject.pixels)
    sampled = subject.sample(made, portrait, subject.slots)[0]

    def decoded(motion: torch.Tensor) -> np.ndarray:
        return np.concatenate(list(made.frames(portrait, motion[subject.compared])))

    found = {
        "sampling": worst_psnr(subject.plain_frames(sampled), subject.expected),
        "decode": worst_psnr(decoded(subject.plain_motion), subject.expected),
        "end_to_end": worst_psnr(decoded(sampled), subject.expected),
    }
    say("  worst frame: " + ", ".join(f"{name} {value:.1f} dB" for name, value in found.items()))
    return found


def _work(subject: Subject, motion: torch.Tensor) -> Figures:
    """Arithmetic and memory traffic of a frame, counted with the eager modules in float32."""
    plain = eager(subject)
    portrait = plain.portrait(subject.pixels)
    batch = motion[: plain.frame_batch]
    sampling = count(lambda: subject.sample(plain, portrait, 1))
    decoding = count(lambda: _drain(plain, portrait, batch))
    return {
        "sampling_gflop_a_frame": sampling.gflop / len(motion),
        "sampling_gigabytes_a_frame_unfused": sampling.gigabytes / len(motion),
        "decode_gflop_a_frame": decoding.gflop / len(batch),
        "decode_gigabytes_a_frame_unfused": decoding.gigabytes / len(batch),
    }


def _drain(made: ModelRunner, portrait: Portrait, motion: torch.Tensor) -> None:
    for _ in made.decoded(portrait, motion):
        pass
