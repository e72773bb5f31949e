"""The training loop, for a single process and for many workers of Ray Train (`pipeline.training.trainer`)."""

import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from pipeline.common.errors import RefusedError
from pipeline.training.checkpoint import save_checkpoint, store
from pipeline.training.curves import Curves
from pipeline.training.samples import Samples
from pipeline.training.settings import DataSettings, TrainSettings
from pipeline.training.stage import Stage, Sums, means
from pipeline.training.world import World


def train(
    stage: Stage,
    settings: TrainSettings,
    world: World,
    *,
    start: int,
    output: str,
    run: dict[str, Any],
    about: Sequence[tuple[str, object]] = (),
    say: Callable[[str], None] = print,
) -> None:
    """Do the steps from `start` to `optimiser.steps`.

    The first worker keeps learning curves and checkpoints in the output. The samples, noise and learning rate of a step
    depend only on its number, and its loss is the mean over all its samples. The number of workers therefore only
    changes rounding, and a run that was stopped continues as if it had not been.

    `about`: what is trained on what, for the page of curves, as (name, value).
    """
    optimiser, watch = settings.optimiser, settings.watch
    places = world.share(optimiser.batch)
    curves = Curves(output, start, about) if world.first else None
    meter = _Meter(world, optimiser.batch, len(places), optimiser.steps)
    figures: dict[str, float] = {}
    try:
        for step, batch, waited in read_batches(
            stage.samples,
            settings.reading,
            seed=optimiser.seed,
            steps=range(start, optimiser.steps),
            places=places,
        ):
            meter.add(stage.update(batch, step), waited)
            done, last = step + 1, step + 1 == optimiser.steps
            shows, saves = (last or done % every == 0 for every in (watch.log_every, watch.save_every))
            if shows or saves:
                meter.check(done)
            if shows:
                figures = meter.read()
                if curves is not None:
                    curves.add(done, {f"train/{name}": value for name, value in figures.items()})
                    say(meter.line(done, figures))
            if done % watch.validate_every == 0 or last:
                with meter.paused():
                    if curves is not None:
                        figures |= _validate(stage, curves, done, say)
                    world.barrier()
            if saves and curves is not None:
                with meter.paused(), tempfile.TemporaryDirectory(prefix="floatcast-") as folder:
                    save_checkpoint(Path(folder), stage, done, run, figures)
                    # Before the checkpoint, so that a run that resumes from it finds its learning curves up to there.
                    curves.store()
                    store(Path(folder), output, done, watch.keep)
    finally:
        if curves is not None:
            curves.close()


def read_batches(
    samples: Samples, settings: DataSettings, *, seed: int, steps: range, places: range
) -> Iterator[tuple[int, Any, float]]:
    """(step, batch of the samples at `places`, seconds spent waiting for it), in the order of `steps`.

    Samples of the coming steps are read in threads, so that the next batch is ready when it is needed. Threads are used
    instead of processes because decoding and reading release Python's lock, and clients of object storage do not
    survive a fork.
    """
    waiting: deque[tuple[int, list[Future[Any]]]] = deque()
    coming = iter(steps)
    with ThreadPoolExecutor(settings.threads, "read") as threads:
        try:
            while True:
                while len(waiting) < settings.ahead and (step := next(coming, None)) is not None:
                    waiting.append((step, [threads.submit(samples.sample, seed, step, place) for place in places]))
                if not waiting:
                    return
                step, futures = waiting.popleft()
                start = time.perf_counter()
                batch = samples.collate([future.result() for future in futures])
                yield step, batch, time.perf_counter() - start
        finally:
            threads.shutdown(wait=False, cancel_futures=True)


def _validate(stage: Stage, curves: Curves, done: int, say: Callable[[str], None]) -> dict[str, float]:
    found = stage.validate()
    if found is None:
        return {}
    curves.add(done, {f"validation/{name}": value for name, value in found.figures.items()})
    if found.sheet is not None:
        curves.picture(done, found.sheet)
    say(f"step {done}: held-out speakers: " + ", ".join(f"{name} {value:.4g}" for name, value in found.figures.items()))
    return {f"validation_{name}": value for name, value in found.figures.items()}


class DivergedError(RefusedError):
    """The loss is not finite any more; earlier checkpoints are good."""


class _Meter:
    """Means of a step's terms, and the speed, over the steps since the last reading."""

    def __init__(self, world: World, batch: int, share: int, steps: int) -> None:
        self._world, self._batch, self._share, self._steps = world, batch, share, steps
        self._sums: Sums = {}
        self._count, self._waited, self._since = 0, 0.0, time.perf_counter()

    def add(self, sums: Sums, waited: float) -> None:
        for name, value in sums.items():
            self._sums[name] = self._sums[name] + value if name in self._sums else value
        self._count += 1
        self._waited += waited

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Time inside this context does not count as time of the steps."""
        start = time.perf_counter()
        yield
        self._since += time.perf_counter() - start

    def check(self, done: int) -> None:
        """Raise DivergedError if a term is not finite, on all workers, because they share their gradients."""
        norm = self._sums["gradient_norm"]
        if not bool(norm.isfinite()):
            raise DivergedError(
                f"the gradient is not finite any more at step {done}: lower optimiser.learning_rate, raise "
                "optimiser.warmup or lower optimiser.clip, in a new output"
            )

    def read(self) -> dict[str, float]:
        """The values over all workers; then start again."""
        spent = time.perf_counter() - self._since
        names = sorted(self._sums)
        values = torch.stack([*(self._sums[name].float() for name in names)])
        clock = torch.tensor([spent, self._waited], device=values.device)
        summed = self._world.sum(torch.cat([values, clock]))
        found = means(dict(zip(names, summed[:-2], strict=True)), self._batch * self._count)
        seconds, waited = (summed[-2:] / self._world.size).tolist()
        found["samples_per_second_per_worker"] = self._share * self._count / max(seconds, 1e-9)
        found["data_wait_share"] = waited / max(seconds, 1e-9)
        self._left = seconds / self._count
        self._sums, self._count, self._waited = {}, 0, 0.0
        self._since = time.perf_counter()
        return found

    def line(self, done: int, figures: dict[str, float]) -> str:
        """A line for the user: progress, losses, speed and remaining time."""
        terms = [name for name in figures if not name.startswith(("samples_", "data_"))]
        left = round((self._steps - done) * self._left)
        return (
            f"step {done} of {self._steps}: "
            + ", ".join(f"{name} {figures[name]:.4g}" for name in sorted(terms, key=lambda name: name != "loss"))
            + f"; {figures['samples_per_second_per_worker']:.3g} samples/s per worker"
            + (f" x {self._world.size}" if self._world.size > 1 else "")
            + f", waiting for data {figures['data_wait_share']:.0%}"
            + f"; ETA {left // 3600}:{left // 60 % 60:02}:{left % 60:02}"
        )
