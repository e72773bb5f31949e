"""The engine of a render worker: the one that its mode names, a cached choice, or the best one that is found now."""

import logging
import math
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import torch

from models import FLOAT, ModelFolder
from models.fast.compiled import has_compiler
from models.fast.native import has_native
from models.fast.private_cache import CacheError
from models.sampling import choose_sampler
from pipeline.media.pixel_layout import YUV420P, PixelLayout
from pipeline.render.model_runner import ModelRunner
from pipeline.render.settings import EngineSettings
from pipeline.render.tuning import candidates
from pipeline.render.tuning.choice_cache import ChoiceCache, Tuned, choice_key
from pipeline.render.tuning.gate import EXACT
from pipeline.render.tuning.search import Attempt, Found, search
from pipeline.render.tuning.trial import Meter, Trial, Workbench
from pipeline.render.tuning.trial_process import TRIAL_SECONDS, Task, TrialProcess, command_for
from pipeline.render.variants import Choice, Variant, choose_mode
from pipeline.storage.model_cache import cache_folder

logger = logging.getLogger(__name__)

SHARE = 0.1
"""Of the time that the eager float32 engine would take for the job; tuning ends after it."""
GPU_BUDGET = 30.0
"""Seconds that a GPU is tuned for even if the job is short, or its length not known."""
FPS = 25
"""Frames per second of the motion."""


class Tuner:
    """Chooses the engine of one worker."""

    def __init__(
        self,
        folder: ModelFolder,
        model: FLOAT,
        settings: EngineSettings,
        *,
        slots: int,
        audio_seconds: float = 0.0,
        layout: PixelLayout = YUV420P,
    ) -> None:
        """`model` is that of `folder`, on its device; `audio_seconds` is what it has to render, 0 if unknown.

        `layout` is that of the frames.
        """
        self._folder, self._model, self._settings, self._slots = folder, model, settings, slots
        self._audio_seconds, self._layout = audio_seconds, layout
        self._device = model.autoencoder.decoder.constant.device
        self._gpu = self._device.type == "cuda"
        self._batch = settings.frame_batch or (32 if self._gpu else 4)
        self._solver = choose_sampler(model.config.objective, settings.solver)
        self._packages = cache_folder() / "compiled"

    def choose(self) -> tuple[ModelRunner, Tuned]:
        """The runner to render with, and what is known about it.

        Raises RuntimeError if the plain model does not work, and whatever a broken device raises.
        """
        mode = choose_mode(self._settings.mode, gpu=self._gpu, seconds=self._audio_seconds)
        if mode != "tuned":
            tuned = Tuned(Choice(Variant(mode), Variant(mode), self._batch))
            return self._make(tuned.choice), tuned
        try:
            cache = ChoiceCache(cache_folder() / "engines", self._key())
            with cache.locked():
                return self._cached(cache) or self._tuned(cache)
        except CacheError as error:
            # Workers agree on a choice through the cache alone.
            logger.warning("the engine is not tuned: %s", error)
            return self._accepted(self._bench(), candidates.eager(self._batch))

    def _cached(self, cache: ChoiceCache) -> tuple[ModelRunner, Tuned] | None:
        """What was chosen before, if it is still right on this device, and no longer search could find more."""
        known = cache.read()
        if known is None or self._budget(known.eager_seconds) > 2 * known.budget:
            return None
        trial, runner = self._bench(few=True).attempt("both", known.choice, timed=False)
        if runner is None:
            logger.warning("%s is cached, but refused now: %s; the engine is chosen again", known.choice, trial.problem)
            return None
        return runner, known

    def _tuned(self, cache: ChoiceCache) -> tuple[ModelRunner, Tuned]:
        """The best engine that is found now; it is cached."""
        logger.info("the engine is chosen by measurement; the choice is kept for later workers")
        bench = self._bench()
        with ExitStack() as stack:
            attempt = self._attempts(bench, stack)
            start = candidates.eager(self._batch)
            decoder, field = (attempt(part, start, False, math.inf) for part in ("decoder", "field"))
            found, budget, eager_seconds = Found(start, complete=False), 0.0, decoder.seconds + field.seconds
            if problem := decoder.problem or field.problem:
                logger.warning("%s cannot be tried, and nothing else is: %s", start, problem)
            else:
                best, budget = {"decoder": decoder.seconds, "field": field.seconds}, self._budget(eager_seconds)
                found = search(attempt, start, best, candidates.steps(self._ground()), budget)
        if self._gpu:
            # If what was right in another process kills this one, the next worker finds the safe engine.
            cache.write(Tuned(start, eager_seconds=eager_seconds))
        runner, tuned = self._accepted(bench, found.choice)
        tuned = replace(tuned, eager_seconds=eager_seconds, budget=math.inf if found.complete else budget)
        cache.write(tuned)
        logger.info("chosen: %s", tuned.choice)
        return runner, tuned

    def _accepted(self, bench: Workbench, best: Choice) -> tuple[ModelRunner, Tuned]:
        """The first engine that is accepted as a whole in this process: the best, one half of it, eager, or plain."""
        start = candidates.eager(best.frame_batch)
        halves = (replace(best, field=start.field), replace(best, decoder=start.decoder))
        for choice in dict.fromkeys((best, *halves, start, candidates.eager(self._batch))):
            trial, runner = bench.attempt("both", choice)
            if runner is not None:
                return runner, Tuned(choice, trial.psnr, round(1 / trial.seconds, 2) if trial.seconds else None)
            logger.warning("%s is refused: %s", choice, trial.problem)
        choice = candidates.plain(self._batch)
        return self._make(choice), Tuned(choice, EXACT)

    def _attempts(self, bench: Workbench, stack: ExitStack) -> Attempt:
        """Trials in another process: of everything on a GPU, and of what is risky on a CPU."""
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="floatcast-tuning-")))
        threads = torch.get_num_threads()
        task = Task(
            model=str(self._folder.path),
            device=str(self._device),
            threads=threads,
            slots=self._slots,
            solver=self._solver,
            cache=str(self._packages),
            available=self._available(),
            layout=self._layout.name,
        )
        process = TrialProcess(command_for(task, bench.reference, scratch))
        stack.callback(process.close)

        def attempt(part: str, choice: Choice, risky: bool, limit: float) -> Trial:
            if self._gpu or risky:
                return process.attempt(part, choice, limit=min(limit, TRIAL_SECONDS))
            return bench.attempt(part, choice)[0]

        return attempt

    # --- What the choice depends on ----------------------------------------------------------------------------

    def _make(self, choice: Choice) -> ModelRunner:
        return ModelRunner(
            self._model,
            choice=choice,
            portraits=self._settings.portrait_cache,
            weights=self._folder.hash,
            cache=self._packages,
            layout=self._layout,
        )

    def _bench(self, *, few: bool = False) -> Workbench:
        meter = Meter(self._device, self._available())
        return Workbench(self._make, slots=self._slots, solver=self._solver, meter=meter, few=few)

    def _available(self) -> int:
        """Bytes of GPU memory that belong to this actor; 0 on a CPU."""
        if not self._gpu:
            return 0
        share = min(1.0, self._settings.num_gpus) if self._settings.num_gpus > 0 else 1.0
        return int(share * torch.cuda.get_device_properties(self._device).total_memory)

    def _budget(self, eager_seconds: float) -> float:
        """Seconds that tuning may take."""
        work = self._audio_seconds * FPS * eager_seconds
        return max(GPU_BUDGET if self._gpu else 0.0, SHARE * work)

    def _ground(self) -> candidates.Ground:
        compilers = ("compiled", "inductor") if self._gpu else ("compiled",)
        precisions = candidates.useful_precisions(self._device, self._settings.precision)
        return candidates.Ground(
            gpu=self._gpu,
            precisions=precisions,
            batches=not self._settings.frame_batch,
            compilers=compilers if has_compiler() else (),
            fast_field=self._model.config.conditioning == "adaln",
            graphs=self._gpu and self._solver != "dopri5",
            native="int8" in precisions and has_native(),
        )

    def _key(self) -> str:
        return choice_key(
            self._device,
            model=self._folder.hash,
            slots=self._slots,
            solver=self._solver,
            frame_batch=self._settings.frame_batch,
            precision=self._settings.precision,
            memory=self._available(),
            layout=self._layout.name,
        )
