"""Trying one engine: is it right, does it fit, and how long does it take? The workbench is the actor's own model."""

import logging
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pipeline.common.broken_device import is_device_failure
from pipeline.render.continuous_batching import MotionSlots
from pipeline.render.model_runner import ModelRunner
from pipeline.render.tuning.candidates import plain
from pipeline.render.tuning.gate import EXACT, frames_problem, memory_problem, motion_problem, worst_psnr
from pipeline.render.tuning.probe import Probe, spread
from pipeline.render.variants import Choice

logger = logging.getLogger(__name__)

TIMES = 3
"""Timed runs, of which the median counts."""
CPU_FRAMES = 8
"""Frames that are compared on a CPU, which would need seconds for a window of them; a GPU compares all."""


@dataclass(frozen=True)
class Trial:
    """What came out of trying an engine, or a part of it."""

    problem: str = ""
    """Why it is refused; empty if it is accepted."""
    seconds: float = 0.0
    """Time for a frame (of the decoder), for a frame of each clip (of the field), or for both together."""
    psnr: float = EXACT
    """Worst frame against the plain float32 model, dB."""


class Meter:
    """Times and memory of a device."""

    def __init__(self, device: torch.device, available: int = 0) -> None:
        """`available` bytes belong to the actor; 0 is not known, and then its peak is not judged."""
        self._gpu, self.available = device.type == "cuda", available

    def time(self, work: Callable[[], object]) -> float:
        """Seconds that `work` takes: between two events of the GPU, or by the clock."""
        if not self._gpu:
            start = time.perf_counter()
            work()
            return time.perf_counter() - start
        before, after = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        before.record()
        work()
        after.record()
        after.synchronize()
        return before.elapsed_time(after) / 1000

    def restart(self) -> None:
        """Forget the peak so far."""
        if self._gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> int:
        """Most bytes that PyTorch has held since `restart`; 0 on a CPU."""
        return torch.cuda.max_memory_reserved() if self._gpu else 0


@dataclass(frozen=True)
class Reference:
    """What the plain float32 model makes of the probe."""

    motion: np.ndarray
    """(L,D) float32."""
    frames: np.ndarray
    """(n,rows,S) in the runner's layout, of n frames spread over the window."""


class Workbench:
    """The actor's own model, the probe, and what the plain model makes of it."""

    def __init__(
        self,
        make: Callable[[Choice], ModelRunner],
        *,
        slots: int,
        solver: str,
        meter: Meter,
        reference: Reference | None = None,
        few: bool = False,
    ) -> None:
        """`make` gives a runner of the model, and `solver` is none of the automatic ones.

        Without a reference, the plain model is run here: with `few` evaluations, where nothing is timed. Raises
        whatever the device raises, and RuntimeError for motion that is not finite.
        """
        self._make, self._slots, self._solver, self._meter = make, slots, solver, meter
        self._plain = make(plain(CPU_FRAMES))
        self._probe = Probe.of(self._plain.model.config, solver, few=few)
        self.reference = reference or self._computed()
        self._motion = torch.from_numpy(self.reference.motion).to(self._plain.device)

    def _computed(self) -> Reference:
        motion = self._probe.motion(self._plain, self._places(self._plain))
        if not motion.isfinite().all():
            raise RuntimeError("this worker computes motion that is not finite: check the health of its device")
        count = len(motion) if motion.device.type == "cuda" else min(CPU_FRAMES, len(motion))
        return Reference(motion.cpu().numpy(), self._probe.frames(self._plain, spread(motion, count)))

    def _places(self, runner: ModelRunner) -> MotionSlots:
        return MotionSlots(runner, self._slots, solver=self._solver)

    def attempt(self, part: str, choice: Choice, *, timed: bool = True) -> tuple[Trial, ModelRunner | None]:
        """Try the `decoder`, the `field`, or `both` of a choice; the runner is there if it was accepted.

        An error is a refusal, unless it has broken the device.
        """
        self._meter.restart()
        try:
            runner = self._make(choice)
            trial = self.judge(part, runner, timed=timed)
            return trial, None if trial.problem else runner
        except torch.OutOfMemoryError:
            return Trial("it ran out of memory"), None
        except Exception as error:
            if is_device_failure(error):
                raise
            logger.info("%s: the %s failed", choice, part, exc_info=error)
            return Trial("it failed with an error"), None

    def judge(self, part: str, runner: ModelRunner, *, timed: bool = True) -> Trial:
        """Compare a runner with the plain model, and time it. Raises whatever the runner raises."""
        if part == "decoder":
            return self._judge_frames(runner, self._motion, timed=timed)
        places = self._places(runner)

        def sampled() -> Tensor:
            return self._probe.motion(runner, places)

        motion = sampled()
        if problem := motion_problem(motion, sampled(), self._motion):
            return Trial(problem)
        seconds = self._time(sampled) / (self._slots * len(motion)) if timed else 0.0
        if part == "field":
            decoded = self._judge_frames(self._plain, motion, timed=False)
        else:
            decoded = self._judge_frames(runner, motion, timed=timed)
        return Trial(decoded.problem, seconds + decoded.seconds, decoded.psnr)

    def _judge_frames(self, runner: ModelRunner, motion: Tensor, *, timed: bool) -> Trial:
        """Of motion (L,D) by `runner`."""
        expected, bits = self.reference.frames, runner.layout.bits
        chosen = spread(motion, len(expected))
        frames = self._probe.frames(runner, chosen)
        if problem := frames_problem(frames, self._probe.frames(runner, chosen), expected, bits):
            return Trial(problem)
        batch = spread(motion, runner.frame_batch)
        seconds = self._time(lambda: self._probe.frames(runner, batch)) / len(batch) if timed else 0.0
        if runner.short_of_memory:
            return Trial("it ran out of memory")
        problem = memory_problem(self._meter.peak(), self._meter.available)
        return Trial(problem, seconds, worst_psnr(frames, expected, bits))

    def _time(self, work: Callable[[], object]) -> float:
        return statistics.median(self._meter.time(work) for _ in range(TIMES))
