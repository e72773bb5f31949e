"""What limits the speed of a run: the pool of workers that is busiest, and what its workers do most of their time."""

from collections.abc import Mapping
from dataclasses import dataclass

from pipeline.ledger.clip_row import RENDER_STEPS

WAITS = 0.1
"""Share of a render worker's time that it may wait for something else before that is the limit."""

ADVICE = {
    "inputs": "fetching, decoding and cropping the inputs limits the speed: a faster disk, storage closer to the "
    "workers or a larger features.workers helps",
    "features": "encoding the speech limits the speed: a larger features.workers, features.device=gpu or emotions that "
    "the manifest names help",
    "encoder": "the video encoders limit the speed: more CPUs for each worker (render.num_cpus) or a faster "
    "video.speed helps",
    "delivery": "delivering the videos limits the speed: a faster disk of the workers or storage closer to them helps",
    "render": "sampling and decoding the frames limits the speed: more or faster render workers help",
    "quality_control": "quality control limits the speed: a larger qc.workers helps",
}
"""Name of a limit, which `summary.json` gives, and what to do about it."""


@dataclass(frozen=True)
class Limit:
    """What limits a run."""

    name: str
    """A key of `ADVICE`."""
    share: float
    """Share of the limiting workers' working time that it takes."""
    speed: float
    """How many times as fast it would have to be so that nobody waits for it; 1 if that cannot be told."""

    def describe(self) -> str:
        """One sentence for the user."""
        faster = f"; {self.speed:.1f} times its speed would be enough" if self.speed > 1 else ""
        return f"{ADVICE[self.name]} ({self.share:.0%} of the working time of these workers{faster})"


def limited_by(seconds: Mapping[str, float], workers: Mapping[str, int]) -> Limit | None:
    """The limit of a run, by the time that each step took all clips together.

    Args:
        seconds: `<step>_seconds` and `qc_seconds`, summed over the clips.
        workers: number of workers of the stages features, render and qc; a stage without workers does not limit.

    Returns: None if no time was measured.
    """

    def spent(*steps: str) -> float:
        return sum(seconds.get(f"{step}_seconds") or 0.0 for step in steps)

    steps = {"features": ("load", "speech"), "render": RENDER_STEPS, "qc": ("qc",)}
    busy = {stage: spent(*steps[stage]) / count for stage, count in workers.items() if count}
    stage = max(busy, key=lambda name: busy[name], default="")
    if not stage or not busy[stage]:
        return None
    total = spent(*steps[stage])
    if stage == "qc":
        return Limit("quality_control", 1.0, 1.0)
    if stage == "features":
        name = max(("load", "speech"), key=spent)
        return Limit({"load": "inputs", "speech": "features"}[name], spent(name) / total, 1.0)
    waits = {name: spent(f"{name}_wait") / total for name in ("encoder", "delivery")}
    name = max(waits, key=lambda wait: waits[wait])
    if waits[name] > WAITS:
        return Limit(name, waits[name], 1 / (1 - waits[name]) if waits[name] < 1 else 1.0)
    return Limit("render", spent("portrait", "sample", "decode") / total, 1.0)
