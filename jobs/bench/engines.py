"""The engines of this device: the test of a worker, the comparison with the plain model, and the choice."""

import time

import numpy as np

from jobs.bench.counting import timed
from jobs.bench.job import Figures, say
from jobs.bench.machine import memory
from jobs.bench.subject import Subject
from pipeline.common.malloc import keep_memory
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner, choose_mode
from pipeline.render.self_test import check_fit
from pipeline.storage.model_cache import cache_folder

LONG = 3600.0
"""Seconds of audio of the job for which `mode=auto` chooses."""

EXACT = 100.0
"""dB that stand for frames without a difference."""


def worst_psnr(frames: np.ndarray, expected: np.ndarray) -> float:
    """PSNR of the worst frame over all Y'CbCr samples, dB, at most EXACT; both (N,...) uint8."""
    difference = frames.astype(np.float32) - expected.astype(np.float32)
    worst = float(np.square(difference).reshape(len(frames), -1).mean(axis=1).max())
    return EXACT if worst == 0 else min(EXACT, 10 * float(np.log10(255**2 / worst)))


def runner(subject: Subject, mode: str) -> ModelRunner:
    """A runner of one mode in float32."""
    if not subject.gpu:
        keep_memory()
    return ModelRunner(
        subject.model,
        mode=mode,
        frame_batch=subject.frame_batch,
        weights=subject.folder.hash,
        cache=cache_folder() / "compiled",
    )


def engine(subject: Subject) -> ModelRunner:
    """The engine that a long job would use, and `eager` if choosing it has failed before."""
    mode = "eager" if "tuner" in subject.failed else choose_mode(subject.job.mode, gpus=subject.gpu, seconds=LONG)
    return runner(subject, mode)


def measure_self_test(subject: Subject) -> Figures:
    """What every render worker does before it gets work, with the eager engine."""
    made = runner(subject, "eager")
    spent = timed(lambda: check_fit(made, MotionSlots(made, subject.slots), "auto"))
    return {"engine": made.mode, "self_test_seconds": spent} | memory(subject)


def measure_parity(subject: Subject) -> Figures:
    """PSNR of the fast modules' frames, and the error of their motion, against the plain model in float32."""
    made = runner(subject, "eager")
    portrait = made.portrait(subject.pixels)
    frames = np.concatenate(list(made.frames(portrait, subject.plain_motion[subject.compared])))
    motion = subject.sample(made, portrait, subject.slots)[0]
    error = float((motion - subject.plain_motion).norm() / subject.plain_motion.norm())
    figures = {"decoder_psnr": worst_psnr(frames, subject.expected), "motion_error": error}
    say(f"  eager float32: worst frame {figures['decoder_psnr']:.1f} dB, motion error {error:.1e}")
    if not np.isfinite(error):
        raise RuntimeError("the fast vector field gives motion that is not finite: run pytest tests/models here")
    return figures | memory(subject)


def measure_tuner(subject: Subject) -> Figures:
    """Choose the engine as a worker would, and say what was tried."""
    start = time.perf_counter()
    made = engine(subject)
    portrait = made.portrait(subject.pixels)
    subject.sample(made, portrait, subject.slots)
    for _ in made.frames(portrait, subject.plain_motion[: made.frame_batch]):
        pass
    return {"engine": made.mode, "tried": [], "start_up_seconds": time.perf_counter() - start} | memory(subject)
