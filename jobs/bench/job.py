"""The configuration and the results of a benchmark."""

from dataclasses import dataclass, field
from pathlib import Path

from pipeline.common.options import option
from pipeline.storage.model_cache import POCKET

DEMO = Path(__file__).parents[1] / "demo" / "manifest.jsonl"


@dataclass
class BenchmarkJob:
    """Configuration of `jobs.benchmark`."""

    model: str = option(
        "full",
        "full is the full-size model (512 px) with random weights; pocket is the bundled model.",
        choices=("full", POCKET),
    )
    device: str = option("cpu", "Device to compute on.", choices=("cpu", "cuda"))
    threads: int = option(0, "Number of CPU threads; 0 uses every CPU.", least=0)
    mode: str = option("compiled", "Mode of the engine.", choices=("compiled", "eager"))
    slots: int = option(0, "Number of clips whose motion is sampled together; 0 uses the engine's default.", least=0)
    frame_batch: int = option(4, "Number of frames that are decoded together.", least=1)
    nfe: int = option(9, "Evaluations of the vector field per window.", least=1)
    clips: int = option(
        2000,
        "Number of 10 s clips that pass through Ray without being rendered; 0 skips the measurement of Ray.",
        least=0,
    )
    sweep: bool = option(
        False,
        "Also measure other batch sizes, eager code and bfloat16 speech features; each variant is compiled first.",
    )
    requests: str = option(
        "",
        "Folder below s3://. Only count the requests that a rendering job sends to this storage per clip: the bundled "
        "model renders clips of a second there, which are removed again.",
    )
    json: str = option("", "File to write the measurements to.")
    manifest: str = option(str(DEMO), "Manifest for --plan.")
    cpus: int = option(0, "CPUs of the cluster to plan for with --plan; 0 plans without a cluster.", least=0)
    gpus: int = option(0, "GPUs of the cluster to plan for with --plan.", least=0)


@dataclass
class Stage:
    """One line of the table with the rates of both; higher is better."""

    name: str
    unit: str
    baseline: float
    engine: float

    @property
    def ratio(self) -> float:
        """How many times faster the engine is."""
        return self.engine / self.baseline


@dataclass
class Measurements:
    """The results of a run."""

    stages: list[Stage] = field(default_factory=list)
    variants: dict[str, float] = field(default_factory=dict)
    """Rates with other settings, in the unit of the stage with which the name starts."""
    further: dict[str, float] = field(default_factory=dict)

    def rate(self, stage: str) -> float:
        """Rate of the engine for a stage."""
        return next(found.engine for found in self.stages if found.name == stage)
