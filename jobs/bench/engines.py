"""The engines of this device: the test of a worker, the comparison with the plain model, and the choice."""

import logging
import math
import time

import numpy as np

from jobs.bench.counting import timed
from jobs.bench.job import Figures, say
from jobs.bench.machine import memory
from jobs.bench.subject import Subject
from models.sampling import choose_sampler
from pipeline.common.malloc import keep_memory
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.self_test import check_fit
from pipeline.render.tuning import choose
from pipeline.render.tuning.gate import motion_error, worst_psnr
from pipeline.render.variants import choose_mode

LONG = 3600.0
"""Seconds of audio of the job for which `mode=auto` chooses."""

BUDGET = 180.0
"""Seconds in which the tuner begins further trials; those of a long job are no limit."""


class Tried(logging.Handler):
    """Keeps and says what the tuner logs about the engines that it tries."""

    def __init__(self, subject: Subject) -> None:
        super().__init__(logging.INFO)
        self._subject = subject
        self.lines: list[str] = []
        self._logger = logging.getLogger(choose.__name__.rpartition(".")[0])

    def emit(self, record: logging.LogRecord) -> None:
        """One line of the table."""
        self.lines.append(record.getMessage())
        say(f"  {self.lines[-1]}")
        self._subject.report({"tried": list(self.lines)})

    def __enter__(self) -> "Tried":
        self._level, self._propagate = self._logger.level, self._logger.propagate
        self._logger.setLevel(logging.INFO)
        self._logger.propagate = False
        self._logger.addHandler(self)
        return self

    def __exit__(self, *error: object) -> None:
        self._logger.removeHandler(self)
        self._logger.setLevel(self._level)
        self._logger.propagate = self._propagate


def eager(subject: Subject) -> ModelRunner:
    """The fast modules in float32, not compiled."""
    if not subject.gpu:
        keep_memory()
    return ModelRunner(subject.model, mode="eager", frame_batch=subject.frame_batch)


def engine(subject: Subject) -> ModelRunner:
    """The engine that a long job would use; the eager one if choosing has failed before. It is made once."""
    if subject.engine is None:
        if "tuner" in subject.failed:
            say("  the engine is the eager one, because the section tuner has failed")
            subject.engine = eager(subject)
        else:
            subject.engine, _ = tuner(subject).choose()
    return subject.engine


def tuner(subject: Subject) -> choose.Tuner:
    """What chooses the engine, with time for `BUDGET`."""
    if not subject.gpu:
        keep_memory()
    settings = subject.settings
    settings.mode = choose_mode(settings.mode, gpu=subject.gpu, seconds=LONG)
    audio_seconds = BUDGET / (choose.SHARE * choose.FPS * eager_seconds(subject))
    return choose.Tuner(subject.folder, subject.model, settings, slots=subject.slots, audio_seconds=audio_seconds)


def eager_seconds(subject: Subject) -> float:
    """Seconds for a frame with the eager engine."""
    made = eager(subject)
    portrait = made.portrait(subject.pixels)
    batch = subject.plain_motion[: made.frame_batch]
    decoding = timed(lambda: list(made.frames(portrait, batch))) / len(batch)
    sampling = timed(lambda: subject.sample(made, portrait, subject.slots))
    return decoding + sampling / (subject.slots * len(subject.plain_motion))


def measure_self_test(subject: Subject) -> Figures:
    """What every render worker does before it gets work, with the eager engine."""
    made = eager(subject)
    sampler = choose_sampler(subject.model.config.objective, "auto")
    spent = timed(lambda: check_fit(made, MotionSlots(made, subject.slots), sampler, subject.video))
    return {"name": made.engine, "self_test_seconds": spent} | memory(subject)


def measure_parity(subject: Subject) -> Figures:
    """PSNR of the fast modules' frames, and the error of their motion, against the plain model in float32."""
    made = eager(subject)
    portrait = made.portrait(subject.pixels)
    frames = np.concatenate(list(made.frames(portrait, subject.plain_motion[subject.compared])))
    motion = subject.sample(made, portrait, subject.slots)[0]
    figures = {
        "decoder_psnr": worst_psnr(frames, subject.expected),
        "motion_error": motion_error(motion, subject.plain_motion),
    }
    say(f"  {made.engine}: worst frame {figures['decoder_psnr']:.1f} dB, motion error {figures['motion_error']:.1e}")
    if not math.isfinite(figures["motion_error"]):
        raise RuntimeError("the fast vector field gives motion that is not finite: run pytest tests/models here")
    return figures | memory(subject)


def measure_tuner(subject: Subject) -> Figures:
    """Choose the engine as a worker would for a long job, and say what was tried."""
    start = time.perf_counter()
    with Tried(subject) as tried:
        subject.engine, tuned = tuner(subject).choose()
    spent = time.perf_counter() - start
    say(f"  {subject.engine.engine}")
    found = {"name": subject.engine.engine, "psnr": tuned.psnr, "fps": tuned.fps, "tried": tried.lines}
    return found | {"start_up_seconds": spent} | memory(subject)
